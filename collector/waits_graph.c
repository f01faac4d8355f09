// SPDX-License-Identifier: MIT
//
// Who waits for whom, and the circles in it; see waits.h. Each node leads to one other at most, so circles are found by
// following; a mutex that some parked fiber holds leads to SOME_FIBER.

#include "collector/waits_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SOME_FIBER = UINT32_MAX - 1 };

struct making {
    struct graph *g;
    const struct look *l;
    uint32_t *mark; // of each node: the walk that came by
    uint8_t *fate;  // enum fate
};

enum fate { FATE_UNKNOWN, FATE_FREE, FATE_CIRCLE, FATE_SOME_FIBER };

// --- Edges.

static void hold(const struct making *k, struct waits_edge *e, bool is_fiber, uint64_t id)
{
    uint32_t i = is_fiber ? look_find_fiber(k->l, id) : look_find_thread(k->l, id);
    e->holder_id = id;
    e->holder_is_fiber = is_fiber;
    e->holder = i == WAITS_NONE ? WAITS_HELD_BY_DEAD : WAITS_HELD;
    e->to = i == WAITS_NONE || !is_fiber ? i : (uint32_t)k->g->threads + i;
    e->next = e->to;
}

// By the runtime's word.
static void hold_by_owner(const struct making *k, struct waits_edge *e, uint64_t owner)
{
    if (owner)
        hold(k, e, !(owner & FIBERS_OWNER_THREAD),
             owner & FIBERS_OWNER_THREAD ? (uint32_t)owner : owner);
}

// The one fiber that is tied to the thread and waits, or none: WAITS_NONE; if there are several, too.
static uint32_t tied_fiber(const struct look *l, uint32_t own_tid)
{
    uint32_t found = WAITS_NONE;
    for (size_t i = 0; i < l->fiber_count; i++)
        if (l->fibers[i].is_waiting && l->fibers[i].tid == own_tid) {
            if (found != WAITS_NONE)
                return WAITS_NONE;
            found = (uint32_t)i;
        }
    return found;
}

static void link_thread(const struct making *k, size_t i)
{
    const struct look_thread *th = &k->l->threads[i];
    struct waits_edge *e = &k->g->edges[i];
    if (th->is_in_runtime) {
        hold_by_owner(k, e, th->wait.owner);
    } else if (th->is_idle) {
        uint32_t tied = tied_fiber(k->l, k->l->list.threads[i].own_tid);
        if (tied != WAITS_NONE)
            e->next = (uint32_t)k->g->threads + tied;
    } else if (th->sync.owner) {
        hold(k, e, false, th->sync.owner);
        if (e->holder == WAITS_HELD_BY_DEAD && th->sync.is_shared)
            e->holder = WAITS_HELD_OUTSIDE;
    }
    if (th->sync.has_limit && !th->is_idle)
        e->next = WAITS_NONE;
}

static void link_fiber(const struct making *k, size_t i)
{
    const struct look_fiber *f = &k->l->fibers[i];
    struct waits_edge *e = &k->g->edges[k->g->threads + i];
    if (f->is_waiting && f->owner && f->owner != f->id) {
        hold_by_owner(k, e, f->owner);
    } else if (!f->is_waiting && f->tid) {
        // It is nobody's wait, but until that thread goes on it cannot.
        e->next = look_find_thread(k->l, f->tid);
        // One that is preempted is not held up by its thread, which waits for it.
        if (e->next != WAITS_NONE && k->l->threads[e->next].runs != f->id)
            e->next = WAITS_NONE;
    }
}

// Waits for threads that have nothing to do, and hold a mutex all the same.
static void link_to_some_fiber(const struct making *k)
{
    for (size_t i = 0; i < k->g->threads; i++) {
        struct waits_edge *e = &k->g->edges[i];
        const struct look_thread *th = &k->l->threads[i];
        bool is_mutex = th->sync.kind == SYNC_MUTEX || th->sync.kind == SYNC_RWLOCK_READ ||
                        th->sync.kind == SYNC_RWLOCK_WRITE || th->sync.kind == SYNC_FILE;
        if (th->is_in_runtime || th->is_idle || !is_mutex || e->holder != WAITS_HELD)
            continue;
        if (!k->l->threads[e->to].is_idle || k->g->edges[e->to].next != WAITS_NONE)
            continue;
        e->holder = WAITS_HELD_BY_FIBER;
        e->next = e->next == WAITS_NONE ? WAITS_NONE : SOME_FIBER;
    }
}

// --- Circles.

static int add_circle(struct making *k, uint32_t first, bool is_possible)
{
    struct graph *g = k->g;
    struct waits_deadlock d = {.first = first, .is_possible = is_possible};
    struct waits_deadlock *grown =
        reallocarray(g->circles, g->circle_count + 1, sizeof *g->circles);
    if (!grown)
        return -ENOMEM;
    g->circles = grown;
    uint32_t i = first;
    do {
        d.first = i < d.first ? i : d.first; // the same one at every look
        d.count++;
        i = g->edges[i].next;
    } while (i != first);
    g->circles[g->circle_count++] = d;
    return 0;
}

// Where following from each node leads. A new circle is noted.
static int follow(struct making *k, uint32_t start)
{
    struct graph *g = k->g;
    uint32_t i = start;
    while (i < g->count && !k->mark[i]) {
        k->mark[i] = start + 1;
        i = g->edges[i].next;
    }
    enum fate fate = i == SOME_FIBER ? FATE_SOME_FIBER
                     : i >= g->count ? FATE_FREE
                     : k->fate[i]    ? (enum fate)k->fate[i]
                                     : FATE_CIRCLE;
    int rc = fate == FATE_CIRCLE && !k->fate[i] ? add_circle(k, i, false) : 0;
    for (i = start; i < g->count && !k->fate[i]; i = g->edges[i].next)
        k->fate[i] = (uint8_t)fate;
    return rc;
}

