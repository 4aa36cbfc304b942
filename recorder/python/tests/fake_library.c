/* Stands for the library that `twinstep attach` preloads: the same calls, each written to a log. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef VERSION
#define VERSION 1
#endif

typedef struct { const char *name; const void *bytes; uint64_t length; } twinstep_patch;
typedef void (*twinstep_output)(void *, const char *, const void *, uint64_t, int, int);

static const char *error = "";

static FILE *out(void) {
    static FILE *file;
    if (!file) file = fopen(getenv("FAKE_LOG"), "a");
    return file;
}

static int line_end(void) {
    fputc('\n', out());
    return fflush(out());
}

#define LOG(...) (fprintf(out(), __VA_ARGS__), line_end())

/* Which names are watched; sets `name` to `now` and says what it was. */
static int watched(const char *name, int now) {
    static char names[64][64];
    int first = -1;
    for (int i = 0; i < 64; i++) {
        if (!names[i][0]) first = first < 0 ? i : first;
        else if (!strcmp(names[i], name)) {
            if (!now) names[i][0] = 0;
            return 1;
        }
    }
    if (now && first >= 0) snprintf(names[first], sizeof names[first], "%s", name);
    return 0;
}

static int known(const char *name) {
    error = "nothing is watched under this name";
    return watched(name, 0) ? 0 : -1;
}

uint32_t twinstep_attach_version(void) { return VERSION; }
const char *twinstep_last_error(void) { return error; }

int twinstep_watch(const char *name, uint64_t address, const char *dtype, uint32_t axes, const uint64_t *shape, const char *role) {
    if (!strcmp(name, "unknown")) {
        error = "no allocation at this address";
        return -1;
    }
    if (!strncmp(name, "host", 4)) {
        error = "no 24 bytes of device memory are known at 0x7f0000000000";
        return -1;
    }
    watched(name, 1);
    char text[256] = "";
    for (uint32_t i = 0; i < axes; i++) snprintf(text + strlen(text), sizeof text - strlen(text), "%s%" PRIu64, i ? "x" : "", shape[i]);
    return LOG("watch %s %" PRIu64 " %s %s %s", name, address, dtype, text, role);
}
int twinstep_unwatch(const char *name) { return known(name) ? -1 : LOG("unwatch %s", name); }
int twinstep_freed(const char *name) { return known(name) ? -1 : LOG("freed %s", name); }
int twinstep_request(const char *id, const uint32_t *prompt, uint64_t tokens) {
    return LOG("request %s %" PRIu64 " %u", id, tokens, tokens ? prompt[tokens - 1] : 0);
}
int twinstep_step(uint32_t kind) {
    if (getenv("FAKE_STOPPED")) {
        error = "nothing is recorded in this process (any more)";
        return -1;
    }
    return LOG("step %u", kind);
}
int twinstep_warmup(uint32_t on, const char *label) { return LOG("warmup %u %s", on, label); }
int twinstep_launch_begin(const char *name, uint64_t stream) { return LOG("begin %s %" PRIu64, name, stream); }
int twinstep_launch_end(const char *name, uint64_t stream) { return LOG("end %s %" PRIu64, name, stream); }
int twinstep_mark(const char *text) { return LOG("mark %s", text); }
int twinstep_note(const char *key, const char *value) { return LOG("note %s %s", key, value); }
int twinstep_flush(void) {
    error = "not everything has arrived from the device yet";
    LOG("flush");
    return getenv("FAKE_STOPPED") ? -1 : 0;
}

int twinstep_reexecute(uint32_t request, uint32_t step, uint32_t graph_launch, uint32_t stop_after,
                       const twinstep_patch *patches, uint64_t count, twinstep_output output, void *context) {
    LOG("reexecute %u %u %u %u %" PRIu64, request, step, graph_launch, stop_after, count);
    if (step == 99) {
        error = "step 99 is not recorded";
        return -1;
    }
    for (uint64_t i = 0; i < count; i++) output(context, patches[i].name, patches[i].bytes, patches[i].length, 1, 0);
    output(context, "cuda.0", "\1\2\3", 3, 0, 1);
    return 0;
}
