// SPDX-License-Identifier: MIT
//
// Stands in for collector/bpf/programs.c: the maps are plain memory, so a test sees what the kernel would.

#ifndef FIBERSCOPE_TESTS_FAKE_BPF_PROGRAMS_H
#define FIBERSCOPE_TESTS_FAKE_BPF_PROGRAMS_H

#include "collector/bpf/programs.h"

enum { PIDS_MAX = 8192 };

struct bpf_programs {
    struct bpf_slot slots[BPF_SLOTS_MAX];
    struct bpf_chunk chunks[BPF_CHUNKS];
    struct unwind_rule_row rules[UNWIND_RULES_MAX];
    uint32_t *tables[BPF_FILES_MAX];
    uint32_t pages[BPF_FILES_MAX];
    struct {
        pid_t pid;
        uint32_t slot;
    } targets[PIDS_MAX];
    uint32_t target_count;
};

#endif
