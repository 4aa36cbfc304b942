// Of the engine `moves`: graphs changed in place.

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

// A graph updated in every step, as some engines do whether or not anything changed: always the same, in turn, or new.
static void update(const char *how, int steps) {
    Handle second = 0;
    if (!strcmp(how, "update-two")) {
        begin();
        launch(state, hidden, 2);
        second = instantiate(end());
    }
    ok(CU(cuMemsetD8Async)(hidden, 0x3f, (size_t)BYTES, stream));
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
        launch(state, hidden, second || !strcmp(how, "update-new") ? 4 + i : !strcmp(how, "update-turn") ? 4 + i % 2 : 4);
        Handle graph = end();
        uint64_t outcome[4] = {0};
        ok(CU2(cuGraphExecUpdate)(exec, graph, outcome));
        ok(CU(cuGraphDestroy)(graph));
        if (second) ok(CU(cuGraphLaunch)(second, stream));
        run(exec);
    }
}
