// SPDX-License-Identifier: MIT
//
// The heap recorder: what the hooks of the malloc family tell, and what becomes of it.
//
//   heap_hooks.c   malloc and its kin;  heap_new.c  operator new and delete;  heap_boot.c  the pool
//                  for allocations before the hooks know what is behind them
//   heap_mmap.c    mmap and its kin, on request;  heap_own.c  an allocator's own names
//   heap.c         beginning, sampling, and what both modes share
//   heap_exact.c   every allocation
//   heap_trace.c   one line per period on stderr
//   heap_refuse.c  programs whose allocator cannot be seen
//   live.c         the table of live pointers
//
// What always holds
//   - A pointer is taken out of the table before the real free, and put in after the real malloc.
//   - A failed allocation changes nothing (but see below). An allocation of 0 bytes counts as one object of 0 bytes.
//   - realloc is a free and an allocation, moved or not: the new one belongs to the caller of realloc.
//     When it fails, the old one stays as it was.
//   - Nothing is held across the call of the real function: it may throw, and it may be left by longjmp.
//   - A pointer that the table has no room for counts as freed at once: it is in alloc_* and
//     never in use.
//   - agent_tls.alloc_* count every allocation of the thread, recorded or not.
//   - The filter is never wiped: a counter too high costs a look-up, one too low would hand memory of the
//     boot pool to the allocator.
//
// The fast path of an allocation is one comparison: it is smaller than agent_tls.heap_countdown, the bytes
// up to the next sample. That is 0, and all take the slow path, in a thread that has not begun, before the
// functions behind the hooks are known, where every allocation counts and where none is allowed. malloc's
// counts ahead and leaves by a tail call, without a frame: there alone, one that fails for want
// of memory has been counted in alloc_*. The fast path of a free is one load from heap_filter, a
// counting filter of what the table holds and of what heap_boot.c has handed out.

#ifndef FIBERSCOPE_AGENT_HEAP_H
#define FIBERSCOPE_AGENT_HEAP_H

#include "agent/agent.h"
#include "agent/capture.h"
#include "agent/forbid.h"
#include "agent/live.h"

enum {
    HEAP_FILTER_COUNTERS = 1 << 16,
    HEAP_FILTER_STUCK = 255,     // a counter that got here stays: its pointers are always looked up
    HEAP_STACKS = 4096,          // known stacks of one thread
    HEAP_SLACK_BYTES = 64 << 10, // that one of several threads holds back from seg_heap
    HEAP_OFF_BYTES = 1 << 20,    // after so many a thread looks whether recording was switched on
    HEAP_SERIES_MS = 10,
    HEAP_STATE_BITS =
        20, // of live_entry.state in exact mode; above it, which shard the entry is of
};

extern _Atomic uint8_t heap_filter[HEAP_FILTER_COUNTERS];

// A counter for each KiB, not for each pointer: those that a program frees lie close together, and so do
// their counters. Arenas, which lie at multiples of 64 MiB, are shifted against each other.
static inline uint32_t heap_filter_index(const void *p)
{
    return (uint32_t)((uint64_t)p >> 10 ^ (uint64_t)p >> 23) & (HEAP_FILTER_COUNTERS - 1);
}

// Whether p may be in the table.
static inline bool heap_may_know(const void *p)
{
    return __builtin_expect(
        atomic_load_explicit(&heap_filter[heap_filter_index(p)], memory_order_relaxed), 0);
}

void heap_alloc_slow(void *p, uint64_t size, const uint64_t *frame);

// After a successful allocation by the function that this stands in, whose frame frame is.
__attribute__((always_inline)) static inline void heap_allocated(void *p, uint64_t size,
                                                                 const uint64_t *frame)
{
    struct agent_tls *t = &agent_tls;
    t->alloc_objects++;
    t->alloc_bytes += size;
    if (__builtin_expect(size >= t->heap_countdown, 0))
        heap_alloc_slow(p, size, frame);
    else
        t->heap_countdown -= size;
}

// What a free finds: taken out of the table, but not yet counted as freed.
struct heap_taken {
    bool is_known;
    uint32_t forks; // agent.forks then: a child knows nothing of what its parent took out
    struct live_entry entry;
};

// Where heap_may_know(p), before p is given back; heap_freed after that, or before it where it
// cannot fail; heap_put_back if it failed.
void heap_take(const void *p, struct heap_taken *t);
void heap_freed(const void *p, const struct heap_taken *t);
void heap_put_back(const void *p, const struct heap_taken *t);

// Exact recording, where heap_may_know(p): takes p out, calls real and counts.
void heap_exact_free(void *p, void (*real)(void *));

// Both at once, for what cannot fail.
void heap_free_slow(const void *p);
// The same where the function behind may come by free once more, with the same pointer.
void heap_free_early(const void *p);

