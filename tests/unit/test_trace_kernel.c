// SPDX-License-Identifier: MIT
//
// What a kernel trace says of threads' time, and how long those that could run waited: traces and records written by hand,
// whose truth is known by construction.

#include "tests/unit/written_trace.h"

#include "analysis/trace/kernel.h"
#include "analysis/trace/latency.h"
#include "collector/bpf/kernel_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
enum { CALL_PREAD64 = 17, OTHER = 2 }; // x86-64's; arm64's 17 (getcwd) has a name as well

static struct trace_latency *latency_of(struct trace_reader *r, int64_t from_ns, int64_t to_ns)
{
    struct trace_latency *l;
    const struct trace_event *ev;
    assert_int_equal(trace_latency_new(&l, from_ns, to_ns), 0);
    while (trace_reader_next(r, &ev) > 0)
        assert_int_equal(trace_latency_event(l, r, ev), 0);
    assert_int_equal(trace_latency_file_end(l), 0);
    trace_latency_finish(l);
    trace_reader_close(r);
    return l;
}

static struct trace_kernel *kernel_of(struct trace_reader *r)
{
    struct trace_kernel *k;
    const struct trace_event *ev;
    assert_int_equal(trace_kernel_new(&k), 0);
    while (trace_reader_next(r, &ev) > 0)
        assert_int_equal(trace_kernel_event(k, r, ev), 0);
    assert_int_equal(trace_kernel_file_end(k), 0);
    trace_reader_close(r);
    return k;
}

static int64_t quantile(const struct trace_latency_waits *w, double q)
{
    bool is_exact;
    int64_t ns = trace_latency_quantile_ns(w, q, &is_exact);
    assert_true(is_exact);
    return ns;
}

// --- Latency.

static void waits_are_those_of_the_trace(void **state)
{
    (void)state;
    struct written m;
    written_begin(&m);
    written_relay(&m); // main waits 500; worker 500 and 200; main is runnable again at the end
    struct trace_latency *l = latency_of(written_end(&m), 0, 0);
    assert_false(l->is_kernel);
    assert_int_equal(l->whole.hist.count, 3);
    assert_int_equal(l->whole.hist.sum_ns, 1200);
    assert_int_equal(l->woken.hist.count, 3);
    assert_int_equal(quantile(&l->whole, 0), 200);
    assert_int_equal(quantile(&l->whole, 0.5), 500);
    assert_int_equal(l->open, 1);
    assert_int_equal(l->row_count, 2);
    assert_string_equal(trace_names_text(&l->names, l->rows[0]->name), "worker");
    assert_int_equal(l->rows[0]->waits.hist.count, 2);
    assert_int_equal(l->rows[0]->members, 1);
    assert_int_equal(l->rows[1]->waits.hist.max_ns, 500);
    assert_int_equal(l->process_count, 0);
    trace_latency_free(l);
    l = latency_of(written_end(&m), 3500, 6000); // the second of worker ends in between
    assert_int_equal(l->whole.hist.count, 1);
    assert_int_equal(l->whole.hist.max_ns, 200);
    assert_int_equal(l->open, 1); // main's, which is woken at 6000
    trace_latency_free(l);
    written_free(&m);
}

// --- Records of the kernel.

static int made = -1;

static int open_file(void *arg, uint32_t number, struct fscope_error *err)
{
    (void)arg, (void)err;
    assert_int_equal(number, 1);
    return made = memfd_create("trace", MFD_CLOEXEC);
}

static void close_file(void *arg, const struct kernel_build_file *f, int rc)
{
    (void)arg;
    assert_int_equal(rc, 0);
    assert_string_equal(f->why, "");
}

static void push(struct kernel_build *b, uint64_t ms, uint16_t type, uint16_t flags, uint32_t tid,
                 uint32_t other)
{
    struct kernel_record r = {.time_ns = ms * MS,
                              .type = type,
                              .flags = flags,
                              .tid = tid,
                              .pid = tid == OTHER ? 9 : 1,
                              .other = other,
                              .other_pid = other == OTHER ? 9 : 1,
                              .value = type == KERNEL_SYSCALL ? CALL_PREAD64 : 0,
                              .comm = "reader"};
    assert_int_equal(kernel_build_push(b, &r), 0);
}

