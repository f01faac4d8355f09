// SPDX-License-Identifier: MIT
//
// Contexts behave as Go's context does, by the behaviours that its own tests check, and as sync.h says beyond.

#include "tests/runtime/actor.h"

#include "fiberscope/chan.h"

#include <errno.h>
#include <string.h>

enum { ACTORS = 8, LONG = 10000 };

static struct fib_ctx *background(void)
{
    return fib_ctx_background();
}

static bool is_done(struct fib_ctx *c)
{
    struct fib_chan *done = fib_ctx_done(c);
    return done && fib_chan_recv_for(done, NULL, 0) == -EPIPE;
}

static void check_live(struct fib_ctx *c)
{
    CHECK(!fib_ctx_error(c) && !fib_ctx_cause(c) && !is_done(c));
}

static void check_ended(struct fib_ctx *c, int error, int cause)
{
    CHECK(fib_ctx_error(c) == error, "%d", fib_ctx_error(c));
    CHECK(fib_ctx_cause(c) == cause, "%d", fib_ctx_cause(c));
    CHECK(is_done(c));
}

static void background_never_ends(int n)
{
    (void)n;
    int64_t when;
    struct fib_ctx *v = fib_ctx_with_value(background(), &when, &when);
    struct fib_ctx *both[] = {background(), v};
    for (int i = 0; i < 2; i++) {
        CHECK(!fib_ctx_done(both[i]) && !fib_ctx_error(both[i]) && !fib_ctx_cause(both[i]));
        CHECK(!fib_ctx_deadline(both[i], &when));
        CHECK(!fib_ctx_value(both[i], "k"));
        CHECK(!fib_ctx_sleep(both[i], 1000));
    }
    CHECK(fib_ctx_ref(background()) == background());
    fib_ctx_unref(background()); // not counted
    fib_ctx_unref(background());
    fib_ctx_unref(v);
    fib_ctx_unref(NULL);
}

static void wait_for_done(void *arg)
{
    CHECK(!fib_chan_recv(fib_ctx_done(arg), NULL));
    CHECK(fib_ctx_error(arg));
}

static void cancel_ends(int n)
{
    (void)n;
    struct fib_ctx *c = fib_ctx_with_cancel(background());
    struct actor a[3];
    check_live(c);
    for (int i = 0; i < 3; i++) {
        actor_start(&a[i], wait_for_done, c);
        actor_until_waiting(&a[i], "chan receive");
    }
    fib_ctx_cancel(c, 0);
    check_ended(c, -ECANCELED, -ECANCELED);
    for (int i = 0; i < 3; i++)
        actor_end(&a[i]);
    fib_ctx_cancel(c, -EPROTO); // only the first counts
    check_ended(c, -ECANCELED, -ECANCELED);
    fib_ctx_unref(c);
}

static void parent_ends_children(int n)
{
    (void)n;
    struct fib_ctx *parent = fib_ctx_with_cancel(background());
    struct fib_ctx *c[6] = {
        fib_ctx_with_cancel(parent),
        fib_ctx_with_value(parent, "k", &n),
        fib_ctx_with_timeout(parent, (int64_t)LONG * MS),
    };
    c[3] = fib_ctx_with_cancel(c[1]);
    c[4] = fib_ctx_with_value(c[2], "k", &n);
    c[5] = fib_ctx_with_cancel(c[4]);
    for (int i = 0; i < 6; i++)
        check_live(c[i]);
    fib_ctx_cancel(parent, -EPROTO);
    for (int i = 0; i < 6; i++)
        check_ended(c[i], -ECANCELED, -EPROTO);
    // One that comes later finds it so.
    struct fib_ctx *late = fib_ctx_with_timeout(c[4], (int64_t)LONG * MS);
    check_ended(late, -ECANCELED, -EPROTO);
    fib_ctx_unref(late);
    for (int i = 0; i < 6; i++)
        fib_ctx_unref(c[i]);
    fib_ctx_unref(parent);
}

static void child_ends_alone(int n)
{
    (void)n;
    struct fib_ctx *parent = fib_ctx_with_cancel(background());
    struct fib_ctx *a = fib_ctx_with_cancel(parent), *b = fib_ctx_with_cancel(parent);
    fib_ctx_cancel(a, -EPROTO);
    check_ended(a, -ECANCELED, -EPROTO);
    check_live(b);
    check_live(parent);
    fib_ctx_unref(b); // the last reference cancels, and leaves the parent's list
    check_live(parent);
    fib_ctx_cancel(parent, -EIO);
    check_ended(a, -ECANCELED, -EPROTO); // as it was
    fib_ctx_unref(a);
    fib_ctx_unref(parent);
}

