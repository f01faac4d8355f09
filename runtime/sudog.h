// SPDX-License-Identifier: MIT
//
// Queues of waiters, inline for channels, whose operations are a few instructions. Others call sudog.c.
//
// Invariant: protected by the object's lock; head is written atomically, so that it may be looked at
// without the lock (sudog_peek). Links of a sudog that is in no queue are NULL.

#ifndef FIBERSCOPE_RUNTIME_SUDOG_H
#define FIBERSCOPE_RUNTIME_SUDOG_H

#include "runtime/sched.h"

// Whether somebody seems to wait. Without the lock a hint only.
static inline bool sudog_peek(const struct sudog_queue *q)
{
    // acquire: a look at another word after this one stays after it (chan_is_ready)
    return __atomic_load_n(&q->head, __ATOMIC_ACQUIRE) != NULL;
}

static inline void queue_set_head(struct sudog_queue *q, struct sudog *s)
{
    __atomic_store_n(&q->head, s, __ATOMIC_RELAXED); // for sudog_peek
}

static inline void waiter_append(struct sudog_queue *q, struct sudog *s)
{
    s->next = NULL;
    s->prev = q->tail;
    if (q->tail)
        q->tail->next = s;
    else
        queue_set_head(q, s);
    q->tail = s;
}

// Takes out the head, which must be there.
static inline void waiter_pop(struct sudog_queue *q, struct sudog *s)
{
    struct sudog *next = s->next;
    queue_set_head(q, next);
    if (next)
        next->prev = NULL;
    else
        q->tail = NULL;
    s->next = NULL;
}

static inline struct sudog *waiter_take(struct sudog_queue *q)
{
    struct sudog *s;
    while ((s = q->head)) {
        waiter_pop(q, s);
        // One that lost is chosen by another object or a timer: it only has not run yet to leave this queue.
        if (!s->is_choice || g_choose(s->g))
            return s;
    }
    return NULL;
}

static inline bool waiter_remove(struct sudog_queue *q, struct sudog *s)
{
    if (s->prev)
        s->prev->next = s->next;
    else if (q->head == s)
        queue_set_head(q, s->next);
    else
        return false;
    if (s->next)
        s->next->prev = s->prev;
    else
        q->tail = s->prev;
    s->next = s->prev = NULL;
    return true;
}

#endif
