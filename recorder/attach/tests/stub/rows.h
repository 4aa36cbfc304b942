// Of the stub driver: copies and fills in rows, between devices, in batches, to and from arrays; memory of other
// processes and of the host.

typedef struct {
    size_t sx, sy; unsigned stype; const void *shost; CUdeviceptr sdev; void *sarray; size_t spitch;
    size_t dx, dy; unsigned dtype; void *dhost; CUdeviceptr ddev; void *darray; size_t dpitch;
    size_t width, height;
} Copy2D;
typedef struct { unsigned type; CUdeviceptr at; size_t row, rows; int hint[2]; } Operand;
typedef struct { Operand src, dst; size_t width, height, depth; unsigned order, flags; } BatchOp;

// An array is host memory of the stub's own.
static Op rows_of_3d(const CopyParams *p) {
    const char *from = p->stype == 1 ? p->shost : p->stype == 3 ? p->sarray : (void *)p->sdev;
    char *to = p->dtype == 1 ? p->dhost : p->dtype == 3 ? p->darray : (void *)p->ddev;
    size_t splane = p->spitch * p->sheight, dplane = p->dpitch * p->dheight;
    return (Op){.kind = COPY, .bytes = p->width, .rows = p->height, .planes = p->depth,
                .from = from + p->sz * splane + p->sy * p->spitch + p->sx, .from_row = p->spitch, .from_plane = splane,
                .to = to + p->dz * dplane + p->dy * p->dpitch + p->dx, .to_row = p->dpitch, .to_plane = dplane};
}
static Op rows_of_2d(const Copy2D *p) {
    CopyParams all = {p->sx, p->sy, 0, 0, p->stype, p->shost, p->sdev, p->sarray, 0, p->spitch, 0,
                      p->dx, p->dy, 0, 0, p->dtype, p->dhost, p->ddev, p->darray, 0, p->dpitch, 0,
                      p->width, p->height, 1};
    return rows_of_3d(&all);
}
static CUresult now(Op op) {
    CUresult result = enqueue(NULL, op);
    if (result == OK) drain(NULL);
    return result;
}
EXPORT CUresult cuMemcpy2D_v2(const Copy2D *p) { return now(rows_of_2d(p)); }
EXPORT CUresult cuMemcpy2DUnaligned_v2(const Copy2D *p) { return now(rows_of_2d(p)); }
EXPORT CUresult cuMemcpy2DAsync_v2(const Copy2D *p, Stream *s) { return enqueue(s, rows_of_2d(p)); }
EXPORT CUresult cuMemcpy2DAsync_v2_ptsz(const Copy2D *p, Stream *s) { return enqueue(s ? s : (Stream *)2, rows_of_2d(p)); }
EXPORT CUresult cuMemcpy3D_v2(const CopyParams *p) { return now(rows_of_3d(p)); }
EXPORT CUresult cuMemcpy3DAsync_v2(const CopyParams *p, Stream *s) { return enqueue(s, rows_of_3d(p)); }
EXPORT CUresult cuMemcpy3DPeer(const CopyParams *p) { return now(rows_of_3d(p)); }
EXPORT CUresult cuMemcpy3DPeerAsync(const CopyParams *p, Stream *s) { return enqueue(s, rows_of_3d(p)); }
static Op line(void *to, const void *from, size_t bytes) { return (Op){.kind = COPY, .to = to, .from = from, .bytes = bytes}; }
EXPORT CUresult cuMemcpyPeer(CUdeviceptr to, void *a, CUdeviceptr from, void *b, size_t bytes) {
    (void)a, (void)b;
    return now(line((void *)to, (void *)from, bytes));
}
EXPORT CUresult cuMemcpyPeerAsync(CUdeviceptr to, void *a, CUdeviceptr from, void *b, size_t bytes, Stream *s) {
    (void)a, (void)b;
    return enqueue(s, line((void *)to, (void *)from, bytes));
}
EXPORT CUresult cuMemcpyDtoA_v2(char *to, size_t at, CUdeviceptr from, size_t n) { return now(line(to + at, (void *)from, n)); }
EXPORT CUresult cuMemcpyAtoD_v2(CUdeviceptr to, char *from, size_t at, size_t n) { return now(line((void *)to, from + at, n)); }
EXPORT CUresult cuMemcpyHtoA_v2(char *to, size_t at, const void *from, size_t n) { return now(line(to + at, from, n)); }
EXPORT CUresult cuMemcpyAtoH_v2(void *to, char *from, size_t at, size_t n) { return now(line(to, from + at, n)); }
EXPORT CUresult cuMemcpyAtoA_v2(char *to, size_t at, const char *from, size_t from_at, size_t n) { return now(line(to + at, from + from_at, n)); }
EXPORT CUresult cuMemcpyHtoAAsync_v2(char *to, size_t at, const void *from, size_t n, Stream *s) { return enqueue(s, line(to + at, from, n)); }
EXPORT CUresult cuMemcpyAtoHAsync_v2(void *to, const char *from, size_t at, size_t n, Stream *s) { return enqueue(s, line(to, from + at, n)); }
// A batch fails at its first copy of no bytes; those before it are made.
EXPORT CUresult cuMemcpyBatchAsync_v2(CUdeviceptr *to, CUdeviceptr *from, size_t *bytes, size_t count, void *attributes,
                                      size_t *indices, size_t attribute_count, Stream *s) {
    (void)attributes, (void)indices, (void)attribute_count;
    for (size_t i = 0; i < count; i++) {
        if (!bytes[i]) return INVALID_VALUE;
        CUresult result = enqueue(s, line((void *)to[i], (void *)from[i], bytes[i]));
        if (result) return result;
    }
    return OK;
}
EXPORT CUresult cuMemcpyBatchAsync(CUdeviceptr *to, CUdeviceptr *from, size_t *bytes, size_t count, void *attributes,
                                   size_t *indices, size_t attribute_count, size_t *failed, Stream *s) {
    *failed = (size_t)-1;
    return cuMemcpyBatchAsync_v2(to, from, bytes, count, attributes, indices, attribute_count, s);
}
EXPORT CUresult cuMemcpy3DBatchAsync_v2(size_t count, BatchOp *ops, unsigned long long flags, Stream *s) {
    (void)flags;
    for (size_t i = 0; i < count; i++) {
        BatchOp *b = &ops[i];
        size_t from = b->src.row ? b->src.row : b->width, to = b->dst.row ? b->dst.row : b->width;
        size_t from_rows = b->src.rows ? b->src.rows : b->height, to_rows = b->dst.rows ? b->dst.rows : b->height;
        enqueue(s, (Op){.kind = COPY, .bytes = b->width, .rows = b->height, .planes = b->depth, .from = (void *)b->src.at,
                        .from_row = from, .from_plane = from * from_rows, .to = (void *)b->dst.at, .to_row = to,
                        .to_plane = to * to_rows});
    }
    return OK;
}
EXPORT CUresult cuMemcpy3DBatchAsync(size_t count, BatchOp *ops, size_t *failed, unsigned long long flags, Stream *s) {
    *failed = (size_t)-1;
    return cuMemcpy3DBatchAsync_v2(count, ops, flags, s);
}
static Op rows_filled(CUdeviceptr to, size_t pitch, uint32_t value, uint32_t element, size_t width, size_t height) {
    return (Op){.kind = FILL, .to = (void *)to, .to_row = pitch, .value = value, .element = element,
                .bytes = width * element, .rows = height};
}
#define FILL_2D(bits, type) \
    EXPORT CUresult cuMemsetD2D##bits##_v2(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height) { \
        return now(rows_filled(to, pitch, value, bits / 8, width, height)); \
    } \
    EXPORT CUresult cuMemsetD2D##bits##Async(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height, \
                                             Stream *s) { \
        return enqueue(s, rows_filled(to, pitch, value, bits / 8, width, height)); \
    }
