// SPDX-License-Identifier: MIT
//
// Tables of files: made, shared, dropped for room. See code.h.

#include "collector/bpf/code_internal.h"
#include "collector/perf_elf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t bytes_of(const struct code_table *t)
{
    return (uint64_t)t->pages * UNWIND_PAGE_BYTES;
}

int code_table_grow(struct bpf_code *c, uint32_t number)
{
    if (number < c->table_capacity)
        return 0;
    uint32_t capacity = 2 * number + 64;
    struct code_table *grown = reallocarray(c->tables, capacity, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    memset(grown + c->table_capacity, 0, (capacity - c->table_capacity) * sizeof *grown);
    c->tables = grown;
    c->table_capacity = capacity;
    return 0;
}

// --- Dropping.

// Code of the table is unknown until the slot is written again: stacks there come as copies, whereupon the process is told
// of again. An empty mapping keeps the order in which they are searched.
static void take_out_of_slot(struct bpf_code *c, uint32_t slot, uint32_t number)
{
    struct code_slot *s = &c->slots[slot];
    struct bpf_slot *shared = &bpf_programs_slots(c->programs)[slot];
    struct bpf_chunk *chunks = bpf_programs_chunks(c->programs);
    uint32_t i = 0, index = c->tables[number].index;
    while (i < s->table_count && s->tables[i] != number)
        i++;
    if (i == s->table_count)
        return;
    s->tables[i] = s->tables[--s->table_count];
    s->generation = 0;
    code_slot_lock(c, slot);
    for (uint32_t m = 0; m < shared->count; m++) {
        struct bpf_mapping *at =
            &chunks[shared->chunk[m / BPF_CHUNK_MAPPINGS]].mappings[m % BPF_CHUNK_MAPPINGS];
        if (at->file == index)
            at->end = at->start;
    }
    code_slot_unlock(c, slot);
}

static void drop(struct bpf_code *c, uint32_t number)
{
    struct code_table *t = &c->tables[number];
    bool is_used = t->users != 0;
    for (uint32_t s = 1; s < BPF_SLOTS_MAX && t->users; s++)
        if (c->slots[s].users)
            take_out_of_slot(c, s, number);
    c->stats.displaced += is_used;
    bpf_programs_table_drop(c->programs, t->index);
    c->owners[t->index] = 0;
    t->index = t->users = 0;
    c->stats.table_bytes -= bytes_of(t);
    c->stats.text_bytes -= t->text_bytes;
    c->stats.tables--;
    c->stats.evicted++;
}

// Those without users first, then those of whom nobody was sampled or told of longest. Tables of the process at hand stay.
static bool is_better_victim(const struct code_table *t, const struct code_table *best)
{
    if (!best || (t->users == 0) != (best->users == 0))
        return !best || t->users == 0;
    return t->used < best->used;
}

static uint32_t victim(const struct bpf_code *c)
{
    const struct code_table *best = NULL;
    for (uint32_t i = 1; i < c->table_capacity; i++) {
        const struct code_table *t = &c->tables[i];
        if (t->index && t->used != c->clock && is_better_victim(t, best))
            best = t;
    }
    return best ? (uint32_t)(best - c->tables) : 0;
}

static uint64_t bytes_to_keep(const struct bpf_code *c)
{
    uint64_t bytes = 0;
    for (uint32_t i = 1; i < c->table_capacity; i++)
        if (c->tables[i].index && c->tables[i].used == c->clock)
            bytes += bytes_of(&c->tables[i]);
    return bytes;
}

// An index of the BPF programs' tables that is free; 0: there is none.
static uint32_t free_index(const struct bpf_code *c)
{
    for (uint32_t i = 1; i < BPF_FILES_MAX; i++)
        if (!c->owners[i])
            return i;
    return 0;
}

static bool make_room(struct bpf_code *c, const struct code_table *t)
{
    uint64_t bytes = bytes_of(t);
    // Nothing is dropped in vain.
    if (c->stats.table_bytes + bytes > c->bytes_max && bytes_to_keep(c) + bytes > c->bytes_max)
        return false;
    while (c->stats.table_bytes + bytes > c->bytes_max || !free_index(c)) {
        uint32_t v = victim(c);
        if (!v)
            return false;
        drop(c, v);
    }
    return true;
}

// --- Making.

static void code_range(const struct perf_elf *e, uint64_t *start, uint64_t *end)
{
    *start = UINT64_MAX;
    *end = 0;
    for (uint32_t i = 0; i < e->load_count; i++) {
        uint64_t last = e->loads[i].address + e->loads[i].size; // perf_elf_load checks the sum
        if (!e->loads[i].is_code)
            continue;
        *start = e->loads[i].address < *start ? e->loads[i].address : *start;
        *end = last > *end ? last : *end;
    }
}

static int put(struct bpf_code *c, struct code_table *t, uint32_t number,
               const struct unwind_table *made)
{
    t->pages = made->pages;
    t->blocks = made->blocks;
    t->start = made->start;
    t->text_bytes = made->text_bytes;
    uint32_t index = make_room(c, t) ? free_index(c) : 0;
    int rc = -ENOSPC;
    while (index && rc == -ENOSPC) {
        rc = bpf_programs_table(c->programs, index, made->words, made->pages);
        uint32_t v = rc == -ENOSPC ? victim(c) : 0; // pages are free, but not beside each other
        if (v)
            drop(c, v);
        else
            break;
    }
    if (rc) {
        c->stats.no_room++;
        return 0;
    }
    t->index = index;
    c->owners[index] = number;
    c->stats.table_bytes += bytes_of(t);
    c->stats.text_bytes += t->text_bytes;
    c->stats.tables++;
    return 0;
}

static int make_of(struct unwind_table *out, const struct code_file *f, struct unwind_rules *rules)
{
    const struct perf_elf *e = perf_file_elf(f);
    struct unwind_table_source source = {.name = perf_file_path(f), .tables = e->tables};
    code_range(e, &source.start, &source.end);
    return unwind_table_make(out, &source, rules, NULL);
}

static int make(struct bpf_code *c, struct code_table *t, const struct code_file *f)
{
    struct unwind_table made;
    // How large it is was found out once.
    if (t->pages && !make_room(c, t)) {
        c->stats.no_room++;
        return 0;
    }
    int rc = make_of(&made, f, c->rules);
    if (rc) {
        t->is_none = rc == -ENOENT;
        return rc == -ENOMEM ? rc : 0;
    }
    rc = put(c, t, perf_file_number(f), &made);
    unwind_table_finish(&made);
    return rc;
}

int code_table(struct bpf_code *c, const struct code_file *f, struct code_table **out)
{
    uint32_t number = perf_file_number(f);
    int rc = code_table_grow(c, number);
    *out = NULL;
    if (rc)
        return rc;
    struct code_table *t = &c->tables[number];
    if (!t->index && !t->is_none)
        rc = make(c, t, f);
    if (t->index) {
        t->used = c->clock;
        *out = t;
    }
    return rc;
}

// --- Beforehand.

// Whether the file is mapped at an earlier index, too.
static bool is_seen(const struct perf_process *p, size_t index, const struct code_file *f)
{
    struct perf_map m = {.file = NULL};
    for (size_t i = 0; i < index && m.file != f; i++)
        perf_process_map(p, i, &m);
    return m.file == f;
}

int bpf_code_estimate(struct bpf_code_stats *out, const struct perf_process *process)
{
    struct unwind_rules *rules;
    int rc = unwind_rules_new(&rules, NULL);
    *out = (struct bpf_code_stats){0};
    for (size_t i = 0; !rc && i < perf_process_map_count(process); i++) {
        struct perf_map m;
        struct unwind_table made;
        perf_process_map(process, i, &m);
        if (!m.file || is_seen(process, i, m.file))
            continue;
        rc = make_of(&made, m.file, rules);
        out->table_bytes += (uint64_t)made.pages * UNWIND_PAGE_BYTES;
        out->text_bytes += made.text_bytes;
        out->tables += rc == 0;
        rc = rc == -ENOENT ? 0 : rc;
        unwind_table_finish(&made);
    }
    out->rules = rc ? 0 : unwind_rules_count(rules);
    unwind_rules_free(rules);
    return rc;
}
