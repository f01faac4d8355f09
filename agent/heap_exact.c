// SPDX-License-Identifier: MIT
//
// Exact mode: every allocation and every free. The stack is walked each time (the unwinder compares it
// with the thread's last one) and looked up among the thread's known stacks, whose bytes are
// compared too: a hash alone never decides.
//
// What always holds
//   - The counts of a state entry are exact at every moment, those of seg_heap up to what threads hold
//     back: nothing while there is one thread, HEAP_SLACK_BYTES each while there are several.
//   - The first threads have a shard of the state table each. What an entry there allocates, and what its
//     thread frees of it, has one writer, which adds without a bus lock. What others free of it is
//     added atomically, to counts of its own (seg_site.elsewhere_*). SHARED is the shard of all who
//     have none of their own: there everybody adds atomically, and every free goes elsewhere.
//   - A state entry's counts at the latest peak are kept by its first change after it (seg_site).
//
// Where a hook interrupts another, or its thread has no slot, it counts into the overflow entry.

#include "agent/heap.h"

#include "agent/arch/x86_64.h"
#include "agent/trace.h"
#include "agent/usdt.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <time.h>

enum { STACK_WAYS = 4, CALIBRATE_NS = 400000, SHARED = SEG_STATE_SHARDS - 1 };

_Static_assert(SEG_STATE_SHARDS <= 1 << (LIVE_STATE_BITS - HEAP_STATE_BITS), "live_entry.state");

static inline struct seg *segment(void)
{
    return &agent.space->seg;
}

static inline void count(_Atomic uint64_t *at, uint64_t n)
{
    atomic_fetch_add_explicit(at, n, memory_order_relaxed);
}

