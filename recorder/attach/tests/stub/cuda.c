// A stand-in for libcuda.so.1 on host memory, for tests that have no GPU.
//
// Streams are threads with a queue, so that what is enqueued really runs later. "Device memory" is mapped and
// unmapped: whoever reads it after it was given back crashes. Kernels are the named host functions below.
// Linked with -Bsymbolic, as a driver is that never calls its own exported symbols through an interposer.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef int CUresult;
typedef uint64_t CUdeviceptr;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_PTX = 218, NOT_FOUND = 500,
       NOT_SUPPORTED = 801, CAPTURE_ILLEGAL = 901 };

// Kernels --------------------------------------------------------------------------------------------

#define EXPORT __attribute__((visibility("default")))

typedef struct {
    const char *name;
    size_t parameters;
    size_t sizes[16];
    void (*run)(void **p);
} Kernel;

#define P(i, type) (*(type *)p[i])

// hidden[i] = codes[i % n] * 0.5 + i
static void embed(void **p) {
    int64_t *codes = P(0, int64_t *);
    float *hidden = P(1, float *);
    int rows = P(2, int), width = P(3, int);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < width; i++) hidden[r * width + i] = 0.5f * (float)codes[r] + (float)i;
}

// state = state * 0.75 + hidden
static void step(void **p) {
    float *state = P(0, float *), *hidden = P(1, float *);
    int n = P(2, int);
    for (int i = 0; i < n; i++) state[i] = state[i] * 0.75f + hidden[i];
}

// codes[r] = a hash of the row's state
static void sample(void **p) {
    float *state = P(0, float *);
    int64_t *codes = P(1, int64_t *);
    int rows = P(2, int), width = P(3, int);
    for (int r = 0; r < rows; r++) {
        uint32_t h = 2166136261u;
        for (int i = 0; i < width; i++) {
            uint32_t bits;
            memcpy(&bits, &state[r * width + i], 4);
            h = (h ^ bits) * 16777619u;
        }
        codes[r] = h % 1000;
    }
}

// Takes its pointers in a structure by value, as generated kernels do.
struct Pair { int64_t tag; float *from; float *to; };
static void copy_pair(void **p) {
    struct Pair pair = P(0, struct Pair);
    int n = P(1, int);
    memmove(pair.to, pair.from, sizeof(float) * (size_t)n);
}

static void wait_a_while(void **p) { usleep(P(0, int)); }

#include "snapshot.h"

static Kernel kernels[] = {
    SNAPSHOT_KERNELS
    {"_Z12embed_kernelPKlPfii", 4, {8, 8, 4, 4}, embed},
    {"_Z11step_kernelPfPKfi", 3, {8, 8, 4}, step},
    {"_Z13sample_kernelPKfPlii", 4, {8, 8, 4, 4}, sample},
    {"_Z9copy_pair4Pairi", 2, {24, 4}, copy_pair},
    {"wait_a_while", 1, {4}, wait_a_while},
};

// Nodes, graphs, streams -----------------------------------------------------------------------------

enum { NODE_KERNEL = 0, NODE_MEMCPY = 1, NODE_MEMSET = 2 };
// Of the driver's header.
typedef struct { Kernel *func; unsigned grid[3], block[3], shared; void **params; void **extra; void *kern, *ctx; } KernelParams;
typedef struct { CUdeviceptr dst; size_t pitch; unsigned value, element; size_t width, height; } FillParams;
typedef struct {
    size_t sx, sy, sz, slod; unsigned stype; const void *shost; CUdeviceptr sdev; void *sarray, *r0; size_t spitch, sheight;
    size_t dx, dy, dz, dlod; unsigned dtype; void *dhost; CUdeviceptr ddev; void *darray, *r1; size_t dpitch, dheight;
    size_t width, height, depth;
} CopyParams;

typedef struct Graph Graph;
typedef struct Stream Stream;
typedef struct Event Event;

