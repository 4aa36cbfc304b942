// Copies and fills in rows, memory of others, and graphs changed in place, on the CUDA driver. What memory holds goes to
// standard output.
//
//   moves ROUTE SCENARIO STEPS
//
// ROUTE: moves-dlsym | moves-proc | moves-old (functions as CUDA 12.8 asks for them)
//
// Built with -DREAL it runs on a GPU.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef uint64_t CUdeviceptr;
typedef void *Handle;
typedef CUresult (*Call)();

static const char *route;
static void *cuda;
static CUresult (*get_proc)(const char *, void **, int, uint64_t, int *);
static int (*twinstep_mark)(const char *);

static void die(const char *what) {
    fprintf(stderr, "moves: %s\n", what);
    exit(3);
}
static void ok(CUresult result) {
    if (result) {
        fprintf(stderr, "moves: CUDA error %d\n", result);
        exit(3);
    }
}
// A function by the symbol and by the name that cuGetProcAddress knows.
static Call call(const char *name, const char *symbol) {
    void *found = 0;
    if (!strcmp(route, "moves-dlsym")) found = dlsym(cuda, symbol);
    else get_proc(name, &found, !strcmp(route, "moves-old") ? 12080 : 13000, 0, 0);
    if (!found) die(symbol);
    return (Call)found;
}
#define CU(name) call(#name, #name)
#define CU2(name) call(#name, #name "_v2")

enum { ROWS = 4, WIDTH = 32, BYTES = ROWS * WIDTH * 4 };
static Handle stream, step, context;
static CUdeviceptr hidden, state;

// state = state * 0.75 + hidden, by a block of any size
static const char *image =
#ifdef REAL
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .entry _Z11step_kernelPfPKfi(.param .u64 to, .param .u64 from, .param .u32 count) {\n"
    ".reg .pred %p; .reg .f32 %f<4>; .reg .b32 %r<4>; .reg .b64 %d<6>;\n"
    "ld.param.u64 %d0, [to]; ld.param.u64 %d1, [from]; ld.param.u32 %r0, [count];\n"
    "mov.u32 %r1, %tid.x; mov.u32 %r2, %ntid.x;\n"
    "AGAIN: setp.ge.u32 %p, %r1, %r0; @%p bra DONE;\n"
    "mul.wide.u32 %d2, %r1, 4; add.s64 %d3, %d0, %d2; add.s64 %d4, %d1, %d2;\n"
    "ld.global.f32 %f0, [%d3]; ld.global.f32 %f1, [%d4];\n"
    "mul.rn.f32 %f2, %f0, 0f3F400000; add.rn.f32 %f3, %f2, %f1; st.global.f32 [%d3], %f3;\n"
    "add.u32 %r1, %r1, %r2; bra AGAIN;\nDONE: ret; }\n";
#else
    "stub";
#endif

static void set_up(void) {
    cuda = dlopen("libcuda.so.1", RTLD_NOW);
    if (!cuda) die("no libcuda");
    *(void **)&get_proc = dlsym(cuda, "cuGetProcAddress_v2");
    *(void **)&twinstep_mark = dlsym(RTLD_DEFAULT, "twinstep_mark");
    Handle module;
    ok(CU(cuInit)(0));
#ifdef REAL
    ok(CU(cuDevicePrimaryCtxRetain)(&context, 0));
    ok(CU(cuCtxSetCurrent)(context));
#endif
    ok(CU(cuModuleLoadData)(&module, image));
    ok(CU(cuModuleGetFunction)(&step, module, "_Z11step_kernelPfPKfi"));
    ok(CU(cuStreamCreate)(&stream, 1));
    ok(CU2(cuMemAlloc)(&hidden, (size_t)BYTES));
    ok(CU2(cuMemAlloc)(&state, (size_t)BYTES));
    ok(CU(cuMemsetD8Async)(state, 0, (size_t)BYTES, stream));
    ok(CU(cuMemsetD8Async)(hidden, 0, (size_t)BYTES, stream));
    ok(CU(cuStreamSynchronize)(stream));
}
static void launch(CUdeviceptr to, CUdeviceptr from, int n) {
    void *params[] = {&to, &from, &n};
    ok(CU(cuLaunchKernel)(step, 1, 1, 1, 32, 1, 1, 0, stream, params, 0));
}
static void begin(void) { ok(call("cuStreamBeginCapture", "cuStreamBeginCapture_v2")(stream, 0)); }
static Handle end(void) {
    Handle graph;
    ok(CU(cuStreamEndCapture)(stream, &graph));
    return graph;
}
static Handle instantiate(Handle graph) {
    Handle exec;
    ok(call("cuGraphInstantiate", "cuGraphInstantiateWithFlags")(&exec, graph, (uint64_t)0));
    return exec;
}
// A name for what comes, and what memory holds after it and a launch.
static void mark(const char *what) {
    if (twinstep_mark) twinstep_mark(what);
    printf("%s", what);
}
static uint32_t sum(const void *at, size_t bytes) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < bytes; i++) h = (h ^ ((const uint8_t *)at)[i]) * 16777619u;
    return h;
}
static void run(Handle exec) {
    uint8_t copy[2][BYTES];
    ok(CU(cuGraphLaunch)(exec, stream));
    ok(CU2(cuMemcpyDtoHAsync)(copy[0], hidden, (size_t)BYTES, stream));
    ok(CU2(cuMemcpyDtoHAsync)(copy[1], state, (size_t)BYTES, stream));
    ok(CU(cuStreamSynchronize)(stream));
    printf(" %08x %08x\n", sum(copy[0], BYTES), sum(copy[1], BYTES));
}

