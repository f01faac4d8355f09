// SPDX-License-Identifier: MIT
//
// Waits and charges; see lock.h.
//
// The pair of an entry. Word 0: waiters << 52 | sum of the times since when they are owed, mod 2^52 ns.
// Word 1: generation << 53 | woken << 52 | time of the last charge; woken: a charge came, and no waiter has
// left since. Times are CLOCK_MONOTONIC. So the waiters are
// owed n * now - sum, modulo 2^52 ns (52 days), and a charge sets sum to n * now. A waiter that leaves
// takes its own share out: its start, or the last charge if that came later.

#include "agent/lock.h"

#include "agent/arch/x86_64.h"
#include "agent/capture.h"
#include "agent/fibers.h"
#include "agent/lock_order.h"
#include "agent/trace.h"
#include "agent/usdt.h"
#include "emit/emit.h"

#include <errno.h>
#include <time.h>

enum {
    PROBES = 8,
    TAKEN = 4095, // waiters of an entry that is being given to another lock
    WAITERS_MAX = 4000,
    SHIFT = 52,
    // While a waiter is on its way others barge in, perhaps a million times a second: they are charged
    // together this often. What is owed is not lost meanwhile.
    BARGING_NS = 20000,
};

#define WOKEN (UINT64_C(1) << SHIFT)

#define TIME_MASK ((UINT64_C(1) << SHIFT) - 1)

