// A small decode loop on the CUDA driver, in several forms. What it computes goes to standard output.
//
//   engine ROUTE SCENARIO STEPS
//
// ROUTE: dlsym | proc | proc-old | thread (per-thread default streams); a build with -DLINKED also has `linked`.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int CUresult;
typedef uint64_t CUdeviceptr;
typedef void *Handle;

#define FUNCTIONS(f) \
    f(cuInit, cuInit, (unsigned)) \
    f(cuModuleLoadData, cuModuleLoadData, (Handle *, const void *)) \
    f(cuModuleGetFunction, cuModuleGetFunction, (Handle *, Handle, const char *)) \
    f(cuMemAlloc, cuMemAlloc_v2, (CUdeviceptr *, size_t)) \
    f(cuMemFree, cuMemFree_v2, (CUdeviceptr)) \
    f(cuMemAllocAsync, cuMemAllocAsync, (CUdeviceptr *, size_t, Handle)) \
    f(cuMemFreeAsync, cuMemFreeAsync, (CUdeviceptr, Handle)) \
    f(cuMemAddressReserve, cuMemAddressReserve, (CUdeviceptr *, size_t, size_t, CUdeviceptr, uint64_t)) \
    f(cuMemAddressFree, cuMemAddressFree, (CUdeviceptr, size_t)) \
    f(cuMemCreate, cuMemCreate, (uint64_t *, size_t, const void *, uint64_t)) \
    f(cuMemRelease, cuMemRelease, (uint64_t)) \
    f(cuMemMap, cuMemMap, (CUdeviceptr, size_t, size_t, uint64_t, uint64_t)) \
    f(cuMemSetAccess, cuMemSetAccess, (CUdeviceptr, size_t, const void *, size_t)) \
    f(cuMemUnmap, cuMemUnmap, (CUdeviceptr, size_t)) \
    f(cuMemcpyHtoD, cuMemcpyHtoD_v2, (CUdeviceptr, const void *, size_t)) \
    f(cuMemcpyDtoH, cuMemcpyDtoH_v2, (void *, CUdeviceptr, size_t)) \
    f(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2, (CUdeviceptr, const void *, size_t, Handle)) \
    f(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2, (void *, CUdeviceptr, size_t, Handle)) \
    f(cuMemsetD8Async, cuMemsetD8Async, (CUdeviceptr, uint8_t, size_t, Handle)) \
    f(cuStreamCreate, cuStreamCreate, (Handle *, unsigned)) \
    f(cuStreamSynchronize, cuStreamSynchronize, (Handle)) \
    f(cuEventCreate, cuEventCreate, (Handle *, unsigned)) \
    f(cuEventRecord, cuEventRecord, (Handle, Handle)) \
    f(cuStreamWaitEvent, cuStreamWaitEvent, (Handle, Handle, unsigned)) \
    f(cuStreamBeginCapture, cuStreamBeginCapture_v2, (Handle, int)) \
    f(cuStreamEndCapture, cuStreamEndCapture, (Handle, Handle *)) \
    f(cuGraphInstantiateWithFlags, cuGraphInstantiateWithFlags, (Handle *, Handle, uint64_t)) \
    f(cuGraphLaunch, cuGraphLaunch, (Handle, Handle)) \
    f(cuGraphExecDestroy, cuGraphExecDestroy, (Handle)) \
    f(cuGraphDestroy, cuGraphDestroy, (Handle)) \
    f(cuLaunchKernel, cuLaunchKernel, (Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, \
                                       Handle, void **, void **))

#define DECLARE(name, symbol, arguments) static CUresult (*name##_) arguments;
FUNCTIONS(DECLARE)
#ifdef LINKED
#define EXTERN(name, symbol, arguments) extern CUresult symbol arguments;
FUNCTIONS(EXTERN)
#endif

static void die(const char *what) {
    fprintf(stderr, "engine: %s\n", what);
    exit(3);
}
static void ok(CUresult result) {
    if (result) {
        fprintf(stderr, "engine: CUDA error %d\n", result);
        exit(3);
    }
}

