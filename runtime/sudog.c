// SPDX-License-Identifier: MIT
//
// Queues of waiters: see sudog.h.

#include "runtime/sudog.h"

void sudog_append(struct sudog_queue *q, struct sudog *s)
{
    waiter_append(q, s);
}

void sudog_prepend(struct sudog_queue *q, struct sudog *s)
{
    s->prev = NULL;
    s->next = q->head;
    if (q->head)
        q->head->prev = s;
    else
        q->tail = s;
    queue_set_head(q, s);
}

bool sudog_remove(struct sudog_queue *q, struct sudog *s)
{
    return waiter_remove(q, s);
}

struct sudog *sudog_take(struct sudog_queue *q)
{
    return waiter_take(q);
}