typedef struct {
    size_t sx, sy; unsigned stype; const void *shost; CUdeviceptr sdev; void *sarray; size_t spitch;
    size_t dx, dy; unsigned dtype; void *dhost; CUdeviceptr ddev; void *darray; size_t dpitch;
    size_t width, height;
} Copy2D;
typedef struct {
    size_t sx, sy, sz, slod; unsigned stype; const void *shost; CUdeviceptr sdev; void *sarray, *r0; size_t spitch, sheight;
    size_t dx, dy, dz, dlod; unsigned dtype; void *dhost; CUdeviceptr ddev; void *darray, *r1; size_t dpitch, dheight;
    size_t width, height, depth;
} Copy3D;
typedef struct { unsigned type; CUdeviceptr at; size_t row, rows; int hint[2]; } Operand;
typedef struct { Operand src, dst; size_t width, height, depth; unsigned order, flags; } BatchOp;
enum { HOST = 1, DEVICE = 2, ARRAY = 3, UNIFIED = 4 };

static uint8_t host[BYTES];

static Handle array_of(size_t bytes) {
#ifdef REAL
    struct { size_t width, height; unsigned format, channels; } shape = {bytes / 16, 4, 1, 4};
    Handle array;
    ok(CU2(cuArrayCreate)(&array, &shape));
    return array;
#else
    return calloc(1, bytes);
#endif
}

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
    typedef struct { uint64_t words[8]; } Handle64;
    typedef CUresult (*Open)(CUdeviceptr *, Handle64, unsigned);
    Handle64 handle = {{BYTES}};
    CUdeviceptr other, again, pooled;
    Open open = (Open)CU2(cuIpcOpenMemHandle);
    ok(open(&other, handle, 1));
    ok(open(&again, handle, 1));
    uint64_t bytes = BYTES;
    ok(CU(cuMemPoolImportPointer)(&pooled, (Handle)0, &bytes));
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
    mark("close");
    ok(CU(cuIpcCloseMemHandle)(other));
    mark("close again");
    ok(CU(cuIpcCloseMemHandle)(again));
    printf(" %d", CU(cuIpcCloseMemHandle)(again));
    mark("free");
    ok(CU(cuMemFreeAsync)(pooled, stream));
    ok(CU(cuStreamSynchronize)(stream));
    ok(CU(cuMemHostUnregister)(host));
    ok(CU(cuMemFreeHost)(pinned));
    ok(CU(cuMemFreeHost)(page));
}

typedef struct { void *func; unsigned grid[3], block[3], shared; void **params, **extra; void *kern, *ctx; } KernelParams;
typedef struct { CUdeviceptr dst; size_t pitch; unsigned value, element; size_t width, height; Handle context; } FillParams;
typedef struct { int type, reserved[3]; union { KernelParams kernel; FillParams fill; Handle child; char room[232];
    struct { int flags, reserved; void *context; Copy3D copy; } copy; } of; long long end; } NodeParams;

// What `changes` captures: a copy, a fill, a kernel and a child graph of a kernel, on so many elements.
static Handle graph_of(int n) {
    begin();
    ok(CU2(cuMemcpyDtoDAsync)(hidden + 128, hidden, (size_t)16, stream));
    ok(CU(cuMemsetD8Async)(hidden, 1, (size_t)8, stream));
    launch(state, hidden, n);
    return end();
}
static Handle child_of(int n) {
    begin();
    launch(state + 256, hidden, n);
    return end();
}

// A captured graph's nodes by their kind: kernel, copy, fill; and a child graph behind the kernel.
static void nodes_of(Handle graph, Handle child, Handle *nodes) {
    Handle all[3];
    size_t count = 3;
    ok(CU(cuGraphGetNodes)(graph, all, &count));
    for (size_t i = 0; i < count; i++) {
        int kind;
        ok(CU(cuGraphNodeGetType)(all[i], &kind));
        nodes[kind] = all[i];
    }
    ok(CU(cuGraphAddChildGraphNode)(&nodes[3], graph, &nodes[0], (size_t)1, child));
}

