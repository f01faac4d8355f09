// SPDX-License-Identifier: MIT
//
// See explain.h.

#include "analysis/trace/explain.h"
#include "analysis/trace/blame.h"
#include "analysis/trace/running.h"
#include "analysis/trace/taken.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum group { SLOW = RUNNING_SLOW, TYPICAL = RUNNING_TYPICAL, REST = RUNNING_REST, GROUPS };

struct instance {
    int64_t begin_ns, end_ns;
    uint32_t lane;
};

// The one of many stacks that has more weight than all others together, if there is one; else one of the heavier.
struct vote {
    uint32_t stack;
    int64_t weight;
};

struct piece {
    struct trace_piece pub;
    double ns[GROUPS];
    struct vote slow, any;         // RUNNING: stacks of samples; RUNNABLE: of the occupant's
    struct vote slow_end, any_end; // where it, or the occupant, stopped
    double did_ns[TRACE_PARTS];    // LOCK: its holder, while slow ones waited
    struct vote did[TRACE_PARTS];
};

struct explainer {
    const struct trace_spans *spans;
    const struct trace_explain_options *options;
    struct instance *instances;
    uint32_t instance_count;
    struct arena arena;
    struct ptrtab table;
    struct piece **pieces;
    uint32_t piece_count, piece_capacity;
    struct running running;
    struct taken taken;
    int64_t total_ns[GROUPS], unknown_ns[GROUPS];
};

static int by_length(const void *x, const void *y)
{
    const struct instance *a = x, *b = y;
    int64_t p = a->end_ns - a->begin_ns, q = b->end_ns - b->begin_ns;
    if (p != q)
        return p < q ? -1 : 1;
    return (a->begin_ns > b->begin_ns) - (a->begin_ns < b->begin_ns);
}

static bool named(const struct explainer *x, uint32_t type)
{
    return !strcmp(trace_names_text(&x->spans->names, type), x->options->name);
}

static bool is_within(const struct explainer *x, int64_t begin_ns, int64_t end_ns)
{
    const struct trace_explain_options *o = x->options;
    return (!o->from_ns || begin_ns >= o->from_ns) && (!o->to_ns || end_ns <= o->to_ns);
}

static int collect(struct explainer *x)
{
    const struct trace_spans *s = x->spans;
    size_t most = x->options->tasks ? s->task_count : s->region_count;
    x->instances = calloc(most + 1, sizeof *x->instances);
    if (!x->instances)
        return -ENOMEM;
    for (uint32_t i = 0; x->options->tasks && i < s->task_count; i++) {
        const struct trace_task_span *t = &s->tasks[i];
        if (t->begins && t->ends && t->end_lane != TRACE_NO_LANE && named(x, t->type) &&
            is_within(x, t->begin_ns, t->end_ns))
            x->instances[x->instance_count++] =
                (struct instance){t->begin_ns, t->end_ns, t->end_lane};
    }
    for (uint32_t i = 0; !x->options->tasks && i < s->region_count; i++) {
        const struct trace_region_span *r = &s->regions[i];
        if (r->begins && r->ends && named(x, r->type) && is_within(x, r->begin_ns, r->end_ns))
            x->instances[x->instance_count++] = (struct instance){r->begin_ns, r->end_ns, r->lane};
    }
    qsort(x->instances, x->instance_count, sizeof *x->instances, by_length);
    return x->instance_count ? 0 : -ENOENT;
}

static bool same_piece(const void *item, const void *key)
{
    const struct trace_piece *a = &((const struct piece *)item)->pub;
    const struct trace_piece *b = &((const struct piece *)key)->pub;
    return a->part == b->part && a->function == b->function && a->reason == b->reason &&
           a->stack == b->stack && a->holder_stack == b->holder_stack && a->holder == b->holder &&
           a->is_held == b->is_held && a->off_cpu == b->off_cpu && a->kernel == b->kernel &&
           a->by == b->by;
}