// Called by agent_begin, before the address space is live: maps what is needed, once. Without memory, or
// with an allocator that we cannot see, says so and switches the rate off.
void heap_begin(void);
// fscope_heap_start: live, the API's lock held. A recording has one rate, because a reader undoes the sampling
// of all of it alike, and counting everything needs a segment of its own kind: -EBUSY. -ENOMEM: no memory.
// -ENOTSUP: the allocator cannot be seen. -EINVAL of heap_stop: it is not on.
int heap_start(uint64_t rate);
int heap_stop(void);
bool heap_is_on(void);
// In the child of a fork, before anything else runs there.
void heap_fork_child(void);
// A thread leaves: what it held back goes into the totals.
void heap_thread_leave(struct agent_slot *s);
// The process leaves: all threads' does.
void heap_leave(void);

// heap_boot.c
void *heap_boot_take(uint64_t size, uint64_t align); // zeroed; NULL when the pool is used up
void heap_boot_mark(void);                           // in the filter
uint64_t heap_boot_size(const void *p);

enum { HEAP_BOOT_BYTES = 128 << 10 };
extern char heap_boot_pool[HEAP_BOOT_BYTES];

static inline bool heap_boot_owns(const void *p)
{
    return (uint64_t)p - (uint64_t)heap_boot_pool < HEAP_BOOT_BYTES;
}

// heap_hooks.c: which library malloc is of, as an address range; 0 if that is not known.
struct heap_range {
    uint64_t start, end;
};
extern struct heap_range heap_allocator;
struct heap_range heap_library_of(const void *address); // 0, 0: of none
// Whether the function behind a hook allocates by itself, rather than by calling malloc through the
// dynamic linker, which is counted there. [normal context, once all hooks are resolved]
bool heap_is_own(const void *function);

// heap_refuse.c: why this program's heap cannot be recorded; NULL: it can.
const char *heap_refusal(void);

// --- Between heap.c, heap_exact.c and heap_trace.c.

struct heap_stack {      // of a thread's known stacks
    uint64_t hash;       // 0: free
    const uint64_t *pcs; // in the segment
    uint32_t shape;      // depth | flags << 16
    uint32_t state;
    uint32_t labels, epoch;
};

// One per slot of agent.slots, in a sparse mapping that is wiped on fork.
struct agent_heap_thread {
    // Not yet in seg_heap. The thread's own; read by others when the process leaves.
    _Atomic uint64_t live_objects, live_bytes, alloc_objects, alloc_bytes;
    bool is_behind; // any of them may be other than 0
    int *errno_at;  // the thread's
    bool is_alone;  // nobody else writes the alloc counts of this shard's entries
    uint32_t shard; // of the state table
    // What the last allocation's stack was, and its entry: unwind_changes, the leaf's pc, and so on.
    struct {
        uint64_t changes, leaf;
        uint32_t shape, labels, epoch, state; // shape 0: none
    } last;
    // Loops come by the same stacks in the same order, so what followed last time is fetched ahead.
    uint32_t latest;               // index of the last stack that was looked up
    const struct heap_stack *soon; // what followed it last time, NULL: it was fetched
    uint16_t followers[HEAP_STACKS];
    struct heap_stack stacks[HEAP_STACKS];
};

struct heap_shared {                // wiped on fork
    _Atomic uint32_t closed;        // the totals were made whole: nobody adds to them any more
    _Atomic uint32_t states;        // entries asked for
    _Atomic uint64_t series_due;    // ticks
    _Atomic uint64_t trace_due_ns;  // CLOCK_MONOTONIC
    _Atomic uint64_t trace_last_ns; // of the last line
    _Atomic uint64_t allocated_bytes, freed_bytes; // estimates, where it is sampled
    uint64_t said_allocated, said_freed;           // at the last line; of its writer
};

struct heap { // survives fork by being copied; what it points to is wiped
    bool is_mapped, is_exact;
    _Atomic bool is_stopped; // by heap_stop; the rate stays in the control word, for readers
    uint64_t rate_bytes;
    struct live live;
    void *live_memory;
    uint64_t live_bytes;
    struct agent_heap_thread *threads; // by slot index
    // Of the first segment's, to be prefetched from, which never faults.
    const struct seg_state *states;
    const struct seg_site *sites;
    struct heap_shared *shared;
    uint64_t us_per_tick; // 32.32 fixed point
    uint64_t series_ticks;
    const char *single_threaded; // libc's flag: 0 when there are several threads
};

extern struct heap heap;

void heap_exact_begin(void); // the clock
// _again does what nearly always happens, and keeps errno: false, and nothing was done, in a thread that
// has not begun, in a hook, in a forked child that has not begun, and where recording is off.
bool heap_exact_alloc_again(void *p, uint64_t size, const uint64_t *frame);
void heap_exact_alloc(void *p, uint64_t size, const uint64_t *frame);
void heap_exact_freed(const void *p, const struct heap_taken *t);
void heap_exact_flush(struct agent_heap_thread *t);

// Adds to a state entry of the sampled mode, or where a thread has no slot.
void heap_count(uint32_t state, uint32_t first, uint64_t objects, uint64_t bytes);

// seg_state_place.window for an entry that may be new.
uint32_t heap_state_window(void);

void heap_trace_begin(void);
void heap_trace_sampled(_Atomic uint64_t *total,
                        uint64_t size); // adds an unsampled size to an estimate
void heap_trace_look(void);             // writes a line if one is due; within a capture

#endif
