// SPDX-License-Identifier: MIT
//
// The sampling BPF programs (profile.bpf.c), loaded: their maps as memory, their records, starting and stopping them.
// What the words mean is in layout.h. Who keeps the maps' contents: code.h. Who turns records into profiles: ebpf.h.
//
// What always holds
//   - Loading needs privilege (features.h says which); nothing after bpf_programs_start does, so the caller may drop it.
//   - Nothing runs in the kernel once bpf_programs_stop has returned, or this process has died.
//   - Memory of slots, chunks, rules and tables is the kernel's, mapped here: BPF programs read it while it is written.
//
// One thread at a time. Nothing here prints; libbpf's own messages go into err.

#ifndef FIBERSCOPE_COLLECTOR_BPF_PROGRAMS_H
#define FIBERSCOPE_COLLECTOR_BPF_PROGRAMS_H

#include "base/error.h"
#include "collector/bpf/layout.h"
#include "collector/bpf/probe_files.h"
#include "symbols/unwind_layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct bpf_programs;

struct bpf_programs_options {
    size_t size; // sizeof(struct bpf_programs_options)
    struct bpf_config config;
    uint32_t cpu_hz; // samples per second of each CPU that is busy with what is watched; 0: none
    uint32_t offcpu; // time that threads do not run: 1 in so many waits; 0: none
    bool wakeups;    // with offcpu: who ends them
    bool memory;     // growth of resident memory and of address space
    bool malloc;     // uprobes in the malloc of `files`
    uint32_t sites;  // USDT sites, those that `files` have of them: bits of enum bpf_site
    const struct probe_files *files; // needed until bpf_programs_start has returned
    pid_t uprobes_pid;               // whom malloc and sites are of; -1: all
    uint32_t lives_max;  // allocations followed at a time; 0: 65536, 524288 where each is
    uint64_t ring_bytes; // a power of two, at least a page; 0: 4 MiB
    uint32_t sums_max;   // distinct samples between two calls of bpf_programs_sums; 0: 65536
    uint32_t waits_max;  // threads that have waited, at a time; 0: 32768
};

extern const char *const bpf_site_names[BPF_SITES + 1]; // ended by NULL

// Loads; nothing runs yet. 0 or -errno (-EPERM, -ENOTSUP: err says what is missing and what to do). The caller owns *out.
int bpf_programs_new(struct bpf_programs **out, const struct bpf_programs_options *opts,
                     struct fscope_error *err);
void bpf_programs_free(struct bpf_programs *p); // accepts NULL; stops

// Attaches: an event on each CPU, the tracepoints. 0 or -errno.
int bpf_programs_start(struct bpf_programs *p, struct fscope_error *err);
void bpf_programs_stop(struct bpf_programs *p);

// Attaching and detaching may take seconds. Where bpf_programs_hold was called before bpf_programs_start, nothing is counted
// until bpf_programs_count_from_now. Of waits that part counts which lies between that and bpf_programs_count_no_more. Both
// say when they were called (CLOCK_MONOTONIC).
void bpf_programs_hold(struct bpf_programs *p);
uint64_t bpf_programs_count_from_now(struct bpf_programs *p);
uint64_t bpf_programs_count_no_more(struct bpf_programs *p);
uint64_t bpf_programs_counted_ns(const struct bpf_programs *p, uint64_t from,
                                 uint64_t to); // what of that counts

// All but the probes of memory and in programs: taking those out is the kernel's work for seconds, where CPUs are busy. What
// they find after the next bpf_programs_sums is nobody's.
void bpf_programs_end(struct bpf_programs *p);
// CPU samples and waits are taken from the start on; not while they are off. Needs no privilege. 0 or -errno. Off costs nothing
// more; waits that last then are forgotten, so after on bpf_programs_waiting is to be asked again.
int bpf_programs_sample_cpu(struct bpf_programs *p, bool on);
int bpf_programs_sample_waits(struct bpf_programs *p, bool on);
bool bpf_programs_is_hardware(const struct bpf_programs *p); // cycles, else the CPU clock

// After bpf_programs_start: calls fn with BPF_RECORD_WAITING for each thread of what is watched
// that waits already. Of a control group, of processes that are targets. 0, fn's negative value, -errno.
typedef int bpf_record_fn(void *arg, const struct bpf_head *head);
int bpf_programs_waiting(struct bpf_programs *p, bpf_record_fn *fn, void *arg);

// --- Who is watched.

