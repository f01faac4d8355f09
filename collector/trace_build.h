// SPDX-License-Identifier: MIT
//
// Execution traces out of a segment (live, dump, black box or core) into files in Go's format.
//
// Glossary
//   session     what goes into one file: from a start of tracing to its end
//   generation  about a second of it; whole once no thread writes it any more
//   cut         an end for want of a free buffer; tracing goes on as the next session
//
// What always holds
//   - A generation is written when it is whole; at the end what is committed of those that are not, which is a
//     causal cut. A file has whole generations of one session, then at most one or two of these, and then an empty
//     one at the time at which recording ended, if that is known. That one says what is missing, if anything is: then
//     it comes in any case.
//   - What is not known to be valid (not whole, or with events that made no sense) is read by our validator,
//     together with the generation before, and is left out if that refuses it; the file then ends, and what
//     comes later goes to the next one.
//   - Buffers are given back as soon as they are copied, but for those of a flight recorder, which is copied
//     when a snapshot is taken and otherwise left alone.
//
// One thread. Nothing here prints.

#ifndef FIBERSCOPE_COLLECTOR_TRACE_BUILD_H
#define FIBERSCOPE_COLLECTOR_TRACE_BUILD_H

#include "base/error.h"
#include "collector/feed.h"
#include "segment/consumer.h"

#include <stdbool.h>

struct trace_build;

struct trace_build_file { // what came of one file
    uint32_t number;      // of this process, from 1
    uint64_t generations, samples, bytes;
    uint64_t events;     // as readers tell them: with samples and Syncs
    uint64_t left_out;   // generations that the validator refused
    uint64_t start_ns;   // CLOCK_MONOTONIC: first event
    uint64_t end_ns;     // its end
    uint64_t lost_names; // stacks and strings that could not be read
    bool was_cut;        // buffers were full
    bool gave_way;       // of a flight recorder: there was more, before it
    bool was_killed;     // ends with what was committed
    bool in_flight;      // and an event may be missing that was being written as the process ended
    uint64_t
        gap_from_ns; // since when nothing was recorded before it, as buffers were full; 0: no such gap
    uint64_t overwritten; // generations before it, while they were copied
    char cause[160]; // of a flight recorder's copy: which condition made it, in words; "": none did
    char why[384];   // of left_out: what the validator said
};

struct trace_build_options {
    size_t size;               // sizeof(struct trace_build_options)
    struct seg_reader *reader; // borrowed
    uint32_t version;          // 23 or 26; 0: 23
    uint32_t pid;              // for the maps of JITs; 0: none
    bool symbolize;            // else addresses alone
    bool was_taken_from;       // by another reader: the first generation may lack a part
    feed_open_fn *open_module; // NULL: by path
    void *module_arg;
    // Opens file `number` of this process: a descriptor (which stays the caller's), or -errno with err filled.
    int (*open_file)(void *arg, uint32_t number, struct fscope_error *err);
    // Nothing more comes to the file that was opened last. rc: 0, or why it could not be written.
    void (*close_file)(void *arg, const struct trace_build_file *f, int rc);
    void *arg;
};

// 0; -ENODATA: the segment has no trace buffers; -EINVAL: they are damaged; -ENOMEM. The caller owns *out:
// trace_build_free.
int trace_build_new(struct trace_build **out, const struct trace_build_options *o,
                    struct fscope_error *err);
void trace_build_free(struct trace_build *b); // accepts NULL; a file that is open is not closed

// Takes what there is, and writes the generations that are whole. Of a flight recorder: takes a snapshot that
// was asked for once it is whole. 0, or the first error there was (of a file: later files are tried).
int trace_build_pump(struct trace_build *b);

// Before the trace begins: where a thread of the process is, see trace_rewrite_early. 0 or -ENOMEM.
int trace_build_early(struct trace_build *b, uint32_t tid, const uint64_t *pcs, uint32_t depth);

// A CPU sample, for the generation that it falls into.
void trace_build_sample(struct trace_build *b, const struct seg_record *r);

// Asks for a snapshot of a flight recorder, as a condition in the target does. Without effect on others.
void trace_build_snapshot(struct trace_build *b);

bool trace_build_is_flight(const struct trace_build *b);

// Ends tracing in the target, as far as that is alive: true once it has ended. The first call asks.
bool trace_build_stop(struct trace_build *b);

// Whether the target has heard that: not, as long as none of its threads looks (all sleep, or it is stopped).
bool trace_build_is_heard(const struct trace_build *b);

// Writes all the rest: what is committed, before until_ns (CLOCK_MONOTONIC; UINT64_MAX: of a process that
// is dead). end_ns: until when what goes on is known to have lasted, where the target does not say it itself: now, or
// when it died; 0: not known. Call once.
int trace_build_finish(struct trace_build *b, uint64_t until_ns, uint64_t end_ns);

struct trace_build_stats {
    uint64_t events, bytes; // written so far
    uint64_t files;
    uint64_t lost_generations; // of a flight recorder: overwritten while they were copied
    uint32_t hits[4];          // how often each condition was met, see seg_trace
};
void trace_build_get_stats(const struct trace_build *b, struct trace_build_stats *out);
const char *trace_build_error(const struct trace_build *b); // of the first error; "" if none

#endif