static void load(const char *route) {
#ifdef LINKED
    if (!strcmp(route, "linked")) {
#define LINK(name, symbol, arguments) name##_ = symbol;
        FUNCTIONS(LINK)
        return;
    }
#endif
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
    if (!cuda) die("no libcuda");
    if (!strcmp(route, "dlsym")) {
#define FIND(name, symbol, arguments) *(void **)&name##_ = dlsym(cuda, #symbol);
        FUNCTIONS(FIND)
        return;
    }
    uint64_t flags = !strcmp(route, "thread") ? 2 : 0;
    if (!strcmp(route, "proc-old")) {
        CUresult (*get)(const char *, void **, int, uint64_t) = 0;
        *(void **)&get = dlsym(cuda, "cuGetProcAddress");
#define GET(name, symbol, arguments) ok(get(#name, (void **)&name##_, 12040, flags));
        FUNCTIONS(GET)
        return;
    }
    // As the CUDA runtime does it: everything through a cuGetProcAddress that gave itself.
    CUresult (*first)(const char *, void **, int, uint64_t, int *) = 0, (*get)(const char *, void **, int, uint64_t, int *) = 0;
    *(void **)&first = dlsym(cuda, "cuGetProcAddress_v2");
    if (!first) die("no cuGetProcAddress_v2");
    ok(first("cuGetProcAddress", (void **)&get, 12040, flags, 0));
#define GET2(name, symbol, arguments) ok(get(#name, (void **)&name##_, 12040, flags, 0));
    FUNCTIONS(GET2)
}

// The recorder's interface, where it is in the process.
static int (*twinstep_watch)(const char *, uint64_t, const char *, uint32_t, const uint64_t *, const char *);
static int (*twinstep_request)(const char *, const uint32_t *, uint64_t);
static int (*twinstep_step)(uint32_t);
static int (*twinstep_warmup)(uint32_t, const char *);
static int (*twinstep_launch_begin)(const char *, uint64_t);
static int (*twinstep_launch_end)(const char *, uint64_t);
static int (*twinstep_mark)(const char *);
static int (*twinstep_note)(const char *, const char *);
static int (*twinstep_freed)(const char *);
static const char *(*twinstep_last_error)(void);
static void find_api(void) {
#define API(name) *(void **)&name = dlsym(RTLD_DEFAULT, #name);
    API(twinstep_watch) API(twinstep_request) API(twinstep_step) API(twinstep_warmup) API(twinstep_launch_begin)
    API(twinstep_launch_end) API(twinstep_mark) API(twinstep_note) API(twinstep_freed) API(twinstep_last_error)
}
#define TELL(call) do { if (twinstep_##call) printf("told\n"); } while (0)

enum { ROWS = 4, WIDTH = 32 };
static Handle stream, embed, step, sample;
static CUdeviceptr codes, hidden, state;

static void set_up(void) {
    ok(cuInit_(0));
    Handle module;
    ok(cuModuleLoadData_(&module, "stub"));
    ok(cuModuleGetFunction_(&embed, module, "_Z12embed_kernelPKlPfii"));
    ok(cuModuleGetFunction_(&step, module, "_Z11step_kernelPfPKfi"));
    ok(cuModuleGetFunction_(&sample, module, "_Z13sample_kernelPKfPlii"));
    ok(cuStreamCreate_(&stream, 1));
    ok(cuMemAlloc_(&codes, ROWS * 8));
    ok(cuMemAlloc_(&hidden, ROWS * WIDTH * 4));
    ok(cuMemAlloc_(&state, ROWS * WIDTH * 4));
    int64_t first[ROWS] = {11, 22, 33, 44};
    ok(cuMemcpyHtoD_(codes, first, sizeof first));
    ok(cuMemsetD8Async_(state, 0, ROWS * WIDTH * 4, stream));
    ok(cuMemsetD8Async_(hidden, 0, ROWS * WIDTH * 4, stream));
}

static void launch(Handle kernel, Handle on, void **params) {
    ok(cuLaunchKernel_(kernel, 1, 1, 1, 32, 1, 1, 0, on, params, 0));
}

