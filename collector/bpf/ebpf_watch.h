// SPDX-License-Identifier: MIT
//
// One process that is watched by BPF programs for as long as somebody serves it (session.h): profiles of time on demand,
// contention since the beginning.
//
// Programs are loaded and attached once, by ebpf_watch_open, while there is the privilege; ebpf_watch_begin gives that up. What
// nobody asks for is off meanwhile: events are disabled, which needs no privilege, as enabling them again does not. So a
// scrape begins at once, with the process' code known. Waits of threads have no event to be switched: programs are attached to
// the scheduler's tracepoints for as long as somebody asks, which needs no privilege once they are loaded. Contention is counted
// from the beginning on, as it is a sum since then.
//
// Any thread, but for open, begin and close; those that are started after ebpf_watch_begin have no privilege left.

#ifndef FIBERSCOPE_COLLECTOR_BPF_EBPF_WATCH_H
#define FIBERSCOPE_COLLECTOR_BPF_EBPF_WATCH_H

#include "collector/record.h"

struct ebpf_watch;

// Of o->pid what o names (cpu_hz, wall_hz, offcpu_fraction: when asked; block_ns, mutex_fraction: from now on). 0 or -errno
// (features.h). The caller owns *out: ebpf_watch_close.
int ebpf_watch_open(struct ebpf_watch **out, const struct record_options *o,
                    struct fscope_error *err);
int ebpf_watch_begin(struct ebpf_watch *w, struct fscope_error *err); // 0 or -errno
void ebpf_watch_close(struct ebpf_watch *w);                          // accepts NULL

// Samples of one kind for so long (0: until the process has ended), with names. is_over is asked ten times a second; true ends
// it early. Several at a time are fine, but of wall time, and of off-CPU time, one each: -EBUSY.
struct ebpf_watch_stream {
    enum record_kind kind;
    uint64_t duration_ns;
    bool (*is_over)(void *arg);
    void *arg;
};
int ebpf_watch_sample(struct ebpf_watch *w, const struct ebpf_watch_stream *how,
                      struct pprof_profile **out, struct fscope_error *err);

// Contention since the beginning, with names.
int ebpf_watch_state(struct ebpf_watch *w, enum record_kind kind, struct pprof_profile **out,
                     struct fscope_error *err);
uint64_t ebpf_watch_stacks(struct ebpf_watch *w, enum record_kind kind); // entries of its profile

struct ebpf_watch_total {
    bool is_recorded;
    uint64_t count, ns;
};
// Its sums, for which no profile is made.
void ebpf_watch_totals(struct ebpf_watch *w, struct ebpf_watch_total totals[RECORD_KIND_COUNT]);

#endif
