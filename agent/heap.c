// SPDX-License-Identifier: MIT
//
// The heap recorder: beginning, sampling, and what both modes share. See heap.h.
//
// Sampling is a Poisson process over the bytes that a thread allocates: the distances between sampled
// bytes are exponential with mean rate_bytes, and an allocation is sampled when it holds one. So its
// probability is 1 - exp(-size / rate), which a reader undoes (go-trace-and-pprof: unsampling).

#include "agent/heap.h"

#include "agent/api.h"
#include "agent/arch/x86_64.h"
#include "agent/heap_math.h"
#include "agent/say.h"
#include "agent/usdt.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

_Alignas(4096) _Atomic uint8_t heap_filter[HEAP_FILTER_COUNTERS];
struct heap heap;

enum { PAGE = 4096, LIVE_BYTES_MIN = 1 << 20, PARTS_BYTES_MIN = 32 << 20, STATE_WINDOW_MIN = 1024 };

#define EXACT_LIVE_BYTES   (UINT64_C(8) << 30) // of address space: 4 GiB of parts, as much of buckets
#define EXACT_GRANULE      UINT64_C(64)        // two of glibc's smallest blocks, two places
#define SAMPLED_LIVE_BYTES (UINT64_C(64) << 20)
#define SAMPLED_GRANULE    UINT64_C(65536)

static inline struct seg *segment(void)
{
    return &agent.space->seg;
}

static inline struct seg_losses *losses(void)
{
    return &agent.space->seg.header->losses;
}

// --- The filter.