static inline bool is_single(void)
{
    return *(const volatile char *)heap.single_threaded != 0;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

void heap_exact_begin(void)
{
    if (!heap.is_exact)
        return;
    uint64_t start_ns = now_ns(), start = arch_ticks(), ns;
    while ((ns = now_ns() - start_ns) < CALIBRATE_NS)
        ;
    uint64_t ticks = arch_ticks() - start;
    heap.us_per_tick = ((ns << 32) / 1000) / (ticks ? ticks : 1);
    heap.states = seg_state_at(segment(), 0);
    heap.sites = seg_site_at(segment(), 0);
    static const char many = 0;
    heap.single_threaded = dlsym(RTLD_DEFAULT, "__libc_single_threaded");
    if (!heap.single_threaded) // of a glibc before 2.32
        heap.single_threaded = &many;
    heap.series_ticks = ticks * (HEAP_SERIES_MS * UINT64_C(1000000) / CALIBRATE_NS);
}

// seg_site.lifetimes: bucket 0 below 1 us, bucket k below 4^k us.
static inline uint32_t lifetime_bucket(uint64_t ticks)
{
    if ((int64_t)ticks < 0) // another processor's counter
        return 0;
    uint64_t us = (uint64_t)((unsigned __int128)ticks * heap.us_per_tick >> 32);
    if (!us)
        return 0;
    uint32_t k = (63 - (uint32_t)__builtin_clzll(us)) / 2 + 1;
    return k < SEG_LIFETIMES ? k : SEG_LIFETIMES - 1;
}

// --- Totals.

// live may be below 0 for a moment, where a thread's frees arrive before another's allocations.
static inline void look_for_peak(struct seg_heap *h, uint64_t live)
{
    uint64_t peak = atomic_load_explicit(&h->peak_bytes, memory_order_relaxed);
    while ((int64_t)live > (int64_t)peak) {
        if (!atomic_compare_exchange_weak_explicit(&h->peak_bytes, &peak, live,
                                                   memory_order_relaxed, memory_order_relaxed))
            continue;
        atomic_store_explicit(&h->peak_time_ns, clock_ns(CLOCK_MONOTONIC_COARSE),
                              memory_order_relaxed);
        count(&h->peak_number, 1);
        return;
    }
}

static uint64_t take_pending(_Atomic uint64_t *pending)
{
    uint64_t n = atomic_load_explicit(pending, memory_order_relaxed);
    atomic_store_explicit(pending, 0, memory_order_relaxed);
    return n;
}

static inline uint64_t hold_back(_Atomic uint64_t *pending, uint64_t n)
{
    n += atomic_load_explicit(pending, memory_order_relaxed);
    atomic_store_explicit(pending, n, memory_order_relaxed);
    return n;
}

// Adds these to the totals at once.
static void add_totals(uint64_t live_objects, uint64_t live_bytes, uint64_t alloc_objects,
                       uint64_t alloc_bytes)
{
    struct seg_heap *h = &segment()->header->heap;
    count(&h->alloc_objects, alloc_objects);
    count(&h->alloc_bytes, alloc_bytes);
    count(&h->live_objects, live_objects);
    uint64_t live = atomic_fetch_add_explicit(&h->live_bytes, live_bytes, memory_order_relaxed);
    look_for_peak(h, live + live_bytes);
    trace_heap(live + live_bytes);
}

void heap_exact_flush(struct agent_heap_thread *t)
{
    if (!t->is_behind || atomic_load_explicit(&heap.shared->closed, memory_order_relaxed))
        return;
    t->is_behind = false;
    uint64_t live_objects = take_pending(&t->live_objects);
    uint64_t live_bytes = take_pending(&t->live_bytes);
    uint64_t alloc_objects = take_pending(&t->alloc_objects);
    add_totals(live_objects, live_bytes, alloc_objects, take_pending(&t->alloc_bytes));
}

// t may be NULL. sign: 1 for an allocation, -1 for a free.
static inline void change_totals(struct agent_heap_thread *t, int64_t sign, uint64_t size)
{
    struct seg_heap *h = &segment()->header->heap;
    uint64_t bytes = (uint64_t)sign * size, is_alloc = sign > 0;
    if (is_single() && t && !t->is_behind) {
        arch_add_alone(&h->live_objects, (uint64_t)sign);
        arch_add_alone(&h->live_bytes, bytes);
        if (!is_alloc)
            return;
        arch_add_alone(&h->alloc_objects, 1);
        arch_add_alone(&h->alloc_bytes, size);
        look_for_peak(h, atomic_load_explicit(&h->live_bytes, memory_order_relaxed));
        return;
    }
    if (!t) {
        add_totals((uint64_t)sign, bytes, is_alloc, is_alloc ? size : 0);
        return;
    }
    if (!atomic_load_explicit(&h->slack_bytes, memory_order_relaxed))
        atomic_store_explicit(&h->slack_bytes, HEAP_SLACK_BYTES, memory_order_relaxed);
    t->is_behind = true;
    hold_back(&t->live_objects, (uint64_t)sign);
    int64_t live = (int64_t)hold_back(&t->live_bytes, bytes);
    uint64_t allocated = 0;
    if (is_alloc) {
        hold_back(&t->alloc_objects, 1);
        allocated = hold_back(&t->alloc_bytes, size);
    }
    if (live >= HEAP_SLACK_BYTES || live <= -HEAP_SLACK_BYTES ||
        allocated >= UINT64_C(16) * HEAP_SLACK_BYTES || is_single())
        heap_exact_flush(t);
}

// --- A state entry.

static inline uint64_t value_of(const _Atomic uint64_t *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}

__attribute__((noinline)) static void keep_peak(const struct seg_state *e, struct seg_site *site,
                                                uint64_t number)
{
    uint64_t objects =
        value_of(&e->values[0]) - value_of(&e->values[2]) - value_of(&site->elsewhere_objects);
    uint64_t bytes =
        value_of(&e->values[1]) - value_of(&e->values[3]) - value_of(&site->elsewhere_bytes);
    // Of several threads one keeps it. What the others do meanwhile is within the slack.
    if (atomic_exchange_explicit(&site->peak_number, number, memory_order_relaxed) == number)
        return;
    atomic_store_explicit(&site->peak_objects, objects, memory_order_relaxed);
    atomic_store_explicit(&site->peak_bytes, bytes, memory_order_relaxed);
}

// Before any change of an entry.
static inline void before_change(const struct seg_state *e, struct seg_site *site)
{
    uint64_t number =
        atomic_load_explicit(&segment()->header->heap.peak_number, memory_order_relaxed);
    if (__builtin_expect(atomic_load_explicit(&site->peak_number, memory_order_relaxed) != number,
                         0))
        keep_peak(e, site, number);
}

static inline void count_alloc(uint32_t state, uint64_t size, bool is_alone)
{
    struct seg_state *e = seg_state_at(segment(), state);
    before_change(e, seg_site_at(segment(), state));
    if (is_alone) {
        arch_add_alone(&e->values[0], 1);
        arch_add_alone(&e->values[1], size);
    } else {
        count(&e->values[0], 1);
        count(&e->values[1], size);
    }
}

// What a live entry's state holds.
static inline uint32_t state_of(const struct live_entry *e)
{
    return e->state & ((UINT32_C(1) << HEAP_STATE_BITS) - 1);
}

static inline uint32_t shard_of(const struct live_entry *e)
{
    return e->state >> HEAP_STATE_BITS;
}

// t: the caller's, or NULL.
static inline void count_free(const struct agent_heap_thread *t, const struct live_entry *gone,
                              uint64_t age_ticks, bool is_temporary)
{
    struct seg_state *e = seg_state_at(segment(), state_of(gone));
    struct seg_site *site = seg_site_at(segment(), state_of(gone));
    uint32_t bucket = lifetime_bucket(age_ticks);
    before_change(e, site);
    if (__builtin_expect((t && t->is_alone && t->shard == shard_of(gone)) || is_single(), 1)) {
        arch_add_alone(&e->values[2], 1);
        arch_add_alone(&e->values[3], gone->size);
        arch_add_alone(&site->lifetimes[bucket], 1);
        if (is_temporary)
            arch_add_alone(&site->temporary_objects, 1);
        return;
    }
    count(&site->elsewhere_objects, 1);
    count(&site->elsewhere_bytes, gone->size);
    count(&site->elsewhere_lifetimes[bucket], 1);
    if (is_temporary)
        count(&site->temporary_objects, 1);
}

// --- Known stacks.

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

// Four chains, so that the multiplier is kept busy. Never 0.
static inline uint64_t hash_stack(const uint64_t *pcs, uint32_t depth, uint64_t seed)
{
    const uint64_t k0 = UINT64_C(0xa0761d6478bd642f), k1 = UINT64_C(0xe7037ed1a0b428db),
                   k2 = UINT64_C(0x8ebc6af09c88c6e3), k3 = UINT64_C(0x589965cc75374cc3);
    uint64_t a = seed, b = k1, c = k2, d = k3;
    const uint64_t *end = pcs + depth;
    for (; end - pcs >= 4; pcs += 4) {
        a = (a ^ pcs[0]) * k0;
        b = (b ^ pcs[1]) * k1;
        c = (c ^ pcs[2]) * k2;
        d = (d ^ pcs[3]) * k3;
    }
    for (; pcs < end; pcs++)
        a = mix(a ^ *pcs, k0);
    return mix(a ^ (b << 32 | b >> 32), c ^ (d << 32 | d >> 32) ^ k3) | 1;
}

static inline bool is_stack(const struct heap_stack *k, const struct capture *c, uint64_t hash,
                            uint32_t shape, uint32_t depth)
{
    return k->hash == hash && k->shape == shape && k->labels == c->labels && k->epoch == c->epoch &&
           memcmp(k->pcs, c->slot->hook_pcs, depth * sizeof *k->pcs) == 0;
}

static const uint64_t *stack_bytes(uint32_t id)
{
    const char *table =
        (const char *)segment()->header + segment()->header->areas[SEG_AREA_STACKS].offset;
    const struct seg_slot *slots =
        (const struct seg_slot *)(const void *)(table + sizeof(struct seg_table));
    return (const uint64_t *)(const void *)(table + slots[id - 1].offset);
}

// A stack that this thread has not met, or has forgotten.
__attribute__((noinline)) static uint32_t new_stack(struct agent_heap_thread *t, struct capture *c,
                                                    uint64_t hash, uint32_t shape)
{
    uint32_t depth = shape & 0xffff;
    capture_cover(c, depth);
    c->stack = seg_stack(segment(), c->slot->hook_pcs, depth, 0, shape >> 16);
    struct seg_state_place place = {t->shard, heap_state_window()};
    uint32_t state =
        seg_state_find_in(segment(), place, SEG_KIND_HEAP, c->stack, c->labels, c->epoch, 0);
    if (!c->stack || state == SEG_KIND_HEAP) // counted at each addition
        return state;
    struct heap_stack *set = &t->stacks[hash >> 32 & (HEAP_STACKS - 1) & ~(STACK_WAYS - 1u)];
    struct heap_stack *at =
        &set[hash >> 1 & (STACK_WAYS - 1)]; // whom it drives out, if all are taken
    for (uint32_t i = 0; i < STACK_WAYS; i++)
        if (!set[i].hash)
            at = &set[i];
    *at = (struct heap_stack){hash, stack_bytes(c->stack), shape, state, c->labels, c->epoch};
    return state;
}

// Learns which stack comes after which, and begins to fetch the one that came after this.
static inline void follow(struct agent_heap_thread *t, const struct heap_stack *now)
{
    uint32_t index = (uint32_t)(now - t->stacks);
    t->followers[t->latest] = (uint16_t)index;
    t->latest = index;
    t->soon = &t->stacks[t->followers[index]];
    __builtin_prefetch(t->soon);
}

// The second step, when that has come.
static inline void expect_follower(struct agent_heap_thread *t)
{
    enum { LINE = 64, LINES = 5 }; // of pcs: 40 frames
    const struct heap_stack *k = t->soon;
    if (__builtin_expect(!k, 1))
        return;
    t->soon = NULL;
    __builtin_prefetch(heap.states + k->state, 1);
    __builtin_prefetch(heap.sites + k->state, 1);
    for (uint32_t i = 0; i < LINES; i++)
        __builtin_prefetch((const char *)k->pcs + (size_t)i * LINE);
}

// The entry of the stack that was walked, which is not the last one.
__attribute__((noinline)) static uint32_t look_up_stack(struct agent_heap_thread *t,
                                                        struct capture *c, uint32_t shape)
{
    uint32_t depth = shape & 0xffff;
    uint64_t hash = hash_stack(c->slot->hook_pcs, depth, (uint64_t)c->labels << 32 | c->epoch);
    const struct heap_stack *set = &t->stacks[hash >> 32 & (HEAP_STACKS - 1) & ~(STACK_WAYS - 1u)];
    for (uint32_t i = 0; i < STACK_WAYS; i++)
        if (is_stack(&set[i], c, hash, shape, depth)) {
            follow(t, &set[i]);
            return set[i].state;
        }
    return new_stack(t, c, hash, shape);
}

static inline uint32_t find_state(struct agent_heap_thread *t, struct capture *c,
                                  const uint64_t *frame)
{
    uint32_t flags;
    struct unwind_registers regs; // `other` stays as it is: nothing in it is valid
    regs.rip = frame[1] - 1;
    regs.rbp = frame[0];
    regs.rsp = (uint64_t)(frame + 2);
    regs.valid = 0;
    uint32_t depth = capture_walk_only(c, &regs, &flags), shape = depth | flags << 16;
    // Most often the last one's: then its pcs need not be looked at.
    uint64_t changes = unwind_changes(slot_hook_unwind(c->slot));
    if (changes == t->last.changes && c->slot->hook_pcs[0] == t->last.leaf &&
        shape == t->last.shape && c->labels == t->last.labels && c->epoch == t->last.epoch)
        return t->last.state;
    uint32_t state = look_up_stack(t, c, shape);
    t->last.changes = changes;
    t->last.leaf = c->slot->hook_pcs[0];
    t->last.shape = state == SEG_KIND_HEAP ? 0 : shape; // no room for it: counted each time
    t->last.labels = c->labels;
    t->last.epoch = c->epoch;
    t->last.state = state;
    return state;
}

// --- The hooks.

__attribute__((noinline)) static struct agent_heap_thread *thread_begin(struct agent_slot *s)
{
    uint64_t index = (uint64_t)((uint8_t *)s - agent.slots) / agent.slot_stride;
    struct agent_heap_thread *t = &heap.threads[index];
    heap_exact_flush(t); // of a thread that had this slot and was ended without a word
    t->shard = index < SHARED ? (uint32_t)index : SHARED;
    t->is_alone = t->shard < SHARED && segment()->header->state_count >= SEG_STATE_SHARDS * 64 * 2;
    t->last.shape = 0;
    t->errno_at = &errno;
    s->heap = t;
    sample_enter(s);
    return t;
}

__attribute__((noinline)) static void put_series(const struct agent_slot *s, uint64_t now)
{
    uint64_t due = atomic_load_explicit(&heap.shared->series_due, memory_order_relaxed);
    struct seg_heap *h = &segment()->header->heap;
    if ((int64_t)(now - due) < 0 || !atomic_compare_exchange_strong_explicit(
                                        &heap.shared->series_due, &due, now + heap.series_ticks,
                                        memory_order_relaxed, memory_order_relaxed))
        return;
    struct seg_record r = {
        .kind = SEG_KIND_SERIES,
        .tid = atomic_load_explicit(&s->tid, memory_order_relaxed),
        .time_ns = now_ns(),
        .object = atomic_load_explicit(&h->alloc_bytes, memory_order_relaxed),
        .values = {atomic_load_explicit(&h->live_objects, memory_order_relaxed),
                   atomic_load_explicit(&h->live_bytes, memory_order_relaxed)},
    };
    if (s->segment_slot >= 0)
        seg_record_put(segment(), s->segment_slot, SEG_CONTEXT_NORMAL, &r);
    if (agent.env.heaptrace_ms)
        heap_trace_look();
}

static inline void look_at_clock(const struct agent_slot *s, uint64_t now)
{
    uint64_t due = atomic_load_explicit(&heap.shared->series_due, memory_order_relaxed);
    if (__builtin_expect((int64_t)(now - due) >= 0, 0))
        put_series(s, now);
}

// After the entry was counted. Without room, or where p was there already, something counts as freed.
__attribute__((noinline)) static void not_plainly_inserted(int rc, struct agent_heap_thread *t,
                                                           const struct live_entry *e,
                                                           const struct live_entry *stale)
{
    const struct live_entry *gone = rc > 0 ? stale : e;
    if (rc < 0)
        count(&segment()->header->losses.untracked, 1);
    count_free(t, gone, e->birth - gone->birth, false);
    change_totals(t, -1, gone->size);
}

// Within a capture, if c has one.
static inline void put_alloc(struct capture *c, struct agent_heap_thread *t, void *p, uint64_t size,
                             const uint64_t *frame)
{
    uint32_t state = SEG_KIND_HEAP, shard = SHARED;
    if (t) {
        state = find_state(t, c, frame);
        if (t->is_alone && state != SEG_KIND_HEAP)
            shard = t->shard;
    }
    struct live_entry stale, e = {size, arch_ticks(), state | shard << HEAP_STATE_BITS};
    // First: where it claims a place, its bus lock waits for all stores before it, and those below may
    // miss the cache.
    int inserted = live_insert(&heap.live, (uint64_t)p, &e, &stale);
    count_alloc(state, size, shard != SHARED || (is_single() && state != SEG_KIND_HEAP));
    change_totals(t, 1, size);
    if (__builtin_expect(inserted != 0, 0))
        not_plainly_inserted(inserted, t, &e, &stale);
    usdt_heap_alloc(p, size, inserted, inserted > 0 ? stale.size : 0);
    if (!t)
        return;
    agent_tls.last_pointer = (uint64_t)p;
    look_at_clock(c->slot, e.birth);
}

// Within a capture, if t is not NULL.
static inline void put_freed(const struct agent_slot *s, struct agent_heap_thread *t, const void *p,
                             const struct heap_taken *taken)
{
    const struct live_entry *e = &taken->entry;
    uint64_t now = arch_ticks();
    if (__builtin_expect(taken->is_known && taken->forks == agent.forks, 1)) {
        bool is_temporary = t && agent_tls.last_pointer == (uint64_t)p;
        count_free(t, e, now - e->birth, is_temporary);
        change_totals(t, -1, e->size);
        usdt_heap_free(p, e->size);
    } else if (!t || agent_tls.last_pointer != ((uint64_t)p | 1)) {
        count(&segment()->header->losses.unknown_frees, 1);
    }
    if (!t)
        return;
    agent_tls.last_pointer = 0;
    look_at_clock(s, now);
}

// The calling thread's, in a capture that has begun.
static inline struct agent_heap_thread *thread_of(struct agent_slot *s)
{
    return s->heap ? s->heap : thread_begin(s);
}

// A capture of a thread that has had one of ours; NULL: no.
static inline struct agent_heap_thread *begin_again(struct capture *c)
{
    if (__builtin_expect(!capture_begin_again(c), 0))
        return NULL;
    if (__builtin_expect(!c->slot->heap, 0))
        capture_end(c);
    return c->slot->heap;
}

bool heap_exact_alloc_again(void *p, uint64_t size, const uint64_t *frame)
{
    struct capture c;
    live_expect(&heap.live, (uint64_t)p); // the walk takes as long as that
    struct agent_heap_thread *t = begin_again(&c);
    if (__builtin_expect(!t, 0))
        return false;
    const struct seg_control *control = &segment()->header->control;
    bool is_on = !atomic_load_explicit(&heap.is_stopped, memory_order_relaxed) &&
                 atomic_load_explicit(&control->heap_rate_bytes, memory_order_relaxed);
    if (__builtin_expect(is_on, 1)) {
        int saved = *t->errno_at;
        expect_follower(t);
        put_alloc(&c, t, p, size, frame);
        *t->errno_at = saved;
    }
    capture_end(&c);
    return is_on;
}

void heap_exact_alloc(void *p, uint64_t size, const uint64_t *frame)
{
    struct capture c;
    int rc = capture_begin(&c);
    if (rc && !agent_live())
        return;
    put_alloc(&c, rc ? NULL : thread_of(c.slot), p, size, frame);
    if (!rc)
        capture_end(&c);
}

void heap_exact_freed(const void *p, const struct heap_taken *taken)
{
    struct capture c;
    int rc = capture_begin(&c);
    if (rc && !agent_live())
        return;
    put_freed(rc ? NULL : c.slot, rc ? NULL : thread_of(c.slot), p, taken);
    if (!rc)
        capture_end(&c);
}

// What is counted is another stack's than the last, so most often it is not in the cache: it comes while
// the real free is at work.
static inline void expect_count(const struct live_entry *e)
{
    const struct seg_site *site = heap.sites + state_of(e);
    __builtin_prefetch(heap.states + state_of(e), 1);
    __builtin_prefetch(site, 1);
    __builtin_prefetch(&site->lifetimes[5], 1);
}

void heap_exact_free(void *p, void (*real)(void *))
{
    struct capture c;
    struct heap_taken taken;
    heap_take(p, &taken);
    if (__builtin_expect(taken.is_known, 1))
        expect_count(&taken.entry);
    real(p);
    struct agent_heap_thread *t = begin_again(&c);
    if (__builtin_expect(!t, 0)) {
        heap_freed(p, &taken);
        return;
    }
    int saved = *t->errno_at;
    put_freed(c.slot, t, p, &taken);
    *t->errno_at = saved;
    capture_end(&c);
}

// --- Leaving.

void heap_thread_leave(struct agent_slot *s)
{
    if (s->heap)
        heap_exact_flush(s->heap);
    s->heap = NULL;
}

// Other threads may run on: they hold back from now on, for the process is about to end.
void heap_leave(void)
{
    if (!heap.is_exact || !heap.is_mapped)
        return;
    uint32_t used = atomic_load_explicit(&agent.space->slots_used, memory_order_acquire);
    if (atomic_exchange_explicit(&heap.shared->closed, 1, memory_order_relaxed))
        return;
    for (uint32_t i = 0; i < used; i++) {
        struct agent_heap_thread *t = &heap.threads[i];
        if (t->is_behind)
            add_totals(atomic_load_explicit(&t->live_objects, memory_order_relaxed),
                       atomic_load_explicit(&t->live_bytes, memory_order_relaxed),
                       atomic_load_explicit(&t->alloc_objects, memory_order_relaxed),
                       atomic_load_explicit(&t->alloc_bytes, memory_order_relaxed));
    }
}
