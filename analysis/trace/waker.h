// SPDX-License-Identifier: MIT
//
// Who made a fiber runnable, where no fiber of the trace is said to have.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_WAKER_H
#define FIBERSCOPE_ANALYSIS_TRACE_WAKER_H

#include "formats/trace/trace.h"

// A fiber that nobody woke, so that no fiber is the event's, was woken by the scheduler: what it had waited for tells
// by what.
enum trace_waker {
    TRACE_WAKER_UNKNOWN, // it yielded, or was preempted
    TRACE_WAKER_FIBER,   // another one woke it
    TRACE_WAKER_POLLER,  // the fiber had waited for the network
    TRACE_WAKER_TIMER,   // slept, or waited for a channel or select
    TRACE_WAKER_NOBODY,  // waited for a lock or condition: a time-out, or nobody told
    TRACE_WAKER_RUNTIME, // anything else, as the garbage collector
    TRACE_WAKER_SYSCALL, // came out of a system call, and had lost its Proc
    TRACE_WAKER_COUNT,
};

// Who ends a wait of this reason if no fiber does.
enum trace_waker trace_waker_without_fiber(struct trace_text reason);

const char *trace_waker_name(enum trace_waker w);    // a word for programs: "timer"
const char *trace_waker_text(enum trace_waker w);    // for readers: "by a timer"
const char *trace_waker_as_name(enum trace_waker w); // in the place of a fiber's name: "(timer)"

#endif
