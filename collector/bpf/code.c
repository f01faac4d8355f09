// SPDX-License-Identifier: MIT
//
// Processes, their slots and chunks: see code.h.

#include "collector/bpf/code_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void empty_chunk(struct bpf_code *c, uint32_t chunk)
{
    memset(&bpf_programs_chunks(c->programs)[chunk], 0xff, sizeof(struct bpf_chunk));
}

int bpf_code_new(struct bpf_code **out, struct bpf_programs *p, uint64_t bytes_max)
{
    struct bpf_code *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c || unwind_rules_new(&c->rules, bpf_programs_rules(p))) {
        free(c);
        return -ENOMEM;
    }
    c->programs = p;
    c->bytes_max = bytes_max;
    c->next_generation = 1;
    for (uint32_t i = 1; i < BPF_SLOTS_MAX; i++)
        c->free_slots[c->free_count++] = i;
    for (uint32_t i = BPF_CHUNKS - 1; i > 0; i--)
        c->free_chunks[c->free_chunk_count++] = i;
    empty_chunk(c, 0);
    memset(bpf_programs_slots(p)[0].first, 0xff, sizeof bpf_programs_slots(p)[0].first);
    *out = c;
    return 0;
}

void bpf_code_free(struct bpf_code *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < CODE_BUCKETS; i++)
        for (struct code_process *p = c->processes[i], *next; p; p = next) {
            next = p->next;
            free(p);
        }
    for (size_t i = 0; i < BPF_SLOTS_MAX; i++) {
        free(c->slots[i].tables);
        free(c->slots[i].descriptor);
    }
    unwind_rules_free(c->rules);
    free(c->tables);
    free(c->mappings);
    free(c);
}

void bpf_code_get_stats(const struct bpf_code *c, struct bpf_code_stats *out)
{
    *out = c->stats;
    out->rules = unwind_rules_count(c->rules);
    out->rules_full = unwind_rules_full(c->rules);
}

// --- Slots.

