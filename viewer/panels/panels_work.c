// SPDX-License-Identifier: MIT
//
// What the open panel has to compute, here or in a thread. See panels.h.

#include "viewer/panels/panels.h"

#include <string.h>
#include <time.h>

enum { QUICK_NS = 8000000 }; // half of a frame: done at each step of a drag

enum { IDLE, WORKS, DONE, LEFT }; // of a worker

// --- What is due.

bool panels_due(struct panels *p)
{
    const struct panel_context *c = &p->context;
    if (panels_are_busy(p) || p->failed)
        return false;
    switch (p->open) {
    case PANELS_FLAME: return panel_flame_due(&p->flame, c);
    case PANELS_STATISTICS:
    case PANELS_FIBERS: return panel_sums_due(&p->sums, c);
    case PANELS_CRITICAL: return panel_critical_due(&p->critical, c);
    case PANELS_EXPLAIN:
        return panel_latency_due(&p->latency, c) || panel_explain_due(&p->explain, &p->latency);
    case PANELS_LATENCY: return panel_latency_due(&p->latency, c);
    default: return false;
    }
}

bool panels_ready(struct panels *p, const struct ui *u)
{
    return panels_due(p) && (!u->down || p->worker.ns < QUICK_NS);
}

// --- Doing it.

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int make(struct panels *p, uint8_t open, const struct panel_context *c)
{
    int rc = 0;
    switch (open) {
    case PANELS_FLAME: return panel_flame_work(&p->flame, c);
    case PANELS_STATISTICS:
    case PANELS_FIBERS: return panel_sums_work(&p->sums, c);
    case PANELS_CRITICAL: return panel_critical_work(&p->critical, c);
    case PANELS_EXPLAIN:
        rc = panel_latency_work(&p->latency, c);
        return rc ? rc : panel_explain_work(&p->explain, c, &p->latency);
    case PANELS_LATENCY: return panel_latency_work(&p->latency, c);
    default: return 0;
    }
}

static void *work(void *panels)
{
    struct panels *p = panels;
    struct panels_worker *w = &p->worker;
    int64_t began_ns = now_ns();
    w->rc = make(p, w->open, &w->context);
    w->ns = now_ns() - began_ns;
    if (w->context.end_ns > w->context.begin_ns)
        p->cost[w->open] = (double)w->ns / (double)(w->context.end_ns - w->context.begin_ns);
    int was = WORKS;
    // release: pairs with the acquire in panels_are_busy; acquire: with the release in panels_leave.
    bool is_done = atomic_compare_exchange_strong_explicit(
        &w->state, &was, DONE, memory_order_acq_rel, memory_order_acquire);
    if (is_done && p->wake)
        p->wake(p->wake_context);
    if (was == LEFT) { // nobody else knows p any more
        atomic_store_explicit(&w->state, IDLE, memory_order_relaxed);
        w->left(w->left_context);
    }
    return NULL;
}

// Whether it may take longer than a frame has time.
static bool is_heavy(const struct panels *p)
{
    const struct trace_spans *s = p->model->spans;
    const struct panel_context *c = &p->context;
    if ((uint64_t)s->span_count + s->region_count + s->task_count + s->sample_count <= p->heavy)
        return false;
    bool is_latency = p->open == PANELS_LATENCY || p->open == PANELS_EXPLAIN;
    if (is_latency)
        return p->open == PANELS_EXPLAIN || !panel_latency_is_quick(&p->latency, c);
    double cost = p->cost[p->open]; // what is asked for is as long as it is wide
    return cost <= 0 || cost * (double)(c->end_ns - c->begin_ns) > QUICK_NS;
}

void panels_work(struct panels *p)
{
    struct panels_worker *w = &p->worker;
    if (panels_are_busy(p))
        return;
    w->open = p->open;
    w->context = p->context;
    w->chosen = panel_latency_chosen(&p->latency);
    if (p->wake && is_heavy(p)) {
        atomic_store_explicit(&w->state, WORKS, memory_order_relaxed);
        if (!pthread_create(&w->thread, NULL, work, p))
            return;
        atomic_store_explicit(&w->state, IDLE, memory_order_relaxed);
    }
    work(p); // here: nobody waits for it
    p->failed = w->rc != 0;
}

static void join(struct panels *p)
{
    pthread_join(p->worker.thread, NULL);
    atomic_store_explicit(&p->worker.state, IDLE, memory_order_relaxed);
    p->failed = p->worker.rc != 0 && p->worker.open == p->open;
}

bool panels_are_busy(struct panels *p)
{
    // acquire: pairs with the release in work; the facts are then the frames' again
    int state = atomic_load_explicit(&p->worker.state, memory_order_acquire);
    if (state == DONE)
        join(p);
    return state == WORKS;
}

void panels_settle(struct panels *p)
{
    if (atomic_load_explicit(&p->worker.state, memory_order_acquire) != IDLE)
        join(p);
}

bool panels_leave(struct panels *p, void (*left)(void *left_context), void *left_context)
{
    struct panels_worker *w = &p->worker;
    if (!panels_are_busy(p))
        return false;
    pthread_t thread = w->thread; // p may be gone once it is left
    int was = WORKS;
    w->left = left;
    w->left_context = left_context;
    // release: `left` is there; pairs with the acquire in work.
    if (!atomic_compare_exchange_strong_explicit(&w->state, &was, LEFT, memory_order_release,
                                                 memory_order_relaxed))
        return false;
    pthread_detach(thread);
    return true;
}

struct panel_latency_choice panels_chosen(struct panels *p)
{
    return panels_are_busy(p) ? p->worker.chosen : panel_latency_chosen(&p->latency);
}

void panels_wait(struct panels *p)
{
    panels_settle(p);
    p->wake = NULL;
}