static void deadlines_end(int n)
{
    (void)n;
    int64_t begin = fib_now_ns(), when, other;
    struct fib_ctx *c = fib_ctx_with_timeout(background(), 5 * MS);
    struct fib_ctx *v = fib_ctx_with_value(c, "k", &when);
    struct fib_ctx *d = fib_ctx_with_deadline(v, begin + (int64_t)LONG * MS); // not later
    CHECK(fib_ctx_deadline(c, &when) && when >= begin + 5 * MS && when < begin + 4000LL * MS);
    CHECK(fib_ctx_deadline(v, &other) && other == when);
    CHECK(fib_ctx_deadline(d, &other) && other == when);
    CHECK(!fib_chan_recv(fib_ctx_done(d), NULL));
    CHECK(fib_now_ns() >= when);
    check_ended(c, -ETIMEDOUT, -ETIMEDOUT);
    check_ended(d, -ETIMEDOUT, -ETIMEDOUT);
    fib_ctx_cancel(c, -EPROTO);
    check_ended(c, -ETIMEDOUT, -ETIMEDOUT);
    fib_ctx_unref(c);
    fib_ctx_unref(v);
    fib_ctx_unref(d);
    c = fib_ctx_with_deadline(background(), fib_now_ns() - 1); // has passed
    check_ended(c, -ETIMEDOUT, -ETIMEDOUT);
    fib_ctx_unref(c);
    c = fib_ctx_with_timeout(background(), 0);
    check_ended(c, -ETIMEDOUT, -ETIMEDOUT);
    fib_ctx_unref(c);
}

static void earlier_child_ends_first(int n)
{
    (void)n;
    struct fib_ctx *parent = fib_ctx_with_timeout(background(), (int64_t)LONG * MS);
    struct fib_ctx *c = fib_ctx_with_timeout(parent, 2 * MS);
    CHECK(!fib_chan_recv(fib_ctx_done(c), NULL));
    check_ended(c, -ETIMEDOUT, -ETIMEDOUT);
    check_live(parent);
    fib_ctx_unref(c);
    fib_ctx_unref(parent);
}

static void cancelled_before_deadline(int n)
{
    (void)n;
    struct fib_ctx *c = fib_ctx_with_timeout(background(), 5 * MS);
    struct fib_ctx *child = fib_ctx_with_cancel(c);
    fib_ctx_cancel(c, 0);
    fib_sleep(10 * MS);
    check_ended(c, -ECANCELED, -ECANCELED);
    check_ended(child, -ECANCELED, -ECANCELED);
    fib_ctx_unref(c);
    fib_ctx_unref(child);
}

static void values_are_found(int n)
{
    (void)n;
    static const char k1, k2, k3;
    int a, b, c;
    struct fib_ctx *one = fib_ctx_with_value(background(), &k1, &a);
    struct fib_ctx *two = fib_ctx_with_value(one, &k2, &b);
    struct fib_ctx *three = fib_ctx_with_cancel(two);
    struct fib_ctx *four = fib_ctx_with_value(three, &k1, &c);
    CHECK(fib_ctx_value(one, &k1) == &a && !fib_ctx_value(one, &k2));
    CHECK(fib_ctx_value(three, &k1) == &a && fib_ctx_value(three, &k2) == &b);
    CHECK(fib_ctx_value(four, &k1) == &c && fib_ctx_value(four, &k2) == &b);
    CHECK(!fib_ctx_value(four, &k3) && !fib_ctx_value(four, NULL));
    fib_ctx_unref(one); // those below keep it
    fib_ctx_unref(two);
    CHECK(fib_ctx_value(four, &k2) == &b);
    check_live(four);
    fib_ctx_unref(three); // the last reference to what can be cancelled: all below end
    check_ended(four, -ECANCELED, -ECANCELED);
    CHECK(fib_ctx_value(four, &k2) == &b);
    fib_ctx_unref(four);
}

static void references_count(int n)
{
    (void)n;
    struct fib_ctx *c = fib_ctx_with_timeout(background(), (int64_t)LONG * MS);
    struct fib_ctx *child = fib_ctx_with_cancel(c);
    CHECK(fib_ctx_ref(c) == c);
    fib_ctx_unref(c);
    check_live(child);
    fib_ctx_unref(c);
    check_ended(child, -ECANCELED, -ECANCELED);
    fib_ctx_unref(child);
}