typedef struct Op {
    enum { RUN, COPY, FILL, WRITE, RECORD, WAIT, HOST, GRAPH } kind;
    struct Op *next;
    struct Op *origin; // of a node of an instantiated graph: the node that the program knows
    int off;
    Kernel *kernel;
    unsigned grid[3], block[3], shared;
    int device;        // of the thread that launched
    void *values;      // all parameters, one after another
    void **params;     // pointers into them
    void *to;
    const void *from;
    uint32_t value, element;
    size_t bytes;
    // Rows and planes of a copy or fill that has several: bytes from one to the next on each side.
    size_t rows, planes, to_row, to_plane, from_row, from_plane;
    Event *event;
    uint64_t number;
    void (*host)(void *);
    void *data;
    Graph *graph;
} Op;

struct Graph { Op **nodes; size_t count, room; int clones; };
struct Event { pthread_mutex_t lock; pthread_cond_t changed; uint64_t recorded, done; Graph *capture; };
struct Stream {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    Op *first, *last;
    int busy;
    pthread_t thread;
    Graph *capture;
    int origin;
    struct Stream *following;
};

static int initialised;
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;
static Stream *defaults[3];
static Stream *streams_all;

static void run_op(Op *op) {
    if (op->off) return;
    switch (op->kind) {
    case RUN:
        grid_now = op->grid[0], kernel_device = op->device;
        op->kernel->run(op->params);
        break;
    case COPY:
        for (size_t z = 0; z < (op->planes ? op->planes : 1); z++)
            for (size_t y = 0; y < (op->rows ? op->rows : 1); y++)
                memmove((char *)op->to + z * op->to_plane + y * op->to_row,
                        (const char *)op->from + z * op->from_plane + y * op->from_row, op->bytes);
        break;
    case FILL:
        for (size_t y = 0; y < (op->rows ? op->rows : 1); y++)
            for (size_t i = 0; i < op->bytes / op->element; i++)
                memcpy((char *)op->to + y * op->to_row + i * op->element, &op->value, op->element);
        break;
    case WRITE: __atomic_store_n((uint32_t *)op->to, op->value, __ATOMIC_RELEASE); break;
    case RECORD:
        pthread_mutex_lock(&op->event->lock);
        if (op->event->done < op->number) op->event->done = op->number;
        pthread_cond_broadcast(&op->event->changed);
        pthread_mutex_unlock(&op->event->lock);
        break;
    case WAIT:
        pthread_mutex_lock(&op->event->lock);
        while (op->event->done < op->number) pthread_cond_wait(&op->event->changed, &op->event->lock);
        pthread_mutex_unlock(&op->event->lock);
        break;
    case HOST: op->host(op->data); break;
    case GRAPH:
        for (size_t i = 0; i < op->graph->count; i++) run_op(op->graph->nodes[i]);
        break;
    }
}

static void *stream_main(void *argument) {
    Stream *s = argument;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->first) pthread_cond_wait(&s->changed, &s->lock);
        Op *op = s->first;
        s->first = op->next;
        if (!s->first) s->last = NULL;
        s->busy = 1;
        pthread_mutex_unlock(&s->lock);
        run_op(op);
        pthread_mutex_lock(&s->lock);
        s->busy = 0;
        pthread_cond_broadcast(&s->changed);
    }
    return NULL;
}

