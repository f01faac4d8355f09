// SPDX-License-Identifier: MIT
//
// Any bytes, read as an execution trace: events that keep what formats/trace/trace.h promises, then
// the end or an error with a text. What trace_writer_put makes of a valid trace is valid. Read
// without the quick way through plain events it says the same. The first byte chooses options.

#include "formats/trace/reader.h"
#include "formats/trace/write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SLOTS = 4096 };

static void must(bool ok)
{
    if (!ok)
        abort();
}

struct bytes {
    const uint8_t *at;
    size_t left, step;
    uint8_t *out;
    size_t size, capacity;
};

static int64_t give(void *context, void *to, size_t n)
{
    struct bytes *b = context;
    n = n < b->step ? n : b->step;
    n = n < b->left ? n : b->left;
    memcpy(to, b->at, n);
    b->at += n;
    b->left -= n;
    return (int64_t)n;
}

static int take(void *context, const void *bytes, size_t n)
{
    struct bytes *b = context;
    if (b->size + n > b->capacity) {
        b->capacity = 2 * (b->size + n);
        b->out = realloc(b->out, b->capacity);
        must(b->out != NULL);
    }
    memcpy(b->out + b->size, bytes, n);
    b->size += n;
    return 0;
}

static void check_text(const struct trace_reader *r, uint32_t id)
{
    struct trace_text t = trace_reader_string(r, id);
    bool is_v1 = trace_reader_version(r) < 22;
    must(t.size_bytes <= (is_v1 ? TRACE_V1_STRING_BYTES_MAX : TRACE_STRING_BYTES_MAX));
    must((id == 0) == (t.size_bytes == 0));
    static volatile unsigned sum; // every byte is there
    for (uint32_t i = 0; i < t.size_bytes; i++)
        sum = sum + (unsigned char)t.bytes[i];
}

static void check_stack(const struct trace_reader *r, uint32_t id)
{
    const struct trace_frame *frames;
    uint32_t count = trace_reader_stack(r, id, &frames);
    bool is_v1 = trace_reader_version(r) < 22;
    must(count <= (is_v1 ? TRACE_V1_STACK_FRAMES_MAX : TRACE_STACK_FRAMES_MAX));
    for (uint32_t i = 0; i < count; i++) {
        check_text(r, frames[i].function);
        check_text(r, frames[i].file);
    }
}

// A resource goes on from where its last transition led; in format v1 Go's reader does not see to it.
static void check_transition(const struct trace_reader *r, const struct trace_event *e,
                             uint8_t states[2][SLOTS])
{
    uint8_t *last = &states[e->what == TRACE_RESOURCE_PROC][e->transition.slot % SLOTS];
    check_stack(r, e->transition.stack);
    check_text(r, e->transition.reason);
    must(e->transition.slot != TRACE_NO_SLOT);
    if (e->transition.slot < SLOTS && e->transition.from > 1 && trace_reader_version(r) >= 22)
        must(*last == e->transition.from);
    *last = e->transition.to;
}

static int check_all(struct trace_reader *r, struct trace_writer *w)
{
    static uint8_t states[2][SLOTS];
    const struct trace_event *e;
    int64_t last_ns = INT64_MIN;
    uint8_t last_kind = TRACE_SYNC;
    int rc;
    memset(states, 0, sizeof states);
    while ((rc = trace_reader_next(r, &e)) > 0) {
        must(e->time_ns > last_ns && e->kind && e->kind <= TRACE_EXPERIMENTAL);
        must(last_ns != INT64_MIN || e->kind == TRACE_SYNC);
        last_ns = e->time_ns;
        last_kind = e->kind;
        check_stack(r, e->stack);
        if (e->kind == TRACE_TRANSITION)
            check_transition(r, e, states);
        if (e->kind == TRACE_LOG)
            check_text(r, e->log.message);
        int put = w ? trace_writer_put(w, r, e) : 0;
        must(!w || trace_reader_version(r) >= 22 || put == -ENOTSUP);
    }
    must(rc != 0 || last_kind == TRACE_SYNC);
    must(rc == 0 || (trace_reader_error(r)->text[0] && trace_reader_error(r)->code == rc));
    return rc;
}