_Atomic uint32_t lock_flags;
struct lock_waiters lock_waiters;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void lock_update(void)
{
    const struct seg_control *c = &agent.space->seg.header->control;
    uint32_t flags = 0;
    if (atomic_load_explicit(&c->block_rate_ns, memory_order_relaxed))
        flags |= LOCK_BLOCK;
    if (atomic_load_explicit(&c->mutex_fraction, memory_order_relaxed))
        flags |= LOCK_MUTEX;
    if (emit_is_wanted())
        flags |= LOCK_TRACE;
    if (lock_order_is_wanted())
        flags |= LOCK_ORDER;
    lock_order_update(flags & LOCK_ORDER);
    uint32_t was = atomic_load_explicit(&lock_flags, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&lock_flags, &was, flags | (was & LOCK_FORBID),
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
    if (fibers_exist())
        fibers_tell_locks(flags & LOCK_ORDER ? lock_order_fiber : NULL);
    if (fibers_exist())
        fibers_tell(flags & LOCK_BLOCK ? lock_fiber_waited : NULL,
                    flags & LOCK_MUTEX ? lock_fiber_unlocked : NULL);
}

static _Atomic uint32_t *filter_of(const void *object)
{
    return &agent.space->locks.filter[lock_hash(object) >> 54];
}

static uint64_t waiters_of(const uint64_t pair[2])
{
    return pair[0] >> SHIFT;
}

static void read_pair(const struct lock_entry *e, uint64_t pair[2])
{
    // May tear; the compare-and-swap that follows then fails and tells what is there.
    pair[0] = *(const volatile uint64_t *)&e->waiting[0];
    pair[1] = *(const volatile uint64_t *)&e->waiting[1];
}

static uint64_t pack(uint64_t high, uint64_t time)
{
    return high << SHIFT | (time & TIME_MASK);
}

// Gives an entry on which nobody waits to object. False: somebody was faster.
static bool take_over(struct lock_entry *e, const void *object)
{
    uint64_t pair[2];
    read_pair(e, pair);
    if (waiters_of(pair) || !compare_exchange_pair(e->waiting, pair, pack(TAKEN, 0), pair[1]))
        return false;
    atomic_store_explicit(&e->described, 0, memory_order_relaxed);
    atomic_store_explicit(&e->holder, 0, memory_order_relaxed);
    atomic_store_explicit(&e->object, (uint64_t)object, memory_order_relaxed);
    uint64_t taken[2] = {pack(TAKEN, 0), pair[1]};
    // Nobody changes a taken entry, so this succeeds; a full barrier, so object is seen before it.
    compare_exchange_pair(e->waiting, taken, 0, ((pair[1] >> (SHIFT + 1)) + 1) << (SHIFT + 1));
    return true;
}

static struct lock_entry *find(const void *object)
{
    uint64_t at = lock_hash(object) >> 40;
    for (uint64_t i = 0; i < PROBES; i++) {
        struct lock_entry *e = &agent.space->locks.entries[(at + i) % LOCK_ENTRIES];
        if (atomic_load_explicit(&e->object, memory_order_relaxed) == (uint64_t)object)
            return e;
    }
    return NULL;
}

static struct lock_entry *find_or_take(const void *object)
{
    uint64_t at = lock_hash(object) >> 40;
    struct lock_entry *e = find(object);
    for (uint64_t i = 0; !e && i < 2 * PROBES; i++) { // free ones first
        struct lock_entry *c = &agent.space->locks.entries[(at + i % PROBES) % LOCK_ENTRIES];
        bool is_free = !atomic_load_explicit(&c->object, memory_order_relaxed);
        if ((is_free || i >= PROBES) && take_over(c, object))
            e = c;
    }
    // Two threads may have taken one each: the first in probing order is the one that find finds.
    return e ? find(object) : NULL;
}

static void enter(struct lock_wait *w, struct lock_entry *e, const void *object)
{
    uint64_t pair[2];
    read_pair(e, pair);
    do {
        // After the pair was read: an entry that changes hands gets another generation.
        if (atomic_load_explicit(&e->object, memory_order_acquire) != (uint64_t)object ||
            waiters_of(pair) > WAITERS_MAX)
            return;
    } while (!compare_exchange_pair(e->waiting, pair,
                                    pack(waiters_of(pair) + 1, pair[0] + w->began_ns), pair[1]));
    w->entry = e;
    w->filter = (uint32_t)(filter_of(object) - agent.space->locks.filter) + 1;
    atomic_fetch_add_explicit(&agent.space->locks.filter[w->filter - 1], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&lock_waiters.count, 1, memory_order_relaxed);
}

static void leave(struct lock_wait *w)
{
    struct lock_entry *e = w->entry;
    uint64_t pair[2], owed_since;
    read_pair(e, pair);
    do {
        uint64_t last = pair[1] & TIME_MASK, began = w->began_ns & TIME_MASK;
        bool charged_later = last && ((last - began) & TIME_MASK) < TIME_MASK / 2;
        owed_since = charged_later ? last : began;
    } while (!compare_exchange_pair(
        e->waiting, pair,
        waiters_of(pair) > 1 ? pack(waiters_of(pair) - 1, pair[0] - owed_since) : 0,
        pair[1] & ~WOKEN));
    atomic_fetch_sub_explicit(&agent.space->locks.filter[w->filter - 1], 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&lock_waiters.count, 1, memory_order_relaxed);
}

void lock_wait_begin(struct lock_wait *w, const void *object, enum seg_lock_type type,
                     bool has_owner, const void *again, const struct unwind_registers *regs)
{
    struct capture c;
    int saved = errno;
    *w = (struct lock_wait){.forks = agent.forks};
    uint32_t flags = atomic_load_explicit(&lock_flags, memory_order_relaxed);
    if (flags & LOCK_TRACE) {
        w->traced_at = regs->rsp;
        trace_wait_begin(type, object, again, w->traced_at);
    }
    object = type == SEG_LOCK_JOIN ? NULL : object;
    w->object = (uintptr_t)object;
    if (!(flags & (LOCK_BLOCK | LOCK_MUTEX))) {
        errno = saved;
        return;
    }
    if (!capture_begin(&c)) {
        struct seg *seg = &agent.space->seg;
        struct lock_entry *e = object ? find_or_take(object) : NULL;
        if (e)
            lock_describe(e, object, type);
        else if (object)
            atomic_fetch_add_explicit(&seg->header->losses.locks_full, 1, memory_order_relaxed);
        if (atomic_load_explicit(&lock_flags, memory_order_relaxed) & LOCK_BLOCK) {
            capture_stack(&c, regs);
            w->state =
                seg_state_find(seg, SEG_KIND_BLOCK, c.stack, c.labels, c.epoch, (uint64_t)object);
            w->is_recorded = true;
        }
        w->began_ns = now_ns();
        if (e && has_owner)
            enter(w, e, object);
        capture_end(&c);
    }
    errno = saved;
}

static uint64_t random_next(struct agent_slot *s)
{
    uint64_t x = s->lock_random ? s->lock_random : now_ns() * 2 + 1;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return s->lock_random = x;
}

void lock_wait_end(struct lock_wait *w, bool has_waited)
{
    int saved = errno;
    if (w->forks != agent.forks)
        return;
    if (w->traced_at)
        trace_wait_end(w->traced_at);
    else
        trace_here();
    uint32_t was = capture_hold();
    if (w->entry)
        leave(w);
    if (w->is_recorded && has_waited && w->began_ns && agent_live() && agent_tls.slot) {
        struct seg *seg = &agent.space->seg;
        uint64_t ns = now_ns() - w->began_ns, count;
        uint64_t rate =
            atomic_load_explicit(&seg->header->control.block_rate_ns, memory_order_relaxed);
        if (rate && lock_weigh(random_next(agent_tls.slot), rate, &count, &ns)) {
            struct seg_state *s = seg_state_at(seg, w->state);
            atomic_fetch_add_explicit(&s->values[0], count, memory_order_relaxed);
            atomic_fetch_add_explicit(&s->values[1], ns, memory_order_relaxed);
            if (USDT_IS_ON(thread_block))
                USDT5(thread_block, 0, ns, w->object, count, 0);
        }
    }
    capture_release(was);
    errno = saved;
}

bool lock_has_waiters(const void *object)
{
    return agent.space && atomic_load_explicit(filter_of(object), memory_order_relaxed);
}

struct lock_charge lock_charge(const void *object)
{
    struct lock_charge none = {0, 0};
    struct lock_entry *e = find(object);
    uint64_t pair[2], now = now_ns(), n;
    if (!e)
        return none;
    read_pair(e, pair);
    do {
        n = waiters_of(pair);
        if (!n || n == TAKEN ||
            atomic_load_explicit(&e->object, memory_order_acquire) != (uint64_t)object)
            return none;
        if (pair[1] & WOKEN && ((now - pair[1]) & TIME_MASK) < BARGING_NS)
            return none;
    } while (!compare_exchange_pair(e->waiting, pair, pack(n, n * now),
                                    (pair[1] & ~TIME_MASK) | WOKEN | (now & TIME_MASK)));
    uint64_t owed = (n * now - pair[0]) & TIME_MASK;
    // A waiter that registers between our clock and here owes less than nothing.
    return (struct lock_charge){owed < TIME_MASK / 2 ? owed : 0, !(pair[1] & WOKEN)};
}

void lock_charged(const void *object, struct lock_charge charge,
                  const struct unwind_registers *regs)
{
    struct capture c;
    int saved = errno;
    if (!capture_begin(&c)) {
        struct seg *seg = &agent.space->seg;
        uint64_t fraction =
            atomic_load_explicit(&seg->header->control.mutex_fraction, memory_order_relaxed);
        if (fraction && (fraction == 1 || random_next(c.slot) % fraction == 0)) {
            capture_stack(&c, regs);
            uint32_t index =
                seg_state_find(seg, SEG_KIND_MUTEX, c.stack, c.labels, c.epoch, (uint64_t)object);
            struct seg_state *s = seg_state_at(seg, index);
            atomic_fetch_add_explicit(&s->values[0], fraction * charge.count, memory_order_relaxed);
            atomic_fetch_add_explicit(&s->values[1], fraction * charge.delay_ns,
                                      memory_order_relaxed);
            if (USDT_IS_ON(thread_mutex))
                USDT4(thread_mutex, 0, fraction * charge.delay_ns, (uintptr_t)object,
                      fraction * charge.count);
        }
        capture_end(&c);
    }
    errno = saved;
}

// --- Fibers. The runtime has USDT sites of its own for these.

static void add_fiber_event(struct capture *c, enum seg_kind kind, const void *object,
                            const struct unwind_registers *regs, uint64_t count, uint64_t ns)
{
    struct seg *seg = &agent.space->seg;
    uint32_t flags, depth = capture_walk(c, regs, &flags);
    uint32_t skip = fibers_skip(c->slot->hook_pcs, depth);
    c->stack = seg_stack(seg, c->slot->hook_pcs + skip, depth - skip, 0, flags);
    struct seg_state *s = seg_state_at(
        seg, seg_state_find(seg, kind, c->stack, c->labels, c->epoch, (uint64_t)object));
    atomic_fetch_add_explicit(&s->values[0], count, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->values[1], ns, memory_order_relaxed);
}

void lock_fiber_waited(const void *object, uint64_t ns)
{
    struct unwind_registers regs;
    struct capture c;
    uint64_t count;
    int saved = errno;
    CAPTURE_CALLER(&regs);
    if (!capture_begin(&c)) {
        uint64_t rate = atomic_load_explicit(&agent.space->seg.header->control.block_rate_ns,
                                             memory_order_relaxed);
        if (rate && lock_weigh(random_next(c.slot), rate, &count, &ns))
            add_fiber_event(&c, SEG_KIND_BLOCK, object, &regs, count, ns);
        capture_end(&c);
    }
    errno = saved;
}

void lock_fiber_unlocked(const void *object, uint64_t ns)
{
    struct unwind_registers regs;
    struct capture c;
    int saved = errno;
    CAPTURE_CALLER(&regs);
    if (!capture_begin(&c)) {
        uint64_t fraction = atomic_load_explicit(&agent.space->seg.header->control.mutex_fraction,
                                                 memory_order_relaxed);
        if (fraction && (fraction == 1 || random_next(c.slot) % fraction == 0))
            add_fiber_event(&c, SEG_KIND_MUTEX, object, &regs, fraction, fraction * ns);
        capture_end(&c);
    }
    errno = saved;
}
