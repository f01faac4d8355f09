// SPDX-License-Identifier: MIT
//
// See trace_out.h.

#include "collector/trace_out.h"

#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int put_bytes(void *context, const void *bytes, size_t n)
{
    struct trace_bytes *b = context;
    if (n > b->capacity - b->size) {
        size_t capacity = b->capacity * 2 > b->size + n ? b->capacity * 2 : b->size + n + 4096;
        uint8_t *grown = realloc(b->data, capacity);
        if (!grown)
            return -ENOMEM;
        b->data = grown;
        b->capacity = capacity;
    }
    memcpy(b->data + b->size, bytes, n);
    b->size += n;
    return 0;
}

static int open_writer(struct trace_out *o)
{
    const struct trace_writer_options wo = {
        .size = sizeof wo, .version = o->version, .frequency = o->units_per_second};
    return trace_writer_open_callback(&o->writer, put_bytes, &o->made, &wo);
}

int trace_out_open(struct trace_out *o, int fd, uint32_t version, uint64_t units_per_second)
{
    *o = (struct trace_out){.fd = fd, .version = version, .units_per_second = units_per_second};
    int rc = open_writer(o);
    if (!rc)
        rc = put_bytes(&o->header, o->made.data, o->made.size);
    if (rc)
        trace_out_close(o);
    return rc;
}

void trace_out_close(struct trace_out *o)
{
    trace_writer_close(o->writer);
    free(o->header.data);
    free(o->made.data);
    free(o->before.data);
    *o = (struct trace_out){0};
}

int trace_out_begin(struct trace_out *o)
{
    return trace_writer_begin(o->writer, ++o->number);
}

int trace_out_end(struct trace_out *o, const struct trace_writer_clock *clock)
{
    return trace_writer_end(o->writer, clock);
}

int trace_out_write(struct trace_out *o)
{
    int rc = file_write_all(o->fd, o->made.data, o->made.size);
    if (rc) {
        // A pipe's reader has it already; a file loses what would be half a generation.
        o->is_broken = ftruncate(o->fd, (off_t)o->written) != 0 ||
                       lseek(o->fd, (off_t)o->written, SEEK_SET) < 0;
        return rc;
    }
    struct trace_bytes spare = o->before;
    bool has_header = o->written == 0;
    o->number_written = o->number;
    o->written += o->made.size;
    o->before = o->made;
    o->made = spare;
    o->made.size = 0;
    if (has_header) {
        o->before.size -= o->header.size;
        memmove(o->before.data, o->before.data + o->header.size, o->before.size);
    }
    return 0;
}

int trace_out_drop(struct trace_out *o)
{
    if (o->is_broken)
        return -EIO;
    if (o->number == o->number_written)
        return 0;
    trace_writer_close(o->writer);
    o->writer = NULL;
    o->made.size = 0;
    o->number = o->number_written;
    int rc = open_writer(o);
    if (o->written) // the file has its header
        o->made.size = 0;
    return rc;
}

// --- Checking: header, generation before, this one, as one trace.

struct parts {
    const struct trace_bytes *part[3];
    int at;
    size_t offset;
};

static int64_t read_parts(void *context, void *bytes, size_t n)
{
    struct parts *p = context;
    while (p->at < 3 && p->offset == p->part[p->at]->size) {
        p->at++;
        p->offset = 0;
    }
    if (p->at == 3)
        return 0;
    size_t left = p->part[p->at]->size - p->offset;
    n = n < left ? n : left;
    memcpy(bytes, p->part[p->at]->data + p->offset, n);
    p->offset += n;
    return (int64_t)n;
}

static const struct trace_bytes none;

