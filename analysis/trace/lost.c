// SPDX-License-Identifier: MIT
//
// See lost.h. A fiber's stretch on a thread is accounted when it ends, or when a region begins or ends in it, so that
// each stretch is in one set of regions.

#include "analysis/trace/lost.h"

#include "base/array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { REGIONS_DEEP = 64 };

struct fiber { // by slot
    int64_t id, since_ns, thread;
    uint8_t state;
    uint32_t row;                   // 1 + index of its row; 0: none
    uint32_t function;              // likewise
    uint32_t regions[REGIONS_DEEP]; // rows
    uint32_t depth;                 // may be beyond the deepest that is kept
};

struct index {    // of a row by its name, which is a small number
    uint32_t *at; // [count], 1 + the row's; 0: none
    size_t count;
};

struct lost_state {
    struct trace_kernel *kernel;
    int64_t from_ns, to_ns, last_ns;
    struct fiber *fibers;
    size_t count;
    struct index functions, regions, by[TRACE_PIECE_KINDS];
    struct ptrtab unknown; // threads, so that each is counted once: the ids are the items
    uint64_t seed;
};

int trace_lost_new(struct trace_lost **out, struct trace_kernel *kernel, int64_t from_ns,
                   int64_t to_ns)
{
    struct trace_lost *l = calloc(1, sizeof *l);
    *out = l;
    if (!l)
        return -ENOMEM;
    l->state = calloc(1, sizeof *l->state);
    if (!l->state) {
        trace_lost_free(l);
        *out = NULL;
        return -ENOMEM;
    }
    *l->state = (struct lost_state){
        .kernel = kernel, .from_ns = from_ns, .to_ns = to_ns, .seed = ptrtab_seed()};
    return 0;
}

void trace_lost_free(struct trace_lost *l)
{
    if (!l)
        return;
    for (int i = 0; i < TRACE_PIECE_KINDS; i++)
        free(l->by[i]);
    if (l->state) {
        free(l->state->fibers);
        free(l->state->functions.at);
        free(l->state->regions.at);
        for (int i = 0; i < TRACE_PIECE_KINDS; i++)
            free(l->state->by[i].at);
        ptrtab_finish(&l->state->unknown);
    }
    free(l->state);
    free(l->fibers);
    free(l->functions);
    free(l->regions);
    trace_names_finish(&l->names);
    free(l);
}

int64_t trace_lost_sum(const struct trace_lost_times *t)
{
    int64_t sum = 0;
    for (int i = 0; i < TRACE_PIECE_KINDS; i++)
        sum += t->ns[i];
    return sum;
}

// --- Rows.

static int new_row(struct trace_lost_row **rows, size_t *count, size_t *capacity, uint32_t name,
                   int64_t id)
{
    if (array_reserve((void **)rows, capacity, *count, sizeof **rows))
        return -ENOMEM;
    (*rows)[*count] = (struct trace_lost_row){.name = name, .id = id};
    return (int)(*count)++;
}

// Where the row of a name has its number; NULL: there is no memory.
static uint32_t *place_of(struct index *index, uint32_t name)
{
    if (name >= index->count) {
        size_t n = name * (size_t)2 + 64;
        uint32_t *grown = reallocarray(index->at, n, sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + index->count, 0, (n - index->count) * sizeof *grown);
        index->at = grown;
        index->count = n;
    }
    return &index->at[name];
}

static int row_of(struct index *index, struct trace_lost_row **rows, size_t *count,
                  size_t *capacity, uint32_t name)
{
    uint32_t *at = place_of(index, name);
    if (at && *at)
        return (int)*at - 1;
    int row = at ? new_row(rows, count, capacity, name, 0) : -ENOMEM;
    if (row >= 0)
        *at = (uint32_t)row + 1;
    return row;
}

static int add_by(struct trace_lost *l, int kind, uint32_t name, int64_t ns, bool is_new)
{
    uint32_t *at = place_of(&l->state->by[kind], name);
    size_t count = l->by_count[kind];
    if (!at)
        return -ENOMEM;
    if (!*at) {
        if (array_reserve((void **)&l->by[kind], &l->by_capacity[kind], count, sizeof **l->by))
            return -ENOMEM;
        l->by[kind][count] = (struct trace_lost_by){.name = name};
        l->by_count[kind]++;
        *at = (uint32_t)count + 1;
    }
    l->by[kind][*at - 1].ns += ns;
    l->by[kind][*at - 1].count += is_new;
    return 0;
}

static void add_stall(struct trace_lost *l, const struct trace_lost_stall *s)
{
    size_t i = l->stall_count;
    while (i && l->stalls[i - 1].ns < s->ns)
        i--;
    if (i == TRACE_LOST_STALLS)
        return;
    if (l->stall_count < TRACE_LOST_STALLS)
        l->stall_count++;
    memmove(&l->stalls[i + 1], &l->stalls[i], (l->stall_count - 1 - i) * sizeof *s);
    l->stalls[i] = *s;
}

