// Of the engine `moves`: memory that others write, devices whose streams have equal handles, memory that was not seen to
// be given, a driver that refuses.

#include <signal.h>
#include <unistd.h>

typedef int (*Watch)(const char *, uint64_t, const char *, uint32_t, const uint64_t *, const char *);
static int watch(const char *name, CUdeviceptr at, uint64_t bytes) {
    Watch watch = (Watch)dlsym(RTLD_DEFAULT, "twinstep_watch");
    return watch ? watch(name, at, "u8", 1, &bytes, "state") : 0;
}
static void unwatch(const char *name) {
    int (*unwatch)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "twinstep_unwatch");
    if (unwatch) ok(unwatch(name));
}
// The driver refuses the next calls of that name, or launches of a kernel.
static void refuse(const char *what, int times) {
    void (*refuse)(const char *, int) = (void (*)(const char *, int))dlsym(cuda, "stubRefuse");
    refuse(what, times);
}

static Handle graph_on(CUdeviceptr to, CUdeviceptr from) {
    begin();
    launch(to, from, 4);
    return instantiate(end());
}

// Memory of all kinds that is too large to be looked at whole in a quiet moment, written while nothing is called.
static void others(int steps) {
    enum { LARGE = 4 << 20, KINDS = 4 };
    typedef struct { uint64_t words[8]; } Handle64;
    typedef CUresult (*Open)(CUdeviceptr *, Handle64, unsigned);
    static const char *names[KINDS] = {"pinned", "opened", "managed", "own"};
    CUdeviceptr at[KINDS];
    Handle64 handle = {{LARGE}};
    void *pinned;
    ok(CU(cuMemHostAlloc)(&pinned, (size_t)LARGE, 0));
    at[0] = (CUdeviceptr)(uintptr_t)pinned;
    ok(((Open)CU2(cuIpcOpenMemHandle))(&at[1], handle, 1));
    ok(CU(cuMemAllocManaged)(&at[2], (size_t)LARGE, 1));
    ok(CU2(cuMemAlloc)(&at[3], (size_t)LARGE));
    for (int k = 0; k < KINDS; k++) {
        memset((void *)at[k], 0, LARGE);
        if (watch(names[k], at[k], LARGE)) die("not watched");
    }
    Handle exec = graph_on(state, hidden);
    for (int i = 0; i < 3; i++) mark("before"), run(exec);
    for (int i = 0; i < steps; i++) {
        size_t where = (size_t)(i * 7 % 16) * (LARGE / 16) + 5;
        for (int k = 0; k < KINDS; k++) ((uint8_t *)at[k])[where] = (uint8_t)(i + 1);
        printf("wrote %lu %d\n", (unsigned long)where, i + 1);
        // A launch that the driver refuses writes nothing.
        void *params[] = {&at[3], &hidden, &steps};
        if (i % 2) refuse("_Z11step_kernelPfPKfi", 1);
        if (i % 2 && !CU(cuLaunchKernel)(step, 1, 1, 1, 32, 1, 1, 0, stream, params, 0)) die("not refused");
        mark("quiet"), run(exec);
    }
}

