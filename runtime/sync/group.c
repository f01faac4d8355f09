// SPDX-License-Identifier: MIT

#include "runtime/sync/owner.h"

#include <errno.h>
#include <stdlib.h>

struct fib_group {
    struct fib_ctx *ctx;
    struct fib_waitgroup running;
    struct fib_semaphore slots;
    bool is_limited;
    _Atomic int error; // the first task's that failed
};

struct task {
    struct go_task go; // first
    struct fib_group *group;
    fib_task_fn *fn;
    void *arg;
};

FIB_PUBLIC struct fib_group *fib_group_new(struct fib_ctx *ctx, uint32_t limit)
{
    struct fib_group *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->ctx = fib_ctx_with_cancel(ctx ? ctx : fib_ctx_background());
    if (!g->ctx) {
        free(g);
        return NULL;
    }
    g->is_limited = limit;
    fib_semaphore_init(&g->slots, limit);
    return g;
}

// Also when the task has ended by fib_exit.
static void task_end(void *arg)
{
    struct fib_group *g = arg;
    if (g->is_limited)
        fib_semaphore_release(&g->slots, 1);
    fib_waitgroup_done(&g->running); // the group may be gone after it
}

static void task_run(void *arg)
{
    struct task t = *(struct task *)arg;
    free(arg);
    struct exit_hook hook;
    exit_hook_push(&hook, task_end, t.group);
    int rc = t.fn(t.arg, t.group->ctx);
    exit_hook_pop(&hook);
    int none = 0;
    // release: pairs with the acquire in fib_group_wait
    if (rc && atomic_compare_exchange_strong_explicit(&t.group->error, &none, rc,
                                                      memory_order_release, memory_order_relaxed))
        fib_ctx_cancel(t.group->ctx, rc < 0 ? rc : 0);
    task_end(t.group);
}

static int start(struct fib_group *g, fib_task_fn *fn, void *arg)
{
    struct task *t = malloc(sizeof *t);
    int rc = -ENOMEM;
    if (t) {
        *t = (struct task){{task_run}, g, fn, arg};
        fib_waitgroup_add(&g->running, 1);
        rc = go_task((fib_fn *)(void (*)(void))fn, &t->go);
        if (!rc)
            return 0;
        fib_waitgroup_done(&g->running);
        free(t);
    }
    if (g->is_limited)
        fib_semaphore_release(&g->slots, 1);
    return rc;
}

FIB_PUBLIC int fib_group_go(struct fib_group *g, fib_task_fn *fn, void *arg)
{
    if (g->is_limited)
        fib_semaphore_acquire(&g->slots, 1);
    return start(g, fn, arg);
}

FIB_PUBLIC int fib_group_try(struct fib_group *g, fib_task_fn *fn, void *arg)
{
    if (g->is_limited && !fib_semaphore_try(&g->slots, 1))
        return -EAGAIN;
    return start(g, fn, arg);
}

FIB_PUBLIC int fib_group_wait(struct fib_group *g)
{
    fib_waitgroup_wait(&g->running);
    fib_ctx_cancel(g->ctx, 0);
    return atomic_load_explicit(&g->error, memory_order_acquire);
}

FIB_PUBLIC struct fib_ctx *fib_group_ctx(struct fib_group *g)
{
    return g->ctx;
}

FIB_PUBLIC void fib_group_free(struct fib_group *g)
{
    if (!g)
        return;
    fib_group_wait(g);
    fib_ctx_unref(g->ctx);
    free(g);
}
