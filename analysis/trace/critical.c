// SPDX-License-Identifier: MIT
//
// See critical.h.

#include "analysis/trace/critical.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

const char *trace_part_name(enum trace_part part)
{
    static const char *const names[] = {"running", "runnable", "syscall", "lock",    "channel",
                                        "io",      "sleep",    "other",   "untraced"};
    return (size_t)part < TRACE_PARTS ? names[part] : "?";
}

enum trace_part trace_part_of(const struct trace_spans *s, uint32_t span)
{
    switch (trace_span_state(s, span)) {
    case TRACE_GO_RUNNING: return TRACE_PART_RUNNING;
    case TRACE_GO_RUNNABLE: return TRACE_PART_RUNNABLE;
    case TRACE_GO_SYSCALL: return TRACE_PART_SYSCALL;
    case TRACE_GO_WAITING: break;
    default: return TRACE_PART_UNKNOWN;
    }
    const char *reason = trace_names_text(&s->names, trace_span_reason(s, span));
    if (strstr(reason, "chan") || strstr(reason, "select"))
        return TRACE_PART_CHANNEL;
    if (strstr(reason, "sync"))
        return TRACE_PART_LOCK;
    if (strstr(reason, "network") || strstr(reason, "IO wait"))
        return TRACE_PART_IO;
    return strstr(reason, "sleep") ? TRACE_PART_SLEEP : TRACE_PART_OTHER;
}

// libc's calls that wait for a thread's end, which are leaves.
static bool is_thread_join(const char *leaf)
{
    static const char *const names[] = {"pthread_join", "pthread_timedjoin_np",
                                        "pthread_clockjoin_np", "thrd_join"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(leaf, names[i]) == 0)
            return true;
    return false;
}

bool trace_is_held(const struct trace_spans *s, uint32_t span)
{
    const struct trace_stack *stack = trace_stacks_get(&s->stacks, trace_span_stack(s, span));
    if (trace_part_of(s, span) != TRACE_PART_LOCK ||
        strstr(trace_names_text(&s->names, trace_span_reason(s, span)), "Cond"))
        return false;
    for (uint32_t i = 0; i < stack->count; i++) {
        const char *function = trace_names_text(&s->names, stack->frames[i].function);
        if (i == 0 && is_thread_join(function))
            return false;
        if (strncmp(function, "runtime.", 8) != 0 && strncmp(function, "sync.", 5) != 0)
            continue; // the program's own functions may be called anything
        if (strstr(function, "WaitGroup") || strstr(function, "waitgroup") ||
            strstr(function, "join"))
            return false;
    }
    return true;
}

struct path {
    struct trace_step *steps;
    size_t count, capacity;
};

static int add(struct path *p, const struct trace_step *step)
{
    if (step->end_ns <= step->begin_ns)
        return 0;
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 64;
        struct trace_step *more =
            capacity > INT_MAX ? NULL : realloc(p->steps, capacity * sizeof *more);
        if (!more)
            return capacity > INT_MAX ? -EFBIG : -ENOMEM;
        p->steps = more;
        p->capacity = capacity;
    }
    p->steps[p->count++] = *step;
    return 0;
}

// Where the path goes on before the span that has just been stepped over backwards.
static uint32_t next_lane(const struct trace_spans *s, uint32_t span, uint32_t lane, unsigned flags)
{
    uint32_t waker = trace_span_peer(s, lane, span);
    if (trace_span_state(s, span) != TRACE_GO_RUNNABLE || waker == TRACE_NO_LANE)
        return lane;
    bool first = span == s->lanes[lane].first;
    if ((flags & TRACE_CRITICAL_LOCKS) && !first && trace_is_held(s, span - 1))
        return lane;
    return waker;
}

