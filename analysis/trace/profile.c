// SPDX-License-Identifier: MIT
//
// See profile.h.

#include "analysis/trace/profile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct waiter { // a fiber
    int64_t id;
    int64_t since_ns; // of the wait that it is in
    uint32_t stack;
    enum trace_waker waker; // of that wait
    enum trace_waker next;  // if the scheduler ends what it is blocked in
    bool known, waits, ran;
    bool has_pending; // a wait before it first ran: counts if it never does
    uint32_t pending_stack;
    enum trace_waker pending_waker;
    int64_t pending_ns;
};

struct trace_profile {
    enum trace_profile_kind kind;
    int64_t from_ns, to_ns, end_ns;
    struct trace_names names;
    struct trace_stacks stacks;
    struct waiter *waiters; // by slot
    uint32_t waiter_capacity;
    uint64_t *counts; // [capacity], by stack
    int64_t *times_ns;
    uint32_t capacity;
    struct trace_waits wakers[TRACE_WAKER_COUNT]; // of stack 0
    struct trace_waits first;                     // left out
    bool any;
};

int trace_profile_new(struct trace_profile **out, enum trace_profile_kind kind, int64_t from_ns,
                      int64_t to_ns)
{
    struct trace_profile *p = *out = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->kind = kind;
    p->from_ns = from_ns ? from_ns : INT64_MIN;
    p->to_ns = to_ns ? to_ns : INT64_MAX;
    return 0;
}

static bool contains(struct trace_text t, const char *word)
{
    return t.size_bytes && memmem(t.bytes, t.size_bytes, word, strlen(word));
}

// Whether this transition is into a wait of the kind.
static bool begins(const struct trace_profile *p, const struct trace_reader *r,
                   const struct trace_event *ev)
{
    uint8_t to = ev->transition.to;
    struct trace_text reason;
    switch (p->kind) {
    case TRACE_PROFILE_SYSCALL: return to == TRACE_GO_SYSCALL;
    case TRACE_PROFILE_SCHED: return to == TRACE_GO_RUNNABLE;
    default: break;
    }
    if (to != TRACE_GO_WAITING)
        return false;
    reason = trace_reader_string(r, ev->transition.reason);
    if (p->kind == TRACE_PROFILE_NET)
        return reason.size_bytes == 7 && !memcmp(reason.bytes, "network", 7);
    return contains(reason, "chan") || contains(reason, "sync") || contains(reason, "select");
}

static bool goes_on(const struct trace_profile *p, uint8_t to)
{
    return to == (p->kind == TRACE_PROFILE_SYSCALL ? TRACE_GO_SYSCALL
                  : p->kind == TRACE_PROFILE_SCHED ? TRACE_GO_RUNNABLE
                                                   : TRACE_GO_WAITING);
}

static enum trace_waker waker_of(const struct waiter *w, const struct trace_event *ev)
{
    switch (ev->transition.from) {
    case TRACE_GO_WAITING: return ev->goroutine == TRACE_NONE ? w->next : TRACE_WAKER_FIBER;
    case TRACE_GO_SYSCALL: return TRACE_WAKER_SYSCALL;
    default: return TRACE_WAKER_UNKNOWN;
    }
}

static int add(struct trace_profile *p, uint32_t stack, enum trace_waker waker, int64_t ns)
{
    if (stack >= p->capacity) {
        uint32_t capacity = 2 * stack + 64;
        uint64_t *counts = realloc(p->counts, capacity * sizeof *counts);
        if (counts)
            p->counts = counts;
        int64_t *times = realloc(p->times_ns, capacity * sizeof *times);
        if (times)
            p->times_ns = times;
        if (!counts || !times)
            return -ENOMEM;
        memset(counts + p->capacity, 0, (capacity - p->capacity) * sizeof *counts);
        memset(times + p->capacity, 0, (capacity - p->capacity) * sizeof *times);
        p->capacity = capacity;
    }
    p->counts[stack]++;
    p->times_ns[stack] += ns;
    if (!stack) {
        p->wakers[waker].count++;
        p->wakers[waker].ns += ns;
    }
    return 0;
}

static int wait_over(struct trace_profile *p, struct waiter *w, int64_t now_ns)
{
    int64_t begin = w->since_ns > p->from_ns ? w->since_ns : p->from_ns;
    int64_t end = now_ns < p->to_ns ? now_ns : p->to_ns;
    w->waits = false;
    if (end <= begin)
        return 0;
    if (w->ran)
        return add(p, w->stack, w->waker, end - begin);
    w->has_pending = true;
    w->pending_stack = w->stack;
    w->pending_waker = w->waker;
    w->pending_ns = end - begin;
    return 0;
}

static int waiter_over(struct trace_profile *p, struct waiter *w)
{
    int rc = 0;
    if (w->known && w->has_pending && !w->ran)
        rc = add(p, w->pending_stack, w->pending_waker, w->pending_ns);
    *w = (struct waiter){0};
    return rc;
}