static Stream *new_stream(void) {
    Stream *s = calloc(1, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    pthread_create(&s->thread, NULL, stream_main, s);
    pthread_mutex_lock(&table);
    s->following = streams_all;
    streams_all = s;
    pthread_mutex_unlock(&table);
    return s;
}

static Stream *stream_of(Stream *s) {
    uintptr_t which = (uintptr_t)s;
    if (which > 2) return s;
    if (which == 0) which = 1;
    if (!defaults[which]) defaults[which] = new_stream();
    return defaults[which];
}

static void node(Graph *g, Op *op) {
    if (g->count == g->room) g->nodes = realloc(g->nodes, sizeof(Op *) * (g->room = g->room * 2 + 8));
    g->nodes[g->count++] = op;
}

static CUresult enqueue(Stream *which, Op op) {
    if (!initialised) return NOT_INITIALIZED;
    Stream *s = stream_of(which);
    Op *own = malloc(sizeof op);
    *own = op;
    own->next = NULL;
    if (s->capture) {
        node(s->capture, own);
        return OK;
    }
    pthread_mutex_lock(&s->lock);
    if (s->last) s->last->next = own; else s->first = own;
    s->last = own;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return OK;
}

static void drain(Stream *which) {
    Stream *s = stream_of(which);
    pthread_mutex_lock(&s->lock);
    while (s->first || s->busy) pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static void drain_all(void) {
    for (Stream *s = streams_all; s; s = s->following) drain(s);
}

// Initialisation, contexts, devices ------------------------------------------------------------------

EXPORT CUresult cuInit(unsigned flags) {
    (void)flags;
    const char *injection = getenv("CUDA_INJECTION64_PATH");
    if (!initialised && injection) {
        void *library = dlopen(injection, RTLD_NOW);
        int (*begin)(void) = 0;
        if (library) *(void **)&begin = dlsym(library, "InitializeInjection");
        if (begin) begin();
    }
    initialised = 1;
    return OK;
}
static void child(void) {
    // Threads are gone in a forked child; a child that initialises begins anew.
    initialised = 0;
    memset(defaults, 0, sizeof defaults);
    streams_all = NULL;
    pthread_mutex_init(&table, NULL);
}
__attribute__((constructor)) static void at_load(void) { pthread_atfork(NULL, NULL, child); }

EXPORT CUresult cuDriverGetVersion(int *version) {
    const char *older = getenv("STUB_DRIVER_VERSION");
    *version = older ? atoi(older) : 12040;
    return OK;
}
// Two devices, a context each.
static __thread int device_now;
EXPORT CUresult cuCtxGetCurrent(void **context) {
    *context = (void *)(uintptr_t)(0x77 + device_now);
    return initialised ? OK : NOT_INITIALIZED;
}
EXPORT CUresult cuCtxSetCurrent(void *context) { device_now = (int)(uintptr_t)context - 0x77; return OK; }
// Nobody shall compute on it.
EXPORT CUresult cuDeviceGetCount(int *count) { *count = 0; return OK; }
EXPORT CUresult cuCtxGetDevice(int *device) { *device = device_now; return OK; }
EXPORT CUresult cuCtxSynchronize(void) { drain_all(); return OK; }
EXPORT CUresult cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    snprintf(name, (size_t)length, "stub on host memory");
    return OK;
}
EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? 9 : 0;
    return OK;
}
EXPORT CUresult cuModuleLoadData(void **module, const void *image) {
    // What is no text of ours is refused, as an unknown PTX is.
    int kernels_of_snapshots = getenv("STUB_KERNELS") && strstr(image, ".entry snapshot(");
    if (strcmp(image, "stub") && !kernels_of_snapshots) return INVALID_PTX;
    *module = (void *)0x99;
    return OK;
}
EXPORT CUresult cuModuleGetFunction(void **function, void *module, const char *name) {
    (void)module;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (!strcmp(kernels[i].name, name)) return *function = &kernels[i], OK;
    return NOT_FOUND;
}
EXPORT CUresult cuFuncGetName(const char **name, void *function) { *name = ((Kernel *)function)->name; return OK; }
EXPORT CUresult cuFuncGetParamInfo(void *function, size_t index, size_t *offset, size_t *size) {
    Kernel *k = function;
    if (index >= k->parameters) return INVALID_VALUE;
    size_t at = 0;
    for (size_t i = 0; i < index; i++) at += (k->sizes[i] + 7) / 8 * 8;
    *offset = at;
    *size = k->sizes[index];
    return OK;
}

// The engine may have it refuse what comes next: a function, or a kernel's launches.
static struct { char name[32]; int times; } refusal;
EXPORT void stubRefuse(const char *name, int times) {
    snprintf(refusal.name, sizeof refusal.name, "%s", name);
    refusal.times = times;
}
static int refused(const char *name) { return !strcmp(refusal.name, name) && refusal.times > 0 && refusal.times--; }

