// SPDX-License-Identifier: MIT
//
// Events become slices, marks, arrows and counters. See export.h.

#include "formats/trace/export_sink.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL_MAX = 160, NAME_MAX_SHOWN = 200 };

struct open_slice { // a region or task
    struct open_slice *outer;
    uint64_t id; // of a task
    int64_t begin_ns;
    char name[NAME_MAX_SHOWN];
};

struct fiber { // by slot
    int64_t id, since_ns, proc;
    uint64_t flow;
    bool known, named;
    uint8_t state;
    char label[LABEL_MAX];
    char reason[64];
    struct open_slice *regions;
};

struct trace_export {
    struct export_out out;
    const struct export_sink *sink;
    struct trace_export_options options;
    struct fiber *fibers;
    uint32_t fiber_capacity;
    bool *procs; // by slot: its track is named
    uint32_t proc_capacity;
    struct open_slice *tasks;
    int64_t sync_ns, last_ns;
    bool started;
    uint64_t flow_last;
};

void export_flush(struct export_out *o)
{
    if (o->used && !o->rc)
        o->rc = o->write(o->context, o->bytes, o->used);
    o->used = 0;
}

void export_put(struct export_out *o, const void *bytes, size_t n)
{
    const char *from = bytes;
    while (n && !o->rc) {
        size_t room = sizeof o->bytes - o->used, k = n < room ? n : room;
        memcpy(o->bytes + o->used, from, k);
        o->used += k;
        from += k;
        n -= k;
        if (o->used == sizeof o->bytes)
            export_flush(o);
    }
}

int trace_export_open(struct trace_export **out, const struct trace_export_options *o,
                      trace_write_fn *write, void *context)
{
    struct trace_export *x = *out = calloc(1, sizeof *x);
    if (!x)
        return -ENOMEM;
    x->options = *o;
    if (!x->options.to_ns)
        x->options.to_ns = INT64_MAX;
    x->out.write = write;
    x->out.context = context;
    x->out.base_ns = o->base_ns;
    x->sink = o->format == TRACE_EXPORT_JSON ? &export_json : &export_perfetto;
    x->sink->begin(&x->out);
    return x->out.rc;
}

static void copy_text(char *to, size_t size, const struct trace_reader *r, uint32_t id)
{
    struct trace_text t = trace_reader_string(r, id);
    size_t n = t.size_bytes < size - 1 ? t.size_bytes : size - 1;
    // A character that does not fit whole is left out.
    while (n && n < t.size_bytes && ((unsigned char)t.bytes[n] & 0xc0) == 0x80)
        n--;
    memcpy(to, n ? t.bytes : "", n);
    to[n] = 0;
    for (size_t i = 0; i < n; i++)
        to[i] = to[i] ? to[i] : '?';
}

static bool inside(const struct trace_export *x, int64_t at_ns)
{
    return at_ns >= x->options.from_ns && at_ns <= x->options.to_ns;
}

static void slice(struct trace_export *x, struct export_track t, const char *name, int64_t begin_ns,
                  int64_t end_ns, uint64_t flow)
{
    bool cut = begin_ns < x->options.from_ns;
    begin_ns = cut ? x->options.from_ns : begin_ns;
    end_ns = end_ns < x->options.to_ns ? end_ns : x->options.to_ns;
    if (end_ns > begin_ns)
        x->sink->slice(&x->out, t, name, begin_ns, end_ns, cut ? 0 : flow);
}

static int reserve(void *array, uint32_t *capacity, uint32_t index, size_t size)
{
    char **items = array;
    if (index < *capacity)
        return 0;
    if (index >= UINT32_MAX / 2)
        return -ENOMEM;
    uint32_t more = 2 * index + 64;
    char *grown = realloc(*items, more * size);
    if (!grown)
        return -ENOMEM;
    memset(grown + *capacity * size, 0, (more - *capacity) * size);
    *items = grown;
    *capacity = more;
    return 0;
}

static struct export_track track_of(enum export_kind kind, int64_t id)
{
    return (struct export_track){kind, id};
}

