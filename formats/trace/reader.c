// SPDX-License-Identifier: MIT

#include "formats/trace/leb.h"
#include "formats/trace/order.h"
#include "formats/trace/v1.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// --- Errors.

static FSCOPE_PRINTF(5, 0) int fail(struct trace_reader *r, const struct trace_error *where,
                                    int code, enum trace_rule rule, const char *fmt, va_list args)
{
    struct trace_error *e = &r->error;
    if (e->code)
        return e->code; // the first one says what happened
    *e = *where;
    e->code = code;
    e->rule = rule;
    size_t n = 0;
    if (e->generation)
        n += (size_t)snprintf(e->text, sizeof e->text,
                              "generation %llu: ", (unsigned long long)e->generation);
    n += (size_t)snprintf(e->text + n, sizeof e->text - n,
                          "batch %llu: byte %llu: ", (unsigned long long)e->batch,
                          (unsigned long long)e->offset);
    if (e->thread != TRACE_NONE)
        n += (size_t)snprintf(e->text + n, sizeof e->text - n,
                              "thread %lld: ", (long long)e->thread);
    if (e->wire && trace_spec_of(e->wire)->name)
        n += (size_t)snprintf(e->text + n, sizeof e->text - n, "%s ", trace_spec_of(e->wire)->name);
    vsnprintf(e->text + n, sizeof e->text - n, fmt, args);
    return code;
}

int reader_fail(struct trace_reader *r, int code, enum trace_rule rule, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fail(r, &r->where, code, rule, fmt, args);
    va_end(args);
    return r->error.code;
}

int cursor_fail(struct trace_reader *r, const struct cursor *c, int code, enum trace_rule rule,
                const char *fmt, ...)
{
    struct trace_error where = {
        .generation = r->gen.number,
        .batch = c->batch,
        .offset = c->data_to_offset + (uintptr_t)c->event,
        .thread = c->thread->id,
        .wire = c->wire,
    };
    va_list args;
    va_start(args, fmt);
    fail(r, &where, code, rule, fmt, args);
    va_end(args);
    return r->error.code;
}

const struct trace_error *trace_reader_error(const struct trace_reader *r)
{
    return r->error.code ? &r->error : NULL;
}

const struct trace_error *trace_reader_damage(const struct trace_reader *r)
{
    return r->damage.code ? &r->damage : NULL;
}

uint32_t trace_reader_whole(const struct trace_reader *r, bool *rest)
{
    *rest = r->has_rest;
    return r->whole_count;
}

int trace_error_to(const struct trace_error *e, struct fscope_error *err)
{
    return error_set(err, e->code, e->offset, "%s", e->text);
}

// --- A thread's batches.

// Makes the next batch of the thread the current one. 1, 0: there is none, -errno.
static int cursor_batch(struct trace_reader *r, struct cursor *c)
{
    if (!c->next)
        return 0;
    const struct trace_batch *b = &r->gen.batches[c->next - 1];
    const unsigned char *data = b->data;
    if (!data && b->size_bytes) {
        if (c->buffer_bytes < b->size_bytes) {
            free(c->buffer);
            c->buffer_bytes = 0;
            c->buffer = malloc(b->size_bytes);
            if (!c->buffer)
                return cursor_fail(r, c, -ENOMEM, TRACE_RULE_SYSTEM, "out of memory");
            c->buffer_bytes = b->size_bytes;
        }
        int64_t n = input_read_at(&r->input, b->offset, c->buffer, b->size_bytes);
        if (n != b->size_bytes)
            return cursor_fail(r, c, n < 0 ? (int)n : -ENODATA, TRACE_RULE_SYSTEM, "%s",
                               n < 0 ? strerror((int)-n) : "the file has become shorter");
        data = c->buffer;
    }
    c->at = c->event = data;
    c->end = data + b->size_bytes;
    c->data_to_offset = b->offset - (uintptr_t)data;
    c->batch = b->number;
    c->batch_time = b->time;
    c->time_ns = 0;
    c->next = b->next;
    return 1;
}

int cursor_next(struct trace_reader *r, struct cursor *c)
{
    while (c->at == c->end) {
        int rc = cursor_batch(r, c);
        if (rc <= 0)
            return rc;
    }
    uint64_t ticks;
    c->event = c->at++;
    // Whatever cursor_batch freed, it has set c->at anew.
    c->wire = *c->event; // NOLINT(clang-analyzer-unix.Malloc)
    if (!r->permits[c->wire])
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_EVENT,
                           "byte 0x%02x is no event that may stand here in a go 1.%u trace",
                           c->wire, r->version);
    if (!leb_read(&c->at, c->end, &ticks))
        return order_bad_args(r, c);
    if (c->time_ns == 0)
        c->time_ns = ticks_to_ns(r->gen.ns_per_tick, c->batch_time);
    uint64_t step = (uint64_t)ticks_to_ns(r->gen.ns_per_tick, ticks);
    c->time_ns = (int64_t)((uint64_t)c->time_ns + step);
    return 1;
}

