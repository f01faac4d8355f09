// SPDX-License-Identifier: MIT
//
// Run queues: a P's ring of 256 and the one that runs next, and the global queue.
//
// Go's protocol: the owner alone writes tail; head moves by compare-and-swap, the owner's and thieves'.
// With one P there are no thieves, and plain stores do (sched.is_shared is set, for good, before there
// can be any).

#include "runtime/core.h"

void queue_append(struct g_queue *q, struct g *g)
{
    g->link = NULL;
    if (q->tail)
        q->tail->link = g;
    else
        q->head = g;
    q->tail = g;
    q->count++;
}

struct g *queue_take(struct g_queue *q)
{
    struct g *g = q->head;
    if (!g)
        return NULL;
    q->head = g->link;
    if (!q->head)
        q->tail = NULL;
    q->count--;
    return g;
}

static void queue_join(struct g_queue *to, struct g_queue *from)
{
    if (!from->head)
        return;
    if (to->tail)
        to->tail->link = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    to->count += from->count;
    *from = (struct g_queue){0};
}

static void global_counted(void)
{
    atomic_store_explicit(&sched.global_count, sched.global.count, memory_order_relaxed);
}

void global_put(struct g *g)
{
    rt_lock(&sched.lock);
    queue_append(&sched.global, g);
    global_counted();
    rt_unlock(&sched.lock);
}

void global_put_list(struct g_queue *q)
{
    rt_lock(&sched.lock);
    queue_join(&sched.global, q);
    global_counted();
    rt_unlock(&sched.lock);
}

struct g *global_get(struct p *p, uint32_t max)
{
    uint32_t n = sched.global.count;
    if (!n)
        return NULL;
    uint32_t share = n / atomic_load_explicit(&sched.procs, memory_order_relaxed) + 1;
    n = share < n ? share : n;
    n = n < max ? n : max;
    n = n < RUNQ_SIZE / 2 ? n : RUNQ_SIZE / 2;
    struct g *first = queue_take(&sched.global);
    for (uint32_t i = 1; i < n; i++)
        runq_put(p, queue_take(&sched.global)); // has room: only asked for more than one when empty
    global_counted();
    return first;
}

bool runq_is_empty(const struct p *p)
{
    for (;;) {
        uint32_t head = atomic_load_explicit(&p->head, memory_order_acquire);
        uint32_t tail = atomic_load_explicit(&p->tail, memory_order_acquire);
        struct g *next = atomic_load_explicit(&p->next, memory_order_acquire);
        // The next may have been kicked into the queue between the loads.
        if (tail == atomic_load_explicit(&p->tail, memory_order_acquire))
            return head == tail && !next;
    }
}

// The first half and g go to the global queue. False: thieves were quicker, there is room now.
static bool overflow(struct p *p, struct g *g, uint32_t head)
{
    struct g *batch[RUNQ_SIZE / 2];
    for (uint32_t i = 0; i < RUNQ_SIZE / 2; i++)
        batch[i] = atomic_load_explicit(&p->queue[(head + i) % RUNQ_SIZE], memory_order_relaxed);
    // acq_rel: the slots have been read before a thief or the owner may write them
    if (!atomic_compare_exchange_strong_explicit(&p->head, &head, head + RUNQ_SIZE / 2,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return false;
    struct g_queue q = {0};
    for (uint32_t i = 0; i < RUNQ_SIZE / 2; i++)
        queue_append(&q, batch[i]);
    queue_append(&q, g);
    global_put_list(&q);
    return true;
}

void runq_put(struct p *p, struct g *g)
{
    for (;;) {
        uint32_t head = atomic_load_explicit(&p->head, memory_order_acquire); // thieves have read
        uint32_t tail = atomic_load_explicit(&p->tail, memory_order_relaxed);
        if (tail - head < RUNQ_SIZE) {
            atomic_store_explicit(&p->queue[tail % RUNQ_SIZE], g, memory_order_relaxed);
            // release: pairs with the acquire of tail in runq_steal
            atomic_store_explicit(&p->tail, tail + 1, memory_order_release);
            return;
        }
        if (overflow(p, g, head))
            return;
    }
}

void runq_put_next(struct p *p, struct g *g)
{
    struct g *old;
    if (atomic_load_explicit(&sched.is_shared, memory_order_relaxed)) {
        old = atomic_exchange_explicit(&p->next, g, memory_order_acq_rel);
    } else {
        old = atomic_load_explicit(&p->next, memory_order_relaxed);
        atomic_store_explicit(&p->next, g, memory_order_relaxed);
    }
    if (old)
        runq_put(p, old);
}

struct g *runq_get(struct p *p)
{
    bool is_shared = atomic_load_explicit(&sched.is_shared, memory_order_relaxed);
    struct g *g = atomic_load_explicit(&p->next, memory_order_relaxed);
    if (g) {
        if (!is_shared) {
            atomic_store_explicit(&p->next, NULL, memory_order_relaxed);
            return g;
        }
        g = atomic_exchange_explicit(&p->next, NULL, memory_order_acq_rel);
        if (g)
            return g;
    }
    for (;;) {
        uint32_t head = atomic_load_explicit(&p->head, memory_order_acquire);
        uint32_t tail = atomic_load_explicit(&p->tail, memory_order_relaxed);
        if (head == tail)
            return NULL;
        g = atomic_load_explicit(&p->queue[head % RUNQ_SIZE], memory_order_relaxed);
        if (!is_shared) {
            atomic_store_explicit(&p->head, head + 1, memory_order_relaxed);
            return g;
        }
        // release: the slot has been read before it may be written
        if (atomic_compare_exchange_weak_explicit(&p->head, &head, head + 1, memory_order_release,
                                                  memory_order_relaxed))
            return g;
    }
}

static uint32_t grab(struct p *from, struct g **batch, bool with_next)
{
    for (;;) {
        uint32_t head = atomic_load_explicit(&from->head, memory_order_acquire);
        uint32_t tail = atomic_load_explicit(&from->tail, memory_order_acquire); // see runq_put
        uint32_t n = tail - head;
        n -= n / 2;
        if (!n) {
            struct g *g =
                with_next ? atomic_load_explicit(&from->next, memory_order_relaxed) : NULL;
            if (!g)
                return 0;
            if (!atomic_compare_exchange_strong_explicit(
                    &from->next, &g, NULL, memory_order_acq_rel, memory_order_relaxed))
                continue;
            batch[0] = g;
            return 1;
        }
        if (n > RUNQ_SIZE / 2)
            continue; // head and tail do not belong together
        for (uint32_t i = 0; i < n; i++)
            batch[i] =
                atomic_load_explicit(&from->queue[(head + i) % RUNQ_SIZE], memory_order_relaxed);
        if (atomic_compare_exchange_strong_explicit(&from->head, &head, head + n,
                                                    memory_order_acq_rel, memory_order_relaxed))
            return n;
    }
}

struct g *runq_steal(struct p *to, struct p *from, bool with_next)
{
    struct g *batch[RUNQ_SIZE / 2];
    uint32_t n = grab(from, batch, with_next);
    if (!n)
        return NULL;
    for (uint32_t i = 0; i + 1 < n; i++)
        runq_put(to, batch[i]); // to's queue is empty
    return batch[n - 1];
}

uint64_t random_next(uint64_t *state) // xorshift64*
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1DULL;
}
