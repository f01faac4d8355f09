// SPDX-License-Identifier: MIT
//
// A target's side of execution traces, by hand: fills the buffers of a segment as layout.h says, one event
// after the other, in a single thread.

#ifndef FIBERSCOPE_TESTS_MADE_TRACE_H
#define FIBERSCOPE_TESTS_MADE_TRACE_H

#include "segment/producer.h"

enum { MADE_TRACE_THREADS = 16, MADE_TRACE_UNITS = 15625000 };

struct made_trace {
    struct seg *s;
    struct seg_trace *t;
    uint64_t now; // units; each event is at the next one
    struct {
        uint32_t tid;
        int buffer; // -1: none
        uint64_t order, last;
    } threads[MADE_TRACE_THREADS];
};

// Begins a session at `now`; the next generation is its first.
void made_trace_start(struct made_trace *m, struct seg *s, uint64_t now);

// The next generation: all threads' buffers are sealed, and the one before is complete.
void made_trace_advance(struct made_trace *m);

// The end of the session; all generations are complete.
void made_trace_stop(struct made_trace *m);

// One event of a thread, with its arguments; how many is the format's to say. 0, or -ENOSPC without a free
// buffer.
int made_trace_put(struct made_trace *m, uint32_t tid, uint8_t wire, const uint64_t *args,
                   uint32_t count);
#define MADE(m, tid, wire, ...)                                                                    \
    made_trace_put(m, tid, wire, (const uint64_t[]){__VA_ARGS__},                                  \
                   sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

// The first byte of an event that is not committed, behind the thread's others.
void made_trace_begin_event(struct made_trace *m, uint32_t tid);

// Seals the thread's buffer, if it has one.
void made_trace_seal(struct made_trace *m, uint32_t tid);

#endif
