// SPDX-License-Identifier: MIT
//
// Turns samples from any source (segment, perf ring, core file) into a pprof profile.
//
// One builder makes one profile; it may hold several processes, each with its own mappings. Samples
// are resolved as they come, against the mappings that held when they were taken, and summed by
// stack, thread and labels, so memory grows with distinct stacks and not with time.
//
// What always holds
//   - A moment is a number in the source's own clock: a segment's epoch, or a perf ring's time in ns.
//     All moments of one process come from one clock. A mapping holds in [from, until); of several
//     that hold, the one with the latest `from` wins, so a mapping that replaces another needs no
//     unmap in between.
//   - Mappings that hold at a sample's moment are added before the sample.
//   - Equal files (path, build id, offset, size) of several processes become one pprof mapping, and
//     addresses are moved into it, so that the same function of two processes is one location.
//   - The builder owns the descriptors that it was given.
//
// One thread at a time. Nothing here prints.

#ifndef FIBERSCOPE_COLLECTOR_BUILDER_H
#define FIBERSCOPE_COLLECTOR_BUILDER_H

#include "base/error.h"
#include "formats/pprof.h"
#include "segment/layout.h"

#include <stdbool.h>

#define BUILDER_KERNEL_START UINT64_C(0xffff800000000000) // x86-64: the upper half is the kernel's
#define BUILDER_KERNEL_FILE  "[kernel]"                   // the mapping of all kernel frames

struct builder;
struct builder_process;

// Kinds that no segment has: they come from the kernel (bpf/ebpf.h).
enum builder_kind {
    BUILDER_KIND_OFFCPU = 256, // waits of threads for anything
    BUILDER_KIND_WAKEUPS,      // who ended them
    BUILDER_KIND_GROWTH,       // memory that became resident, and address space
};

struct builder_options {
    size_t size; // sizeof(struct builder_options)
    unsigned
        kind; // enum seg_kind: CPU, WALL, HEAP, BLOCK, MUTEX or CUSTOM; or enum builder_kind: gives the sample types
    uint64_t period_ns;  // CPU, WALL: between samples; builder_set_period may correct it later
    uint64_t rate_bytes; // HEAP: mean bytes per sample; 0 or 1: every allocation was counted
    uint64_t real_ns;    // UNIX time of the start
    bool is_outside;     // HEAP: of exact ones too only allocations and frees are known
};

// The part of a HEAP builder that says how long freed objects had lived; each name of custom
// profiles is a part of a CUSTOM builder. All else is in the part "".
#define BUILDER_LIFETIME "lifetime"

// A mapped file. Strings are copied; fd is taken (also on failure), -1 for none.
struct builder_module {
    uint64_t start, end, offset; // addresses, half open; file offset of start
    const char *path;            // as the process sees it
    const char *build_id;        // lower-case hex, NULL or "" if unknown
    uint64_t device, inode;      // 0: unknown
    uint64_t from, until;        // moments; until 0: still mapped
    int fd;                      // the very file, for symbolizing; checked by who opened it
};

struct builder_label {
    const char *key, *value; // value NULL: numeric
    int64_t number;
    const char *unit; // of a number; NULL: none
};

// What a heap entry counted since the start; bytes and objects of the samples alone where it is
// sampled. The last three are known where every allocation is counted.
struct builder_heap {
    uint64_t alloc_objects, alloc_bytes, freed_objects, freed_bytes;
    uint64_t temporary_objects, peak_objects, peak_bytes;
};

// What GROWTH counts.
struct builder_growth {
    uint64_t faults, resident_bytes, returned_bytes; // by page faults; given back
    uint64_t maps, mapped_bytes, unmapped_bytes;     // by calls of mmap and its kin
};

// One observation, or several equal ones. Arrays belong to the caller.
// Stacks are leaf first. The first pc of each array is exact, the others are return addresses; a
// walker that knows a caller's pc to be exact (beyond a signal frame) hands in that pc + 1.
struct builder_sample {
    uint32_t tid;       // 0: unknown (no label)
    const char *thread; // its name, as builder_thread; NULL: unknown or told before
    const uint64_t *user;
    uint32_t user_depth;
    const uint64_t *kernel;
    uint32_t kernel_depth;
    uint64_t stack_key;   // nonzero: this process's name for this user stack with its moment, which
                          // saves resolving it again; 0: none
    uint64_t when;        // moment
    uint64_t count, ns;   // the values; BLOCK, MUTEX: contentions, delay; CUSTOM: added, removed;
                          // the part BUILDER_LIFETIME: freed objects, 0
    uint64_t runnable_ns; // OFFCPU: how much of ns it could have run
    const struct builder_heap *heap;     // the values of HEAP
    const struct builder_growth *growth; // those of GROWTH
    uint64_t object;  // HEAP: size class; BLOCK, MUTEX: the lock's address; 0: none
    const char *part; // NULL: ""
    const struct builder_label *labels;
    uint32_t label_count;
    uint32_t flags; // enum seg_record_flag
};