// Memory by handles. What comes from another process, or is handed to one before it is watched, while it is, through its
// address or as a part of what several devices have at once, is written while nothing is called. The rest is the
// program's own.
static CUdeviceptr map(uint64_t handle, size_t bytes) {
    CUdeviceptr at;
    ok(CU(cuMemAddressReserve)(&at, bytes, (size_t)0, (CUdeviceptr)0, 0ull));
    ok(CU(cuMemMap)(at, bytes, (size_t)0, handle, 0ull));
    return at;
}
static void handles_of(int steps) {
    enum { LARGE = 4 << 20, KINDS = 8, SHARED = 7 };
    static const char *names[KINDS] = {"imported", "early", "late", "retained", "bound", "bound2", "ipc", "own"};
    CUdeviceptr at[KINDS];
    uint64_t handle[KINDS], again, all[2], to[8];
    for (int k = 0; k < KINDS; k++) {
        if (k == 0) ok(CU(cuMemImportFromShareableHandle)(&handle[k], (void *)7, 1));
        else ok(CU(cuMemCreate)(&handle[k], (size_t)LARGE, (void *)0, 0ull));
        if (k == 1) ok(CU(cuMemExportToShareableHandle)(to, handle[k], 1, 0ull));
        if (k == 6) ok(CU2(cuMemAlloc)(&at[k], (size_t)LARGE));
        else at[k] = map(handle[k], LARGE);
        ok(CU(cuMemRelease)(k == 2 ? 0 : handle[k]));
        memset((void *)at[k], 0, LARGE);
        if (watch(names[k], at[k], LARGE)) die("not watched");
    }
    // Of one the handle is from this process, of the other from another.
    ok(CU(cuMulticastCreate)(&all[0], (void *)0));
    ok(CU(cuMemImportFromShareableHandle)(&all[1], (void *)7, 1));
    for (int i = 0; i < 2; i++) ok(CU(cuMulticastAddDevice)(all[i], 0));
    CUdeviceptr multicast[2] = {map(all[0], LARGE), map(all[1], LARGE)};
    int attached = dlsym(RTLD_DEFAULT, "twinstep_watch") != 0;
    if (attached && !watch("multicast", multicast[0], LARGE)) die("memory of several devices at once is watched");
    begin();
    launch(state, hidden, 4);
    launch(state, multicast[0], 0);
    launch(state, multicast[1], 0);
    Handle exec = instantiate(end());
    for (int i = 0; i < 3; i++) mark("before"), run(exec);
    ok(CU(cuMemExportToShareableHandle)(to, handle[2], 1, 0ull));
    ok(CU(cuMemRetainAllocationHandle)(&again, (void *)at[3]));
    ok(CU(cuMemExportToShareableHandle)(to, again, 1, 0ull));
    ok(CU(cuMemRetainAllocationHandle)(&again, (void *)at[4]));
    ok(CU(cuMulticastBindMem)(all[0], (size_t)0, again, (size_t)0, (size_t)LARGE, 0ull));
    // A newer version, which wants to know the device; and one of a function that no wrapper knows: it is not replaced.
    void *newer = 0;
    ok(get_proc("cuMulticastBindAddr", &newer, 13010, 0, 0));
    ok(((Call)newer)(all[0], 0, (size_t)LARGE, at[5], (size_t)LARGE, 0ull));
    ok(get_proc("cuMemRelease", &newer, 19000, 0, 0));
    ok(((Call)newer)(1, handle[5]));
    ok(CU(cuIpcGetMemHandle)(to, at[6]));
    for (int i = 0; i < steps; i++) {
        size_t where = (size_t)(i * 7 % 16) * (LARGE / 16) + 5;
        for (int k = 0; k < SHARED; k++) ((uint8_t *)at[k])[where] = (uint8_t)(i + 1);
        printf("wrote %lu %d\n", (unsigned long)where, i + 1);
        mark("quiet"), run(exec);
    }
    // Plain memory lies there later.
    ok(CU(cuMemUnmap)(multicast[0], (size_t)LARGE));
    ok(CU(cuMemCreate)(&handle[0], (size_t)LARGE, (void *)0, 0ull));
    ok(CU(cuMemMap)(multicast[0], (size_t)LARGE, (size_t)0, handle[0], 0ull));
    if (watch("plain", multicast[0], LARGE)) die("plain memory is not watched");
    mark("plain"), run(exec);
}

// Two devices, and on each a graph that is launched on the default stream.
static void defaults(int steps) {
    enum { LARGE = 4 << 20 };
    Handle contexts[2], execs[2];
    CUdeviceptr large[2], small[2];
    for (int d = 0; d < 2; d++) {
        ok(CU(cuDevicePrimaryCtxRetain)(&contexts[d], d));
        ok(CU(cuCtxSetCurrent)(contexts[d]));
        ok(CU2(cuMemAlloc)(&large[d], (size_t)LARGE));
        ok(CU2(cuMemAlloc)(&small[d], (size_t)BYTES));
        stream = 0;
        ok(CU(cuMemsetD8Async)(large[d], 0, (size_t)LARGE, stream));
        ok(CU(cuMemsetD8Async)(small[d], 0, (size_t)BYTES, stream));
        if (watch(d ? "large1" : "large0", large[d], LARGE)) die("not watched");
        execs[d] = graph_on(small[d], small[d]);
    }
    for (int i = 0; i < steps; i++) {
        size_t where = (size_t)(i * 7 % 16) * (LARGE / 16) + 5;
        ok(CU(cuMemsetD8Async)(large[1] + where, (uint8_t)(i + 1), (size_t)1, stream));
        printf("wrote %lu %d\n", (unsigned long)where, i + 1);
        for (int d = 0; d < 2; d++) {
            ok(CU(cuCtxSetCurrent)(contexts[d]));
            hidden = state = small[d];
            mark("step"), run(execs[d]);
        }
    }
}

