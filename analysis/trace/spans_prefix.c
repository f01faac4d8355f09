// SPDX-License-Identifier: MIT
//
// What there is of a trace's spans while events go on. See trace_spans_prefix in spans.h.

#include "analysis/trace/spans_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// Some of an array; *failed where there is no memory.
static void *copy(const void *from, size_t count, size_t size, bool *failed)
{
    void *to = malloc((count + 1) * size);
    if (to && count)
        memcpy(to, from, count * size);
    *failed |= !to;
    return to;
}

// Texts alone: nobody looks anything up any more.
static void copy_names(struct trace_names *to, const struct trace_names *from, bool *failed)
{
    to->texts = copy(from->texts, from->count, sizeof(const char *), failed);
    to->count = to->capacity = to->texts ? from->count : 0;
    for (uint32_t i = 0; i < to->count; i++) {
        to->texts[i] = arena_strdup(&to->arena, from->texts[i]);
        if (!to->texts[i]) {
            *failed = true;
            to->count = i;
        }
    }
}

static void copy_stacks(struct trace_stacks *to, const struct trace_stacks *from, bool *failed)
{
    to->stacks = copy(from->stacks, from->count, sizeof(const struct trace_stack *), failed);
    to->count = to->capacity = to->stacks ? from->count : 0;
    for (uint32_t i = 1; i < to->count; i++) { // the first is everybody's
        const struct trace_stack *old = from->stacks[i];
        size_t size = sizeof *old + old->count * sizeof old->frames[0];
        struct trace_stack *new = arena_alloc(&to->arena, size);
        *failed |= !new;
        if (new)
            memcpy(new, old, size);
        else
            to->count = i;
        to->stacks[i] = new;
    }
}

static void copy_marks(struct trace_spans *to, const struct trace_spans *from, bool *failed)
{
    to->samples = copy(from->samples, from->sample_count, sizeof *to->samples, failed);
    to->regions = copy(from->regions, from->region_count, sizeof *to->regions, failed);
    to->tasks = copy(from->tasks, from->task_count, sizeof *to->tasks, failed);
    to->logs = copy(from->logs, from->log_count, sizeof *to->logs, failed);
    to->gomaxprocs = copy(from->gomaxprocs, from->gomaxprocs_count, sizeof *to->gomaxprocs, failed);
    to->sample_count = from->sample_count;
    to->region_count = from->region_count;
    to->task_count = from->task_count;
    to->log_count = to->logs ? from->log_count : 0;
    to->gomaxprocs_count = from->gomaxprocs_count;
    for (uint32_t i = 0; i < to->log_count; i++) {
        to->logs[i].message = arena_strdup(&to->arena, from->logs[i].message);
        *failed |= !to->logs[i].message;
    }
}

// Blocks that are full do not change: they are borrowed. The last one is copied.
static void copy_rows(struct spans_state *to, const struct spans_state *from, bool *failed)
{
    uint32_t full = (uint32_t)(from->row_count / SPANS_BLOCK_ROWS);
    uint32_t rest = (uint32_t)(from->row_count % SPANS_BLOCK_ROWS);
    to->blocks = calloc(full + 1u, sizeof(struct row_block *));
    *failed |= !to->blocks;
    if (!to->blocks)
        return;
    to->block_capacity = full + 1;
    to->borrowed = full;
    if (full)
        memcpy(to->blocks, from->blocks, full * sizeof(struct row_block *));
    if (!rest)
        return;
    struct row_block *last =
        mmap(NULL, sizeof *last, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (last == MAP_FAILED) {
        *failed = true;
        return;
    }
    to->blocks[full] = last;
    memcpy(last->rows, from->blocks[full]->rows, rest * sizeof last->rows[0]);
    if (spans_keeps(from, TRACE_KEEP_RUNS))
        memcpy(last->threads, from->blocks[full]->threads, rest * sizeof last->threads[0]);
}

static void copy_state(struct spans_state *to, const struct trace_spans *s, bool *failed)
{
    const struct spans_state *from = s->state_of_build;
    to->options = from->options;
    to->from_ns = from->from_ns;
    to->to_ns = from->to_ns;
    to->sync_ns = from->sync_ns;
    to->started = from->started;
    to->row_count = from->row_count;
    to->fibers = copy(from->fibers, from->fiber_capacity, sizeof *to->fibers, failed);
    to->fiber_capacity = to->fibers ? from->fiber_capacity : 0;
    to->lane_kinds = copy(from->lane_kinds, s->lane_count, sizeof *to->lane_kinds, failed);
    to->lane_kind_capacity = s->lane_count;
    to->kind_numbers =
        copy(from->kind_numbers, from->kind_number_capacity, sizeof *to->kind_numbers, failed);
    to->kind_number_capacity = to->kind_numbers ? from->kind_number_capacity : 0;
    to->lost = copy(from->lost, from->lost_count, sizeof *to->lost, failed);
    to->lost_count = to->lost_capacity = from->lost_count;
    copy_rows(to, from, failed);
}

int trace_spans_prefix(struct trace_spans **out, const struct trace_spans *s)
{
    *out = NULL;
    if (s->state_of_build->intervals)
        return -EINVAL;
    bool failed = false;
    struct trace_spans *p = calloc(1, sizeof *p);
    struct spans_state *st = calloc(1, sizeof *st);
    if (!p || !st) {
        free(p);
        free(st);
        return -ENOMEM;
    }
    p->state_of_build = st;
    p->begin_ns = s->begin_ns;
    p->end_ns = s->end_ns;
    p->base_ns = s->base_ns;
    p->lanes = copy(s->lanes, s->lane_count, sizeof *p->lanes, &failed);
    p->lane_count = st->lane_capacity = p->lanes ? s->lane_count : 0;
    p->kinds = copy(s->kinds, s->kind_count, sizeof *p->kinds, &failed);
    p->kind_count = st->kind_capacity = s->kind_count;
    copy_names(&p->names, &s->names, &failed);
    copy_stacks(&p->stacks, &s->stacks, &failed);
    copy_marks(p, s, &failed);
    copy_state(st, s, &failed);
    if (failed)
        trace_spans_free(p);
    else
        *out = p;
    return failed ? -ENOMEM : 0;
}