enum { BUILDER_MAKERS_MAX = 4 };

// What is known of a lock that samples name as their object. Memory that was several locks has several makers:
// which of them a sample is of, nobody knows.
struct builder_lock {
    uint64_t object;         // its address
    enum seg_lock_type type; // unknown ones are taken as SEG_LOCK_UNKNOWN
    const uint64_t *made;    // where it, or the allocation that holds it, was made; leaf first
    uint32_t made_depth;     // 0: unknown
    uint64_t made_offset;    // in that allocation; 0: unknown, or none
    uint64_t when;           // moment of that stack
};

// What the source could not keep as it should. Nothing here is missing from the sums: it lost its
// stack, its thread or its moment, not its weight (but for `modules`, whose addresses lose names).
struct builder_losses {
    uint64_t folded;        // samples without thread and moment: a ring was full
    uint64_t stacks;        // distinct stacks that found the stack table full
    uint64_t states;        // additions without stack and labels: the state table was full
    uint64_t threads;       // times that a thread found no slot
    uint64_t modules;       // times that a mapped file found no slot
    uint64_t untracked;     // HEAP: live allocations that could not be followed
    uint64_t unknown_frees; // HEAP: frees of what was not seen allocated
    uint64_t series;        // HEAP: moments of the series that found their ring full
    uint64_t collapsed;     // CPU: periods without a sample of their own, charged to the next one
    uint64_t negative;      // HEAP, CUSTOM: entries with more taken away than added, shown as 0
};

// What has been counted so far.
struct builder_stats {
    uint64_t samples;     // sum of count
    uint64_t ns;          // sum of ns
    uint64_t runnable_ns; // OFFCPU: sum of it
    uint64_t truncated;   // samples with SEG_FLAG_TRUNCATED
    uint64_t broken;      // samples with SEG_FLAG_BROKEN: do not reach main or the thread's start
    uint64_t no_stack;    // samples without any frame (a full stack table); shown as [stack lost]
    uint64_t unmapped;    // samples whose leaf lies in no known mapping
    uint64_t lost;        // builder_lost
    struct builder_losses losses;
    uint32_t processes; // with at least one sample
};

// The heap as a whole, of all processes, in the profile's own units (sampled ones estimated).
struct builder_heap_totals {
    uint64_t samples; // allocations that were recorded themselves
    uint64_t alloc_objects, alloc_bytes, inuse_objects, inuse_bytes, temporary_objects;
    uint64_t peak_bytes, peak_ns; // of the process with the highest one; ns since its start
    bool is_exact, is_sampled;    // neither: of each allocation only that and its free are known
};

// Creates an empty builder. 0 or -ENOMEM, -EINVAL (kind). The caller owns *out: builder_free.
int builder_new(struct builder **out, const struct builder_options *opts);
void builder_free(struct builder *b); // accepts NULL; closes the descriptors

// The process with this pid that began at this moment; made if it is not there. An exec is a new
// one with the same pid (a later `start`). name may be NULL (kept as it was). NULL: out of memory.
struct builder_process *builder_process(struct builder *b, uint32_t pid, uint64_t start,
                                        const char *name);

// Adds a mapping, or updates `until` of an equal one (same start, end, offset, path, from).
// 0, -ENOMEM, -EINVAL (empty range).
int builder_module(struct builder_process *p, const struct builder_module *m);

// Whether an equal mapping (same start, end, offset and from) is known already: saves opening it.
bool builder_has_module(const struct builder_process *p, uint64_t start, uint64_t end,
                        uint64_t offset, uint64_t from);

// The thread's name from now on; one that is renamed has its last name in the whole profile, so that
// its samples stay together. 0 or -ENOMEM.
int builder_thread(struct builder_process *p, uint32_t tid, const char *name);

