// Of the stub driver: memory, mapped and unmapped for real.

// Of memory that is only pinned the pages are the program's own.
typedef struct Block { CUdeviceptr at; size_t bytes; int device, pinned; struct Block *next; } Block;
static Block *blocks;

static size_t pages(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

static void add(Block block) {
    Block *b = malloc(sizeof *b);
    *b = block;
    pthread_mutex_lock(&table);
    b->next = blocks;
    blocks = b;
    pthread_mutex_unlock(&table);
}
static void drop(Block **b) {
    Block *gone = *b;
    *b = gone->next;
    if (!gone->pinned) munmap((void *)gone->at, pages(gone->bytes));
    free(gone);
}

static CUresult take_on(CUdeviceptr *address, size_t bytes, int device) {
    if (!initialised) return NOT_INITIALIZED;
    if (!bytes) return INVALID_VALUE;
    void *at = mmap(NULL, pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return OUT_OF_MEMORY;
    add((Block){(CUdeviceptr)at, bytes, device, 0, NULL});
    *address = (CUdeviceptr)at;
    return OK;
}

static CUresult take(CUdeviceptr *address, size_t bytes) { return take_on(address, bytes, device_now); }
// A function that nobody wraps. Device -1 is the host: all devices reach it.
EXPORT CUresult stubAlloc(CUdeviceptr *address, size_t bytes, int device) { return take_on(address, bytes, device); }

static CUresult give(CUdeviceptr address) {
    CUresult result = INVALID_VALUE;
    pthread_mutex_lock(&table);
    for (Block **b = &blocks; *b; b = &(*b)->next)
        if ((*b)->at == address) {
            drop(b);
            result = OK;
            break;
        }
    pthread_mutex_unlock(&table);
    return result;
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
    return refused("cuMemAlloc") ? OUT_OF_MEMORY : take(address, bytes);
}
EXPORT CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned flags) { (void)flags; return take(address, bytes); }
EXPORT CUresult cuMemFree_v2(CUdeviceptr address) { drain_all(); return give(address); }
EXPORT CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr address) {
    for (Block *b = blocks; b; b = b->next)
        if (address >= b->at && address < b->at + b->bytes) return *base = b->at, *size = b->bytes, OK;
    return NOT_FOUND;
}
// The device that has memory; what is nobody's own is on the one that asks.
static int device_with(CUdeviceptr address, int otherwise) {
    int device = otherwise;
    pthread_mutex_lock(&table);
    for (Block *b = blocks; b; b = b->next)
        if (address >= b->at && address < b->at + b->bytes && b->device >= 0) device = b->device;
    pthread_mutex_unlock(&table);
    return device;
}
EXPORT CUresult cuPointerGetAttribute(void *data, int attribute, CUdeviceptr address) {
    if (attribute == 9) return *(int *)data = device_with(address, device_now), OK;
    if (attribute == 2) return *(unsigned *)data = device_with(address, -1) < 0 ? 1 : 2, OK;
    return INVALID_VALUE;
}
static void give_later(void *address) { give((CUdeviceptr)(uintptr_t)address); }
EXPORT CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, Stream *s) { (void)s; return take(address, bytes); }
EXPORT CUresult cuMemFreeAsync(CUdeviceptr address, Stream *s) {
    return enqueue(s, (Op){.kind = HOST, .host = give_later, .data = (void *)(uintptr_t)address});
}
EXPORT CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
    (void)flags;
    CUdeviceptr at = 0;
    CUresult result = take_on(&at, bytes, -1);
    *address = (void *)(uintptr_t)at;
    return result;
}
EXPORT CUresult cuMemFreeHost(void *address) { return give((CUdeviceptr)(uintptr_t)address); }
// What a context has goes with it: all memory of its device; what was given of the host's is the first one's.
EXPORT CUresult cuDevicePrimaryCtxReset_v2(int device) {
    drain_all();
    pthread_mutex_lock(&table);
    for (Block **b = &blocks; *b;)
        if ((*b)->device == device || (!device && (*b)->device < 0)) drop(b); else b = &(*b)->next;
    pthread_mutex_unlock(&table);
    return OK;
}
static int retained[2];
EXPORT CUresult cuDevicePrimaryCtxRetain(void **context, int device) {
    retained[device]++;
    *context = (void *)(uintptr_t)(0x77 + device);
    return OK;
}
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(int device) { return --retained[device] ? OK : cuDevicePrimaryCtxReset_v2(device); }
EXPORT CUresult cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    *flags = 0;
    *active = retained[device] > 0;
    return OK;
}
EXPORT CUresult cuCtxDestroy_v2(void *context) { return context == (void *)0x77 ? cuDevicePrimaryCtxReset_v2(0) : OK; }
EXPORT CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device, void *host, unsigned flags) {
    (void)flags;
    *device = (CUdeviceptr)(uintptr_t)host;
    return OK;
}
// The virtual memory calls.
EXPORT CUresult cuMemAddressReserve(CUdeviceptr *at, size_t bytes, size_t align, CUdeviceptr wish, uint64_t flags) {
    (void)align, (void)wish, (void)flags;
    void *range = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *at = (CUdeviceptr)range;
    return range == MAP_FAILED ? OUT_OF_MEMORY : OK;
}
EXPORT CUresult cuMemAddressFree(CUdeviceptr at, size_t bytes) { return munmap((void *)at, bytes) ? INVALID_VALUE : OK; }
static uint64_t handles = 4;
static struct { uint64_t handle; CUdeviceptr at; } mapped[16];
EXPORT CUresult cuMemCreate(uint64_t *handle, size_t bytes, const void *prop, uint64_t flags) {
    (void)bytes, (void)prop, (void)flags;
    *handle = ++handles;
    return OK;
}
EXPORT CUresult cuMemRelease(uint64_t handle) { (void)handle; return OK; }
EXPORT CUresult cuMemImportFromShareableHandle(uint64_t *handle, void *from, int kind) {
    (void)from, (void)kind;
    *handle = ++handles;
    return OK;
}
EXPORT CUresult cuMemExportToShareableHandle(void *to, uint64_t handle, int kind, uint64_t flags) {
    (void)to, (void)handle, (void)kind, (void)flags;
    return OK;
}
EXPORT CUresult cuMemRetainAllocationHandle(uint64_t *handle, void *at) {
    for (int i = 0; i < 16; i++)
        if (mapped[i].at == (CUdeviceptr)(uintptr_t)at) return *handle = mapped[i].handle, OK;
    return INVALID_VALUE;
}
// What loads from memory of several devices at once read is undefined; here it ends the program.
static uint64_t multicast[2];
EXPORT CUresult cuMulticastCreate(uint64_t *handle, const void *prop) {
    (void)prop;
    *handle = multicast[0] = ++handles;
    return OK;
}
EXPORT CUresult cuMulticastAddDevice(uint64_t handle, int device) { (void)device; multicast[1] = handle; return OK; }
EXPORT CUresult cuMulticastBindMem(uint64_t to, size_t to_at, uint64_t handle, size_t at, size_t bytes, uint64_t flags) {
    (void)to, (void)to_at, (void)handle, (void)at, (void)bytes, (void)flags;
    return OK;
}
EXPORT CUresult cuMulticastBindAddr(uint64_t to, size_t to_at, CUdeviceptr at, size_t bytes, uint64_t flags) {
    (void)to, (void)to_at, (void)at, (void)bytes, (void)flags;
    return OK;
}
EXPORT CUresult cuMulticastBindMem_v2(uint64_t to, int device, size_t to_at, uint64_t handle, size_t at, size_t bytes,
                                      uint64_t flags) {
    return device ? INVALID_VALUE : cuMulticastBindMem(to, to_at, handle, at, bytes, flags);
}
EXPORT CUresult cuMulticastBindAddr_v2(uint64_t to, int device, size_t to_at, CUdeviceptr at, size_t bytes, uint64_t flags) {
    return device ? INVALID_VALUE : cuMulticastBindAddr(to, to_at, at, bytes, flags);
}
// A version of the function that is not in any header yet.
EXPORT CUresult cuMemRelease_v2(int newer, uint64_t handle) { (void)handle; return newer == 1 ? OK : INVALID_VALUE; }
EXPORT CUresult cuMemMap(CUdeviceptr at, size_t bytes, size_t offset, uint64_t handle, uint64_t flags) {
    (void)offset, (void)flags;
    mapped[handle % 16].handle = handle, mapped[handle % 16].at = at;
    if (handle == multicast[0] || handle == multicast[1]) return OK;
    return mprotect((void *)at, bytes, PROT_READ | PROT_WRITE) ? INVALID_VALUE : OK;
}
EXPORT CUresult cuMemSetAccess(CUdeviceptr at, size_t bytes, const void *desc, size_t count) {
    (void)at, (void)bytes, (void)desc, (void)count;
    return OK;
}
EXPORT CUresult cuMemUnmap(CUdeviceptr at, size_t bytes) {
    return mmap((void *)at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED;
}
