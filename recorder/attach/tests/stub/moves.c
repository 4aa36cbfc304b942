// Copies and fills in rows, memory of others, and graphs changed in place, on the CUDA driver. What memory holds goes to
// standard output.
//
//   moves ROUTE SCENARIO STEPS
//
// ROUTE: moves-dlsym | moves-proc | moves-old (functions as CUDA 12.8 asks for them)
//
// Built with -DREAL it runs on a GPU.

#include "reach.h"
#include "updates.h"
#ifndef REAL
#include "others.h"
#endif

static void rows(void) {
    for (int i = 0; i < BYTES; i++) host[i] = (uint8_t)(i * 7 % 61);
    begin();
    launch(state, hidden, ROWS * WIDTH);
    Handle exec = instantiate(end());
    Handle array = array_of(BYTES);
    size_t failed, pitch = 64, one = 1, first = 0;
    // Source order of the stream, for all copies of a batch.
    struct { unsigned order; int hints[4]; unsigned flags; } attributes = {1, {0}, 0};

    mark("2d tight");
    Copy2D c = {.stype = HOST, .shost = host, .spitch = 40, .dtype = DEVICE, .ddev = hidden, .dpitch = 32, .width = 32, .height = 4};
    ok(CU2(cuMemcpy2D)(&c));
    run(exec);
    mark("2d pitched");
    c = (Copy2D){.stype = HOST, .shost = host, .spitch = 16, .dtype = DEVICE, .ddev = hidden, .dpitch = 128, .dx = 8, .dy = 1, .width = 16, .height = 3};
    ok(CU2(cuMemcpy2DAsync)(&c, stream));
    run(exec);
    mark("2d device");
    c = (Copy2D){.stype = DEVICE, .sdev = state, .spitch = 64, .dtype = DEVICE, .ddev = hidden, .dpitch = 32, .width = 32, .height = 2};
    ok(CU2(cuMemcpy2DUnaligned)(&c));
    run(exec);
    mark("2d unified host");
    c = (Copy2D){.stype = UNIFIED, .sdev = (CUdeviceptr)(uintptr_t)host, .spitch = 48, .dtype = UNIFIED, .ddev = hidden, .dpitch = 32, .width = 32, .height = 2};
    ok(CU2(cuMemcpy2D)(&c));
    run(exec);
    mark("2d many");
    c = (Copy2D){.stype = HOST, .shost = host, .spitch = 4, .dtype = DEVICE, .ddev = hidden, .dpitch = 16, .dx = 4, .width = 4, .height = 32};
    ok(CU2(cuMemcpy2DAsync)(&c, stream));
    run(exec);
    mark("2d to array");
    c = (Copy2D){.stype = HOST, .shost = host, .spitch = 16, .dtype = ARRAY, .darray = array, .dpitch = 16, .width = 16, .height = 4};
    ok(CU2(cuMemcpy2D)(&c));
    run(exec);
    mark("2d nothing");
    c = (Copy2D){.stype = HOST, .shost = host, .spitch = 16, .dtype = DEVICE, .ddev = hidden, .dpitch = 16, .width = 0, .height = 4};
    ok(CU2(cuMemcpy2DAsync)(&c, stream));
    run(exec);
    mark("3d tight");
    Copy3D d = {.stype = HOST, .shost = host, .spitch = 16, .sheight = 4, .dtype = DEVICE, .ddev = hidden, .dpitch = 16, .dheight = 4, .dz = 1, .width = 16, .height = 4, .depth = 2};
    ok(CU2(cuMemcpy3D)(&d));
    run(exec);
    mark("3d planes");
    d = (Copy3D){.stype = DEVICE, .sdev = state, .spitch = 16, .sheight = 4, .dtype = DEVICE, .ddev = hidden, .dpitch = 16, .dheight = 8, .width = 16, .height = 4, .depth = 3};
    ok(CU2(cuMemcpy3DAsync)(&d, stream));
    run(exec);
    mark("3d peer");
    d.r0 = d.r1 = context;
    ok(CU(cuMemcpy3DPeer)(&d));
    run(exec);
    mark("3d peer later");
    ok(CU(cuMemcpy3DPeerAsync)(&d, stream));
    run(exec);
    mark("peer");
    ok(CU(cuMemcpyPeer)(hidden + 8, context, state, context, (size_t)24));
    run(exec);
    mark("peer later");
    ok(CU(cuMemcpyPeerAsync)(hidden + 16, context, state, context, (size_t)24, stream));
    run(exec);
    mark("batch");
    CUdeviceptr to[3] = {hidden, hidden + 64, hidden + 128}, from[3] = {state, (CUdeviceptr)(uintptr_t)host, state + 4};
    size_t bytes[3] = {8, 16, 24};
    if (!strcmp(route, "moves-proc")) ok(CU(cuMemcpyBatchAsync)(to, from, bytes, (size_t)3, &attributes, &first, one, stream));
    else ok(CU(cuMemcpyBatchAsync)(to, from, bytes, (size_t)3, &attributes, &first, one, &failed, stream));
    run(exec);
    mark("batch that fails");
    bytes[2] = 0;
    CUresult result = !strcmp(route, "moves-proc")
        ? CU(cuMemcpyBatchAsync)(to, from, bytes, (size_t)3, &attributes, &first, one, stream)
        : CU(cuMemcpyBatchAsync)(to, from, bytes, (size_t)3, &attributes, &first, one, &failed, stream);
    printf(" %d", result);
    run(exec);
    mark("3d batch");
    BatchOp b[2] = {{{1, state, 0, 0, {0}}, {1, hidden, 32, 0, {0}}, 16, 2, 1, 1, 0}, {{1, (CUdeviceptr)(uintptr_t)host, 0, 0, {0}}, {1, hidden + 256, 0, 0, {0}}, 8, 2, 2, 1, 0}};
    if (!strcmp(route, "moves-proc")) ok(CU(cuMemcpy3DBatchAsync)((size_t)2, b, 0ull, stream));
    else ok(CU(cuMemcpy3DBatchAsync)((size_t)2, b, &failed, 0ull, stream));
    run(exec);
    mark("to array");
    ok(CU2(cuMemcpyDtoA)(array, (size_t)4, state, (size_t)32));
    run(exec);
    mark("from array");
    ok(CU2(cuMemcpyAtoD)(hidden, array, (size_t)0, (size_t)40));
    run(exec);
    mark("array and host");
    ok(CU2(cuMemcpyHtoA)(array, (size_t)0, host, (size_t)32));
    ok(CU2(cuMemcpyAtoH)(host, array, (size_t)0, (size_t)32));
    ok(CU2(cuMemcpyHtoAAsync)(array, (size_t)0, host, (size_t)32, stream));
    ok(CU2(cuMemcpyAtoHAsync)(host, array, (size_t)0, (size_t)32, stream));
    ok(CU2(cuMemcpyAtoA)(array, (size_t)0, array, (size_t)64, (size_t)32));
    run(exec);
    mark("fill 8");
    ok(CU2(cuMemsetD2D8)(hidden, pitch, 1, (size_t)8, (size_t)2));
    run(exec);
    mark("fill 16 tight");
    ok(CU2(cuMemsetD2D16)(hidden, pitch, 0x0203, (size_t)32, (size_t)2));
    run(exec);
    mark("fill 32");
    ok(CU2(cuMemsetD2D32)(hidden + 4, pitch, 0x3f800000, one, (size_t)3));
    run(exec);
    mark("fill 8 later");
    ok(CU(cuMemsetD2D8Async)(hidden, (size_t)16, 1, (size_t)8, (size_t)20, stream));
    run(exec);
    mark("fill 16 later");
    ok(CU(cuMemsetD2D16Async)(hidden, pitch, 0x0203, (size_t)8, one, stream));
    run(exec);
    mark("words");
    ok(CU2(cuStreamWriteValue32)(stream, hidden + 4, 0x01020304, 0));
    ok(CU2(cuStreamWriteValue64)(stream, hidden + 8, (uint64_t)0x0506070801020304, 0));
    struct { unsigned kind; CUdeviceptr at; uint64_t value, rest[3]; } words[3] = {
        {2, hidden + 32, 5, {0}}, {6, 0, 0, {0}}, {5, hidden + 40, 6, {0}}};
    ok(CU2(cuStreamBatchMemOp)(stream, 3, words, 0));
    run(exec);
    mark("fill 32 later");
    ok(CU(cuMemsetD2D32Async)(hidden, pitch, 0x3f000000, one, (size_t)2, stream));
    run(exec);
}

