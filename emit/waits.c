// SPDX-License-Identifier: MIT
//
// Who wakes whom among plain threads: a GoUnblock belongs in the stream of the thread that wakes.
//
// A signal (condition, semaphore, the end of a thread that is joined) wakes whoever has waited longest: told by who
// signals, at once. An unlock wakes somebody who may come too late, as others take the lock first, so it is only
// noted, in the unlocker's list and in a table by lock. Who gets the lock after a wait finds there who had it last,
// and tells for it, in its stream. Only if that thread blocks or ends first, it tells itself, for who has waited longest:
// it could no longer be the one that wakes.
//
// The waiter of a condition needs its mutex before it goes on. If somebody has that for longer than it takes to wake up, it has
// run for a moment inside libc, has found it taken, and is blocked on it. That is told in the waiter's own stream, as of
// when the mutex was taken, by who has it: as that thread releases it, or blocks; else as a generation begins or the trace
// ends. From then on the waiter is one for the mutex as others are. A mutex that is free again sooner costs it nothing.
//
// Protocol. A waiter's word `wait` goes WAITING -> CLAIMED -> WOKEN (or back); the claim gives the right to its G's mark,
// and is held within one event, or while the waiter's own stream is held. It becomes WOKEN within the transition that
// tells so: who announces, after all transitions, finds there what the G is. The waiter claims itself when it goes on, or,
// WOKEN, makes it GONE_ON, which nobody may claim, and makes it NONE when it starts. Nobody holds its own stream while it
// waits for another's.

#include "emit/waits.h"
#include "emit/queue.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    PATIENCE = 300,
    CLAIM_ROUNDS = 64 * 300,   // some 20 ms
    MOMENT_UNITS = 20000 / 64, // it takes about as long for a thread to wake up
    BATCH = 16,
};

enum { NONE, WAITING, CLAIMED, WOKEN, GONE_ON };

_Atomic uint32_t emit_waiters, emit_relocking;

static void pause_briefly(void)
{
    const struct timespec t = {.tv_nsec = 20000}; // not a yield: the other may have less priority
    syscall(SYS_nanosleep, &t, NULL);
}

