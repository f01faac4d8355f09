// SPDX-License-Identifier: MIT
//
// What the parts of the trace model share.

#ifndef FIBERSCOPE_VIEWER_TRACE_MODEL_INTERNAL_H
#define FIBERSCOPE_VIEWER_TRACE_MODEL_INTERNAL_H

#include "viewer/trace_model.h"

struct trace_extras;
struct trace_prefix;

// Groups, sums and states of the finished spans' fibers. 0 or -ENOMEM.
int trace_fibers_make(struct trace_model *m);
void trace_fibers_free(struct trace_model *m);

// What spans.h does not keep, while events are read: metrics and labels. NULL: no memory.
struct trace_extras *trace_extras_new(struct trace_model *m);
int trace_extras_event(struct trace_extras *x, const struct trace_reader *r,
                       const struct trace_event *ev); // 0 or -ENOMEM

// Into the model, whose spans are finished, or have failed; frees x. Accepts NULL. 0 or -ENOMEM.
int trace_extras_finish(struct trace_extras *x);

// What it knows so far, for a model whose spans are a prefix of x's. NULL: no memory.
struct trace_extras *trace_extras_copy(const struct trace_extras *x, struct trace_model *m);

// Groups, states and lanes of finished spans and extras. 0 or -errno; -ENODATA, with err: there is nothing.
int trace_model_make(struct trace_model *m, struct fscope_error *err);

// Models of what has been read so far (trace_prefix.c). w may be NULL: then there is none, as below.
int trace_prefix_new(struct trace_prefix **out, const struct trace_model_watch *w); // 0 or -ENOMEM
// Between two events: begins one if it is due.
void trace_prefix_look(struct trace_prefix *p, const struct trace_model *m,
                       const struct trace_extras *x, uint64_t offset);
void trace_prefix_finish(struct trace_prefix *p); // before the spans are finished or freed

#endif
