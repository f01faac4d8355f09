// SPDX-License-Identifier: MIT
//
// What the kernel took of a step's time: the spans say which thread the fiber had, a kernel trace of the same time what
// became of that (kernel.h).
//
// One owner.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_TAKEN_H
#define FIBERSCOPE_ANALYSIS_TRACE_TAKEN_H

#include "analysis/trace/critical.h"
#include "analysis/trace/kernel.h"

struct taken {
    const struct trace_spans *spans;
    const struct trace_kernel *kernel; // NULL: nothing is known
    uint32_t *lanes;                   // [span_count] of the span's thread; TRACE_NO_LANE: none
};

// The spans need runs; both stay. kernel may be NULL. 0 or -ENOMEM; taken_finish in any case.
int taken_begin(struct taken *t, const struct trace_spans *s, const struct trace_kernel *kernel);
void taken_finish(struct taken *t);

// The thread that the fiber had in this step; NULL: the kernel trace does not know it.
const struct trace_kernel_thread *taken_thread(const struct taken *t,
                                               const struct trace_step *step);

// How much of the step the kernel trace does not tell of.
int64_t taken_unknown(const struct taken *t, const struct trace_step *step);

// Calls fn for each piece in the step of a kind that is in `kinds` (bits, 1 << enum trace_piece_kind). *left_ns: the
// rest of the step. 0 or what fn returned.
typedef int taken_fn(void *arg, uint8_t kind, uint32_t by, int64_t ns);
int taken_each(const struct taken *t, const struct trace_step *step, unsigned kinds, taken_fn *fn,
               void *arg, int64_t *left_ns);

#endif
