// SPDX-License-Identifier: MIT
//
// See order_circles.h. Locks in one strongly connected component (Tarjan's) can be in a circle; in each, paths of two
// edges are tried, then of three, and so on, each from its lowest lock.

#include "collector/order_circles.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 4000000 };

struct search {
    const struct order_edge *edges; // by from, then to
    const uint32_t *first;          // edges of lock i: [first[i], first[i + 1])
    const uint32_t *component;
    uint32_t locks;
    enum order_kind kind; // what is looked for
    uint32_t length;
    uint32_t path[ORDER_CIRCLE_MAX];
    uint64_t steps;
    struct order_circles *out;
    int rc;
};

// --- Edges.

static int compare_edges(const void *a, const void *b)
{
    const struct order_edge *x = a, *y = b;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    if (x->to != y->to)
        return x->to < y->to ? -1 : 1;
    if (x->guard_count != y->guard_count)
        return x->guard_count < y->guard_count ? -1 : 1; // fewest first: they hinder least
    if (x->flags != y->flags)
        return x->flags < y->flags ? -1 : 1;
    for (uint32_t i = 0; i < x->guard_count; i++) {
        if (x->guards[i].lock != y->guards[i].lock)
            return x->guards[i].lock < y->guards[i].lock ? -1 : 1;
        if (x->guards[i].is_read != y->guards[i].is_read)
            return x->guards[i].is_read ? 1 : -1;
    }
    return 0;
}

static void add_who(struct order_edge *e, uint64_t who)
{
    if (!who || e->who[0] == who || e->who[1] == who)
        return;
    if (!e->who[0])
        e->who[0] = who;
    else if (!e->who[1])
        e->who[1] = who;
    else
        e->others = true;
}

static size_t merge_equal(struct order_edge *edges, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (!n || compare_edges(&edges[n - 1], &edges[i])) {
            edges[n++] = edges[i];
            continue;
        }
        struct order_edge *e = &edges[n - 1];
        e->count += edges[i].count;
        e->others |= edges[i].others;
        add_who(e, edges[i].who[0]);
        add_who(e, edges[i].who[1]);
        if (edges[i].first_ns < e->first_ns)
            e->first_ns = edges[i].first_ns;
    }
    return n;
}

// --- Components.

struct tarjan {
    const struct order_edge *edges;
    const uint32_t *first;
    uint32_t *index, *low, *component, *stack, *todo, *next; // of each lock
    uint32_t count, depth, made;
};

static void close_component(struct tarjan *t, uint32_t root)
{
    uint32_t v;
    do {
        v = t->stack[--t->depth];
        t->component[v] = t->made;
    } while (v != root);
    t->made++;
}

// Without recursion: a chain of locks may be as long as the table. index and component count from 1.
static void visit(struct tarjan *t, uint32_t root)
{
    uint32_t n = 0;
    t->todo[n++] = root;
    while (n) {
        uint32_t v = t->todo[n - 1];
        if (!t->index[v]) {
            t->index[v] = t->low[v] = ++t->count;
            t->next[v] = t->first[v];
            t->stack[t->depth++] = v;
        }
        if (t->next[v] < t->first[v + 1]) {
            uint32_t to = t->edges[t->next[v]].to;
            if (!t->index[to]) {
                t->todo[n++] = to; // and this edge once more, after it
                continue;
            }
            if (!t->component[to] && t->low[to] < t->low[v])
                t->low[v] = t->low[to];
            t->next[v]++;
            continue;
        }
        if (t->low[v] == t->index[v])
            close_component(t, v);
        n--;
    }
}

static int find_components(const struct order_edge *edges, const uint32_t *first, uint32_t locks,
                           uint32_t *component)
{
    uint32_t *memory = calloc((size_t)locks + 1, 5 * sizeof *memory);
    if (!memory)
        return -ENOMEM;
    struct tarjan t = {.edges = edges,
                       .first = first,
                       .component = component,
                       .index = memory,
                       .low = memory + locks,
                       .stack = memory + 2 * (size_t)locks,
                       .todo = memory + 3 * (size_t)locks,
                       .next = memory + 4 * (size_t)locks,
                       .made = 1};
    for (uint32_t v = 0; v < locks; v++)
        if (!t.index[v])
            visit(&t, v);
    free(memory);
    return 0;
}

// --- What can be at once.

// Whether x's holder holds `lock` in a way that another one who has it (is_read) cannot.
static bool excludes(const struct order_edge *x, uint32_t lock, bool is_read)
{
    if (x->from == lock && !(is_read && (x->flags & SEG_ORDER_FROM_READ)))
        return true;
    for (uint32_t i = 0; i < x->guard_count; i++)
        if (x->guards[i].lock == lock && !(is_read && x->guards[i].is_read))
            return true;
    return false;
}

static bool have_common_lock(const struct order_edge *x, const struct order_edge *y)
{
    if (excludes(x, y->from, y->flags & SEG_ORDER_FROM_READ))
        return true;
    for (uint32_t i = 0; i < y->guard_count; i++)
        if (excludes(x, y->guards[i].lock, y->guards[i].is_read))
            return true;
    return false;
}

