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

static int add(struct wall *w, uint32_t lane, uint32_t stack_number, const char *state, int64_t ns,
               int64_t count)
{
    struct pprof_location *locations[TRACE_STACK_FRAMES_MAX + 1];
    const struct trace_names *n = &w->s->names;
    const struct trace_stack *stack = trace_stacks_get(&w->s->stacks, stack_number);
    uint32_t used = 0;
    locations[used++] = frame(w->p, 0, state, "", 0);
    for (uint32_t i = 0; i < stack->count; i++) {
        const struct trace_frame *f = &stack->frames[i];
        locations[used++] = frame(w->p, f->pc, trace_names_text(n, f->function),
                                  trace_names_text(n, f->file), f->line);
    }
    if (!stack->count) {
        const char *name = trace_names_text(n, w->s->lanes[lane].name);
        locations[used++] = frame(w->p, 0, *name ? name : "(unknown)", "", 0);
    }
    for (uint32_t i = 0; i < used; i++) {
        if (!locations[i])
            return -ENOMEM;
    }
    const int64_t values[] = {count, ns};
    return pprof_add_sample(w->p, locations, used, values, NULL, 0);
}

static int add_running(struct wall *w, uint32_t lane, int64_t begin_ns, int64_t end_ns)
{
    uint32_t n, first = trace_spans_samples(w->s, lane, begin_ns, end_ns, &n);
    int64_t left = end_ns - begin_ns;
    if (!n)
        return add(w, lane, 0, "[running]", left, 1);
    int rc = 0;
    for (uint32_t i = 0; i < n && !rc; i++) {
        int64_t ns = left / (n - i);
        rc = add(w, lane, w->s->samples[first + i].stack, "[running]", ns, i == 0);
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
    return add(w, lane, trace_span_stack(s, span), state, end_ns - begin_ns, 1);
}

int trace_wall_profile(const struct trace_spans *s, int64_t from_ns, int64_t to_ns,
                       struct pprof_profile **out)
{
    struct wall w = {.s = s, .p = pprof_new()};
    *out = NULL;
    if (!w.p)
        return -ENOMEM;
    int rc = pprof_add_sample_type(w.p, "spans", "count");
    if (!rc)
        rc = pprof_add_sample_type(w.p, "time", "nanoseconds");
    w.p->period_type = (struct pprof_value_type){"trace", "count"};
    w.p->period = 1;
    for (uint32_t l = 0; l < s->kind_first[TRACE_RESOURCE_PROC] && !rc; l++) {
        const struct trace_lane *lane = &s->lanes[l];
        for (uint32_t i = lane->first; i < lane->first + lane->count && !rc; i++) {
            int64_t begin = trace_span_begin_ns(s, i), end = trace_span_end_ns(s, l, i);
            begin = from_ns && begin < from_ns ? from_ns : begin;
            end = to_ns && end > to_ns ? to_ns : end;
            if (end > begin)
                rc = add_span(&w, l, i, begin, end);
        }
    }
    w.p->duration_nanos = s->end_ns - s->begin_ns;
    if (rc)
        pprof_free(w.p);
    else
        *out = w.p;
    return rc;
}
