// SPDX-License-Identifier: MIT
//
// Keeps the BPF programs informed of what is mapped: slots and chunks of processes, tables of files.
//
// What always holds
//   - A file's table is made once, when a process that maps it is told of, and shared by all; its rules are shared by all
//     tables.
//   - Bytes of tables stay under the bound: the tables that no slot names are dropped first, then those named only by
//     processes that have not been told of longest. A file without a table is walked by frame pointer, and counted.
//   - A slot is written under its sequence lock, and its generation changes with it.
//   - A child shares its parent's slot until one of them maps something.
//   - Of a process with more mappings than a slot holds those without a table are left out first: stacks that meet what
//     was left out come as copies.
//
// One thread at a time. Nothing here prints.

#ifndef FIBERSCOPE_COLLECTOR_BPF_CODE_H
#define FIBERSCOPE_COLLECTOR_BPF_CODE_H

#include "collector/bpf/programs.h"
#include "collector/perf_code.h"

struct bpf_code;
struct fib_descriptor; // runtime/descriptor.h

#define BPF_CODE_BYTES_DEFAULT (UINT64_C(256) << 20)

struct bpf_code_stats {
    uint64_t table_bytes, text_bytes; // of tables at hand, and of the code that they are for
    uint32_t tables, slots, rules;
    uint64_t evicted;    // tables dropped for room
    uint64_t displaced;  // of those: a living process had them
    uint64_t no_room;    // times that a file found none
    uint64_t no_slot;    // times that a process found no slot, or not for all of its mappings
    uint64_t rules_full; // rules that found no number: their code counts as declined
};

// 0 or -ENOMEM. p outlives *out. The caller owns *out: bpf_code_free.
int bpf_code_new(struct bpf_code **out, struct bpf_programs *p, uint64_t bytes_max);
void bpf_code_free(struct bpf_code *c); // accepts NULL

// Tells of a process' mappings as they are now, with the fiber runtime if it has one. 0, or -ENOMEM; that there is no room
// is not an error.
int bpf_code_tell(struct bpf_code *c, struct perf_process *process);

// The process was sampled: its tables are the last to make room.
void bpf_code_touch(struct bpf_code *c, uint32_t pid);

// Looks again for the fiber runtimes that had not been started when their processes were told of. Cheap where there is none.
void bpf_code_look_again(struct bpf_code *c);

// The runtime's descriptor as it was when the runtime was ready; NULL: none yet. Stays until the process is told of again
// or forgotten.
const struct fib_descriptor *bpf_code_fibers(const struct bpf_code *c, uint32_t pid);

// The process executes another program: its slot is empty until it is told of again.
void bpf_code_executed(struct bpf_code *c, uint32_t pid);

// The process has ended: its slot is given back, and it is no target any more. Another one of this number that is one is
// to be told of after that.
void bpf_code_ended(struct bpf_code *c, uint32_t pid);

void bpf_code_get_stats(const struct bpf_code *c, struct bpf_code_stats *out);

// What the tables of a process take by themselves (table_bytes, text_bytes, tables, rules; all else 0), whether BPF programs
// can be loaded or not. Makes them all: a few milliseconds for a MiB of code. 0 or -ENOMEM.
int bpf_code_estimate(struct bpf_code_stats *out, const struct perf_process *process);

#endif