// A graph of rows.
static void nodes(int steps) {
    begin();
    Copy2D c = {.stype = DEVICE, .sdev = state, .spitch = 64, .dtype = DEVICE, .ddev = hidden, .dpitch = 32, .dx = 4, .width = 16, .height = 3};
    ok(CU2(cuMemcpy2DAsync)(&c, stream));
    c = (Copy2D){.stype = DEVICE, .sdev = state, .spitch = 32, .dtype = DEVICE, .ddev = hidden, .dpitch = 32, .width = 32, .height = 4};
    ok(CU2(cuMemcpy2DAsync)(&c, stream));
    Copy3D d = {.stype = DEVICE, .sdev = state, .spitch = 16, .sheight = 4, .dtype = DEVICE, .ddev = hidden, .dpitch = 16, .dheight = 8, .width = 8, .height = 4, .depth = 3};
    ok(CU2(cuMemcpy3DAsync)(&d, stream));
    ok(CU(cuMemsetD2D32Async)(hidden, (size_t)64, 0x3f000000, (size_t)2, (size_t)2, stream));
    ok(CU(cuMemsetD2D8Async)(hidden, (size_t)8, 0x33, (size_t)8, (size_t)2, stream));
    launch(state, hidden, ROWS * WIDTH);
    Handle exec = instantiate(end());
    for (int i = 0; i < steps; i++) mark("step"), run(exec);
}