int trace_out_check(struct trace_out *o, char *why, size_t size)
{
    struct parts p = {{o->written ? &o->header : &none, &o->before, &o->made}, 0, 0};
    struct trace_reader *r = NULL;
    struct fscope_error err = {0};
    const struct trace_event *events;
    int rc = trace_reader_open_callback(&r, read_parts, &p, NULL, &err);
    if (rc) {
        snprintf(why, size, "%s", err.text);
        return rc;
    }
    do
        rc = trace_reader_next_many(r, &events);
    while (rc > 0);
    if (rc)
        snprintf(why, size, "%s", trace_reader_error(r) ? trace_reader_error(r)->text : "");
    trace_reader_close(r);
    return rc;
}

// --- What is so at the end of the generation before.

struct resource {
    int64_t id, thread;
    uint8_t state, flags;
};

struct resources { // of one kind, by slot
    struct resource *items;
    uint32_t count;
};

static int note(struct resources *rs, const struct trace_event *ev)
{
    uint32_t slot = ev->transition.slot;
    if (slot == TRACE_NO_SLOT)
        return 0;
    if (slot >= rs->count) {
        uint32_t n = slot * 2 + 16;
        struct resource *grown = reallocarray(rs->items, n, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        memset(grown + rs->count, 0, (n - rs->count) * sizeof *grown);
        rs->items = grown;
        rs->count = n;
    }
    rs->items[slot] =
        (struct resource){ev->transition.id, ev->thread, ev->transition.to, ev->flags};
    return 0;
}

static int read_before(struct trace_out *o, struct resources *gos, struct resources *procs)
{
    struct parts p = {{&o->header, &o->before, &none}, 0, 0};
    struct trace_reader *r = NULL;
    struct fscope_error err = {0};
    const struct trace_event *ev;
    int got = 0, rc = trace_reader_open_callback(&r, read_parts, &p, NULL, &err);
    while (!rc && (got = trace_reader_next(r, &ev)) > 0) {
        if (ev->kind != TRACE_TRANSITION)
            continue;
        if (ev->what == TRACE_RESOURCE_GOROUTINE)
            rc = note(gos, ev);
        else if (ev->what == TRACE_RESOURCE_PROC)
            rc = note(procs, ev);
    }
    trace_reader_close(r);
    return rc ? rc : got;
}

// A goroutine that is on no thread, else a Proc.
static int say_one(struct trace_out *o, uint64_t units, const struct resources *gos,
                   const struct resources *procs)
{
    for (uint32_t i = 0; i < gos->count; i++) {
        const struct resource *g = &gos->items[i];
        if (g->state != TRACE_GO_WAITING && g->state != TRACE_GO_RUNNABLE)
            continue;
        bool waits = g->state == TRACE_GO_WAITING;
        const uint64_t args[] = {(uint64_t)g->id, UINT64_MAX,
                                 waits ? TRACE_GO_STATUS_WAITING : TRACE_GO_STATUS_RUNNABLE};
        return trace_writer_event(o->writer, TRACE_NONE, TRACE_EV_GO_STATUS, units, args);
    }
    for (uint32_t i = 0; i < procs->count; i++) {
        const struct resource *p = &procs->items[i];
        bool is_idle = p->state == TRACE_PROC_IDLE;
        if (p->flags & TRACE_FLAG_SYSCALL || (!is_idle && p->state != TRACE_PROC_RUNNING))
            continue;
        const uint64_t args[] = {(uint64_t)p->id,
                                 is_idle ? TRACE_PROC_STATUS_IDLE : TRACE_PROC_STATUS_RUNNING};
        return trace_writer_event(o->writer, is_idle ? TRACE_NONE : p->thread, TRACE_EV_PROC_STATUS,
                                  units, args);
    }
    return 0;
}

int trace_out_say_again(struct trace_out *o, uint64_t units)
{
    struct resources gos = {0}, procs = {0};
    int rc = read_before(o, &gos, &procs);
    if (!rc)
        rc = say_one(o, units, &gos, &procs);
    free(gos.items);
    free(procs.items);
    return rc == -ENOMEM ? rc : 0;
}