static void sleep_in_ctx(void *arg)
{
    CHECK(fib_ctx_sleep(arg, (int64_t)LONG * MS) == -ECANCELED);
}

static void sleeps_end(int n)
{
    (void)n;
    struct fib_ctx *c = fib_ctx_with_cancel(background());
    int64_t begin = fib_now_ns();
    CHECK(fib_ctx_sleep(c, 2 * MS) == 0 && fib_now_ns() - begin >= 2 * MS);
    CHECK(fib_ctx_sleep(c, 0) == 0 && fib_ctx_sleep(c, -5) == 0);
    struct actor a;
    actor_start(&a, sleep_in_ctx, c);
    actor_until_waiting(&a, "chan receive");
    fib_ctx_cancel(c, 0);
    actor_end(&a);
    CHECK(fib_now_ns() - begin < 5000LL * MS);
    CHECK(fib_ctx_sleep(c, MS) == -ECANCELED && fib_ctx_sleep(c, 0) == -ECANCELED);
    fib_ctx_unref(c);
}

// --- Many at a time.

struct tree {
    struct fib_ctx *root;
    uint64_t random;
    _Atomic int *ended;
    _Atomic int start; // all begin together
};

static uint64_t next(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return *state >> 33;
}

static void cancel_root(void *arg)
{
    struct tree *t = arg;
    t->start++;
    until(&t->start, 2);
    fib_ctx_cancel(t->root, -EPROTO);
    check_ended(t->root, -ECANCELED, -EPROTO);
}

static void wait_in_child(void *arg)
{
    struct tree *t = arg;
    struct fib_ctx *c = fib_ctx_with_cancel(t->root), *d = fib_ctx_with_value(c, "k", t);
    struct fib_ctx *e = fib_ctx_with_timeout(d, (int64_t)LONG * MS);
    t->start++;
    CHECK(!fib_chan_recv(fib_ctx_done(e), NULL));
    CHECK(fib_ctx_cause(e) == -EPROTO);
    fib_ctx_unref(c);
    fib_ctx_unref(e);
    fib_ctx_unref(d);
}

static void cancels_at_the_same_time(int n)
{
    (void)n;
    for (int i = 0; i < actor_rounds(30); i++) {
        struct tree t = {.root = fib_ctx_with_cancel(background())};
        struct actor a[ACTORS];
        for (int k = 0; k < ACTORS; k++)
            actor_start(&a[k], k % 2 ? cancel_root : wait_in_child, &t);
        for (int k = 0; k < ACTORS; k++)
            actor_end(&a[k]);
        fib_ctx_unref(t.root);
    }
}

// Children that are made, cancelled and forgotten while their parent ends: each ends, once.
static void churn(void *arg)
{
    struct tree *t = arg;
    uint64_t random = (uint64_t)(uintptr_t)&random ^ t->random;
    struct fib_ctx *c[8] = {0};
    for (int i = 0; i < 200 || !fib_ctx_error(t->root); i++) {
        uint64_t r = next(&random);
        struct fib_ctx **at = &c[r % 8], *parent = c[r / 8 % 8] ? c[r / 8 % 8] : t->root;
        bool parent_was_over = fib_ctx_error(parent);
        switch (r / 64 % 6) {
        case 0: // a new one in place of the old
        case 1: {
            struct fib_ctx *old = *at;
            *at = r / 512 % 3 == 0   ? fib_ctx_with_value(parent, "k", t)
                  : r / 512 % 3 == 1 ? fib_ctx_with_timeout(parent, (int64_t)(r / 4096 % 3) * MS)
                                     : fib_ctx_with_cancel(parent);
            CHECK(*at && (!parent_was_over || fib_ctx_error(*at)));
            fib_ctx_unref(old);
            break;
        }
        case 2:
            fib_ctx_unref(*at);
            *at = NULL;
            break;
        case 3:
            if (*at && fib_ctx_error(*at))
                CHECK(is_done(*at));
            break;
        case 4:
            if (*at && *at == parent)
                fib_ctx_unref(fib_ctx_ref(*at));
            break;
        default:
            if (r / 512 % 8 == 0)
                fib_yield();
        }
    }
    for (int i = 0; i < 8; i++)
        if (c[i] && fib_ctx_done(c[i])) {
            CHECK(!fib_chan_recv(fib_ctx_done(c[i]), NULL));
            CHECK(fib_ctx_error(c[i]));
        }
    for (int i = 0; i < 8; i++)
        fib_ctx_unref(c[i]);
}

