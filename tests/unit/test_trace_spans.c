// SPDX-License-Identifier: MIT
//
// Spans in columns: they are what was written, also where only a part is kept, and small.

#include "analysis/trace/explain.h"
#include "tests/unit/written_trace.h"

#include <stdlib.h>

static void spans_are_what_was_written(void **state)
{
    (void)state;
    struct written m;
    written_begin(&m);
    written_relay(&m);
    struct trace_spans *s = written_spans(&m, NULL);
    uint32_t main_lane = trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, 1);
    uint32_t worker = trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, 2);
    uint32_t proc = trace_spans_lane(s, TRACE_RESOURCE_PROC, 1);
    uint32_t thread = trace_spans_lane(s, TRACE_RESOURCE_THREAD, 11);
    assert_int_equal(trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, 3), TRACE_NO_LANE);
    assert_int_equal(s->lanes[main_lane].count, 5); // the last: runnable, when the trace ends
    uint32_t first = s->lanes[main_lane].first;
    const int64_t ends[] = {2000, 6000, 6500, 8000};
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(trace_span_end_ns(s, main_lane, first + i), ends[i]);
        assert_int_equal(trace_span_begin_ns(s, first + i + 1), ends[i]);
        assert_int_equal(trace_spans_fiber(s, first + i), main_lane);
    }
    assert_int_equal(trace_span_state(s, first + 1), TRACE_GO_WAITING);
    assert_int_equal(trace_span_peer(s, main_lane, first + 1), worker);
    assert_int_equal(trace_span_peer(s, main_lane, first + 2), worker);
    assert_int_equal(trace_span_stack(s, first + 2), 0); // its stack is the waker's
    assert_string_equal(trace_names_text(&s->names, trace_span_reason(s, first + 1)),
                        "chan receive");
    assert_string_equal(trace_names_text(&s->names, s->lanes[worker].name), "worker");
    const struct trace_stack *by =
        trace_stacks_get(&s->stacks, trace_span_end_stack(s, main_lane, first + 1));
    assert_string_equal(trace_names_text(&s->names, by->frames[0].function), "send");
    assert_int_equal(trace_spans_before(s, main_lane, 6000), first + 1);
    assert_int_equal(trace_spans_before(s, main_lane, 6001), first + 2);
    const uint32_t lanes[] = {proc, thread};
    for (uint32_t i = 0; i < 2; i++) { // the worker ran there twice
        const struct trace_lane *l = &s->lanes[lanes[i]];
        assert_int_equal(l->count, 2);
        assert_int_equal(trace_spans_fiber(s, s->runs[l->first]), worker);
        assert_int_equal(trace_span_begin_ns(s, s->runs[l->first]), 3000);
        assert_int_equal(trace_spans_run_end_ns(s, lanes[i], l->first), 4000);
        assert_int_equal(trace_span_begin_ns(s, s->runs[l->first + 1]), 5200);
    }
    trace_spans_free(s);
    written_free(&m);
}

// main loses its Proc 0 in a system call from 2000 to 6000; the worker runs on it twice meanwhile.
static void a_lost_proc_runs_others(void **state)
{
    (void)state;
    static const int64_t begins[] = {1000, 2000, 3000, 4500}, ends[] = {2000, 2500, 4000, 5000};
    struct written m;
    written_begin(&m);
    uint64_t where = written_stack(&m, "read", "main");
    written_say(&m, 0, TRACE_EV_GO_SYSCALL_BEGIN, 2000, 1, where, 0, 0);
    written_say(&m, 1, TRACE_EV_PROC_STOP, 2400, 0, 0, 0, 0);
    written_say(&m, 1, TRACE_EV_PROC_STEAL, 2500, 0, 2, 10, 0);
    written_say(&m, 1, TRACE_EV_PROC_START, 2600, 0, 3, 0, 0);
    written_wake(&m, 1, 2700, 2, 0);
    written_start(&m, 1, 3000, 2);
    written_block(&m, 1, 4000, "sleep", where);
    written_wake(&m, 1, 4200, 2, 0);
    written_start(&m, 1, 4500, 2);
    written_block(&m, 1, 5000, "sleep", where);
    written_say(&m, 0, TRACE_EV_GO_SYSCALL_END_BLOCKED, 6000, 0, 0, 0, 0);
    struct trace_spans *s = written_spans(&m, NULL);
    uint32_t proc = trace_spans_lane(s, TRACE_RESOURCE_PROC, 0);
    const struct trace_lane *l = &s->lanes[proc];
    assert_int_equal(l->count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(trace_span_begin_ns(s, s->runs[l->first + i]), begins[i]);
        assert_int_equal(trace_spans_run_end_ns(s, proc, l->first + i), ends[i]);
    }
    uint32_t thread = trace_spans_lane(s, TRACE_RESOURCE_THREAD, 10); // main's, all the time
    assert_int_equal(s->lanes[thread].count, 2);
    assert_int_equal(trace_spans_run_end_ns(s, thread, s->lanes[thread].first + 1), 6000);
    trace_spans_free(s);
    written_free(&m);
}