static struct piece *piece_of(struct explainer *x, const struct trace_piece *like)
{
    struct piece key = {.pub = *like};
    uint64_t hash = ptrtab_mix(ptrtab_seed(), like->part + TRACE_PARTS * like->is_held);
    hash = ptrtab_mix(hash, ((uint64_t)like->function << 32) | like->reason);
    hash = ptrtab_mix(hash, ((uint64_t)like->stack << 32) | like->holder_stack);
    hash = ptrtab_mix(hash, like->holder);
    hash = ptrtab_mix(hash, ((uint64_t)like->by << 8) | like->kernel);
    const struct piece *found = ptrtab_find(&x->table, hash, same_piece, &key);
    if (found)
        return (struct piece *)(uintptr_t)found;
    if (x->piece_count == x->piece_capacity) {
        uint32_t capacity = x->piece_capacity ? 2 * x->piece_capacity : 32;
        struct piece **more = realloc(x->pieces, capacity * sizeof(struct piece *));
        if (!more)
            return NULL;
        x->pieces = more;
        x->piece_capacity = capacity;
    }
    struct piece *p = arena_alloc(&x->arena, sizeof *p);
    if (!p || ptrtab_add(&x->table, hash, p))
        return NULL;
    *p = key;
    x->pieces[x->piece_count++] = p;
    return p;
}

static void vote(struct vote *v, uint32_t stack, int64_t weight)
{
    if (v->stack == stack || weight > v->weight) {
        v->weight = v->stack == stack ? v->weight + weight : weight - v->weight;
        v->stack = stack;
    } else {
        v->weight -= weight;
    }
}

static void vote_samples(const struct trace_spans *s, struct piece *p, uint32_t first, uint32_t n,
                         enum group group)
{
    for (uint32_t i = first; i < first + n; i++) {
        vote(&p->any, s->samples[i].stack, 1);
        if (group == SLOW)
            vote(&p->slow, s->samples[i].stack, 1);
    }
}

static void vote_end(struct piece *p, uint32_t stack, int64_t ns, enum group group)
{
    vote(&p->any_end, stack, ns);
    if (group == SLOW)
        vote(&p->slow_end, stack, ns);
}

// A share of the running time.
static int add_running(void *arg, enum running_side side, uint32_t sample, double ns,
                       const struct trace_step *step)
{
    struct explainer *x = arg;
    const struct trace_spans *s = x->spans;
    struct trace_piece like = {.part = TRACE_PART_RUNNING, .off_cpu = sample == RUNNING_OFF_CPU};
    bool is_sample = !like.off_cpu && sample != RUNNING_NO_SAMPLE;
    if (is_sample) {
        const struct trace_stack *stack = trace_stacks_get(&s->stacks, s->samples[sample].stack);
        like.function = stack->count ? stack->frames[0].function : 0;
    }
    struct piece *p = piece_of(x, &like);
    if (!p)
        return -ENOMEM;
    p->ns[side] += ns;
    if (is_sample)
        vote_samples(s, p, sample, 1, (enum group)side);
    else if (like.off_cpu && trace_span_end_ns(s, step->lane, step->span) == step->end_ns)
        vote_end(p, trace_span_end_stack(s, step->lane, step->span), (int64_t)ns,
                 (enum group)side); // where it stops after the instance is not in the intervals
    return 0;
}

// A wait that others are to blame for, one of them at a time.
struct blamed {
    struct explainer *x;
    struct trace_piece like;
    enum group group;
};

// What who has the lock does with the time.
static int add_meanwhile(const struct trace_spans *s, struct piece *p,
                         const struct trace_blame *held)
{
    struct trace_step *steps;
    int n = trace_own_time(s, held->lane, held->begin_ns, held->end_ns, &steps);
    for (int i = 0; i < n; i++) {
        const struct trace_step *step = &steps[i];
        int64_t ns = step->end_ns - step->begin_ns;
        uint32_t count = 0, first = 0;
        p->did_ns[step->part] += (double)ns;
        if (step->part == TRACE_PART_RUNNING)
            first = trace_spans_samples(s, held->lane, step->begin_ns, step->end_ns, &count);
        else if (step->span != TRACE_NO_SPAN)
            vote(&p->did[step->part], trace_span_stack(s, step->span), ns);
        for (uint32_t k = first; k < first + count; k++)
            vote(&p->did[step->part], s->samples[k].stack, 1);
    }
    if (n >= 0)
        free(steps);
    return n < 0 ? n : 0;
}

