// SPDX-License-Identifier: MIT
//
// The collector's side of agent/protocol.h: receives segments, opens CPU events on the targets'
// threads, drains, and follows children and exec.
//
// Invariants
//   - A segment whose descriptor has reached us is drained to its last whole record, however its
//     process ended: the memory is ours as well.
//   - Who may send is who is one of us: a process of this user, or (for root) a descendant or a
//     session mate of the command.
//   - A target never waits for us longer than AGENT_ANSWER_TIMEOUT_MS, and goes on if we die.
//
// One thread. Nothing here prints.

#ifndef FIBERSCOPE_COLLECTOR_INGEST_H
#define FIBERSCOPE_COLLECTOR_INGEST_H

#include "base/error.h"
#include "collector/builder.h"
#include "collector/call.h"
#include "collector/record.h"

#include <stdbool.h>
#include <sys/types.h>

struct ingest;

struct ingest_options {
    size_t size; // sizeof(struct ingest_options)
    uint32_t hz[RECORD_STREAM_COUNT];
    uint64_t heap_bytes, block_ns, mutex_fraction; // as record_options
    struct series *series;                         // borrowed; NULL: not wanted
    struct builder *builders[RECORD_KIND_COUNT];   // borrowed; NULL: not wanted
    const struct record_options *trace;            // borrowed; NULL: no traces wanted
    struct record_result *trace_result;            // borrowed: where the files are listed
    bool inherit;                                  // else only the first process records
    // Borrowed, opened: its process runs already and is called; ingest_call does it. NULL: all come by themselves.
    struct call *call;
};

// What was seen, for the closing lines.
struct ingest_stats {
    uint32_t processes;                 // that sent a segment
    uint32_t refused;                   // messages from strangers, or broken ones
    uint32_t segments_broken;           // that could not be read
    uint64_t damaged;                   // records that made no sense
    uint64_t trace_events, trace_bytes; // written so far
    uint32_t untraced;                  // processes that have no room for a trace
    uint32_t cpu_source;                // enum seg_cpu_source of the process with most samples
    char event_why[384];                // why our events were refused, "" if they were not
    char kernel_why[384];               // why they leave out kernel time, "" if they do not
    char broken_why[448];               // of the last broken segment
    char late_why[384]; // what a process that was called could not begin; "" if nothing
    char earlier
        [192]; // what it had recorded before it was called, and is in the profiles; "" if nothing
};

// Listens. 0 or -errno. The caller owns *out: ingest_free.
int ingest_new(struct ingest **out, const struct ingest_options *opts, struct fscope_error *err);
void ingest_free(struct ingest *g); // accepts NULL

// The abstract socket's name (without the leading NUL), for FIBERSCOPE=socket=NAME.
const char *ingest_name(const struct ingest *g);

// Calls the process of o.call; to be done again until it has come, or damage is counted (stats.processes,
// segments_broken). 0 or -errno.
int ingest_call(struct ingest *g, struct fscope_error *err);

// The command: whose descendants may send, and who counts as the first process.
void ingest_set_root(struct ingest *g, pid_t pid);

// Readable when ingest_dispatch has something to do.
int ingest_fd(const struct ingest *g);

// Answers what has arrived. 0 or -errno.
int ingest_dispatch(struct ingest *g);

// Drains all segments; to be called every INGEST_TICK_MS at least, so that no ring overflows (with a trace:
// before its buffers are full).
enum { INGEST_TICK_MS = 200 };
int ingest_tick(struct ingest *g);

// A snapshot of each target's flight recorder, at one of the next ticks.
void ingest_snapshot(struct ingest *g);

// Ends the recording: stops sampling in all targets, takes what they have, adds folded records and
// losses. Targets go on unprofiled. 0 or -errno (what could be taken was). Call once.
int ingest_finish(struct ingest *g);

void ingest_get_stats(const struct ingest *g, struct ingest_stats *out);

#endif
