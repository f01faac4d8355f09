// SPDX-License-Identifier: MIT

#include "tests/unit/fake_bpf_programs.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct bpf_slot *bpf_programs_slots(struct bpf_programs *p)
{
    return p->slots;
}

struct bpf_chunk *bpf_programs_chunks(struct bpf_programs *p)
{
    return p->chunks;
}

struct unwind_rule_row *bpf_programs_rules(struct bpf_programs *p)
{
    return p->rules;
}

int bpf_programs_table(struct bpf_programs *p, uint32_t file, const uint32_t *words, uint32_t pages)
{
    assert_in_range(file, 1, BPF_FILES_MAX - 1);
    assert_null(p->tables[file]);
    p->tables[file] = malloc((size_t)pages * UNWIND_PAGE_BYTES);
    memcpy(p->tables[file], words, (size_t)pages * UNWIND_PAGE_BYTES);
    p->pages[file] = pages;
    return 0;
}

void bpf_programs_table_drop(struct bpf_programs *p, uint32_t file)
{
    assert_non_null(p->tables[file]);
    free(p->tables[file]);
    p->tables[file] = NULL;
}

int bpf_programs_target(struct bpf_programs *p, pid_t pid, uint32_t slot)
{
    uint32_t i = 0;
    while (i < p->target_count && p->targets[i].pid != pid)
        i++;
    assert_true(i < PIDS_MAX);
    p->target_count += i == p->target_count;
    p->targets[i].pid = pid;
    p->targets[i].slot = slot;
    return 0;
}

void bpf_programs_untarget(struct bpf_programs *p, pid_t pid)
{
    for (uint32_t i = 0; i < p->target_count; i++)
        if (p->targets[i].pid == pid)
            p->targets[i] = p->targets[--p->target_count];
}

int bpf_programs_slot_of(struct bpf_programs *p, pid_t pid, uint32_t *slot)
{
    for (uint32_t i = 0; i < p->target_count; i++)
        if (p->targets[i].pid == pid) {
            *slot = p->targets[i].slot;
            return 0;
        }
    return -ENOENT;
}