// Memory that the driver did not give: of another process, imported, pinned.
static void memory(void) {
#ifdef REAL
    // One process has no other's memory.
    CUdeviceptr other = hidden, pooled = hidden;
#else
    typedef struct { uint64_t words[8]; } Handle64;
    typedef CUresult (*Open)(CUdeviceptr *, Handle64, unsigned);
    Handle64 handle = {{BYTES}};
    CUdeviceptr other, again, pooled;
    Open open = (Open)CU2(cuIpcOpenMemHandle);
    ok(open(&other, handle, 1));
    ok(open(&again, handle, 1));
    uint64_t bytes = BYTES;
    ok(CU(cuMemPoolImportPointer)(&pooled, (Handle)0, &bytes));
#endif
    void *pinned, *page;
    ok(CU(cuMemHostAlloc)(&pinned, (size_t)BYTES, 0));
    ok(CU2(cuMemAllocHost)(&page, (size_t)BYTES));
    memset(pinned, 0, BYTES);
    ok(CU2(cuMemHostRegister)(host, sizeof host, 0));
    begin();
    launch(state, (CUdeviceptr)(uintptr_t)pinned, 4);
    launch(state + 16, other, 4);
    launch(state + 32, pooled, 4);
    launch(state + 48, (CUdeviceptr)(uintptr_t)host, 4);
    Handle exec = instantiate(end());
    for (int i = 0; i < 3; i++) {
        float *input = pinned;
        input[0] = (float)i;
        mark("step");
        ok(CU(cuMemcpyAsync)(hidden, (CUdeviceptr)(uintptr_t)page, (size_t)16, stream));
        run(exec);
    }
    ok(CU(cuGraphExecDestroy)(exec));
#ifndef REAL
    mark("close");
    ok(CU(cuIpcCloseMemHandle)(other));
    mark("close again");
    ok(CU(cuIpcCloseMemHandle)(again));
    printf(" %d", CU(cuIpcCloseMemHandle)(again));
    mark("free");
    ok(CU(cuMemFreeAsync)(pooled, stream));
    ok(CU(cuStreamSynchronize)(stream));
#endif
    ok(CU(cuMemHostUnregister)(host));
    ok(CU(cuMemFreeHost)(pinned));
    ok(CU(cuMemFreeHost)(page));
}

// Each way to write a byte of memory that is too large to be looked at whole when nothing was called.
static void late(void) {
    enum { LARGE = 8 << 20, WAYS = 9 };
    int (*watch)(const char *, uint64_t, const char *, uint32_t, const uint64_t *, const char *);
    *(void **)&watch = dlsym(RTLD_DEFAULT, "twinstep_watch");
    CUdeviceptr large, from;
    ok(CU2(cuMemAlloc)(&large, (size_t)LARGE));
    ok(CU2(cuMemAlloc)(&from, (size_t)BYTES));
    ok(CU(cuMemsetD8Async)(large, 0, (size_t)LARGE, stream));
    uint64_t shape = LARGE;
    if (watch && watch("large", large, "u8", 1, &shape, "state")) die("not watched");
    Handle array = array_of(BYTES);
    struct { unsigned order; int hints[4]; unsigned flags; } attributes = {1, {0}, 0};
    size_t failed, first = 0, one = 1;
    begin();
    launch(state, hidden, 4);
    Handle exec = instantiate(end());
    for (int i = 0; i < 4; i++) mark("before"), run(exec);
    for (int i = 0; i < WAYS; i++) {
        CUdeviceptr to = large + 700001 * (size_t)(i + 1);
        host[0] = (uint8_t)(i + 1);
        CUdeviceptr at = (CUdeviceptr)(uintptr_t)host;
        // What the ways between devices and arrays copy is there before the launch that nothing follows.
        ok(CU2(cuMemcpyHtoD)(from, host, one));
        ok(CU2(cuMemcpyHtoA)(array, (size_t)0, host, (size_t)16));
        mark("filled"), run(exec);
        mark("quiet"), ok(CU(cuGraphLaunch)(exec, stream)), ok(CU(cuGraphLaunch)(exec, stream));
        ok(CU(cuStreamSynchronize)(stream));
        Copy2D c = {.stype = HOST, .shost = host, .dtype = DEVICE, .ddev = to, .width = 1, .height = 1};
        Copy3D d = {.stype = HOST, .shost = host, .dtype = DEVICE, .ddev = to, .width = 1, .height = 1, .depth = 1};
        BatchOp b = {{1, at, 0, 0, {0}}, {1, to, 0, 0, {0}}, 1, 1, 1, 1, 0};
        int newer = !strcmp(route, "moves-proc");
        switch (i) {
        case 0: ok(CU2(cuMemcpy2D)(&c)); break;
        case 1: ok(CU2(cuMemcpy2DAsync)(&c, stream)); break;
        case 2: ok(CU2(cuMemcpy3DAsync)(&d, stream)); break;
        case 3: ok(CU(cuMemcpyPeerAsync)(to, context, from, context, one, stream)); break;
        case 4: ok(newer ? CU(cuMemcpyBatchAsync)(&to, &at, &one, one, &attributes, &first, one, stream)
                         : CU(cuMemcpyBatchAsync)(&to, &at, &one, one, &attributes, &first, one, &failed, stream)); break;
        case 5: ok(newer ? CU(cuMemcpy3DBatchAsync)(one, &b, 0ull, stream)
                         : CU(cuMemcpy3DBatchAsync)(one, &b, &failed, 0ull, stream)); break;
        case 6: ok(CU2(cuMemcpyAtoD)(to, array, (size_t)0, one)); break;
        case 7: ok(CU(cuMemsetD2D8Async)(to, one, (uint8_t)(i + 1), one, one, stream)); break;
        case 8: ok(CU2(cuMemsetD2D8)(to, one, (uint8_t)(i + 1), one, one)); break;
        }
        printf(" %lu %d\n", (unsigned long)(to - large), i + 1);
        mark("written"), run(exec);
    }
}

