// SPDX-License-Identifier: MIT
//
// Stacks of events: walked by the unwinder, interned in the segment, and known again by a hash before that.

#include "emit/internal.h"
#include "emit/wire.h"

#include "unwind/unwind.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_ready(struct emit_thread *t, uint64_t low, uint64_t high)
{
    if (!t->unwind) {
        t->walks = t->walks ? t->walks : emit_pages(sizeof(struct emit_walks));
        t->unwind = t->walks ? emit_pages(unwind_thread_size()) : NULL;
        if (!t->unwind)
            return false;
        unwind_thread_init(t->unwind, low, high);
    }
    unwind_thread_stack(t->unwind, low, high);
    return true;
}

void emit_stack_forget(struct emit_thread *t)
{
    for (int i = 0; i < EMIT_STACKS_KNOWN; i++)
        t->known[i].id = 0;
    for (int i = 0; t->walks && i < EMIT_WALKS_KNOWN; i++)
        t->walks->walk[i] = (struct emit_walk){0};
    if (t->walks)
        t->walks->links_used = 0;
    if (t->unwind)
        unwind_thread_init(t->unwind, t->stack_low, t->stack_high);
}

static bool is_ours(uint64_t pc)
{
    const struct emit_runtime *r = emit.runtime;
    return (r && pc > r->text_low && pc <= r->text_high) ||
           (pc > emit.agent_low && pc <= emit.agent_high) ||
           (pc > emit.core_low && pc <= emit.core_high);
}

// Without the runtime's own frames at the leaf, but for the outermost: what the program called. And without the
// root function of fibers.
static const uint64_t *trim(const uint64_t *pcs, uint32_t *depth)
{
    const struct emit_runtime *r = emit.runtime;
    uint32_t n = *depth, skip = 0;
    while (skip < n && is_ours(pcs[skip]))
        skip++;
    skip = skip && skip < n ? skip - 1 : 0;
    if (r) {
        if (n > skip + 1 && pcs[n - 1] > r->root_low && pcs[n - 1] <= r->root_high)
            n--;
    }
    *depth = n - skip < EMIT_FRAMES_MAX ? n - skip : EMIT_FRAMES_MAX;
    return pcs + skip;
}

static uint64_t hash_of(const uint64_t *pcs, uint32_t depth)
{
    uint64_t h = depth * UINT64_C(0x9E3779B97F4A7C15);
    for (uint32_t i = 0; i < depth; i++)
        h = ((h << 7 | h >> 57) ^ pcs[i]) * UINT64_C(0xD6E8FEB86659FD93);
    return h ^ h >> 32;
}

static uint32_t session_of(const struct emit_thread *t)
{
    return seg_epoch(emit.seg) + (uint32_t)t->session * 4096;
}

static inline uint64_t validity(const struct emit_thread *t)
{
    return (uint64_t)session_of(t) << 32 | unwind_generation();
}

// The id of this hash in this session; 0: not known.
static inline uint32_t known(const struct emit_thread *t, uint64_t hash)
{
    const struct emit_stack_slot *slot = &t->known[hash & (EMIT_STACKS_KNOWN - 1)];
    return slot->hash == hash && slot->session == session_of(t) ? slot->id : 0;
}

static void remember(struct emit_thread *t, uint64_t hash, uint32_t session, uint32_t id)
{
    t->known[hash & (EMIT_STACKS_KNOWN - 1)] = (struct emit_stack_slot){hash, id, session};
}

static uint32_t intern(struct emit_thread *t, const uint64_t *pcs, uint32_t depth)
{
    uint64_t h = hash_of(pcs, depth);
    uint32_t id = known(t, h), session = session_of(t);
    if (id)
        return id;
    id = seg_stack(emit.seg, pcs, depth, 0, 0);
    if (id && emit.cover)
        emit.cover(pcs, depth);
    remember(t, h, session, id);
    return id;
}

// Not covered: it is told in any context.
uint32_t emit_stack_start(struct emit_thread *t, uint64_t function)
{
    uint64_t pc = function + 1; // as a return address, which is looked up one lower
    uint64_t h = hash_of(&pc, 1) ^ 1;
    uint32_t id = known(t, h), session = session_of(t);
    if (id)
        return id;
    id = seg_stack(emit.seg, &pc, 1, 0, 0);
    remember(t, h, session, id);
    return id;
}

static emit_number finish(struct emit_thread *t, const uint64_t *pcs, uint32_t depth)
{
    pcs = trim(pcs, &depth);
    return encoded(depth ? intern(t, pcs, depth) : 0);
}

static emit_number walk(struct emit_thread *t, const struct unwind_registers *regs)
{
    const uint64_t *pcs;
    enum unwind_end end;
    uint32_t depth = unwind_walk(t->unwind, regs, &pcs, UNWIND_DEPTH_MAX, &end);
    return finish(t, pcs, depth);
}

// As many as any walk has, behind those in use.
static struct unwind_link *links_for_any(struct emit_walks *w)
{
    if (w->links_used + EMIT_LINKS_MAX > EMIT_LINKS_KNOWN) {
        memset(w->walk, 0, sizeof w->walk);
        w->links_used = 0;
    }
    return &w->links[w->links_used];
}

