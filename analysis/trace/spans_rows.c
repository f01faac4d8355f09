// SPDX-License-Identifier: MIT
//
// Which spans are wanted, and the rows that they become. See spans.h.

#include "analysis/trace/spans_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int spans_reserve(void *array, uint32_t *capacity, uint32_t index, size_t size)
{
    void **items = array;
    if (index < *capacity)
        return 0;
    if (index >= UINT32_MAX / 2)
        return -EFBIG;
    uint32_t more = index + index / 2 + 64;
    char *grown = realloc(*items, more * size);
    if (!grown)
        return -ENOMEM;
    memset(grown + *capacity * size, 0, (more - *capacity) * size);
    *items = grown;
    *capacity = more;
    return 0;
}

bool spans_keeps(const struct spans_state *st, unsigned what)
{
    return !st->options.keep || (st->options.keep & what) == what;
}

// --- What is wanted.

static int by_fiber_and_begin(const void *x, const void *y)
{
    const struct trace_interval *a = x, *b = y;
    if (a->fiber != b->fiber)
        return a->fiber < b->fiber ? -1 : 1;
    return (a->begin_ns > b->begin_ns) - (a->begin_ns < b->begin_ns);
}

int spans_take_intervals(struct spans_state *st)
{
    size_t n = st->options.interval_count, kept = 0;
    if (!st->options.intervals)
        return 0;
    if (n >= UINT32_MAX)
        return -EFBIG;
    struct trace_interval *all = malloc((n + 1) * sizeof *all);
    if (!all)
        return -ENOMEM;
    if (n) {
        memcpy(all, st->options.intervals, n * sizeof *all);
        qsort(all, n, sizeof *all, by_fiber_and_begin);
    }
    for (size_t i = 0; i < n; i++) {
        struct trace_interval *last = kept ? &all[kept - 1] : NULL;
        if (!last || last->fiber != all[i].fiber || last->end_ns < all[i].begin_ns)
            all[kept++] = all[i];
        else if (last->end_ns < all[i].end_ns)
            last->end_ns = all[i].end_ns;
    }
    st->intervals = all;
    st->interval_count = kept;
    st->all_fibers = kept && all[0].fiber == TRACE_NONE;
    return 0;
}

// The first interval of a fiber from this one on.
static uint32_t first_of(const struct spans_state *st, int64_t fiber)
{
    size_t low = 0, high = st->interval_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (st->intervals[mid].fiber < fiber)
            low = mid + 1;
        else
            high = mid;
    }
    return (uint32_t)low;
}

void spans_find_intervals(const struct spans_state *st, struct open_fiber *f)
{
    int64_t fiber = st->all_fibers ? TRACE_NONE : f->id;
    if (!st->intervals)
        return;
    f->first_interval = first_of(st, fiber);
    f->interval_count =
        (fiber < INT64_MAX ? first_of(st, fiber + 1) : (uint32_t)st->interval_count) -
        f->first_interval;
}

bool spans_wants(const struct spans_state *st, const struct open_fiber *f, int64_t begin_ns,
                 int64_t end_ns)
{
    if (begin_ns >= st->to_ns || end_ns <= st->from_ns)
        return false;
    if (!st->intervals)
        return true;
    uint32_t low = f->first_interval, high = low + f->interval_count, end = high;
    while (low < high) { // the first that ends after begin_ns
        uint32_t mid = low + (high - low) / 2;
        if (st->intervals[mid].end_ns <= begin_ns)
            low = mid + 1;
        else
            high = mid;
    }
    return low < end && st->intervals[low].begin_ns < end_ns;
}

// --- Rows.

int spans_kind(struct trace_spans *s, uint8_t state, uint32_t reason, bool woken, uint16_t *kind)
{
    struct spans_state *st = s->state_of_build;
    uint64_t index = ((uint64_t)reason * (TRACE_GO_SYSCALL + 1) + state) * 2 + woken;
    if (state > TRACE_GO_SYSCALL || index >= UINT32_MAX)
        return -EFBIG;
    int rc = spans_reserve(&st->kind_numbers, &st->kind_number_capacity, (uint32_t)index,
                           sizeof *st->kind_numbers);
    if (rc)
        return rc;
    uint16_t *number = &st->kind_numbers[index];
    if (!*number && s->kind_count == UINT16_MAX)
        return reason ? spans_kind(s, state, 0, woken, kind) : -EFBIG;
    // One without a reason of each state is there from the beginning: see trace_spans_new.
    if (!*number) {
        rc = spans_reserve(&s->kinds, &st->kind_capacity, s->kind_count, sizeof *s->kinds);
        if (rc)
            return rc;
        s->kinds[s->kind_count] = (struct trace_span_kind){reason, state, woken};
        *number = (uint16_t)++s->kind_count;
    }
    *kind = *number - 1;
    return 0;
}