// Memory of the second device that the driver gave by a function which nobody wraps.
static void unseen(int steps) {
    CUresult (*give)(CUdeviceptr *, size_t, int) = (CUresult (*)(CUdeviceptr *, size_t, int))dlsym(cuda, "stubAlloc");
    CUdeviceptr there, host, mine[2];
    Handle contexts[2], execs[2];
    ok(give(&there, BYTES, 1));
    ok(give(&host, BYTES, -1));
    memset((void *)there, 7, BYTES);
    for (int d = 0; d < 2; d++) {
        ok(CU(cuDevicePrimaryCtxRetain)(&contexts[d], d));
        ok(CU(cuCtxSetCurrent)(contexts[d]));
        ok(CU2(cuMemAlloc)(&mine[d], (size_t)BYTES));
        ok(CU(cuMemsetD8Async)(mine[d], 0, (size_t)BYTES, stream));
        if (watch(d ? "mine1" : "mine0", mine[d], BYTES)) die("not watched");
        execs[d] = graph_on(mine[d], mine[d]);
    }
    ok(CU(cuCtxSetCurrent)(contexts[0]));
    if (watch("there", there + 64, 128)) die("not watched");
    if (watch("host", host, BYTES)) die("not watched");
    if (!watch("beyond", there + 64, BYTES) && dlsym(RTLD_DEFAULT, "twinstep_watch")) die("what is not there is watched");
    for (int i = 0; i < steps; i++) {
        if (i == steps - 1) {
            mark("free\n");
            ok(CU2(cuMemFree)(there));
        }
        for (int d = 0; d < 2; d++) {
            ok(CU(cuCtxSetCurrent)(contexts[d]));
            hidden = state = mine[d];
            mark("step"), run(execs[d]);
        }
    }
}

// An I/O device's memory, pinned under the host's address; then plain memory of the host there.
static void io(void) {
    static uint8_t page[4096] __attribute__((aligned(4096)));
    CUdeviceptr at = (CUdeviceptr)(uintptr_t)page;
    int attached = dlsym(RTLD_DEFAULT, "twinstep_watch") != 0;
    ok(CU2(cuMemHostRegister)(page, sizeof page, 4));
    if (attached && !watch("io", at + 8, 64)) die("an I/O device is watched");
    Handle exec = graph_on(state, at);
    mark("io"), run(exec);
    ok(CU(cuMemHostUnregister)(page));
    ok(CU2(cuMemHostRegister)(page, sizeof page, 1));
    if (watch("host", at + 8, 64)) die("the host's memory is not watched");
    mark("host"), run(exec);
}

// A driver that refuses what a snapshot needs once; what the next one looks at first has the place of earlier memory.
static void refused(void) {
    enum { SETS = 5, LARGE = 8192 };
    CUdeviceptr sets[SETS];
    Handle exec = graph_on(state, hidden);
    char name[8];
    for (int i = 0; i < SETS; i++) {
        ok(CU2(cuMemAlloc)(&sets[i], (size_t)LARGE));
        // The first and the last hold the same.
        ok(CU(cuMemsetD8Async)(sets[i], (uint8_t)(1 + i % (SETS - 1)), (size_t)LARGE, stream));
    }
    for (int i = 0; i < SETS; i++) {
        snprintf(name, sizeof name, "set%d", i);
        if (watch(name, sets[i], LARGE)) die("not watched");
        if (i == SETS - 1) refuse("table_open", 1);
        mark("step"), run(exec);
        if (i < SETS - 1) unwatch(name);
    }
    mark("step"), run(exec);
}

