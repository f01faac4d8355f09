// SPDX-License-Identifier: MIT
//
// Traces written by hand, whose truth is known by construction: what the analysis says of them. Two
// Procs, each on its thread (Proc N on thread 10 + N); times in ns.

#include "analysis/trace/explain.h"
#include "analysis/trace/lints.h"
#include "analysis/trace/profile.h"
#include "analysis/trace/util.h"
#include "tests/unit/written_trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct trace_summary *summary_of(struct written *m, const struct trace_summary_options *o)
{
    struct trace_reader *r = written_end(m);
    struct trace_summary *s;
    const struct trace_event *ev;
    int rc;
    assert_int_equal(trace_summary_new(&s, o), 0);
    while ((rc = trace_reader_next(r, &ev)) > 0)
        assert_int_equal(trace_summary_event(s, r, ev), 0);
    if (rc < 0)
        fail_msg("%s", trace_reader_error(r)->text);
    assert_int_equal(trace_summary_finish(s), 0);
    trace_reader_close(r);
    written_free(m);
    return s;
}

static struct trace_spans *spans_of(struct written *m)
{
    struct trace_spans *s = written_spans(m, NULL);
    written_free(m);
    return s;
}

static void a_path_goes_through_wakeups(void **state)
{
    (void)state;
    static const struct {
        int64_t begin, end, fiber;
        enum trace_part part;
    } want[] = {{1500, 2500, 2, TRACE_PART_OTHER}, // nothing says why it waits at the beginning
                {2500, 3000, 2, TRACE_PART_RUNNABLE}, {3000, 4000, 2, TRACE_PART_RUNNING},
                {4000, 5000, 2, TRACE_PART_SLEEP},    {5000, 5200, 2, TRACE_PART_RUNNABLE},
                {5200, 6000, 2, TRACE_PART_RUNNING},  {6000, 6500, 1, TRACE_PART_RUNNABLE},
                {6500, 7500, 1, TRACE_PART_RUNNING}};
    struct trace_step *steps;
    struct written m;
    written_begin(&m);
    written_relay(&m);
    struct trace_spans *s = spans_of(&m);
    assert_int_equal(s->region_count, 1);
    const struct trace_region_span *r = &s->regions[0];
    int n = trace_critical(s, r->lane, r->begin_ns, r->end_ns, 0, &steps);
    assert_int_equal(n, sizeof want / sizeof want[0]);
    for (int i = 0; i < n; i++) {
        assert_int_equal(steps[i].begin_ns, want[i].begin);
        assert_int_equal(steps[i].end_ns, want[i].end);
        assert_int_equal(s->lanes[steps[i].lane].id, want[i].fiber);
        assert_int_equal(steps[i].part, want[i].part);
    }
    free(steps);
    n = trace_own_time(s, r->lane, r->begin_ns, r->end_ns, &steps);
    assert_int_equal(n, 4);
    assert_int_equal(steps[1].part, TRACE_PART_CHANNEL);
    assert_int_equal(steps[1].end_ns - steps[1].begin_ns, 4000);
    free(steps);
    // Before the trace nothing is known.
    n = trace_critical(s, r->lane, 500, 1500, 0, &steps);
    assert_int_equal(n, 2);
    assert_int_equal(steps[0].part, TRACE_PART_UNKNOWN);
    assert_int_equal(steps[0].end_ns, WRITTEN_START_NS);
    free(steps);
    trace_spans_free(s);
}

static const struct trace_edge *edge(const struct trace_summary *s, const char *from,
                                     const char *to, enum trace_waker waker)
{
    for (uint32_t i = 0; i < s->edge_count; i++) {
        const struct trace_edge *e = s->edges[i];
        if (!strcmp(trace_names_text(&s->names, e->from), from) &&
            !strcmp(trace_names_text(&s->names, e->to), to) && e->waker == waker)
            return e;
    }
    fail_msg("no edge from %s to %s", from, to);
    return NULL;
}

