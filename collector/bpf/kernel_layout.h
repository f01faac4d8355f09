// SPDX-License-Identifier: MIT
//
// What the programs of the kernel trace (kernel.bpf.c) and the collector have in common. Included by both: fixed-width
// words only.
//
// Whom the records are about
//   watched    threads of the processes in `targets`, which children join as they are forked. All that they do.
//   in view    others, for as long as a watched thread is runnable on their CPU and not on it: who has the CPU
//              instead. Of these only when they come and go.
//   A CPU is open while the trace has a thread on it. What happens on CPUs that are not open, between threads that nobody
//   watches, costs no record.
//
// What always holds
//   - Records of one CPU come in the order of their times; of one thread, too.
//   - For want of room in the ring or in `threads` a record is dropped, and counted in the CPU's kernel_cpu with when:
//     what came before the first of these is complete.

#ifndef FIBERSCOPE_COLLECTOR_BPF_KERNEL_LAYOUT_H
#define FIBERSCOPE_COLLECTOR_BPF_KERNEL_LAYOUT_H

#ifdef __bpf__
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#endif

enum {
    KERNEL_COMM_BYTES = 16,      // of a thread's name, as the kernel has it
    KERNEL_THREADS_MAX = 32768,  // watched at a time
    KERNEL_PROCESSES_MAX = 8192, // likewise
};

enum kernel_record_type {
    KERNEL_SWITCH =
        1, // `cpu` goes from a thread (tid 0: none in view) to `other` (0: none in view); comm is other's
    KERNEL_IN_VIEW =
        2, // thread `other` has `cpu`, and had it before: it is in view from now on; comm is its
    KERNEL_WAKE = 3,     // tid is runnable; `other` woke it on the CPU value
    KERNEL_WAKE_NEW = 4, // the same, for the first time; comm is tid's, other its parent
    KERNEL_NAME =
        5, // tid is called comm from now on; other: its id before (exec by a thread that does not lead)
    KERNEL_SYSCALL = 6,     // tid enters the system call of number value
    KERNEL_SYSCALL_END = 7, // it returned value
    KERNEL_FAULT = 8,       // tid has a page fault at address value
    KERNEL_FAULT_END = 9,   // which is dealt with; value 1: it was a major one
};

enum {                        // flags of a record
    KERNEL_WATCHED = 1,       // tid
    KERNEL_OTHER_WATCHED = 2, // other
    // Of KERNEL_SWITCH: how tid leaves.
    KERNEL_RUNNABLE = 4, // it would go on
    KERNEL_DEAD = 8,     // it has ended
    KERNEL_IO = 16,      // it waits for a disk, as the kernel says (in_iowait)
    KERNEL_STOPPED = 32, // by a signal or a debugger
    // Of KERNEL_WAKE: what was over, where the kernel says so at that moment.
    KERNEL_BY_DISK = 64,     // a request of a block device
    KERNEL_BY_NETWORK = 128, // a socket had to wait for data, or a connection
};

struct kernel_record {
    uint64_t time_ns; // CLOCK_MONOTONIC
    uint16_t type;    // enum kernel_record_type
    uint16_t flags;
    uint32_t cpu;      // where it happened
    uint32_t tid, pid; // thread and thread group, as the initial pid namespace has them
    uint32_t other, other_pid;
    uint64_t value;
    char comm[KERNEL_COMM_BYTES]; // only up to KERNEL_NAME, the last type that has one
};

enum { KERNEL_RECORD_BYTES_UNNAMED = sizeof(struct kernel_record) - KERNEL_COMM_BYTES };

struct kernel_thread { // of a watched thread
    uint32_t waits_on; // 1 + the CPU that it is runnable on
    uint32_t in_syscall, in_fault;
    uint32_t waker, waker_cpu; // of the waking that has begun
    uint32_t cause;            // of it: KERNEL_BY_DISK, KERNEL_BY_NETWORK, 0
};

struct kernel_cpu {
    uint32_t waiting; // watched threads that are runnable on it, and not on it
    uint32_t is_open;
    uint32_t tid, pid; // who has it; 0: nobody
    char comm[KERNEL_COMM_BYTES];
    uint64_t clock_ahead_ns, switched_ns; // of ours before the scheduler's; the last switch
    uint64_t cause_ns;                    // when `cause` was over here
    uint32_t cause;                       // likewise as kernel_thread's
    uint64_t mended;                      // switches that were not seen
    uint64_t records;
    uint64_t lost_ring, lost_threads;     // records
    uint64_t first_lost_ns, last_lost_ns; // since first_lost_ns was last set to 0
};

#endif
