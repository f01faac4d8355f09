// SPDX-License-Identifier: MIT
//
// A plain filler of slots and tables for tests of the BPF walker: straight from the rows of unwind_each_row, nothing is
// shared between files or packed. What the collector does is collector/bpf/code.c.

#ifndef FIBERSCOPE_TESTS_BPF_FILL_H
#define FIBERSCOPE_TESTS_BPF_FILL_H

#include "collector/bpf/programs.h"
#include "collector/perf_code_internal.h"

enum { FILL_FILES_MAX = 512 };

struct fill {
    struct bpf_programs *programs;
    const struct code_file *files[FILL_FILES_MAX]; // [1..file_count]
    struct {
        uint64_t start; // link-time address of the first block
        uint32_t blocks;
        struct perf_elf elf;
    } tables[FILL_FILES_MAX];
    uint32_t file_count, rule_count, generation;
};

void fill_init(struct fill *f, struct bpf_programs *p);
void fill_finish(struct fill *f);

// Writes what is mapped in p to the slot. Ends the program when something does not fit.
void fill_slot(struct fill *f, uint32_t slot, const struct perf_process *p);

// Tells the slot of the process' fiber runtime, once that has started.
void fill_fibers(struct fill *f, uint32_t slot, uint32_t pid);

#endif