FILL_2D(8, uint8_t)
FILL_2D(16, uint16_t)
FILL_2D(32, uint32_t)

EXPORT CUresult cuStreamWriteValue64_v2(Stream *s, CUdeviceptr at, uint64_t value, unsigned flags) {
    (void)flags;
    enqueue(s, (Op){.kind = WRITE, .to = (void *)at, .value = (uint32_t)value});
    return enqueue(s, (Op){.kind = WRITE, .to = (void *)(at + 4), .value = (uint32_t)(value >> 32)});
}
typedef struct { unsigned kind; CUdeviceptr at; uint64_t value; uint64_t rest[3]; } Operation;
EXPORT CUresult cuStreamBatchMemOp_v2(Stream *s, unsigned count, Operation *all, unsigned flags) {
    for (unsigned i = 0; i < count; i++) {
        if (all[i].kind == 2) cuStreamWriteValue32_v2(s, all[i].at, (uint32_t)all[i].value, flags);
        if (all[i].kind == 5) cuStreamWriteValue64_v2(s, all[i].at, all[i].value, flags);
    }
    return OK;
}

// A handle holds how many bytes there are, and where they are once it was opened.
typedef struct { uint64_t bytes, at, count, rest[5]; } Handle64;
static Handle64 opened[4];
EXPORT CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *at, Handle64 handle, unsigned flags) {
    (void)flags;
    Handle64 *known = &opened[handle.bytes % 4];
    if (!known->count) {
        CUresult result = take(at, handle.bytes);
        if (result) return result;
        known->at = *at;
    }
    known->count++;
    *at = known->at;
    return OK;
}
EXPORT CUresult cuIpcGetMemHandle(Handle64 *handle, CUdeviceptr at) {
    *handle = (Handle64){.at = at};
    return OK;
}
EXPORT CUresult cuMemPoolExportPointer(void *data, CUdeviceptr at) { (void)data, (void)at; return OK; }
EXPORT CUresult cuIpcCloseMemHandle(CUdeviceptr at) {
    for (int i = 0; i < 4; i++)
        if (opened[i].count && opened[i].at == at) return --opened[i].count ? OK : (drain_all(), give(at));
    return INVALID_VALUE;
}
EXPORT CUresult cuMemPoolImportPointer(CUdeviceptr *at, void *pool, void *data) {
    (void)pool;
    return take(at, *(uint64_t *)data);
}
EXPORT CUresult cuMemAllocHost_v2(void **at, size_t bytes) { return cuMemHostAlloc(at, bytes, 0); }
// Bytes of the host that were pinned, and are never given back.
static size_t pinned;
EXPORT size_t stubPinned(void) { return pinned; }
EXPORT CUresult cuMemHostRegister_v2(void *at, size_t bytes, unsigned flags) {
    (void)flags;
    pinned += bytes;
    add((Block){(CUdeviceptr)(uintptr_t)at, bytes, -1, 1, NULL});
    return OK;
}
EXPORT CUresult cuMemHostUnregister(void *at) { return give((CUdeviceptr)(uintptr_t)at); }

