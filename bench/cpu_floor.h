// SPDX-License-Identifier: MIT
//
// What sampling costs without a profiler: the signal that the kernel makes, and what a handler adds.
//
// One event per thread, armed by floor_begin in the thread itself; the handler of all of them is one
// of enum floor_handler. It counts, so that a run can say how many samples it paid for.

#ifndef FIBERSCOPE_BENCH_CPU_FLOOR_H
#define FIBERSCOPE_BENCH_CPU_FLOOR_H

#include <stdint.h>

// Takes "WHAT:HZ" and gets ready; once, before any thread begins. 0, or -1 with a line on stderr.
//   timer   the event's timer interrupts alone: no signal
//   empty   with SIGPROF to the thread, as Fiberscope asks for it, and a handler that only counts
//   trap    the same by attr.sigtrap, which needs no interrupt of its own but uses SIGTRAP
//   clock   empty, and the handler reads the thread's CPU clock
//   walk    clock, and the handler walks the stack
//   tick    a POSIX CPU timer; the kernel's tick bounds its rate
int floor_parse(const char *what);

// Arms the calling thread. 0, or -1 with a line on stderr.
int floor_begin(void);

// Signals handled so far.
uint64_t floor_samples(void);

#endif