// pid (as the initial pid namespace has it) has this slot from now on; 0: none yet. 0 or -errno.
int bpf_programs_target(struct bpf_programs *p, pid_t pid, uint32_t slot);
void bpf_programs_untarget(struct bpf_programs *p, pid_t pid);
int bpf_programs_slot_of(struct bpf_programs *p, pid_t pid, uint32_t *slot); // 0 or -ENOENT

// --- Code. Arrays mapped for writing.

struct bpf_slot *bpf_programs_slots(struct bpf_programs *p);        // [BPF_SLOTS_MAX]
struct bpf_chunk *bpf_programs_chunks(struct bpf_programs *p);      // [BPF_CHUNKS]
struct unwind_rule_row *bpf_programs_rules(struct bpf_programs *p); // [UNWIND_RULES_MAX]

// Makes the table `file` (1 .. BPF_FILES_MAX - 1, not in use) of this many pages from their words. 0, -ENOSPC (there is no run
// of pages that long: drop others), -errno.
int bpf_programs_table(struct bpf_programs *p, uint32_t file, const uint32_t *words,
                       uint32_t pages);

// No slot names it any more. A walk that still reads it finds that its slot was written, and does not count.
void bpf_programs_table_drop(struct bpf_programs *p, uint32_t file);

// --- What comes.

// The record that these bytes of the ring are: its whole size may be read. NULL: they are none.
static inline const struct bpf_head *bpf_record_of(const void *bytes, size_t size)
{
    const struct bpf_head *head = bytes;
    return size < sizeof *head || head->size < sizeof *head || head->size > size ? NULL : head;
}

enum { BPF_POLL_BYTES = 1 << 20 };

// Calls fn for each record in the ring, until it is empty or BPF_POLL_BYTES have been taken; head->size bytes may be read. Waits
// at most timeout_ms for the first one, or until extra_fd (-1: none) is readable or a signal arrives. 0: there was none;
// else above it, fn's value where that is negative (the record counts as done), or -errno (-EINTR).
int64_t bpf_programs_poll(struct bpf_programs *p, int timeout_ms, int extra_fd, bpf_record_fn *fn,
                          void *arg);

// Calls record for what was in the ring as it began, so that all keys have been told of, then fn for each sum, and empties them. What is
// added meanwhile is in this call or the next. 0, a callback's nonzero value (negative for record; nothing more comes of
// this call's sums then), -errno.
typedef int bpf_sum_fn(void *arg, uint64_t key, const struct bpf_sum *sum);
int bpf_programs_sums(struct bpf_programs *p, bpf_record_fn *record, bpf_sum_fn *fn, void *arg);

// Calls fn with what the waits would add that have not ended. While programs run, before bpf_programs_sums, it says which
// keys will have sums later. 0, fn's nonzero value, -errno.
int bpf_programs_waits(struct bpf_programs *p, bpf_sum_fn *fn, void *arg);

// Both at one moment, *when (CLOCK_MONOTONIC): all that was added before it is in this call of bpf_programs_sums, and `lasting`
// has what the waits had come to that lasted then, of which no sum is in this call.
int bpf_programs_cut(struct bpf_programs *p, bpf_sum_fn *lasting, bpf_record_fn *record,
                     bpf_sum_fn *fn, void *arg, uint64_t *when);

void bpf_programs_losses(struct bpf_programs *p,
                         struct bpf_losses *out); // since the start, of all CPUs

// With opts.malloc, before bpf_programs_start: what uprobes add to a malloc and to a free here. 0 or -errno.
int bpf_programs_measure_malloc(struct bpf_programs *p, uint64_t *malloc_ns, uint64_t *free_ns);

// The rate that an agent's heap sites have told; 0: none has.
uint64_t bpf_programs_site_heap_bytes(const struct bpf_programs *p);

// More of what a process' sites tell (enum bpf_told), which is then not counted otherwise as well. Any time. 0 or -errno.
int bpf_programs_told(struct bpf_programs *p, pid_t pid, uint32_t what);

// Forgets the allocations of processes that have ended, which nobody will free. How many these were, or -errno.
int64_t bpf_programs_forget(struct bpf_programs *p, bool (*has_ended)(uint32_t pid));

// Where the heap of a process that runs already ends, for BPF_SAMPLE_MAPPED by brk.
void bpf_programs_break(struct bpf_programs *p, pid_t pid, uint64_t end);

// What the CPU samples have cost since loading, also those that found nothing to sample: the kernel's count, which is kept
// only while kernel.bpf_stats_enabled is 1. 0 or -errno.
int bpf_programs_cost(const struct bpf_programs *p, uint64_t *ns, uint64_t *runs);

#endif
