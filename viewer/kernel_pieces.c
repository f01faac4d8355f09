// SPDX-License-Identifier: MIT
//
// What single pieces of a kernel trace say, and sums over them. See kernel_model.h.

#include "viewer/kernel_model.h"

#include <stdlib.h>
#include <string.h>

enum { LOOK_BACK = 256 };

// --- Pieces.

static const struct kernel_source *source_of(const struct kernel_lane *l, uint32_t index)
{
    uint32_t i = l->source_count;
    while (i > 1 && l->sources[i - 1].first > index)
        i--;
    return &l->sources[i - 1];
}

// What the thread was called at a span: the last stack says it, as its name may change. As trace lost has it: that of a
// runnable one only where there is no other, as it may be the waker's.
static const struct trace_stack *last_stack(const struct trace_spans *s, uint32_t lane,
                                            uint32_t span)
{
    const struct trace_stack *own = trace_stacks_get(&s->stacks, 0);
    uint32_t first = s->lanes[lane].first;
    for (uint32_t i = span, n = 0; i + 1 > first && n < LOOK_BACK; i--, n++) {
        const struct trace_stack *stack = trace_stacks_get(&s->stacks, s->stack[i]);
        if (stack->count && trace_span_state(s, i) != TRACE_GO_RUNNABLE)
            return stack;
        if (stack->count && !s->kinds[s->kind[i]].woken)
            own = stack;
    }
    return own;
}

static int64_t cpu_of(const struct trace_spans *s, uint32_t lane, uint32_t span)
{
    uint8_t state = trace_span_state(s, span);
    bool is_on = state == TRACE_GO_RUNNING || state == TRACE_GO_SYSCALL;
    if (!is_on && state == TRACE_GO_RUNNABLE &&
        span + 1 < s->lanes[lane].first + s->lanes[lane].count)
        return trace_span_state(s, span + 1) != TRACE_GO_RUNNABLE ? cpu_of(s, lane, span + 1) : -1;
    return is_on && s->peer[span] != TRACE_NO_LANE ? s->lanes[s->peer[span]].id : -1;
}