static void only_what_is_asked_for_is_kept(void **state)
{
    (void)state;
    // Of the worker: its first run and its second, not the sleep between them.
    const struct trace_interval its[] = {{5300, 5400, 2}, {3100, 3200, 2}, {3150, 3900, 2}};
    const struct trace_spans_options o = {
        .size = sizeof o, .keep = TRACE_KEEP_SPANS, .intervals = its, .interval_count = 3};
    static const int64_t begins[] = {3000, 4000, 5200};
    static const uint8_t states[] = {TRACE_GO_RUNNING, TRACE_GO_UNDETERMINED, TRACE_GO_RUNNING};
    struct written m;
    written_begin(&m);
    written_relay(&m);
    struct trace_spans *s = written_spans(&m, &o);
    uint32_t worker = trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, 2);
    const struct trace_lane *l = &s->lanes[worker];
    assert_int_equal(s->span_count, 3);
    assert_int_equal(l->count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(trace_span_begin_ns(s, l->first + i), begins[i]);
        assert_int_equal(trace_span_state(s, l->first + i), states[i]);
    }
    assert_int_equal(l->end_ns, 7000);
    assert_int_equal(s->region_count + s->run_count, 0);
    assert_int_equal(trace_spans_lane(s, TRACE_RESOURCE_THREAD, 11), TRACE_NO_LANE);
    assert_int_equal(trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, 1), TRACE_NO_LANE);
    trace_spans_free(s);
    written_free(&m);
}

// Who wakes a fiber is known by number and name, though nothing else of it is kept.
static void a_waker_is_named(void **state)
{
    (void)state;
    const struct trace_interval all = {INT64_MIN, INT64_MAX, 1};
    const struct trace_spans_options o = {
        .size = sizeof o, .keep = TRACE_KEEP_SPANS, .intervals = &all, .interval_count = 1};
    struct written m;
    written_begin(&m);
    written_relay(&m);
    struct trace_spans *s = written_spans(&m, &o);
    uint32_t worker = trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, 2);
    uint32_t main_lane = trace_spans_lane(s, TRACE_RESOURCE_GOROUTINE, 1);
    assert_int_equal(s->span_count, 5);
    assert_int_equal(s->lanes[worker].count, 0);
    assert_string_equal(trace_names_text(&s->names, s->lanes[worker].name), "worker");
    assert_int_equal(trace_span_peer(s, main_lane, s->lanes[main_lane].first + 1), worker);
    trace_spans_free(s);
    written_free(&m);
}

static void regions_are_those_of_the_range(void **state)
{
    (void)state;
    const struct {
        int64_t from, to;
        uint32_t count;
        bool begins, ends;
        const char *type;
    } want[] = {{0, 0, 1, true, true, NULL},        {0, 0, 1, true, true, "job"},
                {0, 0, 0, false, false, "jo"},      {1600, 0, 1, false, true, NULL},
                {1200, 7000, 1, true, false, NULL}, {7600, 0, 0, false, false, NULL}};
    struct written m;
    written_begin(&m);
    written_relay(&m);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        const struct trace_spans_options o = {.size = sizeof o,
                                              .from_ns = want[i].from,
                                              .to_ns = want[i].to,
                                              .keep = TRACE_KEEP_REGIONS,
                                              .type = want[i].type};
        struct trace_spans *s = written_spans(&m, &o);
        assert_int_equal(s->region_count, want[i].count);
        assert_int_equal(s->span_count, 0);
        if (want[i].count) {
            assert_int_equal(s->regions[0].begins, want[i].begins);
            assert_int_equal(s->regions[0].ends, want[i].ends);
            assert_int_equal(s->regions[0].begin_ns, want[i].begins ? 1500 : want[i].from);
            assert_int_equal(s->regions[0].end_ns, want[i].ends ? 7500 : want[i].to);
        }
        trace_spans_free(s);
    }
    written_free(&m);
}

static size_t memory_of(const struct trace_spans *s)
{
    size_t span = sizeof *s->begin_low + sizeof *s->begin_high + sizeof *s->kind +
                  sizeof *s->stack + sizeof *s->peer;
    return s->span_count * span + s->run_count * sizeof *s->runs + s->lost_count * sizeof *s->lost +
           s->lane_count * sizeof *s->lanes + s->sample_count * sizeof *s->samples +
           s->region_count * sizeof *s->regions;
}

// The three things that programs do most: wait, start others, enter the system.
static void an_event_takes_at_most_24_bytes(void **state)
{
    (void)state;
    enum { ROUNDS = 1000 };
    for (int what = 0; what < 3; what++) {
        uint64_t at = 10000, events = 0;
        struct written m;
        written_begin(&m);
        uint64_t where = written_stack(&m, "work", "main");
        for (uint64_t i = 0; i < ROUNDS; i++, at += 100) {
            if (what == 0) {
                written_wake(&m, 0, at, 2, where);
                written_start(&m, 1, at + 10, 2);
                written_block(&m, 1, at + 20, "sync", where);
            } else if (what == 1) {
                written_say(&m, 0, TRACE_EV_GO_CREATE, at, 10 + i, where, where, 0);
                written_start(&m, 1, at + 10, 10 + i);
                written_say(&m, 1, TRACE_EV_GO_DESTROY, at + 20, 0, 0, 0, 0);
            } else {
                written_say(&m, 0, TRACE_EV_GO_SYSCALL_BEGIN, at, 1 + i, where, 0, 0);
                written_say(&m, 0, TRACE_EV_GO_SYSCALL_END, at + 10, 0, 0, 0, 0);
            }
            events += what == 2 ? 2 : 3;
        }
        struct trace_spans *s = written_spans(&m, NULL);
        size_t bytes = memory_of(s);
        assert_true(bytes > 10 * events);
        if (bytes > 24 * events + 1000)
            fail_msg("%d: %zu bytes for %zu events", what, bytes, (size_t)events);
        trace_spans_free(s);
        written_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_are_what_was_written),
        cmocka_unit_test(a_lost_proc_runs_others),
        cmocka_unit_test(only_what_is_asked_for_is_kept),
        cmocka_unit_test(a_waker_is_named),
        cmocka_unit_test(regions_are_those_of_the_range),
        cmocka_unit_test(an_event_takes_at_most_24_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
