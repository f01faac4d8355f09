// SPDX-License-Identifier: MIT
//
// Whom explain blames, on traces written by hand: of one slow job of main's, who held the lock from when to when, who had
// the Proc, what was not on a CPU, and what a kernel trace says of its running time.

#include "analysis/trace/explain.h"
#include "tests/unit/written_trace.h"

#include <errno.h>
#include <string.h>

enum { OTHER = 3 };

// Ten jobs of 100 ns, each with a sample in it, and a third fiber that waits. Returns the time after it.
static uint64_t begin(struct written *m)
{
    uint64_t at = 10000, usual = written_stack(m, "usual", "main");
    written_say(m, 1, TRACE_EV_GO_STATUS_STACK, WRITTEN_START_NS, OTHER, UINT64_MAX,
                TRACE_GO_STATUS_WAITING, written_stack(m, "wait", "other"));
    for (int i = 0; i < 10; i++, at += 200) {
        written_say(m, 0, TRACE_EV_REGION_BEGIN, at, 0, written_text(m, "job"), usual, 0);
        written_say(m, 0, TRACE_EV_REGION_END, at + 100, 0, written_text(m, "job"), usual, 0);
        assert_int_equal(trace_writer_cpu_sample(m->w, at + 50, 10, 0, 1, usual), 0);
    }
    return at;
}

static void job_begins(struct written *m, uint64_t at)
{
    written_say(m, 0, TRACE_EV_REGION_BEGIN, at, 0, written_text(m, "job"),
                written_stack(m, "slow", "main"), 0);
}

static void job_ends(struct written *m, uint64_t at)
{
    written_say(m, 0, TRACE_EV_REGION_END, at, 0, written_text(m, "job"),
                written_stack(m, "slow", "main"), 0);
}

static void wakes_and_runs(struct written *m, uint64_t at, uint64_t fiber)
{
    written_wake(m, 1, at, fiber, 0);
    written_start(m, 1, at, fiber);
}

static struct trace_explained explain_by(const struct trace_spans *s, const struct trace_kernel *k)
{
    const struct trace_explain_options o = {.name = "job", .quantile = 0.95, .kernel = k};
    struct trace_explained e;
    assert_int_equal(trace_explain(s, &o, &e), 0);
    assert_int_equal(e.instances, 11);
    assert_int_equal(e.slow, 1);
    double slow = 0;
    for (uint32_t i = 0; i < e.piece_count; i++)
        slow += e.pieces[i].slow_ns;
    assert_true(slow > e.slow_mean_ns - 0.001 && slow < e.slow_mean_ns + 0.001);
    return e;
}

static struct trace_explained explain(const struct trace_spans *s)
{
    return explain_by(s, NULL);
}

static const char *leaf(const struct trace_spans *s, uint32_t stack)
{
    const struct trace_stack *x = trace_stacks_get(&s->stacks, stack);
    return x->count ? trace_names_text(&s->names, x->frames[0].function) : "";
}

// The time of the pieces of a part that are this fiber's, all with this leaf.
static double blamed(const struct trace_spans *s, const struct trace_explained *e,
                     enum trace_part part, const char *fiber, const char *at)
{
    double ns = 0;
    for (uint32_t i = 0; i < e->piece_count; i++) {
        const struct trace_piece *p = &e->pieces[i];
        if (p->part != part || strcmp(trace_names_text(&s->names, p->holder), fiber) != 0)
            continue;
        assert_string_equal(leaf(s, p->holder_stack), at);
        ns += p->slow_ns;
    }
    return ns;
}

static void a_queue_is_divided_among_those_before(void **state)
{
    (void)state;
    struct written m;
    written_begin(&m);
    uint64_t at = begin(&m), lock = written_stack(&m, "lock", "main");
    wakes_and_runs(&m, at, OTHER); // stands in the queue first
    written_block(&m, 1, at + 100, "sync", written_stack(&m, "lock", "other"));
    job_begins(&m, at + 150);
    written_block(&m, 0, at + 200, "sync", lock);
    wakes_and_runs(&m, at + 4000, 2); // the worker has had the lock all the time
    written_wake(&m, 1, at + 5000, OTHER, written_stack(&m, "unlock", "worker"));
    written_block(&m, 1, at + 5100, "sleep", lock);
    written_start(&m, 1, at + 5200, OTHER);
    written_wake(&m, 1, at + 6000, 1, written_stack(&m, "release", "other"));
    written_start(&m, 0, at + 6500, 1);
    job_ends(&m, at + 7000);
    struct trace_spans *s = written_spans(&m, NULL);
    struct trace_explained e = explain(s);
    assert_true(blamed(s, &e, TRACE_PART_LOCK, "worker", "unlock") == 4800);
    assert_true(blamed(s, &e, TRACE_PART_LOCK, "other", "release") == 1000);
    assert_true(blamed(s, &e, TRACE_PART_RUNNABLE, "", "") == 500);
    trace_explained_finish(&e);
    trace_spans_free(s);
    written_free(&m);
}

