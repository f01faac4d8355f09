// SPDX-License-Identifier: MIT
//
// Traces made to cost much: what reading and summing up costs is bounded by the size of the file, in
// steps and in bytes that are counted, not timed.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "analysis/trace/summary.h"
#include "formats/trace/reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// --- Bytes of a trace.

struct out {
    unsigned char *data;
    size_t size, capacity;
};

static void byte(struct out *o, unsigned char b)
{
    if (o->size == o->capacity) {
        o->capacity = 2 * o->capacity + 64;
        o->data = realloc(o->data, o->capacity);
        assert_non_null(o->data);
    }
    o->data[o->size++] = b;
}

static void leb(struct out *o, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        byte(o, (unsigned char)(v | 0x80));
    byte(o, (unsigned char)v);
}

static void batch(struct out *o, uint64_t thread, uint64_t time, struct out *data)
{
    byte(o, TRACE_EV_BATCH);
    leb(o, 1);
    leb(o, thread);
    leb(o, time);
    leb(o, data->size);
    for (size_t i = 0; i < data->size; i++)
        byte(o, data->data[i]);
    data->size = 0;
}

static struct out begin(void)
{
    struct out o = {0};
    for (int i = 0; i < 16; i++)
        byte(&o, (unsigned char)"go 1.23 trace\0\0\0"[i]);
    return o;
}

static struct trace_reader *end(struct out *o, struct out *data)
{
    struct trace_reader *r;
    struct fscope_error err = {0};
    byte(data, TRACE_EV_FREQUENCY);
    leb(data, 1000000000);
    batch(o, UINT64_MAX, 1, data);
    free(data->data);
    assert_int_equal(trace_reader_open_memory(&r, o->data, o->size, NULL, &err), 0);
    return r;
}

static void close_all(struct trace_reader *r, struct out *o)
{
    trace_reader_close(r);
    free(o->data);
}

// --- Order.

// Each thread waits for the one behind it; all are of one time, or each is later than the one before.
static uint64_t tries_of_chain(unsigned count, bool rising)
{
    struct out o = begin(), data = {0};
    const struct trace_event *ev;
    int rc;
    for (unsigned i = 0; i < count; i++) {
        const unsigned char events[] = {TRACE_EV_PROC_START, 0, 5};
        for (int k = 0; k < 3; k++)
            byte(&data, events[k]);
        leb(&data, count - i);
        byte(&data, TRACE_EV_PROC_STOP);
        byte(&data, 0);
        batch(&o, i + 1, rising ? 10 + 2 * i : 10, &data);
    }
    const unsigned char status[] = {TRACE_EV_PROC_STATUS, 0, 5, TRACE_PROC_STATUS_IDLE};
    for (int k = 0; k < 4; k++)
        byte(&data, status[k]);
    batch(&o, count + 5, 9, &data);
    size_t size = o.size;
    struct trace_reader *r = end(&o, &data);
    uint64_t events = 0;
    while ((rc = trace_reader_next(r, &ev)) > 0)
        events++;
    assert_int_equal(rc, 0);
    assert_int_equal(events, 2 * count + 3);
    uint64_t tries = r->tries;
    assert_true(tries < (1 << 20) + 16 * (size + 100) + count);
    close_all(r, &o);
    return tries;
}

static void threads_that_wait_for_each_other_cost_their_number(void **state)
{
    (void)state;
    assert_in_range(tries_of_chain(20000, false), 1 << 20, 8 << 20);
    assert_in_range(tries_of_chain(20000, true), 1 << 20, 8 << 20);
    assert_in_range(tries_of_chain(200, false), 200 * 200 / 4, 2 * 200 * 200); // as Go does
}

// --- Tables.

// Numbers of strings that any fixed hash of their low bits has in one place.
static void numbers_of_strings_cannot_be_made_to_meet(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift < 64; shift += 16) {
        struct out o = begin(), data = {0};
        const struct trace_event *ev;
        unsigned count = shift < 50 ? 10000 : 60000 >> (shift - 48);
        byte(&data, TRACE_EV_STRINGS);
        for (unsigned i = 0; i < count; i++) {
            byte(&data, TRACE_EV_STRING);
            leb(&data, ((uint64_t)i * 4096 + 1) << shift | (shift ? 1 : 0));
            leb(&data, 0);
            if (data.size > 60000 || i + 1 == count) {
                batch(&o, UINT64_MAX, 5, &data);
                byte(&data, TRACE_EV_STRINGS);
            }
        }
        data.size = 0;
        struct trace_reader *r = end(&o, &data);
        trace_reader_next(r, &ev);
        const struct id_index *x = &r->gen.string_index;
        uint32_t run = 0, longest = 0;
        for (uint32_t i = 0; i < x->slot_count; i++) {
            run = x->slots[i].value ? run + 1 : 0;
            longest = run > longest ? run : longest;
        }
        assert_true(shift >= 50 || x->slot_count);
        assert_true(longest < 500);
        close_all(r, &o);
    }
}