static int add_holder(void *arg, const struct trace_blame *part)
{
    struct blamed *b = arg;
    struct trace_piece like = b->like;
    like.holder = part->lane == TRACE_NO_LANE ? 0 : b->x->spans->lanes[part->lane].name;
    like.holder_stack = part->stack;
    struct piece *p = piece_of(b->x, &like);
    if (!p)
        return -ENOMEM;
    p->ns[b->group] += (double)(part->end_ns - part->begin_ns);
    bool is_known = b->group == SLOW && like.is_held && part->lane != TRACE_NO_LANE;
    return is_known ? add_meanwhile(b->x->spans, p, part) : 0;
}

static int add_occupant(void *arg, const struct trace_blame *part)
{
    struct blamed *b = arg;
    const struct trace_spans *s = b->x->spans;
    struct trace_piece like = b->like;
    int64_t ns = part->end_ns - part->begin_ns;
    uint32_t n = 0, first = 0;
    like.is_held = part->lane != TRACE_NO_LANE;
    if (like.is_held) {
        like.holder = s->lanes[part->lane].name;
        first = trace_spans_samples(s, part->lane, part->begin_ns, part->end_ns, &n);
    }
    struct piece *p = piece_of(b->x, &like);
    if (!p)
        return -ENOMEM;
    p->ns[b->group] += (double)ns;
    vote_samples(s, p, first, n, b->group);
    vote_end(p, part->stack, ns, b->group);
    return 0;
}

uint32_t trace_frame_of_user(const struct trace_names *n, const struct trace_stack *stack)
{
    const struct trace_frame *f = stack->frames;
    // What a program called of libc is a leaf without a source.
    if (stack->count > 1 && !f[0].file && f[1].file)
        return 1;
    for (uint32_t i = 0; i < stack->count; i++) {
        if (strncmp(trace_names_text(n, f[i].function), "runtime.", 8) != 0)
            return i;
    }
    return 0;
}

static int add_taken(void *arg, uint8_t kind, uint32_t by, int64_t ns)
{
    const struct blamed *b = arg;
    struct trace_piece like = {.part = b->like.part, .kernel = (uint8_t)(kind + 1), .by = by};
    struct piece *p = piece_of(b->x, &like);
    if (!p)
        return -ENOMEM;
    p->ns[b->group] += (double)ns;
    return 0;
}

// What the kernel took of it is apart; the rest is divided at the end.
static int add_run(struct explainer *x, const struct trace_step *step, enum group group)
{
    struct blamed b = {x, {.part = step->part}, group};
    int64_t left_ns;
    int rc = running_add(&x->running, x->spans, step, taken_thread(&x->taken, step),
                         (enum running_side)group);
    if (rc || group == REST || !x->taken.kernel)
        return rc;
    x->unknown_ns[group] += taken_unknown(&x->taken, step);
    return taken_each(&x->taken, step, UINT_MAX, add_taken, &b, &left_ns);
}

static int add_step(struct explainer *x, const struct trace_step *step, enum group group)
{
    const struct trace_spans *s = x->spans;
    struct blamed b = {x, {.part = step->part}, group};
    int64_t left_ns = step->end_ns - step->begin_ns;
    x->total_ns[group] += left_ns;
    if (step->part == TRACE_PART_RUNNING)
        return add_run(x, step, group);
    if (group == REST)
        return 0;
    if (step->part == TRACE_PART_RUNNABLE)
        return trace_occupants(s, step, add_occupant, &b);
    if (step->span != TRACE_NO_SPAN) {
        const struct trace_stack *stack =
            trace_stacks_get(&s->stacks, trace_span_stack(s, step->span));
        uint32_t frame = trace_frame_of_user(&s->names, stack);
        b.like.reason = trace_span_reason(s, step->span);
        b.like.stack = trace_span_stack(s, step->span);
        b.like.function = stack->count ? stack->frames[frame].function : 0;
    }
    if (step->part == TRACE_PART_LOCK) {
        b.like.is_held = trace_is_held(s, step->span);
        return trace_holders(s, step, add_holder, &b);
    }
    // That it is in a call, and sleeps there, the trace of fibers says itself.
    unsigned kinds = 1u << TRACE_PIECE_DESCHEDULED | 1u << TRACE_PIECE_FAULT;
    int rc = 0;
    if (step->part == TRACE_PART_SYSCALL)
        rc = taken_each(&x->taken, step, kinds, add_taken, &b, &left_ns);
    struct piece *p = rc ? NULL : piece_of(x, &b.like);
    if (!p)
        return rc ? rc : -ENOMEM;
    p->ns[group] += (double)left_ns;
    return 0;
}

