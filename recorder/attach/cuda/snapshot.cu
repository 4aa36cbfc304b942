// Snapshots of watched buffers in a process that is not ours, on the stream of the launch they
// surround: changed chunks go straight to pinned host memory, and nobody waits for the device.
//
// A lane is what belongs to one stream: a fingerprint of each chunk, a ring of slots on the host, a control
// record. Kernels of a lane run one after another, as its stream orders them. `snapshot/lane.rs` is
// the host's side of all structures here and has their layout.

// Threads that share a chunk, those of a block, and chunks that each group takes. A chunk is small, so
// that a token's row in a large KV cache is most of what goes to the host; 8 threads read 128 bytes of it at once.
#define GROUP 8
#define THREADS 128
#define CHUNKS_A_GROUP 2
#define CHUNKS_A_BLOCK (THREADS / GROUP * CHUNKS_A_GROUP)
#define CHUNK_LIMIT 1024

// A watched buffer, 40 bytes.
struct Entry {
    u64 address, bytes;
    u64 first_known;  // of its chunks, in what the lane knows
    u32 first_block;  // of the launch
    u32 chunk_bytes;  // at most CHUNK_LIMIT
    u32 fresh;        // nothing is known of its chunks yet
    u32 zero;
};

// What the lane keeps on the device, 32 bytes.
struct Control {
    u64 head;    // slots handed out since the lane began
    u64 tail;    // slots that the host is known to have emptied
    u32 done;    // blocks of this launch that are through
    u32 failed;  // chunks of this launch that found no room
    u64 zero;
};

// One slot's head on the host, 32 bytes; its bytes are elsewhere.
struct Slot {
    u64 stamp;  // 1 + the number of the slot since the lane began: what is here is whole
    u32 entry, chunk;
    u64 hash0, hash1;
};

// The end of one launch, on the host, 32 bytes.
struct Publication {
    u64 stamp;  // 1 + the number of the launch
    u64 end;    // `head` at its end
    u32 failed, zero;
    u64 zero1;
};

// Words of a table, passed by value: no memory of the host has to outlive the call.
struct Words {
    u64 word[480];
};

KERNEL table_write(u64* table, Words words, u32 count) {
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) table[i] = words.word[i];
}

// Which entry each block of a snapshot works on; chunks of fresh entries become unknown. A block an entry.
KERNEL table_open(const Entry* entries, u32* entry_of_block, u64* known) {
    Entry e = entries[blockIdx.x];
    u64 chunks = (e.bytes + e.chunk_bytes - 1) / e.chunk_bytes;
    u64 blocks = (chunks + CHUNKS_A_BLOCK - 1) / CHUNKS_A_BLOCK;
    for (u64 i = threadIdx.x; i < blocks; i += blockDim.x) entry_of_block[e.first_block + i] = blockIdx.x;
    if (!e.fresh) return;
    for (u64 i = threadIdx.x; i < 2 * chunks; i += blockDim.x) known[2 * e.first_known + i] = 0;
}

INLINE u64 now() {
    u64 ns;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
    return ns;
}

// Whether slot `ticket` is empty, or becomes so in time. One launch waits once: after a failure nobody does.
INLINE bool room(Control* control, const volatile u64* tail, u64 ticket, u32 slots, u64 patience) {
    if (ticket < *(volatile u64*)&control->tail + slots) return true;
    for (u64 begin = now();;) {
        u64 seen = *tail;
        atomicMax(&control->tail, seen);
        if (ticket < seen + slots) return true;
        if (*(volatile u32*)&control->failed || now() - begin > patience) return false;
        __nanosleep(2000);
    }
}

