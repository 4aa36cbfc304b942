/* Memory by handles: made, mapped, handed on as a file descriptor, taken again from it and mapped once more; and, where
 * the device can, memory of several devices at once. What one mapping writes is read through the other.
 *
 *     nvcc handles.c -o handles -lcuda
 *     twinstep attach -o h.twin -- ./handles
 *
 * It prints the same attached and not. The trace says which memory others may have and what is not read.
 */
#define _GNU_SOURCE
#include <cuda.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define OK(call)                                              \
    do {                                                      \
        CUresult error = (call);                              \
        if (error != CUDA_SUCCESS) {                          \
            fprintf(stderr, "%s: CUDA error %d\n", #call, error); \
            return 1;                                         \
        }                                                     \
    } while (0)

enum { STEPS = 20 };

static CUresult map(CUdeviceptr *at, CUmemGenericAllocationHandle handle, size_t bytes) {
    CUmemAccessDesc access = {.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0},
                              .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUresult result = cuMemAddressReserve(at, bytes, 0, 0, 0);
    if (!result) result = cuMemMap(*at, bytes, 0, handle, 0);
    return result ? result : cuMemSetAccess(*at, bytes, &access, 1);
}

int main(void) {
    CUcontext context;
    CUstream stream;
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuStreamCreate(&stream, 0));
    CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
    size_t bytes = 4 << 20;
    CUmemGenericAllocationHandle mine, taken, again;
    CUdeviceptr first, second, small;
    int fd;
    OK(cuMemCreate(&mine, bytes, &prop, 0));
    OK(map(&first, mine, bytes));
    OK(cuMemAlloc(&small, 4096));
    OK(cuMemsetD8(first, 0, bytes));
    int (*watch)(const char *, uint64_t, const char *, uint32_t, const uint64_t *, const char *);
    *(void **)&watch = dlsym(RTLD_DEFAULT, "twinstep_watch");
    uint64_t shape = bytes;
    if (watch && watch("first", first, "u8", 1, &shape, "state")) return 1;

    CUgraph graph;
    CUgraphExec exec;
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    OK(cuMemcpyDtoDAsync(small, first, 4096, stream));
    OK(cuStreamEndCapture(stream, &graph));
    OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
    for (int step = 0; step < STEPS; step++) {
        if (step == 5) {
            OK(cuMemRetainAllocationHandle(&again, (void *)first));
            OK(cuMemExportToShareableHandle(&fd, again, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
            OK(cuMemRelease(again));
            OK(cuMemRelease(mine));
            OK(cuMemImportFromShareableHandle(&taken, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
            OK(map(&second, taken, bytes));
            close(fd);
        }
        uint32_t seen;
        if (step >= 5) OK(cuMemsetD32Async(second, step, 1, stream));
        OK(cuGraphLaunch(exec, stream));
        OK(cuMemcpyDtoHAsync(&seen, small, 4, stream));
        OK(cuStreamSynchronize(stream));
        printf("step %d: %u\n", step, seen);
    }
    // A team of one device.
    CUmulticastObjectProp team = {.numDevices = 1, .size = 2 << 20,
                                  .handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR};
    CUmemGenericAllocationHandle all;
    CUdeviceptr everywhere;
    CUresult result = cuMulticastCreate(&all, &team);
    if (!result) result = cuMulticastAddDevice(all, 0);
    if (!result) result = cuMulticastBindAddr(all, 0, first, team.size, 0);
    if (!result) result = map(&everywhere, all, team.size);
    printf("multicast: CUDA error %d\n", result);
    if (!result && watch && !watch("everywhere", everywhere, "u8", 1, &team.size, "state")) return 1;
    OK(cuGraphLaunch(exec, stream));
    OK(cuStreamSynchronize(stream));
    OK(cuMemUnmap(second, bytes));
    OK(cuMemRelease(taken));
    OK(cuGraphLaunch(exec, stream));
    OK(cuCtxSynchronize());
    return 0;
}