#include "memory.h"

// Copies and fills -----------------------------------------------------------------------------------

static CUresult copy(Stream *s, void *to, const void *from, size_t bytes) {
    return enqueue(s, (Op){.kind = COPY, .to = to, .from = from, .bytes = bytes});
}
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, Stream *s) { return copy(s, (void *)to, from, bytes); }
// What a kernel on one device does to another's memory: the end of the program.
EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, Stream *s) {
    if (device_with(from, device_now) != device_now) fprintf(stderr, "stub: illegal address\n"), abort();
    return copy(s, to, (void *)from, bytes);
}
EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, Stream *s) { return copy(s, (void *)to, (void *)from, bytes); }
EXPORT CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, Stream *s) { return copy(s, (void *)to, (void *)from, bytes); }
static CUresult copy_now(void *to, const void *from, size_t bytes) {
    CUresult r = copy(NULL, to, from, bytes);
    if (r == OK) drain(NULL);
    return r;
}
EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) { return copy_now((void *)to, from, bytes); }
EXPORT CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) { return copy_now(to, (void *)from, bytes); }
EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, uint8_t value, size_t n, Stream *s) {
    return enqueue(s, (Op){.kind = FILL, .to = (void *)to, .value = value, .element = 1, .bytes = n});
}
EXPORT CUresult cuMemsetD32Async(CUdeviceptr to, uint32_t value, size_t n, Stream *s) {
    return enqueue(s, (Op){.kind = FILL, .to = (void *)to, .value = value, .element = 4, .bytes = 4 * n});
}

// Streams and events ---------------------------------------------------------------------------------

EXPORT CUresult cuStreamCreate(Stream **s, unsigned flags) { (void)flags; *s = new_stream(); return OK; }
EXPORT CUresult cuStreamSynchronize(Stream *s) { drain(s); return OK; }
EXPORT CUresult cuStreamWriteValue32_v2(Stream *s, CUdeviceptr at, uint32_t value, unsigned flags) {
    (void)flags;
    return enqueue(s, (Op){.kind = WRITE, .to = (void *)at, .value = value});
}
EXPORT CUresult cuLaunchHostFunc(Stream *s, void (*host)(void *), void *data) {
    return enqueue(s, (Op){.kind = HOST, .host = host, .data = data});
}
EXPORT CUresult cuThreadExchangeStreamCaptureMode(int *mode) {
    static __thread int current;
    int before = current;
    current = *mode;
    *mode = before;
    return OK;
}
EXPORT CUresult cuStreamIsCapturing(Stream *s, int *status) { *status = stream_of(s)->capture != NULL; return OK; }
EXPORT CUresult cuEventCreate(Event **event, unsigned flags) {
    (void)flags;
    *event = calloc(1, sizeof **event);
    pthread_mutex_init(&(*event)->lock, NULL);
    pthread_cond_init(&(*event)->changed, NULL);
    return OK;
}
EXPORT CUresult cuEventRecord(Event *event, Stream *s) {
    event->capture = stream_of(s)->capture;
    if (event->capture) return OK;
    pthread_mutex_lock(&event->lock);
    uint64_t number = ++event->recorded;
    pthread_mutex_unlock(&event->lock);
    return enqueue(s, (Op){.kind = RECORD, .event = event, .number = number});
}
EXPORT CUresult cuStreamWaitEvent(Stream *s, Event *event, unsigned flags) {
    (void)flags;
    if (event->capture) return stream_of(s)->capture = event->capture, OK;
    pthread_mutex_lock(&event->lock);
    uint64_t number = event->recorded;
    pthread_mutex_unlock(&event->lock);
    return enqueue(s, (Op){.kind = WAIT, .event = event, .number = number});
}

// Capture and graphs ---------------------------------------------------------------------------------