// Bytes to the host, 16 at a time where the chunk's address allows; the slot's own always does.
INLINE void copy(u8* to, const u8* from, u32 bytes, u32 member) {
    u32 done = 0;
    if ((u64)from % 16 == 0) {
        done = bytes / 16 * 16;
        for (u32 i = member; i < bytes / 16; i += GROUP) ((uint4*)to)[i] = ((const uint4*)from)[i];
    } else if ((u64)from % 4 == 0) {
        done = bytes / 4 * 4;
        for (u32 i = member; i < bytes / 4; i += GROUP) ((u32*)to)[i] = ((const u32*)from)[i];
    }
    for (u32 i = done + member; i < bytes; i += GROUP) to[i] = from[i];
}

// Four words of a chunk, zeros beyond its end.
INLINE uint4 quad_at(const u8* p, u32 q, u32 bytes) {
    bool whole = 16 * q + 16 <= bytes;
    if (whole && (u64)p % 16 == 0) return ((const uint4*)p)[q];
    if (whole && (u64)p % 4 == 0) {
        const u32* w = (const u32*)p + 4 * q;
        return make_uint4(w[0], w[1], w[2], w[3]);
    }
    return make_uint4(word_at(p, 4 * q, bytes), word_at(p, 4 * q + 1, bytes), word_at(p, 4 * q + 2, bytes),
                      word_at(p, 4 * q + 3, bytes));
}

// The chunk hash, one member's share.
INLINE void hash(const u8* p, u32 bytes, u32 member, u64& s0, u64& s1) {
    u32 words = (bytes + 3) / 4;
    for (u32 q = member; 4 * q < words; q += GROUP) {
        uint4 v = quad_at(p, q, bytes);
        add_word(v.x, 4 * q, s0, s1);
        if (4 * q + 1 < words) add_word(v.y, 4 * q + 1, s0, s1);
        if (4 * q + 2 < words) add_word(v.z, 4 * q + 2, s0, s1);
        if (4 * q + 3 < words) add_word(v.w, 4 * q + 3, s0, s1);
    }
}

// What tells a chunk that changed from one that did not: NH (Black, Halevi, Krawczyk, Krovetz, Rogaway, "UMAC: Fast
// and Secure Message Authentication", CRYPTO 1999), twice, with keys of their own: over the choice of keys, two chunks
// are taken for the same with probability 2^-64. The chunk hash has four 64-bit products a word, more than the
// arithmetic units can do while memory delivers it; it is left for what is handed over.
struct Keys {
    uint4 quad[2][CHUNK_LIMIT / 16];
};

INLINE void make_keys(Keys& keys) {
    u64* pair = (u64*)keys.quad;
    for (u32 i = threadIdx.x; i < sizeof(Keys) / 8; i += THREADS) pair[i] = mix64((i + 1) * CHUNK_K0);
}

INLINE u64 nh(uint4 v, uint4 key) {
    return (u64)(v.x + key.x) * (v.y + key.y) + (u64)(v.z + key.z) * (v.w + key.w);
}

INLINE void fingerprint(const Keys& keys, const u8* p, u32 bytes, u32 member, u64& f0, u64& f1) {
    const u32 EACH = CHUNK_LIMIT / 16 / GROUP;
    if ((u64)p % 16 == 0 && bytes == CHUNK_LIMIT) {
        // All loads before the first use: what is under way is what memory's speed hangs on.
        uint4 v[EACH];
#pragma unroll
        for (u32 i = 0; i < EACH; i++) v[i] = ((const uint4*)p)[i * GROUP + member];
#pragma unroll
        for (u32 i = 0; i < EACH; i++) {
            f0 += nh(v[i], keys.quad[0][i * GROUP + member]);
            f1 += nh(v[i], keys.quad[1][i * GROUP + member]);
        }
        return;
    }
    for (u32 q = member; 16 * q < bytes; q += GROUP) {
        uint4 v = quad_at(p, q, bytes);
        f0 += nh(v, keys.quad[0][q]), f1 += nh(v, keys.quad[1][q]);
    }
}

// Sums over a group.
INLINE void gather(u64& a, u64& b, u32 mask) {
#pragma unroll
    for (u32 step = GROUP / 2; step > 0; step /= 2) {
        a += __shfl_xor_sync(mask, a, step);
        b += __shfl_xor_sync(mask, b, step);
    }
}

