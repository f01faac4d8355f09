// SPDX-License-Identifier: MIT
//
// A small trace in which every event of the format occurs, for tests and as a seed of the fuzzer.

#ifndef FIBERSCOPE_TESTS_UNIT_TRACE_SAMPLE_H
#define FIBERSCOPE_TESTS_UNIT_TRACE_SAMPLE_H

#include "formats/trace/write.h"

struct trace_bytes {
    unsigned char *data;
    size_t size_bytes, capacity;
};

// A trace_write_fn; context is a struct trace_bytes. Its data is the caller's to free.
int trace_bytes_write(void *context, const void *bytes, size_t n);

// Events of generations 1..count into an open writer. After the last thread 100 runs Goroutine 1 on
// Proc 1.
void trace_sample_write(struct trace_writer *w, uint32_t version, uint64_t count);

// The same as a whole trace.
struct trace_bytes trace_sample(uint32_t version, uint64_t count);

#endif