void code_slot_lock(struct bpf_code *c, uint32_t slot)
{
    uint32_t *seq = &bpf_programs_slots(c->programs)[slot].seq;
    // Odd before anything changes: with the walk's first look at seq.
    __atomic_store_n(seq, *seq + 1, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void code_slot_unlock(struct bpf_code *c, uint32_t slot)
{
    struct bpf_slot *s = &bpf_programs_slots(c->programs)[slot];
    s->generation = c->next_generation++;
    // release: with the walk's second look at seq
    __atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_SEQ_CST);
}

static void use_tables(struct bpf_code *c, struct code_slot *s, int by)
{
    for (uint32_t i = 0; i < s->table_count; i++)
        c->tables[s->tables[i]].users += (uint32_t)by;
}

static void give_back_chunks(struct bpf_code *c, uint32_t slot, uint32_t keep)
{
    struct code_slot *s = &c->slots[slot];
    struct bpf_slot *shared = &bpf_programs_slots(c->programs)[slot];
    while (s->chunks > keep) {
        uint32_t i = --s->chunks;
        c->free_chunks[c->free_chunk_count++] = shared->chunk[i];
        shared->chunk[i] = 0;
    }
}

// As many chunks as there are for so many; false: too few, and nothing was taken.
static bool take_chunks(struct bpf_code *c, uint32_t slot, uint32_t count)
{
    struct code_slot *s = &c->slots[slot];
    if (count > s->chunks && count - s->chunks > c->free_chunk_count)
        return false;
    while (s->chunks < count)
        bpf_programs_slots(c->programs)[slot].chunk[s->chunks++] =
            c->free_chunks[--c->free_chunk_count];
    return true;
}

static void write_mappings(struct bpf_code *c, uint32_t slot, size_t count)
{
    struct bpf_slot *shared = &bpf_programs_slots(c->programs)[slot];
    struct bpf_chunk *chunks = bpf_programs_chunks(c->programs);
    memset(shared->first, 0xff, sizeof shared->first);
    for (size_t i = 0; i < count; i += BPF_CHUNK_MAPPINGS) {
        size_t at = i / BPF_CHUNK_MAPPINGS, left = count - i;
        size_t n = left < BPF_CHUNK_MAPPINGS ? left : BPF_CHUNK_MAPPINGS;
        empty_chunk(c, shared->chunk[at]);
        memcpy(chunks[shared->chunk[at]].mappings, c->mappings + i, n * sizeof *c->mappings);
        shared->first[at] = c->mappings[i].start;
    }
    shared->count = (uint32_t)count;
}

static void release_slot(struct bpf_code *c, uint32_t slot)
{
    struct code_slot *s = &c->slots[slot];
    if (--s->users)
        return;
    code_slot_lock(c, slot);
    write_mappings(c, slot, 0);
    bpf_programs_slots(c->programs)[slot].fibers = (struct bpf_fibers){0};
    give_back_chunks(c, slot, 0);
    code_slot_unlock(c, slot);
    use_tables(c, s, -1);
    free(s->tables);
    free(s->descriptor);
    *s = (struct code_slot){0};
    c->free_slots[(c->first_free + c->free_count++) % BPF_SLOTS_MAX] = slot;
    c->stats.slots--;
}

static uint32_t take_slot(struct bpf_code *c)
{
    if (!c->free_count)
        return 0;
    uint32_t slot = c->free_slots[c->first_free];
    c->first_free = (c->first_free + 1) % BPF_SLOTS_MAX;
    c->free_count--;
    c->slots[slot].users = 1;
    c->stats.slots++;
    return slot;
}

// --- Processes.

static struct code_process **process_at(struct bpf_code *c, uint32_t pid)
{
    struct code_process **at = &c->processes[pid % CODE_BUCKETS];
    while (*at && (*at)->pid != pid)
        at = &(*at)->next;
    return at;
}

// The slot that the BPF programs gave a child at its birth, if it is still as the child has it.
static uint32_t inherited_slot(struct bpf_code *c, const struct perf_process *p)
{
    uint32_t slot;
    if (bpf_programs_slot_of(c->programs, (pid_t)perf_process_pid(p), &slot) || !slot ||
        slot >= BPF_SLOTS_MAX || !c->slots[slot].users ||
        c->slots[slot].generation != perf_process_generation(p))
        return 0;
    c->slots[slot].users++;
    return slot;
}

// --- Mappings.

static int reserve_mappings(struct bpf_code *c, size_t count)
{
    if (count <= c->mapping_capacity)
        return 0;
    struct bpf_mapping *grown = reallocarray(c->mappings, count, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    c->mappings = grown;
    c->mapping_capacity = count;
    return 0;
}

static bool has_table(const struct bpf_mapping *m)
{
    return m->file != BPF_FILE_NONE;
}

// Leaves out what a slot does not hold: code without tables first, then what lies highest.
static size_t thin_out(struct bpf_mapping *m, size_t count)
{
    size_t surplus = count > CODE_MAPPINGS_MAX ? count - CODE_MAPPINGS_MAX : 0, kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (surplus && !has_table(&m[i]))
            surplus--;
        else
            m[kept++] = m[i];
    }
    return kept < CODE_MAPPINGS_MAX ? kept : CODE_MAPPINGS_MAX;
}

// Keeps the tables that the process needs from being dropped for one that it needs, too.
static void touch_mapped(const struct bpf_code *c, const struct perf_process *p)
{
    for (size_t i = 0; i < perf_process_map_count(p); i++) {
        struct perf_map map;
        perf_process_map(p, i, &map);
        if (map.file && perf_file_number(map.file) < c->table_capacity)
            c->tables[perf_file_number(map.file)].used = c->clock;
    }
}

// Fills c->mappings. 0 or -ENOMEM.
static int collect(struct bpf_code *c, const struct perf_process *p, size_t *out)
{
    size_t count = perf_process_map_count(p), n = 0;
    int rc = reserve_mappings(c, count);
    touch_mapped(c, p);
    for (size_t i = 0; i < count && !rc; i++) {
        struct perf_map map;
        struct code_table *t = NULL;
        perf_process_map(p, i, &map);
        if (map.file)
            rc = code_table(c, map.file, &t);
        struct bpf_mapping m = {.start = map.start, .end = map.end, .file = BPF_FILE_NONE};
        if (t) {
            m.file = t->index;
            m.blocks = t->blocks;
            m.table_start = t->start + map.bias;
        }
        struct bpf_mapping *last = n ? &c->mappings[n - 1] : NULL;
        if (last && !t && !has_table(last) && last->end == m.start)
            last->end = m.end;
        else
            c->mappings[n++] = m;
    }
    *out = n;
    return rc;
}

// Which tables the mappings name, each once, in a list that *list gets. 0 or -ENOMEM.
static int list_tables(const struct bpf_code *c, size_t count, uint32_t **list, uint32_t *n)
{
    *n = 0;
    *list = calloc(count + 1, sizeof **list);
    if (!*list)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        uint32_t number = has_table(&c->mappings[i]) ? c->owners[c->mappings[i].file] : 0, j = 0;
        while (j < *n && (*list)[j] != number)
            j++;
        if (number && j == *n)
            (*list)[(*n)++] = number;
    }
    return 0;
}

// --- Telling.

// Writes what c->mappings has. False: there are too few chunks; nothing was written.
static bool write_slot(struct bpf_code *c, uint32_t slot, size_t count)
{
    uint32_t chunks = (uint32_t)((count + BPF_CHUNK_MAPPINGS - 1) / BPF_CHUNK_MAPPINGS);
    bool ok = true;
    code_slot_lock(c, slot);
    ok = take_chunks(c, slot, chunks ? chunks : 1);
    if (ok) {
        give_back_chunks(c, slot, chunks ? chunks : 1);
        empty_chunk(c, bpf_programs_slots(c->programs)[slot].chunk[0]);
        write_mappings(c, slot, count);
    }
    code_slot_unlock(c, slot);
    return ok;
}

