// SPDX-License-Identifier: MIT
//
// The instances of a region or task in a portion of the time, one by one, from spans.
//
// As in summary.h an instance counts where a part of it lies in the portion, and it is complete,
// so that it has a length, where both ends do. A region that is open when its fiber ends, ends with
// it. What fibers are started inside of does not count.
//
// Invariant: the names' counts, sums and largest are those of the instances that trace_instances
// gives for them. The spans are only read. [any thread]

#ifndef FIBERSCOPE_ANALYSIS_TRACE_INSTANCES_H
#define FIBERSCOPE_ANALYSIS_TRACE_INSTANCES_H

#include "analysis/trace/spans.h"

// Long tasks that overlap have each its own path through the same time: all of them together are not
// walked further than this.
enum { TRACE_INSTANCE_STEPS_MAX = 20000000 };

struct trace_instance_name {
    uint32_t name;
    bool is_task;
    uint64_t count, complete;
    int64_t sum_ns, max_ns; // of the complete ones
};

struct trace_instance_span {
    int64_t begin_ns, end_ns; // held inside the portion; the true ones where complete
    uint32_t lane;            // of the region's fiber; of who ended a task, or began it; or none
    uint32_t index;           // of spans->regions or tasks
    bool complete;
    // What the region's fiber did meanwhile. Of a task what is on its critical path, where waits for
    // locks are left as such (critical.h), as in explain.h; what is not known is in none.
    bool has_parts; // false: an open task, or there was too much to walk (TRACE_INSTANCE_STEPS_MAX)
    int64_t running_ns, runnable_ns, blocked_ns, syscall_ns;
};

// All names: regions, then tasks, each most time first. The caller frees *out. Their number or
// -ENOMEM.
int trace_instance_names(const struct trace_spans *s, int64_t begin_ns, int64_t end_ns,
                         struct trace_instance_name **out);

// The instances of one, by fiber and begin (tasks: by id). The caller frees *out. Their number;
// -ENOMEM, -EFBIG (beyond INT_MAX).
int trace_instances(const struct trace_spans *s, uint32_t name, bool is_task, int64_t begin_ns,
                    int64_t end_ns, struct trace_instance_span **out);

#endif
