// SPDX-License-Identifier: MIT
//
// Execution traces for other viewers: Chrome's JSON (chrome://tracing, ui.perfetto.dev, speedscope)
// and Perfetto's protobuf, from the events of a reader as they come.
//
// What they show, one track each: Procs with the fibers that run on them; fibers with their states
// (running, runnable, syscall, blocked: REASON), logs and CPU samples as marks; the regions of each
// fiber; tasks; the heap as a counter. A wake-up is an arrow from the fiber that woke to the run
// that followed.
//
// Invariant: on one track slices nest. Memory: what is alive. One owner.

#ifndef FIBERSCOPE_FORMATS_TRACE_EXPORT_H
#define FIBERSCOPE_FORMATS_TRACE_EXPORT_H

#include "formats/trace/write.h"

enum trace_export_format { TRACE_EXPORT_JSON, TRACE_EXPORT_PERFETTO };

struct trace_export_options {
    size_t size; // sizeof(struct trace_export_options)
    enum trace_export_format format;
    int64_t base_ns;        // JSON: the time that is shown as 0
    int64_t from_ns, to_ns; // only this part; 0, 0: all
};

struct trace_export;

// 0 or -errno; write is called with all bytes in order.
int trace_export_open(struct trace_export **out, const struct trace_export_options *o,
                      trace_write_fn *write, void *context);

// The next event of the reader, from its first on. 0 or -errno.
int trace_export_event(struct trace_export *x, const struct trace_reader *r,
                       const struct trace_event *ev);

// Ends what is open, writes the end and frees. 0 or the first error there was.
int trace_export_close(struct trace_export *x); // accepts NULL

#endif