static void wakes_are_counted_by_function(void **state)
{
    (void)state;
    struct written m;
    written_begin(&m);
    written_relay(&m);
    struct trace_summary *s = summary_of(&m, NULL);
    // It slept, and then waited for a lock: nobody is said to have ended either.
    assert_int_equal(s->edge_count, 3);
    const struct trace_edge *timer = edge(s, "", "worker", TRACE_WAKER_TIMER);
    const struct trace_edge *nobody = edge(s, "", "worker", TRACE_WAKER_NOBODY);
    const struct trace_edge *hand = edge(s, "worker", "main", TRACE_WAKER_FIBER);
    assert_int_equal(timer->wakes + nobody->wakes, 2);
    assert_int_equal(timer->blocked_ns, 1000);
    assert_int_equal(nobody->blocked_ns, 1500);
    assert_int_equal(timer->runnable_ns + nobody->runnable_ns, 500 + 200);
    assert_int_equal(hand->wakes, 1);
    assert_int_equal(hand->blocked_ns, 4000);
    assert_int_equal(hand->runnable_ns, 500);
    assert_int_equal(s->totals.runnable.count, 3);
    assert_int_equal(s->totals.runnable.max_ns, 500);
    const struct trace_type *job = s->region_types[0];
    assert_int_equal(job->complete, 1);
    assert_int_equal(job->latency.max_ns, 6000);
    assert_int_equal(job->times.running_ns, 500 + 1000);
    assert_int_equal(job->times.blocked_ns, 4000);
    for (uint32_t i = 0; i < 2; i++) // Proc 0: main; Proc 1: the worker
        assert_int_equal(s->procs[i]->running_ns, i ? 1000 + 1800 : 1000 + 1500);
    trace_summary_free(s);
}

static void a_range_clips(void **state)
{
    (void)state;
    const struct trace_summary_options o = {.size = sizeof o, .from_ns = 3500, .to_ns = 5600};
    struct written m;
    written_begin(&m);
    written_relay(&m);
    struct trace_summary *s = summary_of(&m, &o);
    const struct trace_function *f = s->functions[0];
    assert_string_equal(trace_names_text(&s->names, f->name), "worker");
    assert_int_equal(f->times.running_ns, 500 + 400);
    assert_int_equal(f->times.runnable_ns, 200);
    assert_int_equal(f->times.blocked_ns, 1000);
    assert_int_equal(f->times.total_ns, 2100);
    assert_int_equal(s->functions[1]->times.blocked_ns, 2100); // main, all the time
    assert_int_equal(s->region_type_count, 0 + 1);
    assert_int_equal(s->region_types[0]->complete, 0);
    trace_summary_free(s);
}

// `count` jobs of main: each runs 1000; one in `every` waits 7000 more for a lock that the worker
// holds, and then 500 to run.
static void write_jobs(struct written *m, int count, int every)
{
    uint64_t lock = written_stack(m, "lock", "main"), unlock = written_stack(m, "unlock", "worker");
    uint64_t job = written_text(m, "job"), at = 10000;
    written_wake(m, 0, at, 2, 0);
    written_start(m, 1, at + 10, 2);
    for (int i = 1; i <= count; i++) {
        at += 100;
        written_say(m, 0, TRACE_EV_REGION_BEGIN, at, 0, job, lock, 0);
        if (i % every == 0) {
            written_block(m, 0, at + 400, "sync", lock);
            written_wake(m, 1, at + 7400, 1, unlock);
            written_start(m, 0, at + 7900, 1);
            at += 7500;
        }
        at += 1000;
        written_say(m, 0, TRACE_EV_REGION_END, at, 0, job, lock, 0);
    }
}

static void pieces_name_the_lock_and_its_holder(void **state)
{
    (void)state;
    const struct trace_explain_options o = {.name = "job", .quantile = 0.95};
    struct trace_explained e;
    struct written m;
    written_begin(&m);
    write_jobs(&m, 200, 20);
    struct trace_spans *s = spans_of(&m);
    assert_int_equal(trace_explain(s, &o, &e), 0);
    assert_int_equal(e.instances, 200);
    assert_int_equal(e.slow, 10);
    assert_int_equal(e.median_ns, 1000);
    assert_true(e.slow_mean_ns == 8500 && e.typical_mean_ns == 1000);
    assert_int_equal(e.piece_count, 3);
    const struct trace_piece *lock = &e.pieces[0];
    assert_int_equal(lock->part, TRACE_PART_LOCK);
    assert_true(lock->slow_ns == 7000 && lock->typical_ns == 0);
    assert_string_equal(trace_names_text(&s->names, lock->function), "lock");
    assert_string_equal(trace_names_text(&s->names, lock->holder), "worker");
    const struct trace_stack *held = trace_stacks_get(&s->stacks, lock->holder_stack);
    assert_string_equal(trace_names_text(&s->names, held->frames[0].function), "unlock");
    assert_int_equal(e.pieces[1].part, TRACE_PART_RUNNABLE);
    assert_true(e.pieces[1].slow_ns == 500);
    assert_int_equal(e.pieces[2].part, TRACE_PART_RUNNING);
    assert_true(e.pieces[2].slow_ns == 1000 && e.pieces[2].typical_ns == 1000);
    trace_explained_finish(&e);
    const struct trace_explain_options none = {.name = "other", .quantile = 0.99};
    assert_int_equal(trace_explain(s, &none, &e), -ENOENT);
    trace_explained_finish(&e);
    trace_spans_free(s);
}