static int fill_slot(struct bpf_code *c, uint32_t slot, const struct perf_process *p, bool *is_full)
{
    struct code_slot *s = &c->slots[slot];
    uint32_t *list, n;
    size_t count;
    int rc = collect(c, p, &count);
    if (rc)
        return rc;
    size_t kept = thin_out(c->mappings, count);
    if (kept < count)
        c->stats.no_slot++;
    rc = list_tables(c, kept, &list, &n);
    if (rc)
        return rc;
    *is_full = !write_slot(c, slot, kept);
    if (*is_full) {
        free(list);
        return 0;
    }
    use_tables(c, &(struct code_slot){.tables = list, .table_count = n}, 1);
    use_tables(c, s, -1);
    free(s->tables);
    s->tables = list;
    s->table_count = n;
    s->generation = perf_process_generation(p);
    s->pid = perf_process_pid(p);
    return 0;
}

static void find_fibers(struct bpf_code *c, uint32_t slot, const struct perf_process *p)
{
    struct code_slot *s = &c->slots[slot];
    uint64_t at = code_find_descriptor(c, p);
    if (at != s->descriptor_at) { // another program
        free(s->descriptor);
        s->descriptor = NULL;
        s->descriptor_at = at;
        code_slot_lock(c, slot);
        bpf_programs_slots(c->programs)[slot].fibers = (struct bpf_fibers){0};
        code_slot_unlock(c, slot);
    }
    code_look_for_fibers(c, slot);
}

// A slot that is the process' own or has its mappings; 0: there is none.
static uint32_t slot_for(struct bpf_code *c, const struct code_process *known,
                         const struct perf_process *p)
{
    uint32_t slot = known->slot;
    if (slot && c->slots[slot].generation != perf_process_generation(p) &&
        c->slots[slot].users > 1) {
        release_slot(c, slot); // the others still have what it says
        slot = 0;
    }
    if (!slot)
        slot = inherited_slot(c, p);
    return slot ? slot : take_slot(c);
}

static struct code_process *put_process(struct bpf_code *c, uint32_t pid)
{
    struct code_process **at = process_at(c, pid);
    if (!*at) {
        *at = calloc(1, sizeof **at);
        if (*at)
            (*at)->pid = pid;
    }
    return *at;
}

static void touch_tables(const struct bpf_code *c, const struct code_slot *s)
{
    for (uint32_t i = 0; i < s->table_count; i++)
        c->tables[s->tables[i]].used = c->clock;
}

int bpf_code_tell(struct bpf_code *c, struct perf_process *process)
{
    struct code_process *known = put_process(c, perf_process_pid(process));
    bool is_full = false;
    int rc = 0;
    if (!known)
        return -ENOMEM;
    c->clock++;
    known->slot = slot_for(c, known, process);
    if (!known->slot) {
        c->stats.no_slot++;
    } else if (c->slots[known->slot].generation != perf_process_generation(process)) {
        rc = fill_slot(c, known->slot, process, &is_full);
        if (!rc && !is_full)
            find_fibers(c, known->slot, process);
    } else {
        touch_tables(c, &c->slots[known->slot]);
        code_look_for_fibers(c, known->slot);
    }
    if (rc || is_full) { // what it says is not true any more
        c->stats.no_slot += is_full;
        release_slot(c, known->slot);
        known->slot = 0;
    }
    bpf_programs_target(c->programs, (pid_t)known->pid, known->slot);
    return rc;
}

void bpf_code_touch(struct bpf_code *c, uint32_t pid)
{
    const struct code_process *p = *process_at(c, pid);
    if (!p || !p->slot)
        return;
    c->clock++;
    touch_tables(c, &c->slots[p->slot]);
}

void bpf_code_look_again(struct bpf_code *c)
{
    bool was_waiting = c->is_waiting;
    c->is_waiting = false;
    for (uint32_t s = 1; was_waiting && s < BPF_SLOTS_MAX; s++)
        if (c->slots[s].users)
            code_look_for_fibers(c, s);
}

const struct fib_descriptor *bpf_code_fibers(const struct bpf_code *c, uint32_t pid)
{
    const struct code_process *p = c->processes[pid % CODE_BUCKETS];
    while (p && p->pid != pid)
        p = p->next;
    return p && p->slot ? c->slots[p->slot].descriptor : NULL;
}

// Gives its slot back.
static void forget(struct bpf_code *c, uint32_t pid)
{
    struct code_process **at = process_at(c, pid), *p = *at;
    if (!p)
        return;
    if (p->slot)
        release_slot(c, p->slot);
    *at = p->next;
    free(p);
}

void bpf_code_executed(struct bpf_code *c, uint32_t pid)
{
    const struct code_process *p = *process_at(c, pid);
    uint32_t slot = 0;
    // Told of after its exec, before that was known.
    if (p && p->slot && !bpf_programs_slot_of(c->programs, (pid_t)pid, &slot) && slot == p->slot)
        bpf_programs_target(c->programs, (pid_t)pid, 0);
    forget(c, pid);
}

void bpf_code_ended(struct bpf_code *c, uint32_t pid)
{
    // Told of after its end, before that was known; its number may be a stranger's by now.
    bpf_programs_untarget(c->programs, (pid_t)pid);
    forget(c, pid);
}
