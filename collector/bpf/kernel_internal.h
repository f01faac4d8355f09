// SPDX-License-Identifier: MIT
//
// Shared by kernel_build.c (records, generations, files) and kernel_events.c (what a record makes of threads and CPUs).
//
// Invariant: what has the number of the generation as its stamp is announced in it, and counts its events from 0.

#ifndef FIBERSCOPE_COLLECTOR_BPF_KERNEL_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_BPF_KERNEL_INTERNAL_H

#include "collector/bpf/kernel_build.h"
#include "collector/trace_out.h"

enum {
    KERNEL_BUCKETS = 4096,
    KERNEL_UNITS_NS = 64, // as the fiber trace has them
    // Who was in view for another's sake, and is silent for so many generations, is no longer announced: nobody says
    // when it ends. If it comes again it is a new one.
    KERNEL_SILENT_MAX = 10,
};

#define KERNEL_CALL_FAULT UINT32_MAX // in place of a call's number

enum kernel_state {
    KERNEL_GONE, // there is none: it has ended, or is not born
    KERNEL_UNKNOWN,
    KERNEL_IS_RUNNABLE,
    KERNEL_IS_RUNNING, // has a CPU
    KERNEL_IS_WAITING,
};

struct kernel_go { // of a thread
    struct kernel_go *next;
    uint64_t id, seq, stamp;
    uint64_t seen; // generation that a record spoke of it in
    uint32_t tid, pid;
    uint32_t uses; // of the tid, by earlier threads
    uint32_t cpu;
    uint32_t call; // 1 + its number; KERNEL_CALL_FAULT; 0: none
    enum kernel_state state;
    bool says_call; // the trace has it in a system call
    bool is_watched;
    char at_start; // UNKNOWN: /proc's letter; 0: not looked at
    char name[KERNEL_COMM_BYTES];
    // What it is called soon, by a record that waits: a thread is called so from its birth on, not after its parent.
    char coming[KERNEL_COMM_BYTES];
    uint64_t coming_ns;
};

struct kernel_proc { // of a CPU
    uint64_t seq, stamp;
    struct kernel_go *go;
    bool is_running, is_said;
};

struct kernel_build {
    struct kernel_build_options o;
    struct kernel_go *buckets[KERNEL_BUCKETS];
    struct kernel_proc *procs;
    uint64_t now_ns;
    // Records that wait, by their times.
    struct kernel_record *records;
    size_t record_count, record_capacity;
    // The file.
    struct trace_out out;
    struct kernel_build_file file;
    bool is_open, in_generation, said_procs;
    uint64_t generation_ns; // its beginning
    uint64_t said;          // events of the generation
    uint32_t file_count;
    uint64_t gap_from_ns, gap_to_ns; // before the next file
    uint64_t lost_unsaid;            // in it
    uint64_t skip_until_ns;
    int rc; // the first error: nothing more is written
};

// --- kernel_events.c

void kernel_take(struct kernel_build *b, const struct kernel_record *r);

// At the beginning of a generation: everything that is known.
void kernel_announce_all(struct kernel_build *b);

// At the end of a file's first: those that nothing was heard of.
void kernel_announce_silent(struct kernel_build *b);

// NULL: there is no memory (b->rc).
struct kernel_go *kernel_go_of(struct kernel_build *b, uint32_t tid);

void kernel_forget_all(struct kernel_build *b); // between two files

#endif