static void running_time_is_divided_by_samples(void **state)
{
    (void)state;
    const struct trace_explain_options o = {.name = "job", .quantile = 0.5};
    struct trace_explained e;
    struct written m;
    written_begin(&m);
    uint64_t usual = written_stack(&m, "parse", "main"), slow = written_stack(&m, "search", "main");
    uint64_t job = written_text(&m, "job"), at = 10000;
    for (int i = 0; i < 20; i++) { // ten short ones, ten that search for 3000 more
        bool is_slow = i % 2;
        written_say(&m, 0, TRACE_EV_REGION_BEGIN, at, 0, job, usual, 0);
        assert_int_equal(trace_writer_cpu_sample(m.w, at + 500, 10, 0, 1, usual), 0);
        for (int k = 0; k < 3 && is_slow; k++)
            assert_int_equal(
                trace_writer_cpu_sample(m.w, at + 1500 + 1000 * (uint64_t)k, 10, 0, 1, slow), 0);
        at += is_slow ? 4000 : 1000;
        written_say(&m, 0, TRACE_EV_REGION_END, at, 0, job, usual, 0);
        at += 50;
    }
    struct trace_spans *s = spans_of(&m);
    assert_int_equal(trace_explain(s, &o, &e), 0);
    assert_int_equal(e.slow, 10);
    assert_int_equal(e.piece_count, 2);
    assert_string_equal(trace_names_text(&s->names, e.pieces[0].function), "search");
    assert_true(e.pieces[0].slow_ns == 3000 && e.pieces[0].typical_ns == 0);
    assert_string_equal(trace_names_text(&s->names, e.pieces[1].function), "parse");
    assert_true(e.pieces[1].slow_ns == 1000 && e.pieces[1].typical_ns == 1000);
    trace_explained_finish(&e);
    trace_spans_free(s);
}

static const struct trace_lint *lint(const struct trace_lint *lints, int n,
                                     enum trace_lint_kind kind)
{
    for (int i = 0; i < n; i++) {
        if (lints[i].kind == kind)
            return &lints[i];
    }
    return NULL;
}

static void written_oddities(struct written *m)
{
    written_begin(m);
    uint64_t here = written_stack(m, "spin", "main"), there = written_stack(m, "wait", "worker"),
             at = 10000;
    for (int i = 0; i < 150; i++) { // main yields
        written_say(m, 0, TRACE_EV_GO_STOP, at, written_text(m, "runtime.Gosched"), here, 0, 0);
        written_start(m, 0, at + 10, 1);
        at += 50;
    }
    for (int i = 0; i < 12; i++) { // the worker's waits are short, except for the last
        written_wake(m, 0, at, 2, here);
        written_start(m, 1, at + 10, 2);
        written_block(m, 1, at + 20, "sync", there);
        at += 100;
    }
    written_say(m, 0, TRACE_EV_GO_STOP, at + 50000, written_text(m, "preempted"), here, 0,
                0);                     // main hogged
    written_start(m, 0, at + 54000, 1); // and starved
}

static void lints_find_what_was_put_there(void **state)
{
    (void)state;
    const struct trace_summary_options o = {.size = sizeof o, .limits = {5000, 3000, 20000}};
    struct trace_lint *lints;
    struct written m;
    written_oddities(&m);
    struct trace_summary *s = summary_of(&m, &o);
    int n = trace_lints(s, &lints);
    assert_int_equal(n, 4);
    assert_int_equal(lint(lints, n, TRACE_LINT_SPINS)->count, 150);
    assert_int_equal(lint(lints, n, TRACE_LINT_STARVED)->ns, 4000);
    assert_int_equal(lint(lints, n, TRACE_LINT_STARVED)->fiber, 1);
    assert_true(lint(lints, n, TRACE_LINT_HOGS)->ns > 50000);
    const struct trace_lint *stuck = lint(lints, n, TRACE_LINT_STUCK);
    assert_int_equal(stuck->fiber, 2);
    assert_int_equal(stuck->ns, 54000 + 80 + 1); // to the last Sync
    assert_int_equal(stuck->count, 11);
    assert_int_equal(stuck->fibers, 1);
    free(lints);
    trace_summary_free(s);
    written_oddities(&m);
    s = summary_of(&m, NULL);
    assert_int_equal(trace_lints(s, &lints), 1); // it spins
    free(lints);
    trace_summary_free(s);
}