static struct row_block *new_block(struct spans_state *st, uint32_t index)
{
    if (spans_reserve(&st->blocks, &st->block_capacity, index, sizeof(struct row_block *)))
        return NULL;
    void *block = mmap(NULL, sizeof(struct row_block), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return st->blocks[index] = block == MAP_FAILED ? NULL : block;
}

void spans_drop_blocks(struct spans_state *st)
{
    for (uint32_t i = 0; i < st->block_capacity; i++) {
        if (st->blocks[i] && i >= st->borrowed)
            munmap(st->blocks[i], sizeof(struct row_block));
    }
    free(st->blocks);
    st->blocks = NULL;
    st->block_capacity = 0;
}

static int put(struct trace_spans *s, struct row row, int64_t begin_ns, uint32_t thread)
{
    struct spans_state *st = s->state_of_build;
    uint32_t block = (uint32_t)(st->row_count / SPANS_BLOCK_ROWS);
    uint32_t at = (uint32_t)(st->row_count % SPANS_BLOCK_ROWS);
    uint64_t since = (uint64_t)(begin_ns - s->base_ns);
    if (since >> 48 || st->row_count >= UINT32_MAX - 1)
        return -EFBIG;
    struct row_block *b = at ? st->blocks[block] : new_block(st, block);
    if (!b)
        return -ENOMEM;
    row.begin_low = (uint32_t)since;
    row.begin_high = (uint16_t)(since >> 32);
    b->rows[at] = row;
    if (spans_keeps(st, TRACE_KEEP_RUNS))
        b->threads[at] = thread;
    st->row_count++;
    s->lanes[row.lane].count++;
    return 0;
}

// The fiber's Proc and thread get a run, which is the row that was added last.
static int add_runs(struct trace_spans *s, const struct open_fiber *f, int64_t end_ns)
{
    struct spans_state *st = s->state_of_build;
    if (f->thread_lane != TRACE_NO_LANE)
        s->lanes[f->thread_lane].count++;
    if (f->peer == TRACE_NO_LANE)
        return 0;
    if (f->proc_lost_ns > f->begin_ns)
        s->lanes[f->peer].count++;
    if (f->proc_lost_ns >= end_ns)
        return 0;
    int rc = spans_reserve(&st->lost, &st->lost_capacity, st->lost_count, sizeof *st->lost);
    if (!rc)
        st->lost[st->lost_count++] =
            (struct trace_lost_proc){(uint32_t)st->row_count - 1, f->proc_lost_ns};
    return rc;
}

int spans_add_row(struct trace_spans *s, struct open_fiber *f, int64_t end_ns)
{
    uint32_t lane;
    int rc = spans_fiber_lane(s, f, &lane);
    if (rc)
        return rc;
    if (s->lanes[lane].count && s->lanes[lane].end_ns < f->begin_ns) {
        struct row gap = {.lane = lane, .peer = TRACE_NO_LANE};
        rc = spans_kind(s, TRACE_GO_UNDETERMINED, 0, false, &gap.kind);
        if (!rc)
            rc = put(s, gap, s->lanes[lane].end_ns, TRACE_NO_LANE);
    }
    struct row row = {.lane = lane, .kind = f->kind, .stack = f->stack, .peer = f->peer};
    if (!rc)
        rc = put(s, row, f->begin_ns, f->thread_lane);
    if (rc)
        return rc;
    s->lanes[lane].end_ns = end_ns;
    bool on = f->state == TRACE_GO_RUNNING || f->state == TRACE_GO_SYSCALL;
    return on && spans_keeps(s->state_of_build, TRACE_KEEP_RUNS) ? add_runs(s, f, end_ns) : 0;
}