static bool leads_to(const struct graph *g, uint32_t from, uint32_t to)
{
    for (size_t n = 0; from < g->count && n <= g->count; n++, from = g->edges[from].next)
        if (from == to)
            return true;
    return false;
}

// A fiber that can have taken what thread `waiter` waits for: best one that itself waits for that thread in the end.
static uint32_t likely_holder(const struct making *k, uint32_t waiter, bool is_certain)
{
    uint32_t own = k->l->list.threads[k->g->edges[waiter].to].own_tid, found = WAITS_NONE;
    for (size_t i = 0; i < k->l->fiber_count; i++) {
        const struct look_fiber *f = &k->l->fibers[i];
        uint32_t node = (uint32_t)(k->g->threads + i);
        bool was_there = f->last_tid == own;
        if (!f->is_waiting || !(was_there || is_certain))
            continue;
        if (was_there && leads_to(k->g, node, waiter))
            return node;
        if (found == WAITS_NONE || was_there)
            found = node;
    }
    return found;
}

static bool is_in_circle(const struct graph *g, uint32_t node)
{
    for (size_t c = 0; c < g->circle_count; c++) {
        uint32_t i = g->circles[c].first;
        for (uint32_t n = 0; n < g->circles[c].count; n++, i = g->edges[i].next)
            if (i == node)
                return true;
    }
    return false;
}

static int close_by_some_fiber(struct making *k)
{
    struct graph *g = k->g;
    bool is_certain = true;
    int rc = 0;
    size_t count = 0;
    uint32_t *open = calloc(g->threads + 1, sizeof *open);
    if (!open)
        return -ENOMEM;
    for (uint32_t i = 0; i < g->threads; i++)
        if (g->edges[i].next == SOME_FIBER)
            open[count++] = i;
    for (size_t i = 0; count && i < k->l->fiber_count; i++)
        is_certain =
            is_certain && (!k->l->fibers[i].has_run || k->fate[g->threads + i] != FATE_FREE);
    for (size_t i = 0; i < count; i++)
        g->edges[open[i]].next = likely_holder(k, open[i], is_certain);
    for (size_t i = 0; !rc && i < count; i++)
        if (leads_to(g, g->edges[open[i]].next, open[i]) && !is_in_circle(g, open[i]))
            rc = add_circle(k, open[i], !is_certain);
    free(open);
    return rc;
}

int graph_make(struct graph *out, const struct look *l)
{
    *out = (struct graph){.threads = l->list.count, .count = l->list.count + l->fiber_count};
    struct making k = {.g = out, .l = l};
    out->edges = calloc(out->count + 1, sizeof *out->edges);
    k.mark = calloc(out->count + 1, sizeof *k.mark);
    k.fate = calloc(out->count + 1, sizeof *k.fate);
    int rc = out->edges && k.mark && k.fate && out->count < SOME_FIBER ? 0 : -ENOMEM;
    for (size_t i = 0; !rc && i < out->count; i++)
        out->edges[i].to = out->edges[i].next = WAITS_NONE;
    for (size_t i = 0; !rc && i < out->threads; i++)
        link_thread(&k, i);
    for (size_t i = 0; !rc && i < l->fiber_count; i++)
        link_fiber(&k, i);
    if (!rc)
        link_to_some_fiber(&k);
    for (uint32_t i = 0; !rc && i < out->count; i++)
        rc = follow(&k, i);
    if (!rc)
        rc = close_by_some_fiber(&k);
    free(k.mark);
    free(k.fate);
    if (rc)
        graph_free(out);
    return rc;
}

void graph_free(struct graph *g)
{
    free(g->edges);
    free(g->circles);
    *g = (struct graph){0};
}

// --- Belief.

static bool is_same_wait(const struct look_fiber *a, const struct look_fiber *b)
{
    return a->is_waiting == b->is_waiting && a->object == b->object && a->owner == b->owner &&
           a->switches == b->switches && a->tid == b->tid;
}

static bool is_same_thread(const struct look *a, uint32_t i, const struct look *b, uint32_t j)
{
    const struct look_thread *x = &a->threads[i], *y = &b->threads[j];
    return thread_list_is_same(&a->list.threads[i], &b->list.threads[j]) &&
           x->sync.kind == y->sync.kind && x->sync.object == y->sync.object &&
           x->sync.owner == y->sync.owner && x->runs == y->runs && x->is_idle == y->is_idle &&
           x->is_in_runtime == y->is_in_runtime && is_same_wait(&x->wait, &y->wait);
}

static bool stood_still(const struct graph *g, const struct look *its, uint32_t node,
                        const struct look *other)
{
    uint32_t i = node < g->threads ? node : (uint32_t)(node - g->threads);
    uint32_t j = node < g->threads ? look_find_thread(other, its->list.threads[i].own_tid)
                                   : look_find_fiber(other, its->fibers[i].id);
    if (j == WAITS_NONE)
        return false;
    return node < g->threads ? is_same_thread(its, i, other, j)
                             : is_same_wait(&its->fibers[i], &other->fibers[j]);
}

size_t graph_believe(struct graph *g, const struct look *its, const struct look *a,
                     const struct look *b)
{
    size_t kept = 0, all = g->circle_count;
    for (size_t c = 0; c < all; c++) {
        uint32_t i = g->circles[c].first;
        bool is_believed = true;
        for (uint32_t n = 0; n < g->circles[c].count; n++, i = g->edges[i].next)
            is_believed = is_believed && stood_still(g, its, i, a) && stood_still(g, its, i, b);
        if (is_believed)
            g->circles[kept++] = g->circles[c];
    }
    g->circle_count = kept;
    return all - kept;
}
