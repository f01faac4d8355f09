// SPDX-License-Identifier: MIT
//
// See written_trace.h.

#include "tests/unit/written_trace.h"

#include <stdlib.h>
#include <string.h>

static int take(void *context, const void *bytes, size_t n)
{
    struct written *m = context;
    m->bytes = realloc(m->bytes, m->size_bytes + n);
    assert_non_null(m->bytes);
    memcpy(m->bytes + m->size_bytes, bytes, n);
    m->size_bytes += n;
    return 0;
}

uint64_t written_text(struct written *m, const char *s)
{
    uint64_t id;
    assert_int_equal(trace_writer_string(m->w, s, strlen(s), &id), 0);
    return id;
}

// The stack "leaf" called by "root"; its pcs come from the names.
uint64_t written_stack(struct written *m, const char *leaf, const char *root)
{
    struct trace_writer_frame f[2] = {{.function = {leaf, (uint32_t)strlen(leaf)}, .line = 1},
                                      {.function = {root, (uint32_t)strlen(root)}, .line = 2}};
    for (int i = 0; i < 2; i++) {
        f[i].pc = 1;
        for (uint32_t k = 0; k < f[i].function.size_bytes; k++)
            f[i].pc = f[i].pc * 131 + (uint64_t)f[i].function.bytes[k];
    }
    uint64_t id;
    assert_int_equal(trace_writer_stack(m->w, f, 2, &id), 0);
    return id;
}

void written_say(struct written *m, int proc, uint8_t wire, uint64_t at, uint64_t a, uint64_t b,
                 uint64_t c, uint64_t d)
{
    const uint64_t args[] = {a, b, c, d};
    assert_int_equal(trace_writer_event(m->w, 10 + proc, wire, at, args), 0);
}

// Proc 0 runs fiber 1 (main), Proc 1 nothing, fiber 2 (worker) waits.
void written_begin(struct written *m)
{
    const struct trace_writer_options o = {.size = sizeof o, .version = 23};
    *m = (struct written){0};
    assert_int_equal(trace_writer_open_callback(&m->w, take, m, &o), 0);
    assert_int_equal(trace_writer_begin(m->w, 1), 0);
    for (uint64_t p = 0; p < 2; p++)
        written_say(m, (int)p, TRACE_EV_PROC_STATUS, WRITTEN_START_NS, p, TRACE_PROC_STATUS_RUNNING,
                    0, 0);
    written_say(m, 0, TRACE_EV_GO_STATUS_STACK, WRITTEN_START_NS, 1, 10, TRACE_GO_STATUS_RUNNING,
                written_stack(m, "main", "main"));
    written_say(m, 0, TRACE_EV_PROCS_CHANGE, WRITTEN_START_NS, 2, 0, 0, 0);
    written_say(m, 1, TRACE_EV_GO_STATUS_STACK, WRITTEN_START_NS, 2, UINT64_MAX,
                TRACE_GO_STATUS_WAITING, written_stack(m, "wait", "worker"));
}

void written_start(struct written *m, int proc, uint64_t at, uint64_t fiber)
{
    written_say(m, proc, TRACE_EV_GO_START, at, fiber, ++m->seq[fiber], 0, 0);
}

void written_wake(struct written *m, int proc, uint64_t at, uint64_t fiber, uint64_t where)
{
    written_say(m, proc, TRACE_EV_GO_UNBLOCK, at, fiber, ++m->seq[fiber], where, 0);
}

void written_block(struct written *m, int proc, uint64_t at, const char *reason, uint64_t where)
{
    written_say(m, proc, TRACE_EV_GO_BLOCK, at, written_text(m, reason), where, 0, 0);
}

struct trace_reader *written_end(struct written *m)
{
    struct trace_reader *r;
    struct fscope_error err = {0};
    if (m->w) {
        assert_int_equal(trace_writer_end(m->w, NULL), 0);
        assert_int_equal(trace_writer_close(m->w), 0);
        m->w = NULL;
    }
    if (trace_reader_open_memory(&r, m->bytes, m->size_bytes, NULL, &err))
        fail_msg("%s", err.text);
    return r;
}

struct trace_spans *written_spans(struct written *m, const struct trace_spans_options *o)
{
    struct trace_reader *r = written_end(m);
    struct trace_spans *s;
    const struct trace_event *ev;
    int rc;
    assert_int_equal(trace_spans_new(&s, o), 0);
    while ((rc = trace_reader_next(r, &ev)) > 0)
        assert_int_equal(trace_spans_event(s, r, ev), 0);
    if (rc < 0)
        fail_msg("%s", trace_reader_error(r)->text);
    assert_int_equal(trace_spans_finish(s), 0);
    trace_reader_close(r); // spans outlive it
    return s;
}

void written_free(struct written *m)
{
    free(m->bytes);
    m->bytes = NULL;
}

void written_relay(struct written *m)
{
    uint64_t where = written_stack(m, "receive", "main"),
             asleep = written_stack(m, "sleep", "worker");
    uint64_t hand = written_stack(m, "send", "worker");
    written_say(m, 0, TRACE_EV_REGION_BEGIN, 1500, 0, written_text(m, "job"), where, 0);
    written_block(m, 0, 2000, "chan receive", where);
    written_wake(m, 0, 2500, 2, 0);
    written_start(m, 1, 3000, 2);
    written_block(m, 1, 4000, "sleep", asleep);
    written_wake(m, 1, 5000, 2, 0);
    written_start(m, 1, 5200, 2);
    written_wake(m, 1, 6000, 1, hand);
    written_start(m, 0, 6500, 1);
    written_block(m, 1, 7000, "sync", asleep);
    written_say(m, 0, TRACE_EV_REGION_END, 7500, 0, written_text(m, "job"), where, 0);
    written_say(m, 0, TRACE_EV_GO_STOP, 8000, written_text(m, "preempted"), where, 0, 0);
}