EXPORT CUresult cuStreamBeginCapture_v2(Stream *s, int mode) {
    (void)mode;
    s = stream_of(s);
    if (s->capture) return CAPTURE_ILLEGAL;
    s->capture = calloc(1, sizeof(Graph));
    s->origin = 1;
    return OK;
}
EXPORT CUresult cuStreamEndCapture(Stream *s, Graph **graph) {
    s = stream_of(s);
    if (!s->capture || !s->origin) return CAPTURE_ILLEGAL;
    *graph = s->capture;
    s->origin = 0;
    for (Stream *t = streams_all; t; t = t->following)
        if (t->capture == *graph) t->capture = NULL;
    return OK;
}
// An instantiated graph is a copy of its own, whose nodes remember which of the program's they are.
static void copy_nodes(Graph *to, Graph *from) {
    for (size_t i = 0; i < from->count; i++) {
        Op *own = malloc(sizeof *own);
        *own = *from->nodes[i];
        own->origin = from->nodes[i];
        if (own->kind == GRAPH) {
            own->graph = calloc(1, sizeof(Graph));
            copy_nodes(own->graph, from->nodes[i]->graph);
        }
        node(to, own);
    }
}
EXPORT CUresult cuGraphInstantiateWithFlags(Graph **exec, Graph *graph, uint64_t flags) {
    (void)flags;
    *exec = calloc(1, sizeof(Graph));
    copy_nodes(*exec, graph);
    return OK;
}
EXPORT CUresult cuGraphInstantiate_v2(Graph **exec, Graph *graph, void **bad, char *log, size_t bytes) {
    (void)bad, (void)log, (void)bytes;
    return cuGraphInstantiateWithFlags(exec, graph, 0);
}
EXPORT CUresult cuGraphLaunch(Graph *exec, Stream *s) {
    return enqueue(s, (Op){.kind = GRAPH, .graph = exec});
}
EXPORT CUresult cuGraphLaunch_ptsz(Graph *exec, Stream *s) { return cuGraphLaunch(exec, s ? s : (Stream *)2); }
EXPORT CUresult cuGraphExecDestroy(Graph *exec) { drain_all(); free(exec->nodes); free(exec); return OK; }
EXPORT CUresult cuGraphDestroy(Graph *graph) { free(graph->nodes); free(graph); return OK; }
EXPORT CUresult cuGraphGetNodes(Graph *graph, Op **nodes, size_t *count) {
    if (nodes) for (size_t i = 0; i < graph->count && i < *count; i++) nodes[i] = graph->nodes[i];
    *count = graph->count;
    return OK;
}
EXPORT CUresult cuGraphGetEdges(Graph *graph, Op **from, Op **to, size_t *count) {
    size_t edges = graph->count ? graph->count - 1 : 0;
    if (from) for (size_t i = 0; i < edges && i < *count; i++) from[i] = graph->nodes[i], to[i] = graph->nodes[i + 1];
    *count = edges;
    return OK;
}
EXPORT CUresult cuGraphNodeGetType(Op *op, int *type) {
    *type = op->kind == RUN ? NODE_KERNEL : op->kind == COPY ? NODE_MEMCPY : op->kind == FILL ? NODE_MEMSET : op->kind == GRAPH ? 4 : 3;
    return OK;
}
EXPORT CUresult cuGraphKernelNodeGetParams_v2(Op *op, KernelParams *out) {
    *out = (KernelParams){.func = op->kernel, .shared = op->shared, .params = op->params};
    memcpy(out->grid, op->grid, sizeof op->grid);
    memcpy(out->block, op->block, sizeof op->block);
    return OK;
}
EXPORT CUresult cuGraphKernelNodeGetAttribute(Op *op, int attribute, void *value) {
    (void)op, (void)attribute;
    memset(value, 0, 64);
    return OK;
}
static int is_device(const void *at) {
    return device_with((CUdeviceptr)at, -1) >= 0;
}
EXPORT CUresult cuGraphMemcpyNodeGetParams(Op *op, CopyParams *out) {
    memset(out, 0, sizeof *out);
    out->stype = is_device(op->from) ? 2 : 1;
    out->dtype = is_device(op->to) ? 2 : 1;
    if (out->stype == 2) out->sdev = (CUdeviceptr)op->from; else out->shost = op->from;
    if (out->dtype == 2) out->ddev = (CUdeviceptr)op->to; else out->dhost = op->to;
    out->width = op->bytes;
    out->height = op->rows ? op->rows : 1;
    out->depth = op->planes ? op->planes : 1;
    out->spitch = op->from_row, out->dpitch = op->to_row;
    if (op->from_row) out->sheight = op->from_plane / op->from_row;
    if (op->to_row) out->dheight = op->to_plane / op->to_row;
    return OK;
}
EXPORT CUresult cuGraphMemsetNodeGetParams(Op *op, FillParams *out) {
    size_t rows = op->rows ? op->rows : 1;
    *out = (FillParams){(CUdeviceptr)op->to, op->to_row, op->value, op->element, op->bytes / op->element, rows};
    return OK;
}

