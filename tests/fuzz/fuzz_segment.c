// SPDX-License-Identifier: MIT
//
// The consumer on arbitrary bytes: as a black box, a dump or a core file by content, and as a live
// segment by descriptor; streams, state, the order of locks, buffers of a trace. It must neither crash, nor hang, nor read outside.

#include "segment/consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct visit {
    struct seg_reader *r;
    uint64_t calls;
};

// Bounds the work on one input, as a caller with a limit would: files may claim many thousand records.
static int more(struct visit *v)
{
    return v->calls++ > 5000;
}

static int on_record(void *arg, const struct seg_record *rec)
{
    struct visit *v = arg;
    uint64_t pcs[SEG_STACK_DEPTH_MAX];
    uint32_t pairs[8][2], kind, epoch, flags;
    seg_reader_stack(v->r, rec->user_stack, pcs, SEG_STACK_DEPTH_MAX, &kind, &epoch, &flags);
    seg_reader_stack(v->r, rec->kernel_stack, pcs, 3, NULL, NULL, NULL);
    seg_reader_labels(v->r, rec->labels, pairs, 8);
    return more(v);
}

static int on_state(void *arg, const struct seg_state *e, uint32_t index)
{
    struct visit *v = arg;
    uint64_t pcs[4];
    struct seg_site site;
    seg_reader_site(v->r, index, &site);
    seg_reader_site(v->r, e->labels, &site);
    seg_reader_stack(v->r, e->user_stack, pcs, 4, NULL, NULL, NULL);
    return more(v);
}

static int on_module(void *arg, const struct seg_module *m, const char *path)
{
    (void)m;
    return more(arg) || path[0] == '\1';
}

static int on_thread(void *arg, const struct seg_thread *t)
{
    (void)t;
    return more(arg);
}

static int on_order_lock(void *arg, const struct seg_order_lock *l, uint32_t index)
{
    struct seg_order o;
    struct visit *v = arg;
    if (!l->address || l->address & SEG_ORDER_DEAD)
        abort();
    if (seg_reader_order(v->r, &o) || index >= o.lock_count)
        abort();
    return more(v);
}

static int on_order_edge(void *arg, const struct seg_order_edge *e)
{
    struct seg_order o;
    struct visit *v = arg;
    uint64_t pcs[4];
    if (seg_reader_order(v->r, &o) || e->from.index >= o.lock_count ||
        e->to.index >= o.lock_count || e->guard_count > SEG_ORDER_GUARDS)
        abort();
    seg_reader_stack(v->r, e->from_stack, pcs, 4, NULL, NULL, NULL);
    seg_reader_stack(v->r, e->to_stack, pcs, 4, NULL, NULL, NULL);
    return more(v);
}

// What is copied is as long as was said: `bytes` of a buffer are all there is room for.
static int on_trace_buffer(void *arg, const struct seg_trace_buffer *b, uint32_t index)
{
    struct seg_trace t;
    struct visit *v = arg;
    if (seg_reader_trace(v->r, &t) || index >= t.buffer_count || b->used > t.buffer_bytes)
        abort();
    void *bytes = malloc(b->used ? b->used : 1);
    if (!bytes)
        abort();
    seg_reader_trace_copy(v->r, index, b, bytes);
    seg_reader_trace_free(v->r, index);
    free(bytes);
    return more(v);
}

static void visit_order_and_trace(struct visit *v)
{
    struct seg_order o;
    struct seg_trace t;
    static const uint64_t limits[4] = {1, 2, 3, 4};
    seg_reader_order(v->r, &o);
    seg_reader_order_locks(v->r, on_order_lock, v);
    seg_reader_order_edges(v->r, on_order_edge, v);
    seg_reader_order_want(v->r, true);
    if (seg_reader_trace(v->r, &t))
        return;
    seg_reader_trace_hold(v->r, true);
    seg_reader_trace_buffers(v->r, on_trace_buffer, v);
    seg_reader_trace_hold(v->r, false);
    seg_reader_trace_limits(v->r, limits);
}

static void visit_all(struct seg_reader *r)
{
    struct visit v = {r, 0};
    struct seg_losses losses;
    char text[16];
    uint64_t damaged = 0;
    struct seg_heap heap;
    seg_reader_losses(r, &losses);
    seg_reader_heap(r, &heap);
    seg_reader_control_commit(r);
    for (int round = 0; round < 2; round++) {
        seg_reader_drain(r, on_record, &v, &damaged);
        seg_reader_modules(r, on_module, &v);
        seg_reader_threads(r, on_thread, &v);
        seg_reader_states(r, on_state, &v);
    }
    v.calls = 0;
    visit_order_and_trace(&v);
    for (uint32_t id = 0; id < 80; id++)
        seg_reader_string(r, id, text, sizeof text);
    seg_reader_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    struct seg_reader *r;
    struct fscope_error err;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (seg_reader_open_file(&r, path, &err) == 0)
        visit_all(r);
    if (seg_reader_open(&r, fd, &err) == 0) // takes fd
        visit_all(r);
    return 0;
}
