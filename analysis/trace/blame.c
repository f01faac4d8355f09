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
    while (span != TRACE_NO_SPAN && s->span_end_ns[span] > from_ns) {
        if (s->span_end_ns[span] <= to_ns && trace_is_held(s, span))
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
        int64_t begin = s->span_begin_ns[wait], end = s->span_end_ns[wait];
        rc = give(c, lane, stack, end, to_ns);
        to_ns = end;
        if (begin <= from_ns) { // it stood in the queue before this one
            lane = s->peer[wait];
            stack = s->end_stack[wait];
        } else {
            if (!rc)
                rc = held(c, s->peer[wait], s->end_stack[wait], begin, end, depth + 1);
            to_ns = begin;
        }
    }
    return rc;
}

int trace_holders(const struct trace_spans *s, const struct trace_step *step, trace_blame_fn *fn,
                  void *arg)
{
    struct chain c = {s, step, fn, arg, 0};
    uint32_t waker = s->peer[step->span], stack = s->end_stack[step->span];
    if (!trace_is_held(s, step->span))
        return give(&c, waker, stack, step->begin_ns, step->end_ns);
    return held(&c, waker, stack, step->begin_ns, s->span_end_ns[step->span], 0);
}

// Where a fiber stopped that had the Proc then.
static uint32_t end_stack(const struct trace_spans *s, uint32_t fiber, int64_t begin_ns)
{
    uint32_t span = trace_spans_before(s, fiber, begin_ns + 1);
    return span == TRACE_NO_SPAN ? 0 : s->end_stack[span];
}

int trace_occupants(const struct trace_spans *s, const struct trace_step *step, trace_blame_fn *fn,
                    void *arg)
{
    const struct chain c = {s, step, fn, arg, 0};
    const struct trace_lane *own = &s->lanes[step->lane];
    uint32_t next = step->span + 1;
    uint32_t proc = next < own->first + own->count && s->state[next] == TRACE_GO_RUNNING
                        ? s->peer[next]
                        : TRACE_NO_LANE;
    int64_t at = step->begin_ns;
    int rc = 0;
    if (proc != TRACE_NO_LANE) {
        const struct trace_lane *p = &s->lanes[proc];
        uint32_t i = trace_spans_before(s, proc, at + 1);
        i = i == TRACE_NO_SPAN ? p->first : i;
        for (; i < p->first + p->count && s->span_begin_ns[i] < step->end_ns && !rc; i++) {
            int64_t begin = s->span_begin_ns[i], end = s->span_end_ns[i];
            if (end <= at)
                continue;
            rc = give(&c, TRACE_NO_LANE, 0, at, begin);
            if (!rc)
                rc = give(&c, s->peer[i], end_stack(s, s->peer[i], begin), begin, end);
            at = end;
        }
    }
    return rc ? rc : give(&c, TRACE_NO_LANE, 0, at, step->end_ns);
}
