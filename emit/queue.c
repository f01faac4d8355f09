// SPDX-License-Identifier: MIT
//
// See queue.h. Each queue is a ring of streams by when their waits began; the last is before the first.

#include "emit/queue.h"
#include "emit/waits.h"

enum {
    PATIENCE = 300,
    STEPS = 64, // back to where one belongs that comes late
};

struct emit_bucket emit_buckets[EMIT_BUCKETS];
_Atomic uint32_t emit_unqueued;

static bool lock(struct emit_bucket *b)
{
    for (int i = 0; i < PATIENCE; i++) {
        uint32_t no = 0;
        if (!atomic_load_explicit(&b->lock, memory_order_relaxed) &&
            atomic_compare_exchange_strong_explicit(&b->lock, &no, 1, memory_order_acquire,
                                                    memory_order_relaxed))
            return true;
        __builtin_ia32_pause();
    }
    return false;
}

static void unlock(struct emit_bucket *b)
{
    atomic_store_explicit(&b->lock, 0, memory_order_release);
}

// It is written within the lock; looked at, it may be so without.
static struct emit_thread *first_of(struct emit_bucket *b, enum emit_queue which)
{
    return atomic_load_explicit(&b->first[which], memory_order_relaxed);
}

static uint64_t since_of(struct emit_thread *w)
{
    return atomic_load_explicit(&w->wait_ticks, memory_order_relaxed);
}

static bool insert(struct emit_thread *w, struct emit_bucket *b, enum emit_queue which)
{
    if (!lock(b))
        return false;
    struct emit_thread *first = first_of(b, which), *at = first; // what comes behind w
    w->queue_next = w->queue_prev = w;
    for (int i = 0; first && i < STEPS && since_of(at->queue_prev) > since_of(w); i++) {
        at = at->queue_prev;
        if (at == first)
            break;
    }
    if (first) {
        w->queue_next = at;
        w->queue_prev = at->queue_prev;
        at->queue_prev->queue_next = w;
        at->queue_prev = w;
    }
    if (!first || (at == first && since_of(first) > since_of(w)))
        atomic_store_explicit(&b->first[which], w, memory_order_relaxed);
    w->queue_bucket = b;
    w->queue = (uint8_t)which;
    unlock(b);
    return true;
}

void emit_queue_remove(struct emit_thread *w)
{
    struct emit_bucket *b = w->queue_bucket;
    if (w->is_unqueued)
        atomic_fetch_sub_explicit(&emit_unqueued, 1, memory_order_relaxed);
    w->is_unqueued = false;
    if (!b || !lock(b))
        return;
    if (first_of(b, w->queue) == w)
        atomic_store_explicit(&b->first[w->queue], w->queue_next == w ? NULL : w->queue_next,
                              memory_order_relaxed);
    w->queue_prev->queue_next = w->queue_next;
    w->queue_next->queue_prev = w->queue_prev;
    w->queue_bucket = NULL;
    unlock(b);
}

void emit_queue_add(struct emit_thread *w, uint64_t object, enum emit_queue which)
{
    if (w->queue_bucket || w->is_unqueued)
        emit_queue_remove(w);
    if (!w->queue_bucket && insert(w, emit_bucket_of(object), which))
        return;
    if (which != EMIT_QUEUE_WAITING)
        return; // it is told as it is when a generation begins
    w->is_unqueued = true;
    atomic_fetch_add_explicit(&emit_unqueued, 1, memory_order_relaxed);
}

static bool fits(struct emit_thread *w, uint64_t object, uint64_t ticks)
{
    return atomic_load_explicit(&w->wait_object, memory_order_relaxed) == object &&
           since_of(w) <= ticks;
}

static struct emit_thread *claim_queued(struct emit_bucket *b, uint64_t object, uint64_t ticks)
{
    struct emit_thread *first = first_of(b, EMIT_QUEUE_WAITING), *w = first;
    while (w && since_of(w) <= ticks) {
        if (fits(w, object, ticks) && emit_waits_claim(w))
            return w;
        w = w->queue_next == first ? NULL : w->queue_next;
    }
    return NULL;
}

static struct emit_thread *claim_any(uint64_t object, uint64_t ticks)
{
    struct emit_thread *found = NULL;
    for (struct emit_thread *t = atomic_load_explicit(&emit.threads, memory_order_acquire); t;
         t = t->next)
        if (fits(t, object, found ? since_of(found) : ticks) && emit_waits_is_waiting(t))
            found = t;
    return found && emit_waits_claim(found) ? found : NULL;
}

