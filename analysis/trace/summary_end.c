// SPDX-License-Identifier: MIT
//
// What waits when the trace is over, and where. See summary.h.

#include "analysis/trace/summary_internal.h"

#include <string.h>

static bool has_one_of(const char *text, const char *const *parts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strstr(text, parts[i]))
            return true;
    }
    return false;
}

#define HAS_ONE_OF(text, parts) has_one_of(text, parts, sizeof(parts) / sizeof *(parts))

// Ends by another fiber, not by a timer, the network or the collector.
static bool is_ended_by_hand(const char *reason)
{
    static const char *const parts[] = {"chan", "sync", "select"};
    return HAS_ONE_OF(reason, parts);
}

// Waits for others to end, who are what keeps it waiting.
static bool is_for_ends(const char *in)
{
    static const char *const names[] = {"fib_main",          "fib_join",   "waitgroup",
                                        "WaitGroup",         "group_wait", "pthread_join",
                                        "pthread_timedjoin", "thrd_join"};
    return HAS_ONE_OF(in, names);
}

// Waits with a time-out, or, of a bare system call, nobody knows.
static bool may_time_out(const char *in)
{
    static const char *const parts[] = {"timed", "clock", "_for", "selectgo", "syscall"};
    return HAS_ONE_OF(in, parts);
}

void summary_longest(struct trace_longest *l, int64_t ns, int64_t at_ns, const struct fiber *f,
                     struct trace_place place)
{
    if (ns > l->ns)
        *l = (struct trace_longest){ns, at_ns, f->pub.id, place};
}

static struct trace_place find_place(struct trace_summary *s, const struct trace_reader *r,
                                     const struct trace_frame *f, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        // What a program called of libc is a leaf without a source.
        if (i == 0 && n > 1 && !f[0].file && f[1].file)
            continue;
        uint32_t function = trace_names_of(&s->names, r, f[i].function);
        const char *text = trace_names_text(&s->names, function);
        if (strncmp(text, "runtime.", 8) != 0 && strncmp(text, "sync.", 5) != 0 &&
            strncmp(text, "internal/", 9) != 0)
            return (struct trace_place){function, trace_names_of(&s->names, r, f[i].file),
                                        f[i].line};
    }
    return (struct trace_place){0};
}

const struct stack_place *summary_place(struct trace_summary *s, const struct trace_reader *r,
                                        uint32_t stack)
{
    struct stack_place *p = &s->state->places[stack % SUMMARY_PLACES];
    const struct trace_frame *f;
    if (p->stack == stack)
        return p;
    uint32_t n = trace_reader_stack(r, stack, &f);
    *p = (struct stack_place){stack, n ? trace_names_of(&s->names, r, f[0].function) : 0,
                              find_place(s, r, f, n)};
    return p;
}

// Who is stuck, of a function.
static void fold_blocked(struct trace_summary *s, struct trace_function *fn, const struct fiber *f)
{
    const struct summary_state *st = s->state;
    int64_t ns = f->pub.state_ns, since_ns = st->now - ns;
    if (ns > fn->stuck.ns) {
        summary_longest(&fn->stuck, ns, since_ns, f, f->place);
        fn->stuck_reason = f->pub.reason;
    }
    if (ns < s->limits.stuck_ns || ns < (st->now - s->totals.begin_ns) / 2 ||
        !is_ended_by_hand(trace_names_text(&s->names, f->pub.reason)) ||
        is_for_ends(trace_names_text(&s->names, f->blocked_in)))
        return;
    fn->waiting++;
    if (ns > fn->longest_waiting.ns) {
        summary_longest(&fn->longest_waiting, ns, since_ns, f, f->place);
        fn->waiting_reason = f->pub.reason;
        fn->waiting_in = f->blocked_in;
    }
}

static void keep_waiter(struct trace_summary *s, const struct fiber *f, bool is_for_end)
{
    uint32_t at = s->waiter_count;
    struct trace_waiter w = {.fiber = f->pub.id,
                             .ns = f->pub.state_ns,
                             .at_ns = s->state->now - f->pub.state_ns,
                             .name = f->pub.name,
                             .reason = f->pub.reason,
                             .in = f->blocked_in,
                             .place = f->place,
                             .is_for_end = is_for_end};
    while (at && !is_for_end && s->waiters[at - 1].is_for_end)
        at--; // before the joins
    if (at == TRACE_WAITERS)
        return;
    s->waiter_count += s->waiter_count < TRACE_WAITERS;
    memmove(&s->waiters[at + 1], &s->waiters[at], (s->waiter_count - 1 - at) * sizeof w);
    s->waiters[at] = w;
}

void summary_fold_end(struct trace_summary *s, struct trace_function *fn, const struct fiber *f)
{
    struct summary_state *st = s->state;
    const char *in = trace_names_text(&s->names, f->blocked_in);
    if (f->pub.state == TRACE_GO_WAITING)
        fold_blocked(s, fn, f);
    if (trace_name_is_system(trace_names_text(&s->names, f->pub.name)))
        return;
    if (f->pub.state != TRACE_GO_WAITING || !*in || may_time_out(in) || f->woken_outside ||
        !is_ended_by_hand(trace_names_text(&s->names, f->pub.reason))) {
        st->end_others++;
        return;
    }
    st->end_waits++;
    st->end_locks += !is_for_ends(in);
    keep_waiter(s, f, is_for_ends(in));
}

void summary_end(struct trace_summary *s)
{
    const struct summary_state *st = s->state;
    // Where a range or part is over, the trace goes on.
    bool is_there =
        !st->end_others && st->end_locks && !st->is_part && st->options.to_ns == INT64_MAX;
    s->deadlocked = is_there ? st->end_waits : 0;
    s->waiter_count = is_there ? s->waiter_count : 0;
}
