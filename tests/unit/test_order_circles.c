// SPDX-License-Identifier: MIT
//
// Circles in the order of locks, against all that a few threads can get into: random programs, of which every set of
// moments is tried for a deadlock.

#include "collector/order_circles.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LOCKS = 5, THREADS = 4, MOMENTS_MAX = 24, EDGES_MAX = 256, ROUNDS = 4000 };

struct moment { // of a thread that waits
    uint32_t thread, held_count, wants;
    uint32_t held[LOCKS];
    bool is_held_read[LOCKS], wants_read, queues;
};

struct program {
    struct moment moments[MOMENTS_MAX];
    uint32_t count;
};

static uint64_t state;

static uint32_t below(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % n;
}

// One thread takes some locks one after the other; each wait with something held is a moment.
static void add_run(struct program *p, uint32_t thread, const bool *is_rw, const bool *queues)
{
    struct moment m = {.thread = thread};
    bool taken[LOCKS] = {false};
    for (uint32_t n = 1 + below(4); n && p->count < MOMENTS_MAX; n--) {
        uint32_t lock = below(LOCKS);
        if (taken[lock])
            continue;
        m.wants = lock;
        m.wants_read = is_rw[lock] && below(2);
        m.queues = m.wants_read && queues[lock];
        if (m.held_count && below(5)) // else it was a trylock
            p->moments[p->count++] = m;
        taken[lock] = true;
        m.held[m.held_count] = lock;
        m.is_held_read[m.held_count++] = m.wants_read;
    }
}

// --- What is true.

static bool can_both_hold(const struct moment *x, const struct moment *y)
{
    for (uint32_t i = 0; i < x->held_count; i++)
        for (uint32_t k = 0; k < y->held_count; k++)
            if (x->held[i] == y->held[k] && !(x->is_held_read[i] && y->is_held_read[k]))
                return false;
    return true;
}

static bool waits_for(const struct moment *x, const struct moment *y)
{
    for (uint32_t k = 0; k < y->held_count; k++)
        if (y->held[k] == x->wants && (!(x->wants_read && y->is_held_read[k]) || x->queues))
            return true;
    return false;
}

// Whether all of these moments can be at once, and each waits for another one of them.
static bool is_deadlock(const struct program *p, const uint32_t *set, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct moment *x = &p->moments[set[i]];
        bool waits = false;
        for (uint32_t k = 0; k < n; k++) {
            const struct moment *y = &p->moments[set[k]];
            if (k == i)
                continue;
            if (x->thread == y->thread || !can_both_hold(x, y))
                return false;
            waits |= waits_for(x, y);
        }
        if (!waits)
            return false;
    }
    return n > 1;
}

static bool may_deadlock(const struct program *p)
{
    uint32_t s[THREADS];
    for (s[0] = 0; s[0] < p->count; s[0]++)
        for (s[1] = s[0] + 1; s[1] < p->count; s[1]++) {
            if (is_deadlock(p, s, 2))
                return true;
            for (s[2] = s[1] + 1; s[2] < p->count; s[2]++) {
                if (is_deadlock(p, s, 3))
                    return true;
                for (s[3] = s[2] + 1; s[3] < p->count; s[3]++)
                    if (is_deadlock(p, s, 4))
                        return true;
            }
        }
    return false;
}

// --- What is found.

static size_t make_edges(const struct program *p, struct order_edge *edges)
{
    size_t n = 0;
    for (uint32_t i = 0; i < p->count; i++)
        for (uint32_t k = 0; k < p->moments[i].held_count; k++) {
            const struct moment *m = &p->moments[i];
            struct order_edge *e = &edges[n++];
            *e = (struct order_edge){.from = m->held[k],
                                     .to = m->wants,
                                     .who = {m->thread + 1},
                                     .count = 1,
                                     .first_ns = i + 1,
                                     .flags = (m->is_held_read[k] ? SEG_ORDER_FROM_READ : 0u) |
                                              (m->wants_read ? SEG_ORDER_TO_READ : 0u) |
                                              (m->queues ? SEG_ORDER_TO_QUEUES : 0u)};
            for (uint32_t lock = 0; lock < LOCKS; lock++) // sorted
                for (uint32_t g = 0; g < m->held_count; g++)
                    if (g != k && m->held[g] == lock)
                        e->guards[e->guard_count++] =
                            (struct order_guard){lock, m->is_held_read[g]};
        }
    return n;
}

static void check_circle(const struct order_circle *c, const struct order_edge *edges)
{
    assert_in_range(c->count, 2, ORDER_CIRCLE_MAX);
    for (uint32_t i = 0; i < c->count; i++)
        assert_int_equal(edges[c->edges[i]].to, edges[c->edges[(i + 1) % c->count]].from);
}