static void add_times(struct trace_lost_times *to, const struct trace_lost_times *t)
{
    to->had_ns += t->had_ns;
    to->unknown_ns += t->unknown_ns;
    to->told_ns += t->told_ns;
    for (int i = 0; i < TRACE_PIECE_KINDS; i++) {
        to->ns[i] += t->ns[i];
        to->count[i] += t->count[i];
        if (t->longest_ns[i] > to->longest_ns[i])
            to->longest_ns[i] = t->longest_ns[i];
    }
}

// --- Stretches.

static bool equal(const void *item, const void *key)
{
    return item == key;
}

static int add_unknown(struct lost_state *s, int64_t thread)
{
    uint64_t hash = ptrtab_mix(s->seed, (uint64_t)thread);
    // Never dereferenced. An item is not NULL, and the greatest id of all is none (TRACE_NONE).
    const void *id = (const void *)((uintptr_t)thread + 1);
    return ptrtab_find(&s->unknown, hash, equal, id) ? 0 : ptrtab_add(&s->unknown, hash, id);
}

struct growing {
    struct trace_lost_stall stall;
    int64_t most_ns; // of its parts
};

// Descheduling comes in parts, by who had the CPU: the stall is by who had it longest.
static void grow_stall(struct trace_lost *l, const struct fiber *f,
                       const struct trace_kernel_piece *p, int64_t begin_ns, int64_t end_ns,
                       bool is_new, struct growing *g)
{
    struct trace_lost_stall *s = &g->stall;
    if (is_new || s->kind != p->kind || s->begin_ns + s->ns != begin_ns) {
        if (s->ns)
            add_stall(l, s);
        uint32_t deep = f->depth < REGIONS_DEEP ? f->depth : REGIONS_DEEP;
        *s = (struct trace_lost_stall){begin_ns, 0, f->id, f->thread, 0, 0, 0, p->kind};
        s->function = f->function ? l->functions[f->function - 1].name : 0;
        s->region = deep ? l->regions[f->regions[deep - 1]].name : 0;
        g->most_ns = 0;
    }
    s->ns += end_ns - begin_ns;
    if (end_ns - begin_ns > g->most_ns) {
        g->most_ns = end_ns - begin_ns;
        s->by = p->by;
    }
}

// What the kernel trace has of this thread in a stretch.
static int look(struct trace_lost *l, const struct fiber *f, int64_t begin, int64_t end,
                struct trace_lost_times *t)
{
    struct lost_state *s = l->state;
    struct trace_kernel_thread *k = trace_kernel_thread(s->kernel, f->thread);
    t->had_ns = end - begin;
    t->unknown_ns = k ? end - begin - trace_kernel_covers(s->kernel, begin, end) : end - begin;
    if (!k)
        return add_unknown(s, f->thread);
    struct growing whole = {0};
    while (k->cursor && k->pieces[k->cursor - 1].end_ns > begin)
        k->cursor--;
    for (; k->cursor < k->count && k->pieces[k->cursor].begin_ns < end; k->cursor++) {
        const struct trace_kernel_piece *p = &k->pieces[k->cursor];
        int64_t a = p->begin_ns > begin ? p->begin_ns : begin,
                b = p->end_ns < end ? p->end_ns : end;
        if (b <= a)
            continue;
        if (p->kind == TRACE_PIECE_WAIT && f->state == TRACE_GO_SYSCALL) {
            t->told_ns += b - a;
            if (p->end_ns > end)
                break;
            continue;
        }
        bool is_new = p->is_new && p->begin_ns >= begin;
        t->ns[p->kind] += b - a;
        t->count[p->kind] += is_new;
        if (add_by(l, p->kind, p->by, b - a, p->begin_ns >= begin))
            return -ENOMEM;
        grow_stall(l, f, p, a, b, is_new, &whole);
        if (whole.stall.ns > t->longest_ns[p->kind])
            t->longest_ns[p->kind] = whole.stall.ns;
        if (p->end_ns > end)
            break;
    }
    if (whole.stall.ns)
        add_stall(l, &whole.stall);
    t->had_ns -= t->told_ns;
    return 0;
}

static int account(struct trace_lost *l, struct fiber *f, int64_t now)
{
    struct lost_state *s = l->state;
    int64_t begin = f->since_ns > s->from_ns ? f->since_ns : s->from_ns;
    int64_t end = s->to_ns && now > s->to_ns ? s->to_ns : now;
    struct trace_lost_times t = {0};
    bool has = f->state == TRACE_GO_RUNNING || f->state == TRACE_GO_SYSCALL;
    f->since_ns = now;
    if (!has || f->thread == TRACE_NONE || end <= begin)
        return 0;
    if (!f->row) {
        int row = new_row(&l->fibers, &l->fiber_count, &l->fiber_capacity, 0, f->id);
        if (row < 0)
            return -ENOMEM;
        f->row = (uint32_t)row + 1;
    }
    int rc = look(l, f, begin, end, &t);
    add_times(&l->whole, &t);
    add_times(&l->fibers[f->row - 1].times, &t);
    if (f->function) {
        add_times(&l->functions[f->function - 1].times, &t);
        l->fibers[f->row - 1].name = l->functions[f->function - 1].name;
    }
    for (uint32_t i = 0; i < f->depth && i < REGIONS_DEEP; i++) {
        uint32_t j = 0; // a region within one of its own name counts once
        while (j < i && f->regions[j] != f->regions[i])
            j++;
        if (j == i)
            add_times(&l->regions[f->regions[i]].times, &t);
    }
    return rc;
}

