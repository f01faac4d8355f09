// SPDX-License-Identifier: MIT
//
// The streams of plain threads: taken, given back, found by their thread. A stream is never freed.

#include "emit/waits.h"

#include <sys/syscall.h>
#include <unistd.h>

enum { TIDS = 4096 };

// The last of those whose tids fall together.
static struct emit_thread *_Atomic by_tid[TIDS];
static _Atomic int32_t free_streams; // about: whether it is worth while to look for one

// Its G and P run on from session to session, and are told anew in each.
static void look_plain(struct emit_thread *t)
{
    t->g_state = t->p_state = EMIT_NONE;
}

void emit_plain_set_tid(struct emit_thread *t, uint32_t tid)
{
    t->tid = tid;
    if (tid)
        atomic_store_explicit(&by_tid[tid % TIDS], t, memory_order_release);
}

static uint32_t use_of(struct emit_thread *t)
{
    return atomic_load_explicit(&t->is_used, memory_order_relaxed);
}

struct emit_thread *emit_plain_of(uint32_t tid)
{
    struct emit_thread *t = atomic_load_explicit(&by_tid[tid % TIDS], memory_order_acquire);
    return t && t->tid == tid && use_of(t) == EMIT_USED ? t : NULL;
}

static void release(struct emit_thread *t, uint32_t use)
{
    atomic_store(&t->is_used, use);
    atomic_fetch_add_explicit(&free_streams, 1, memory_order_relaxed);
}

void emit_plain_give(struct emit_thread *t)
{
    release(t, EMIT_UNUSED);
}

void emit_plain_drop(struct emit_thread *t)
{
    release(t, EMIT_DROPPED);
}

static bool is_free(struct emit_thread *t, uint32_t use)
{
    return use == EMIT_UNUSED ||
           (use == EMIT_DROPPED && !(atomic_load(&t->busy) & 1) && !emit_waits_claimed(t));
}

static struct emit_thread *take_free(void)
{
    if (atomic_load_explicit(&free_streams, memory_order_relaxed) <= 0)
        return NULL;
    for (struct emit_thread *t = atomic_load_explicit(&emit.threads, memory_order_acquire); t;
         t = t->next) {
        uint32_t use = use_of(t);
        if (!is_free(t, use) || !atomic_compare_exchange_strong(&t->is_used, &use, EMIT_TAKEN))
            continue;
        atomic_fetch_sub_explicit(&free_streams, 1, memory_order_relaxed);
        if (use == EMIT_DROPPED)
            emit_waits_over(t);
        if (atomic_load(&t->left))
            emit_return(t);                                       // by its tid
        atomic_store_explicit(&t->call, 0, memory_order_relaxed); // of who dropped it
        return t;
    }
    return NULL;
}

struct emit_thread *emit_plain_take(uint32_t tid)
{
    struct emit_thread *t = take_free();
    if (t) {
        emit_plain_set_tid(t, tid);
        // release: not USED with the tid of who had it, as that may be there yet, and be told by it
        atomic_store_explicit(&t->is_used, EMIT_USED, memory_order_release);
        return t;
    }
    t = emit_thread_new(tid, look_plain, NULL);
    if (!t)
        return NULL;
    emit_plain_set_tid(t, tid);
    atomic_store_explicit(&t->is_used, EMIT_USED, memory_order_relaxed);
    // Linked for all to see.
    t->next = atomic_load_explicit(&emit.threads, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&emit.threads, &t->next, t, memory_order_release,
                                                  memory_order_relaxed))
        ;
    return t;
}

void emit_plain_name(struct emit_thread *t)
{
    uint64_t n = atomic_fetch_add_explicit(&emit.next_id, 1, memory_order_acquire);
    bool is_first = n < EMIT_IDS_RUNTIME; // the runtime's begin after this
    const struct emit_runtime *r = __atomic_load_n(&emit.runtime, __ATOMIC_ACQUIRE);
    n &= EMIT_IDS_RUNTIME - 1;
    t->g = (struct emit_thing){&t->own_g,
                               is_first ? n
                               : r      ? r->next_id()
                                        : EMIT_IDS_BETWEEN + n,
                               0};
    t->p = (struct emit_thing){&t->own_p, is_first ? n : 10000 + n, 0};
    // The marks may be of an earlier thread's, in this very generation.
    atomic_store_explicit(&t->own_g, 0, memory_order_relaxed);
    atomic_store_explicit(&t->own_p, 0, memory_order_relaxed);
    t->region = 0;
    t->is_made = false;
    // The first thread; in a forked child the one that forked, which knows better where it began.
    if (t->tid == (uint32_t)syscall(SYS_getpid))
        t->g.start = EMIT_START_MAIN;
}

// Its tids are the parent's. Most pages are shared with it as long as they are only read.
void emit_plain_forget(void)
{
    for (int i = 0; i < TIDS; i++)
        if (atomic_load_explicit(&by_tid[i], memory_order_relaxed))
            atomic_store_explicit(&by_tid[i], NULL, memory_order_relaxed);
    atomic_store_explicit(&free_streams, 0, memory_order_relaxed);
}