// Adds one sample. 0 or -ENOMEM (the sample is counted as lost).
int builder_add(struct builder_process *p, const struct builder_sample *s);

// Tells what a lock is, after its samples (one without is of no interest); later calls only add
// what was unknown. 0 or -ENOMEM.
int builder_lock(struct builder_process *p, const struct builder_lock *lock);

// Operations that a process's benchmarks have run; of all together the comment "ops=N" tells.
void builder_add_ops(struct builder *b, uint64_t ops);

// HEAP: a process' highest use of memory, `after_ns` from its start.
void builder_heap_peak(struct builder *b, uint64_t bytes, uint64_t after_ns);

// Samples that the source had to drop, for the closing line and the profile's comments.
void builder_lost(struct builder *b, uint64_t count);

// Adds what one source could not keep as it should; told in the same places.
void builder_add_losses(struct builder *b, const struct builder_losses *losses);

void builder_set_period(struct builder *b, uint64_t period_ns);
void builder_set_start(struct builder *b, uint64_t real_ns);
void builder_set_rate(struct builder *b, uint64_t rate_bytes);
// HEAP: the rate at which this process was sampled, where it differs from the builder's.
void builder_process_rate(struct builder_process *p, uint64_t rate_bytes);

// A comment of the profile ("command: xz -9 file"). 0 or -ENOMEM.
int builder_comment(struct builder *b, const char *text);

void builder_get_stats(const struct builder *b, struct builder_stats *out);
void builder_get_heap(const struct builder *b, struct builder_heap_totals *out);
// The sums of GROWTH. False: it is of another kind.
bool builder_get_growth(const struct builder *b, struct builder_growth *out);

// Makes the profile, unsymbolized, of the part "": sample types by kind (builder_values.c), labels
// `thread` and `tid` where there is a thread, `lock` and `lock_address` where there is a lock,
// `bytes` (the mean size) of sampled allocations, and `process` and `pid` if there are several
// processes. The builder may go on being filled and finished again. The caller owns *out
// (pprof_free). 0 or -ENOMEM.
int builder_finish(struct builder *b, uint64_t duration_ns, struct pprof_profile **out);

// The same of a choice.
struct builder_view {
    uint32_t
        pid; // 0: all; else this one alone (all images that it executed), without labels for it
    const char *part; // NULL: ""
};
int builder_finish_view(struct builder *b, const struct builder_view *view, uint64_t duration_ns,
                        struct pprof_profile **out);

// Calls fn with the name of each part but "", in order of appearance; stops when fn returns nonzero,
// and returns that.
int builder_each_part(const struct builder *b, int (*fn)(void *arg, const char *part), void *arg);

// What a part of a CUSTOM builder counts, all entries together.
uint64_t builder_get_part(const struct builder *b, const char *part);

// Calls fn with each pid that has samples, once, with the name of its last image; stops when fn
// returns nonzero, and returns that.
int builder_each_pid(const struct builder *b, int (*fn)(void *arg, uint32_t pid, const char *name),
                     void *arg);

// --- Names of locks; collector/lock_names.c finds them.

struct builder_lock_view {
    uint64_t object;
    enum seg_lock_type type;
    const struct builder_process *process;
    const char *name; // "" until builder_name_lock
};

uint32_t builder_lock_count(const struct builder *b);
bool builder_has_lock(const struct builder_process *p, uint64_t object);
uint32_t builder_process_lock_count(const struct builder_process *p); // of its builder
void builder_get_lock(const struct builder *b, uint32_t index, struct builder_lock_view *out);
int builder_name_lock(struct builder *b, uint32_t index, const char *name); // 0 or -ENOMEM

// A profile of where locks were made: a sample for each known maker (the first BUILDER_MAKERS_MAX of a lock),
// with the number labels `lock`, the lock's index + 1, and, unless 0, `offset`. As builder_finish.
int builder_finish_locks(struct builder *b, struct pprof_profile **out);

// A mapping of a process, in order of appearance; false: no such index. fd and path stay the builder's;
// until is 0 while it is mapped.
bool builder_get_module(const struct builder_process *p, size_t index, struct builder_module *out);

// After builder_finish: what is known beyond the profile about mapping number `index` of it, for
// the symbolizer. fd stays the builder's (-1: none), pid is one process that mapped it (0: kernel).
// false: no such mapping.
bool builder_file(const struct builder *b, size_t index, int *fd, uint32_t *pid, uint64_t *device,
                  uint64_t *inode);

#endif