// Of lanes [low, end), which are by id.
static uint32_t lane_of_id(const struct kernel_model *k, uint32_t low, uint32_t end, int64_t id)
{
    uint32_t high = end;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (k->lanes[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < end && k->lanes[low].id == id ? low : KERNEL_NO_LANE;
}

static uint32_t thread_lane(const struct kernel_model *k, int64_t id)
{
    return lane_of_id(k, k->cpu_count, k->lane_count, id);
}

uint32_t kernel_thread_of(const struct kernel_model *k, uint32_t cpu, uint32_t index)
{
    const struct kernel_lane *l = &k->lanes[cpu];
    const struct trace_spans *s = k->parts[source_of(l, index)->part]->spans;
    return thread_lane(k, s->lanes[trace_spans_fiber(s, l->spans[index])].id & UINT32_MAX);
}

const char *kernel_thread_name(const struct kernel_model *k, uint32_t lane)
{
    const struct kernel_lane *l = &k->lanes[lane];
    const struct kernel_source *last = &l->sources[l->source_count - 1];
    const struct trace_spans *s = k->parts[last->part]->spans;
    const struct trace_lane *t = &s->lanes[last->lane];
    const struct trace_stack *stack =
        t->count ? last_stack(s, last->lane, t->first + t->count - 1) : NULL;
    return stack && stack->count
               ? trace_names_text(&s->names, stack->frames[stack->count - 1].function)
               : trace_names_text(&s->names, t->name);
}

void kernel_piece_get(const struct kernel_model *k, uint32_t lane, uint32_t index,
                      struct kernel_piece *p)
{
    const struct kernel_lane *l = &k->lanes[lane];
    const struct kernel_source *from = source_of(l, index);
    const struct trace_spans *s = k->parts[from->part]->spans;
    bool is_cpu = lane < k->cpu_count;
    uint32_t span = is_cpu ? l->spans[index] : s->lanes[from->lane].first + index - from->first;
    uint32_t fiber = is_cpu ? trace_spans_fiber(s, span) : from->lane;
    const struct trace_stack *stack = last_stack(s, fiber, span);
    *p = (struct kernel_piece){.begin_ns = lod_begin_ns(&l->lod, index),
                               .end_ns = lod_end_ns(&l->lod, index),
                               .class = lod_class(&l->lod, index),
                               .thread =
                                   is_cpu ? thread_lane(k, s->lanes[fiber].id & UINT32_MAX) : lane,
                               .cpu = is_cpu ? l->id : cpu_of(s, fiber, span),
                               .name = trace_names_text(&s->names, s->lanes[fiber].name),
                               .process = "",
                               .why = ""};
    if (!stack->count)
        return;
    p->name = trace_names_text(&s->names, stack->frames[stack->count - 1].function);
    p->process = trace_names_text(&s->names, stack->frames[stack->count - 1].file);
    if (is_cpu || stack->count < 2 || p->class == KERNEL_RUNNING || p->class == KERNEL_DELAYED)
        return;
    p->why = trace_names_text(&s->names, stack->frames[stack->count - 2].function);
    p->on_disk = stack->count > 2 &&
                 !strcmp(trace_names_text(&s->names, stack->frames[0].function), "block I/O");
}

uint32_t kernel_piece_at(const struct kernel_model *k, uint32_t lane, int64_t time_ns)
{
    const struct lod *l = &k->lanes[lane].lod;
    uint32_t i = l->count ? lod_at(l, time_ns) : 0;
    return i < l->count && lod_begin_ns(l, i) <= time_ns ? i : UINT32_MAX;
}

uint32_t kernel_span_at(const struct trace_spans *s, uint32_t trace_lane, int64_t time_ns)
{
    const struct trace_lane *l = &s->lanes[trace_lane];
    uint32_t low = l->first, high = l->first + l->count;
    while (low < high) { // the first run that begins later
        uint32_t mid = low + (high - low) / 2;
        if (trace_span_begin_ns(s, s->runs[mid]) <= time_ns)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == l->first || trace_spans_run_end_ns(s, trace_lane, low - 1) <= time_ns)
        return TRACE_NO_SPAN;
    return s->runs[low - 1];
}

int64_t kernel_covers(const struct kernel_model *k, int64_t from_ns, int64_t to_ns)
{
    int64_t sum = 0;
    uint32_t i = 0, high = k->part_count;
    while (i < high) { // the first that ends later
        uint32_t mid = i + (high - i) / 2;
        if (k->parts[mid]->end_ns <= from_ns)
            i = mid + 1;
        else
            high = mid;
    }
    for (; i < k->part_count && k->parts[i]->begin_ns < to_ns; i++) {
        const struct trace_model *m = k->parts[i];
        int64_t from = from_ns > m->begin_ns ? from_ns : m->begin_ns,
                to = to_ns < m->end_ns ? to_ns : m->end_ns;
        sum += to > from ? to - from : 0;
    }
    return sum;
}

// --- Sums.

static void add_by(struct kernel_times *t, const char *name, int64_t ns)
{
    uint32_t i = 0;
    while (i < t->by_count && i < KERNEL_BY - 1 && t->by[i].name != name &&
           strcmp(t->by[i].name, name) != 0)
        i++;
    if (i == KERNEL_BY - 1) // the last is for all that have no room
        name = "others";
    t->by_count += i == t->by_count;
    t->by[i].name = name;
    t->by[i].ns += ns;
}

// Who had the CPU that the thread then got.
static void add_instead(struct kernel_times *t, const struct kernel_model *k,
                        const struct kernel_piece *p, int64_t begin_ns, int64_t end_ns)
{
    uint32_t cpu = lane_of_id(k, 0, k->cpu_count, p->cpu);
    const struct lod *l = cpu != KERNEL_NO_LANE ? &k->lanes[cpu].lod : NULL;
    for (uint32_t i = l && l->count ? lod_at(l, begin_ns) : UINT32_MAX; l && i < l->count; i++) {
        struct kernel_piece run;
        int64_t from = lod_begin_ns(l, i), to = lod_end_ns(l, i);
        from = from > begin_ns ? from : begin_ns;
        to = to < end_ns ? to : end_ns;
        if (from >= end_ns)
            break;
        kernel_piece_get(k, cpu, i, &run);
        if (to > from)
            add_by(t, run.name, to - from);
    }
}

void kernel_times_piece(struct kernel_times *t, const struct kernel_model *k,
                        const struct kernel_piece *p)
{
    add_instead(t, k, p, p->begin_ns, p->end_ns);
}

// Pieces of faults asleep go on with the fault before them.
static bool is_new(const struct kernel_model *k, uint32_t lane, uint32_t index)
{
    const struct kernel_lane *l = &k->lanes[lane];
    if (lod_class(&l->lod, index) != KERNEL_IN_FAULT)
        return true;
    const struct kernel_source *from = source_of(l, index);
    const struct trace_spans *s = k->parts[from->part]->spans;
    return trace_span_state(s, s->lanes[from->lane].first + index - from->first) ==
           TRACE_GO_SYSCALL;
}

void kernel_times_span(struct kernel_times *t, const struct kernel_model *k, uint32_t trace_lane,
                       uint32_t span, int64_t from_ns, int64_t to_ns)
{
    const struct trace_spans *s = k->trace->spans;
    int64_t begin_ns = trace_span_begin_ns(s, span),
            end_ns = trace_span_end_ns(s, trace_spans_fiber(s, span), span);
    uint8_t state = trace_span_state(s, span);
    uint32_t lane = kernel_lane_of(k, trace_lane);
    begin_ns = begin_ns > from_ns ? begin_ns : from_ns;
    end_ns = end_ns < to_ns ? end_ns : to_ns;
    if ((state != TRACE_GO_RUNNING && state != TRACE_GO_SYSCALL) || end_ns <= begin_ns)
        return;
    t->had_ns += end_ns - begin_ns;
    t->unknown_ns += end_ns - begin_ns;
    if (lane == KERNEL_NO_LANE)
        return;
    t->unknown_ns -= kernel_covers(k, begin_ns, end_ns);
    const struct lod *l = &k->lanes[lane].lod;
    for (uint32_t i = l->count ? lod_at(l, begin_ns) : 0; i < l->count; i++) {
        int64_t from = lod_begin_ns(l, i), to = lod_end_ns(l, i), at = from;
        uint8_t class = lod_class(l, i);
        if (from >= end_ns)
            break;
        from = from > begin_ns ? from : begin_ns;
        to = to < end_ns ? to : end_ns;
        if (to <= from || class == KERNEL_RUNNING)
            continue;
        if (class == KERNEL_ASLEEP && state == TRACE_GO_SYSCALL) {
            t->told_ns += to - from; // the trace of fibers says it
            t->had_ns -= to - from;
            continue;
        }
        t->ns[class] += to - from;
        t->count[class] += at >= begin_ns && is_new(k, lane, i);
        if (class != KERNEL_DELAYED)
            continue;
        struct kernel_piece p;
        kernel_piece_get(k, lane, i, &p);
        add_instead(t, k, &p, from, to);
    }
}

void kernel_times_all(struct kernel_times *t, const struct kernel_model *k, int64_t from_ns,
                      int64_t to_ns)
{
    const struct trace_spans *s = k->trace->spans;
    for (uint32_t lane = s->kind_first[TRACE_RESOURCE_THREAD]; lane < s->lane_count; lane++) {
        const struct trace_lane *l = &s->lanes[lane];
        int64_t had_ns = t->had_ns;
        for (uint32_t i = l->first; i < l->first + l->count; i++) {
            if (trace_span_begin_ns(s, s->runs[i]) >= to_ns)
                break;
            kernel_times_span(t, k, lane, s->runs[i], from_ns, to_ns);
        }
        t->threads_unknown += t->had_ns != had_ns && kernel_lane_of(k, lane) == KERNEL_NO_LANE;
    }
}

static int by_ns(const void *a, const void *b)
{
    const struct kernel_by *x = a, *y = b;
    return (x->ns < y->ns) - (x->ns > y->ns);
}

void kernel_times_finish(struct kernel_times *t)
{
    qsort(t->by, t->by_count, sizeof *t->by, by_ns);
}

int64_t kernel_times_lost(const struct kernel_times *t)
{
    int64_t sum = 0;
    for (int i = 0; i < KERNEL_CLASSES; i++)
        sum += t->ns[i];
    return sum;
}