// Whether who waits in x waits for who holds in y.
static bool waits_for(const struct order_edge *x, const struct order_edge *y)
{
    bool both_read = (x->flags & SEG_ORDER_TO_READ) && (y->flags & SEG_ORDER_FROM_READ);
    return !both_read || (x->flags & SEG_ORDER_TO_QUEUES);
}

// A thread for each edge, all different. One that more than two have done has always one left, as there is no telling.
static bool have_threads(const struct search *s, uint32_t at, uint64_t *taken)
{
    if (at == s->length)
        return true;
    const struct order_edge *e = &s->edges[s->path[at]];
    if (e->others) {
        taken[at] = 0;
        return have_threads(s, at + 1, taken);
    }
    for (int i = 0; i < 2; i++) {
        bool is_free = e->who[i] != 0;
        for (uint32_t k = 0; k < at; k++)
            is_free &= taken[k] != e->who[i];
        taken[at] = e->who[i];
        if (is_free && have_threads(s, at + 1, taken))
            return true;
    }
    return false;
}

// --- Paths.

static bool has_lock(const struct search *s, const struct order_circle *c, uint32_t lock)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (s->edges[c->edges[i]].from == lock)
            return true;
    return false;
}

// Whether the path has all locks of one that is told. Each comparison is a step.
static bool is_told(struct search *s)
{
    struct order_circle path = {.count = s->length};
    memcpy(path.edges, s->path, sizeof path.edges);
    for (size_t i = 0; i < s->out->count; i++) {
        const struct order_circle *c = &s->out->list[i];
        uint32_t n = 0;
        s->steps++;
        while (n < c->count && has_lock(s, &path, s->edges[c->edges[n]].from))
            n++;
        if (n == c->count)
            return true;
    }
    return false;
}

static void tell(struct search *s)
{
    uint64_t taken[ORDER_CIRCLE_MAX];
    if (is_told(s) || (s->kind != ORDER_FEW_THREADS && !have_threads(s, 0, taken)))
        return;
    if (s->out->count == ORDER_CIRCLES_MAX) {
        s->out->is_cut = true;
        return;
    }
    struct order_circle *c = &s->out->list[s->out->count++];
    *c = (struct order_circle){.kind = s->kind, .count = s->length};
    memcpy(c->edges, s->path, s->length * sizeof *c->edges);
}

static bool may_follow(const struct search *s, uint32_t depth, const struct order_edge *e)
{
    for (uint32_t i = 0; i < depth; i++) {
        const struct order_edge *before = &s->edges[s->path[i]];
        if (before->from == e->to && i) // through a lock that it has been at
            return false;
        if (s->kind != ORDER_GUARDED && have_common_lock(before, e))
            return false;
    }
    return !depth || waits_for(&s->edges[s->path[depth - 1]], e);
}

// Extends the path of `depth` edges, which began at lock `start` and is at `at`.
static void extend(struct search *s, uint32_t start, uint32_t at, uint32_t depth)
{
    for (uint32_t i = s->first[at]; i < s->first[at + 1]; i++) {
        const struct order_edge *e = &s->edges[i];
        bool is_last = depth + 1 == s->length;
        if (++s->steps > STEPS_MAX) {
            s->out->is_cut = true;
            return;
        }
        if (s->component[e->to] != s->component[start] || e->to < start ||
            is_last != (e->to == start) || !may_follow(s, depth, e))
            continue;
        s->path[depth] = i;
        if (!is_last)
            extend(s, start, e->to, depth + 1);
        else if (waits_for(e, &s->edges[s->path[0]]))
            tell(s);
    }
}

static void search_all(struct search *s)
{
    for (int kind = 0; kind < ORDER_KIND_COUNT; kind++) {
        s->kind = (enum order_kind)kind;
        s->steps = 0;
        for (s->length = 2; s->length <= ORDER_CIRCLE_MAX; s->length++)
            for (uint32_t lock = 0; lock < s->locks; lock++)
                extend(s, lock, lock, 0);
    }
}

int order_circles_find(struct order_edge *edges, size_t *count, uint32_t lock_count,
                       struct order_circles *out)
{
    *out = (struct order_circles){.list = calloc(ORDER_CIRCLES_MAX, sizeof *out->list)};
    uint32_t *first = calloc((size_t)lock_count + 2, sizeof *first);
    uint32_t *component = calloc((size_t)lock_count + 1, sizeof *component);
    int rc = out->list && first && component ? 0 : -ENOMEM;
    if (!rc) {
        if (*count)
            qsort(edges, *count, sizeof *edges, compare_edges);
        *count = merge_equal(edges, *count);
        for (size_t i = 0; i < *count; i++)
            first[edges[i].from + 1]++;
        for (uint32_t i = 0; i < lock_count; i++)
            first[i + 1] += first[i];
        rc = find_components(edges, first, lock_count, component);
    }
    if (!rc) {
        struct search s = {.edges = edges,
                           .first = first,
                           .component = component,
                           .locks = lock_count,
                           .out = out};
        search_all(&s);
    }
    free(first);
    free(component);
    if (rc) {
        free(out->list);
        *out = (struct order_circles){0};
    }
    return rc;
}
