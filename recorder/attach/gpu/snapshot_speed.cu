// How fast the snapshot kernel looks at memory, beside a kernel that only reads it.
//
//   nvcc -O3 -arch=native -o snapshot_speed snapshot_speed.cu && ./snapshot_speed
//
// 36 buffers of 8 MiB, the KV cache of `overhead.py`. Ring and control record are on the device, so that the host's
// side is not in the figure: what it costs to find what changed is.

#include "../../../kernels/cuda/contract.cuh"
#include "../../../kernels/cuda/chunk_hash.cuh"
#include "../cuda/snapshot.cu"

#include <algorithm>
#include <cstdio>
#include <vector>

#define MUST(call)                                                                        \
    do {                                                                                  \
        cudaError_t status = (call);                                                      \
        if (status != cudaSuccess) {                                                      \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(status));               \
            return 1;                                                                     \
        }                                                                                 \
    } while (0)

// Reads all words, keeps nothing: what memory gives.
KERNEL read_only(const uint4* from, u64 quads, u32* kept) {
    u32 sum = 0;
    u64 stride = (u64)gridDim.x * blockDim.x;
#pragma unroll 8
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < quads; i += stride) {
        uint4 v = from[i];
        sum |= v.x ^ v.y ^ v.z ^ v.w;
    }
    if (sum == 0x12345678) *kept = sum;
}

// Every `every`-th chunk is another one.
KERNEL change(u32* at, u64 chunks, u64 every, u32 salt) {
    u64 i = ((u64)blockIdx.x * blockDim.x + threadIdx.x) * every;
    if (i < chunks) at[i * CHUNK_LIMIT / 4] += salt;
}

int main() {
    const u64 buffers = 36, bytes = 8 << 20, chunks = bytes / CHUNK_LIMIT, slots = 1 << 19;
    const u32 blocks_each = (u32)((chunks + CHUNKS_A_BLOCK - 1) / CHUNKS_A_BLOCK), blocks = blocks_each * buffers;
    u8* memory;
    Entry* entries;
    u32 *entry_of_block, *kept;
    u64 *known, *tail;
    Control* control;
    Slot* ring;
    u8* payload;
    Publication* publication;
    MUST(cudaMalloc(&memory, buffers * bytes));
    MUST(cudaMalloc(&entries, buffers * sizeof(Entry)));
    MUST(cudaMalloc(&entry_of_block, blocks * 4));
    MUST(cudaMalloc(&known, buffers * chunks * 16));
    MUST(cudaMalloc(&tail, 8));
    MUST(cudaMalloc(&control, sizeof(Control)));
    MUST(cudaMalloc(&ring, slots * sizeof(Slot)));
    MUST(cudaMalloc(&payload, slots * CHUNK_LIMIT));
    MUST(cudaMalloc(&publication, sizeof(Publication)));
    MUST(cudaMalloc(&kept, 4));
    MUST(cudaMemset(memory, 1, buffers * bytes));
    MUST(cudaMemset(control, 0, sizeof(Control)));
    MUST(cudaMemset(tail, 0, 8));
    std::vector<Entry> table;
    for (u64 b = 0; b < buffers; b++)
        table.push_back({(u64)memory + b * bytes, bytes, b * chunks, (u32)(b * blocks_each), CHUNK_LIMIT, 1, 0});
    MUST(cudaMemcpy(entries, table.data(), buffers * sizeof(Entry), cudaMemcpyHostToDevice));
    table_open<<<buffers, THREADS>>>(entries, entry_of_block, known);
    cudaEvent_t begin, end;
    MUST(cudaEventCreate(&begin));
    MUST(cudaEventCreate(&end));
    u64 launch = 0, total = buffers * chunks;
    auto look = [&] {
        snapshot<<<blocks, THREADS>>>(entries, entry_of_block, known, control, tail, ring, payload, slots, publication,
                                      launch++, 0, blocks, 0);
    };
    auto head = [&] {
        Control now;
        cudaMemcpy(&now, control, sizeof now, cudaMemcpyDeviceToHost);
        return now.head;
    };
    look();
    u64 first = head();
    auto timed = [&](auto before, auto body) {
        std::vector<float> took;
        for (int round = 0; round < 50; round++) {
            before();
            cudaEventRecord(begin);
            body();
            cudaEventRecord(end);
            cudaEventSynchronize(end);
            float ms = 0;
            cudaEventElapsedTime(&ms, begin, end);
            took.push_back(ms * 1e3f);
        }
        std::sort(took.begin(), took.end());
        return took[took.size() / 2];
    };
    auto nothing = [] {};
    float read = timed(nothing, [&] { read_only<<<132 * 16, 256>>>((const uint4*)memory, buffers * bytes / 16, kept); });
    float quiet = timed(nothing, look);
    u64 still = head();
    float rows = timed([&] { change<<<5, 128>>>((u32*)memory, total, 512, 7); }, look);
    u64 changed = (head() - still) / 50;
    MUST(cudaDeviceSynchronize());
    double size = buffers * bytes / 1e6;
    printf("%.1f MB, %u blocks, %d chunks a group: the first look handed over %llu of %llu chunks\n", size, blocks,
           CHUNKS_A_GROUP, first, total);
    printf("read only           %7.1f us  %6.0f GB/s\n", read, size / read * 1e3);
    printf("nothing changed     %7.1f us  %6.0f GB/s  %.2f of it\n", quiet, size / quiet * 1e3, read / quiet);
    printf("%4llu chunks changed %7.1f us  %6.0f GB/s  %.2f of it\n", changed, rows, size / rows * 1e3, read / rows);
    return first == total && still == total && changed == (total + 511) / 512 ? 0 : 1;
}