// --- Events.

static struct fiber *fiber_at(struct lost_state *s, uint32_t slot)
{
    if (slot == TRACE_NO_SLOT)
        return NULL;
    if (slot >= s->count) {
        size_t n = slot * 2 + (size_t)64;
        struct fiber *grown = reallocarray(s->fibers, n, sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + s->count, 0, (n - s->count) * sizeof *grown);
        s->fibers = grown;
        s->count = n;
    }
    return &s->fibers[slot];
}

static int take_transition(struct trace_lost *l, const struct trace_reader *r,
                           const struct trace_event *ev)
{
    struct fiber *f = fiber_at(l->state, ev->transition.slot);
    if (!f)
        return ev->transition.slot == TRACE_NO_SLOT ? 0 : -ENOMEM;
    if (f->id != ev->transition.id || !f->state)
        *f = (struct fiber){.id = ev->transition.id, .since_ns = ev->time_ns};
    int rc = account(l, f, ev->time_ns);
    if (!f->function && ev->transition.stack) {
        uint32_t name = trace_names_root(&l->names, r, ev->transition.stack);
        int row = row_of(&l->state->functions, &l->functions, &l->function_count,
                         &l->function_capacity, name);
        if (row < 0)
            return -ENOMEM;
        f->function = (uint32_t)row + 1;
        l->functions[row].instances++;
    }
    f->state = ev->transition.to;
    bool is_status = ev->wire == TRACE_EV_GO_STATUS || ev->wire == TRACE_EV_GO_STATUS_STACK;
    f->thread = is_status ? ev->transition.peer : ev->thread;
    if (f->state == TRACE_GO_NOT_EXIST)
        *f = (struct fiber){0};
    return rc;
}

static int take_region(struct trace_lost *l, const struct trace_reader *r,
                       const struct trace_event *ev)
{
    struct fiber *f = fiber_at(l->state, ev->goroutine_slot);
    if (!f || !f->state)
        return 0;
    int rc = account(l, f, ev->time_ns);
    if (ev->kind == TRACE_REGION_END) {
        f->depth -= f->depth > 0;
        return rc;
    }
    uint32_t name = trace_names_of(&l->names, r, ev->region.type);
    int row = row_of(&l->state->regions, &l->regions, &l->region_count, &l->region_capacity, name);
    if (row < 0)
        return -ENOMEM;
    l->regions[row].instances++;
    if (f->depth < REGIONS_DEEP)
        f->regions[f->depth] = (uint32_t)row;
    f->depth++;
    return rc;
}

int trace_lost_event(struct trace_lost *l, const struct trace_reader *r,
                     const struct trace_event *ev)
{
    l->state->last_ns = ev->time_ns;
    if (ev->kind == TRACE_TRANSITION && ev->what == TRACE_RESOURCE_GOROUTINE)
        return take_transition(l, r, ev);
    if (ev->kind == TRACE_REGION_BEGIN || ev->kind == TRACE_REGION_END)
        return take_region(l, r, ev);
    return 0;
}

static int compare_rows(const void *a, const void *b)
{
    const struct trace_lost_row *x = a, *y = b;
    int64_t p = trace_lost_sum(&x->times), q = trace_lost_sum(&y->times);
    return p != q ? (p < q) - (p > q) : (x->id > y->id) - (x->id < y->id);
}

static int compare_by(const void *a, const void *b)
{
    const struct trace_lost_by *x = a, *y = b;
    return (x->ns < y->ns) - (x->ns > y->ns);
}

void trace_lost_finish(struct trace_lost *l)
{
    struct lost_state *s = l->state;
    for (size_t i = 0; i < s->count; i++)
        account(l, &s->fibers[i], s->last_ns);
    if (l->fiber_count)
        qsort(l->fibers, l->fiber_count, sizeof *l->fibers, compare_rows);
    if (l->function_count)
        qsort(l->functions, l->function_count, sizeof *l->functions, compare_rows);
    if (l->region_count)
        qsort(l->regions, l->region_count, sizeof *l->regions, compare_rows);
    for (int i = 0; i < TRACE_PIECE_KINDS; i++)
        if (l->by_count[i])
            qsort(l->by[i], l->by_count[i], sizeof *l->by[i], compare_by);
    l->threads_unknown = s->unknown.count;
}
