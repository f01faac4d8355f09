// SPDX-License-Identifier: MIT
//
// See taken.h.

#include "analysis/trace/taken.h"

#include <errno.h>
#include <stdlib.h>

int taken_begin(struct taken *t, const struct trace_spans *s, const struct trace_kernel *kernel)
{
    *t = (struct taken){.spans = s, .kernel = kernel};
    if (!kernel)
        return 0;
    t->lanes = malloc((s->span_count + 1ull) * sizeof *t->lanes);
    if (!t->lanes)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->span_count; i++)
        t->lanes[i] = TRACE_NO_LANE;
    for (uint32_t i = s->kind_first[TRACE_RESOURCE_THREAD];
         i < s->kind_first[TRACE_RESOURCE_THREAD + 1]; i++) {
        const struct trace_lane *l = &s->lanes[i];
        for (uint32_t k = l->first; k < l->first + l->count; k++)
            t->lanes[s->runs[k]] = i;
    }
    return 0;
}

void taken_finish(struct taken *t)
{
    free(t->lanes);
    *t = (struct taken){0};
}

const struct trace_kernel_thread *taken_thread(const struct taken *t, const struct trace_step *step)
{
    if (!t->kernel || step->span == TRACE_NO_SPAN || t->lanes[step->span] == TRACE_NO_LANE)
        return NULL;
    return trace_kernel_thread(t->kernel, t->spans->lanes[t->lanes[step->span]].id);
}

int64_t taken_unknown(const struct taken *t, const struct trace_step *step)
{
    int64_t ns = step->end_ns - step->begin_ns;
    if (!taken_thread(t, step))
        return ns;
    return ns - trace_kernel_covers(t->kernel, step->begin_ns, step->end_ns);
}

int taken_each(const struct taken *t, const struct trace_step *step, unsigned kinds, taken_fn *fn,
               void *arg, int64_t *left_ns)
{
    const struct trace_kernel_thread *thread = taken_thread(t, step);
    int rc = 0;
    *left_ns = step->end_ns - step->begin_ns;
    if (!thread)
        return 0;
    for (size_t i = trace_kernel_piece_after(thread, step->begin_ns); i < thread->count && !rc;
         i++) {
        const struct trace_kernel_piece *p = &thread->pieces[i];
        if (p->begin_ns >= step->end_ns)
            break;
        if (!(kinds & 1u << p->kind))
            continue;
        int64_t from = p->begin_ns > step->begin_ns ? p->begin_ns : step->begin_ns;
        int64_t ns = (p->end_ns < step->end_ns ? p->end_ns : step->end_ns) - from;
        *left_ns -= ns;
        rc = fn(arg, p->kind, p->by, ns);
    }
    return rc;
}
