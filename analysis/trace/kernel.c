// SPDX-License-Identifier: MIT
//
// See kernel.h. While a thread is runnable, who has which CPU is kept; when it gets one its wait is divided by who had
// that.

#include "analysis/trace/kernel.h"

#include "base/array.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024, RUNS_KEPT = 1 << 16 };

struct run {                  // of a thread on a CPU
    int64_t begin_ns, end_ns; // end 0: it runs
    uint32_t name;
};

struct cpu {
    struct run *runs; // [count], the newest last
    size_t count, capacity;
};

struct go { // by slot
    int64_t id, since_ns;
    uint32_t name, why; // why: name of the call it is in
    uint8_t state;
    bool is_fault;
};

struct trace_kernel {
    struct trace_names names;
    struct trace_kernel_thread *buckets[BUCKETS];
    struct go *gos;
    size_t go_count;
    struct cpu *cpus;
    size_t cpu_count;
    struct range {
        int64_t from_ns, to_ns;
    } * ranges; // of files; the last one is being read
    size_t range_count, range_capacity;
    bool in_file;
    uint32_t fault, disk, network; // names
};

int trace_kernel_new(struct trace_kernel **out)
{
    struct trace_kernel *k = calloc(1, sizeof *k);
    *out = k;
    if (!k)
        return -ENOMEM;
    k->fault = trace_names_add(&k->names, "page fault", 10);
    k->disk = trace_names_add(&k->names, "disk", 4);
    k->network = trace_names_add(&k->names, "network", 7);
    return 0;
}

void trace_kernel_free(struct trace_kernel *k)
{
    if (!k)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct trace_kernel_thread *t = k->buckets[i], *next; t; t = next) {
            next = t->next;
            free(t->pieces);
            free(t);
        }
    for (size_t i = 0; i < k->cpu_count; i++)
        free(k->cpus[i].runs);
    trace_names_finish(&k->names);
    free(k->ranges);
    free(k->cpus);
    free(k->gos);
    free(k);
}