static void circles_are_what_can_deadlock(void **unused)
{
    static struct order_edge edges[EDGES_MAX];
    uint32_t deadlocks = 0;
    (void)unused;
    state = 88172645463325252u;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct program p = {.count = 0};
        struct order_circles found;
        bool is_rw[LOCKS], queues[LOCKS], has_inversion = false;
        for (uint32_t i = 0; i < LOCKS; i++) {
            is_rw[i] = !below(3);
            queues[i] = !below(2);
        }
        uint32_t runs = 2 + below(5);
        for (uint32_t i = 0; i < runs; i++)
            add_run(&p, below(THREADS), is_rw, queues);
        size_t n = make_edges(&p, edges);
        assert_int_equal(order_circles_find(edges, &n, LOCKS, &found), 0);
        assert_false(found.is_cut);
        for (size_t i = 0; i < found.count; i++) {
            check_circle(&found.list[i], edges);
            has_inversion |= found.list[i].kind == ORDER_INVERSION;
        }
        free(found.list);
        bool truth = may_deadlock(&p);
        if (truth != has_inversion)
            fail_msg("program %u: %d, not %d", round, has_inversion, truth);
        deadlocks += truth;
    }
    // Neither side is rare.
    assert_in_range(deadlocks, ROUNDS / 10, ROUNDS * 9 / 10);
}

static struct order_edge edge(uint32_t from, uint32_t to, uint64_t who)
{
    return (struct order_edge){.from = from, .to = to, .who = {who}, .count = 1, .first_ns = who};
}

static void equal_edges_become_one(void **unused)
{
    (void)unused;
    struct order_edge edges[] = {edge(1, 0, 3), edge(0, 1, 9), edge(0, 1, 7), edge(0, 1, 8)};
    struct order_circles found;
    size_t n = 4;
    assert_int_equal(order_circles_find(edges, &n, 2, &found), 0);
    assert_int_equal(n, 2);
    assert_int_equal(edges[0].count, 3);
    assert_int_equal(edges[0].first_ns, 7);
    assert_true(edges[0].others);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.list[0].kind, ORDER_INVERSION);
    free(found.list);
}

static void small_circles_hide_large_ones(void **unused)
{
    (void)unused;
    // 0 1 2 3 in a circle, and 0 1 in one of their own.
    struct order_edge edges[] = {edge(0, 1, 1), edge(1, 2, 2), edge(2, 3, 3), edge(3, 0, 4),
                                 edge(1, 0, 5)};
    struct order_circles found;
    size_t n = 5;
    assert_int_equal(order_circles_find(edges, &n, 4, &found), 0);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.list[0].count, 2);
    free(found.list);
}

// A chain as long as the table, and all orders of many locks: nothing takes for ever.
static void large_ones_end(void **unused)
{
    enum { CHAIN = 100000, CROWD = 40 };
    struct order_edge *edges = calloc(CHAIN, sizeof *edges);
    struct order_circles found;
    size_t n = CHAIN - 1;
    (void)unused;
    assert_non_null(edges);
    for (uint32_t i = 0; i < CHAIN - 1; i++)
        edges[i] = edge(i, i + 1, 1);
    assert_int_equal(order_circles_find(edges, &n, CHAIN, &found), 0);
    assert_int_equal(found.count, 0);
    assert_false(found.is_cut);
    free(found.list);
    n = 0;
    for (uint32_t i = 0; i < CROWD; i++)
        for (uint32_t k = 0; k < CROWD; k++)
            if (i != k)
                edges[n++] = edge(i, k, 1); // by one thread
    assert_int_equal(order_circles_find(edges, &n, CROWD, &found), 0);
    assert_int_equal(found.count, CROWD * (CROWD - 1) / 2);
    assert_int_equal(found.list[0].kind, ORDER_FEW_THREADS);
    assert_true(found.is_cut); // larger ones could not all be tried
    free(found.list);
    free(edges);
}

static void nothing_is_nothing(void **unused)
{
    struct order_circles found;
    size_t n = 0;
    (void)unused;
    assert_int_equal(order_circles_find(NULL, &n, 0, &found), 0);
    assert_int_equal(found.count, 0);
    free(found.list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(circles_are_what_can_deadlock),
        cmocka_unit_test(equal_edges_become_one),
        cmocka_unit_test(small_circles_hide_large_ones),
        cmocka_unit_test(large_ones_end),
        cmocka_unit_test(nothing_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
