// SPDX-License-Identifier: MIT
//
// See wall.h.

#include "analysis/trace/wall.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct wall {
    const struct trace_spans *s;
    struct pprof_profile *p;
};

static struct pprof_location *frame(struct pprof_profile *p, uint64_t pc, const char *name,
                                    const char *file, uint64_t line)
{
    struct pprof_line l = {.function = pprof_intern_function(p, name, name, file, 0),
                           .line = (int64_t)line};
    return l.function ? pprof_intern_location(p, NULL, pc, &l, 1) : NULL;
}

// `state` as the leaf, unless it is NULL.
static int add(struct wall *w, uint32_t lane, uint32_t stack_number, const char *state,
               const int64_t *values)
{
    struct pprof_location *locations[TRACE_STACK_FRAMES_MAX + 2];
    const struct trace_names *n = &w->s->names;
    const struct trace_stack *stack = trace_stacks_get(&w->s->stacks, stack_number);
    uint32_t used = 0;
    if (state)
        locations[used++] = frame(w->p, 0, state, "", 0);
    for (uint32_t i = 0; i < stack->count; i++) {
        const struct trace_frame *f = &stack->frames[i];
        locations[used++] = frame(w->p, f->pc, trace_names_text(n, f->function),
                                  trace_names_text(n, f->file), f->line);
    }
    if (!stack->count) {
        uint32_t start = lane == TRACE_NO_LANE ? 0 : w->s->lanes[lane].name;
        const char *name = trace_names_text(n, start);
        locations[used++] = frame(w->p, 0, *name ? name : "(unknown)", "", 0);
    }
    for (uint32_t i = 0; i < used; i++) {
        if (!locations[i])
            return -ENOMEM;
    }
    return pprof_add_sample(w->p, locations, used, values, NULL, 0);
}

static int add_running(struct wall *w, uint32_t lane, int64_t begin_ns, int64_t end_ns)
{
    uint32_t n, first = trace_spans_samples(w->s, lane, begin_ns, end_ns, &n);
    int64_t left = end_ns - begin_ns;
    if (!n)
        return add(w, lane, 0, "[running]", (const int64_t[]){1, left});
    int rc = 0;
    for (uint32_t i = 0; i < n && !rc; i++) {
        int64_t ns = left / (n - i);
        rc = add(w, lane, w->s->samples[first + i].stack, "[running]",
                 (const int64_t[]){i == 0, ns});
        left -= ns;
    }
    return rc;
}

static int add_span(struct wall *w, uint32_t lane, uint32_t span, int64_t begin_ns, int64_t end_ns)
{
    const struct trace_spans *s = w->s;
    char state[128];
    const char *reason = trace_names_text(&s->names, trace_span_reason(s, span));
    switch (trace_span_state(s, span)) {
    case TRACE_GO_RUNNING: return add_running(w, lane, begin_ns, end_ns);
    case TRACE_GO_RUNNABLE: snprintf(state, sizeof state, "[runnable]"); break;
    case TRACE_GO_SYSCALL: snprintf(state, sizeof state, "[syscall]"); break;
    default: snprintf(state, sizeof state, "[blocked%s%.100s]", *reason ? ": " : "", reason); break;
    }
    return add(w, lane, trace_span_stack(s, span), state, (const int64_t[]){1, end_ns - begin_ns});
}

static enum trace_wall_part part_of(uint8_t state)
{
    switch (state) {
    case TRACE_GO_RUNNING: return TRACE_WALL_RUNNING;
    case TRACE_GO_RUNNABLE: return TRACE_WALL_RUNNABLE;
    case TRACE_GO_SYSCALL: return TRACE_WALL_SYSCALL;
    default: return TRACE_WALL_BLOCKED;
    }
}

static int begin(struct wall *w, const struct trace_spans *s, int64_t from_ns, int64_t to_ns)
{
    *w = (struct wall){.s = s, .p = pprof_new()};
    if (!w->p)
        return -ENOMEM;
    w->p->period_type = (struct pprof_value_type){"trace", "count"};
    w->p->period = 1;
    from_ns = from_ns > s->begin_ns ? from_ns : s->begin_ns;
    to_ns = to_ns && to_ns < s->end_ns ? to_ns : s->end_ns;
    w->p->duration_nanos = to_ns > from_ns ? to_ns - from_ns : 0;
    return 0;
}

// Gives the profile out, or what went wrong.
static int end(struct wall *w, int rc, struct pprof_profile **out)
{
    if (rc)
        pprof_free(w->p);
    else
        *out = w->p;
    return rc;
}

int trace_wall_profile(const struct trace_spans *s, int64_t from_ns, int64_t to_ns,
                       struct pprof_profile **out)
{
    return trace_wall_parts(s, from_ns, to_ns, TRACE_WALL_ALL, out);
}

int trace_wall_parts(const struct trace_spans *s, int64_t from_ns, int64_t to_ns, unsigned parts,
                     struct pprof_profile **out)
{
    struct wall w;
    *out = NULL;
    int rc = begin(&w, s, from_ns, to_ns);
    if (!rc)
        rc = pprof_add_sample_type(w.p, "spans", "count");
    if (!rc)
        rc = pprof_add_sample_type(w.p, "time", "nanoseconds");
    for (uint32_t l = 0; l < s->kind_first[TRACE_RESOURCE_PROC] && !rc; l++) {
        const struct trace_lane *lane = &s->lanes[l];
        uint32_t first = from_ns ? trace_spans_before(s, l, from_ns) : lane->first;
        first = first == TRACE_NO_SPAN ? lane->first : first;
        for (uint32_t i = first; i < lane->first + lane->count && !rc; i++) {
            int64_t at = trace_span_begin_ns(s, i), until = trace_span_end_ns(s, l, i);
            if (to_ns && at >= to_ns)
                break;
            at = from_ns && at < from_ns ? from_ns : at;
            until = to_ns && until > to_ns ? to_ns : until;
            if (until > at && parts & part_of(trace_span_state(s, i)))
                rc = add_span(&w, l, i, at, until);
        }
    }
    return end(&w, rc, out);
}

int trace_sample_profile(const struct trace_spans *s, int64_t from_ns, int64_t to_ns,
                         struct pprof_profile **out)
{
    struct wall w;
    *out = NULL;
    int rc = begin(&w, s, from_ns, to_ns);
    if (!rc)
        rc = pprof_add_sample_type(w.p, "samples", "count");
    for (uint32_t i = 0; i < s->sample_count && !rc; i++) {
        const struct trace_sample *x = &s->samples[i];
        if (x->time_ns >= from_ns && x->time_ns <= to_ns)
            rc = add(&w, x->lane, x->stack, NULL, (const int64_t[]){1});
    }
    return end(&w, rc, out);
}