static void filter_add(const void *p)
{
    _Atomic uint8_t *counter = &heap_filter[heap_filter_index(p)];
    uint8_t now = atomic_load_explicit(counter, memory_order_relaxed);
    while (now != HEAP_FILTER_STUCK &&
           !atomic_compare_exchange_weak_explicit(counter, &now, (uint8_t)(now + 1),
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

static void filter_remove(const void *p)
{
    _Atomic uint8_t *counter = &heap_filter[heap_filter_index(p)];
    uint8_t now = atomic_load_explicit(counter, memory_order_relaxed);
    while (now != HEAP_FILTER_STUCK && now != 0 &&
           !atomic_compare_exchange_weak_explicit(counter, &now, (uint8_t)(now - 1),
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

// Without what a parent's recording has left. What is stuck may be the boot pool's.
static void filter_sweep(void)
{
    for (uint32_t i = 0; i < HEAP_FILTER_COUNTERS; i++) {
        uint8_t now = atomic_load_explicit(&heap_filter[i], memory_order_relaxed);
        if (now != 0 && now != HEAP_FILTER_STUCK)
            atomic_store_explicit(&heap_filter[i], 0, memory_order_relaxed);
    }
}

// Only in a forked child, while it has one thread.
static void filter_clear(void)
{
    for (uint32_t i = 0; i < HEAP_FILTER_COUNTERS; i++)
        atomic_store_explicit(&heap_filter[i], 0, memory_order_relaxed);
    heap_boot_mark();
}

static void filter_fill(void)
{
    for (uint32_t i = 0; i < HEAP_FILTER_COUNTERS; i++)
        atomic_store_explicit(&heap_filter[i], HEAP_FILTER_STUCK, memory_order_relaxed);
}

// --- Sampling.

static uint32_t next_random(void)
{
    uint32_t x = agent_tls.heap_random;
    if (!x) { // first of this thread
        uint64_t seed =
            ((uint64_t)(uintptr_t)&agent_tls ^ arch_ticks()) * UINT64_C(0xd6e8feb86659fd93);
        x = (uint32_t)(seed >> 32) | 1;
    }
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    agent_tls.heap_random = x;
    return x;
}

// Bytes up to and including the next sampled one.
static uint64_t draw_distance(uint64_t rate)
{
    double uniform = next_random() / 4294967296.0; // in (0, 1)
    return (uint64_t)(-heap_log(uniform) * (double)rate) + 1;
}

// The lower bound of the size's class, an eighth of an octave.
static uint64_t size_class(uint64_t size)
{
    if (size < 16)
        return size;
    uint32_t shift = 60 - (uint32_t)__builtin_clzll(size);
    return size >> shift << shift;
}

void heap_count(uint32_t state, uint32_t first, uint64_t objects, uint64_t bytes)
{
    struct seg_state *e = seg_state_at(segment(), state);
    atomic_fetch_add_explicit(&e->values[first], objects, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->values[first + 1], bytes, memory_order_relaxed);
}

// Shards begin 64 places after each other (STATE_PROBES_MAX of segment/producer.c): the last one's first
// places, too, shall lie in the window.
_Static_assert(STATE_WINDOW_MIN >= 512 && STATE_WINDOW_MIN >= SEG_STATE_SHARDS * 64,
               "state_window");

uint32_t heap_state_window(void)
{
    // Twice as many places as entries asked for so far: counters that change all the time shall not lie on
    // a page each.
    uint32_t n = atomic_fetch_add_explicit(&heap.shared->states, 1, memory_order_relaxed);
    uint32_t count = segment()->header->state_count, window = STATE_WINDOW_MIN;
    while (window / 2 < n && window < count)
        window *= 2;
    return window < count ? window : count;
}

static void take_sample(void *p, uint64_t size, const uint64_t *frame)
{
    struct capture c;
    struct live_entry stale, e = {.size = size};
    if (capture_begin(&c))
        return; // a handler's, or of a thread that is gone: one sample less
    struct unwind_registers regs = {
        .rip = frame[1] - 1, .rbp = frame[0], .rsp = (uint64_t)(frame + 2)};
    capture_stack(&c, &regs);
    uint64_t index = (uint64_t)((uint8_t *)c.slot - agent.slots) / agent.slot_stride;
    struct seg_state_place place = {(uint32_t)index % SEG_STATE_SHARDS, heap_state_window()};
    e.state = seg_state_find_in(segment(), place, SEG_KIND_HEAP, c.stack, c.labels, c.epoch,
                                size_class(size));
    heap_count(e.state, 0, 1, size);
    int rc = live_insert(&heap.live, (uint64_t)p, &e, &stale);
    if (rc == 0)
        filter_add(p);
    else if (rc > 0) // the filter has it already
        heap_count(stale.state, 2, 1, stale.size);
    else {
        heap_count(e.state, 2, 1, size);
        atomic_fetch_add_explicit(&losses()->untracked, 1, memory_order_relaxed);
    }
    usdt_heap_alloc(p, size, rc, rc > 0 ? stale.size : 0);
    if (agent.env.heaptrace_ms) {
        heap_trace_sampled(&heap.shared->allocated_bytes, size);
        if (rc)
            heap_trace_sampled(&heap.shared->freed_bytes, rc > 0 ? stale.size : size);
        heap_trace_look();
    }
    capture_end(&c);
}

static void alloc_sampled(void *p, uint64_t size, const uint64_t *frame)
{
    struct agent_tls *t = &agent_tls;
    // Without a distance in force (this thread's first; an allocation under fscope_forbid) one is drawn: how
    // far the last sample lies back has no influence on where the next one is.
    uint64_t left = t->heap_random ? t->heap_countdown : 0;
    if (!left)
        left = draw_distance(heap.rate_bytes);
    bool is_due = size >= left;
    left = is_due ? draw_distance(heap.rate_bytes) : left - size;
    t->heap_countdown = forbid_is_on(FORBID_ALLOC) ? 0 : left;
    if (is_due)
        take_sample(p, size, frame);
}

// What the control word says now; a forked child that has not begun is asked to.
static uint64_t rate_in_force(void)
{
    if (!agent_live())
        return agent.configured && agent.is_child && agent.env.inherit ? agent.env.heap_bytes : 0;
    if (atomic_load_explicit(&heap.is_stopped, memory_order_relaxed))
        return 0;
    uint64_t rate = agent.env.heap_bytes;
    uint32_t was = capture_hold();
    if (agent_live()) // still
        rate =
            atomic_load_explicit(&segment()->header->control.heap_rate_bytes, memory_order_relaxed);
    capture_release(was);
    return rate;
}

__attribute__((noinline, cold)) static void forbidden(uint64_t size, const uint64_t *frame)
{
    struct unwind_registers regs = {
        .rip = frame[1] - 1, .rbp = frame[0], .rsp = (uint64_t)(frame + 2)};
    forbid_hit(FORBID_ALLOC, size, &regs);
}

void heap_alloc_slow(void *p, uint64_t size, const uint64_t *frame)
{
    if (forbid_is_on(FORBID_ALLOC))
        forbidden(size, frame);
    if (heap.is_exact && heap_exact_alloc_again(p, size, frame)) {
        agent_tls.heap_countdown = 0;
        return;
    }
    if (!rate_in_force() || !heap.is_mapped) {
        agent_tls.heap_countdown = forbid_is_on(FORBID_ALLOC) ? 0 : HEAP_OFF_BYTES;
        agent_tls.heap_random = 0;
        return;
    }
    int saved = errno;
    if (heap.is_exact) {
        agent_tls.heap_countdown = 0;
        heap_exact_alloc(p, size, frame);
    } else {
        alloc_sampled(p, size, frame);
    }
    errno = saved;
}

void heap_take(const void *p, struct heap_taken *t)
{
    t->forks = agent.forks;
    t->is_known = heap.is_mapped && live_remove(&heap.live, (uint64_t)p, &t->entry);
    if (t->is_known && !heap.is_exact)
        filter_remove(p);
}

void heap_put_back(const void *p, const struct heap_taken *t)
{
    struct live_entry stale;
    if (!t->is_known || t->forks != agent.forks)
        return;
    if (live_insert(&heap.live, (uint64_t)p, &t->entry, &stale)) {
        if (heap.is_exact)
            heap_exact_freed(p, t);
        else {
            heap_count(t->entry.state, 2, 1, t->entry.size);
            usdt_heap_free(p, t->entry.size);
        }
        atomic_fetch_add_explicit(&losses()->untracked, 1, memory_order_relaxed);
    } else if (!heap.is_exact) {
        filter_add(p);
    }
}

void heap_freed(const void *p, const struct heap_taken *t)
{
    if (!p || !heap.is_mapped)
        return;
    int saved = errno;
    if (heap.is_exact) {
        heap_exact_freed(p, t);
    } else if (t->is_known) {
        uint32_t was = capture_hold();
        if (agent_live() && t->forks == agent.forks) {
            heap_count(t->entry.state, 2, 1, t->entry.size);
            usdt_heap_free(p, t->entry.size);
            if (agent.env.heaptrace_ms)
                heap_trace_sampled(&heap.shared->freed_bytes, t->entry.size);
        }
        capture_release(was);
    }
    errno = saved;
}

void heap_free_slow(const void *p)
{
    struct heap_taken t;
    if (!p)
        return;
    heap_take(p, &t);
    heap_freed(p, &t);
}

void heap_free_early(const void *p)
{
    heap_free_slow(p);
    agent_tls.last_pointer = (uint64_t)p | 1; // no pointer: says that p is being freed
}

// --- Beginning and end.

// Sparse: costs what is touched. Huge pages would make that two megabytes at a time.
static void *reserve(uint64_t bytes)
{
    long at = sys6(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1, 0);
    if (at < 0 && at > -PAGE)
        return NULL;
    sys3(SYS_madvise, at, bytes, MADV_WIPEONFORK);
    sys3(SYS_madvise, at, bytes, MADV_NOHUGEPAGE);
    sys3(SYS_madvise, at, bytes, MADV_DONTDUMP);
    return (void *)at;
}

// The table of live allocations. A limit of the address space is the program's: half of what is left is too
// much to take.
static int map_live(void)
{
    uint64_t bytes = heap.is_exact ? EXACT_LIVE_BYTES : SAMPLED_LIVE_BYTES;
    uint64_t granule = EXACT_GRANULE;
    while (!heap.is_exact && granule < SAMPLED_GRANULE && granule * 8 < heap.rate_bytes)
        granule *= 2;
    char *memory;
    while (!(memory = reserve(bytes * 4)) && bytes > LIVE_BYTES_MIN)
        bytes /= 4;
    uint64_t parts = memory && heap.is_exact && bytes >= PARTS_BYTES_MIN ? bytes / 2 : 0;
    uint64_t used = bytes + ((live_regions_bytes(parts) + PAGE - 1) & ~(uint64_t)(PAGE - 1));
    if (!memory)
        memory = reserve(bytes);
    else
        sys2(SYS_munmap, memory + used, bytes * 4 - used);
    if (!memory)
        return -ENOMEM;
    heap.live_memory = memory;
    heap.live_bytes = used;
    live_init(&heap.live, memory, bytes - parts, granule);
    if (parts)
        live_init_parts(&heap.live, memory + parts, parts);
    return 0;
}

static int map_all(void)
{
    uint64_t threads = (PAGE + agent.slot_count * sizeof(struct agent_heap_thread) + PAGE - 1) &
                       ~(uint64_t)(PAGE - 1);
    char *memory = heap.is_exact ? reserve(threads) : reserve(PAGE);
    if (!memory)
        return -ENOMEM;
    heap.shared = (struct heap_shared *)(void *)memory;
    heap.threads = (struct agent_heap_thread *)(void *)(memory + PAGE);
    return map_live();
}

static void refuse(const char *why)
{
    struct say line;
    atomic_store_explicit(&segment()->header->control.heap_rate_bytes, 0, memory_order_relaxed);
    agent.env.heap_bytes = 0;
    if (agent.env.quiet)
        return;
    say_text(say_begin(&line), "the heap cannot be recorded: ");
    say_end(say_text(&line, why));
}

void heap_begin(void)
{
    if (!agent.env.heap_bytes)
        return;
    if (!heap.is_mapped) {
        const char *why = api_blind(); // known, where this is a handler
        heap.rate_bytes = agent.env.heap_bytes;
        heap.is_exact = heap.rate_bytes == 1;
        if (!why && heap.is_exact &&
            segment()->header->state_count > UINT32_C(1) << HEAP_STATE_BITS)
            why = "the segment's state table is too large for exact recording";
        if (!why && map_all())
            why = "no memory for the table of live allocations";
        if (why) {
            refuse(why);
            return;
        }
        heap.is_mapped = true;
        heap_exact_begin();
        heap_trace_begin();
    }
    if (heap.is_exact)
        filter_fill();
    agent_tls.heap_countdown = 0; // this thread has looked, and found it off
    agent_tls.heap_random = 0;
}

int heap_start(uint64_t rate)
{
    struct seg_control *c = &segment()->header->control;
    bool has_sites = segment()->header->areas[SEG_AREA_SITES].size != 0;
    if (heap.is_mapped ? heap.rate_bytes != rate : rate == 1 && !has_sites)
        return -EBUSY;
    agent.env.heap_bytes = rate;
    atomic_store_explicit(&c->heap_rate_bytes, rate, memory_order_relaxed);
    heap_begin();
    if (!agent.env.heap_bytes)
        return api_blind() ? -ENOTSUP : -ENOMEM;
    atomic_store_explicit(&heap.is_stopped, false, memory_order_relaxed);
    atomic_store_explicit(&c->heap_off, 0, memory_order_relaxed);
    return 0;
}

bool heap_is_on(void)
{
    const struct seg_control *c = &segment()->header->control;
    return atomic_load_explicit(&c->heap_rate_bytes, memory_order_relaxed) &&
           !atomic_load_explicit(&heap.is_stopped, memory_order_relaxed);
}

int heap_stop(void)
{
    struct seg_control *c = &segment()->header->control;
    if (!atomic_load_explicit(&c->heap_rate_bytes, memory_order_relaxed) ||
        atomic_exchange_explicit(&heap.is_stopped, true, memory_order_relaxed))
        return -EINVAL;
    agent.env.heap_bytes = 0; // nor do children record
    atomic_store_explicit(&c->heap_off, 1, memory_order_relaxed);
    return 0;
}

void heap_fork_child(void)
{
    if (!heap.is_mapped)
        return;
    agent_tls.last_pointer = 0;
    // Each child draws for itself. Else all of a parent would sample at the same bytes, or none of them.
    agent_tls.heap_countdown = 0;
    agent_tls.heap_random = 0;
    // So that frees of what is the parent's are seen, and counted as such.
    if (!heap.is_exact)
        filter_sweep();
    else if (agent.env.inherit)
        filter_fill();
    else
        filter_clear();
}
