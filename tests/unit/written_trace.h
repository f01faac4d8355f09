// SPDX-License-Identifier: MIT
//
// Traces written by hand, whose truth is known by construction. Two Procs, each on its thread (Proc N
// on thread 10 + N); times in ns.

#ifndef FIBERSCOPE_TESTS_UNIT_WRITTEN_TRACE_H
#define FIBERSCOPE_TESTS_UNIT_WRITTEN_TRACE_H

#include "analysis/trace/spans.h"
#include "formats/trace/write.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { WRITTEN_FIBERS_MAX = 4096, WRITTEN_START_NS = 1000 };

struct written { // a trace being written
    struct trace_writer *w;
    char *bytes;
    size_t size_bytes;
    uint64_t seq[WRITTEN_FIBERS_MAX];
};

// Proc 0 runs fiber 1 (main), Proc 1 nothing, fiber 2 (worker) waits.
void written_begin(struct written *m);

uint64_t written_text(struct written *m, const char *s);

// The stack "leaf" called by "root"; its pcs come from the names.
uint64_t written_stack(struct written *m, const char *leaf, const char *root);

void written_say(struct written *m, int proc, uint8_t wire, uint64_t at, uint64_t a, uint64_t b,
                 uint64_t c, uint64_t d);
void written_start(struct written *m, int proc, uint64_t at, uint64_t fiber);
void written_wake(struct written *m, int proc, uint64_t at, uint64_t fiber, uint64_t where);
void written_block(struct written *m, int proc, uint64_t at, const char *reason, uint64_t where);

// The trace is over. A reader of it, as often as wanted; the caller closes it, and then
// written_free.
struct trace_reader *written_end(struct written *m);
struct trace_spans *written_spans(struct written *m, const struct trace_spans_options *o);
void written_free(struct written *m);

// main blocks on a channel; a timer wakes the worker, which sleeps once and then wakes main.
//
//   main    |running 1000-2000|chan receive -6000|runnable -6500|running -8000
//   worker  wait (sync) -2500 |runnable -3000|running -4000|sleep -5000|runnable -5200|running
//                                                                   wakes main at 6000, -7000
void written_relay(struct written *m);

#endif
