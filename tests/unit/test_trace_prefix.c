// SPDX-License-Identifier: MIT
//
// A prefix of spans is what they would be if the trace ended there, and leaves them alone.

#include "tests/unit/written_trace.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 12000 }; // three rows each: more than a block

// With what the columns do not have: a region around, logs, tasks, a sample now and then.
static void write_all(struct written *m)
{
    uint64_t at = 10000;
    written_begin(m);
    uint64_t where = written_stack(m, "work", "main");
    written_say(m, 0, TRACE_EV_REGION_BEGIN, 2000, 0, written_text(m, "job"), where, 0);
    written_say(m, 0, TRACE_EV_TASK_BEGIN, 3000, 7, 0, written_text(m, "request"), where);
    for (uint64_t i = 0; i < ROUNDS; i++, at += 100) {
        written_wake(m, 0, at, 2, where);
        written_start(m, 1, at + 10, 2);
        if (i % 1000 == 999)
            written_say(m, 1, TRACE_EV_LOG, at + 15, 7, written_text(m, "where"),
                        written_text(m, "here"), where);
        written_block(m, 1, at + 20, i % 3 ? "sync" : "sleep", where);
    }
    written_say(m, 0, TRACE_EV_TASK_END, at, 7, where, 0, 0);
    written_say(m, 0, TRACE_EV_REGION_END, at + 10, 0, written_text(m, "job"), where, 0);
}

// Spans of the first events alone.
static struct trace_spans *first_of(struct written *m, uint32_t events)
{
    struct trace_reader *r = written_end(m);
    struct trace_spans *s;
    const struct trace_event *ev;
    assert_int_equal(trace_spans_new(&s, NULL), 0);
    for (uint32_t i = 0; i < events && trace_reader_next(r, &ev) > 0; i++)
        assert_int_equal(trace_spans_event(s, r, ev), 0);
    assert_int_equal(trace_spans_finish(s), 0);
    trace_reader_close(r);
    return s;
}

static void same(const void *a, const void *b, size_t count, size_t size)
{
    if (count)
        assert_memory_equal(a, b, count * size);
}

static void same_texts(const struct trace_spans *a, const struct trace_spans *b)
{
    assert_int_equal(a->names.count, b->names.count);
    for (uint32_t i = 0; i < a->names.count; i++)
        assert_string_equal(trace_names_text(&a->names, i), trace_names_text(&b->names, i));
    assert_int_equal(a->stacks.count, b->stacks.count);
    for (uint32_t i = 0; i < a->stacks.count; i++) {
        const struct trace_stack *x = trace_stacks_get(&a->stacks, i);
        const struct trace_stack *y = trace_stacks_get(&b->stacks, i);
        assert_int_equal(x->count, y->count);
        for (uint32_t k = 0; k < x->count; k++)
            assert_true(x->frames[k].pc == y->frames[k].pc &&
                        x->frames[k].function == y->frames[k].function);
    }
    assert_int_equal(a->log_count, b->log_count);
    for (uint32_t i = 0; i < a->log_count; i++) {
        assert_string_equal(a->logs[i].message, b->logs[i].message);
        assert_int_equal(a->logs[i].time_ns, b->logs[i].time_ns);
        assert_int_equal(a->logs[i].lane, b->logs[i].lane);
    }
}

static void same_spans(const struct trace_spans *a, const struct trace_spans *b)
{
    assert_true(a->begin_ns == b->begin_ns && a->end_ns == b->end_ns && a->base_ns == b->base_ns);
    assert_int_equal(a->span_count, b->span_count);
    assert_int_equal(a->run_count, b->run_count);
    assert_int_equal(a->lane_count, b->lane_count);
    assert_int_equal(a->kind_count, b->kind_count);
    assert_int_equal(a->region_count, b->region_count);
    assert_int_equal(a->task_count, b->task_count);
    same(a->begin_low, b->begin_low, a->span_count, sizeof *a->begin_low);
    same(a->begin_high, b->begin_high, a->span_count, sizeof *a->begin_high);
    same(a->kind, b->kind, a->span_count, sizeof *a->kind);
    same(a->stack, b->stack, a->span_count, sizeof *a->stack);
    same(a->peer, b->peer, a->span_count, sizeof *a->peer);
    same(a->runs, b->runs, a->run_count, sizeof *a->runs);
    same(a->lanes, b->lanes, a->lane_count, sizeof *a->lanes);
    same(a->kind_first, b->kind_first, 5, sizeof a->kind_first[0]);
    for (uint32_t i = 0; i < a->region_count; i++)
        assert_true(a->regions[i].end_ns == b->regions[i].end_ns &&
                    a->regions[i].ends == b->regions[i].ends);
    for (uint32_t i = 0; i < a->task_count; i++)
        assert_true(a->tasks[i].end_ns == b->tasks[i].end_ns &&
                    a->tasks[i].begin_lane == b->tasks[i].begin_lane);
    same_texts(a, b);
}

static void a_prefix_is_the_trace_that_ends_there(void **state)
{
    (void)state;
    // In the first block; in the second, with a region and a task open; one finished only after events went on.
    static const uint32_t cuts[] = {100, 33001, 35500};
    enum { CUTS = sizeof cuts / sizeof cuts[0] };
    struct written m;
    struct trace_spans *s, *parts[CUTS], *want;
    const struct trace_event *ev;
    size_t cut = 0;
    write_all(&m);
    struct trace_reader *r = written_end(&m);
    assert_int_equal(trace_spans_new(&s, NULL), 0);
    int rc;
    for (uint32_t n = 1; (rc = trace_reader_next(r, &ev)) > 0; n++) {
        assert_int_equal(trace_spans_event(s, r, ev), 0);
        if (cut < CUTS && n == cuts[cut]) {
            assert_int_equal(trace_spans_prefix(&parts[cut], s), 0);
            if (cut + 1 < CUTS)
                assert_int_equal(trace_spans_finish(parts[cut]), 0);
            cut++;
        }
    }
    if (rc < 0)
        fail_msg("%s", trace_reader_error(r)->text);
    assert_int_equal(cut, CUTS);
    assert_int_equal(trace_spans_finish(parts[CUTS - 1]), 0);
    assert_int_equal(trace_spans_finish(s), 0);
    want = first_of(&m, UINT32_MAX);
    assert_true(s->log_count == ROUNDS / 1000 && s->span_count > 36000);
    same_spans(s, want);
    trace_spans_free(want);
    trace_spans_free(s); // prefixes outlive it
    trace_reader_close(r);
    for (cut = 0; cut < CUTS; cut++) {
        want = first_of(&m, cuts[cut]);
        assert_true(cut == 0 || (want->span_count > 32768 / 2 && !want->regions[0].ends));
        same_spans(parts[cut], want);
        trace_spans_free(want);
        trace_spans_free(parts[cut]);
    }
    written_free(&m);
}

static void what_is_never_finished_is_freed(void **state)
{
    (void)state;
    struct written m;
    struct trace_spans *s, *part;
    const struct trace_event *ev;
    write_all(&m);
    struct trace_reader *r = written_end(&m);
    assert_int_equal(trace_spans_new(&s, NULL), 0);
    for (uint32_t n = 0; n < 35300 && trace_reader_next(r, &ev) > 0; n++)
        assert_int_equal(trace_spans_event(s, r, ev), 0);
    assert_int_equal(trace_spans_prefix(&part, s), 0);
    trace_spans_free(part);
    trace_spans_free(s);
    trace_reader_close(r);
    written_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefix_is_the_trace_that_ends_there),
        cmocka_unit_test(what_is_never_finished_is_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
