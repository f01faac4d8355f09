// SPDX-License-Identifier: MIT
//
// While fibers run, what lies unused in pools is destroyed after two of the runtime's rounds, in a fiber and not in the
// thread that watches; what is used stays; and a pool may be freed while a round is at it.

#include "fiberscope/sync.h"
#include "tests/runtime/check.h"

#include <stdatomic.h>
#include <string.h>

enum { MS = 1000000, THINGS = 200, PATIENCE_MS = 30000 };

static _Atomic int destroyed, destroyed_outside;
static _Atomic bool is_in_destroy;

static void *make(void *arg)
{
    (void)arg;
    return calloc(1, 16);
}

static void destroy(void *arg, void *item)
{
    (void)arg;
    destroyed++;
    destroyed_outside += !fib_self().id;
    free(item);
}

static void destroy_slowly(void *arg, void *item)
{
    is_in_destroy = true;
    fib_sleep(300LL * MS);
    is_in_destroy = false;
    destroy(arg, item);
}

static void fill(struct fib_pool *p, int count)
{
    void *items[THINGS];
    for (int i = 0; i < count; i++)
        items[i] = fib_pool_get(p);
    for (int i = 0; i < count; i++)
        fib_pool_put(p, items[i]);
}

static void start(void *arg)
{
    (void)arg;
    struct fib_pool *idle = fib_pool_new(make, destroy, NULL);
    struct fib_pool *used = fib_pool_new(make, NULL, NULL);
    CHECK(idle && used);
    fill(idle, THINGS);
    void *mine = fib_pool_get(used);
    fib_pool_put(used, mine);
    int64_t begin = fib_now_ns();
    while (destroyed < THINGS) {
        CHECK(fib_now_ns() - begin < (int64_t)PATIENCE_MS * MS, "%d destroyed", destroyed);
        void *item = fib_pool_get(used);
        CHECK(item == mine, "what is used was taken away");
        fib_pool_put(used, item);
        fib_sleep(5LL * MS);
    }
    int64_t took_ms = (fib_now_ns() - begin) / MS;
    CHECK(took_ms > 1900, "two rounds in %lld ms", (long long)took_ms);
    CHECK(!destroyed_outside);
    printf("ok: %d destroyed after %lld ms\n", destroyed, (long long)took_ms);

    // Freed in the midst of a round.
    struct fib_pool *slow = fib_pool_new(make, destroy_slowly, NULL);
    fill(slow, 1);
    begin = fib_now_ns();
    while (!is_in_destroy) {
        CHECK(fib_now_ns() - begin < (int64_t)PATIENCE_MS * MS);
        fib_sleep(5LL * MS);
    }
    fib_pool_free(slow);
    CHECK(!is_in_destroy && destroyed == THINGS + 1);
    fib_pool_free(idle);
    free(mine);
    fib_pool_free(used);
}

int main(void)
{
    return fib_main(start, NULL);
}