// Two devices in one process: a graph on each, in turn.
static void devices(int steps) {
    Handle contexts[2], streams[2], execs[2];
    CUdeviceptr from[2], to[2];
    for (int d = 0; d < 2; d++) {
        ok(CU(cuDevicePrimaryCtxRetain)(&contexts[d], d));
        ok(CU(cuCtxSetCurrent)(contexts[d]));
        Handle module;
        ok(CU(cuModuleLoadData)(&module, image));
        ok(CU(cuModuleGetFunction)(&step, module, "_Z11step_kernelPfPKfi"));
        ok(CU(cuStreamCreate)(&streams[d], 1));
        ok(CU2(cuMemAlloc)(&from[d], (size_t)BYTES));
        ok(CU2(cuMemAlloc)(&to[d], (size_t)BYTES));
        stream = streams[d];
        ok(CU(cuMemsetD8Async)(from[d], 0x3f + d, (size_t)BYTES, stream));
        ok(CU(cuMemsetD8Async)(to[d], 0, (size_t)BYTES, stream));
        begin();
        launch(to[d], from[d], ROWS * WIDTH);
        execs[d] = instantiate(end());
    }
    for (int i = 0; i < steps; i++)
        for (int d = 0; d < 2; d++) {
            ok(CU(cuCtxSetCurrent)(contexts[d]));
            stream = streams[d], hidden = from[d], state = to[d];
            mark("step"), run(execs[d]);
        }
}

int main(int argc, char **argv) {
    if (argc < 4) die("moves ROUTE SCENARIO STEPS");
    route = argv[1];
    const char *scenario = argv[2];
    int steps = atoi(argv[3]);
    set_up();
    if (!strcmp(scenario, "rows")) rows();
    else if (!strcmp(scenario, "nodes")) nodes(steps);
    else if (!strcmp(scenario, "memory")) memory();
    else if (!strcmp(scenario, "changes")) changes(steps);
    else if (!strcmp(scenario, "devices")) devices(steps);
    else if (!strcmp(scenario, "lost")) lost();
    else if (!strcmp(scenario, "late")) late();
    else if (!strncmp(scenario, "update", 6)) update(scenario, steps);
#ifndef REAL
    else if (!strcmp(scenario, "others")) others(steps);
    else if (!strcmp(scenario, "handles")) handles_of(steps);
    else if (!strcmp(scenario, "defaults")) defaults(steps);
    else if (!strcmp(scenario, "unseen")) unseen(steps);
    else if (!strcmp(scenario, "io")) io();
    else if (!strcmp(scenario, "refused")) refused();
    else if (!strcmp(scenario, "full")) full(steps);
    else if (!strcmp(scenario, "between")) between(steps);
    else if (!strncmp(scenario, "gone-", 5)) gone(scenario);
    else if (!strcmp(scenario, "hang")) hang();
    else if (!strcmp(scenario, "nested")) nested(steps);
#endif
    else die("no such scenario");
    return 0;
}