static void state_over(struct trace_export *x, struct fiber *f, int64_t at_ns)
{
    static const char *const names[] = {[TRACE_GO_RUNNABLE] = "runnable",
                                        [TRACE_GO_RUNNING] = "running",
                                        [TRACE_GO_SYSCALL] = "syscall"};
    char blocked[sizeof f->reason + 16];
    const char *name = blocked;
    snprintf(blocked, sizeof blocked, "blocked%s%s", *f->reason ? ": " : "", f->reason);
    if (f->state != TRACE_GO_WAITING)
        name = f->state < sizeof names / sizeof names[0] && names[f->state] ? names[f->state] : "?";
    bool runs = f->state == TRACE_GO_RUNNING;
    slice(x, track_of(EXPORT_FIBER, f->id), name, f->since_ns, at_ns, runs ? f->flow : 0);
    if (runs && f->proc != TRACE_NONE)
        slice(x, track_of(EXPORT_PROC, f->proc), f->label, f->since_ns, at_ns, 0);
    if (runs)
        f->flow = 0;
}

static void close_slice(struct trace_export *x, struct open_slice **at, struct export_track t,
                        int64_t at_ns)
{
    struct open_slice *o = *at;
    slice(x, t, o->name, o->begin_ns, at_ns, 0);
    *at = o->outer;
    free(o);
}

static void fiber_over(struct trace_export *x, struct fiber *f, int64_t at_ns)
{
    while (f->regions)
        close_slice(x, &f->regions, track_of(EXPORT_REGION, f->id), at_ns);
    f->known = false;
}

static void name_fiber(struct trace_export *x, struct fiber *f, const struct trace_reader *r,
                       uint32_t stack)
{
    const struct trace_frame *frames;
    uint32_t n = trace_reader_stack(r, stack, &frames);
    char function[LABEL_MAX - 24];
    if (f->named && (!n || strchr(f->label, ' ')))
        return;
    copy_text(function, sizeof function, r, n ? frames[n - 1].function : 0);
    snprintf(f->label, sizeof f->label, "G%" PRId64 "%s%s", f->id, *function ? " " : "", function);
    f->named = true;
    x->sink->track(&x->out, track_of(EXPORT_FIBER, f->id), f->label);
    x->sink->track(&x->out, track_of(EXPORT_REGION, f->id), f->label);
}

static void woken(struct trace_export *x, struct fiber *f, const struct trace_event *ev)
{
    if (ev->transition.from != TRACE_GO_WAITING || ev->transition.to != TRACE_GO_RUNNABLE ||
        ev->goroutine == TRACE_NONE || !inside(x, ev->time_ns))
        return;
    f->flow = ++x->flow_last;
    x->sink->wake(&x->out, track_of(EXPORT_FIBER, ev->goroutine), ev->time_ns, f->flow);
}

static int fiber_event(struct trace_export *x, const struct trace_reader *r,
                       const struct trace_event *ev)
{
    uint8_t from = ev->transition.from, to = ev->transition.to;
    if (from == to)
        return 0;
    int rc = reserve(&x->fibers, &x->fiber_capacity, ev->transition.slot, sizeof *x->fibers);
    if (rc)
        return rc;
    struct fiber *f = &x->fibers[ev->transition.slot];
    bool is_new = !f->known;
    if (is_new)
        *f = (struct fiber){.id = ev->transition.id, .known = true};
    else
        state_over(x, f, ev->time_ns);
    name_fiber(x, f, r, ev->transition.stack);
    woken(x, f, ev);
    if (to == TRACE_GO_NOT_EXIST) {
        fiber_over(x, f, ev->time_ns);
        return 0;
    }
    f->state = to;
    f->since_ns = from == TRACE_GO_UNDETERMINED ? x->sync_ns : ev->time_ns;
    f->proc = ev->proc;
    copy_text(f->reason, sizeof f->reason, r, to == TRACE_GO_WAITING ? ev->transition.reason : 0);
    return 0;
}

static int proc_event(struct trace_export *x, const struct trace_event *ev)
{
    char name[32];
    uint32_t slot = ev->transition.slot;
    int rc = reserve(&x->procs, &x->proc_capacity, slot, sizeof *x->procs);
    if (rc || x->procs[slot])
        return rc;
    x->procs[slot] = true;
    snprintf(name, sizeof name, "P%" PRId64, ev->transition.id);
    x->sink->track(&x->out, track_of(EXPORT_PROC, ev->transition.id), name);
    return 0;
}

static int open_slice(struct trace_export *x, struct open_slice **at, uint64_t id,
                      const struct trace_reader *r, uint32_t name, int64_t at_ns)
{
    struct open_slice *o = calloc(1, sizeof *o);
    (void)x;
    if (!o)
        return -ENOMEM;
    *o = (struct open_slice){.outer = *at, .id = id, .begin_ns = at_ns};
    copy_text(o->name, sizeof o->name, r, name);
    *at = o;
    return 0;
}

