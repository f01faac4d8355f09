// SPDX-License-Identifier: MIT
//
// See latency.h.

#include "analysis/trace/latency.h"

#include "base/array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char process_word[] = "process ";

enum { SAME_NS = 1 }; // between two events of one moment

struct go { // by slot
    int64_t id, since_ns;
    uint32_t name, process;
    uint32_t row; // where it was counted last, from 1; 0: nowhere
    uint8_t state;
    int64_t early_ns; // a wait that is not counted yet
    bool has_early;
    bool was_early_running;
    bool was_running; // before it was runnable
    bool is_whole;    // its state was seen to begin
};

struct latency_state {
    int64_t from_ns, to_ns;
    int64_t begin_ns; // of the file
    bool in_file;
    struct go *gos;
    size_t go_count;
    struct ptrtab row_of; // by name and process; a process's own: by name 0
    size_t row_capacity, process_capacity;
    uint32_t exact_left;
    uint32_t more; // name
};

int trace_latency_new(struct trace_latency **out, int64_t from_ns, int64_t to_ns)
{
    struct trace_latency *l = *out = calloc(1, sizeof *l);
    struct latency_state *st = l ? calloc(1, sizeof *st) : NULL;
    if (!st)
        return -ENOMEM;
    *st = (struct latency_state){
        .from_ns = from_ns, .to_ns = to_ns, .exact_left = TRACE_LATENCY_EXACT_MAX};
    l->state = st;
    l->end_ns = INT64_MIN;
    st->more = trace_names_add(&l->names, "(more names)", 12);
    return l->names.failed ? -ENOMEM : 0;
}

static void free_rows(struct trace_latency_row **rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        trace_exact_finish(&rows[i]->waits.exact);
        free(rows[i]);
    }
    free(rows);
}

void trace_latency_free(struct trace_latency *l)
{
    if (!l)
        return;
    free_rows(l->rows, l->row_count);
    free_rows(l->processes, l->process_count);
    trace_exact_finish(&l->whole.exact);
    trace_exact_finish(&l->woken.exact);
    trace_exact_finish(&l->taken_off.exact);
    trace_names_finish(&l->names);
    if (l->state) {
        ptrtab_finish(&l->state->row_of);
        free(l->state->gos);
    }
    free(l->state);
    free(l);
}

// --- Waits.

static void add_wait(struct latency_state *st, struct trace_latency_waits *w, int64_t ns)
{
    trace_hist_add(&w->hist, ns);
    trace_exact_add(&w->exact, &st->exact_left, ns);
}

static bool is_row(const void *item, const void *key)
{
    const struct trace_latency_row *a = item, *b = key;
    return a->name == b->name && a->process == b->process;
}

// Beyond the limit there is one for the rest, which has no process.
static struct trace_latency_row *row_of(struct trace_latency *l, uint32_t name, uint32_t process,
                                        bool is_process)
{
    struct latency_state *st = l->state;
    struct trace_latency_row ***rows = is_process ? &l->processes : &l->rows;
    size_t *count = is_process ? &l->process_count : &l->row_count;
    size_t *capacity = is_process ? &st->process_capacity : &st->row_capacity;
    struct trace_latency_row key = {.name = name, .process = process};
    uint64_t hash = ptrtab_mix(ptrtab_seed() + is_process, (uint64_t)name << 32 | process);
    const struct trace_latency_row *known = ptrtab_find(&st->row_of, hash, is_row, &key);
    if (known)
        return (struct trace_latency_row *)(uintptr_t)known;
    if (*count >= TRACE_LATENCY_ROWS_MAX && (name != st->more || process))
        return row_of(l, st->more, 0, is_process);
    struct trace_latency_row *row = calloc(1, sizeof *row);
    if (!row || array_reserve((void **)rows, capacity, *count, sizeof **rows) ||
        ptrtab_add(&st->row_of, hash, row)) {
        free(row);
        return NULL;
    }
    row->name = name;
    row->process = process;
    (*rows)[(*count)++] = row;
    return row;
}

static int count_wait(struct trace_latency *l, struct go *g, int64_t ns, bool was_running)
{
    struct latency_state *st = l->state;
    struct trace_latency_row *row = row_of(l, g->name, g->process, false), *process = NULL;
    if (!row || (g->process && !(process = row_of(l, 0, g->process, true))))
        return -ENOMEM;
    add_wait(st, &l->whole, ns);
    add_wait(st, was_running ? &l->taken_off : &l->woken, ns);
    add_wait(st, &row->waits, ns);
    if (process)
        add_wait(st, &process->waits, ns);
    if (g->row != g->name + 1) { // a thread may be called otherwise later
        row->members++;
        if (process)
            process->members += !g->row;
        g->row = g->name + 1;
    }
    return 0;
}

// A wait that ended before the name was known; between two of them there is a stack, where it stopped.
static int count_early(struct trace_latency *l, struct go *g)
{
    bool has_early = g->has_early && !(g->process && g->early_ns <= SAME_NS);
    g->has_early = false;
    return has_early ? count_wait(l, g, g->early_ns, g->was_early_running) : 0;
}

static int add_ended(struct trace_latency *l, struct go *g, int64_t ns)
{
    int rc = count_early(l, g);
    if (rc || g->name)
        return rc ? rc : count_wait(l, g, ns, g->was_running);
    g->has_early = true;
    g->early_ns = ns;
    g->was_early_running = g->was_running;
    return 0;
}

static void count_open(struct trace_latency *l, int64_t ns)
{
    l->open++;
    if (ns > l->open_longest_ns)
        l->open_longest_ns = ns;
}