static void children_come_and_go(int n)
{
    (void)n;
    for (int i = 0; i < actor_rounds(40); i++) {
        struct tree t = {.root = fib_ctx_with_cancel(background()), .random = (uint64_t)i};
        struct actor a[ACTORS];
        for (int k = 0; k < ACTORS; k++)
            actor_start(&a[k], churn, &t);
        fib_sleep(MS / 2);
        fib_ctx_cancel(t.root, -EPROTO);
        check_ended(t.root, -ECANCELED, -EPROTO);
        for (int k = 0; k < ACTORS; k++)
            actor_end(&a[k]);
        fib_ctx_unref(t.root);
    }
}

// Layers of contexts, cancelled somewhere: all below end, and none above.
static void layers(int with_timeout)
{
    enum { LAYERS = 30 };
    uint64_t random = (uint64_t)with_timeout + 5;
    for (int round = 0; round < 20; round++) {
        struct fib_ctx *c[LAYERS], *parent = background();
        int end = -1;
        for (int i = 0; i < LAYERS; i++) {
            uint64_t r = next(&random);
            bool is_value = r % 3 == 0;
            c[i] =
                is_value ? fib_ctx_with_value(parent, &c[i], &c[i]) : fib_ctx_with_cancel(parent);
            if (!is_value && end < 0 && i > 10) {
                if (with_timeout) {
                    fib_ctx_unref(c[i]);
                    c[i] = fib_ctx_with_timeout(parent, MS);
                }
                end = i;
            }
            parent = c[i];
        }
        CHECK(end >= 0);
        if (with_timeout)
            fib_chan_recv(fib_ctx_done(c[end]), NULL);
        else
            fib_ctx_cancel(c[end], 0);
        int error = with_timeout ? -ETIMEDOUT : -ECANCELED;
        // The one whose timer it is may still be on its way down.
        for (int i = end; i < LAYERS; i++) {
            fib_chan_recv(fib_ctx_done(c[i]), NULL);
            check_ended(c[i], error, error);
        }
        for (int i = 0; i < end; i++)
            if (fib_ctx_done(c[i]))
                check_live(c[i]);
        for (int i = 0; i < LAYERS; i++)
            CHECK(fib_ctx_value(c[LAYERS - 1], &c[i]) == NULL ||
                  fib_ctx_value(c[LAYERS - 1], &c[i]) == &c[i]);
        for (int i = LAYERS - 1; i >= 0; i--)
            fib_ctx_unref(c[i]);
    }
}

// A chain as long as no stack could recurse along it.
static void deep_trees_end(int n)
{
    (void)n;
    enum { DEEP = 20000 };
    struct fib_ctx *root = fib_ctx_with_cancel(background()), *c = fib_ctx_ref(root);
    static struct fib_ctx *all[DEEP];
    for (int i = 0; i < DEEP; i++) {
        all[i] = fib_ctx_with_cancel(c);
        c = all[i];
    }
    fib_ctx_cancel(root, 0);
    check_ended(c, -ECANCELED, -ECANCELED);
    for (int i = 0; i < DEEP; i++) // the last one holds them all
        fib_ctx_unref(all[i]);
    fib_ctx_unref(root);
    fib_ctx_unref(root);
}

static const int both[] = {0, 1, -1};

static const struct row rows[] = {
    {"the background never ends", "context TestBackground", background_never_ends, NULL},
    {"cancel ends it, once", "context TestWithCancel, TestDoubleCancel", cancel_ends, NULL},
    {"a parent ends its children", "context TestParentFinishesChild", parent_ends_children, NULL},
    {"a child ends alone", "context TestChildFinishesFirst", child_ends_alone, NULL},
    {"deadlines end it", "context TestDeadline, TestTimeout", deadlines_end, NULL},
    {"an earlier child ends first", "context TestCause", earlier_child_ends_first, NULL},
    {"cancelled in time", "context TestCanceledTimeout", cancelled_before_deadline, NULL},
    {"values are found", "context TestValues", values_are_found, NULL},
    {"references count", "sync.h", references_count, NULL},
    {"sleeps end", "sync.h", sleeps_end, NULL},
    {"cancels at the same time", "context TestSimultaneousCancels", cancels_at_the_same_time, NULL},
    {"children come and go", "context TestInterlockedCancels", children_come_and_go, NULL},
    {"layers", "context TestLayersCancel, TestLayersTimeout", layers, both},
    {"deep trees end", "sync.h", deep_trees_end, NULL},
};

int main(int argc, char **argv)
{
    return sync_rows_run(rows, sizeof rows / sizeof rows[0], argc, argv);
}
