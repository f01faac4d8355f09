// SPDX-License-Identifier: MIT
//
// What a lock is, for its name: where it was initialised by a call, else where the block of the heap that
// holds it was allocated. The collector knows variables by itself.
//
// The memory of a lock may become another lock, so each wait looks whether what was recorded still holds. An
// address that was several locks has an entry for each. An initialisation counts for as long as
// the memory is not allocated anew after it, which is seen where every allocation is.

#include "agent/lock.h"

#include "agent/arch/x86_64.h"
#include "agent/capture.h"
#include "agent/heap.h"

#include <errno.h>

struct description {
    uint32_t stack, epoch; // stack 0: unknown
    uint64_t offset;       // in the allocation that was made there
    uint64_t ticks;
};

static struct lock_made *made_place(const void *object)
{
    return &agent.space->locks.made[lock_hash(object) >> 54];
}

// False: it was not seen, or another one's has replaced it.
static bool find_made(const void *object, struct description *d)
{
    struct lock_made *m = made_place(object);
    // acquire: pairs with the release in lock_made_here
    uint32_t turn = atomic_load_explicit(&m->turn, memory_order_acquire);
    uint64_t whose = atomic_load_explicit(&m->object, memory_order_relaxed);
    d->offset = 0; // an initialised lock is the thing itself
    d->stack = atomic_load_explicit(&m->stack, memory_order_relaxed);
    d->epoch = atomic_load_explicit(&m->epoch, memory_order_relaxed);
    d->ticks = atomic_load_explicit(&m->ticks, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire); // pairs with the release fence in lock_made_here
    return !(turn & 1) && atomic_load_explicit(&m->turn, memory_order_relaxed) == turn &&
           whose == (uint64_t)object;
}

// The block that holds object: *holder if it is still there, else it is looked for.
static bool find_block(const void *object, uint64_t *holder, struct live_entry *block)
{
    uint64_t address = (uint64_t)object;
    if (*holder && live_find(&heap.live, *holder, block) && address - *holder < block->size)
        return true;
    *holder = 0;
    return live_holder(&heap.live, address, holder, block);
}

static void from_block(const void *object, uint64_t holder, const struct live_entry *block,
                       struct description *d)
{
    uint32_t index =
        heap.is_exact ? block->state & ((UINT32_C(1) << HEAP_STATE_BITS) - 1) : block->state;
    if (index < SEG_KIND_COUNT)
        return; // its stack was lost
    const struct seg_state *s = seg_state_at(&agent.space->seg, index);
    *d = (struct description){
        .stack = s->user_stack, .epoch = s->epoch, .offset = (uint64_t)object - holder};
}

void lock_describe(struct lock_entry *e, const void *object, enum seg_lock_type type)
{
    struct seg *seg = &agent.space->seg;
    struct description made, d = {.stack = 0};
    struct live_entry block;
    uint64_t was = atomic_load_explicit(&e->described, memory_order_relaxed);
    uint64_t holder = atomic_load_explicit(&e->holder, memory_order_relaxed);
    // What lies in no block once, does not later, where all blocks are known.
    bool is_held =
        heap.is_mapped && (!was || holder || !heap.is_exact) && find_block(object, &holder, &block);
    if (find_made(object, &made) &&
        !(is_held && heap.is_exact && (int64_t)(block.birth - made.ticks) > 0))
        d = made;
    else if (is_held)
        from_block(object, holder, &block, &d);
    // Never 0. Of another lock it is another, so that what a slow thread leaves here misleads nobody.
    uint64_t now =
        ((d.stack | (uint64_t)(d.stack ? d.epoch : 0) << 32) * UINT64_C(0xd6e8feb86659fd93) ^
         lock_hash(object)) |
        1;
    if (was == now || atomic_exchange_explicit(&e->described, now, memory_order_relaxed) == now)
        return;
    atomic_store_explicit(&e->holder, is_held ? holder : 0, memory_order_relaxed);
    uint32_t index = seg_state_find(seg, SEG_KIND_LOCK, d.stack, 0,
                                    d.stack ? d.epoch : seg_epoch(seg), (uint64_t)object);
    struct seg_state *s = seg_state_at(seg, index);
    if (index < SEG_KIND_COUNT)
        return;
    atomic_store_explicit(&s->values[0], (uint64_t)type, memory_order_relaxed);
    atomic_store_explicit(&s->values[1], d.offset, memory_order_relaxed);
}

void lock_made_here(const void *object, const struct unwind_registers *regs)
{
    struct capture c;
    int saved = errno;
    if (atomic_load_explicit(&lock_flags, memory_order_relaxed) == LOCK_FORBID)
        return;
    if (capture_begin(&c)) {
        errno = saved;
        return;
    }
    struct lock_made *m = made_place(object);
    capture_stack(&c, regs);
    uint32_t turn = atomic_load_explicit(&m->turn, memory_order_relaxed);
    if (!(turn & 1) && atomic_compare_exchange_strong_explicit(
                           &m->turn, &turn, turn + 1, memory_order_relaxed, memory_order_relaxed)) {
        atomic_thread_fence(memory_order_release); // pairs with the acquire fence in find_made
        atomic_store_explicit(&m->object, (uint64_t)object, memory_order_relaxed);
        atomic_store_explicit(&m->stack, c.stack, memory_order_relaxed);
        atomic_store_explicit(&m->epoch, c.epoch, memory_order_relaxed);
        atomic_store_explicit(&m->ticks, arch_ticks(), memory_order_relaxed);
        // release: pairs with the acquire in find_made
        atomic_store_explicit(&m->turn, turn + 2, memory_order_release);
    }
    capture_end(&c);
    errno = saved;
}