int trace_kernel_path(char *path, size_t size, const char *trace)
{
    const char *slash = strrchr(trace, '/'), *at = slash ? slash : trace, *last = NULL;
    while ((at = strstr(at, ".trace")))
        last = at++;
    int n = last ? (int)(last - trace) : (int)strlen(trace);
    n = snprintf(path, size, "%.*s.kernel.trace", n, trace);
    return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

struct trace_kernel_thread *trace_kernel_thread(const struct trace_kernel *k, int64_t tid)
{
    struct trace_kernel_thread *t = k->buckets[(uint64_t)tid % BUCKETS];
    while (t && t->tid != tid)
        t = t->next;
    return t;
}

const char *trace_kernel_name(const struct trace_kernel *k, uint32_t by)
{
    return trace_names_text(&k->names, by);
}

int64_t trace_kernel_covers(const struct trace_kernel *k, int64_t from_ns, int64_t to_ns)
{
    int64_t sum = 0;
    for (size_t i = 0; i < k->range_count; i++) {
        int64_t from = from_ns > k->ranges[i].from_ns ? from_ns : k->ranges[i].from_ns;
        int64_t to = to_ns < k->ranges[i].to_ns ? to_ns : k->ranges[i].to_ns;
        sum += to > from ? to - from : 0;
    }
    return sum;
}

size_t trace_kernel_piece_after(const struct trace_kernel_thread *t, int64_t time_ns)
{
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->pieces[middle].end_ns > time_ns)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

int64_t trace_kernel_taken(const struct trace_kernel_thread *t, int64_t from_ns, int64_t to_ns)
{
    int64_t sum = 0;
    for (size_t i = t ? trace_kernel_piece_after(t, from_ns) : 0; t && i < t->count; i++) {
        const struct trace_kernel_piece *p = &t->pieces[i];
        if (p->begin_ns >= to_ns)
            break;
        int64_t from = p->begin_ns > from_ns ? p->begin_ns : from_ns;
        sum += (p->end_ns < to_ns ? p->end_ns : to_ns) - from;
    }
    return sum;
}

static int add_piece(struct trace_kernel *k, int64_t tid, const struct trace_kernel_piece *piece)
{
    struct trace_kernel_thread *t = trace_kernel_thread(k, tid);
    struct trace_kernel_piece p = *piece;
    // A file may have two threads of one number, or one that is heard of again: what came first stays.
    if (t && t->count && p.begin_ns < t->pieces[t->count - 1].end_ns)
        p.begin_ns = t->pieces[t->count - 1].end_ns;
    if (p.end_ns <= p.begin_ns)
        return 0;
    if (!t) {
        t = calloc(1, sizeof *t);
        if (!t)
            return -ENOMEM;
        t->tid = tid;
        t->next = k->buckets[(uint64_t)tid % BUCKETS];
        k->buckets[(uint64_t)tid % BUCKETS] = t;
    }
    int rc = array_reserve((void **)&t->pieces, &t->capacity, t->count, sizeof *t->pieces);
    if (!rc)
        t->pieces[t->count++] = p;
    return rc;
}

// --- CPUs.

static struct cpu *cpu_at(struct trace_kernel *k, int64_t id)
{
    if (id < 0 || id > 1 << 20)
        return NULL;
    if ((size_t)id >= k->cpu_count) {
        size_t n = (size_t)id + 1;
        struct cpu *grown = reallocarray(k->cpus, n, sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + k->cpu_count, 0, (n - k->cpu_count) * sizeof *grown);
        k->cpus = grown;
        k->cpu_count = n;
    }
    return &k->cpus[id];
}

static int cpu_begin(struct trace_kernel *k, int64_t id, uint32_t name, int64_t now)
{
    struct cpu *c = cpu_at(k, id);
    if (!c)
        return id < 0 ? 0 : -ENOMEM;
    if (c->count == RUNS_KEPT) { // what has waited for longer has waited for somebody
        memmove(c->runs, c->runs + RUNS_KEPT / 2, RUNS_KEPT / 2 * sizeof *c->runs);
        c->count = RUNS_KEPT / 2;
    }
    const struct run *last = c->count ? &c->runs[c->count - 1] : NULL;
    if (last && now < (last->end_ns ? last->end_ns : last->begin_ns))
        now = last->end_ns ? last->end_ns : last->begin_ns; // likewise as in add_piece
    int rc = array_reserve((void **)&c->runs, &c->capacity, c->count, sizeof *c->runs);
    if (!rc)
        c->runs[c->count++] = (struct run){now, 0, name};
    return rc;
}

static void cpu_end(struct trace_kernel *k, int64_t id, int64_t now)
{
    if (id >= 0 && (size_t)id < k->cpu_count && k->cpus[id].count)
        k->cpus[id].runs[k->cpus[id].count - 1].end_ns = now;
}

// A thread was runnable from `since` until it got this CPU: a piece for each who had it.
static int divide(struct trace_kernel *k, int64_t tid, int64_t since, int64_t now, int64_t cpu)
{
    struct trace_kernel_piece p = {
        .begin_ns = since, .kind = TRACE_PIECE_DESCHEDULED, .is_new = true};
    const struct cpu *c = cpu >= 0 && (size_t)cpu < k->cpu_count ? &k->cpus[cpu] : NULL;
    size_t i = c ? c->count : 0;
    int rc = 0;
    while (i && (!c->runs[i - 1].end_ns || c->runs[i - 1].end_ns > since))
        i--;
    for (; c && i < c->count && !rc; i++) {
        const struct run *run = &c->runs[i];
        int64_t begin = run->begin_ns > since ? run->begin_ns : since;
        int64_t end = run->end_ns && run->end_ns < now ? run->end_ns : now;
        if (begin > p.begin_ns) { // nobody
            p.end_ns = begin;
            p.by = 0;
            rc = add_piece(k, tid, &p);
            p.is_new = false;
        }
        p.begin_ns = begin;
        p.end_ns = end;
        p.by = run->name;
        rc = rc ? rc : add_piece(k, tid, &p);
        p.is_new = false;
        p.begin_ns = end;
    }
    p.end_ns = now;
    p.by = 0;
    return rc ? rc : add_piece(k, tid, &p);
}

// --- Threads.

static struct go *go_at(struct trace_kernel *k, uint32_t slot)
{
    if (slot >= k->go_count) {
        size_t n = slot * 2 + (size_t)64;
        struct go *grown = reallocarray(k->gos, n, sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + k->go_count, 0, (n - k->go_count) * sizeof *grown);
        k->gos = grown;
        k->go_count = n;
    }
    return &k->gos[slot];
}

// The frame before the outermost is the call.
static void learn(struct trace_kernel *k, const struct trace_reader *r, struct go *g,
                  uint32_t stack)
{
    const struct trace_frame *frames;
    uint32_t n = trace_reader_stack(r, stack, &frames);
    uint32_t name = n ? trace_names_of(&k->names, r, frames[n - 1].function) : 0;
    bool is_cause = n == 1 && !frames[0].file && (name == k->disk || name == k->network);
    if (!n || is_cause)
        return;
    g->name = name;
    g->why = n > 1 ? trace_names_of(&k->names, r, frames[n - 2].function) : 0;
    g->is_fault = g->why == k->fault;
}

// What ended its wait, if the waker's stack says that: then that stands behind the name of the call.
static void learn_cause(struct trace_kernel *k, const struct trace_reader *r, struct go *g,
                        uint32_t stack)
{
    const struct trace_frame *frames;
    char text[96];
    uint32_t n = trace_reader_stack(r, stack, &frames);
    uint32_t cause = n ? trace_names_of(&k->names, r, frames[0].function) : 0;
    if (!g->why || g->is_fault || !cause || (cause != k->disk && cause != k->network))
        return;
    snprintf(text, sizeof text, "%.64s (%s)", trace_names_text(&k->names, g->why),
             trace_names_text(&k->names, cause));
    g->why = trace_names_add(&k->names, text, strlen(text));
}

static int close_state(struct trace_kernel *k, const struct go *g, int64_t now, int64_t cpu)
{
    struct trace_kernel_piece p = {g->since_ns, now, g->why, 0, true};
    int64_t tid = g->id & UINT32_MAX;
    switch (g->state) {
    case TRACE_GO_RUNNABLE: return divide(k, tid, g->since_ns, now, cpu);
    case TRACE_GO_SYSCALL: p.kind = g->is_fault ? TRACE_PIECE_FAULT : TRACE_PIECE_SYSCALL; break;
    case TRACE_GO_WAITING:
        p.kind = g->is_fault ? TRACE_PIECE_FAULT : TRACE_PIECE_WAIT;
        p.is_new = !g->is_fault;
        break;
    default: return 0;
    }
    return add_piece(k, tid, &p);
}

static int note_time(struct trace_kernel *k, int64_t now)
{
    if (!k->in_file) {
        if (array_reserve((void **)&k->ranges, &k->range_capacity, k->range_count,
                          sizeof *k->ranges))
            return -ENOMEM;
        k->ranges[k->range_count++] = (struct range){now, now};
        k->in_file = true;
    }
    k->ranges[k->range_count - 1].to_ns = now;
    return 0;
}

int trace_kernel_file_end(struct trace_kernel *k)
{
    int64_t now = k->range_count ? k->ranges[k->range_count - 1].to_ns : 0;
    int rc = 0;
    for (size_t i = 0; i < k->go_count && !rc; i++)
        rc = close_state(k, &k->gos[i], now, TRACE_NONE);
    for (size_t i = 0; i < k->cpu_count; i++)
        k->cpus[i].count = 0;
    if (k->go_count)
        memset(k->gos, 0, k->go_count * sizeof *k->gos);
    k->in_file = false;
    trace_names_next_reader(&k->names);
    return rc;
}

int trace_kernel_event(struct trace_kernel *k, const struct trace_reader *r,
                       const struct trace_event *ev)
{
    int rc = note_time(k, ev->time_ns);
    if (rc)
        return rc;
    if (ev->kind != TRACE_TRANSITION || ev->what != TRACE_RESOURCE_GOROUTINE ||
        ev->transition.slot == TRACE_NO_SLOT)
        return 0;
    struct go *g = go_at(k, ev->transition.slot);
    if (!g)
        return -ENOMEM;
    bool was_on = g->state == TRACE_GO_RUNNING || g->state == TRACE_GO_SYSCALL;
    bool is_on = ev->transition.to == TRACE_GO_RUNNING || ev->transition.to == TRACE_GO_SYSCALL;
    bool is_same = g->id == ev->transition.id && g->state;
    if (!is_same) {
        *g = (struct go){.id = ev->transition.id};
        was_on = false;
    } else if (g->state != ev->transition.to) {
        if (g->state == TRACE_GO_WAITING && ev->transition.to == TRACE_GO_RUNNABLE)
            learn_cause(k, r, g, ev->stack);
        rc = close_state(k, g, ev->time_ns, is_on ? ev->thread : TRACE_NONE);
    }
    if (was_on && !is_on)
        cpu_end(k, ev->thread, ev->time_ns);
    if (!is_same || g->state != ev->transition.to)
        g->since_ns = ev->time_ns;
    // What is first heard of by its status has been so all the time.
    if (!is_same && ev->transition.from == TRACE_GO_UNDETERMINED)
        g->since_ns = k->ranges[k->range_count - 1].from_ns;
    if (ev->transition.to != TRACE_GO_RUNNABLE || !g->name)
        learn(k, r, g, ev->transition.stack);
    g->state = ev->transition.to;
    if (is_on && !was_on && !rc)
        rc = cpu_begin(k, ev->thread, g->name, g->since_ns);
    if (ev->transition.to == TRACE_GO_NOT_EXIST)
        *g = (struct go){0};
    return rc;
}