// Those that were made there go where w's were, or stay.
static void keep_links(struct emit_walks *walks, struct emit_walk *w, struct unwind_link *made)
{
    if (w->count <= w->room) {
        memcpy(w->links, made, w->count * sizeof *made);
        return;
    }
    w->links = made;
    w->room = w->count;
    walks->links_used += w->count;
}

// frame: of emit_stack, whose caller the stack begins with.
static __attribute__((noinline)) emit_number walk_anew(struct emit_thread *t, struct emit_walk *w,
                                                       const volatile uint64_t *frame, uint64_t low,
                                                       uint64_t high)
{
    uint64_t pcs[EMIT_LINKS_MAX + 1], rsp = (uint64_t)(uintptr_t)(frame + 2);
    if (!is_ready(t, low, high))
        return EMIT_NO_STACK;
    // The caller's pc as exact, which is looked up one higher.
    struct unwind_registers regs = {.rip = frame[1] - 1, .rsp = rsp, .rbp = frame[0]};
    struct unwind_link *made = links_for_any(t->walks);
    uint64_t valid = validity(t);
    w->count = EMIT_LINKS_MAX;
    uint32_t depth =
        unwind_walk_links(t->unwind, &regs, pcs, EMIT_LINKS_MAX + 1, made, &w->pairs, &w->count);
    if (!depth)
        return walk(t, &regs);
    keep_links(t->walks, w, made);
    pcs[0] = frame[1];
    w->valid = valid;
    w->rip = frame[1];
    w->below = high - rsp;
    w->rbp = frame[0] - rsp;
    w->id = finish(t, pcs, depth);
    if (w->id.bits == EMIT_NO_STACK.bits) // the table is full, for now
        w->count = 0;
    return w->id;
}

// Where a walk is to be kept: a place that is free or out of date, else that which its stack looks at first.
static struct emit_walk *place_for(const struct emit_thread *t, struct emit_walk *set,
                                   uint64_t first)
{
    for (uint64_t i = 0; i < EMIT_WALK_WAYS; i++) {
        struct emit_walk *w = &set[(first + i) % EMIT_WALK_WAYS];
        if (!w->count || w->valid != validity(t))
            return w;
    }
    return &set[first % EMIT_WALK_WAYS];
}

// Whether a walk of this key that is known is that of frame's stack. rsp: of emit_stack's caller.
static inline __attribute__((always_inline)) bool is_known(const struct emit_thread *t,
                                                           const struct emit_walk *w,
                                                           const volatile uint64_t *frame,
                                                           uint64_t rsp, uint64_t below)
{
    return w->rip == frame[1] && w->below == below && w->rbp == frame[0] - rsp &&
           w->valid == validity(t) && w->count &&
           unwind_links_hold(w->links, w->pairs, w->count, rsp);
}

static inline struct emit_walk *set_of(const struct emit_thread *t, uint64_t rip, uint64_t below)
{
    uint64_t hash = (below ^ rip << 20) * UINT64_C(0x9E3779B97F4A7C15);
    return &t->walks->walk[hash >> 56 & (EMIT_WALKS_KNOWN - EMIT_WALK_WAYS)];
}

// Not as it was first looked for: another of its set, or a stack that is not known.
static __attribute__((noinline)) emit_number stack_anew(struct emit_thread *t, uint64_t low,
                                                        uint64_t high,
                                                        const volatile uint64_t *frame)
{
    if (!t->walks) {
        if (!is_ready(t, low, high))
            return EMIT_NO_STACK;
        return walk_anew(t, t->walks->walk, frame, low, high);
    }
    uint64_t rsp = (uint64_t)(uintptr_t)(frame + 2), first = high >> 16;
    struct emit_walk *set = set_of(t, frame[1], high - rsp);
    for (uint64_t i = 1; i < EMIT_WALK_WAYS; i++) {
        struct emit_walk *w = &set[(first + i) % EMIT_WALK_WAYS];
        if (is_known(t, w, frame, rsp, high - rsp))
            return w->id;
    }
    return walk_anew(t, place_for(t, set, first), frame, low, high);
}

__attribute__((noinline)) emit_number emit_stack(struct emit_thread *t, uint64_t low, uint64_t high)
{
    // volatile: read as two words, as they were just stored; as one vector they would have to wait for both
    const volatile uint64_t *frame = __builtin_frame_address(0);
    if (__builtin_expect(!emit_is_on(), 0))
        return EMIT_NO_STACK;
    uint64_t rsp = (uint64_t)(uintptr_t)(frame + 2), below = high - rsp;
    if (__builtin_expect(t->walks != NULL, 1)) {
        struct emit_walk *w = &set_of(t, frame[1], below)[(high >> 16) % EMIT_WALK_WAYS];
        if (__builtin_expect(is_known(t, w, frame, rsp, below), 1))
            return w->id;
    }
    return stack_anew(t, low, high, frame);
}

emit_number emit_stack_here(struct emit_thread *t)
{
    return t->owner ? emit.runtime->stack(t) : emit_stack(t, t->stack_low, t->stack_high);
}

emit_number emit_stack_from(struct emit_thread *t, const void *ucontext, uint64_t low,
                            uint64_t high)
{
    struct unwind_registers regs;
    if (!emit_is_on() || !is_ready(t, low, high))
        return EMIT_NO_STACK;
    unwind_registers_from_context(&regs, ucontext);
    return walk(t, &regs);
}