// A fiber that nobody ever wakes has no earlier waits to compare with; hundreds of one function are one line.
static void fibers_that_nobody_wakes_are_one_lint(void **state)
{
    (void)state;
    enum { WAITERS = 1000 };
    struct trace_lint *lints;
    struct written m;
    written_begin(&m); // the worker waits from the beginning (sync) as well, but has no stack
    uint64_t here = written_stack(&m, "start", "main"), wait = written_stack(&m, "take", "waiter"),
             join = written_stack(&m, "runtime.fib_join", "joiner"), at = 10000;
    for (uint64_t i = 0; i < WAITERS + 1; i++) {
        uint64_t stack = i < WAITERS ? wait : join;
        written_say(&m, 0, TRACE_EV_GO_CREATE, at, 100 + i, stack, here, 0);
        written_start(&m, 1, at + 10, 100 + i);
        written_block(&m, 1, at + 20, i < WAITERS ? "chan receive" : "sync", stack);
        at += 100;
    }
    written_say(&m, 0, TRACE_EV_GO_STOP, 3000000000, written_text(&m, "preempted"), here, 0, 0);
    struct trace_summary *s = summary_of(&m, NULL);
    int n = trace_lints(s, &lints), waiters = 0;
    for (int i = 0; i < n; i++) {
        if (lints[i].kind != TRACE_LINT_WAITS)
            continue;
        const char *name = trace_names_text(&s->names, lints[i].function);
        assert_string_not_equal(name, "joiner");
        if (strcmp(name, "waiter") != 0)
            continue;
        waiters++;
        assert_int_equal(lints[i].fibers, WAITERS);
        assert_int_equal(lints[i].fiber, 100); // the first, so the longest
        assert_int_equal(lints[i].at_ns, 10020);
        assert_string_equal(trace_names_text(&s->names, lints[i].in), "take");
    }
    assert_int_equal(waiters, 1);
    free(lints);
    trace_summary_free(s);
}

static void names_without_end_share_a_type(void **state)
{
    (void)state;
    struct written m;
    written_begin(&m);
    uint64_t at = 10000, where = written_stack(&m, "work", "main"), total = 0;
    for (int i = 0; i < TRACE_TYPES_MAX + 100; i++) {
        char name[32];
        snprintf(name, sizeof name, "job %d", i);
        written_say(&m, 0, TRACE_EV_REGION_BEGIN, at, 0, written_text(&m, name), where, 0);
        written_say(&m, 0, TRACE_EV_REGION_END, at + 10, 0, written_text(&m, name), where, 0);
        at += 20;
    }
    struct trace_summary *s = summary_of(&m, NULL);
    assert_int_equal(s->region_type_count, TRACE_TYPES_MAX + 1);
    assert_string_equal(trace_names_text(&s->names, s->region_types[0]->name), "(more names)");
    assert_int_equal(s->region_types[0]->complete, 100);
    for (uint32_t i = 0; i < s->region_type_count; i++)
        total += s->region_types[i]->complete;
    assert_int_equal(total, TRACE_TYPES_MAX + 100);
    trace_summary_free(s);
}

// Fibers that are there, RUNNABLE and without a stack, when the trace begins: they have a name only
// from their first block on, one of them after more waits than are kept for that.
static void waits_before_the_name_are_of_its_function(void **state)
{
    (void)state;
    struct written m;
    written_begin(&m);
    for (uint64_t fiber = 3; fiber <= 4; fiber++)
        written_say(&m, 1, TRACE_EV_GO_STATUS, WRITTEN_START_NS, fiber, UINT64_MAX,
                    TRACE_GO_STATUS_RUNNABLE, 0);
    written_start(&m, 1, 2000, 3);
    written_block(&m, 1, 3000, "sleep", written_stack(&m, "nap", "napper"));
    for (uint64_t at = 4000; at < 10000; at += 1000) {
        written_start(&m, 1, at, 4);
        written_say(&m, 1, TRACE_EV_GO_STOP, at + 500, written_text(&m, "preempted"), 0, 0, 0);
    }
    written_start(&m, 1, 10000, 4);
    written_block(&m, 1, 11000, "sleep", written_stack(&m, "nap", "sleeper"));
    struct trace_summary *s = summary_of(&m, NULL);
    uint64_t fibers = 0;
    for (uint32_t i = 0; i < s->function_count; i++) {
        const struct trace_function *f = s->functions[i];
        const char *name = trace_names_text(&s->names, f->name);
        assert_int_not_equal(f->fibers, 0);
        assert_int_not_equal(f->name, 0);
        fibers += f->fibers;
        if (!strcmp(name, "napper")) {
            assert_int_equal(f->runnable.count, 1);
            assert_int_equal(f->runnable.max_ns, 2000 - WRITTEN_START_NS);
        }
    }
    assert_int_equal(fibers, 4);
    assert_int_equal(s->totals.runnable.count, 1 + 7);
    trace_summary_free(s);
}