static Op kernel_op(Kernel *k, const unsigned *grid, const unsigned *block, unsigned shared, void **params) {
    Op op = {.kind = RUN, .kernel = k, .shared = shared, .device = device_now};
    memcpy(op.grid, grid, sizeof op.grid);
    memcpy(op.block, block, sizeof op.block);
    size_t room = 0;
    for (size_t i = 0; i < k->parameters; i++) room += (k->sizes[i] + 7) / 8 * 8;
    op.values = malloc(room);
    op.params = malloc(sizeof(void *) * k->parameters);
    size_t at = 0;
    for (size_t i = 0; i < k->parameters; i++) {
        op.params[i] = (char *)op.values + at;
        memcpy(op.params[i], params[i], k->sizes[i]);
        at += (k->sizes[i] + 7) / 8 * 8;
    }
    return op;
}
// What another thread does while the next kernel is launched.
static void (*during)(void);
EXPORT void stubDuring(void (*what)(void)) { during = what; }
EXPORT CUresult cuLaunchKernel(Kernel *k, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                               unsigned bz, unsigned shared, Stream *s, void **params, void **extra) {
    (void)extra;
    if (refused(k->name)) return OUT_OF_MEMORY;
    void (*other)(void) = during;
    during = NULL;
    if (other) other();
    return enqueue(s, kernel_op(k, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, shared, params));
}

#include "rows.h"
#include "changes.h"

// cuGetProcAddress -----------------------------------------------------------------------------------

EXPORT CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status);
EXPORT CUresult cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}