// A kernel launched by itself, while another thread, as it were, launches a graph.
static Handle meanwhile;
static void launch_meanwhile(void) { mark("meanwhile"), run(meanwhile); }
static void between(int steps) {
    enum { LARGE = 4 << 20 };
    void (*during)(void (*)(void)) = (void (*)(void (*)(void)))dlsym(cuda, "stubDuring");
    CUdeviceptr large;
    ok(CU2(cuMemAlloc)(&large, (size_t)LARGE));
    ok(CU(cuMemsetD8Async)(large, 0, (size_t)LARGE, stream));
    ok(CU(cuMemsetD8Async)(hidden, 0x3f, (size_t)BYTES, stream));
    if (watch("large", large, LARGE)) die("not watched");
    meanwhile = graph_on(state, hidden);
    for (int i = 0; i < 3; i++) mark("before"), run(meanwhile);
    for (int i = 0; i < steps; i++) {
        size_t where = (size_t)(i * 7 % 16) * (LARGE / 16) + 4096;
        during(launch_meanwhile);
        launch(large + where, hidden, 1);
        uint8_t byte;
        ok(CU2(cuMemcpyDtoHAsync)(&byte, large + where, (size_t)1, stream));
        ok(CU(cuStreamSynchronize)(stream));
        printf("wrote %lu %d\n", (unsigned long)where, byte);
        mark("after"), run(meanwhile);
    }
}

// The first launch never ends, and the program is ended from outside once there is a trace.
static void hang(void) {
    Handle module, wait;
    ok(CU(cuModuleLoadData)(&module, image));
    ok(CU(cuModuleGetFunction)(&wait, module, "wait_a_while"));
    int pause = 60000000;
    begin();
    launch(state, hidden, 4);
    ok(CU(cuLaunchKernel)(wait, 1, 1, 1, 1, 1, 1, 0, stream, (void *[]){&pause}, 0));
    Handle exec = instantiate(end());
    ok(CU(cuGraphLaunch)(exec, stream));
    mark("launched\n"), fflush(stdout);
    for (int i = 0; i < 10000 && twinstep_mark && access("run.twin", R_OK); i++) usleep(1000);
    raise(SIGKILL);
}

// A graph launched into a capture is a node of the graph that is captured, and runs with that.
static void nested(int steps) {
    Handle inner = graph_on(state, hidden);
    begin();
    ok(CU(cuGraphLaunch)(inner, stream));
    Handle outer = instantiate(end());
    for (int i = 0; i < steps; i++) mark("step"), run(outer);
}

// What is watched goes with its context, and the program goes on in another. One that has nothing goes before.
static void gone(const char *how) {
    Handle exec = graph_on(state, hidden);
    if (!strcmp(how, "gone-released"))
        for (int i = 0; i < 3; i++) ok(CU(cuDevicePrimaryCtxRetain)(&context, 0));
    for (int i = 0; i < 4; i++) {
        mark("step"), run(exec);
        // The second device is only tried out, with memory that is never given back.
        Handle other;
        CUdeviceptr probe;
        ok(CU(cuDevicePrimaryCtxRetain)(&other, 1));
        ok(CU(cuCtxSetCurrent)(other));
        ok(CU2(cuMemAlloc)(&probe, 1 << 20));
        ok(CU(cuCtxSetCurrent)((Handle)0x77));
        if (!strcmp(how, "gone-destroyed")) {
            ok(CU2(cuCtxDestroy)((Handle)0x1230));
            ok(CU2(cuCtxDestroy)(other));
        } else {
            ok(CU2(cuDevicePrimaryCtxRelease)(1));
            ok(CU2(cuDevicePrimaryCtxReset)(1));
        }
        if (!strcmp(how, "gone-released") && i < 2) ok(CU2(cuDevicePrimaryCtxRelease)(0));
    }
    if (!strcmp(how, "gone-reset")) ok(CU2(cuDevicePrimaryCtxReset)(0));
    if (!strcmp(how, "gone-destroyed")) ok(CU2(cuCtxDestroy)((Handle)0x77));
    if (!strcmp(how, "gone-released")) ok(CU2(cuDevicePrimaryCtxRelease)(0));
    ok(CU2(cuMemAlloc)(&hidden, (size_t)4 << 20));
    ok(CU2(cuMemAlloc)(&state, (size_t)4 << 20));
    exec = graph_on(state, hidden);
    for (int i = 0; i < 50; i++) mark("after"), run(exec);
}

// A device without memory to spare for a while.
static void full(int steps) {
    Handle exec = graph_on(state, hidden);
    if (watch("hidden", hidden, BYTES)) die("not watched");
    refuse("cuMemAlloc", 1 << 30);
    for (int i = 0; i < steps; i++) mark("full"), run(exec);
    size_t (*pinned)(void) = (size_t (*)(void))dlsym(cuda, "stubPinned");
    if (pinned() > 256 << 20) die("each look pinned more memory of the host");
    refuse("cuMemAlloc", 0);
    for (int i = 0; i < 2; i++) mark("room"), run(exec);
}
