// SPDX-License-Identifier: MIT
//
// Random trees of contexts under the deterministic scheduler: made, cancelled, waited for and forgotten by several fibers at a
// time. Each node has, beside it, what may have ended it (a cancel of it or of an ancestor that has begun, a deadline
// that has passed) and whether it must have ended (such a cancel has returned); and in the end nothing is left
// allocated. The same seed gives the same run.
//
//     ctx_model [SEEDS [FIRST]]        each seed in a process of its own, as a runtime starts once
//
// Linked with --wrap for calloc, aligned_alloc and free.

#include "fiberscope/chan.h"
#include "fiberscope/sync.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

enum { ACTORS = 6, OPS = 60, NODES = 96, ROOT = -1 };
enum { BY_CANCEL = 0, BY_DEADLINE = 1, BY_ACTOR = 2, CAUSE = 1000 };
enum { STEP = 100000 }; // ns

static struct node {
    struct fib_ctx *c;
    int parent;
    bool is_value, must, is_kept; // kept: the program still has its reference
    int refs; // the program's and those taken for a moment; 0: not to be used any more
    uint32_t may;
    int64_t deadline_ns; // the earliest up to the root
    int seen;            // the cause that it showed; it never changes
} nodes[NODES];
static int node_count;

static struct actor {
    int index;
    uint64_t random;
} actors[ACTORS];

static uint64_t run_hash = UINT64_C(0xcbf29ce484222325);
static int64_t allocated;

void *__real_calloc(size_t n, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *p);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *p);

