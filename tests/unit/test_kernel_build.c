// SPDX-License-Identifier: MIT
//
// Whatever records come, in whatever order, and whatever is lost between them: each file that the kernel trace makes of
// them is one that our reader takes, nothing is left out of it, and what is certain is in it.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "collector/bpf/kernel_build.h"
#include "formats/trace/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CPUS = 4, THREADS = 12, RECORDS = 20000, SEEDS = 30, FILES_MAX = 64 };
#define MS UINT64_C(1000000)

static struct files {
    int fds[FILES_MAX];
    struct kernel_build_file files[FILES_MAX];
    uint32_t count;
} made;

static int open_file(void *arg, uint32_t number, struct fscope_error *err)
{
    (void)arg, (void)err;
    assert_in_range(number, 1, FILES_MAX);
    return made.fds[made.count] = memfd_create("trace", MFD_CLOEXEC);
}

static void close_file(void *arg, const struct kernel_build_file *f, int rc)
{
    (void)arg;
    assert_int_equal(rc, 0);
    if (f->why[0])
        fail_msg("refused: %s", f->why);
    made.files[made.count++] = *f;
}

static struct kernel_build *begin(void)
{
    struct kernel_build *b;
    const struct kernel_build_options o = {
        .size = sizeof o, .cpu_count = CPUS, .open_file = open_file, .close_file = close_file};
    made.count = 0;
    assert_int_equal(kernel_build_new(&b, &o), 0);
    return b;
}

static struct counts {
    uint64_t starts, creates, destroys, blocks, calls, notes;
    int64_t running_ns; // of goroutine 1, in calls or not
} counts;

// All of the files, read.
static void read_all(void)
{
    memset(&counts, 0, sizeof counts);
    for (uint32_t i = 0; i < made.count; i++) {
        struct trace_reader *r;
        const struct trace_event *ev;
        struct fscope_error err = {0};
        uint32_t notes = 0;
        int64_t since = 0;
        int rc;
        lseek(made.fds[i], 0, SEEK_SET);
        if (made.files[i].generations) {
            assert_int_equal(trace_reader_open_fd(&r, made.fds[i], NULL, &err), 0);
            while ((rc = trace_reader_next(r, &ev)) > 0) {
                counts.starts += ev->wire == TRACE_EV_GO_START;
                counts.creates += ev->wire == TRACE_EV_GO_CREATE;
                counts.destroys += ev->wire == TRACE_EV_GO_DESTROY;
                counts.blocks += ev->wire == TRACE_EV_GO_BLOCK;
                counts.calls += ev->wire == TRACE_EV_GO_SYSCALL_BEGIN;
                if (ev->kind != TRACE_TRANSITION || ev->what != TRACE_RESOURCE_GOROUTINE ||
                    ev->transition.id != 1)
                    continue;
                bool is_on =
                    ev->transition.to == TRACE_GO_RUNNING || ev->transition.to == TRACE_GO_SYSCALL;
                if (since && !is_on)
                    counts.running_ns += ev->time_ns - since;
                since = !is_on ? 0 : since ? since : ev->time_ns;
            }
            if (rc)
                fail_msg("%s", trace_reader_error(r)->text);
            trace_reader_notes(r, &notes);
            counts.notes += notes;
            trace_reader_close(r);
        }
        close(made.fds[i]);
    }
}

static void push(struct kernel_build *b, struct kernel_record r)
{
    assert_int_equal(kernel_build_push(b, &r), 0);
}

static void add(struct kernel_build *b, uint32_t tid, char state, uint32_t cpu)
{
    const struct kernel_build_thread t = {tid, 1, cpu, state, "thread"};
    assert_int_equal(kernel_build_add(b, &t), 0);
}

// --- Cases.

static void random_records_make_valid_traces(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        struct kernel_build *b = begin();
        uint64_t now = 1000 * MS;
        srand(seed);
        for (uint32_t tid = 1; tid <= 4; tid++)
            add(b, tid, "RSDR"[tid - 1], tid % CPUS);
        for (int i = 0; i < RECORDS; i++) {
            now += (uint64_t)(rand() % 2000) * (rand() % 1000 ? 100 : 40 * MS / 2000);
            push(b, (struct kernel_record){
                        .time_ns = now - (uint64_t)(rand() % 3000),
                        .type = (uint16_t)(1 + rand() % 9),
                        .flags = (uint16_t)(rand() % 64),
                        .cpu = (uint32_t)(rand() % CPUS),
                        .tid = (uint32_t)(rand() % THREADS),
                        .pid = 1,
                        .other = (uint32_t)(rand() % THREADS),
                        .other_pid = 1,
                        .value = (uint64_t)(rand() % 400),
                        .comm = "name",
                    });
            if (i % 500 == 499)
                assert_int_equal(kernel_build_flush(b, now - 100000), 0);
            if (i % 7000 == 6999) {
                assert_int_equal(kernel_build_cut(b, now - 50000, now, 3), 0);
                add(b, 3, 'S', 0);
            }
        }
        assert_int_equal(kernel_build_finish(b, now + MS), 0);
        kernel_build_free(b);
        read_all();
        assert_true(counts.starts > 1000 && counts.notes >= 2);
    }
}

