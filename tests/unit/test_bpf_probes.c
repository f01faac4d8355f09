// SPDX-License-Identifier: MIT
//
// What must hold of malloc's uprobes where the table of live allocations is full: what finds no room is counted, and what is
// freed later is not found; and no probe is left when they are stopped.

#include "collector/bpf/programs.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/skip.h"

enum { ROOM = 8, BLOCKS = 20 };

static void *volatile blocks[BLOCKS];

// Allocates when told to, says so, and frees when told to.
static void child_main(int from, int to)
{
    char c = 0;
    (void)!read(from, &c, 1);
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(100);
    (void)!write(to, &c, 1);
    (void)!read(from, &c, 1);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    (void)!write(to, &c, 1);
    (void)!read(from, &c, 1);
    _exit(0);
}

static int on_record(void *arg, const struct bpf_head *head)
{
    (void)arg, (void)head;
    return 0;
}

struct counts {
    uint64_t objects, bytes;
};

static int on_sum(void *arg, uint64_t key, const struct bpf_sum *sum)
{
    struct counts *c = arg;
    (void)key;
    c->objects += sum->count;
    c->bytes += sum->ns;
    return 0;
}

static struct counts take(struct bpf_programs *p)
{
    struct counts c = {0};
    assert_int_equal(bpf_programs_sums(p, on_record, on_sum, &c), 0);
    return c;
}

static void step(int to, int from)
{
    char c = 1;
    assert_int_equal(write(to, &c, 1), 1);
    assert_int_equal(read(from, &c, 1), 1);
}

static void a_full_table_is_counted(void **state)
{
    (void)state;
    int there[2], back[2];
    struct fscope_error err = {0};
    struct bpf_losses losses;
    static struct probe_files files;
    if (geteuid() != 0)
        SKIP_CASE("loading BPF programs needs root");
    assert_int_equal(pipe(there) | pipe(back), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        child_main(there[0], back[1]);
    assert_int_equal(probe_files_of_process(&files, (uint32_t)child, bpf_site_names), 0);
    assert_non_null(probe_files_malloc(&files));
    struct bpf_programs_options o = {
        .size = sizeof o,
        .config = {.filter = BPF_FILTER_TARGETS, .heap_bytes = 1, .stack_copy = 512},
        .malloc = true,
        .files = &files,
        .uprobes_pid = child,
        .lives_max = ROOM,
    };
    struct bpf_programs *p;
    assert_int_equal(bpf_programs_new(&p, &o, &err), 0);
    assert_int_equal(bpf_programs_target(p, child, 0), 0);
    assert_int_equal(bpf_programs_start(p, &err), 0);
    step(there[1], back[0]);
    bpf_programs_losses(p, &losses);
    assert_int_equal(losses.lives, BLOCKS - ROOM);
    struct counts c = take(p); // allocated, and those without room freed at once
    assert_int_equal(c.objects, BLOCKS + BLOCKS - ROOM);
    assert_int_equal(c.bytes, 100 * (BLOCKS + BLOCKS - ROOM));
    step(there[1], back[0]);
    assert_int_equal(take(p).objects, ROOM);
    bpf_programs_stop(p);
    bpf_programs_free(p);
    probe_files_free(&files);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_full_table_is_counted)};
    return skip_status(cmocka_run_group_tests(tests, NULL, NULL));
}
