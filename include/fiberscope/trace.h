// SPDX-License-Identifier: MIT
//
// Execution traces: what every fiber, thread and processor did when, and why it waited; with tasks, regions and
// logs of the program's own. Link with -lfiberscope. The file that `fiberscope record --trace` or `fiberscope
// finish` makes of it opens in `fiberscope trace`, `go tool trace` and whatever else reads Go's format.
//
//     uint64_t task = fscope_task_begin("request", 0);
//     struct fscope_region r = fscope_region_begin(task, "parse");
//     ...
//     fscope_region_end(&r);
//     fscope_task_end(task);
//
// Tasks, regions and logs cost a load and a branch while no trace is recorded (regions two looks at the clock once
// somebody scrapes /metrics of `fiberscope serve`). Between fib_blocking_enter and
// fib_blocking_exit a fiber cannot tell any: what begins or ends there is not in the trace. Functions return 0 or a
// negative errno where nothing else is said.

#ifndef FIBERSCOPE_TRACE_H
#define FIBERSCOPE_TRACE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// --- Recording.

struct fscope_trace_options {
    size_t size; // sizeof(struct fscope_trace_options)
    // The flight recorder: the newest events are kept, and the oldest give way; fscope_save writes what there is at
    // that moment. 0: all events are kept, until there is no room; then the trace is cut and, once half of the room
    // is free again, goes on as another.
    uint32_t is_flight;
    uint32_t reserved;
    uint64_t flight_ns; // what is kept at least, if there is room; 0: as much as there is room for
    // With is_flight: a region, a task, a fiber's wait for a processor or its time on one without a break that lasts
    // longer has a copy made, at most once a second: by the collector, or else as a dump for `fiberscope finish`,
    // 16 at most: PROGRAM.PID.fscope.copyN in the current folder, or what FIBERSCOPE's out= says with .copyN; no
    // file is replaced. 0: no limit. Waits for a processor are looked at one in 8.
    uint64_t slow_region_ns, slow_task_ns, slow_latency_ns, slow_stall_ns;
};

// Starts a trace; options may be NULL. All threads and fibers are in it, also those that exist already.
// -EALREADY: one is being recorded. -ENOTSUP: the recording was begun as a black box without room for one (say
// trace=1 in FIBERSCOPE). Else what mmap or memfd_create says. Takes some milliseconds.
// [any thread] [not async-signal-safe]
int fscope_trace_start(const struct fscope_trace_options *options);

// Stops it; what was recorded is kept for fscope_write and fscope_save (profile.h). -EINVAL: none is being
// recorded. [any thread] [not async-signal-safe]
int fscope_trace_stop(void);

// --- Tasks: something the program does that may involve several fibers or threads, such as a request.

// Begins a task of that name (up to 255 bytes; of a kind that repeats), as part of `parent` or of none (0). What is
// returned is never 0, and never returned again. Without a trace it is a number all the same.
// [any thread or fiber] [not async-signal-safe], as all that follow
uint64_t fscope_task_begin(const char *name, uint64_t parent);

// The same for one that was begun elsewhere: traceparent is the W3C header of that name, which is logged with the
// task under "traceparent". -EINVAL in *error (may be NULL): it is malformed; the task is begun without.
uint64_t fscope_task_begin_from(const char *name, const char *traceparent, int *error);

void fscope_task_end(uint64_t task); // by any thread or fiber

// --- Regions: a part of what one fiber or thread does. They nest, and end in the fiber or thread where they began.

struct fscope_region { // the caller's; not to be copied or changed
    uint64_t id, outer, session, task, began_ns;
    const char *name;
};

// name stays valid until the end. task 0: of none.
struct fscope_region fscope_region_begin(uint64_t task, const char *name);

// -EINVAL: it is not the innermost region of this fiber or thread, or has ended; nothing is recorded.
int fscope_region_end(struct fscope_region *region);

// What the region does has failed, for the reason in text (up to 1000 bytes; may be NULL), which is logged with its task
// under "error". /metrics of `fiberscope serve` counts such regions by name; /debug/requests marks such tasks. Before
// fscope_region_end, any number of times.
void fscope_region_error(struct fscope_region *region, const char *text);

// --- Logs: a text at a moment, of a task (0: of none) and a category.

void fscope_log(uint64_t task, const char *category, const char *text); // up to 1000 bytes

#ifdef __cplusplus
}
#endif

#endif
