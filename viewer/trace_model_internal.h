// SPDX-License-Identifier: MIT
//
// What the parts of the trace model share.

#ifndef FIBERSCOPE_VIEWER_TRACE_MODEL_INTERNAL_H
#define FIBERSCOPE_VIEWER_TRACE_MODEL_INTERNAL_H

#include "viewer/trace_model.h"

// Groups, sums and states of the finished spans' fibers. 0 or -ENOMEM.
int trace_fibers_make(struct trace_model *m);
void trace_fibers_free(struct trace_model *m);

// What spans.h does not keep, while events are read: metrics and labels. NULL: no memory.
struct trace_extras *trace_extras_new(struct trace_model *m);
int trace_extras_event(struct trace_extras *x, const struct trace_reader *r,
                       const struct trace_event *ev); // 0 or -ENOMEM

// Into the model, whose spans are finished, or have failed; frees x. Accepts NULL. 0 or -ENOMEM.
int trace_extras_finish(struct trace_extras *x);

#endif
