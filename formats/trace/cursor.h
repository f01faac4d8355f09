// SPDX-License-Identifier: MIT
//
// A thread's place in its batches, and how events are decoded there.
//
// Invariant: event <= at <= end. The pending event's type and time are known, its arguments not yet
// decoded; at is where they begin.

#ifndef FIBERSCOPE_FORMATS_TRACE_CURSOR_H
#define FIBERSCOPE_FORMATS_TRACE_CURSOR_H

#include "formats/trace/generation.h"
#include "formats/trace/leb.h"

// The compiler thinks that what runs for every event is too large to stand where it runs.
#define TRACE_HOT static inline __attribute__((always_inline))

enum { CURSOR_SLACK_BYTES = (1 + TRACE_ARGS_MAX) * LEB_BYTES_MAX + 1 };

struct cursor {
    const unsigned char *event, *at, *end;
    struct state_thread *thread;
    int64_t time_ns; // of the pending event; 0 also if the batch has just begun
    uint8_t wire;
    uint32_t batch;          // number in the file
    uint64_t data_to_offset; // + (uintptr_t)event is where the event is in the file
    uint64_t batch_time;
    uint32_t next;         // 1 + index of the thread's next batch, 0: none
    unsigned char *buffer; // for batches that are read when their turn comes
    uint32_t buffer_bytes;
};

// Decodes the n arguments of the pending event; *at is behind them. false: they are not there.
TRACE_HOT bool cursor_args(const struct cursor *c, const unsigned char **at, uint64_t *v,
                           unsigned n)
{
    const unsigned char *p = c->at;
    if (__builtin_expect(c->end - p >= CURSOR_SLACK_BYTES, 1)) {
#pragma GCC unroll 4
        for (unsigned i = 0; i < n; i++)
            if (!leb_read_unchecked(&p, c->end, &v[i]))
                return false;
    } else {
        for (unsigned i = 0; i < n; i++)
            if (!leb_read(&p, c->end, &v[i]))
                return false;
    }
    *at = p;
    return true;
}

#endif
