// SPDX-License-Identifier: MIT
//
// Stacks of a segment as the frames of an execution trace.
//
// What always holds
//   - Frames are leaf first. What runs below a fiber's or thread's start function (the runtime's root, libc's
//     thread start) is left out, so the outermost frame is what the fiber or thread is called after.
//   - Functions of Fiberscope's own libraries, also linked statically, are called runtime.NAME: viewers take
//     these for the system's.
//   - Of those at the leaf of an event's stack one is left, as the public function that the program called
//     (trace_api.h). Samples keep all.
//   - An address without a name is "FILE+0xOFFSET", or the address.
//   - A stack is resolved once; what its id means does not change.
//
// One thread at a time. Nothing here prints.

#ifndef FIBERSCOPE_COLLECTOR_TRACE_SYMBOLS_H
#define FIBERSCOPE_COLLECTOR_TRACE_SYMBOLS_H

#include "collector/feed.h"
#include "formats/trace/write.h"
#include "segment/consumer.h"

struct trace_symbols;

struct trace_symbols_options {
    size_t size;
    struct seg_reader *reader; // borrowed
    uint32_t pid;              // for the maps of JITs; 0: none
    bool symbolize;            // else addresses alone
    feed_open_fn *open_file;   // NULL: modules are found by path
    void *arg;
};

// 0 or -ENOMEM. The caller owns *out: trace_symbols_free.
int trace_symbols_new(struct trace_symbols **out, const struct trace_symbols_options *o);
void trace_symbols_free(struct trace_symbols *ts); // accepts NULL

// Looks for modules that have come or gone. Before the stacks that may need them. 0 or -ENOMEM.
int trace_symbols_modules(struct trace_symbols *ts);

// The frames of a stack; their number, 0 for none or a damaged one, or -ENOMEM. *frames stay valid until the
// next call. is_sample: the leaf's pc is exact, as of CPU samples; else all are return addresses.
int trace_symbols_stack(struct trace_symbols *ts, uint32_t id, bool is_sample,
                        const struct trace_writer_frame **frames);

// Likewise of a stack that is not in the segment, of a thread that was looked at: its leaf is exact. Where that lies in
// one of libc's functions that the agent stands before, it is named as if the hook had seen the call.
int trace_symbols_pcs(struct trace_symbols *ts, const uint64_t *pcs, uint32_t depth,
                      const struct trace_writer_frame **frames);

uint64_t trace_symbols_damaged(const struct trace_symbols *ts); // stacks that could not be read

#endif