// Both ways through the orderer tell the same. The quick one does only transitions.
static void check_ways(const uint8_t *data, size_t size, const struct trace_reader_options *o)
{
    struct fscope_error err = {0};
    struct trace_reader *quick, *careful;
    const struct trace_event *a, *b;
    int rc;
    must(trace_reader_open_memory(&quick, data, size, o, &err) == 0);
    must(trace_reader_open_memory(&careful, data, size, o, &err) == 0);
    careful->is_careful = true;
    while ((rc = trace_reader_next(quick, &a)) > 0) {
        must(trace_reader_next(careful, &b) == rc);
        must(memcmp(a, b, offsetof(struct trace_event, transition)) == 0);
        if (a->kind != TRACE_TRANSITION)
            continue;
        must(a->transition.id == b->transition.id && a->transition.slot == b->transition.slot);
        must(a->transition.reason == b->transition.reason);
        must(a->transition.stack == b->transition.stack);
        must(a->transition.from == b->transition.from && a->transition.to == b->transition.to);
        must(a->transition.peer == b->transition.peer);
    }
    must(trace_reader_next(careful, &b) == rc);
    must(rc == 0 ||
         strcmp(trace_reader_error(quick)->text, trace_reader_error(careful)->text) == 0);
    trace_reader_close(quick);
    trace_reader_close(careful);
}

// Where every thread that cannot go on is put aside, events of one time may come in another order; that
// is not compared.
static void check_parked(const uint8_t *data, size_t size, const struct trace_reader_options *o)
{
    struct fscope_error err = {0};
    struct trace_reader *r;
    must(trace_reader_open_memory(&r, data, size, o, &err) == 0);
    r->tries = UINT64_MAX / 2;
    check_all(r, NULL);
    trace_reader_close(r);
}

// A range inside a trace, or what there is of one.
static void choose_range(const uint8_t *data, size_t size, const struct trace_reader_options *o,
                         struct trace_writer_options *wo)
{
    struct fscope_error err = {0};
    struct trace_reader *r;
    const struct trace_event *e;
    int64_t first_ns = INT64_MIN, last_ns = 0;
    must(trace_reader_open_memory(&r, data, size, o, &err) == 0);
    for (; trace_reader_next(r, &e) > 0; last_ns = e->time_ns)
        first_ns = first_ns == INT64_MIN ? e->time_ns : first_ns;
    trace_reader_close(r);
    if (last_ns <= first_ns || first_ns <= 0)
        return;
    wo->from_ns = first_ns + (last_ns - first_ns) / 4;
    wo->to_ns = last_ns - (last_ns - first_ns) / 3;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct trace_reader_options o = {
        .size = sizeof o,
        .salvage = data[0] & 1,
        .lenient = data[0] & 2,
        .intern_bytes_max = data[0] & 4 ? 64 : 0,
        .generation_bytes_max = 256 << 20,
        .state_bytes_max = 64 << 20,
    };
    struct bytes in = {.at = data + 1, .left = size - 1, .step = 1 + data[0] % 50}, out = {0};
    struct fscope_error err = {0};
    struct trace_reader *r;
    struct trace_writer *w = NULL;
    int rc = data[0] & 8 ? trace_reader_open_callback(&r, give, &in, &o, &err)
                         : trace_reader_open_memory(&r, data + 1, size - 1, &o, &err);
    if (rc) {
        must(!r && err.code == rc && err.text[0]);
        return 0;
    }
    struct trace_writer_options wo = {.size = sizeof wo, .version = 26, .generation_bytes = 1};
    if (!(data[0] & 8))
        check_ways(data + 1, size - 1, &o);
    if ((data[0] & 72) == 64)
        check_parked(data + 1, size - 1, &o);
    if ((data[0] & 48) == 48)
        choose_range(data + 1, size - 1, &o, &wo);
    if (data[0] & 16)
        must(trace_writer_open_callback(&w, take, &out, &wo) == 0);
    rc = check_all(r, w);
    int closed = trace_writer_close(w);
    trace_reader_close(r);
    if (w && rc == 0 && closed == 0 && !o.lenient) {
        must(trace_reader_open_memory(&r, out.out, out.size, NULL, &err) == 0);
        must(check_all(r, NULL) == 0);
        trace_reader_close(r);
    }
    free(out.out);
    return 0;
}