// Thread 1 waits 3 ms after its wakeup, reads, sleeps in that until a disk has done, waits 2 ms, in which thread 2, which nobody
// watches, comes into view; is preempted by that and waits 7 ms.
static struct trace_reader *read_of_disk(void)
{
    const struct kernel_build_thread one = {1, 1, 0, 'S', "reader"};
    const struct kernel_build_options o = {
        .size = sizeof o, .cpu_count = 1, .open_file = open_file, .close_file = close_file};
    struct kernel_build *b;
    struct trace_reader *r;
    struct fscope_error err = {0};
    assert_int_equal(kernel_build_new(&b, &o), 0);
    assert_int_equal(kernel_build_add(b, &one), 0);
    push(b, 10, KERNEL_WAKE, KERNEL_WATCHED, 1, 0);
    push(b, 13, KERNEL_SWITCH, KERNEL_OTHER_WATCHED, 0, 1);
    push(b, 14, KERNEL_SYSCALL, KERNEL_WATCHED, 1, 0);
    push(b, 15, KERNEL_SWITCH, KERNEL_WATCHED, 1, 0);
    push(b, 20, KERNEL_WAKE, KERNEL_WATCHED | KERNEL_BY_DISK, 1, 0);
    push(b, 20, KERNEL_IN_VIEW, 0, 0, OTHER);
    push(b, 22, KERNEL_SWITCH, KERNEL_OTHER_WATCHED, OTHER, 1);
    push(b, 23, KERNEL_SYSCALL_END, KERNEL_WATCHED, 1, 0);
    push(b, 24, KERNEL_SWITCH, KERNEL_WATCHED | KERNEL_RUNNABLE, 1, OTHER);
    push(b, 31, KERNEL_SWITCH, KERNEL_OTHER_WATCHED, OTHER, 1);
    push(b, 32, KERNEL_SWITCH, KERNEL_WATCHED, 1, 0);
    assert_int_equal(kernel_build_finish(b, 40 * MS), 0);
    kernel_build_free(b);
    lseek(made, 0, SEEK_SET);
    if (trace_reader_open_fd(&r, made, NULL, &err))
        fail_msg("%s", err.text);
    return r;
}

static bool is_near(int64_t ns, uint64_t ms) // two events of one moment are 1 ns apart
{
    return llabs(ns - (int64_t)(ms * MS)) <= 16;
}

static void run_queue_waits_are_those_of_watched_threads(void **state)
{
    (void)state;
    struct trace_latency *l = latency_of(read_of_disk(), 0, 0);
    close(made);
    assert_true(l->is_kernel);
    assert_int_equal(l->whole.hist.count, 3);
    assert_true(is_near(l->whole.hist.sum_ns, 12) && is_near(l->whole.hist.max_ns, 7));
    assert_int_equal(l->woken.hist.count, 2);
    assert_true(is_near(l->woken.hist.max_ns, 3) && is_near(l->taken_off.hist.max_ns, 7));
    assert_int_equal(l->row_count, 1);
    assert_int_equal(l->process_count, 1);
    assert_string_equal(trace_names_text(&l->names, l->rows[0]->name), "reader");
    assert_string_equal(trace_names_text(&l->names, l->rows[0]->process), "process 1");
    assert_int_equal(l->open, 0);
    trace_latency_free(l);
}

static void a_sleep_has_what_ended_it(void **state)
{
    (void)state;
    struct trace_kernel *k = kernel_of(read_of_disk());
    close(made);
    const struct trace_kernel_thread *t = trace_kernel_thread(k, 1);
    assert_non_null(t);
    int sleeps = 0;
    for (size_t i = 0; i < t->count; i++) {
        const struct trace_kernel_piece *p = &t->pieces[i];
        if (p->kind != TRACE_PIECE_WAIT || !is_near(p->end_ns - p->begin_ns, 5))
            continue;
        sleeps++;
        assert_non_null(strstr(trace_kernel_name(k, p->by), " (disk)"));
    }
    assert_int_equal(sleeps, 1);
    trace_kernel_free(k);
}

// Two threads with one number at one time, and one that is heard of again after its end: no kernel says that, a file may.
static void pieces_are_in_order_whatever_a_file_says(void **state)
{
    (void)state;
    struct written m;
    written_begin(&m);
    uint64_t where = written_stack(&m, "read", "worker"), twin = UINT64_C(1) << 32 | 2;
    written_say(&m, 1, TRACE_EV_GO_STATUS_STACK, 1100, twin, UINT64_MAX, TRACE_GO_STATUS_WAITING,
                where);
    written_relay(&m);
    struct trace_kernel *k = kernel_of(written_end(&m));
    const struct trace_kernel_thread *t = trace_kernel_thread(k, 2);
    assert_non_null(t);
    assert_true(t->count >= 3);
    for (size_t i = 0; i < t->count; i++) {
        assert_true(t->pieces[i].begin_ns < t->pieces[i].end_ns);
        assert_true(!i || t->pieces[i - 1].end_ns <= t->pieces[i].begin_ns);
    }
    assert_true(trace_kernel_taken(t, 1000, 8000) <= 7000);
    trace_kernel_free(k);
    written_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_are_those_of_the_trace),
        cmocka_unit_test(run_queue_waits_are_those_of_watched_threads),
        cmocka_unit_test(a_sleep_has_what_ended_it),
        cmocka_unit_test(pieces_are_in_order_whatever_a_file_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
