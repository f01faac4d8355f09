// SPDX-License-Identifier: MIT
//
// Small traces in Go's format v1 (1.11 to 1.21), for tests and as seeds of the fuzzer.

#ifndef FIBERSCOPE_TESTS_UNIT_TRACE_V1_SAMPLE_H
#define FIBERSCOPE_TESTS_UNIT_TRACE_V1_SAMPLE_H

#include "trace_sample.h"

// A header; then events of enum v1_type with n arguments, the first of a timed one its ticks since
// the one before.
void trace_v1_begin(struct trace_bytes *b, uint32_t version);
void trace_v1_event(struct trace_bytes *b, uint8_t type, unsigned n, const uint64_t *args);
void trace_v1_string(struct trace_bytes *b, uint64_t id, const char *s);
void trace_v1_log(struct trace_bytes *b, const uint64_t args[4], const char *message);

#define TRACE_V1(b, type, ...)                                                                     \
    trace_v1_event(b, type, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t),            \
                   (const uint64_t[]){__VA_ARGS__})

// A trace in which every event of the version occurs but those that Go's reader refuses wherever
// they stand: FutileWakeup and GoSysExitLocal.
// Two Ps; Goroutine 1 is in a system call that blocks; 2 waited, 3 was in a system call and 4
// runnable before the trace began. Its data is the caller's to free.
struct trace_bytes trace_v1_sample(uint32_t version);

#endif
