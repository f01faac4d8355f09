// SPDX-License-Identifier: MIT
//
// What must hold of collector/bpf/code.h: whatever a process maps, a reader of slots, chunks and tables that follows
// layout.h finds for each pc what unwind_find_row finds; nothing grows over its bound; children, ends, exhausted slots and
// runtimes that start late are told of rightly.
//
// The BPF programs are memory of this test (fake_bpf_programs.h).

#include "collector/bpf/code.h"
#include "collector/perf_elf.h"
#include "collector/perf_target.h"
#include "runtime/descriptor.h"
#include "symbols/unwind_table.h"
#include "tests/unit/fake_bpf_programs.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { NOBODY = 1 << 30 }; // pids from here on do not exist

// --- A reader, as the BPF programs are.

static const struct bpf_mapping *mapping_at(const struct bpf_programs *p, uint32_t slot,
                                            uint64_t pc)
{
    const struct bpf_slot *s = &p->slots[slot];
    uint32_t chunk = 0, i = 0;
    assert_int_equal(s->seq % 2, 0);
    while (chunk + 1 < BPF_SLOT_CHUNKS && s->first[chunk + 1] <= pc)
        chunk++;
    const struct bpf_mapping *m = p->chunks[s->chunk[chunk]].mappings;
    while (i + 1 < BPF_CHUNK_MAPPINGS && m[i + 1].start <= pc)
        i++;
    return pc >= m[i].start && pc < m[i].end ? &m[i] : NULL;
}

static uint32_t rule_at(const struct bpf_programs *p, const struct bpf_mapping *m, uint64_t pc)
{
    if (m->file == BPF_FILE_NONE)
        return UNWIND_RULE_DECLINED;
    assert_non_null(p->tables[m->file]);
    uint64_t block = (pc - m->table_start) / UNWIND_BLOCK_BYTES;
    if (block >= m->blocks)
        return UNWIND_RULE_NOT_COVERED;
    uint32_t word = p->tables[m->file][block];
    const uint16_t *halves = (const uint16_t *)p->tables[m->file] + (word >> UNWIND_PLACE_SHIFT);
    uint32_t i = 0, rows = (word & UNWIND_MORE_ROWS) + 1, size = word & UNWIND_WIDE ? 2 : 1;
    while (i + 1 < rows && (halves[(i + 1) * size] & 255) <= (pc & 255))
        i++;
    uint32_t low = halves[i * size] >> 8;
    return size == 1 ? low : (low | (uint32_t)halves[i * size + 1] << 8);
}

// --- What a case works with.

struct world {
    struct bpf_programs *programs;
    struct bpf_code *code;
    struct builder *builder;
    struct perf_code *processes;
    uint64_t bytes_max;
};

static void begin(struct world *w, uint64_t bytes_max)
{
    struct builder_options o = {.size = sizeof o, .kind = SEG_KIND_CPU, .period_ns = 1};
    w->programs = calloc(1, sizeof *w->programs);
    w->bytes_max = bytes_max;
    assert_non_null(w->programs);
    assert_int_equal(builder_new(&w->builder, &o), 0);
    assert_int_equal(perf_code_new(&w->processes, w->builder), 0);
    assert_int_equal(bpf_code_new(&w->code, w->programs, bytes_max), 0);
}

static struct bpf_code_stats stats_of(const struct world *w)
{
    struct bpf_code_stats s;
    bpf_code_get_stats(w->code, &s);
    assert_true(s.table_bytes <= w->bytes_max);
    return s;
}

static void end(struct world *w)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < BPF_FILES_MAX; i++)
        bytes += w->programs->tables[i] ? (uint64_t)w->programs->pages[i] * UNWIND_PAGE_BYTES : 0;
    assert_int_equal(stats_of(w).table_bytes, bytes);
    bpf_code_free(w->code);
    perf_code_free(w->processes);
    builder_free(w->builder);
    for (uint32_t i = 0; i < BPF_FILES_MAX; i++)
        free(w->programs->tables[i]);
    free(w->programs);
}

static struct perf_process *process(struct world *w, pid_t pid)
{
    struct perf_process *p = perf_code_process(w->processes, (uint32_t)pid, 0);
    assert_non_null(p);
    return p;
}

static uint32_t tell(struct world *w, pid_t pid)
{
    uint32_t slot = 0;
    assert_int_equal(bpf_code_tell(w->code, process(w, pid)), 0);
    assert_int_equal(bpf_programs_slot_of(w->programs, pid, &slot), 0);
    return slot;
}

