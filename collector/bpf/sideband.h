// SPDX-License-Identifier: MIT
//
// What happens to processes, of the whole machine: mappings, names, exec, fork and exit, from perf rings of events that
// count nothing, one for each CPU.
//
// What always holds
//   - Opening needs CAP_PERFMON; reading does not.
//   - Records come in order of time (perf_rings_drain).
//   - A full ring loses records, which sideband_drain tells as PERF_RECORD_LOST.
//
// One thread at a time.

#ifndef FIBERSCOPE_COLLECTOR_BPF_SIDEBAND_H
#define FIBERSCOPE_COLLECTOR_BPF_SIDEBAND_H

#include "base/error.h"
#include "collector/perf_ring.h"

#include <poll.h>

struct sideband;

// From now on, all processes. 0 or -errno with what to do. The caller owns *out: sideband_close.
int sideband_open(struct sideband **out, struct fscope_error *err);
void sideband_close(struct sideband *s); // accepts NULL

// Calls fn for what was written up to horizon_ns: perf_rings_drain.
int64_t sideband_drain(struct sideband *s, uint64_t horizon_ns, perf_record_fn *fn, void *arg);

// Waits until a ring is half full, extra_fd (-1: none) is readable, a signal arrives or the time is over. Whether extra_fd
// is readable; -errno (-EINTR).
int sideband_wait(struct sideband *s, int extra_fd, int timeout_ms);

uint64_t sideband_damaged(const struct sideband *s); // records that did not parse

#endif
