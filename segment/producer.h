// SPDX-License-Identifier: MIT
//
// The producing side of the segment, inside a target: libc system calls alone, no allocation, no
// locks, no waiting. Everything here is async-signal-safe, and may be called from any thread
// where nothing else is said.
//
// Protocol: seg_create maps the segment once; each thread claims a slot with seg_thread_enter and
// is from then on the only producer of that slot's two rings (one per context, so a signal handler
// never meets the code it interrupted in the same ring). A record that finds its ring full is
// folded into the state table, so totals stay exact and only its time and thread are lost.

#ifndef FIBERSCOPE_SEGMENT_PRODUCER_H
#define FIBERSCOPE_SEGMENT_PRODUCER_H

#include "segment/layout.h"

#include <stdbool.h>

struct seg { // a mapped segment; zeroed is "none"
    struct seg_header *header;
    int fd; // the memfd or the named file; -1 when closed
    uint64_t bytes;
    // Published entries of the state area, so that a dump need not look at all of it; never fewer than can be
    // seen. 0: not known.
    _Atomic uint64_t states_used;
};

struct seg_options {
    size_t size;      // sizeof(struct seg_options)
    const char *path; // NULL: a sealed memfd; else a named file, the black box
    uint32_t threads, modules, state,
        stacks; // slots; 0: the defaults, smaller ones for a named file. Counts of tables are rounded
    uint64_t ring_bytes, stack_arena_bytes, blob_arena_bytes; // up to powers of two
    uint32_t parent;         // pid, when this is a forked child's segment
    uint32_t sites;          // nonzero: with SEG_AREA_SITES
    uint32_t trace_buffers;  // of 64 KiB; nonzero: with SEG_AREA_TRACE
    uint32_t is_trace_spare; // nonzero: left out where there is not room for all
    uint32_t order;          // nonzero: with SEG_AREA_ORDER
};

// Creates, maps and seals a segment; 0 or -errno. The caller owns *s: seg_close. A named file that
// exists is -EEXIST, unless it is a dead process' segment, which is then moved to PATH.PID: nothing
// is overwritten. Respects RLIMIT_FSIZE and RLIMIT_AS by shrinking areas before it gives up (-EFBIG,
// -ENOMEM). System calls alone, made by syscall(2): a forked child does it in a handler,
// whose signal stack must have 16 KiB to spare. [async-signal-safe; one thread]
int seg_create(struct seg *s, const struct seg_options *opts);

// Unmaps and closes; a named file stays. [one thread, when no producer is left]
void seg_close(struct seg *s);

// Claims a thread slot for the calling thread; its index, or -ENOSPC (counted).
int seg_thread_enter(struct seg *s, uint32_t tid, const char *name);

// The thread will record no more. Its slot is reused once its rings are drained.
void seg_thread_exit(struct seg *s, int slot, uint64_t cpu_ns);

// Interns a stack: pcs leaf first, kind 0 user or 1 kernel. The id, or 0 (counted).
uint32_t seg_stack(struct seg *s, const uint64_t *pcs, uint32_t depth, uint32_t kind,
                   uint32_t flags);

// Interns a string; the id, or 0 (counted). 0 also means the empty string.
uint32_t seg_string(struct seg *s, const char *text, size_t n);

// Interns a label set given as n {key, value} string ids, which it sorts by key in place.
uint32_t seg_labels(struct seg *s, uint32_t (*pairs)[2], uint32_t n);

// What was interned as id by this process, for its own use: seg_string (kind 0) or seg_labels (1). NULL:
// there is no such thing. The bytes stay as long as the segment.
const void *seg_blob(const struct seg *s, uint32_t id, uint32_t kind, uint32_t *size_bytes);

// Appends a record to the calling thread's ring of that context; folds it into state when full.
// check and epoch are filled in here. r->kind must be a stream kind.
void seg_record_put(struct seg *s, int slot, enum seg_context context, struct seg_record *r);

// Adds values[0..3] to the state entry with this key.
void seg_state_add(struct seg *s, enum seg_kind kind, uint32_t user_stack, uint32_t labels,
                   uint64_t object, const uint64_t values[4]);

// The same in two steps, for hooks that keep the index: finds or makes the entry of this key and
// epoch (seg_epoch); its index, which stays valid. A full table gives the kind's overflow entry (counted).
uint32_t seg_state_find(struct seg *s, enum seg_kind kind, uint32_t user_stack, uint32_t labels,
                        uint32_t epoch, uint64_t object);

// The same for one who knows more: entries of different shards, below SEG_STATE_SHARDS, are different
// entries, unless the table has fewer than 64 places per shard; and the search begins in the first
// `window` entries (a power of two), so that a few entries that are often changed lie on few pages. Another
// window may give the key another entry, as another thread may. Where a window is full,
// the search goes on behind all windows.
enum { SEG_STATE_SHARDS = 8 };
struct seg_state_place {
    uint32_t shard, window;
};
uint32_t seg_state_find_in(struct seg *s, struct seg_state_place place, enum seg_kind kind,
                           uint32_t user_stack, uint32_t labels, uint32_t epoch, uint64_t object);

static inline struct seg_state *seg_state_at(const struct seg *s, uint32_t index)
{
    return (struct seg_state *)(void *)((char *)s->header +
                                        s->header->areas[SEG_AREA_STATE].offset) +
           index;
}

// The entry's site; only where the segment was made with sites.
static inline struct seg_site *seg_site_at(const struct seg *s, uint32_t index)
{
    return (struct seg_site *)(void *)((char *)s->header +
                                       s->header->areas[SEG_AREA_SITES].offset) +
           index;
}

// The module epoch in force; a stack that was walked before it changed belongs to the old one.
static inline uint32_t seg_epoch(const struct seg *s)
{
    // acquire: pairs with the release in seg_module_remove
    return atomic_load_explicit(&s->header->epoch, memory_order_acquire);
}

// Adds a mapped module; its index, or -ENOSPC. seg_module_remove marks it unmapped and starts a new
// epoch: call it before the addresses can be used again.
int seg_module_add(struct seg *s, const struct seg_module *m);
void seg_module_remove(struct seg *s, int index);

// Whether the process that made this segment lives, as far as this pid namespace knows.
bool seg_owner_is_alive(const struct seg_header *h);

// Writes the parts of the segment in use to fd with write(2) alone, as a dump that
// `fiberscope finish` reads; 0 or -errno. Safe while other threads record. [async-signal-safe]
int seg_dump(const struct seg *s, int fd);

#endif