// The rule that unwind_find_row gives, or the one before a hole that is no longer than padding.
static bool is_right(const struct world *w, const struct perf_map *m, uint64_t pc, uint32_t rule)
{
    struct unwind_row row;
    struct unwind_rule_row want;
    for (uint64_t at = pc; pc - at <= UNWIND_PADDING_MAX; at--) {
        int status = unwind_find_row(&perf_file_elf(m->file)->tables, at - m->bias, &row);
        uint32_t number = unwind_rule_of(status, &row, &want);
        if (number == UNWIND_RULE_FIRST ? rule >= UNWIND_RULE_FIRST &&
                                              !memcmp(&want, &w->programs->rules[rule], sizeof want)
                                        : rule == number)
            return true;
        if (status != UNWIND_NOT_COVERED)
            return false;
    }
    return false;
}

// Compares some pcs of each mapping, the ends among them. The number of mappings that have a table.
static uint32_t check_slot(struct world *w, pid_t pid, uint32_t slot)
{
    struct perf_process *p = process(w, pid);
    uint32_t with_table = 0;
    for (size_t i = 0; i < perf_process_map_count(p); i++) {
        struct perf_map m;
        perf_process_map(p, i, &m);
        const struct bpf_mapping *found = mapping_at(w->programs, slot, m.start);
        assert_non_null(found);
        assert_ptr_equal(mapping_at(w->programs, slot, m.end - 1), found);
        if (found->file == BPF_FILE_NONE)
            continue;
        assert_non_null(m.file);
        with_table++;
        for (uint64_t pc = m.start; pc < m.end; pc += (m.end - m.start) / 1009 + 1)
            assert_true(is_right(w, &m, pc, rule_at(w->programs, found, pc)));
    }
    return with_table;
}