static struct kernel_record switch_to(uint64_t ns, uint32_t from, uint32_t to, uint16_t flags)
{
    return (struct kernel_record){.time_ns = ns,
                                  .type = KERNEL_SWITCH,
                                  .flags = flags | KERNEL_WATCHED | KERNEL_OTHER_WATCHED,
                                  .tid = from,
                                  .pid = 1,
                                  .other = to,
                                  .other_pid = 1,
                                  .comm = "one"};
}

static void times_and_counts_are_the_records(void **state)
{
    (void)state;
    struct kernel_build *b = begin();
    add(b, 1, 'S', 0);
    for (uint64_t i = 1; i <= 100; i++) { // 1 ms of each 10, a call in each; more than a generation
        uint64_t t = i * 30 * MS;
        push(b, (struct kernel_record){.time_ns = t - MS,
                                       .type = KERNEL_WAKE,
                                       .flags = KERNEL_WATCHED,
                                       .tid = 1,
                                       .pid = 1});
        push(b, switch_to(t, 0, 1, 0));
        push(b, (struct kernel_record){.time_ns = t + MS / 2,
                                       .type = KERNEL_SYSCALL,
                                       .flags = KERNEL_WATCHED,
                                       .tid = 1,
                                       .pid = 1,
                                       .value = 35});
        push(b, switch_to(t + MS, 1, 0, 0));
    }
    assert_int_equal(kernel_build_finish(b, 4000 * MS), 0);
    kernel_build_free(b);
    read_all();
    assert_int_equal(made.count, 1);
    assert_true(made.files[0].generations >= 3);
    assert_int_equal(made.files[0].repairs, 0);
    assert_int_equal(counts.starts, 100);
    assert_int_equal(counts.blocks, 100);
    assert_int_equal(counts.calls, 199); // it comes back into the one that it slept in
    assert_in_range(counts.running_ns, 99900000, 100100000);
}

// Two cuts with no file between them are one gap: it begins where the file ended, and nothing lost goes uncounted.
static void cuts_in_a_row_are_one(void **state)
{
    (void)state;
    struct kernel_build *b = begin();
    add(b, 1, 'S', 0);
    push(b, switch_to(10 * MS, 0, 1, 0));
    push(b, switch_to(11 * MS, 1, 0, 0));
    assert_int_equal(kernel_build_cut(b, 12 * MS, 20 * MS, 3), 0);
    assert_int_equal(kernel_build_cut(b, 21 * MS, 30 * MS, 4), 0);
    add(b, 1, 'S', 0);
    push(b, switch_to(25 * MS, 0, 1, 0)); // in the gap
    push(b, switch_to(40 * MS, 0, 1, 0));
    push(b, switch_to(41 * MS, 1, 0, 0));
    assert_int_equal(kernel_build_finish(b, 50 * MS), 0);
    kernel_build_free(b);
    read_all();
    assert_int_equal(made.count, 2);
    assert_int_equal(made.files[0].lost, 3);
    assert_int_equal(made.files[0].end_ns, 12 * MS);
    assert_int_equal(made.files[1].gap_from_ns, 12 * MS);
    assert_int_equal(made.files[1].gap_lost, 4);
    assert_int_equal(made.files[1].start_ns, 40 * MS);
    assert_int_equal(made.files[1].end_ns, 50 * MS);
}

static void who_is_silent_for_long_comes_again(void **state)
{
    (void)state;
    struct kernel_build *b = begin();
    add(b, 1, 'S', 0);
    uint64_t t = 1000 * MS;
    for (int i = 0; i < 15;
         i++, t += 1100 * MS) { // thread 2, whom nobody watches, in the first, third and last
        bool is_two = i == 0 || i == 2 || i == 14;
        push(b, (struct kernel_record){.time_ns = t, .type = KERNEL_WAKE, .tid = 1, .pid = 1});
        if (is_two)
            push(b, (struct kernel_record){.time_ns = t + 1,
                                           .type = KERNEL_IN_VIEW,
                                           .other = 2,
                                           .other_pid = 2,
                                           .comm = "two"});
        push(b, (struct kernel_record){.time_ns = t + MS,
                                       .type = KERNEL_SWITCH,
                                       .flags = KERNEL_OTHER_WATCHED,
                                       .tid = is_two ? 2 : 0,
                                       .pid = 2,
                                       .other = 1,
                                       .other_pid = 1,
                                       .comm = "one"});
        push(b, switch_to(t + 2 * MS, 1, 0, 0));
    }
    assert_int_equal(kernel_build_finish(b, t), 0);
    kernel_build_free(b);
    read_all();
    assert_int_equal(made.count, 1);
    assert_int_equal(counts.starts, 15 + 3);
    assert_int_equal(counts.creates, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_records_make_valid_traces),
        cmocka_unit_test(times_and_counts_are_the_records),
        cmocka_unit_test(cuts_in_a_row_are_one),
        cmocka_unit_test(who_is_silent_for_long_comes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