static int region_event(struct trace_export *x, const struct trace_reader *r,
                        const struct trace_event *ev)
{
    uint32_t slot = ev->goroutine_slot;
    struct fiber *f = slot < x->fiber_capacity && x->fibers[slot].known ? &x->fibers[slot] : NULL;
    if (!f)
        return 0;
    if (ev->kind == TRACE_REGION_BEGIN)
        return open_slice(x, &f->regions, 0, r, ev->region.type, ev->time_ns);
    if (f->regions)
        close_slice(x, &f->regions, track_of(EXPORT_REGION, f->id), ev->time_ns);
    return 0;
}

static int task_event(struct trace_export *x, const struct trace_reader *r,
                      const struct trace_event *ev)
{
    char name[NAME_MAX_SHOWN + 32];
    struct open_slice **at = &x->tasks;
    struct export_track t = track_of(EXPORT_TASK, (int64_t)ev->task.id);
    if (ev->kind == TRACE_TASK_BEGIN) {
        int rc = open_slice(x, at, ev->task.id, r, ev->task.type, ev->time_ns);
        if (rc)
            return rc;
        snprintf(name, sizeof name, "task %" PRIu64 " %s", ev->task.id, x->tasks->name);
        x->sink->track(&x->out, t, name);
        return 0;
    }
    while (*at && (*at)->id != ev->task.id)
        at = &(*at)->outer;
    if (*at)
        close_slice(x, at, t, ev->time_ns);
    return 0;
}

static void mark(struct trace_export *x, const struct trace_reader *r, const struct trace_event *ev)
{
    char name[2 * NAME_MAX_SHOWN], category[64];
    const struct trace_frame *frames;
    if (ev->goroutine == TRACE_NONE || !inside(x, ev->time_ns))
        return;
    if (ev->kind == TRACE_LOG) {
        copy_text(category, sizeof category, r, ev->log.category);
        snprintf(name, sizeof name, "%s%s", category, *category ? ": " : "");
        size_t n = strlen(name);
        copy_text(name + n, sizeof name - n, r, ev->log.message);
    } else {
        uint32_t n = trace_reader_stack(r, ev->stack, &frames);
        snprintf(name, sizeof name, "sample: ");
        copy_text(name + 8, sizeof name - 8, r, n ? frames[0].function : 0);
    }
    x->sink->mark(&x->out, track_of(EXPORT_FIBER, ev->goroutine), name, ev->time_ns);
}

int trace_export_event(struct trace_export *x, const struct trace_reader *r,
                       const struct trace_event *ev)
{
    int rc = 0;
    if (!x->started || ev->kind == TRACE_SYNC)
        x->sync_ns = ev->time_ns;
    x->started = true;
    x->last_ns = ev->time_ns;
    switch (ev->kind) {
    case TRACE_TRANSITION:
        if (ev->what == TRACE_RESOURCE_GOROUTINE)
            rc = fiber_event(x, r, ev);
        else if (ev->what == TRACE_RESOURCE_PROC)
            rc = proc_event(x, ev);
        break;
    case TRACE_REGION_BEGIN:
    case TRACE_REGION_END: rc = region_event(x, r, ev); break;
    case TRACE_TASK_BEGIN:
    case TRACE_TASK_END: rc = task_event(x, r, ev); break;
    case TRACE_LOG:
    case TRACE_STACK_SAMPLE: mark(x, r, ev); break;
    case TRACE_METRIC:
        if (ev->what == TRACE_METRIC_HEAP_BYTES && inside(x, ev->time_ns))
            x->sink->counter(&x->out, "heap bytes", ev->time_ns, ev->metric.value);
        break;
    default: break;
    }
    return rc ? rc : x->out.rc;
}

int trace_export_close(struct trace_export *x)
{
    if (!x)
        return 0;
    for (uint32_t i = 0; i < x->fiber_capacity; i++) {
        if (!x->fibers[i].known)
            continue;
        state_over(x, &x->fibers[i], x->last_ns);
        fiber_over(x, &x->fibers[i], x->last_ns);
    }
    while (x->tasks)
        close_slice(x, &x->tasks, track_of(EXPORT_TASK, (int64_t)x->tasks->id), x->last_ns);
    x->sink->end(&x->out);
    export_flush(&x->out);
    int rc = x->out.rc;
    free(x->fibers);
    free(x->procs);
    free(x);
    return rc;
}
