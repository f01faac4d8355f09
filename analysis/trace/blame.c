// SPDX-License-Identifier: MIT
//
// See blame.h.

#include "analysis/trace/blame.h"

enum {
    LINKS_MAX = 4096, // of the chain behind one wait: what is before them is the last one's
    NESTED_MAX = 16,  // locks taken while holding one
};

struct chain {
    const struct trace_spans *spans;
    const struct trace_step *step;
    trace_blame_fn *fn;
    void *arg;
    unsigned links;
};

static int give(const struct chain *c, uint32_t lane, uint32_t stack, int64_t begin_ns,
                int64_t end_ns)
{
    int64_t from = begin_ns > c->step->begin_ns ? begin_ns : c->step->begin_ns;
    int64_t to = end_ns < c->step->end_ns ? end_ns : c->step->end_ns;
    if (from >= to)
        return 0;
    return c->fn(c->arg, &(struct trace_blame){from, to, lane, stack});
}

// The last wait of a fiber for a lock that ended between the two.
static uint32_t last_wait(const struct trace_spans *s, uint32_t lane, int64_t from_ns,
                          int64_t to_ns)
{
    uint32_t span = trace_spans_before(s, lane, to_ns);
    while (span != TRACE_NO_SPAN && trace_span_end_ns(s, lane, span) > from_ns) {
        if (trace_span_end_ns(s, lane, span) <= to_ns && trace_is_held(s, span))
            return span;
        span = span == s->lanes[lane].first ? TRACE_NO_SPAN : span - 1;
    }
    return TRACE_NO_SPAN;
}

// The lock was `lane`'s at to_ns, when it let go of it at `stack`.
static int held(struct chain *c, uint32_t lane, uint32_t stack, int64_t from_ns, int64_t to_ns,
                int depth)
{
    const struct trace_spans *s = c->spans;
    int rc = 0;
    while (from_ns < to_ns && !rc) {
        bool is_last = lane == TRACE_NO_LANE || depth == NESTED_MAX || c->links == LINKS_MAX;
        uint32_t wait = is_last ? TRACE_NO_SPAN : last_wait(s, lane, from_ns, to_ns);
        if (wait == TRACE_NO_SPAN)
            return give(c, lane, stack, from_ns, to_ns);
        c->links++;
        int64_t begin = trace_span_begin_ns(s, wait), end = trace_span_end_ns(s, lane, wait);
        uint32_t waker = trace_span_peer(s, lane, wait);
        uint32_t waker_stack = trace_span_end_stack(s, lane, wait);
        rc = give(c, lane, stack, end, to_ns);
        to_ns = end;
        if (begin <= from_ns) { // it stood in the queue before this one
            lane = waker;
            stack = waker_stack;
        } else {
            if (!rc)
                rc = held(c, waker, waker_stack, begin, end, depth + 1);
            to_ns = begin;
        }
    }
    return rc;
}

int trace_holders(const struct trace_spans *s, const struct trace_step *step, trace_blame_fn *fn,
                  void *arg)
{
    struct chain c = {s, step, fn, arg, 0};
    uint32_t waker = trace_span_peer(s, step->lane, step->span);
    uint32_t stack = trace_span_end_stack(s, step->lane, step->span);
    if (!trace_is_held(s, step->span))
        return give(&c, waker, stack, step->begin_ns, step->end_ns);
    return held(&c, waker, stack, step->begin_ns, trace_span_end_ns(s, step->lane, step->span), 0);
}

// The Proc that a step which is runnable then ran on.
static uint32_t proc_after(const struct trace_spans *s, const struct trace_step *step)
{
    const struct trace_lane *own = &s->lanes[step->lane];
    uint32_t next = step->span + 1;
    bool runs = next < own->first + own->count && trace_span_state(s, next) == TRACE_GO_RUNNING;
    return runs ? trace_span_peer(s, step->lane, next) : TRACE_NO_LANE;
}

// The Proc's last run that begins until then, else its first.
static uint32_t run_at(const struct trace_spans *s, const struct trace_lane *proc, int64_t time_ns)
{
    uint32_t low = proc->first, high = proc->first + proc->count; // first with begin > time
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (trace_span_begin_ns(s, s->runs[mid]) <= time_ns)
            low = mid + 1;
        else
            high = mid;
    }
    return low > proc->first ? low - 1 : low;
}

int trace_occupants(const struct trace_spans *s, const struct trace_step *step, trace_blame_fn *fn,
                    void *arg)
{
    const struct chain c = {s, step, fn, arg, 0};
    uint32_t proc = proc_after(s, step);
    int64_t at = step->begin_ns;
    int rc = 0;
    const struct trace_lane *p = proc == TRACE_NO_LANE ? NULL : &s->lanes[proc];
    for (uint32_t i = p ? run_at(s, p, at) : 0; p && i < p->first + p->count && !rc; i++) {
        uint32_t span = s->runs[i];
        int64_t begin = trace_span_begin_ns(s, span), end = trace_spans_run_end_ns(s, proc, i);
        if (begin >= step->end_ns)
            break;
        if (end <= at)
            continue;
        uint32_t fiber = trace_spans_fiber(s, span);
        rc = give(&c, TRACE_NO_LANE, 0, at, begin);
        if (!rc)
            rc = give(&c, fiber, trace_span_end_stack(s, fiber, span), begin, end);
        at = end;
    }
    return rc ? rc : give(&c, TRACE_NO_LANE, 0, at, step->end_ns);
}