static double least_by_trying(const struct trace_util *u, int64_t window, int64_t end)
{
    double least = 2;
    for (int64_t at = 0; at + window <= end; at++) {
        double mean = trace_util_mean(u, at, at + window);
        least = mean < least ? mean : least;
    }
    return least;
}

static void the_least_share_is_found(void **state)
{
    (void)state;
    static const struct {
        int64_t at;
        double share;
    } points[] = {{0, 1},      {100, 0}, {150, 0.5}, {300, 1},  {420, 0.25},
                  {421, 0.75}, {700, 0}, {705, 1},   {1000, -1}};
    struct trace_util *u;
    assert_int_equal(trace_util_new(&u, TRACE_UTIL_RUNNING, 0, 0), 0);
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        assert_int_equal(trace_util_point(u, points[i].at, points[i].share), 0);
    assert_int_equal(trace_util_finish(u), 0);
    assert_true(trace_util_mean(u, 0, 150) > 0.6666 && trace_util_mean(u, 0, 150) < 0.6667);
    static const int64_t windows[] = {1, 5, 49, 50, 51, 100, 200, 333, 600, 999, 1000};
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        int64_t at;
        double got = trace_util_minimum(u, windows[i], &at);
        double want = least_by_trying(u, windows[i], 1000);
        double there = trace_util_mean(u, at, at + windows[i]);
        if (got > want + 1e-9 || got < want - 1e-9 || there > got + 1e-9)
            fail_msg("window %lld: %g, not %g", (long long)windows[i], got, want);
    }
    int64_t at;
    assert_true(trace_util_minimum(u, 5000, &at) == trace_util_minimum(u, 1000, &at));
    trace_util_free(u);
}

static void running_fibers_are_utilisation(void **state)
{
    (void)state;
    struct trace_util *u;
    const struct trace_event *ev;
    struct written m;
    written_begin(&m);
    written_relay(&m);
    struct trace_reader *r = written_end(&m);
    assert_int_equal(trace_util_new(&u, TRACE_UTIL_RUNNING, 0, 0), 0);
    while (trace_reader_next(r, &ev) > 0)
        assert_int_equal(trace_util_event(u, r, ev), 0);
    assert_int_equal(trace_util_finish(u), 0);
    assert_true(trace_util_mean(u, 1100, 2000) == 0.5);
    assert_true(trace_util_mean(u, 2000, 3000) == 0);
    assert_true(trace_util_mean(u, 6500, 7000) == 1);
    assert_true(trace_util_mean(u, 6000, 7000) == 0.75);
    trace_util_free(u);
    trace_reader_close(r);
    written_free(&m);
}

static void a_histogram_keeps_its_promise(void **state)
{
    (void)state;
    struct trace_hist h = {0};
    for (int64_t v = 1; v <= 100000; v++)
        trace_hist_add(&h, v);
    trace_hist_add(&h, INT64_MAX / 4);
    assert_int_equal(h.count, 100001);
    for (int percent = 1; percent < 100; percent++) {
        int64_t got = trace_hist_quantile_ns(&h, percent / 100.0), want = 1000 * percent;
        if (got < want || got > want + want / 8 + 1)
            fail_msg("%d %%: %lld, not %lld", percent, (long long)got, (long long)want);
    }
    assert_int_equal(trace_hist_quantile_ns(&h, 1), INT64_MAX / 4);
    for (unsigned i = 0; i + 1 < TRACE_HIST_BUCKETS; i++) { // a bucket's own value lands in it
        struct trace_hist one = {0};
        trace_hist_add(&one, trace_hist_bucket_ns(i));
        assert_int_equal(one.buckets[i], 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_goes_through_wakeups),
        cmocka_unit_test(wakes_are_counted_by_function),
        cmocka_unit_test(a_range_clips),
        cmocka_unit_test(pieces_name_the_lock_and_its_holder),
        cmocka_unit_test(running_time_is_divided_by_samples),
        cmocka_unit_test(lints_find_what_was_put_there),
        cmocka_unit_test(fibers_that_nobody_wakes_are_one_lint),
        cmocka_unit_test(waits_before_the_name_are_of_its_function),
        cmocka_unit_test(names_without_end_share_a_type),
        cmocka_unit_test(the_least_share_is_found),
        cmocka_unit_test(running_fibers_are_utilisation),
        cmocka_unit_test(a_histogram_keeps_its_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
