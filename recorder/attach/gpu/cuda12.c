/* A captured graph through the run-time library of CUDA 12, in C: no PyTorch, no Python, no kernel of its own.
 *
 *     cc cuda12.c -o cuda12 -I<cuda_runtime>/include -L<cuda_runtime>/lib -l:libcudart.so.12
 *     twinstep attach -o c.twin -- ./cuda12
 *
 * Each step fills a buffer, copies it on and counts up by a copy from the host.
 */
#include <cuda_runtime_api.h>
#include <stdio.h>

#define CHECK(call)                                                              \
    do {                                                                         \
        cudaError_t error = (call);                                              \
        if (error != cudaSuccess) {                                              \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error));       \
            return 1;                                                            \
        }                                                                        \
    } while (0)

int main(void) {
    int runtime = 0, driver = 0;
    unsigned *a, *b, host = 0;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(cudaRuntimeGetVersion(&runtime));
    CHECK(cudaDriverGetVersion(&driver));
    CHECK(cudaMalloc((void **)&a, 4096));
    CHECK(cudaMalloc((void **)&b, 4096));
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    CHECK(cudaMemsetAsync(a, 0x5a, 2048, stream));
    CHECK(cudaMemcpyAsync(b, a, 4096, cudaMemcpyDeviceToDevice, stream));
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    CHECK(cudaGraphDestroy(graph));
    for (unsigned step = 1; step <= 5; step++) {
        CHECK(cudaMemcpyAsync((char *)a + 2048, &step, sizeof step, cudaMemcpyHostToDevice, stream));
        CHECK(cudaStreamSynchronize(stream));
        CHECK(cudaGraphLaunch(exec, stream));
    }
    CHECK(cudaMemcpyAsync(&host, (char *)b + 2048, sizeof host, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaFree(a));
    CHECK(cudaFree(b));
    printf("run-time library %d, driver %d, last step %u\n", runtime, driver, host);
    return host == 5 ? 0 : 1;
}