static int divide(struct explainer *x, const struct instance *in, enum group group)
{
    struct trace_step *steps;
    int n = x->options->tasks
                ? trace_critical(x->spans, in->lane, in->begin_ns, in->end_ns, TRACE_CRITICAL_LOCKS,
                                 &steps)
                : trace_own_time(x->spans, in->lane, in->begin_ns, in->end_ns, &steps);
    int rc = n < 0 ? n : 0;
    for (int i = 0; i < n && !rc; i++)
        rc = add_step(x, &steps[i], group);
    free(steps);
    return rc;
}

static double per(double ns, uint32_t n)
{
    return n ? ns / n : 0;
}

static int by_gap(const void *x, const void *y)
{
    const struct trace_piece *a = x, *b = y;
    double p = a->slow_ns - a->typical_ns, q = b->slow_ns - b->typical_ns;
    return (p < q) - (p > q);
}

// The stacks of those pieces that are of many.
static void choose_stacks(struct piece *p)
{
    const struct vote *of[] = {&p->slow, &p->any, &p->slow_end, &p->any_end};
    uint32_t stack = 0;
    for (int i = 0; i < 4 && !stack; i++)
        stack = of[i]->stack;
    if (p->pub.part == TRACE_PART_RUNNING)
        p->pub.stack = stack;
    else if (p->pub.part == TRACE_PART_RUNNABLE)
        p->pub.holder_stack = stack;
}

static void choose_meanwhile(struct piece *p, uint32_t slow)
{
    int most = 0;
    for (int i = 0; i < TRACE_PARTS; i++)
        most = p->did_ns[i] > p->did_ns[most] ? i : most;
    p->pub.meanwhile = (enum trace_part)most;
    p->pub.meanwhile_ns = per(p->did_ns[most], slow);
    p->pub.meanwhile_stack = p->did[most].stack;
}

static int finish(struct explainer *x, struct trace_explained *e)
{
    if (running_divide(&x->running, x->spans, add_running, x))
        return -ENOMEM;
    e->slow_samples = x->running.samples[SLOW];
    e->typical_samples = x->running.samples[TYPICAL] + x->running.samples[REST];
    e->pieces = calloc(x->piece_count + 1ull, sizeof *e->pieces);
    if (!e->pieces)
        return -ENOMEM;
    for (uint32_t i = 0; i < x->piece_count; i++) {
        struct piece *p = x->pieces[i];
        p->pub.slow_ns = per(p->ns[SLOW], e->slow);
        p->pub.typical_ns = per(p->ns[TYPICAL], e->typical);
        choose_stacks(p);
        choose_meanwhile(p, e->slow);
        if (p->pub.slow_ns > 0 || p->pub.typical_ns > 0)
            e->pieces[e->piece_count++] = p->pub;
    }
    qsort(e->pieces, e->piece_count, sizeof *e->pieces, by_gap);
    e->slow_mean_ns = per((double)x->total_ns[SLOW], e->slow);
    e->typical_mean_ns = per((double)x->total_ns[TYPICAL], e->typical);
    e->slow_unknown_ns = per((double)x->unknown_ns[SLOW], e->slow);
    e->typical_unknown_ns = per((double)x->unknown_ns[TYPICAL], e->typical);
    return 0;
}