// --- Generations.

void reader_sync(struct trace_reader *r, int64_t time_ns)
{
    struct trace_event *ev = &r->ring[r->ring_count++];
    if (time_ns <= r->last_ns)
        time_ns = r->last_ns + 1;
    r->last_ns = time_ns;
    *ev = (struct trace_event){
        .time_ns = time_ns,
        .thread = TRACE_NONE,
        .proc = TRACE_NONE,
        .goroutine = TRACE_NONE,
        .thread_slot = TRACE_NO_SLOT,
        .proc_slot = TRACE_NO_SLOT,
        .goroutine_slot = TRACE_NO_SLOT,
        .offset = r->gen.number ? r->gen.offset : r->input.offset,
        .batch = r->batch_next,
        .kind = TRACE_SYNC,
    };
    ev->sync.generation = r->gen.number;
    ev->sync.number = ++r->sync_count;
    ev->sync.experimental_count = r->gen.number ? r->gen.experimental_count : 0;
}

void reader_sync_last(struct trace_reader *r)
{
    r->gen.number = 0;
    r->gen.clock.is_known = false;
    reader_sync(r, r->last_ns);
}

static int cursors_reserve(struct trace_reader *r, uint32_t count)
{
    if (count <= r->cursor_capacity)
        return 0;
    uint32_t capacity = r->cursor_capacity ? r->cursor_capacity : 16;
    while (capacity < count)
        capacity *= 2;
    uint64_t more = capacity - r->cursor_capacity;
    if (generation_charge(r, more * (sizeof *r->cursors + sizeof *r->frontier)))
        return r->error.code;
    struct cursor *cursors = realloc(r->cursors, capacity * sizeof *cursors);
    if (!cursors)
        return -ENOMEM;
    memset(cursors + r->cursor_capacity, 0, (capacity - r->cursor_capacity) * sizeof *cursors);
    r->cursors = cursors;
    r->cursor_capacity = capacity;
    struct frontier_item *frontier = realloc(r->frontier, capacity * sizeof *frontier);
    if (!frontier)
        return -ENOMEM;
    r->frontier = frontier;
    return 0;
}

static int generation_install(struct trace_reader *r)
{
    int code = cursors_reserve(r, r->gen.list_count);
    if (code)
        return r->error.code ? code : reader_fail(r, -ENOMEM, TRACE_RULE_SYSTEM, "out of memory");
    if (!r->generation_first)
        r->generation_first = r->gen.number;
    for (uint32_t i = 0; i < r->gen.list_count; i++) {
        struct cursor *c = &r->cursors[i];
        *c = (struct cursor){
            .thread = r->gen.lists[i].thread,
            .next = r->gen.lists[i].first,
            .buffer = c->buffer,
            .buffer_bytes = c->buffer_bytes,
        };
        int rc = cursor_next(r, c);
        if (rc < 0)
            return rc;
        if (rc)
            frontier_insert(r, c);
    }
    r->sample_at = 0;
    r->sample_ns = r->gen.sample_count ? r->gen.samples[0].time_ns : INT64_MAX;
    reader_sync(r, ticks_to_ns(r->gen.ns_per_tick, r->gen.time_min));
    return 0;
}

static int generation_next(struct trace_reader *r)
{
    if (r->sync_limit && r->sync_count + 1 >= r->sync_limit) {
        reader_sync_last(r);
        r->is_over = true;
        return 0;
    }
    if (r->gen.number && r->late.code)
        r->has_rest = true;
    else
        r->whole_count += r->gen.number != 0;
    int rc = generation_read(r);
    if (rc > 0)
        return generation_install(r);
    reader_sync_last(r);
    r->is_over = rc == 0;
    return rc;
}

// --- The order of events.