struct emit_thread *emit_queue_claim(uint64_t object, uint64_t ticks)
{
    struct emit_bucket *b = emit_bucket_of(object);
    struct emit_thread *w = NULL;
    bool is_locked = lock(b);
    if (is_locked) {
        w = claim_queued(b, object, ticks);
        unlock(b);
    }
    if (!w && (!is_locked || atomic_load_explicit(&emit_unqueued, memory_order_relaxed)))
        w = claim_any(object, ticks);
    return w;
}

uint32_t emit_queue_relocking(uint64_t mutex, struct emit_thread *out[], uint32_t n)
{
    struct emit_bucket *b = emit_bucket_of(mutex);
    uint32_t found = 0;
    if (!first_of(b, EMIT_QUEUE_RELOCKING) || !lock(b))
        return 0;
    struct emit_thread *first = first_of(b, EMIT_QUEUE_RELOCKING), *w = first;
    while (w && found < n) {
        if (atomic_load_explicit(&w->wait_again, memory_order_relaxed) == mutex)
            out[found++] = w;
        w = w->queue_next == first ? NULL : w->queue_next;
    }
    unlock(b);
    return found;
}

void emit_queue_took(uint64_t mutex, struct emit_thread *t, uint64_t ticks)
{
    struct emit_bucket *b = emit_bucket_of(mutex);
    if (!lock(b))
        return;
    bool is_known = b->mutex == mutex && b->taken_by == t && b->taken_ticks;
    if (ticks ? !is_known : b->mutex == mutex) {
        b->mutex = mutex;
        b->taken_by = t;
        b->taken_ticks = ticks;
    }
    unlock(b);
}

uint64_t emit_queue_taken(uint64_t mutex, const struct emit_thread *w)
{
    struct emit_bucket *b = emit_bucket_of(mutex);
    if (!lock(b))
        return 0;
    uint64_t since = b->mutex == mutex && b->taken_by != w ? b->taken_ticks : 0;
    unlock(b);
    return since;
}

static bool has(const struct emit_bucket *b, uint64_t mutex, const struct emit_thread *t)
{
    return b->mutex == mutex && b->taken_by == t && b->taken_ticks;
}

bool emit_queue_has(uint64_t mutex, const struct emit_thread *t)
{
    struct emit_bucket *b = emit_bucket_of(mutex);
    if (!lock(b))
        return false;
    bool is = has(b, mutex, t);
    unlock(b);
    return is;
}

static bool is_needed(struct emit_bucket *b, uint64_t mutex)
{
    struct emit_thread *first = first_of(b, EMIT_QUEUE_RELOCKING), *w = first;
    while (w && atomic_load_explicit(&w->wait_again, memory_order_relaxed) != mutex)
        w = w->queue_next == first ? NULL : w->queue_next;
    return w;
}

bool emit_queue_released(uint64_t mutex, struct emit_thread *t)
{
    enum { ALWAYS = 1 };
    struct emit_bucket *b = emit_bucket_of(mutex);
    if (!lock(b))
        return false;
    if (has(b, mutex, NULL)) {
        b->taken_by = t;
    } else if (!has(b, mutex, t) && is_needed(b, mutex)) {
        b->mutex = mutex;
        b->taken_by = t;
        b->taken_ticks = ALWAYS;
    }
    bool is = has(b, mutex, t);
    unlock(b);
    return is;
}

// Most pages are shared with the parent as long as they are only read.
void emit_queue_forget(void)
{
    atomic_store_explicit(&emit_unqueued, 0, memory_order_relaxed);
    for (struct emit_bucket *b = emit_buckets; b < emit_buckets + EMIT_BUCKETS; b++) {
        bool is_used = first_of(b, EMIT_QUEUE_WAITING) || first_of(b, EMIT_QUEUE_RELOCKING) ||
                       atomic_load_explicit(&b->waiters, memory_order_relaxed) ||
                       atomic_load_explicit(&b->lock, memory_order_relaxed) ||
                       atomic_load_explicit(&b->last, memory_order_relaxed) || b->mutex;
        if (is_used)
            __builtin_memset((void *)b, 0, sizeof *b);
    }
}