// Instances are in order of length: [low, high) are the typical ones, from `slow` on the slow.
static int choose(struct explainer *x, struct trace_explained *e, uint32_t *low, uint32_t *high,
                  uint32_t *slow)
{
    uint32_t n = x->instance_count;
    const struct instance *all = x->instances;
    double quantile = x->options->quantile;
    *slow = (uint32_t)(quantile * n);
    if (*slow >= n)
        *slow = n - 1;
    if (x->options->threshold_ns > 0) {
        for (*slow = 0; *slow < n; ++*slow) {
            if (all[*slow].end_ns - all[*slow].begin_ns >= x->options->threshold_ns)
                break;
        }
    }
    *low = (uint32_t)(0.4 * n);
    *high = (uint32_t)(0.6 * n) + 1;
    *high = *high < n ? *high : n;
    *high = *high < *slow ? *high : *slow;
    e->instances = n;
    e->median_ns = all[n / 2].end_ns - all[n / 2].begin_ns;
    e->longest_ns = all[n - 1].end_ns - all[n - 1].begin_ns;
    if (*slow >= n || *low >= *high)
        return -EAGAIN;
    e->threshold_ns = all[*slow].end_ns - all[*slow].begin_ns;
    e->slow = n - *slow;
    e->typical = *high - *low;
    return 0;
}

int trace_explain_intervals(const struct trace_spans *s, const struct trace_explain_options *o,
                            struct trace_interval **intervals)
{
    struct explainer x = {.spans = s, .options = o};
    int rc = collect(&x);
    *intervals = rc ? NULL : calloc(x.instance_count, sizeof **intervals);
    if (!rc && (!*intervals || x.instance_count > INT_MAX))
        rc = -ENOMEM;
    for (uint32_t i = 0; i < x.instance_count && !rc; i++) {
        const struct instance *in = &x.instances[i];
        (*intervals)[i] = (struct trace_interval){in->begin_ns, in->end_ns, TRACE_NONE};
    }
    if (rc) {
        free(*intervals);
        *intervals = NULL;
    }
    int count = (int)x.instance_count;
    free(x.instances);
    return rc ? rc : count;
}

int trace_explain(const struct trace_spans *s, const struct trace_explain_options *o,
                  struct trace_explained *e)
{
    struct explainer x = {.spans = s, .options = o};
    uint32_t low, high, slow;
    *e = (struct trace_explained){0};
    int rc = collect(&x);
    if (!rc)
        rc = choose(&x, e, &low, &high, &slow);
    if (!rc)
        rc = taken_begin(&x.taken, s, o->kernel);
    for (uint32_t i = 0; i < x.instance_count && !rc; i++)
        rc = divide(&x, &x.instances[i], i >= slow ? SLOW : i >= low && i < high ? TYPICAL : REST);
    if (!rc)
        rc = finish(&x, e);
    free(x.instances);
    free(x.pieces);
    running_finish(&x.running);
    taken_finish(&x.taken);
    ptrtab_finish(&x.table);
    arena_finish(&x.arena);
    return rc;
}

void trace_explained_finish(struct trace_explained *e)
{
    free(e->pieces);
    *e = (struct trace_explained){0};
}

// --- In words.

const char *trace_meanwhile(char *text, size_t size, const struct trace_piece *p, const char *ns)
{
    char did[40];
    switch (p->meanwhile) {
    case TRACE_PART_RUNNING: snprintf(did, sizeof did, "running"); break;
    case TRACE_PART_RUNNABLE: snprintf(did, sizeof did, "runnable: it had no Proc"); break;
    case TRACE_PART_SYSCALL: snprintf(did, sizeof did, "in a system call"); break;
    case TRACE_PART_SLEEP: snprintf(did, sizeof did, "asleep"); break;
    default: snprintf(did, sizeof did, "waiting (%s)", trace_part_name(p->meanwhile)); break;
    }
    *text = 0;
    if (p->meanwhile_ns > 0)
        snprintf(text, size, "most of that, %s, it was %s", ns, did);
    return text;
}

uint32_t trace_meanwhile_stack(const struct trace_piece *p)
{
    bool is_known = p->meanwhile_ns > 0 && p->meanwhile != TRACE_PART_RUNNABLE;
    return is_known ? p->meanwhile_stack : 0;
}