int sample_emit(struct trace_reader *r)
{
    const struct generation_sample *s = &r->gen.samples[r->sample_at++];
    r->sample_ns =
        r->sample_at < r->gen.sample_count ? r->gen.samples[r->sample_at].time_ns : INT64_MAX;
    uint32_t stack = id_find(&r->gen.stack_index, s->stack);
    if (!stack && s->stack && !reader_may_lack(r)) {
        r->where = (struct trace_error){.generation = r->gen.number,
                                        .batch = s->batch,
                                        .offset = s->offset,
                                        .thread = s->thread,
                                        .wire = TRACE_EV_CPU_SAMPLE};
        return reader_fail(r, -EINVAL, TRACE_RULE_ID, "names stack %llu, which is not there",
                           (unsigned long long)s->stack);
    }
    const struct state_thread *t = state_find_thread(&r->state, s->thread);
    const struct state_proc *p = state_find_proc(&r->state, (uint64_t)s->proc);
    const struct state_go *g = state_find_go(&r->state, (uint64_t)s->goroutine);
    int64_t time_ns = s->time_ns > r->last_ns ? s->time_ns : r->last_ns + 1;
    r->last_ns = time_ns;
    r->ring[r->ring_count++] = (struct trace_event){
        .time_ns = time_ns,
        .thread = s->thread,
        .proc = s->proc,
        .goroutine = s->goroutine,
        .thread_slot = t ? t->slot : TRACE_NO_SLOT,
        .proc_slot = p ? p->slot : TRACE_NO_SLOT,
        .goroutine_slot = g ? g->slot : TRACE_NO_SLOT,
        .offset = s->offset,
        .batch = s->batch,
        .stack = stack,
        .kind = TRACE_STACK_SAMPLE,
        .wire = TRACE_EV_CPU_SAMPLE,
    };
    return 1;
}

static int fill(struct trace_reader *r)
{
    if (r->version < 22)
        return v1_run(r);
    if (order_is_over(r))
        return generation_next(r);
    return order_run(r);
}

int trace_reader_next_many(struct trace_reader *r, const struct trace_event **events)
{
    if (r->ring_at == r->ring_count) {
        r->ring_at = r->ring_count = 0;
        if (!r->error.code && !r->is_over)
            fill(r); // an error waits until its events are taken
        if (r->error.code && !r->is_explained) {
            r->is_explained = true;
            generation_explain(r);
        }
        if (r->ring_count == 0)
            return r->error.code;
    }
    *events = r->ring + r->ring_at;
    int n = (int)(r->ring_count - r->ring_at);
    r->ring_at = r->ring_count;
    return n;
}

int trace_reader_next(struct trace_reader *r, const struct trace_event **event)
{
    if (__builtin_expect(r->ring_at == r->ring_count, 0)) {
        int n = trace_reader_next_many(r, event);
        if (n <= 0)
            return n;
        r->ring_at = 0;
    }
    *event = &r->ring[r->ring_at++];
    return 1;
}

// --- What events refer to.

struct trace_text trace_reader_string(const struct trace_reader *r, uint32_t id)
{
    uint32_t i = id & ~TRACE_ID_TRANSIENT;
    if (id & TRACE_ID_TRANSIENT)
        return i < r->gen.string_count
                   ? (struct trace_text){r->gen.strings[i].bytes, r->gen.strings[i].size_bytes}
                   : (struct trace_text){"", 0};
    if (id == 0 || id > r->intern.strings.count)
        return (struct trace_text){"", 0};
    const struct intern_item *item = &r->intern.strings.items[id - 1];
    return (struct trace_text){item->data, item->count};
}

uint32_t trace_reader_stack(const struct trace_reader *r, uint32_t id,
                            const struct trace_frame **frames)
{
    uint32_t i = id & ~TRACE_ID_TRANSIENT;
    *frames = NULL;
    if (id & TRACE_ID_TRANSIENT) {
        if (i >= r->gen.transient_count)
            return 0;
        *frames = r->gen.transient[i].frames;
        return r->gen.transient[i].count;
    }
    if (id == 0 || id > r->intern.stacks.count)
        return 0;
    *frames = r->intern.stacks.items[id - 1].data;
    return r->intern.stacks.items[id - 1].count;
}

uint32_t trace_reader_string_count(const struct trace_reader *r)
{
    return r->intern.strings.count;
}

uint32_t trace_reader_stack_count(const struct trace_reader *r)
{
    return r->intern.stacks.count;
}

uint32_t trace_reader_version(const struct trace_reader *r)
{
    return r->version;
}

uint64_t trace_reader_generation(const struct trace_reader *r)
{
    return r->gen.number;
}

struct trace_clock trace_reader_clock(const struct trace_reader *r)
{
    return r->gen.clock;
}

double trace_reader_ns_per_tick(const struct trace_reader *r)
{
    return r->gen.ns_per_tick;
}

uint64_t trace_reader_offset(const struct trace_reader *r)
{
    return r->input.offset;
}

bool trace_reader_experimental(const struct trace_reader *r, uint32_t i,
                               struct trace_experimental_batch *batch)
{
    if (!r->gen.number || i >= r->gen.experimental_count)
        return false;
    *batch = r->gen.experimental[i];
    return true;
}
