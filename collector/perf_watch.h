// SPDX-License-Identifier: MIT
//
// Watching processes from outside: sampling events on all their threads, and the rings they write.
//
// What always holds
//   - There is one ring per CPU, held by an event on ourselves that counts nothing; every sampling
//     event of that CPU writes there. So threads may end without taking a ring with them, and events
//     can be replaced (a larger stack copy) while records wait in the rings.
//   - Each thread has one event per CPU, which its new threads and children inherit (a ring of an
//     inherited event must be of one CPU).
//   - No thread is counted twice: one that was found while its parent already passed its events on
//     loses its own as soon as a sample shows the inherited ones (perf_watch_sees).
//
// One thread at a time.

#ifndef FIBERSCOPE_COLLECTOR_PERF_WATCH_H
#define FIBERSCOPE_COLLECTOR_PERF_WATCH_H

#include "base/error.h"
#include "collector/perf_ring.h"

#include <sys/types.h>

struct perf_watch;

struct perf_watch_options {
    size_t size;          // sizeof(struct perf_watch_options)
    uint32_t hz;          // samples per second of CPU time of each thread
    uint32_t stack_bytes; // copied with each sample, at most PERF_STACK_MAX; 0: as much as leaves
                          // room in a ring for the samples of 100 ms
    uint64_t ring_bytes;  // per CPU, a power of two; 0: as much as is allowed and useful
    bool inherit;         // children too, not only new threads
    bool on_exec;         // begins at the next exec of the process
};

// Opens the rings; no process is watched yet. 0 or -errno; err says what to do. The caller owns *out.
int perf_watch_new(struct perf_watch **out, const struct perf_watch_options *opts,
                   struct fscope_error *err);
void perf_watch_free(struct perf_watch *w); // accepts NULL

// Opens events on all threads of the process, still disabled. 0 or -errno (-ESRCH: it has ended).
int perf_watch_add(struct perf_watch *w, pid_t pid, struct fscope_error *err);

// Starts (or stops) all events. With on_exec, starting is left to the exec.
void perf_watch_start(struct perf_watch *w);
void perf_watch_stop(struct perf_watch *w);

// Replaces the events of all these processes by ones that copy more of the stack. 0 or -errno; then
// the old ones go on.
int perf_watch_grow(struct perf_watch *w, uint32_t stack_bytes, const pid_t *pids, size_t count);
uint32_t perf_watch_stack_bytes(const struct perf_watch *w);
uint64_t perf_watch_ring_bytes(const struct perf_watch *w); // one ring

// Whether this sample counts: false for one of a thread that has two sets of events.
bool perf_watch_sees(struct perf_watch *w, const struct perf_record *r);

// Waits until a ring is half full, extra_fd is readable, a signal arrives or the time is over.
// Whether extra_fd is readable; -errno (-EINTR).
int perf_watch_wait(struct perf_watch *w, int extra_fd, int timeout_ms);

// perf_rings_drain of all rings.
int64_t perf_watch_drain(struct perf_watch *w, uint64_t horizon_ns, perf_record_fn *fn, void *arg);

// Makes the kernel report losses that no record has told yet (the rings must have room).
void perf_watch_flush_losses(struct perf_watch *w);

// Whether kernel time is included; where not, why_not gets one line with reason and remedy.
bool perf_watch_kernel(const struct perf_watch *w, char *why_not, size_t size);

// CPU time in ns of everything watched, also of threads that have ended.
uint64_t perf_watch_cpu_ns(struct perf_watch *w);
uint64_t perf_watch_damaged(const struct perf_watch *w); // records that did not parse

#endif