static void no_goroutine_has_very_many_open_ranges(void **state)
{
    (void)state;
    struct out o = begin(), data = {0};
    const struct trace_event *ev;
    int rc;
    byte(&data, TRACE_EV_STRINGS);
    for (unsigned i = 1; i <= 1000; i++) {
        byte(&data, TRACE_EV_STRING);
        leb(&data, i);
        leb(&data, 2);
        byte(&data, (unsigned char)i);
        byte(&data, (unsigned char)(i >> 8));
    }
    batch(&o, UINT64_MAX, 5, &data);
    const unsigned char status[] = {TRACE_EV_PROC_STATUS,   0, 1, TRACE_PROC_STATUS_RUNNING,
                                    TRACE_EV_GO_STATUS,     0, 1, 1,
                                    TRACE_GO_STATUS_RUNNING};
    for (size_t k = 0; k < sizeof status; k++)
        byte(&data, status[k]);
    for (unsigned i = 1; i <= 1000; i++) {
        byte(&data, TRACE_EV_STW_BEGIN);
        leb(&data, 1);
        leb(&data, i);
        leb(&data, 0);
    }
    batch(&o, 1, 10, &data);
    struct trace_reader *r = end(&o, &data);
    uint64_t begun = 0;
    while ((rc = trace_reader_next(r, &ev)) > 0)
        begun += ev->kind == TRACE_RANGE_BEGIN;
    assert_int_equal(rc, -EINVAL);
    assert_int_equal(trace_reader_error(r)->rule, TRACE_RULE_RANGE);
    assert_int_equal(begun, 256);
    close_all(r, &o);
}

// --- Memory of the summary.

// Goroutines that wait, or (runs) have been made, have run, and wait.
static struct trace_reader *living(struct out *o, unsigned count, bool runs)
{
    struct out data = {0};
    const unsigned char status[] = {TRACE_EV_PROC_STATUS, 0, 1, TRACE_PROC_STATUS_RUNNING};
    *o = begin();
    for (size_t k = 0; runs && k < sizeof status; k++)
        byte(&data, status[k]);
    for (unsigned i = 1; i <= count; i++) {
        const uint64_t waits[] = {TRACE_EV_GO_STATUS, 0, i, UINT64_MAX, TRACE_GO_STATUS_WAITING};
        const uint64_t made[] = {TRACE_EV_GO_CREATE, 1, i, 0, 0, TRACE_EV_GO_START, 1, i, 1,
                                 TRACE_EV_GO_BLOCK,  1, 0, 0};
        for (size_t k = 0; k < (runs ? sizeof made : sizeof waits) / 8; k++)
            leb(&data, runs ? made[k] : waits[k]);
        if (data.size > 60000)
            batch(o, runs ? 1 : UINT64_MAX, 10, &data);
    }
    batch(o, runs ? 1 : UINT64_MAX, 10, &data);
    return end(o, &data);
}

// How much memory the summary of so many takes, or -EFBIG.
static int64_t bytes_of(unsigned count, bool runs, uint64_t bytes_max)
{
    struct trace_summary_options so = {.size = sizeof so, .bytes_max = bytes_max};
    struct trace_summary *s;
    struct out o;
    struct trace_reader *r = living(&o, count, runs);
    const struct trace_event *ev;
    uint64_t fibers, bytes;
    int rc = trace_summary_new(&s, &so), got = 0;
    while (!rc && (got = trace_reader_next(r, &ev)) > 0)
        rc = trace_summary_event(s, r, ev);
    assert_int_equal(got < 0, 0);
    bytes = trace_summary_bytes(s, &fibers);
    assert_true(!bytes_max || bytes <= bytes_max + 4096); // names are seen after they are made
    if (!rc) {
        assert_int_equal(fibers, count);
        rc = trace_summary_finish(s);
        assert_true(rc || s->totals.fibers == count);
        assert_true(rc || s->totals.alive == count);
    }
    trace_summary_free(s);
    close_all(r, &o);
    return rc ? rc : (int64_t)bytes;
}

static void a_fiber_that_does_nothing_takes_little_memory(void **state)
{
    (void)state;
    enum { N = 100000 };
    assert_in_range(bytes_of(N, false, 0) / N, 64, 96);
    assert_in_range(bytes_of(N, true, 0) / N, 64, 640);
}

static void the_summary_has_a_bound(void **state)
{
    (void)state;
    assert_true(bytes_of(10000, false, 1 << 20) > 0);
    assert_int_equal(bytes_of(100000, false, 1 << 20), -EFBIG);
    assert_int_equal(bytes_of(10000, true, 1 << 20), -EFBIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_wait_for_each_other_cost_their_number),
        cmocka_unit_test(numbers_of_strings_cannot_be_made_to_meet),
        cmocka_unit_test(no_goroutine_has_very_many_open_ranges),
        cmocka_unit_test(a_fiber_that_does_nothing_takes_little_memory),
        cmocka_unit_test(the_summary_has_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