void *__wrap_calloc(size_t n, size_t size)
{
    allocated++;
    return __real_calloc(n, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    allocated++;
    return __real_aligned_alloc(alignment, size);
}

void __wrap_free(void *p)
{
    allocated -= p != NULL;
    __real_free(p);
}

static void note(int what)
{
    run_hash = (run_hash ^ (uint64_t)(uint32_t)what) * UINT64_C(0x100000001b3);
    run_hash = (run_hash ^ (uint64_t)fib_now_ns()) * UINT64_C(0x100000001b3);
}

static uint32_t draw(struct actor *a, uint32_t below)
{
    a->random = a->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(a->random >> 33) % below;
}

// --- The model.

static bool is_below(int n, int top)
{
    while (n != ROOT && n != top)
        n = nodes[n].parent;
    return n == top;
}

static void cancel_begins(int top, int by)
{
    for (int i = 0; i < node_count; i++)
        if (is_below(i, top) && !nodes[i].must)
            nodes[i].may |= 1U << by;
}

static void cancel_has_ended(int top)
{
    for (int i = 0; i < node_count; i++)
        if (is_below(i, top))
            nodes[i].must = true;
}

static int cause_of(int by)
{
    return by == BY_CANCEL ? -ECANCELED : by == BY_DEADLINE ? -ETIMEDOUT : -CAUSE - by;
}

static void check_ended(struct node *n)
{
    int error = fib_ctx_error(n->c), cause = fib_ctx_cause(n->c);
    uint32_t may = n->may;
    if (n->deadline_ns <= fib_now_ns())
        may |= 1U << BY_DEADLINE;
    bool is_allowed = false;
    for (int by = 0; by < BY_ACTOR + ACTORS; by++)
        is_allowed |= (may >> by & 1) && cause == cause_of(by);
    CHECK(is_allowed, "cause %d, allowed %#x", cause, may);
    CHECK(error == (cause == -ETIMEDOUT ? -ETIMEDOUT : -ECANCELED));
    CHECK(fib_chan_recv_for(fib_ctx_done(n->c), NULL, 0) == -EPIPE);
    CHECK(!n->seen || n->seen == cause);
    n->seen = cause;
}

static void check_node(struct node *n)
{
    bool must = n->must;
    int error = fib_ctx_error(n->c);
    note(error);
    if (error)
        check_ended(n);
    else
        CHECK(!must && !n->seen);
    int64_t when;
    bool has_deadline = fib_ctx_deadline(n->c, &when);
    CHECK(has_deadline == (n->deadline_ns != INT64_MAX) &&
          (!has_deadline || when == n->deadline_ns));
}

// --- What fibers do. A node in use has a reference for the while.

static void put(int n)
{
    struct node *node = &nodes[n];
    bool ends = --node->refs == 0 && !node->is_value;
    if (ends)
        cancel_begins(n, BY_CANCEL);
    fib_ctx_unref(node->c);
    if (ends)
        cancel_has_ended(n);
}

static int pick(struct actor *a)
{
    if (!node_count)
        return ROOT;
    int n = (int)draw(a, (uint32_t)node_count);
    if (!nodes[n].refs)
        return ROOT;
    fib_ctx_ref(nodes[n].c);
    nodes[n].refs++;
    return n;
}

static void make(struct actor *a)
{
    int parent = pick(a);
    struct fib_ctx *above = parent == ROOT ? fib_ctx_background() : nodes[parent].c;
    struct node new = {.parent = parent, .refs = 1, .is_kept = true, .deadline_ns = INT64_MAX};
    int64_t timeout = (int64_t)draw(a, 40) * STEP, now = fib_now_ns();
    switch (draw(a, 4)) {
    case 0:
        new.is_value = true;
        new.c = fib_ctx_with_value(above, a, &nodes[0]);
        break;
    case 1:
        new.deadline_ns = now + timeout;
        new.c = draw(a, 2) ? fib_ctx_with_timeout(above, timeout)
                           : fib_ctx_with_deadline(above, now + timeout);
        break;
    default: new.c = fib_ctx_with_cancel(above);
    }
    CHECK(new.c);
    CHECK(!new.is_value || fib_ctx_value(new.c, a) == &nodes[0]);
    if (parent != ROOT) {
        const struct node *p = &nodes[parent];
        new.may = p->may;
        new.must = p->must; // it was listed before, or has seen the error
        if (p->deadline_ns < new.deadline_ns)
            new.deadline_ns = p->deadline_ns;
    }
    int n = node_count;
    if (n == NODES) {
        fib_ctx_unref(new.c);
    } else {
        new.refs++; // for the look at it: others may let go of it meanwhile
        fib_ctx_ref(new.c);
        nodes[node_count++] = new;
        check_node(&nodes[n]);
        put(n);
    }
    if (parent != ROOT)
        put(parent);
}

static void cancel(struct actor *a, int n)
{
    int by = draw(a, 3) ? BY_ACTOR + a->index : BY_CANCEL;
    if (nodes[n].is_value)
        return;
    cancel_begins(n, by);
    fib_ctx_cancel(nodes[n].c, by == BY_CANCEL ? 0 : cause_of(by));
    cancel_has_ended(n);
    check_ended(&nodes[n]);
}

static void wait_node(struct actor *a, int n)
{
    struct node *node = &nodes[n];
    int64_t limit = (int64_t)draw(a, 30) * STEP, begin = fib_now_ns();
    bool must = node->must;
    int rc;
    if (draw(a, 2)) {
        rc = fib_ctx_sleep(node->c, limit);
        CHECK(!rc || rc == fib_ctx_error(node->c));
    } else {
        struct fib_chan *done = fib_ctx_done(node->c);
        rc = done ? fib_chan_recv_for(done, NULL, limit) : -ETIMEDOUT;
        rc = rc == -ETIMEDOUT ? 0 : rc;
    }
    CHECK(rc || !must);
    if (rc)
        check_ended(node);
    else if (fib_ctx_done(node->c))
        CHECK(fib_now_ns() - begin >= limit);
    // A deadline that has passed while one waited has ended it.
    if (!rc)
        CHECK(node->deadline_ns >= fib_now_ns() || limit == 0 || fib_now_ns() == begin);
}

static void run_actor(void *arg)
{
    struct actor *a = arg;
    for (int i = 0; i < OPS; i++) {
        uint32_t what = draw(a, 10);
        if (what < 4) {
            make(a);
            continue;
        }
        int n = pick(a);
        if (n == ROOT)
            continue;
        note(n);
        if (what == 4)
            cancel(a, n);
        else if (what < 7)
            wait_node(a, n);
        else if (what < 9)
            check_node(&nodes[n]);
        else if (nodes[n].is_kept && draw(a, 2)) {
            nodes[n].is_kept = false;
            put(n);
        }
        put(n);
        if (draw(a, 4) == 0)
            fib_sleep((int64_t)draw(a, 5) * STEP);
    }
}

static void run_program(void *arg)
{
    uint64_t seed = *(uint64_t *)arg;
    struct fib f[ACTORS];
    int64_t before = allocated;
    for (int i = 0; i < ACTORS; i++) {
        actors[i] = (struct actor){i, seed * 1000 + (uint64_t)i};
        CHECK(!fib_go(&f[i], run_actor, &actors[i]));
    }
    for (int i = 0; i < ACTORS; i++)
        fib_join(f[i]);
    fib_sleep(100LL * STEP); // all deadlines have passed
    for (int i = 0; i < node_count; i++)
        if (nodes[i].refs) {
            check_node(&nodes[i]);
            CHECK(nodes[i].deadline_ns == INT64_MAX || nodes[i].seen, "a deadline did nothing");
        }
    for (int i = 0; i < node_count; i++)
        while (nodes[i].refs)
            put(i);
    CHECK(allocated == before, "%lld blocks are left", (long long)(allocated - before));
}

static void run_seed(uint64_t seed, int fd)
{
    alarm(60);
    struct fib_options options = {.size = sizeof options, .seed = seed};
    CHECK(!fib_init(&options));
    CHECK(!fib_main(run_program, &seed));
    CHECK(write(fd, &run_hash, sizeof run_hash) == sizeof run_hash);
    _exit(0);
}

static uint64_t run_child(uint64_t seed)
{
    int fds[2], status;
    uint64_t hash = 0;
    CHECK(!pipe(fds));
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid)
        run_seed(seed, fds[1]);
    close(fds[1]);
    ssize_t n = read(fds[0], &hash, sizeof hash);
    close(fds[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(n == sizeof hash && status == 0, "seed %llu: status %#x", (unsigned long long)seed,
          (unsigned)status);
    return hash;
}

int main(int argc, char **argv)
{
    uint64_t count = check_rounds(argc > 1 ? strtoull(argv[1], NULL, 10) : 600);
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    for (uint64_t seed = first; seed < first + count; seed++) {
        uint64_t hash = run_child(seed);
        if (seed % 20 == 0)
            CHECK(run_child(seed) == hash, "seed %llu: two runs differ", (unsigned long long)seed);
    }
    printf("ok: %llu seeds from %llu\n", (unsigned long long)count, (unsigned long long)first);
    return 0;
}