static bool move(struct emit_thread *w, uint32_t from, uint32_t to)
{
    // acq_rel: what w wrote before it waited is seen; pairs with the release in emit_waits_begin
    return atomic_compare_exchange_strong_explicit(&w->wait, &from, to, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

bool emit_waits_claim(struct emit_thread *w)
{
    return move(w, WAITING, CLAIMED);
}

bool emit_waits_is_waiting(const struct emit_thread *w)
{
    return atomic_load_explicit(&w->wait, memory_order_acquire) == WAITING;
}

static void count_waiter(uint64_t object, uint32_t by)
{
    atomic_fetch_add_explicit(&emit_bucket_of(object)->waiters, by, memory_order_relaxed);
}

// w, which is claimed or does not wait yet, waits from now on.
static void wait_for(struct emit_thread *w, uint64_t object, uint64_t since)
{
    uint64_t was = atomic_load_explicit(&w->wait_object, memory_order_relaxed);
    if (was)
        count_waiter(was, UINT32_MAX);
    atomic_store_explicit(&w->wait_object, object, memory_order_relaxed);
    atomic_store_explicit(&w->wait_ticks, since, memory_order_relaxed);
    emit_queue_add(w, object, EMIT_QUEUE_WAITING);
    atomic_store_explicit(&w->wait, WAITING, memory_order_release); // pairs with claim
}

// What was told in an earlier session is not known in this one.
static bool was_woken_in(const struct emit_thread *w, uint64_t session)
{
    return atomic_load_explicit(&w->woken_session, memory_order_relaxed) == session;
}

static bool is_any_relocking(void)
{
    return atomic_load_explicit(&emit_relocking, memory_order_relaxed) != 0;
}

static bool is_relocking(struct emit_thread *w)
{
    return atomic_load_explicit(&w->wait, memory_order_acquire) == WOKEN &&
           atomic_load_explicit(&w->wait_again, memory_order_relaxed);
}

// Since when w, woken, has been blocked on its mutex, if that has been another's for more than a moment; else 0.
static uint64_t blocked_since(struct emit_thread *w, uint64_t mutex)
{
    uint64_t generation = atomic_load_explicit(&emit_generation, memory_order_relaxed);
    uint64_t since = emit_queue_taken(mutex, w), now = emit_ticks();
    uint64_t woken = atomic_load_explicit(&w->woken_ticks, memory_order_relaxed);
    since = since && woken > since ? woken : since;
    return since && now > since && emit_span_units(generation, now - since) >= MOMENT_UNITS ? since
                                                                                            : 0;
}

// w, woken and on its way, has run into its mutex. Within the transition of a thread that has told something in this
// session, so that it is still the same one, and with w's stream held.
static void block_again(struct emit_thread *w, uint64_t since)
{
    struct emit_thing g = w->g, p = w->p;
    if (!since || !move(w, WOKEN, CLAIMED))
        return;
    uint64_t mutex = atomic_load_explicit(&w->wait_again, memory_order_relaxed);
    if (!mutex || w->session != emit_session() || !w->is_told || w->g_state ||
        !was_woken_in(w, emit_session())) {
        atomic_store_explicit(&w->wait, WOKEN, memory_order_release); // as in tell
        return;
    }
    emit_proc_start(w, since, p);
    emit_go_start(w, since, g);
    emit_go_block(w, since, EMIT_REASON_SYNC, w->wait_stack);
    emit_proc_stop(w, since);
    atomic_fetch_sub_explicit(&emit_relocking, 1, memory_order_relaxed);
    wait_for(w, mutex, since); // of the two counts its own remains
}

void emit_waits_settle(struct emit_thread *w)
{
    if (is_relocking(w))
        block_again(w,
                    blocked_since(w, atomic_load_explicit(&w->wait_again, memory_order_relaxed)));
}

void emit_waits_settle_all(void)
{
    for (struct emit_thread *t = atomic_load_explicit(&emit.threads, memory_order_acquire); t;
         t = t->next) {
        if (!emit_busy_lock(t, EMIT_OTHER_NS))
            continue;
        if (emit_is_on())
            emit_waits_settle(t);
        emit_busy_unlock(t);
    }
}

// t has had the mutex until now. Those that are blocked again need it no more than others: each time there are fewer.
static void settle_mutex(const struct emit_thread *t, uint64_t mutex, bool is_any)
{
    struct emit_thread *found[BATCH];
    uint32_t n, done = 1;
    while (done && emit_queue_has(mutex, t) && (n = emit_queue_relocking(mutex, found, BATCH)))
        for (uint32_t i = done = 0; i < n; i++) {
            struct emit_thread *w = found[i];
            uint64_t since = is_any ? emit_queue_taken(mutex, w) : blocked_since(w, mutex);
            if (!since || !is_relocking(w) || !emit_busy_try(w))
                continue;
            block_again(w, since);
            done += !is_relocking(w);
            emit_busy_unlock(w);
        }
}

static void settle_mine(struct emit_thread *t)
{
    for (int i = 0; i < EMIT_HOLDS; i++) {
        uint64_t mutex = atomic_exchange_explicit(&t->holds[i], 0, memory_order_relaxed);
        if (mutex)
            settle_mutex(t, mutex, true);
    }
}

static void note_taken(uint64_t mutex, struct emit_thread *t, uint64_t now)
{
    emit_queue_took(mutex, t, now);
    if (t) // others may do the same for it: what is forgotten is told later
        atomic_store_explicit(&t->holds[mutex / 64 % EMIT_HOLDS], mutex, memory_order_relaxed);
}

// Who has w's mutex, if that is another. While w is claimed it does not go on, so that its mutex is there: its call is
// seen to be left, whichever way that is (emit.h).
static void note_holder(struct emit_thread *w, uint64_t mutex, uint64_t now)
{
    const pthread_mutex_t *m = (const pthread_mutex_t *)mutex;
    int owner = m->__data.__lock ? m->__data.__owner : 0;
    struct emit_thread *t = owner ? emit_plain_of((uint32_t)owner) : NULL;
    if (t != w)
        note_taken(mutex, t, owner ? now : 0);
}

// Tells in t's stream that it unblocks w, which is claimed. False: w is of another session.
static bool tell(struct emit_thread *t, struct emit_thread *w, emit_number stack)
{
    bool same = w->session == t->session && w->is_told && !w->g_state;
    uint64_t again = same ? atomic_load_explicit(&w->wait_again, memory_order_relaxed) : 0;
    uint64_t now = emit_ticks();
    if (same) {
        emit_go_unblock(t, now, w->g, stack);
        emit_queue_remove(w);
    }
    if (again) {
        note_holder(w, again, now);
        count_waiter(again, 1);
        atomic_store_explicit(&w->woken_ticks, now, memory_order_relaxed);
        emit_queue_add(w, again, EMIT_QUEUE_RELOCKING);
        atomic_fetch_add_explicit(&emit_relocking, 1, memory_order_relaxed);
    }
    if (same)
        atomic_store_explicit(&w->woken_session, t->session, memory_order_relaxed);
    // release: pairs with the acquire of the waiter that goes on, and of who announces
    atomic_store_explicit(&w->wait, same ? WOKEN : WAITING, memory_order_release);
    return same;
}

// Whether the read-write lock that w, which is claimed and so waits for it yet, is to get is another's again: then that
// one's release will end the wait. (Of a mutex that is told afterwards: block_again.) The fields are those of glibc's public
// header, the readers' count above three flags.
// t: who releases it. Of readers that release it at the same time each is noted, as none of them knows whether it is the last.
static bool is_anothers(const struct emit_thread *t, const struct emit_thread *w, uint64_t object)
{
    enum { WRITERS_TURN = 1, READERS_SHIFT = 3 };
    const pthread_rwlock_t *l = (const pthread_rwlock_t *)object;
    if (!w->wait_rwlock || atomic_load_explicit(&w->wait_object, memory_order_relaxed) != object)
        return false;
    if (atomic_load_explicit(&emit_bucket_of(object)->last, memory_order_relaxed) != t)
        return true;
    int writer = l->__data.__cur_writer;
    unsigned readers = l->__data.__readers;
    return writer ? (uint32_t)writer != w->tid
                  : w->wait_rwlock == EMIT_RWLOCK_WRITE && !(readers & WRITERS_TURN) &&
                        readers >> READERS_SHIFT;
}

static bool is_waited_for(uint64_t object)
{
    return object && atomic_load_explicit(&emit_bucket_of(object)->waiters, memory_order_relaxed);
}

// Whether who got the object has gone on, and could not tell by whom.
static bool is_missed(const struct emit_thread *t, uint64_t object)
{
    struct emit_bucket *b = emit_bucket_of(object);
    if (atomic_load_explicit(&b->missed, memory_order_relaxed) != t)
        return false;
    atomic_store_explicit(&b->missed, NULL, memory_order_relaxed);
    return true;
}

void emit_waits_flush(struct emit_thread *t)
{
    if (__builtin_expect(is_any_relocking(), 0) && t->g_state == EMIT_G_RUNNING)
        settle_mine(t);
    for (int i = 0; i < EMIT_RELEASES; i++) {
        struct emit_release *r = &t->released[i];
        uint64_t object = r->is_told ? 0 : r->object; // told: who got it has gone on
        r->object = 0;
        if (!is_waited_for(object) || t->g_state != EMIT_G_RUNNING || is_missed(t, object))
            continue;
        struct emit_thread *w = emit_queue_claim(object, r->ticks);
        if (!w)
            continue;
        if (is_anothers(t, w, object))
            move(w, CLAIMED, WAITING);
        else
            tell(t, w, r->stack);
    }
}

void emit_waits_note(struct emit_thread *t, uint64_t object)
{
    if (!is_waited_for(object))
        return;
    if (__builtin_expect(is_any_relocking(), 0) && emit_queue_released(object, t)) {
        settle_mutex(t, object, false);
        emit_queue_took(object, t, 0);
    }
    t->released[t->release_next++ % EMIT_RELEASES] =
        (struct emit_release){object, emit_ticks(), emit_stack_here(t), false};
    atomic_store_explicit(&emit_bucket_of(object)->last, t, memory_order_release);
}

void emit_waits_signal(struct emit_thread *t, uint64_t object, bool all)
{
    emit_number stack = {0}; // not yet known
    uint64_t now = emit_ticks();
    if (!is_waited_for(object) || t->g_state != EMIT_G_RUNNING)
        return;
    for (struct emit_thread *w; (w = emit_queue_claim(object, now));) {
        stack = stack.bits ? stack : emit_stack_here(t);
        if (!tell(t, w, stack) || !all)
            return; // one of another session would be found again
    }
}

void emit_waits_took(struct emit_thread *t, uint64_t mutex)
{
    if (mutex && atomic_load_explicit(&emit_bucket_of(mutex)->first[EMIT_QUEUE_RELOCKING],
                                      memory_order_relaxed))
        note_taken(mutex, t, emit_ticks());
}

void emit_waits_begin(struct emit_thread *t, uint64_t object, uint64_t again)
{
    if (!object || t->g_state)
        return;
    atomic_store_explicit(&t->wait_again, again, memory_order_relaxed);
    count_waiter(object, 1);
    atomic_fetch_add_explicit(&emit_waiters, 1, memory_order_relaxed);
    wait_for(t, object, emit_ticks());
}

static uint64_t ticks_of(uint64_t ns)
{
    uint64_t generation = atomic_load_explicit(&emit_generation, memory_order_relaxed);
    uint64_t scale = emit.clocks[generation & 1].scale;
    return scale ? (uint64_t)(((unsigned __int128)(ns / 64) << 64) / scale) : 0;
}

void emit_waits_timed_out(struct emit_thread *t, uint64_t mutex, uint64_t late_ns)
{
    struct emit_thing g = t->g, p = t->p;
    uint64_t now = emit_ticks(), back = ticks_of(late_ns), since = now - back;
    if (t->g_state || late_ns / 64 < MOMENT_UNITS ||
        back >= now - atomic_load_explicit(&t->wait_ticks, memory_order_relaxed) ||
        !emit_waits_claim(t))
        return; // or it was signalled at last
    emit_go_unblock(t, since, g, EMIT_NO_STACK);
    emit_proc_start(t, since, p);
    emit_go_start(t, since, g);
    emit_go_block(t, since, EMIT_REASON_SYNC, t->wait_stack);
    emit_proc_stop(t, since);
    count_waiter(mutex, 1);
    wait_for(t, mutex, since);
}

// Told in the stream of who released the object last, if that still runs. w is claimed, by itself.
static void tell_for_releaser(struct emit_thread *w, uint64_t object)
{
    struct emit_thread *t =
        atomic_load_explicit(&emit_bucket_of(object)->last, memory_order_acquire);
    bool is_told = false;
    if (!t || t == w || !emit_is_on())
        return;
    for (int i = 0; !emit_busy_try(t); i++) {
        if (i == PATIENCE) { // it may be that it cannot run before we do
            atomic_store_explicit(&emit_bucket_of(object)->missed, t, memory_order_relaxed);
            return;
        }
        __builtin_ia32_pause();
    }
    for (int i = 0; i < EMIT_RELEASES && !is_told; i++) {
        struct emit_release *r = &t->released[i];
        is_told = r->object == object &&
                  r->ticks >= atomic_load_explicit(&w->wait_ticks, memory_order_relaxed) &&
                  t->session == w->session && t->session == emit_session() && t->is_told &&
                  w->is_told && !w->g_state && t->g_state == EMIT_G_RUNNING &&
                  t->p_state == EMIT_P_RUNNING;
        if (!is_told)
            continue;
        emit_go_unblock(t, emit_ticks(), w->g, r->stack);
        r->is_told = true; // it stays: of a read-write lock there may be more
        atomic_store_explicit(&w->woken_session, t->session, memory_order_relaxed);
        atomic_store_explicit(&w->wait, GONE_ON, memory_order_release); // as in tell
    }
    emit_busy_unlock(t);
}

bool emit_waits_claimed(struct emit_thread *t)
{
    return atomic_load_explicit(&t->wait, memory_order_acquire) == CLAIMED;
}

// Who has claimed t has been parked, or has gone. It may come back, to this stream.
static void forsake(struct emit_thread *t, uint64_t object)
{
    atomic_store_explicit(&t->wait_object, 0, memory_order_relaxed);
    atomic_store_explicit(&t->wait_again, 0, memory_order_relaxed);
    count_waiter(object, UINT32_MAX);
    atomic_fetch_sub_explicit(&emit_waiters, 1, memory_order_relaxed);
    emit_self_drop_stream();
}

bool emit_waits_end(struct emit_thread *t)
{
    uint64_t object = atomic_load_explicit(&t->wait_object, memory_order_relaxed);
    if (!object)
        return false;
    for (uint32_t i = 1; !emit_waits_claim(t) && !move(t, WOKEN, GONE_ON); i++) {
        if (i == CLAIM_ROUNDS) {
            forsake(t, object);
            return false;
        }
        if (i % 64)
            __builtin_ia32_pause();
        else
            pause_briefly();
    }
    object = atomic_load_explicit(&t->wait_object, memory_order_relaxed); // or the mutex, by now
    bool was_woken = atomic_load_explicit(&t->wait, memory_order_acquire) >= WOKEN;
    if (!emit_waits_woken(t))
        tell_for_releaser(t, object);
    emit_queue_remove(t);
    uint64_t again = atomic_load_explicit(&t->wait_again, memory_order_relaxed);
    if (again && was_woken) {
        atomic_fetch_sub_explicit(&emit_relocking, 1, memory_order_relaxed);
        count_waiter(again, UINT32_MAX);
    }
    atomic_store_explicit(&t->wait_object, 0, memory_order_relaxed);
    atomic_store_explicit(&t->wait_again, 0, memory_order_relaxed);
    count_waiter(object, UINT32_MAX);
    atomic_fetch_sub_explicit(&emit_waiters, 1, memory_order_relaxed);
    return emit_waits_woken(t);
}

void emit_waits_over(struct emit_thread *t)
{
    atomic_store_explicit(&t->wait, NONE, memory_order_relaxed);
}

bool emit_waits_woken(const struct emit_thread *t)
{
    return atomic_load_explicit(&t->wait, memory_order_acquire) >= WOKEN &&
           was_woken_in(t, emit_session());
}

bool emit_waits_keep(struct emit_thread *w, bool *is_waiting)
{
    *is_waiting = emit_waits_claim(w);
    uint32_t now = atomic_load_explicit(&w->wait, memory_order_acquire);
    return *is_waiting || now == NONE || now == WOKEN;
}

void emit_waits_let_go(struct emit_thread *w, bool is_waiting)
{
    if (is_waiting)
        move(w, CLAIMED, WAITING);
}

void emit_waits_forget(void)
{
    emit_queue_forget();
    atomic_store_explicit(&emit_waiters, 0, memory_order_relaxed);
    atomic_store_explicit(&emit_relocking, 0, memory_order_relaxed);
}