// A child that waits to be killed; setup may map what it likes.
static pid_t start_child(void (*setup)(void))
{
    int ready[2];
    char c = 0;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); // a case that fails leaves nobody behind
        if (setup)
            setup();
        if (write(ready[1], "r", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

// --- Cases.

static void each_pc_has_its_row(void **state)
{
    struct world w;
    (void)state;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    uint32_t slot = tell(&w, getpid());
    assert_int_not_equal(slot, 0);
    assert_true(check_slot(&w, getpid(), slot) >= 3); // the program, libc, ld.so, [vdso]
    struct bpf_code_stats s = stats_of(&w);
    assert_true(s.tables >= 3 && s.rules > UNWIND_RULE_FIRST && s.slots == 1);
    assert_true(s.text_bytes > s.table_bytes && !s.no_room && !s.no_slot && !s.rules_full);
    assert_null(mapping_at(w.programs, slot, 4096));
    uint32_t generation = w.programs->slots[slot].generation;
    assert_int_equal(tell(&w, getpid()), slot); // nothing has changed
    assert_int_equal(w.programs->slots[slot].generation, generation);
    end(&w);
}

static void an_estimate_is_what_it_takes(void **state)
{
    struct world w;
    struct bpf_code_stats estimate;
    (void)state;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    assert_int_equal(bpf_code_estimate(&estimate, process(&w, getpid())), 0);
    tell(&w, getpid());
    struct bpf_code_stats s = stats_of(&w);
    assert_true(estimate.table_bytes == s.table_bytes && estimate.text_bytes == s.text_bytes &&
                estimate.tables == s.tables && estimate.rules == s.rules);
    end(&w);
}

static void slot_zero_has_no_mappings(void **state)
{
    struct world w;
    (void)state;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    tell(&w, getpid());
    for (uint64_t pc = 0; pc < UINT64_MAX / 2; pc = 2 * pc + 4095)
        assert_null(mapping_at(w.programs, 0, pc));
    end(&w);
}

static void *map_code(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

static void what_is_mapped_later_is_told_of(void **state)
{
    struct world w;
    (void)state;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    uint32_t slot = tell(&w, getpid()), generation = w.programs->slots[slot].generation;
    char *code = map_code(65536);
    uint64_t pc = (uint64_t)(uintptr_t)code;
    bool was_there = mapping_at(w.programs, slot, pc); // beside another one
    assert_int_equal(perf_code_rescan(w.processes, 1), 0);
    assert_int_equal(tell(&w, getpid()), slot);
    assert_false(was_there);
    assert_int_equal(mapping_at(w.programs, slot, pc)->file, BPF_FILE_NONE);
    assert_int_not_equal(w.programs->slots[slot].generation, generation);
    check_slot(&w, getpid(), slot);
    munmap(code, 65536);
    end(&w);
}

static void a_child_shares_until_it_maps(void **state)
{
    struct world w;
    (void)state;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    pid_t child = start_child(NULL);
    uint32_t slot = tell(&w, getpid());
    struct perf_record fork_record = {.type = PERF_RECORD_FORK, .time_ns = 2};
    fork_record.task.pid = fork_record.task.tid = (uint32_t)child;
    fork_record.task.parent_pid = fork_record.task.parent_tid = (uint32_t)getpid();
    assert_int_equal(perf_code_fork(w.processes, &fork_record), 0);
    bpf_programs_target(w.programs, child, slot); // as BPF does at its birth
    assert_int_equal(tell(&w, child), slot);
    assert_int_equal(stats_of(&w).slots, 1);

    struct perf_record map = {.type = PERF_RECORD_MMAP2, .time_ns = 3, .pid = (uint32_t)child};
    map.mmap = (struct perf_mmap){.start = 1 << 20, .size = 4096, .protection = PROT_EXEC};
    map.mmap.path = "//anon";
    assert_int_equal(perf_code_mmap(w.processes, &map), 0);
    uint32_t own = tell(&w, child);
    assert_int_not_equal(own, slot);
    assert_non_null(mapping_at(w.programs, own, 1 << 20));
    assert_null(mapping_at(w.programs, slot, 1 << 20));
    assert_int_equal(check_slot(&w, getpid(), slot), check_slot(&w, child, own));

    bpf_code_ended(w.code, (uint32_t)getpid()); // the other one goes on
    assert_null(mapping_at(w.programs, slot, (uint64_t)(uintptr_t)&abort));
    assert_true(check_slot(&w, child, own) >= 3);
    end_child(child);
    bpf_code_ended(w.code, (uint32_t)child);
    assert_int_equal(stats_of(&w).slots, 0);
    uint32_t after = 0;
    assert_int_equal(bpf_programs_slot_of(w.programs, child, &after), -ENOENT); // it has ended
    end(&w);
}

// A zombie has its number still, until its parent collects it.
static void who_has_ended_is_no_target(void **state)
{
    struct world w;
    siginfo_t info;
    uint32_t after = 0;
    (void)state;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    pid_t child = start_child(NULL);
    assert_false(perf_target_has_ended((uint32_t)child));
    assert_int_not_equal(tell(&w, child), 0);
    kill(child, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    assert_true(perf_target_has_ended((uint32_t)child));
    bpf_code_ended(w.code, (uint32_t)child);
    assert_int_equal(bpf_programs_slot_of(w.programs, child, &after), -ENOENT);
    assert_int_equal(stats_of(&w).slots, 0);
    end_child(child);
    end(&w);
}

static void many_mappings(void)
{
    char *base = mmap(NULL, (size_t)8000 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < 4000 && base != MAP_FAILED; i++)
        mprotect(base + i * 8192, 4096, PROT_READ | PROT_EXEC);
}

// They lie below the libraries, so a slot that was filled from below would have none of those.
static void code_with_tables_goes_before_other_code(void **state)
{
    struct world w;
    (void)state;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    pid_t child = start_child(many_mappings);
    uint32_t slot = tell(&w, child);
    struct perf_process *p = process(&w, child);
    assert_true(perf_process_map_count(p) > 4000);
    assert_int_equal(w.programs->slots[slot].count, BPF_SLOT_CHUNKS * BPF_CHUNK_MAPPINGS);
    assert_int_equal(stats_of(&w).no_slot, 1);
    for (size_t i = 0; i < perf_process_map_count(p); i++) {
        struct perf_map m;
        perf_process_map(p, i, &m);
        const struct bpf_mapping *found = mapping_at(w.programs, slot, m.start);
        if (m.file)
            assert_true(found && found->file != BPF_FILE_NONE);
    }
    end_child(child);
    end(&w);
}

static void chunks_run_out(void **state)
{
    struct world w;
    uint32_t told = 0, slots[140];
    (void)state;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    pid_t child = start_child(many_mappings);
    process(&w, child);
    for (uint32_t i = 0; i < 140; i++) { // each with 32 chunks
        struct perf_record r = {.type = PERF_RECORD_FORK, .time_ns = 2};
        r.task.pid = r.task.tid = NOBODY + i;
        r.task.parent_pid = r.task.parent_tid = (uint32_t)child;
        assert_int_equal(perf_code_fork(w.processes, &r), 0);
        slots[i] = tell(&w, (pid_t)(NOBODY + i));
        told += slots[i] != 0;
    }
    assert_int_equal(told, (BPF_CHUNKS - 1) / BPF_SLOT_CHUNKS);
    assert_int_equal(stats_of(&w).slots, told);
    for (uint32_t i = 0; i < 140; i++)
        bpf_code_ended(w.code, NOBODY + i);
    assert_int_equal(stats_of(&w).slots, 0);
    assert_int_not_equal(tell(&w, getpid()), 0);
    end_child(child);
    end(&w);
}

static void slots_run_out(void **state)
{
    struct world w;
    (void)state;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    for (int i = 1; i < BPF_SLOTS_MAX; i++)
        assert_int_not_equal(tell(&w, NOBODY + i), 0);
    assert_int_equal(stats_of(&w).no_slot, 0);
    assert_int_equal(tell(&w, getpid()), 0);
    assert_int_equal(stats_of(&w).no_slot, 1);
    bpf_code_ended(w.code, NOBODY + 77);
    uint32_t slot = tell(&w, getpid());
    assert_int_not_equal(slot, 0);
    check_slot(&w, getpid(), slot);
    end(&w);
}

static uint64_t bytes_needed(pid_t pid)
{
    struct world w;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    tell(&w, pid);
    uint64_t bytes = stats_of(&w).table_bytes;
    end(&w);
    return bytes;
}

static void a_process_too_large_has_what_fits(void **state)
{
    struct world w;
    (void)state;
    uint64_t all = bytes_needed(getpid());
    for (uint64_t bound = 0; bound < all; bound += all / 7 + 1) {
        begin(&w, bound);
        uint32_t slot = tell(&w, getpid());
        assert_int_equal(check_slot(&w, getpid(), slot) > 0, stats_of(&w).tables > 0);
        assert_true(stats_of(&w).no_room > 0);
        end(&w);
    }
}

static pid_t start_program(const char *path, const char *argument)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(path, path, argument, (char *)NULL);
        _exit(127);
    }
    char name[64], link[256] = "";
    snprintf(name, sizeof name, "/proc/%d/exe", (int)pid);
    for (int i = 0; i < 1000 && !strstr(link, "sleep"); i++) {
        usleep(5000);
        ssize_t n = readlink(name, link, sizeof link - 1);
        link[n > 0 ? n : 0] = '\0';
    }
    usleep(100000); // its libraries are mapped
    return pid;
}

// Of two processes together.
static struct bpf_code_stats needed_by(pid_t a, pid_t b)
{
    struct world w;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    tell(&w, a);
    tell(&w, b);
    struct bpf_code_stats s = stats_of(&w);
    end(&w);
    return s;
}

static uint32_t unknown_mappings(struct world *w, pid_t pid, uint32_t slot)
{
    struct perf_process *p = process(w, pid);
    uint32_t unknown = 0;
    for (size_t i = 0; i < perf_process_map_count(p); i++) {
        struct perf_map m;
        perf_process_map(p, i, &m);
        unknown += !mapping_at(w->programs, slot, m.start);
    }
    return unknown;
}

static void the_one_told_of_longest_makes_room(void **state)
{
    struct world w;
    (void)state;
    pid_t other = start_program("/bin/sleep", "100");
    struct bpf_code_stats mine = needed_by(getpid(), getpid()), both = needed_by(getpid(), other);
    begin(&w, mine.table_bytes);
    uint32_t slot = tell(&w, getpid());
    uint32_t with = check_slot(&w, getpid(), slot);
    uint32_t other_slot = tell(&w, other);
    check_slot(&w, other, other_slot);
    uint64_t evicted = stats_of(&w).evicted;
    assert_true(evicted > 0 && stats_of(&w).no_room == 0);
    // What the first one lost is unknown code, of which copies are sent, until it is told of again.
    assert_int_equal(unknown_mappings(&w, getpid(), slot), evicted);
    assert_int_equal(stats_of(&w).displaced, evicted);
    assert_int_equal(tell(&w, getpid()), slot);
    assert_int_equal(check_slot(&w, getpid(), slot), with);
    // And only what it does not need itself made room for it.
    assert_int_equal(stats_of(&w).evicted - evicted, both.tables - mine.tables);
    end_child(other);
    end(&w);
}

// The same program as another file.
static pid_t start_copy(const char *path)
{
    char command[512];
    snprintf(command, sizeof command, "cp /bin/sleep %s", path);
    assert_int_equal(system(command), 0);
    return start_program(path, "100");
}

static void tables_that_nobody_maps_go_first(void **state)
{
    struct world w;
    char path[128];
    (void)state;
    snprintf(path, sizeof path, "/tmp/fscope-test-sleep-%d", (int)getpid());
    pid_t other = start_program("/bin/sleep", "100"), copy = start_copy(path);
    begin(&w, needed_by(getpid(), other).table_bytes);
    uint32_t slot = tell(&w, getpid());
    uint32_t with = check_slot(&w, getpid(), slot);
    tell(&w, other); // later, so that only its end makes its tables the first to go
    bpf_code_ended(w.code, (uint32_t)other);
    uint32_t copy_slot = tell(&w, copy);
    assert_int_equal(stats_of(&w).evicted, 1);
    assert_true(check_slot(&w, copy, copy_slot) > 0);
    assert_int_equal(check_slot(&w, getpid(), slot), with);
    end_child(other);
    end_child(copy);
    unlink(path);
    end(&w);
}

static void tables_of_who_is_sampled_stay(void **state)
{
    struct world w;
    char path[128];
    (void)state;
    snprintf(path, sizeof path, "/tmp/fscope-test-sleep-%d", (int)getpid());
    pid_t other = start_program("/bin/sleep", "100"), copy = start_copy(path);
    begin(&w, needed_by(getpid(), other).table_bytes);
    uint32_t slot = tell(&w, getpid());
    uint32_t with = check_slot(&w, getpid(), slot), other_slot = tell(&w, other);
    bpf_code_touch(w.code, (uint32_t)getpid()); // told of earlier, but sampled
    tell(&w, copy);
    assert_int_equal(check_slot(&w, getpid(), slot), with);
    assert_int_equal(unknown_mappings(&w, other, other_slot), 1);
    end_child(other);
    end_child(copy);
    unlink(path);
    end(&w);
}

// --- Fibers. This program exports a descriptor, as one does that is linked with the runtime.

__attribute__((visibility("default"))) struct fib_descriptor fib_descriptor = {
    .magic = "FIBRT",
    .version = DESCRIPTOR_VERSION,
    .size = sizeof(struct fib_descriptor),
    .labels = 0x1234000,
    .tls_offset = -64,
    .label_set_size = 1024,
    .label_sets = 16,
    .g_id = 24,
    .g_fn = 32,
    .m_g0 = 256,
    .live_name = 48,
};

static void a_runtime_that_starts_late_is_found(void **state)
{
    struct world w;
    (void)state;
    begin(&w, BPF_CODE_BYTES_DEFAULT);
    uint32_t slot = tell(&w, getpid());
    const struct bpf_fibers *f = &w.programs->slots[slot].fibers;
    assert_int_equal(f->is_there, 0);
    assert_null(bpf_code_fibers(w.code, (uint32_t)getpid()));
    fib_descriptor.version++;
    fib_descriptor.is_ready = 1;
    bpf_code_look_again(w.code);
    assert_int_equal(f->is_there, 0); // of another version
    fib_descriptor.version--;
    bpf_code_look_again(w.code);
    assert_int_equal(f->is_there, 1);
    assert_true(f->labels == 0x1234000 && f->tls_offset == -64 && f->m_g0 == 256 && f->g_id == 24 &&
                f->g_fn == 32 && f->live_name == 48 && f->label_sets == 16);
    assert_int_equal(bpf_code_fibers(w.code, (uint32_t)getpid())->label_set_size, 1024);
    bpf_code_ended(w.code, (uint32_t)getpid());
    assert_int_equal(f->is_there, 0);
    fib_descriptor.is_ready = 0;
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_pc_has_its_row),
        cmocka_unit_test(an_estimate_is_what_it_takes),
        cmocka_unit_test(slot_zero_has_no_mappings),
        cmocka_unit_test(what_is_mapped_later_is_told_of),
        cmocka_unit_test(a_child_shares_until_it_maps),
        cmocka_unit_test(who_has_ended_is_no_target),
        cmocka_unit_test(code_with_tables_goes_before_other_code),
        cmocka_unit_test(chunks_run_out),
        cmocka_unit_test(slots_run_out),
        cmocka_unit_test(a_process_too_large_has_what_fits),
        cmocka_unit_test(the_one_told_of_longest_makes_room),
        cmocka_unit_test(tables_that_nobody_maps_go_first),
        cmocka_unit_test(tables_of_who_is_sampled_stay),
        cmocka_unit_test(a_runtime_that_starts_late_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