static void forward(Handle on) {
    int rows = ROWS, width = WIDTH, n = ROWS * WIDTH;
    launch(embed, on, (void *[]){&codes, &hidden, &rows, &width});
    launch(step, on, (void *[]){&state, &hidden, &n});
    launch(sample, on, (void *[]){&state, &codes, &rows, &width});
}

static Handle captured(void (*what)(Handle), Handle on) {
    Handle graph, exec;
    ok(cuStreamBeginCapture_(on, 0));
    what(on);
    ok(cuStreamEndCapture_(on, &graph));
    ok(cuGraphInstantiateWithFlags_(&exec, graph, 0));
    ok(cuGraphDestroy_(graph));
    return exec;
}

static void emit(void) {
    int64_t now[ROWS];
    ok(cuMemcpyDtoHAsync_(now, codes, sizeof now, stream));
    ok(cuStreamSynchronize_(stream));
    printf("%ld %ld %ld %ld\n", (long)now[0], (long)now[1], (long)now[2], (long)now[3]);
    fflush(stdout);
}

static void loop(Handle exec, int from, int to) {
    for (int i = from; i < to; i++) {
        ok(cuGraphLaunch_(exec, stream));
        emit();
    }
}

static void half_embed(Handle on) {
    int rows = ROWS, width = WIDTH;
    launch(embed, on, (void *[]){&codes, &hidden, &rows, &width});
}
static void half_step(Handle on) {
    int rows = ROWS, width = WIDTH, n = ROWS * WIDTH;
    launch(step, on, (void *[]){&state, &hidden, &n});
    launch(sample, on, (void *[]){&state, &codes, &rows, &width});
}

static void told(int steps) {
    uint64_t rows[1] = {ROWS}, both[2] = {ROWS, WIDTH};
    uint32_t prompt[3] = {5, 6, 7};
    Handle exec;
    find_api();
    if (!twinstep_watch) {
        exec = captured(forward, stream);
        for (int i = 0; i < 2; i++) ok(cuGraphLaunch_(exec, stream));
        for (int r = 0; r < 2; r++) {
            forward(stream);
            emit();
            loop(exec, 1, steps);
        }
        return;
    }
    twinstep_note("model", "toy");
    twinstep_note("mode", "piecewise");
    twinstep_warmup(1, "two dry runs");
    exec = captured(forward, stream);
    for (int i = 0; i < 2; i++) ok(cuGraphLaunch_(exec, stream));
    twinstep_warmup(0, 0);
    if (twinstep_watch("last_codes", codes, "i64", 1, rows, "state")) die(twinstep_last_error());
    if (twinstep_watch("hidden", hidden, "f32", 2, both, "scratch")) die(twinstep_last_error());
    if (!twinstep_watch("nowhere", 8, "f32", 1, rows, "state") || !strstr(twinstep_last_error(), "nowhere")) die("memory that is not there was accepted");
    if (!twinstep_watch("odd", hidden, "f8", 1, rows, "state")) die("an odd type was accepted");
    for (int r = 0; r < 2; r++) {
        twinstep_request(r ? "second" : "first", prompt, 3);
        twinstep_launch_begin("forward", (uint64_t)(uintptr_t)stream);
        forward(stream);
        twinstep_launch_end("forward", (uint64_t)(uintptr_t)stream);
        emit();
        twinstep_step(0);
        for (int i = 1; i < steps; i++) {
            twinstep_launch_begin("forward", (uint64_t)(uintptr_t)stream);
            ok(cuGraphLaunch_(exec, stream));
            twinstep_launch_end("forward", (uint64_t)(uintptr_t)stream);
            emit();
            twinstep_step(0);
        }
    }
    twinstep_mark("all told");
}

static void *outlive(void *nothing) {
    // By now the main thread has left.
    usleep(50000);
    printf("still here\n");
    return nothing;
}