// One group, one chunk: hands it over if it is not what it was at the lane's last snapshot.
INLINE void chunk(const Keys& keys, const Entry& e, u32 entry, u64 number, u32 member, u32 mask, u64* known_of, Control* control,
                  const volatile u64* tail, Slot* ring, u8* bytes_of_slots, u32 slots, u64 patience) {
    u64 start = number * e.chunk_bytes;
    u32 bytes = e.bytes - start < e.chunk_bytes ? (u32)(e.bytes - start) : e.chunk_bytes;
    const u8* p = (const u8*)e.address + start;
    ulonglong2* known = (ulonglong2*)known_of + e.first_known + number;
    ulonglong2 last = *known;
    u64 f0 = 0, f1 = 0;
    fingerprint(keys, p, bytes, member, f0, f1);
    gather(f0, f1, mask);
    if (f0 == last.x && f1 == last.y) return;
    u64 ticket = 0;
    u32 granted = 0;
    if (member == 0) {
        ticket = atomicAdd(&control->head, 1ull);
        granted = room(control, tail, ticket, slots, patience);
        if (!granted) atomicAdd(&control->failed, 1u);
    }
    ticket = __shfl_sync(mask, ticket, 0, GROUP);
    // What is known of it stays as it was, so the next snapshot hands it over.
    if (!__shfl_sync(mask, granted, 0, GROUP)) return;
    u64 at = ticket & (slots - 1), s0 = 0, s1 = 0;
    copy(bytes_of_slots + at * CHUNK_LIMIT, p, bytes, member);
    hash(p, bytes, member, s0, s1);
    gather(s0, s1, mask);
    __syncwarp(mask);
    if (member != 0) return;
    *known = make_ulonglong2(f0, f1);
    volatile Slot* slot = ring + at;
    slot->entry = entry, slot->chunk = (u32)number;
    slot->hash0 = chunk_lane0(s0, bytes), slot->hash1 = chunk_lane1(s1, bytes);
    __threadfence_system();
    slot->stamp = ticket + 1;
}

KERNEL snapshot(const Entry* entries, const u32* entry_of_block, u64* known, Control* control,
                const volatile u64* tail, Slot* ring, u8* bytes_of_slots, u32 slots,
                Publication* publication, u64 launch, u64 patience, u32 always, u32 slice) {
    __shared__ Keys keys;
    make_keys(keys);
    // Blocks of the table below `always`, then those from `slice` on.
    u32 block = blockIdx.x < always ? blockIdx.x : blockIdx.x - always + slice;
    u32 entry = entry_of_block[block], member = threadIdx.x % GROUP, group = threadIdx.x / GROUP;
    u32 mask = ((1u << GROUP) - 1) << (threadIdx.x % WARP / GROUP * GROUP);
    Entry e = entries[entry];
    u64 chunks = (e.bytes + e.chunk_bytes - 1) / e.chunk_bytes;
    __syncthreads();
    // Groups side by side take chunks side by side.
    u64 first = (u64)(block - e.first_block) * CHUNKS_A_BLOCK + group;
#pragma unroll 1
    for (u32 n = 0; n < CHUNKS_A_GROUP; n++) {
        u64 number = first + n * (THREADS / GROUP);
        if (number >= chunks) break;
        chunk(keys, e, entry, number, member, mask, known, control, tail, ring, bytes_of_slots, slots, patience);
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    __threadfence();
    if (atomicAdd(&control->done, 1u) != gridDim.x - 1) return;
    // The last block: all that the others wrote is before this.
    __threadfence();
    volatile Publication* here = publication;
    here->end = *(volatile u64*)&control->head;
    here->failed = *(volatile u32*)&control->failed;
    control->done = 0, control->failed = 0;
    __threadfence_system();
    here->stamp = launch + 1;
}
