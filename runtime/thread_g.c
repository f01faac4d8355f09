// SPDX-License-Identifier: MIT
//
// Plain threads that wait: each has a thread G, which stands in queues where a fiber's would, and is woken
// by a futex. It is made at the first wait and given back when the thread ends.

#include "runtime/core.h"
#include "runtime/os/os.h"
#include "runtime/trace.h"

#include <pthread.h>

struct thread_g {
    struct g g;
    struct live live;
    struct thread_g *next;
    _Atomic pid_t tid; // 0: free
};

enum { BLOCKS = 256, BLOCK_BYTES = 16 * OS_PAGE, BLOCK_GS = BLOCK_BYTES / sizeof(struct thread_g) };

static struct rt_lock lock;
static struct thread_g *free_list;              // never unmapped: a late waker touches the futex
static struct thread_g *_Atomic blocks[BLOCKS]; // those that thread_g_at finds
static pthread_key_t at_exit;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void give_back(void *arg)
{
    struct thread_g *t = arg;
    t->live.exit_hooks = NULL; // of frames that pthread_exit has unwound
    locals_end(&t->g);
    fib_tls.g = NULL;
    atomic_store_explicit(&t->tid, 0, memory_order_relaxed);
    rt_lock(&lock);
    t->next = free_list;
    free_list = t;
    rt_unlock(&lock);
}

static void make_key(void)
{
    pthread_key_create(&at_exit, give_back);
}

static struct g *thread_g_make(void)
{
    pthread_once(&once, make_key);
    rt_lock(&lock);
    if (!free_list) {
        struct thread_g *block = os_pages(BLOCK_BYTES);
        if (!block) {
            rt_unlock(&lock);
            rt_fatal("wait", "out of memory for a thread that waits");
        }
        for (size_t i = 0; i < BLOCK_GS; i++) {
            block[i].next = free_list;
            free_list = &block[i];
        }
        for (uint32_t i = 0; i < BLOCKS; i++) {
            if (!atomic_load_explicit(&blocks[i], memory_order_relaxed)) {
                // release: pairs with the acquire in thread_g_at
                atomic_store_explicit(&blocks[i], block, memory_order_release);
                break;
            }
        }
    }
    struct thread_g *t = free_list;
    free_list = t->next;
    rt_unlock(&lock);
    t->g = (struct g){.flags = G_IS_THREAD | G_IS_STARTED, .live = &t->live};
    t->live = (struct live){.g = &t->g};
    atomic_store_explicit(&t->g.status, G_RUNNING, memory_order_relaxed);
    atomic_store_explicit(&t->tid, os_tid(), memory_order_release); // pairs with thread_g_at
    fib_tls.g = &t->g;
    pthread_setspecific(at_exit, t);
    return &t->g;
}

struct g *thread_g_at(uint32_t index, pid_t *tid)
{
    if (index / BLOCK_GS >= BLOCKS)
        return NULL;
    struct thread_g *block = atomic_load_explicit(&blocks[index / BLOCK_GS], memory_order_acquire);
    if (!block)
        return NULL;
    struct thread_g *t = &block[index % BLOCK_GS];
    *tid = atomic_load_explicit(&t->tid, memory_order_acquire);
    return &t->g;
}

struct g *this_g(void)
{
    struct m *m = this_m();
    if (m)
        return m->cur;
    return fib_tls.g ? fib_tls.g : thread_g_make();
}

void thread_park(struct g *g, enum wait_reason reason, const void *object, park_after_fn *after,
                 void *arg, int64_t timeout_ns)
{
    struct live *l = g->live;
    l->wait_reason = reason;
    l->wait_object = object;
    l->wait_since_ticks = ticks_now();
    atomic_store_explicit(&l->futex, 0, memory_order_relaxed);
    atomic_store_explicit(&g->status, G_WAITING, memory_order_release);
    if (FIB_TRACE_IS_ON)
        trace_outside_park(reason);
    l->is_counted = timeout_ns < 0;
    if (l->is_counted)
        atomic_fetch_add(&sched.thread_gs_parked, 1); // the waker takes it back
    if (after)
        after(NULL, g, arg);
    if (l->is_counted && atomic_load_explicit(&sched.is_running, memory_order_relaxed)) {
        rt_lock(&sched.lock);
        dead_check(); // this may be the last that could have gone on
        rt_unlock(&sched.lock);
    }
    int64_t end = timeout_ns < 0 ? 0 : os_clock_ns() + timeout_ns;
    int64_t left = timeout_ns;
    // acquire: pairs with the release in thread_ready
    while (!atomic_load_explicit(&l->futex, memory_order_acquire)) {
        os_futex_wait(&l->futex, 0, left);
        if (timeout_ns < 0 || (left = end - os_clock_ns()) > 0)
            continue;
        if (!g_choose(g)) {
            left = -1; // a waker was first, and is about to say so
            timeout_ns = -1;
            continue;
        }
        l->wait_data = l; // the time was over
        break;
    }
    if (FIB_TRACE_IS_ON)
        trace_outside_wake();
    l->wait_reason = WAIT_NONE;
    l->wait_owner = NULL;
    atomic_store_explicit(&g->status, G_RUNNING, memory_order_relaxed);
}
