// SPDX-License-Identifier: MIT
//
// Where the texts of a filter are, one after the other. See lanes.h.
//
// Hits are not kept: a text may be in the stack of every span. Asking for the next one goes over all
// of them, which takes some ms for millions of spans, once for a key.

#include "viewer/views/lanes_filter.h"

#include <stdlib.h>

struct walk {
    const struct lanes *l;
    const struct lanes_hit *from;
    bool forward;
    struct lanes_hit near, edge; // the nearest one; the first, or last, of all
    bool has_near, has_edge;
    uint64_t all, upto; // upto: not after `near`
    bool counts;        // `near` is known: count up to it
};

static int compare(const struct lanes_hit *a, const struct lanes_hit *b)
{
    if (a->begin_ns != b->begin_ns)
        return a->begin_ns < b->begin_ns ? -1 : 1;
    if (a->lane != b->lane)
        return a->lane < b->lane ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

static void hit(struct walk *w, int64_t begin_ns, int64_t end_ns, uint32_t lane, uint64_t place)
{
    struct lanes_hit h = {begin_ns, end_ns, lane, place};
    int way = w->forward ? 1 : -1;
    w->all++;
    if (w->counts) {
        w->upto += compare(&h, &w->near) <= 0;
        return;
    }
    if (compare(&h, w->from) * way > 0 && (!w->has_near || compare(&h, &w->near) * way < 0)) {
        w->near = h;
        w->has_near = true;
    }
    if (!w->has_edge || compare(&h, &w->edge) * way < 0) {
        w->edge = h;
        w->has_edge = true;
    }
}

// Places of one moment: the fiber, then spans, samples, regions, tasks, logs.
enum { FIBER, SPAN, SAMPLE, REGION, TASK, LOG, CPU };

static uint64_t place_of(uint64_t word, int kind, uint32_t which)
{
    return word << 40 | (uint64_t)kind << 32 | which;
}

static void walk_fiber(struct walk *w, const struct lanes_word *word, uint32_t lane,
                       uint64_t number)
{
    const struct trace_spans *s = w->l->model->spans;
    const struct trace_lane *k = &s->lanes[lane];
    uint32_t samples, first = trace_spans_samples(s, lane, INT64_MIN, INT64_MAX, &samples);
    if (lanes_word_names(w->l, word, lane)) {
        int64_t begin = k->count ? trace_span_begin_ns(s, k->first) : k->end_ns;
        hit(w, begin, begin, lane, place_of(number, FIBER, 0));
    }
    for (uint32_t i = k->first; i < k->first + k->count; i++)
        if (word->stacks[trace_span_stack(s, i)])
            hit(w, trace_span_begin_ns(s, i), trace_span_begin_ns(s, i), lane,
                place_of(number, SPAN, i));
    for (uint32_t i = first; i < first + samples; i++)
        if (word->stacks[s->samples[i].stack])
            hit(w, s->samples[i].time_ns, s->samples[i].time_ns, lane, place_of(number, SAMPLE, i));
}

// Their lanes are behind the trace's.
static void walk_cpus(struct walk *w, const struct lanes_word *word, uint64_t number)
{
    const struct kernel_model *k = w->l->kernel;
    uint32_t first = w->l->model->spans->lane_count;
    for (uint32_t cpu = 0; word->threads && cpu < k->cpu_count; cpu++) {
        const struct lod *l = &k->lanes[cpu].lod;
        for (uint32_t i = 0; i < l->count; i++) {
            uint32_t thread = kernel_thread_of(k, cpu, i);
            if (thread != KERNEL_NO_LANE && word->threads[thread])
                hit(w, lod_begin_ns(l, i), lod_end_ns(l, i), first + cpu, place_of(number, CPU, i));
        }
    }
}

uint64_t lanes_found_on_cpus(const struct lanes *l, const struct lanes_filter *f)
{
    struct walk w = {.l = l, .counts = true};
    for (int i = 0; i < f->count; i++)
        walk_cpus(&w, &f->words[i], 0);
    return w.all;
}

static bool is_shown(const struct walk *w, uint32_t lane)
{
    return lane < w->l->model->spans->kind_first[TRACE_RESOURCE_PROC] && lanes_match(w->l, lane);
}

static void walk_marks(struct walk *w, const struct lanes_word *word, uint64_t number)
{
    const struct trace_spans *s = w->l->model->spans;
    for (uint32_t i = 0; i < s->region_count; i++) {
        const struct trace_region_span *r = &s->regions[i];
        if (word->names[r->type] && is_shown(w, r->lane))
            hit(w, r->begin_ns, r->end_ns, r->lane, place_of(number, REGION, i));
    }
    for (uint32_t i = 0; i < s->task_count; i++) {
        const struct trace_task_span *t = &s->tasks[i];
        if (word->names[t->type] && is_shown(w, t->begin_lane))
            hit(w, t->begin_ns, t->end_ns, t->begin_lane, place_of(number, TASK, i));
    }
    for (uint32_t i = 0; i < s->log_count; i++) {
        const struct trace_log_mark *g = &s->logs[i];
        if (word->logs[i] && is_shown(w, g->lane))
            hit(w, g->time_ns, g->time_ns, g->lane, place_of(number, LOG, i));
    }
}

static void walk(struct walk *w)
{
    const struct lanes_filter *f = w->l->made;
    uint32_t fibers = w->l->model->spans->kind_first[TRACE_RESOURCE_PROC];
    w->all = 0;
    for (int k = 0; f && k < f->count; k++) {
        const struct lanes_word *word = &f->words[k];
        if (word->kind != LANES_TEXT)
            continue;
        for (uint32_t lane = 0; lane < fibers; lane++)
            if (f->match[lane])
                walk_fiber(w, word, lane, (uint64_t)k);
        walk_marks(w, word, (uint64_t)k);
        walk_cpus(w, word, (uint64_t)k);
    }
}

bool lanes_found(const struct lanes *l, const struct lanes_hit *from, bool forward,
                 struct lanes_hit *found, uint64_t *at, uint64_t *all)
{
    struct walk w = {.l = l, .from = from, .forward = forward};
    walk(&w);
    if (!w.has_edge)
        return false;
    w.near = w.has_near ? w.near : w.edge;
    w.counts = true;
    walk(&w);
    *found = w.near;
    *at = w.upto;
    *all = w.all;
    return true;
}

uint64_t lanes_found_count(const struct lanes *l)
{
    return l->made ? l->made->found : 0;
}