// --- Fibers and threads.

static struct go *go_at(struct latency_state *st, uint32_t slot)
{
    if (slot >= st->go_count) {
        size_t n = (size_t)slot * 2 + 64;
        struct go *grown = reallocarray(st->gos, n, sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + st->go_count, 0, (n - st->go_count) * sizeof *grown);
        st->gos = grown;
        st->go_count = n;
    }
    return &st->gos[slot];
}

// A fiber is what its first stack says, as in the summary; a thread what its last one says, as it may be called
// otherwise by then.
static int learn(struct trace_latency *l, const struct trace_reader *r, struct go *g,
                 const struct trace_event *ev)
{
    const struct trace_frame *frames;
    uint32_t n = trace_reader_stack(r, ev->transition.stack, &frames);
    if (!n || (g->name && !g->process))
        return 0;
    uint32_t file = trace_names_of(&l->names, r, frames[n - 1].file);
    const char *text = trace_names_text(&l->names, file);
    bool is_thread = !strncmp(text, process_word, sizeof process_word - 1);
    g->name = trace_names_of(&l->names, r, frames[n - 1].function);
    g->process = is_thread ? file : 0;
    l->is_kernel |= is_thread;
    return count_early(l, g);
}

static int end_wait(struct trace_latency *l, struct go *g, const struct trace_event *ev)
{
    const struct latency_state *st = l->state;
    int64_t now = ev->time_ns, ns = now - g->since_ns;
    if (g->state != TRACE_GO_RUNNABLE || (st->from_ns && now < st->from_ns))
        return 0;
    if (st->to_ns && now > st->to_ns) {
        if (g->since_ns <= st->to_ns)
            count_open(l, st->to_ns - g->since_ns);
    } else if (!g->is_whole) {
        count_open(l, ns);
    } else if (ev->transition.to == TRACE_GO_RUNNING && !(g->process && ns <= SAME_NS)) {
        return add_ended(l, g, ns);
    }
    return 0;
}

int trace_latency_event(struct trace_latency *l, const struct trace_reader *r,
                        const struct trace_event *ev)
{
    struct latency_state *st = l->state;
    l->end_ns = ev->time_ns;
    st->begin_ns = st->in_file ? st->begin_ns : ev->time_ns;
    st->in_file = true;
    if (ev->kind != TRACE_TRANSITION || ev->what != TRACE_RESOURCE_GOROUTINE ||
        ev->transition.slot == TRACE_NO_SLOT)
        return 0;
    struct go *g = go_at(st, ev->transition.slot);
    if (!g)
        return -ENOMEM;
    uint8_t from = ev->transition.from, to = ev->transition.to;
    if (!g->state || g->id != ev->transition.id)
        *g = (struct go){.id = ev->transition.id, .since_ns = ev->time_ns};
    int rc = learn(l, r, g, ev);
    if (rc || from == to) // announced again, at the beginning of a generation
        return rc;
    rc = end_wait(l, g, ev);
    g->was_running = g->state == TRACE_GO_RUNNING;
    g->is_whole = from != TRACE_GO_UNDETERMINED;
    g->since_ns = g->is_whole ? ev->time_ns : st->begin_ns; // it has been so all the time
    g->state = to;
    if (to == TRACE_GO_NOT_EXIST) {
        rc = rc ? rc : count_early(l, g);
        *g = (struct go){0};
    }
    return rc || !l->names.failed ? rc : -ENOMEM;
}

int trace_latency_file_end(struct trace_latency *l)
{
    struct latency_state *st = l->state;
    int rc = 0;
    for (size_t i = 0; i < st->go_count && !rc; i++) {
        struct go *g = &st->gos[i];
        rc = count_early(l, g);
        bool is_seen = !st->to_ns || g->since_ns <= st->to_ns;
        int64_t end_ns = st->to_ns && st->to_ns < l->end_ns ? st->to_ns : l->end_ns;
        if (g->state == TRACE_GO_RUNNABLE && is_seen)
            count_open(l, end_ns - g->since_ns);
    }
    if (st->go_count)
        memset(st->gos, 0, st->go_count * sizeof *st->gos);
    st->in_file = false;
    trace_names_next_reader(&l->names);
    return rc;
}

// --- The end.

static int by_sum(const void *a, const void *b)
{
    const struct trace_latency_row *x = *(const struct trace_latency_row *const *)a;
    const struct trace_latency_row *y = *(const struct trace_latency_row *const *)b;
    int64_t p = x->waits.hist.sum_ns, q = y->waits.hist.sum_ns;
    if (p != q)
        return p < q ? 1 : -1;
    if (x->name != y->name)
        return x->name < y->name ? -1 : 1;
    return (x->process > y->process) - (x->process < y->process);
}

static void finish_rows(struct trace_latency_row **rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        trace_exact_sort(&rows[i]->waits.exact);
    if (count)
        qsort(rows, count, sizeof *rows, by_sum);
}

void trace_latency_finish(struct trace_latency *l)
{
    trace_exact_sort(&l->whole.exact);
    trace_exact_sort(&l->woken.exact);
    trace_exact_sort(&l->taken_off.exact);
    finish_rows(l->rows, l->row_count);
    finish_rows(l->processes, l->process_count);
}

int64_t trace_latency_quantile_ns(const struct trace_latency_waits *w, double q, bool *is_exact)
{
    *is_exact = !w->exact.lost;
    return *is_exact ? w->hist.count ? trace_exact_quantile_ns(&w->exact, q) : 0
                     : trace_hist_quantile_ns(&w->hist, q);
}
