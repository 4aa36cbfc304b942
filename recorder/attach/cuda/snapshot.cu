// Snapshots of watched buffers in a process that is not ours, on the stream of the launch they
// surround: changed chunks go straight to pinned host memory, and nobody waits for the device.
//
// A lane is what belongs to one stream: a table of hashes, a ring of slots on the host, a control
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
    u64 first_hash;   // of its chunks, in the lane's table
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

// Which entry each block of a snapshot works on; hashes of fresh entries become unknown. A block an entry.
KERNEL table_open(const Entry* entries, u32* entry_of_block, u64* hashes) {
    Entry e = entries[blockIdx.x];
    u64 chunks = (e.bytes + e.chunk_bytes - 1) / e.chunk_bytes;
    u64 blocks = (chunks + CHUNKS_A_BLOCK - 1) / CHUNKS_A_BLOCK;
    for (u64 i = threadIdx.x; i < blocks; i += blockDim.x) entry_of_block[e.first_block + i] = blockIdx.x;
    if (!e.fresh) return;
    for (u64 i = threadIdx.x; i < 2 * chunks; i += blockDim.x) hashes[2 * e.first_hash + i] = 0;
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

INLINE void add_quad(uint4 v, u32 q, u64& s0, u64& s1) {
    add_word(v.x, 4 * q, s0, s1), add_word(v.y, 4 * q + 1, s0, s1);
    add_word(v.z, 4 * q + 2, s0, s1), add_word(v.w, 4 * q + 3, s0, s1);
}

INLINE void hash(const u8* p, u32 bytes, u32 member, u64& s0, u64& s1) {
    const u32 EACH = CHUNK_LIMIT / 16 / GROUP;
    if ((u64)p % 16 == 0 && bytes == CHUNK_LIMIT) {
        uint4 v[EACH];
#pragma unroll
        for (u32 i = 0; i < EACH; i++) v[i] = ((const uint4*)p)[i * GROUP + member];
#pragma unroll
        for (u32 i = 0; i < EACH; i++) add_quad(v[i], i * GROUP + member, s0, s1);
        return;
    }
    u32 words = (bytes + 3) / 4, done = 0;
    if ((u64)p % 16 == 0) {
        u32 quads = bytes / 16;
        for (u32 q = member; q < quads; q += GROUP) add_quad(((const uint4*)p)[q], q, s0, s1);
        done = quads * 4;
    } else if ((u64)p % 4 == 0) {
        done = bytes / 4;
        for (u32 i = member; i < done; i += GROUP) add_word(((const u32*)p)[i], i, s0, s1);
    }
    for (u32 i = done + member; i < words; i += GROUP) add_word(word_at(p, i, bytes), i, s0, s1);
}

// One group, one chunk: hashes it, and hands it over if it is not what it was at the lane's last snapshot.
INLINE void chunk(const Entry& e, u32 entry, u64 number, u32 member, u32 mask, u64* hashes, Control* control,
                  const volatile u64* tail, Slot* ring, u8* bytes_of_slots, u32 slots, u64 patience) {
    u64 start = number * e.chunk_bytes;
    u32 bytes = e.bytes - start < e.chunk_bytes ? (u32)(e.bytes - start) : e.chunk_bytes;
    const u8* p = (const u8*)e.address + start;
    ulonglong2* known = (ulonglong2*)hashes + e.first_hash + number;
    ulonglong2 last = *known;
    u64 s0 = 0, s1 = 0;
    hash(p, bytes, member, s0, s1);
#pragma unroll
    for (u32 step = GROUP / 2; step > 0; step /= 2) {
        s0 += __shfl_xor_sync(mask, s0, step);
        s1 += __shfl_xor_sync(mask, s1, step);
    }
    u64 hash0 = chunk_lane0(s0, bytes), hash1 = chunk_lane1(s1, bytes);
    if (hash0 == last.x && hash1 == last.y) return;
    u64 ticket = 0;
    u32 granted = 0;
    if (member == 0) {
        ticket = atomicAdd(&control->head, 1ull);
        granted = room(control, tail, ticket, slots, patience);
        if (!granted) atomicAdd(&control->failed, 1u);
    }
    ticket = __shfl_sync(mask, ticket, 0, GROUP);
    // Its hash stays as it was, so the next snapshot hands it over.
    if (!__shfl_sync(mask, granted, 0, GROUP)) return;
    u64 at = ticket & (slots - 1);
    copy(bytes_of_slots + at * CHUNK_LIMIT, p, bytes, member);
    __syncwarp(mask);
    if (member != 0) return;
    *known = make_ulonglong2(hash0, hash1);
    volatile Slot* slot = ring + at;
    slot->entry = entry, slot->chunk = (u32)number;
    slot->hash0 = hash0, slot->hash1 = hash1;
    __threadfence_system();
    slot->stamp = ticket + 1;
}

KERNEL snapshot(const Entry* entries, const u32* entry_of_block, u64* hashes, Control* control,
                const volatile u64* tail, Slot* ring, u8* bytes_of_slots, u32 slots,
                Publication* publication, u64 launch, u64 patience, u32 always, u32 slice) {
    // Blocks of the table below `always`, then those from `slice` on.
    u32 block = blockIdx.x < always ? blockIdx.x : blockIdx.x - always + slice;
    u32 entry = entry_of_block[block], member = threadIdx.x % GROUP, group = threadIdx.x / GROUP;
    u32 mask = ((1u << GROUP) - 1) << (threadIdx.x % WARP / GROUP * GROUP);
    Entry e = entries[entry];
    u64 chunks = (e.bytes + e.chunk_bytes - 1) / e.chunk_bytes;
    // Groups side by side take chunks side by side.
    u64 first = (u64)(block - e.first_block) * CHUNKS_A_BLOCK + group;
#pragma unroll 1
    for (u32 n = 0; n < CHUNKS_A_GROUP; n++) {
        u64 number = first + n * (THREADS / GROUP);
        if (number >= chunks) break;
        chunk(e, entry, number, member, mask, hashes, control, tail, ring, bytes_of_slots, slots, patience);
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
