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
// Protocol. A waiter's word `wait` goes WAITING -> CLAIMED -> WOKEN (or back); the claim gives the right to its G's mark,
// and is held within one event. It becomes WOKEN within the transition that tells so: who announces, after all
// transitions, finds there what the G is. The waiter claims itself when it goes on, and makes it NONE when it starts.
// Nobody holds its own stream while it waits for another's.

#include "emit/waits.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 256, PATIENCE = 300 };

enum { NONE, WAITING, CLAIMED, WOKEN };

_Atomic uint32_t emit_waiters;
static _Atomic uint32_t filter[SLOTS];          // waiters, by their objects' hashes
static struct emit_thread *_Atomic last[SLOTS]; // who released such an object last

static uint32_t slot_of(uint64_t object)
{
    return (uint32_t)(object * UINT64_C(0x9e3779b97f4a7c15) >> 56);
}

static void pause_briefly(void)
{
    const struct timespec t = {.tv_nsec = 20000}; // not a yield: the other may have less priority
    syscall(SYS_nanosleep, &t, NULL);
}

static bool claim(struct emit_thread *w)
{
    uint32_t was = WAITING;
    // acq_rel: what w wrote before it waited is seen; pairs with the release in emit_waits_begin
    return atomic_compare_exchange_strong_explicit(&w->wait, &was, CLAIMED, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

// Tells in t's stream that it unblocks w, which is claimed.
static void tell(struct emit_thread *t, struct emit_thread *w, emit_number stack)
{
    bool same = w->session == t->session && w->is_told && !w->g_state;
    if (same)
        emit_go_unblock(t, emit_ticks(), w->g, stack);
    // release: pairs with the acquire of the waiter that goes on, and of who announces
    atomic_store_explicit(&w->wait, same ? WOKEN : WAITING, memory_order_release);
}

// Who has waited longest for object, of those that waited at that time.
static struct emit_thread *longest(uint64_t object, uint64_t ticks)
{
    struct emit_thread *found = NULL;
    uint64_t least = ticks;
    for (struct emit_thread *t = atomic_load_explicit(&emit.threads, memory_order_acquire); t;
         t = t->next) {
        if (atomic_load_explicit(&t->wait, memory_order_acquire) != WAITING ||
            atomic_load_explicit(&t->wait_object, memory_order_relaxed) != object)
            continue;
        uint64_t since = atomic_load_explicit(&t->wait_ticks, memory_order_relaxed);
        if (since <= least) {
            least = since;
            found = t;
        }
    }
    return found;
}

static bool is_waited_for(uint64_t object)
{
    return object && atomic_load_explicit(&filter[slot_of(object)], memory_order_relaxed);
}

void emit_waits_flush(struct emit_thread *t)
{
    for (int i = 0; i < EMIT_RELEASES; i++) {
        struct emit_release *r = &t->released[i];
        uint64_t object = r->object;
        r->object = 0;
        if (!is_waited_for(object) || t->g_state != EMIT_G_RUNNING)
            continue;
        struct emit_thread *w = longest(object, r->ticks);
        if (w && claim(w))
            tell(t, w, r->stack);
    }
}

void emit_waits_note(struct emit_thread *t, uint64_t object)
{
    if (!is_waited_for(object))
        return;
    t->released[t->release_next++ % EMIT_RELEASES] =
        (struct emit_release){object, emit_ticks(), emit_stack_here(t)};
    atomic_store_explicit(&last[slot_of(object)], t, memory_order_release);
}

void emit_waits_signal(struct emit_thread *t, uint64_t object, bool all)
{
    emit_number stack = {0}; // not yet known
    uint64_t now = emit_ticks();
    if (!is_waited_for(object) || t->g_state != EMIT_G_RUNNING)
        return;
    for (struct emit_thread *w; (w = longest(object, now));) {
        stack = stack.bits ? stack : emit_stack_here(t);
        if (claim(w)) {
            tell(t, w, stack);
            if (!all || atomic_load_explicit(&w->wait, memory_order_relaxed) == WAITING)
                return; // one, or one of another session: they would be found again
        }
    }
}

void emit_waits_begin(struct emit_thread *t, uint64_t object)
{
    if (!object || t->g_state)
        return;
    atomic_store_explicit(&t->wait_object, object, memory_order_relaxed);
    atomic_store_explicit(&t->wait_ticks, emit_ticks(), memory_order_relaxed);
    atomic_fetch_add_explicit(&filter[slot_of(object)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&emit_waiters, 1, memory_order_relaxed);
    atomic_store_explicit(&t->wait, WAITING, memory_order_release); // pairs with claim
}

// Told in the stream of who released the object last, if that still runs. w is claimed, by itself.
static void tell_for_releaser(struct emit_thread *w, uint64_t object)
{
    struct emit_thread *t = atomic_load_explicit(&last[slot_of(object)], memory_order_acquire);
    bool is_told = false;
    if (!t || t == w || !emit_is_on())
        return;
    for (int i = 0; !emit_busy_try(t); i++) {
        if (i == PATIENCE)
            return; // it may be that it cannot run before we do
        __builtin_ia32_pause();
    }
    for (int i = 0; i < EMIT_RELEASES && !is_told; i++) {
        const struct emit_release *r = &t->released[i];
        is_told = r->object == object &&
                  r->ticks >= atomic_load_explicit(&w->wait_ticks, memory_order_relaxed) &&
                  t->session == w->session && t->session == emit_session() && t->is_told &&
                  w->is_told && t->g_state == EMIT_G_RUNNING && t->p_state == EMIT_P_RUNNING;
        if (!is_told)
            continue;
        emit_go_unblock(t, emit_ticks(), w->g, r->stack);
        atomic_store_explicit(&w->wait, WOKEN, memory_order_release); // as in tell
    }
    emit_busy_unlock(t);
}

bool emit_waits_end(struct emit_thread *t)
{
    uint64_t object = atomic_load_explicit(&t->wait_object, memory_order_relaxed);
    if (!object)
        return false;
    for (uint32_t i = 1; !claim(t); i++) {
        if (emit_waits_woken(t))
            break;
        if (i % 64)
            __builtin_ia32_pause();
        else
            pause_briefly();
    }
    if (!emit_waits_woken(t))
        tell_for_releaser(t, object);
    atomic_store_explicit(&t->wait_object, 0, memory_order_relaxed);
    atomic_fetch_sub_explicit(&filter[slot_of(object)], 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&emit_waiters, 1, memory_order_relaxed);
    return emit_waits_woken(t);
}

void emit_waits_over(struct emit_thread *t)
{
    atomic_store_explicit(&t->wait, NONE, memory_order_relaxed);
}

bool emit_waits_woken(const struct emit_thread *t)
{
    return atomic_load_explicit(&t->wait, memory_order_acquire) == WOKEN;
}

void emit_waits_forget(void)
{
    for (int i = 0; i < SLOTS; i++) {
        atomic_store_explicit(&filter[i], 0, memory_order_relaxed);
        atomic_store_explicit(&last[i], NULL, memory_order_relaxed);
    }
    atomic_store_explicit(&emit_waiters, 0, memory_order_relaxed);
}