static const struct { const char *name; int since; int per_thread; void *at; } functions[] = {
    {"cuInit", 2000, 0, cuInit},
    {"cuGetProcAddress", 12000, 0, cuGetProcAddress_v2},
    {"cuGetProcAddress", 11030, 0, cuGetProcAddress},
    {"cuDriverGetVersion", 2020, 0, cuDriverGetVersion},
    {"cuCtxSynchronize", 2000, 0, cuCtxSynchronize},
    {"cuDevicePrimaryCtxRetain", 7000, 0, cuDevicePrimaryCtxRetain},
    {"cuCtxSetCurrent", 4000, 0, cuCtxSetCurrent},
    {"cuCtxDestroy", 4000, 0, cuCtxDestroy_v2},
    {"cuDevicePrimaryCtxReset", 11000, 0, cuDevicePrimaryCtxReset_v2},
    {"cuDevicePrimaryCtxRelease", 11000, 0, cuDevicePrimaryCtxRelease_v2},
    {"cuModuleLoadData", 2000, 0, cuModuleLoadData},
    {"cuModuleGetFunction", 2000, 0, cuModuleGetFunction},
    {"cuMemAlloc", 3020, 0, cuMemAlloc_v2},
    {"cuMemFree", 3020, 0, cuMemFree_v2},
    {"cuMemAllocManaged", 6000, 0, cuMemAllocManaged},
    {"cuGraphNodeGetType", 10000, 0, cuGraphNodeGetType},
    {"cuMemAllocAsync", 11020, 0, cuMemAllocAsync},
    {"cuMemFreeAsync", 11020, 0, cuMemFreeAsync},
    {"cuMemAddressReserve", 10020, 0, cuMemAddressReserve},
    {"cuMemAddressFree", 10020, 0, cuMemAddressFree},
    {"cuMemCreate", 10020, 0, cuMemCreate},
    {"cuMemRelease", 19000, 0, cuMemRelease_v2},
    {"cuMemRelease", 10020, 0, cuMemRelease},
    {"cuMemMap", 10020, 0, cuMemMap},
    {"cuMemImportFromShareableHandle", 10020, 0, cuMemImportFromShareableHandle},
    {"cuMemExportToShareableHandle", 10020, 0, cuMemExportToShareableHandle},
    {"cuMemRetainAllocationHandle", 11000, 0, cuMemRetainAllocationHandle},
    {"cuMulticastCreate", 12010, 0, cuMulticastCreate},
    {"cuMulticastAddDevice", 12010, 0, cuMulticastAddDevice},
    {"cuMulticastBindMem", 13010, 0, cuMulticastBindMem_v2},
    {"cuMulticastBindAddr", 13010, 0, cuMulticastBindAddr_v2},
    {"cuMulticastBindMem", 12010, 0, cuMulticastBindMem},
    {"cuMulticastBindAddr", 12010, 0, cuMulticastBindAddr},
    {"cuMemSetAccess", 10020, 0, cuMemSetAccess},
    {"cuMemUnmap", 10020, 0, cuMemUnmap},
    {"cuMemcpyHtoD", 3020, 0, cuMemcpyHtoD_v2},
    {"cuMemcpyDtoH", 3020, 0, cuMemcpyDtoH_v2},
    {"cuMemcpyHtoDAsync", 3020, 0, cuMemcpyHtoDAsync_v2},
    {"cuMemcpyDtoHAsync", 3020, 0, cuMemcpyDtoHAsync_v2},
    {"cuMemcpyDtoDAsync", 3020, 0, cuMemcpyDtoDAsync_v2},
    {"cuMemcpyAsync", 4000, 0, cuMemcpyAsync},
    {"cuMemsetD8Async", 3020, 0, cuMemsetD8Async},
    {"cuMemsetD32Async", 3020, 0, cuMemsetD32Async},
    {"cuStreamCreate", 2000, 0, cuStreamCreate},
    {"cuStreamSynchronize", 2000, 0, cuStreamSynchronize},
    {"cuEventCreate", 2000, 0, cuEventCreate},
    {"cuEventRecord", 2000, 0, cuEventRecord},
    {"cuStreamWaitEvent", 3020, 0, cuStreamWaitEvent},
    {"cuStreamBeginCapture", 10010, 0, cuStreamBeginCapture_v2},
    {"cuStreamEndCapture", 10000, 0, cuStreamEndCapture},
    {"cuGraphInstantiate", 11000, 0, cuGraphInstantiate_v2},
    {"cuGraphInstantiateWithFlags", 11040, 0, cuGraphInstantiateWithFlags},
    {"cuGraphLaunch", 10000, 1, cuGraphLaunch_ptsz},
    {"cuGraphLaunch", 10000, 0, cuGraphLaunch},
    {"cuGraphExecDestroy", 10000, 0, cuGraphExecDestroy},
    {"cuGraphDestroy", 10000, 0, cuGraphDestroy},
    ROWS_FUNCTIONS
    CHANGES_FUNCTIONS
    {"cuLaunchKernel", 4000, 0, cuLaunchKernel},
};

EXPORT CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        int suits = !functions[i].per_thread || (flags & 2);
        if (!strcmp(functions[i].name, name) && functions[i].since <= version && suits) {
            *function = functions[i].at;
            if (status) *status = 0;
            return OK;
        }
    }
    *function = NULL;
    if (status) *status = 1;
    return NOT_FOUND;
}