static struct waiter *waiter_of(struct trace_profile *p, uint32_t slot)
{
    if (slot >= p->waiter_capacity) {
        if (slot >= UINT32_MAX / 2)
            return NULL;
        uint32_t capacity = 2 * slot + 64;
        struct waiter *more = realloc(p->waiters, capacity * sizeof *more);
        if (!more)
            return NULL;
        memset(more + p->waiter_capacity, 0, (capacity - p->waiter_capacity) * sizeof *more);
        p->waiters = more;
        p->waiter_capacity = capacity;
    }
    return &p->waiters[slot];
}

static void begin_to_run(struct trace_profile *p, struct waiter *w)
{
    if (w->has_pending && !w->ran) {
        p->first.count++;
        p->first.ns += w->pending_ns;
    }
    w->ran = true;
}

int trace_profile_event(struct trace_profile *p, const struct trace_reader *r,
                        const struct trace_event *ev)
{
    int rc = 0;
    if (ev->kind != TRACE_TRANSITION || ev->what != TRACE_RESOURCE_GOROUTINE ||
        ev->time_ns > p->to_ns)
        return 0;
    struct waiter *w = waiter_of(p, ev->transition.slot);
    if (!w)
        return -ENOMEM;
    if (w->known && w->id != ev->transition.id)
        rc = waiter_over(p, w);
    w->known = true;
    w->id = ev->transition.id;
    uint8_t to = ev->transition.to;
    if (w->waits && !goes_on(p, to)) {
        rc = rc ? rc : wait_over(p, w, ev->time_ns);
    } else if (!w->waits && begins(p, r, ev)) {
        w->waits = p->any = true;
        w->since_ns = ev->time_ns;
        w->waker = waker_of(w, ev);
        w->stack = trace_stacks_of(&p->stacks, &p->names, r, ev->stack);
    }
    if (to == TRACE_GO_WAITING && ev->transition.from != TRACE_GO_WAITING)
        w->next = trace_waker_without_fiber(trace_reader_string(r, ev->transition.reason));
    if (to == TRACE_GO_RUNNING)
        begin_to_run(p, w);
    else if (to == TRACE_GO_NOT_EXIST)
        rc = rc ? rc : waiter_over(p, w);
    if (!rc && (p->names.failed || p->stacks.failed))
        rc = -ENOMEM;
    return rc;
}

static int add_sample(struct pprof_profile *p, const struct trace_names *n,
                      const struct trace_stack *stack, const int64_t *values)
{
    struct pprof_location *locations[TRACE_STACK_FRAMES_MAX];
    for (uint32_t i = 0; i < stack->count; i++) {
        const struct trace_frame *f = &stack->frames[i];
        const char *name = trace_names_text(n, f->function);
        struct pprof_line line = {
            .function = pprof_intern_function(p, name, name, trace_names_text(n, f->file), 0),
            .line = (int64_t)f->line};
        if (!line.function)
            return -ENOMEM;
        locations[i] = pprof_intern_location(p, NULL, f->pc, &line, 1);
        if (!locations[i])
            return -ENOMEM;
    }
    return pprof_add_sample(p, locations, stack->count, values, NULL, 0);
}

int trace_profile_build(struct pprof_profile **out, const struct trace_names *n,
                        const struct trace_stacks *s, const uint64_t *counts,
                        const int64_t *times_ns, uint32_t stack_count)
{
    struct pprof_profile *p = pprof_new();
    *out = NULL;
    if (!p)
        return -ENOMEM;
    int rc = pprof_add_sample_type(p, "contentions", "count");
    if (!rc)
        rc = pprof_add_sample_type(p, "delay", "nanoseconds");
    p->period_type = (struct pprof_value_type){"trace", "count"};
    p->period = 1;
    for (uint32_t i = 0; i < stack_count && !rc; i++) {
        int64_t values[] = {(int64_t)counts[i], times_ns[i]};
        if (counts[i])
            rc = add_sample(p, n, trace_stacks_get(s, i), values);
    }
    if (rc)
        pprof_free(p);
    else
        *out = p;
    return rc;
}

int trace_profile_finish(struct trace_profile *p, struct pprof_profile **out)
{
    int rc = 0;
    *out = NULL;
    for (uint32_t i = 0; i < p->waiter_capacity && !rc; i++)
        rc = waiter_over(p, &p->waiters[i]);
    return rc ? rc
              : trace_profile_build(out, &p->names, &p->stacks, p->counts, p->times_ns,
                                    p->capacity);
}

struct trace_waits trace_profile_first_waits(const struct trace_profile *p)
{
    return p->first;
}

bool trace_profile_any(const struct trace_profile *p)
{
    return p->any;
}

const struct trace_waits *trace_profile_wakers(const struct trace_profile *p)
{
    return p->wakers;
}

void trace_profile_free(struct trace_profile *p)
{
    if (!p)
        return;
    trace_stacks_finish(&p->stacks);
    trace_names_finish(&p->names);
    free(p->waiters);
    free(p->counts);
    free(p->times_ns);
    free(p);
}