static void changes(int steps) {
    Handle graph = graph_of(4), nodes[4], kernel_node, copy_node, fill_node, child_node;
    nodes_of(graph, child_of(2), nodes);
    kernel_node = nodes[0], copy_node = nodes[1], fill_node = nodes[2], child_node = nodes[3];
    Handle exec = instantiate(graph);
    mark("as it was");
    run(exec);
    for (int i = 0; i < steps; i++) {
        mark("kernel");
        int n = 5 + i;
        void *params[] = {&state, &hidden, &n};
        KernelParams k = {.func = step, .grid = {1, 1, 1}, .block = {64, 1, 1}, .params = params};
        ok(CU2(cuGraphExecKernelNodeSetParams)(exec, kernel_node, &k));
        run(exec);
    }
    mark("copy");
    Copy3D d = {.stype = DEVICE, .sdev = hidden, .dtype = DEVICE, .ddev = hidden + 64, .width = 32, .height = 1, .depth = 1};
    ok(CU(cuGraphExecMemcpyNodeSetParams)(exec, copy_node, &d, context));
    run(exec);
    mark("fill");
    FillParams f = {hidden, 16, 7, 1, 4, 2, 0};
#ifdef REAL
    f.height = 1; // the driver refuses other rows than there were
#endif
    ok(CU(cuGraphExecMemsetNodeSetParams)(exec, fill_node, &f, context));
    run(exec);
    mark("child");
    ok(CU(cuGraphExecChildGraphNodeSetParams)(exec, child_node, child_of(3)));
    run(exec);
    mark("off");
    ok(CU(cuGraphNodeSetEnabled)(exec, kernel_node, 0));
    run(exec);
    mark("off and set");
    int n = 6;
    void *params[] = {&state, &hidden, &n};
    NodeParams p = {.type = 0, .of.kernel = {.func = step, .grid = {1, 1, 1}, .block = {64, 1, 1}, .params = params}};
    ok(CU(cuGraphExecNodeSetParams)(exec, kernel_node, &p));
    run(exec);
    mark("on");
    ok(CU(cuGraphNodeSetEnabled)(exec, kernel_node, 1));
    run(exec);
    mark("any copy");
    p = (NodeParams){.type = 1, .of.copy.copy = d};
    p.of.copy.copy.width = 8;
    p.of.copy.context = context;
    ok(CU(cuGraphExecNodeSetParams)(exec, copy_node, &p));
    p = (NodeParams){.type = 2, .of.fill = {hidden, 0, 9, 1, 4, 1, context}};
    ok(CU(cuGraphExecNodeSetParams)(exec, fill_node, &p));
    p = (NodeParams){.type = 4, .of.child = child_of(4)};
    ok(CU(cuGraphExecNodeSetParams)(exec, child_node, &p));
    run(exec);
    mark("refused");
    uint64_t outcome[4] = {0};
    printf(" %d", CU2(cuGraphExecUpdate)(exec, child_of(1), outcome));
    run(exec);
    mark("whole");
    Handle other = graph_of(9);
    nodes_of(other, child_of(5), nodes);
    ok(CU2(cuGraphExecUpdate)(exec, other, outcome));
    run(exec);
#ifndef REAL
    mark("unknown");
    printf(" %d", CU(cuGraphNodeSetEnabled)(exec, (Handle)&n, 0));
    run(exec);
#endif
    ok(CU(cuGraphExecDestroy)(exec));
}

// Updated to a graph of other kernels, after which nobody can say which node is which.
static void lost(void) {
    begin();
    launch(state, hidden, 4);
    Handle graph = end(), node;
    size_t count = 1;
    ok(CU(cuGraphGetNodes)(graph, &node, &count));
    Handle exec = instantiate(graph);
    mark("as it was");
    run(exec);
    begin();
    int pause = 1;
    Handle wait, module;
    ok(CU(cuModuleLoadData)(&module, image));
    ok(CU(cuModuleGetFunction)(&wait, module, "wait_a_while"));
    ok(CU(cuLaunchKernel)(wait, 1, 1, 1, 1, 1, 1, 0, stream, (void *[]){&pause}, 0));
    ok(CU2(cuGraphExecUpdate)(exec, end(), (Handle)0));
    mark("other");
    run(exec);
    ok(CU(cuGraphNodeSetEnabled)(exec, node, 0));
    mark("off");
    run(exec);
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

// A graph updated in every step, as some engines do whether or not anything changed: always the same, in turn, or new.
static void update(const char *how, int steps) {
    begin();
    launch(state, hidden, 4);
    Handle exec = instantiate(end());
    for (int i = 0; i < steps; i++) {
        mark("step");
        if (!strcmp(how, "update-freed")) {
            // Other memory under an address that is used again.
            CUdeviceptr more;
            ok(CU2(cuMemAlloc)(&more, (size_t)BYTES));
            ok(CU2(cuMemFree)(more));
        }
        begin();
        launch(state, hidden, !strcmp(how, "update-new") ? 4 + i : !strcmp(how, "update-turn") ? 4 + i % 2 : 4);
        Handle graph = end();
        uint64_t outcome[4] = {0};
        ok(CU2(cuGraphExecUpdate)(exec, graph, outcome));
        ok(CU(cuGraphDestroy)(graph));
        run(exec);
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
    else if (!strcmp(scenario, "lost")) lost();
    else if (!strcmp(scenario, "late")) late();
    else if (!strncmp(scenario, "update", 6)) update(scenario, steps);
    else die("no such scenario");
    return 0;
}