static int walk(const struct trace_spans *s, uint32_t lane, int64_t begin_ns, int64_t end_ns,
                unsigned flags, bool follow, struct path *p)
{
    int rc = 0;
    int64_t at = end_ns;
    while (at > begin_ns && !rc) {
        uint32_t span = lane == TRACE_NO_LANE ? TRACE_NO_SPAN : trace_spans_before(s, lane, at);
        int64_t end = span == TRACE_NO_SPAN ? begin_ns : trace_span_end_ns(s, lane, span);
        if (end < at) { // nothing is known of the time since then
            int64_t from = end > begin_ns ? end : begin_ns;
            rc = add(p, &(struct trace_step){from, at, lane, TRACE_NO_SPAN, TRACE_PART_UNKNOWN});
            at = from;
            continue;
        }
        int64_t since = trace_span_begin_ns(s, span), from = since > begin_ns ? since : begin_ns;
        enum trace_part part = trace_part_of(s, span);
        rc = add(p, &(struct trace_step){from, at, lane,
                                         part == TRACE_PART_UNKNOWN ? TRACE_NO_SPAN : span, part});
        at = from;
        if (follow && since >= begin_ns)
            lane = next_lane(s, span, lane, flags);
    }
    for (size_t i = 0; i < p->count / 2; i++) {
        struct trace_step t = p->steps[i];
        p->steps[i] = p->steps[p->count - 1 - i];
        p->steps[p->count - 1 - i] = t;
    }
    return rc;
}

static int run(const struct trace_spans *s, uint32_t lane, int64_t begin_ns, int64_t end_ns,
               unsigned flags, bool follow, struct trace_step **steps)
{
    struct path p = {0};
    int rc = walk(s, lane, begin_ns, end_ns, flags, follow, &p);
    *steps = rc ? NULL : p.steps;
    if (rc)
        free(p.steps);
    return rc ? rc : (int)p.count;
}

int trace_critical(const struct trace_spans *s, uint32_t lane, int64_t begin_ns, int64_t end_ns,
                   unsigned flags, struct trace_step **steps)
{
    return run(s, lane, begin_ns, end_ns, flags, true, steps);
}

int trace_own_time(const struct trace_spans *s, uint32_t lane, int64_t begin_ns, int64_t end_ns,
                   struct trace_step **steps)
{
    return run(s, lane, begin_ns, end_ns, 0, false, steps);
}

// When a lane last ran between the two; INT64_MIN: it did not.
static int64_t last_ran_ns(const struct trace_spans *s, uint32_t lane, int64_t begin_ns,
                           int64_t end_ns)
{
    const struct trace_lane *l = &s->lanes[lane];
    uint32_t span = trace_spans_before(s, lane, end_ns);
    for (; span != TRACE_NO_SPAN; span = span > l->first ? span - 1 : TRACE_NO_SPAN) {
        int64_t ends = trace_span_end_ns(s, lane, span);
        if (ends <= begin_ns)
            return INT64_MIN;
        if (trace_span_state(s, span) == TRACE_GO_RUNNING)
            return ends < end_ns ? ends : end_ns;
    }
    return INT64_MIN;
}

// A thread that waits in fib_main for the runtime to end: all that the program does is done by
// fibers, none of which is told to end that wait.
static bool is_runtime_host(const struct trace_spans *s, uint32_t lane, int64_t begin_ns,
                            int64_t end_ns)
{
    const struct trace_lane *l = &s->lanes[lane];
    uint32_t span = trace_spans_before(s, lane, end_ns);
    for (; span != TRACE_NO_SPAN && trace_span_end_ns(s, lane, span) > begin_ns;
         span = span > l->first ? span - 1 : TRACE_NO_SPAN) {
        const struct trace_stack *stack = trace_stacks_get(&s->stacks, trace_span_stack(s, span));
        if (trace_span_state(s, span) == TRACE_GO_WAITING && stack->count &&
            !strcmp(trace_names_text(&s->names, stack->frames[0].function), "runtime.fib_main"))
            return true;
    }
    return false;
}

uint32_t trace_last_to_run(const struct trace_spans *s, int64_t begin_ns, int64_t end_ns,
                           int64_t *until_ns)
{
    uint32_t lane = TRACE_NO_LANE, host = TRACE_NO_LANE;
    int64_t last_ns = INT64_MIN;
    for (uint32_t i = 0; i < s->kind_first[TRACE_RESOURCE_PROC]; i++) {
        if (trace_name_is_system(trace_names_text(&s->names, s->lanes[i].name)))
            continue;
        int64_t ns = last_ran_ns(s, i, begin_ns, end_ns);
        if (ns <= last_ns)
            continue;
        if (host == TRACE_NO_LANE && is_runtime_host(s, i, begin_ns, end_ns)) {
            host = i;
            continue;
        }
        last_ns = ns;
        lane = i;
    }
    lane = lane == TRACE_NO_LANE ? host : lane;
    *until_ns = end_ns;
    if (lane != TRACE_NO_LANE && s->lanes[lane].end_ns < end_ns)
        *until_ns = s->lanes[lane].end_ns;
    return lane;
}