static void *launch_once(void *exec) {
    // On the thread's own default stream, which ends with it.
    ok(cuGraphLaunch_(exec, 0));
    ok(cuStreamSynchronize_((Handle)2));
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) die("engine ROUTE SCENARIO STEPS");
    const char *scenario = argv[2];
    int steps = atoi(argv[3]);
    if (!strcmp(scenario, "no-cuda")) {
        printf("nothing here\n");
        return 7;
    }
    if (!strcmp(scenario, "children")) {
        // Two ranks, each its own process, started as launchers do: fork, then exec with a rank.
        for (int r = 0; r < 2; r++)
            if (!fork()) {
                char rank[8];
                snprintf(rank, sizeof rank, "%d", r);
                setenv("RANK", rank, 1);
                execl("/proc/self/exe", argv[0], argv[1], "loop", argv[3], (char *)0);
                _exit(9);
            }
        int status, failed = 0;
        while (wait(&status) > 0) failed |= status;
        return failed != 0;
    }
    if (!strcmp(scenario, "fork-first")) {
        // The child initialises CUDA by itself, and so does the parent.
        pid_t child = fork();
        load(argv[1]);
        set_up();
        loop(captured(forward, stream), 0, steps);
        if (child) waitpid(child, 0, 0);
        return 0;
    }
    load(argv[1]);
    if (!strcmp(scenario, "looks")) {
        // What compilers do: they ask which device there is.
        Handle module;
        ok(cuInit_(0));
        ok(cuModuleLoadData_(&module, "stub"));
        return 0;
    }
    if (!strcmp(scenario, "main-leaves")) {
        // A process that stays although all of its threads have gone takes no signal but this one.
        pid_t parent = getpid();
        if (!fork()) {
            for (int file = 0; file < 3; file++) close(file);
            for (int i = 0; i < 20 && getppid() == parent; i++) sleep(1);
            if (getppid() == parent) kill(parent, SIGKILL);
            _exit(0);
        }
        // Before there is a stream: the stub's have threads of their own, which would keep the process alive.
        ok(cuInit_(0));
        pthread_t thread;
        if (pthread_create(&thread, 0, outlive, 0)) die("no thread");
        pthread_exit(0);
    }
    set_up();
    if (!strcmp(scenario, "helper")) {
        // A process that only looks at the driver ends before this one has launched anything.
        usleep(50000);
        if (!fork()) {
            execl("/proc/self/exe", argv[0], argv[1], "looks", argv[3], (char *)0);
            _exit(9);
        }
        int status;
        wait(&status);
        loop(captured(forward, stream), 0, steps);
        return status != 0;
    }
    if (!strcmp(scenario, "told")) {
        told(steps);
        return 0;
    }
    if (!strcmp(scenario, "streams")) {
        Handle other, ready;
        ok(cuStreamCreate_(&other, 1));
        ok(cuEventCreate_(&ready, 0));
        Handle first = captured(half_embed, stream), second = captured(half_step, other);
        for (int i = 0; i < steps; i++) {
            ok(cuGraphLaunch_(first, stream));
            ok(cuEventRecord_(ready, stream));
            ok(cuStreamWaitEvent_(other, ready, 0));
            ok(cuGraphLaunch_(second, other));
            ok(cuEventRecord_(ready, other));
            ok(cuStreamWaitEvent_(stream, ready, 0));
            emit();
        }
        return 0;
    }
    if (!strcmp(scenario, "memory")) {
        // Memory given back and taken again, in all ways, while graphs come and go.
        for (int i = 0; i < steps; i++) {
            CUdeviceptr old = hidden;
            if (i % 3 == 0) {
                ok(cuMemAlloc_(&hidden, ROWS * WIDTH * 4));
            } else if (i % 3 == 1) {
                ok(cuMemAllocAsync_(&hidden, ROWS * WIDTH * 4, stream));
            } else {
                uint64_t handle;
                ok(cuMemAddressReserve_(&hidden, 1 << 21, 0, 0, 0));
                ok(cuMemCreate_(&handle, 1 << 21, 0, 0));
                ok(cuMemMap_(hidden, 1 << 21, 0, handle, 0));
                ok(cuMemSetAccess_(hidden, 1 << 21, 0, 0));
            }
            Handle exec = captured(forward, stream);
            loop(exec, 0, 2);
            ok(cuGraphExecDestroy_(exec));
            if (i > 0 && i % 3 == 0) {
                ok(cuStreamSynchronize_(stream));
                ok(cuMemUnmap_(old, 1 << 21));
                ok(cuMemAddressFree_(old, 1 << 21));
            } else if (i % 3 == 2) {
                ok(cuMemFreeAsync_(old, stream));
            } else {
                ok(cuMemFree_(old));
            }
        }
        return 0;
    }
    Handle exec = captured(forward, stream);
    if (!strcmp(scenario, "eager")) {
        for (int i = 0; i < steps; i++) {
            forward(stream);
            emit();
        }
        return 0;
    }
    if (!strcmp(scenario, "recapture")) {
        loop(exec, 0, steps / 2);
        ok(cuGraphExecDestroy_(exec));
        exec = captured(forward, stream);
        loop(exec, steps / 2, steps);
        return 0;
    }
    if (!strcmp(scenario, "fork")) {
        // Children of a process that records: one that ends itself, one that just returns.
        loop(exec, 0, steps / 2);
        for (int i = 0; i < 3; i++) {
            pid_t child = fork();
            if (!child) {
                if (i == 1) _exit(0);
                if (i == 2) {
                    // One that begins anew, quietly.
                    if (!freopen("/dev/null", "w", stdout)) _exit(9);
                    set_up();
                    loop(captured(forward, stream), 0, 2);
                }
                exit(0);
            }
            waitpid(child, 0, 0);
        }
        loop(exec, steps / 2, steps);
        return 0;
    }
    if (!strcmp(scenario, "threads")) {
        // More threads, one after another, than streams can be looked at at a time.
        int (*flush)(void) = 0;
        *(void **)&flush = dlsym(RTLD_DEFAULT, "twinstep_flush");
        for (int i = 0; i < steps; i++) {
            pthread_t thread;
            if (pthread_create(&thread, 0, launch_once, exec)) die("no thread");
            pthread_join(thread, 0);
            emit();
            if (flush) flush();
        }
        return 0;
    }
    if (!strcmp(scenario, "clone")) {
        // A child made by the system call itself: no handler of a fork runs. What it waits for it waits for no longer.
        loop(exec, 0, steps / 2);
        pid_t child = (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0l, 0l, 0l, 0l);
        if (!child) {
            alarm(2);
            exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        printf("child %d\n", status);
        loop(exec, steps / 2, steps);
        return 0;
    }
    if (!strcmp(scenario, "unload")) {
        // The driver unloads the library that it loaded.
        const char *library = getenv("CUDA_INJECTION64_PATH");
        loop(exec, 0, steps / 2);
        usleep(100000);
        void *again = library ? dlopen(library, RTLD_NOW | RTLD_NOLOAD) : 0;
        if (again) dlclose(again), dlclose(again);
        loop(exec, steps / 2, steps);
        return 0;
    }
    if (!strcmp(scenario, "feed")) {
        // The host writes an input before each step.
        for (int64_t i = 0; i < steps; i++) {
            int64_t input[ROWS] = {i, i + 1, i + 2, i + 3};
            ok(cuMemcpyHtoDAsync_(codes, input, sizeof input, stream));
            ok(cuGraphLaunch_(exec, stream));
            emit();
        }
        return 0;
    }
    if (!strcmp(scenario, "signal")) {
        loop(exec, 0, steps / 2);
        raise(SIGUSR2);
        loop(exec, steps / 2, steps);
        return 0;
    }
    loop(exec, 0, steps);
    // Programs live longer than the writer thread sleeps.
    if (scenario[0] == '_' || scenario[0] == 'a') usleep(100000);
    if (!strcmp(scenario, "_exit")) _exit(5);
    if (!strcmp(scenario, "abort")) abort();
    if (!strcmp(scenario, "kill")) {
        // The writer thread has had time for what is committed; it is killed in whatever it does.
        usleep(100000);
        ok(cuGraphLaunch_(exec, stream));
        raise(SIGKILL);
    }
    if (!strncmp(scenario, "idle", 4)) {
        // A program that waits for long, then goes on, or is killed while it waits.
        usleep(2600000);
        if (!strcmp(scenario, "idle-kill")) raise(SIGKILL);
        emit();
        loop(exec, 0, 3);
        return 0;
    }
    if (!strcmp(scenario, "forever")) for (;;) loop(exec, 0, 1);
    if (strcmp(scenario, "loop")) die("no such scenario");
    return 0;
}
