// SPDX-License-Identifier: MIT
//
// Records of the kernel trace (kernel_layout.h) into files in Go's format: a stream and a P for each CPU, a G for each
// thread.
//
//   kernel                                    trace
//   a thread gets, leaves its CPU             GoStart; GoStop ("preempted", "runtime.Gosched"), GoBlock, GoDestroy
//   a watched thread becomes runnable         GoUnblock, by the thread in whose system call it happened, else by nobody; the
//                                             stack's leaf is "disk" or "network" where one of these was over
//   a watched thread is born                  GoCreate
//   a system call, a page fault               GoSyscallBegin, GoSyscallEnd; its name is the stack's leaf. Ends, and begins
//                                             again, around the time that the thread is off its CPU, which is then GoBlock
//   nobody in view on a CPU                   its P is idle
//
// What always holds
//   - A G is called after its thread (the outermost frame of each of its stacks), whose process is the frame's file.
//     Its id is the thread's, as the initial pid namespace has it; of a later thread with the same, with a number above
//     the lower 32 bits.
//   - Those that are in view for another's sake alone wait ("system goroutine wait") when they are not on a CPU.
//   - Each generation is read by our validator before it is written; where that refuses it the file ends.
//   - A record that does not fit to what is known is made to fit, and counted (`repairs`).
//   - Records that were lost end a file, and the next one begins behind them.
//
// One thread at a time. Nothing here prints.

#ifndef FIBERSCOPE_COLLECTOR_BPF_KERNEL_BUILD_H
#define FIBERSCOPE_COLLECTOR_BPF_KERNEL_BUILD_H

#include "base/error.h"
#include "collector/bpf/kernel_layout.h"

#include <stdbool.h>
#include <stddef.h>

struct kernel_build;

struct kernel_build_file { // what came of one file
    uint32_t number;       // from 1
    uint64_t generations, bytes, start_ns, end_ns;
    uint64_t switches, wakes, syscalls, faults;
    uint64_t repairs;
    uint64_t lost;                   // records behind its end
    uint64_t gap_from_ns, gap_to_ns; // before its beginning; 0: none
    uint64_t gap_lost;               // records in it that the file before has not in `lost`
    char why[256];                   // the validator refused its last part; "": it did not
};

struct kernel_build_options {
    size_t size;      // sizeof(struct kernel_build_options)
    uint32_t version; // of the files: 23 or 26; 0: 23
    uint32_t cpu_count;
    // A descriptor to write the next file to, or -errno; and that it is complete (rc: or why not).
    int (*open_file)(void *arg, uint32_t number, struct fscope_error *err);
    void (*close_file)(void *arg, const struct kernel_build_file *f, int rc);
    void *arg;
};

int kernel_build_new(struct kernel_build **out, const struct kernel_build_options *o); // 0, -ENOMEM
void kernel_build_free(struct kernel_build *b); // accepts NULL

// A watched thread that is there when the trace, or after a cut the next file, begins; state is /proc's letter.
struct kernel_build_thread {
    uint32_t tid, pid, cpu;
    char state;
    char name[KERNEL_COMM_BYTES];
};
int kernel_build_add(struct kernel_build *b, const struct kernel_build_thread *t); // 0 or -ENOMEM

// The record that these bytes of the ring are; false: they are none.
bool kernel_build_record(struct kernel_record *out, const void *bytes, size_t size);

// Takes a record; in any order, as long as none is older than the last flush. 0 or -ENOMEM.
int kernel_build_push(struct kernel_build *b, const struct kernel_record *r);

// Writes what came before until_ns. 0 or the first error there was (of a file: it has ended, and nothing more is written).
int kernel_build_flush(struct kernel_build *b, uint64_t until_ns);

// `count` records between these times were lost: ends the file at the first, forgets what is known, and what came up to
// the second. Threads are to be added again. 0 or -errno.
int kernel_build_cut(struct kernel_build *b, uint64_t from_ns, uint64_t to_ns, uint64_t count);

// Writes the rest; the trace lasts until end_ns. Call once.
int kernel_build_finish(struct kernel_build *b, uint64_t end_ns);

#endif
