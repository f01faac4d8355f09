// SPDX-License-Identifier: MIT
//
// Running time divided by the CPU samples in it.
//
// A step with enough samples of its own is divided by them: each instant is its nearest sample's. Short steps are put
// together, and their time divided by all their samples alike. A long step with hardly any sample was not on a
// CPU: the kernel ran something else, or the fiber blocked and did not say so. That time is nobody's.
// Where a kernel trace has the thread, what is in its pieces is no one's here, and only the rest is divided.
//
// Invariant: what running_divide gives of a side adds up to the steps of that side, less what is in pieces of the kernel's (rounding of doubles aside).

#ifndef FIBERSCOPE_ANALYSIS_TRACE_RUNNING_H
#define FIBERSCOPE_ANALYSIS_TRACE_RUNNING_H

#include "analysis/trace/critical.h"
#include "analysis/trace/kernel.h"

#define RUNNING_NO_SAMPLE UINT32_MAX
#define RUNNING_OFF_CPU   (UINT32_MAX - 1)

enum running_side {
    RUNNING_SLOW,
    RUNNING_TYPICAL,
    RUNNING_REST, // only its samples count: they say how the short steps of TYPICAL are divided
    RUNNING_SIDES,
};

struct running {
    struct running_step {
        struct trace_step step;
        const struct trace_kernel_thread *thread; // NULL: nobody says
        int64_t own_ns;                           // its length less the kernel's
        uint32_t first_sample, samples;
        enum running_side side;
    } * steps; // of REST those with samples: it has the most by far
    size_t count, capacity;
    int64_t usual_ns; // of all steps that are not slow
    uint64_t samples[RUNNING_SIDES];
};

// sample: RUNNING_OFF_CPU, then step says which; RUNNING_NO_SAMPLE: not to be known.
typedef int running_fn(void *arg, enum running_side side, uint32_t sample, double ns,
                       const struct trace_step *step);

// A zeroed struct running has no steps. The step is one of TRACE_PART_RUNNING. 0 or -ENOMEM.
int running_add(struct running *r, const struct trace_spans *s, const struct trace_step *step,
                const struct trace_kernel_thread *thread, enum running_side side);

// Calls fn for each share of time, of SLOW and TYPICAL. Where one of the two has no samples nothing is divided, as they
// would not be comparable, but what was off the CPU is still told apart. 0, -ENOMEM or what fn returned.
int running_divide(const struct running *r, const struct trace_spans *s, running_fn *fn, void *arg);
void running_finish(struct running *r);

#endif
