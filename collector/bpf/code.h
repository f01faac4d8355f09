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
//
// One thread at a time. Nothing here prints.

#ifndef FIBERSCOPE_COLLECTOR_BPF_CODE_H
#define FIBERSCOPE_COLLECTOR_BPF_CODE_H

#include "collector/bpf/programs.h"
#include "collector/perf_code.h"

struct bpf_code;

#define BPF_CODE_BYTES_DEFAULT (UINT64_C(256) << 20)

struct bpf_code_stats {
    uint64_t table_bytes, text_bytes; // of tables at hand, and of the code that they are for
    uint32_t tables, slots, rules;
    uint64_t evicted;    // tables dropped for room
    uint64_t no_room;    // files that found none
    uint64_t no_slot;    // processes that found no slot or too few chunks
    uint64_t rules_full; // rules that found no number: their code counts as declined
};

// 0 or -ENOMEM. p outlives *out. The caller owns *out: bpf_code_free.
int bpf_code_new(struct bpf_code **out, struct bpf_programs *p, uint64_t bytes_max);
void bpf_code_free(struct bpf_code *c); // accepts NULL

// Tells of a process' mappings as they are now, with the fiber runtime if it has one. 0, or -ENOMEM; that there is no room
// is not an error.
int bpf_code_tell(struct bpf_code *c, struct perf_process *process);

// The process has ended (its slot is given back), or executes (its slot is empty until it is told of again).
void bpf_code_forget(struct bpf_code *c, uint32_t pid);

void bpf_code_get_stats(const struct bpf_code *c, struct bpf_code_stats *out);

#endif
