// Of the stub driver: nodes of instantiated graphs, changed in place.

typedef struct { int type, reserved[3]; union { KernelParams kernel; FillParams fill; Graph *child; char room[232];
    struct { int flags, reserved; void *context; CopyParams copy; } copy; } of; long long end; } NodeParams;

static Op *find(Graph *graph, Op *origin) {
    for (size_t i = 0; i < graph->count; i++) {
        Op *op = graph->nodes[i];
        if (op->origin == origin) return op;
        if (op->kind == GRAPH && (op = find(op->graph, origin))) return op;
    }
    return NULL;
}
// What a node does from here on; it stays the node that it is, on or off.
static CUresult become(Graph *exec, Op *origin, Op what) {
    Op *op = find(exec, origin);
    if (!op || op->kind != what.kind) return INVALID_VALUE;
    drain_all();
    what.origin = op->origin;
    what.off = op->off;
    *op = what;
    return OK;
}
static CUresult same_as(Graph *exec, Graph *graph) {
    if (exec->count != graph->count) return 910;
    for (size_t i = 0; i < exec->count; i++)
        if (exec->nodes[i]->kind != graph->nodes[i]->kind) return 910;
    drain_all();
    for (size_t i = 0; i < exec->count; i++) {
        Op *op = exec->nodes[i], *origin = op->origin;
        int off = op->off;
        if (op->kind == GRAPH) {
            CUresult result = same_as(op->graph, graph->nodes[i]->graph);
            if (result) return result;
            continue;
        }
        *op = *graph->nodes[i];
        op->origin = origin;
        op->off = off;
    }
    return OK;
}
EXPORT CUresult cuGraphExecUpdate_v2(Graph *exec, Graph *graph, void *result) {
    (void)result;
    return same_as(exec, graph);
}
EXPORT CUresult cuGraphExecUpdate(Graph *exec, Graph *graph, Op **node, int *result) {
    (void)node, (void)result;
    return same_as(exec, graph);
}
EXPORT CUresult cuGraphExecKernelNodeSetParams_v2(Graph *exec, Op *node, const KernelParams *p) {
    return become(exec, node, kernel_op(p->func, p->grid, p->block, p->shared, p->params));
}
EXPORT CUresult cuGraphExecKernelNodeSetParams(Graph *exec, Op *node, const KernelParams *p) {
    return cuGraphExecKernelNodeSetParams_v2(exec, node, p);
}
EXPORT CUresult cuGraphExecMemcpyNodeSetParams(Graph *exec, Op *node, const CopyParams *p, void *context) {
    (void)context;
    return become(exec, node, rows_of_3d(p));
}
EXPORT CUresult cuGraphExecMemsetNodeSetParams(Graph *exec, Op *node, const FillParams *p, void *context) {
    (void)context;
    return become(exec, node, rows_filled(p->dst, p->pitch, p->value, p->element, p->width, p->height));
}
EXPORT CUresult cuGraphExecChildGraphNodeSetParams(Graph *exec, Op *node, Graph *child) {
    Op *op = find(exec, node);
    return op && op->kind == GRAPH ? same_as(op->graph, child) : INVALID_VALUE;
}
EXPORT CUresult cuGraphExecNodeSetParams(Graph *exec, Op *node, NodeParams *p) {
    switch (p->type) {
    case NODE_KERNEL: return cuGraphExecKernelNodeSetParams_v2(exec, node, &p->of.kernel);
    case NODE_MEMCPY: return cuGraphExecMemcpyNodeSetParams(exec, node, &p->of.copy.copy, NULL);
    case NODE_MEMSET: return cuGraphExecMemsetNodeSetParams(exec, node, &p->of.fill, NULL);
    case 4: return cuGraphExecChildGraphNodeSetParams(exec, node, p->of.child);
    default: return NOT_SUPPORTED;
    }
}
EXPORT CUresult cuGraphNodeSetEnabled(Graph *exec, Op *node, unsigned on) {
    Op *op = find(exec, node);
    if (!op) return INVALID_VALUE;
    drain_all();
    op->off = !on;
    return OK;
}
EXPORT CUresult cuGraphCreate(Graph **graph, unsigned flags) { (void)flags; return *graph = calloc(1, sizeof(Graph)), OK; }
EXPORT CUresult cuGraphAddChildGraphNode(Op **out, Graph *graph, Op **before, size_t count, Graph *child) {
    (void)before, (void)count;
    Op *op = calloc(1, sizeof *op);
    op->kind = GRAPH;
    op->graph = calloc(1, sizeof(Graph));
    for (size_t i = 0; i < child->count; i++) node(op->graph, child->nodes[i]);
    node(graph, op);
    return *out = op, OK;
}
EXPORT CUresult cuGraphChildGraphNodeGetGraph(Op *op, Graph **child) { return *child = op->graph, OK; }

#define CHANGES_FUNCTIONS \
    {"cuGraphExecUpdate", 12000, 0, cuGraphExecUpdate_v2}, \
    {"cuGraphExecUpdate", 10020, 0, cuGraphExecUpdate}, \
    {"cuGraphExecKernelNodeSetParams", 12000, 0, cuGraphExecKernelNodeSetParams_v2}, \
    {"cuGraphExecKernelNodeSetParams", 10010, 0, cuGraphExecKernelNodeSetParams}, \
    {"cuGraphExecMemcpyNodeSetParams", 10020, 0, cuGraphExecMemcpyNodeSetParams}, \
    {"cuGraphExecMemsetNodeSetParams", 10020, 0, cuGraphExecMemsetNodeSetParams}, \
    {"cuGraphExecChildGraphNodeSetParams", 11010, 0, cuGraphExecChildGraphNodeSetParams}, \
    {"cuGraphExecNodeSetParams", 12020, 0, cuGraphExecNodeSetParams}, \
    {"cuGraphNodeSetEnabled", 11060, 0, cuGraphNodeSetEnabled}, \
    {"cuGraphCreate", 10000, 0, cuGraphCreate}, \
    {"cuGraphAddChildGraphNode", 10000, 0, cuGraphAddChildGraphNode}, \
    {"cuGraphChildGraphNodeGetGraph", 10000, 0, cuGraphChildGraphNodeGetGraph}, \
    {"cuGraphGetNodes", 10000, 0, cuGraphGetNodes},