static void a_holder_may_wait_for_another_lock(void **state)
{
    (void)state;
    struct written m;
    written_begin(&m);
    uint64_t at = begin(&m);
    wakes_and_runs(&m, at, OTHER); // has the lock
    job_begins(&m, at);
    written_block(&m, 0, at + 100, "sync", written_stack(&m, "lock", "main"));
    written_block(&m, 1, at + 2100, "sync", written_stack(&m, "second", "other"));
    wakes_and_runs(&m, at + 2200, 2);
    written_wake(&m, 1, at + 5100, OTHER, written_stack(&m, "unlock", "worker"));
    written_block(&m, 1, at + 5200, "sleep", written_stack(&m, "rest", "worker"));
    written_start(&m, 1, at + 5300, OTHER);
    written_wake(&m, 1, at + 7100, 1, written_stack(&m, "release", "other"));
    written_start(&m, 0, at + 7100, 1);
    job_ends(&m, at + 7200);
    struct trace_spans *s = written_spans(&m, NULL);
    struct trace_explained e = explain(s);
    assert_true(blamed(s, &e, TRACE_PART_LOCK, "worker", "unlock") == 3000);
    assert_true(blamed(s, &e, TRACE_PART_LOCK, "other", "release") == 2000 + 2000);
    trace_explained_finish(&e);
    trace_spans_free(s);
    written_free(&m);
}

static void who_had_the_proc_is_named(void **state)
{
    (void)state;
    struct written m;
    written_begin(&m);
    uint64_t at = begin(&m), spin = written_stack(&m, "spin", "worker");
    job_begins(&m, at);
    written_say(&m, 0, TRACE_EV_GO_STOP, at + 100, written_text(&m, "preempted"),
                written_stack(&m, "slow", "main"), 0, 0);
    written_wake(&m, 0, at + 1000, 2, 0);
    written_start(&m, 0, at + 1100, 2);
    assert_int_equal(trace_writer_cpu_sample(m.w, at + 3000, 10, 0, 2, spin), 0);
    written_block(&m, 0, at + 5100, "sleep", written_stack(&m, "rest", "worker"));
    written_start(&m, 0, at + 5600, 1);
    job_ends(&m, at + 5700);
    struct trace_spans *s = written_spans(&m, NULL);
    struct trace_explained e = explain(s);
    assert_true(blamed(s, &e, TRACE_PART_RUNNABLE, "worker", "spin") == 4000);
    assert_true(blamed(s, &e, TRACE_PART_RUNNABLE, "", "") == 1000 + 500);
    trace_explained_finish(&e);
    trace_spans_free(s);
    written_free(&m);
}

static void what_was_off_the_cpu_is_not_a_functions(void **state)
{
    (void)state;
    struct written m;
    written_begin(&m);
    uint64_t at = begin(&m); // a sample for 100 ns of running
    job_begins(&m, at);
    assert_int_equal(
        trace_writer_cpu_sample(m.w, at + 20, 10, 0, 1, written_stack(&m, "slow", "main")), 0);
    written_block(&m, 0, at + 9000, "sleep", written_stack(&m, "nap", "main"));
    written_wake(&m, 1, at + 9000, 1, 0);
    written_start(&m, 0, at + 9000, 1);
    job_ends(&m, at + 9050);
    struct trace_spans *s = written_spans(&m, NULL);
    struct trace_explained e = explain(s);
    assert_true(e.pieces[0].off_cpu && e.pieces[0].part == TRACE_PART_RUNNING);
    assert_true(e.pieces[0].slow_ns == 9000 - 100); // the sample stands for a period
    assert_string_equal(leaf(s, e.pieces[0].stack), "nap");
    trace_explained_finish(&e);
    trace_spans_free(s);
    written_free(&m);
}

// --- With a kernel trace.

enum { THREAD = 10, BURSTS = 20 }; // Proc 0's thread, and another process

static void calls(struct written *k, uint64_t from, uint64_t to, uint64_t seq, const char *what)
{
    written_say(k, 0, TRACE_EV_GO_SYSCALL_BEGIN, from, seq, written_stack(k, what, "thread"), 0, 0);
    written_say(k, 0, TRACE_EV_GO_SYSCALL_END, to, 0, 0, 0, 0);
}

// Of the job from `at` to at + 9000: bursts has the CPU for 2000, getppid takes 500, a page fault 300, nanosleep 100 and
// sleeps 1000.
static void write_kernel(struct written *k, uint64_t at)
{
    uint64_t thread = written_stack(k, "run", "thread"), bursts = written_stack(k, "run", "bursts");
    written_say(k, 1, TRACE_EV_GO_STATUS_STACK, WRITTEN_START_NS, THREAD, UINT64_MAX,
                TRACE_GO_STATUS_WAITING, thread);
    written_say(k, 1, TRACE_EV_GO_STATUS_STACK, WRITTEN_START_NS, BURSTS, UINT64_MAX,
                TRACE_GO_STATUS_WAITING, bursts);
    written_block(k, 0, 1500, "sleep", thread);
    written_wake(k, 1, 1500, THREAD, 0);
    written_start(k, 0, 1600, THREAD);
    written_say(k, 0, TRACE_EV_GO_STOP, at + 1000, written_text(k, "preempted"), thread, 0, 0);
    written_wake(k, 1, at + 1000, BURSTS, 0);
    written_start(k, 0, at + 1000, BURSTS);
    written_block(k, 0, at + 3000, "system goroutine wait", bursts);
    written_start(k, 0, at + 3000, THREAD);
    calls(k, at + 4000, at + 4500, 1, "getppid");
    calls(k, at + 5000, at + 5300, 2, "page fault");
    calls(k, at + 6000, at + 6100, 3, "nanosleep");
    written_block(k, 0, at + 6100, "sleep", written_stack(k, "nanosleep", "thread"));
    written_wake(k, 1, at + 7100, THREAD, 0);
    written_start(k, 0, at + 7100, THREAD);
    written_block(k, 0, at + 20000, "sleep", thread);
}

