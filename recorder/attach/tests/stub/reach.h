// Of the engine `moves`: how it reaches the driver, its memory, and a launch with what memory holds after it.

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
    // One that waits for the legacy default stream: calls that copy at once leave copies on the device there.
    ok(CU(cuStreamCreate)(&stream, 0));
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
    ok(CU(cuGraphInstantiateWithFlags)(&exec, graph, (uint64_t)0));
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
