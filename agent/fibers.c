// SPDX-License-Identifier: MIT
//
// See fibers.h. The descriptor's offsets are used, not the runtime's structs: the two libraries may be of
// different versions.

#include "agent/fibers.h"

#include <stddef.h>
#include <string.h>

enum { FIBER_LABEL_PAIRS = 16 };

static const struct fib_descriptor *ready_descriptor(void)
{
    const struct fib_descriptor *d = &fib_descriptor;
    // acquire: pairs with the release in descriptor_init
    if (!d || !__atomic_load_n(&d->is_ready, __ATOMIC_ACQUIRE) || d->version != DESCRIPTOR_VERSION)
        return NULL;
    return d;
}

static uint64_t word_at(uint64_t address)
{
    return *(const volatile uint64_t *)(uintptr_t)address;
}

bool fibers_look(struct fiber_here *out, uint64_t rsp, bool is_on_signal_stack)
{
    *out = (struct fiber_here){0};
    const struct fib_descriptor *d = fibers_exist() ? ready_descriptor() : NULL;
    if (!d)
        return false;
    uint64_t tls = (uint64_t)(uintptr_t)__builtin_thread_pointer() + (uint64_t)d->tls_offset;
    uint64_t g = word_at(tls + 8);
    if (!g)
        return false;
    uint8_t flags = *(const volatile uint8_t *)(uintptr_t)(g + d->g_flags);
    uint64_t live = word_at(g + d->g_live);
    if (flags & (DESCRIPTOR_IS_THREAD | DESCRIPTOR_IS_SYSTEM) || !live)
        return false;
    uint64_t low = word_at(live + d->live_low), high = word_at(live + d->live_high);
    if (!is_on_signal_stack && (rsp < low || rsp >= high))
        return false;
    *out = (struct fiber_here){
        .id = word_at(g + d->g_id),
        .low = low,
        .high = high,
        .set = *(const volatile int32_t *)(uintptr_t)(g + d->g_labels),
    };
    return out->id != 0;
}

static const char *set_at(const struct fib_descriptor *d, int32_t set)
{
    return (const char *)(uintptr_t)(d->labels + (uint64_t)set * d->label_set_size);
}

static uint32_t intern_set(const struct fib_descriptor *d, int32_t set)
{
    uint32_t pairs[FIBER_LABEL_PAIRS][2], n = 0;
    const char *s = set_at(d, set);
    for (uint32_t i = 0; i < d->label_pairs && i < FIBER_LABEL_PAIRS; i++) {
        const char *key = s + (size_t)i * 2 * d->label_size, *value = key + d->label_size;
        if (!*key)
            break;
        pairs[n][0] = seg_string(&agent.space->seg, key, strnlen(key, d->label_size));
        pairs[n][1] = seg_string(&agent.space->seg, value, strnlen(value, d->label_size));
        if (pairs[n][0] && (pairs[n][1] || !*value))
            n++;
    }
    return n ? seg_labels(&agent.space->seg, pairs, n) : 0;
}

uint32_t fibers_labels(int32_t set)
{
    const struct fib_descriptor *d = ready_descriptor();
    if (!d || set <= 0 || (uint32_t)set >= d->label_sets)
        return 0;
    // A set never changes once it has an index, and one text may be interned twice: a race costs nothing.
    _Atomic uint32_t *known = set < AGENT_FIBER_LABELS ? &agent.space->fiber_labels[set] : NULL;
    uint32_t id = known ? atomic_load_explicit(known, memory_order_relaxed) : 0;
    if (id)
        return id;
    id = intern_set(d, set);
    if (known)
        atomic_store_explicit(known, id, memory_order_relaxed);
    return id;
}

void fibers_forget_labels(void)
{
    for (uint32_t i = 0; i < AGENT_FIBER_LABELS; i++)
        atomic_store_explicit(&agent.space->fiber_labels[i], 0, memory_order_relaxed);
}

bool fibers_begin_walk(struct agent_slot *s, struct unwind_thread *t, uint64_t rsp,
                       bool is_on_signal_stack, struct fiber_here *f, uint32_t *labels)
{
    if (!fibers_look(f, rsp, is_on_signal_stack)) {
        unwind_thread_stack(t, s->stack_low, s->stack_high);
        return false;
    }
    unwind_thread_stack(t, f->low, f->high);
    *labels = fibers_labels(f->set);
    return true;
}

uint32_t fibers_strip(const uint64_t *pcs, uint32_t depth)
{
    const struct fib_descriptor *d = fibers_exist() ? ready_descriptor() : NULL;
    // The last is a return address: into the root frame it lies behind its first instruction.
    if (d && depth > 1 && pcs[depth - 1] > d->root && pcs[depth - 1] <= d->root_end)
        return depth - 1;
    return depth;
}

uint32_t fibers_skip(const uint64_t *pcs, uint32_t depth)
{
    const struct fib_descriptor *d = fibers_exist() ? ready_descriptor() : NULL;
    uint32_t n = 0;
    while (d && n < depth && pcs[n] > d->text && pcs[n] <= d->text_end)
        n++;
    return n && n < depth ? n - 1 : 0;
}

void fibers_tell(void (*on_wait)(const void *object, uint64_t ns),
                 void (*on_unlock)(const void *object, uint64_t ns))
{
    struct fib_descriptor *d = &fib_descriptor;
    if (d->version != DESCRIPTOR_VERSION || d->size < offsetof(struct fib_descriptor, on_lock))
        return;
    __atomic_store_n(&d->on_wait, on_wait, __ATOMIC_RELAXED);
    __atomic_store_n(&d->on_unlock, on_unlock, __ATOMIC_RELAXED);
}

void fibers_tell_locks(void (*on_lock)(const void *object, uint32_t what))
{
    struct fib_descriptor *d = &fib_descriptor;
    if (d->version != DESCRIPTOR_VERSION || d->size < sizeof *d)
        return; // a runtime that does not tell
    __atomic_store_n(&d->on_lock, on_lock, __ATOMIC_RELAXED);
    if (on_lock)
        __atomic_fetch_or(d->slow_locks, DESCRIPTOR_LOCKS_WATCHED, __ATOMIC_RELAXED);
    else
        __atomic_fetch_and(d->slow_locks, ~(uint32_t)DESCRIPTOR_LOCKS_WATCHED, __ATOMIC_RELAXED);
}