static struct trace_kernel *read_kernel(struct written *m)
{
    const struct trace_event *ev;
    struct trace_kernel *k;
    assert_int_equal(trace_kernel_new(&k), 0);
    struct trace_reader *r = written_end(m);
    while (trace_reader_next(r, &ev) > 0)
        assert_int_equal(trace_kernel_event(k, r, ev), 0);
    assert_int_equal(trace_kernel_file_end(k), 0);
    trace_reader_close(r);
    return k;
}

static double taken(const struct trace_explained *e, const struct trace_kernel *k, unsigned kind,
                    const char *by)
{
    double ns = 0;
    for (uint32_t i = 0; i < e->piece_count; i++) {
        const struct trace_piece *p = &e->pieces[i];
        if (p->kernel == kind + 1 && !strcmp(trace_kernel_name(k, p->by), by))
            ns += p->slow_ns;
    }
    return ns;
}

// The writer has no two events of one moment: they are 1 ns apart.
static void assert_about(double ns, double known)
{
    assert_true(ns > known - 8 && ns < known + 8);
}

static double computing(const struct trace_explained *e)
{
    double ns = 0;
    for (uint32_t i = 0; i < e->piece_count; i++)
        ns += e->pieces[i].kernel || e->pieces[i].part != TRACE_PART_RUNNING ? 0
                                                                             : e->pieces[i].slow_ns;
    return ns;
}

static void what_the_kernel_took_is_not_the_programs(void **state)
{
    (void)state;
    struct written m, kernel;
    written_begin(&m);
    uint64_t at = begin(&m);
    job_begins(&m, at);
    assert_int_equal(
        trace_writer_cpu_sample(m.w, at + 20, 10, 0, 1, written_stack(&m, "slow", "main")), 0);
    job_ends(&m, at + 9000);
    struct trace_spans *s = written_spans(&m, NULL);
    written_begin(&kernel);
    write_kernel(&kernel, at);
    struct trace_kernel *k = read_kernel(&kernel);
    struct trace_explained e = explain_by(s, k); // all pieces add up to the whole
    assert_about(taken(&e, k, TRACE_PIECE_DESCHEDULED, "bursts"), 2000);
    assert_about(taken(&e, k, TRACE_PIECE_SYSCALL, "getppid"), 500);
    assert_about(taken(&e, k, TRACE_PIECE_SYSCALL, "nanosleep"), 100);
    assert_about(taken(&e, k, TRACE_PIECE_FAULT, "page fault"), 300);
    assert_about(taken(&e, k, TRACE_PIECE_WAIT, "nanosleep"), 1000);
    assert_about(computing(&e), 9000 - 2000 - 500 - 100 - 300 - 1000);
    assert_true(e.slow_unknown_ns == 0 && e.typical_unknown_ns == 0);
    for (uint32_t i = 0; i < e.piece_count; i++)
        assert_false(e.pieces[i].off_cpu &&
                     e.pieces[i].slow_ns > 6000); // it is known who had the CPU
    trace_explained_finish(&e);
    trace_kernel_free(k);
    trace_spans_free(s);
    written_free(&m);
    written_free(&kernel);
}

static void a_kernel_trace_of_another_program_says_nothing(void **state)
{
    (void)state;
    struct written m, kernel;
    written_begin(&m);
    uint64_t at = begin(&m);
    job_begins(&m, at);
    job_ends(&m, at + 9000);
    struct trace_spans *s = written_spans(&m, NULL);
    written_begin(&kernel);
    struct trace_kernel *k = read_kernel(&kernel);
    struct trace_explained e = explain_by(s, k);
    assert_true(e.slow_unknown_ns == 9000 && e.typical_unknown_ns == 100);
    assert_true(computing(&e) == 9000);
    trace_explained_finish(&e);
    trace_kernel_free(k);
    trace_spans_free(s);
    written_free(&m);
    written_free(&kernel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_is_divided_among_those_before),
        cmocka_unit_test(a_holder_may_wait_for_another_lock),
        cmocka_unit_test(who_had_the_proc_is_named),
        cmocka_unit_test(what_was_off_the_cpu_is_not_a_functions),
        cmocka_unit_test(what_the_kernel_took_is_not_the_programs),
        cmocka_unit_test(a_kernel_trace_of_another_program_says_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