#define ROWS_FUNCTIONS \
    {"cuMemcpy2D", 3020, 0, cuMemcpy2D_v2}, \
    {"cuMemcpy2DUnaligned", 3020, 0, cuMemcpy2DUnaligned_v2}, \
    {"cuMemcpy2DAsync", 3020, 1, cuMemcpy2DAsync_v2_ptsz}, \
    {"cuMemcpy2DAsync", 3020, 0, cuMemcpy2DAsync_v2}, \
    {"cuMemcpy3D", 3020, 0, cuMemcpy3D_v2}, \
    {"cuMemcpy3DAsync", 3020, 0, cuMemcpy3DAsync_v2}, \
    {"cuMemcpy3DPeer", 4000, 0, cuMemcpy3DPeer}, \
    {"cuMemcpy3DPeerAsync", 4000, 0, cuMemcpy3DPeerAsync}, \
    {"cuMemcpyPeer", 4000, 0, cuMemcpyPeer}, \
    {"cuMemcpyPeerAsync", 4000, 0, cuMemcpyPeerAsync}, \
    {"cuMemcpyDtoA", 3020, 0, cuMemcpyDtoA_v2}, \
    {"cuMemcpyAtoD", 3020, 0, cuMemcpyAtoD_v2}, \
    {"cuMemcpyHtoA", 3020, 0, cuMemcpyHtoA_v2}, \
    {"cuMemcpyAtoH", 3020, 0, cuMemcpyAtoH_v2}, \
    {"cuMemcpyAtoA", 3020, 0, cuMemcpyAtoA_v2}, \
    {"cuMemcpyHtoAAsync", 3020, 0, cuMemcpyHtoAAsync_v2}, \
    {"cuMemcpyAtoHAsync", 3020, 0, cuMemcpyAtoHAsync_v2}, \
    {"cuMemcpyBatchAsync", 13000, 0, cuMemcpyBatchAsync_v2}, \
    {"cuMemcpyBatchAsync", 12080, 0, cuMemcpyBatchAsync}, \
    {"cuMemcpy3DBatchAsync", 13000, 0, cuMemcpy3DBatchAsync_v2}, \
    {"cuMemcpy3DBatchAsync", 12080, 0, cuMemcpy3DBatchAsync}, \
    {"cuMemsetD2D8", 3020, 0, cuMemsetD2D8_v2}, \
    {"cuMemsetD2D16", 3020, 0, cuMemsetD2D16_v2}, \
    {"cuMemsetD2D32", 3020, 0, cuMemsetD2D32_v2}, \
    {"cuMemsetD2D8Async", 3020, 0, cuMemsetD2D8Async}, \
    {"cuMemsetD2D16Async", 3020, 0, cuMemsetD2D16Async}, \
    {"cuMemsetD2D32Async", 3020, 0, cuMemsetD2D32Async}, \
    {"cuStreamWriteValue32", 11070, 0, cuStreamWriteValue32_v2}, \
    {"cuStreamWriteValue64", 11070, 0, cuStreamWriteValue64_v2}, \
    {"cuStreamBatchMemOp", 11070, 0, cuStreamBatchMemOp_v2}, \
    {"cuIpcOpenMemHandle", 11000, 0, cuIpcOpenMemHandle_v2}, \
    {"cuIpcCloseMemHandle", 4010, 0, cuIpcCloseMemHandle}, \
    {"cuIpcGetMemHandle", 4010, 0, cuIpcGetMemHandle}, \
    {"cuMemPoolExportPointer", 11020, 0, cuMemPoolExportPointer}, \
    {"cuMemPoolImportPointer", 11020, 0, cuMemPoolImportPointer}, \
    {"cuMemHostAlloc", 2020, 0, cuMemHostAlloc}, \
    {"cuMemAllocHost", 3020, 0, cuMemAllocHost_v2}, \
    {"cuMemFreeHost", 2000, 0, cuMemFreeHost}, \
    {"cuMemHostRegister", 6050, 0, cuMemHostRegister_v2}, \
    {"cuMemHostUnregister", 4000, 0, cuMemHostUnregister},
