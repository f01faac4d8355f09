// SPDX-License-Identifier: MIT
//
// The events of Go's execution trace format v2 as they stand in a file: numbers, names, arguments.
//
// Invariant: the numbers are the format's own and never change. An event on the wire is its number
// (one byte), then for a timed event dt and arg_count arguments, each an unsigned LEB128.

#ifndef FIBERSCOPE_FORMATS_TRACE_SPEC_H
#define FIBERSCOPE_FORMATS_TRACE_SPEC_H

#include <stdbool.h>
#include <stdint.h>

enum trace_wire {
    TRACE_EV_NONE,
    TRACE_EV_BATCH,
    TRACE_EV_STACKS,
    TRACE_EV_STACK,
    TRACE_EV_STRINGS,
    TRACE_EV_STRING,
    TRACE_EV_CPU_SAMPLES,
    TRACE_EV_CPU_SAMPLE,
    TRACE_EV_FREQUENCY,

    TRACE_EV_PROCS_CHANGE,
    TRACE_EV_PROC_START,
    TRACE_EV_PROC_STOP,
    TRACE_EV_PROC_STEAL,
    TRACE_EV_PROC_STATUS,
    TRACE_EV_GO_CREATE,
    TRACE_EV_GO_CREATE_SYSCALL,
    TRACE_EV_GO_START,
    TRACE_EV_GO_DESTROY,
    TRACE_EV_GO_DESTROY_SYSCALL,
    TRACE_EV_GO_STOP,
    TRACE_EV_GO_BLOCK,
    TRACE_EV_GO_UNBLOCK,
    TRACE_EV_GO_SYSCALL_BEGIN,
    TRACE_EV_GO_SYSCALL_END,
    TRACE_EV_GO_SYSCALL_END_BLOCKED,
    TRACE_EV_GO_STATUS,
    TRACE_EV_STW_BEGIN,
    TRACE_EV_STW_END,
    TRACE_EV_GC_ACTIVE,
    TRACE_EV_GC_BEGIN,
    TRACE_EV_GC_END,
    TRACE_EV_GC_SWEEP_ACTIVE,
    TRACE_EV_GC_SWEEP_BEGIN,
    TRACE_EV_GC_SWEEP_END,
    TRACE_EV_GC_ASSIST_ACTIVE,
    TRACE_EV_GC_ASSIST_BEGIN,
    TRACE_EV_GC_ASSIST_END,
    TRACE_EV_HEAP_ALLOC,
    TRACE_EV_HEAP_GOAL,
    TRACE_EV_GO_LABEL,
    TRACE_EV_TASK_BEGIN,
    TRACE_EV_TASK_END,
    TRACE_EV_REGION_BEGIN,
    TRACE_EV_REGION_END,
    TRACE_EV_LOG,
    TRACE_EV_GO_SWITCH, // since 1.23
    TRACE_EV_GO_SWITCH_DESTROY,
    TRACE_EV_GO_CREATE_BLOCKED,
    TRACE_EV_GO_STATUS_STACK,
    TRACE_EV_EXPERIMENTAL_BATCH,
    TRACE_EV_SYNC, // since 1.25
    TRACE_EV_CLOCK_SNAPSHOT,
    TRACE_EV_END_OF_GENERATION, // since 1.26

    TRACE_EV_SPAN = 128, // experiment AllocFree, since 1.23
    TRACE_EV_SPAN_ALLOC,
    TRACE_EV_SPAN_FREE,
    TRACE_EV_HEAP_OBJECT,
    TRACE_EV_HEAP_OBJECT_ALLOC,
    TRACE_EV_HEAP_OBJECT_FREE,
    TRACE_EV_GO_STACK,
    TRACE_EV_GO_STACK_ALLOC,
    TRACE_EV_GO_STACK_FREE,
    TRACE_EV_END,
};

enum {
    TRACE_BATCH_BYTES_MAX = 64 << 10,
    TRACE_STACK_FRAMES_MAX = 128,
    TRACE_STRING_BYTES_MAX = 1 << 10,
    TRACE_V1_STACK_FRAMES_MAX = 511, // in traces of Go 1.11 to 1.21
    TRACE_V1_STRING_BYTES_MAX = 1000000,
    TRACE_ARGS_MAX = 4, // of a timed event, dt not counted
};

// Status on the wire; the states of the model (trace.h) are numbered otherwise.
enum trace_go_status {
    TRACE_GO_STATUS_RUNNABLE = 1,
    TRACE_GO_STATUS_RUNNING,
    TRACE_GO_STATUS_SYSCALL,
    TRACE_GO_STATUS_WAITING,
};

enum trace_proc_status {
    TRACE_PROC_STATUS_RUNNING = 1,
    TRACE_PROC_STATUS_IDLE,
    TRACE_PROC_STATUS_SYSCALL,
    TRACE_PROC_STATUS_SYSCALL_ABANDONED,
};

struct trace_spec {
    const char *name;                 // Go's, "GoStart"; NULL: no such event
    const char *args[TRACE_ARGS_MAX]; // Go's names of the arguments after dt
    uint8_t arg_count;
    bool is_timed; // stands in an event batch
    bool is_experimental;
    uint8_t stacks;    // bit i: argument i is a stack id
    uint8_t strings;   // bit i: argument i is a string id
    uint8_t stack_arg; // 1 + which argument is the stack of the one who emits; 0: none
    uint8_t begin;     // the event that this one ends or reports as active; 0: none
};

// [any thread] wire is any byte; the answer for those that do not exist is one without a name.
const struct trace_spec *trace_spec_of(uint8_t wire);

// Whether files with the header "go 1.VERSION trace" may have this event. [any thread]
bool trace_spec_permits(uint32_t version, uint8_t wire);

#endif
