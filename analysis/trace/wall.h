// SPDX-License-Identifier: MIT
//
// All the time of all fibers as one profile: what an off-CPU and on-CPU flame graph is drawn from.
//
// Each span counts under its fiber's stack there, with its state as the innermost frame: [running],
// [runnable], [syscall], [blocked: REASON]. Running time, which has no stack of its own, counts
// under the samples of the CPU taken in it, in equal shares, or else under the start function.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_WALL_H
#define FIBERSCOPE_ANALYSIS_TRACE_WALL_H

#include "analysis/trace/spans.h"
#include "formats/pprof.h"

enum trace_wall_part {
    TRACE_WALL_RUNNING = 1,
    TRACE_WALL_RUNNABLE = 2,
    TRACE_WALL_SYSCALL = 4,
    TRACE_WALL_BLOCKED = 8,
    TRACE_WALL_ALL = 15,
};

// Sample types spans/count and time/nanoseconds; clipped to from_ns..to_ns (0, 0: all). The
// caller owns *out (pprof_free). 0 or -ENOMEM.
int trace_wall_profile(const struct trace_spans *s, int64_t from_ns, int64_t to_ns,
                       struct pprof_profile **out);

// The same of some states only (trace_wall_part, or'ed): the others' time is not in it.
int trace_wall_parts(const struct trace_spans *s, int64_t from_ns, int64_t to_ns, unsigned parts,
                     struct pprof_profile **out);

// The samples of the CPU with from_ns <= time <= to_ns, as --from and --to have it, each under its stack; sample type
// samples/count. The caller owns *out. 0 or -ENOMEM.
int trace_sample_profile(const struct trace_spans *s, int64_t from_ns, int64_t to_ns,
                         struct pprof_profile **out);

#endif
