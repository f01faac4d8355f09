// SPDX-License-Identifier: MIT
//
// The writer of execution traces: sizes are the format's, mistakes are refused, and what
// trace_writer_put writes of a trace is a valid trace that tells the same.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "trace_sample.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct trace_writer *writer_to(struct trace_bytes *b, uint32_t version)
{
    struct trace_writer_options o = {.size = sizeof o, .version = version};
    struct trace_writer *w;
    assert_int_equal(trace_writer_open_callback(&w, trace_bytes_write, b, &o), 0);
    return w;
}

static void long_strings_and_stacks_are_cut(void **state)
{
    (void)state;
    struct trace_bytes b = {0};
    struct trace_writer *w = writer_to(&b, 23);
    struct trace_writer_frame frames[200] = {0};
    const struct trace_frame *read;
    struct trace_reader *r;
    struct fscope_error err;
    const struct trace_event *e;
    char name[1100];
    uint64_t text, stack, same;
    memset(name, 'n', sizeof name);
    memcpy(name + 1022, "\xe2\x82\xac", 3); // a character over the limit of 1024
    for (uint64_t i = 0; i < 200; i++)
        frames[i] = (struct trace_writer_frame){.pc = 1000 + i, .line = i};
    trace_writer_begin(w, 1);
    assert_int_equal(trace_writer_string(w, name, sizeof name, &text), 0);
    assert_int_equal(trace_writer_string(w, name, 1022, &same), 0);
    assert_int_equal(text, same);
    assert_int_equal(trace_writer_stack(w, frames, 200, &stack), 0);
    assert_int_equal(trace_writer_stack(w, frames, 128, &same), 0);
    assert_int_equal(stack, same);
    trace_writer_event(w, 1, TRACE_EV_PROC_STATUS, 1, (uint64_t[]){0, 1});
    trace_writer_event(w, 1, TRACE_EV_GO_STATUS, 1, (uint64_t[]){1, 1, 2});
    trace_writer_event(w, 1, TRACE_EV_GO_BLOCK, 2, (uint64_t[]){text, stack});
    assert_int_equal(trace_writer_close(w), 0);
    assert_int_equal(trace_reader_open_memory(&r, b.data, b.size_bytes, NULL, &err), 0);
    uint32_t blocks = 0;
    while (trace_reader_next(r, &e) > 0) {
        if (e->wire != TRACE_EV_GO_BLOCK)
            continue;
        blocks++;
        assert_int_equal(trace_reader_string(r, e->transition.reason).size_bytes, 1022);
        assert_int_equal(trace_reader_stack(r, e->stack, &read), 128);
        assert_int_equal(read[0].pc, 1000);
    }
    assert_int_equal(blocks, 1);
    trace_reader_close(r);
    free(b.data);
}

static void mistakes_are_refused_and_stay(void **state)
{
    (void)state;
    struct trace_writer_options bad = {.size = sizeof bad, .version = 24};
    struct trace_bytes b = {0};
    struct trace_writer *w;
    assert_int_equal(trace_writer_open_callback(&w, trace_bytes_write, &b, &bad), -EINVAL);
    for (int which = 0; which < 6; which++) {
        b.size_bytes = 0;
        w = writer_to(&b, which == 4 ? 22 : 23);
        assert_int_equal(trace_writer_begin(w, 1), 0);
        assert_int_equal(trace_writer_event(w, 1, TRACE_EV_GO_DESTROY, 10, NULL), 0);
        int rc = which == 0   ? trace_writer_event(w, 1, TRACE_EV_GO_DESTROY, 9, NULL)
                 : which == 1 ? trace_writer_event(w, 1, TRACE_EV_STRING, 11, NULL)
                 : which == 2 ? trace_writer_batch(w, 1, 11, "", TRACE_BATCH_BYTES_MAX + 1)
                 : which == 3 ? trace_writer_begin(w, 2)
                 : which == 4 ? trace_writer_event(w, 1, TRACE_EV_GO_SWITCH, 11, (uint64_t[]){1, 1})
                              : trace_writer_end(w, NULL) + trace_writer_begin(w, 3);
        assert_int_equal(rc, -EINVAL);
        assert_int_equal(trace_writer_close(w), -EINVAL);
    }
    free(b.data);
}

static int no_space(void *context, const void *bytes, size_t n)
{
    (void)bytes;
    size_t *left = context;
    if (n > *left)
        return -ENOSPC;
    *left -= n;
    return 0;
}

static void a_full_disk_is_told(void **state)
{
    (void)state;
    size_t left = 100;
    struct trace_writer *w;
    assert_int_equal(trace_writer_open_callback(&w, no_space, &left, NULL), 0);
    trace_sample_write(w, 23, 2);
    assert_int_equal(trace_writer_close(w), -ENOSPC);
    left = 3;
    assert_int_equal(trace_writer_open_callback(&w, no_space, &left, NULL), -ENOSPC);
    assert_null(w);
}

static void events_beyond_a_batch_go_on_in_the_next(void **state)
{
    (void)state;
    struct trace_bytes b = {0};
    struct trace_writer *w = writer_to(&b, 26);
    struct trace_reader *r;
    struct fscope_error err;
    const struct trace_event *e;
    trace_writer_begin(w, 1);
    trace_writer_event(w, 1, TRACE_EV_PROC_STATUS, 1, (uint64_t[]){0, 1});
    for (uint64_t i = 0; i < 100000; i++)
        trace_writer_event(w, 1, TRACE_EV_HEAP_ALLOC, 2 + i, (uint64_t[]){i << 20});
    assert_int_equal(trace_writer_close(w), 0);
    assert_int_equal(trace_reader_open_memory(&r, b.data, b.size_bytes, NULL, &err), 0);
    uint64_t count = 0;
    uint32_t batch = 0;
    while (trace_reader_next(r, &e) > 0) {
        if (e->kind != TRACE_METRIC)
            continue;
        assert_int_equal(e->metric.value, count << 20);
        assert_true(b.data[e->offset] == TRACE_EV_HEAP_ALLOC);
        count++;
        batch = e->batch;
    }
    assert_int_equal(count, 100000);
    assert_true(batch >= 8);
    trace_reader_close(r);
    free(b.data);
}

static bool odd(void *context, int64_t id)
{
    unsigned *asked = context;
    ++*asked;
    return id % 2;
}

struct part {
    int rc;
    unsigned asked, transitions;
    size_t size_bytes;
    int64_t first_ns, last_ns, before_ns; // before: of the last event that is no Sync
};

static struct part put(const struct trace_bytes *b, struct trace_writer_options o, bool filter)
{
    struct part p = {0};
    struct trace_bytes out = {0};
    struct fscope_error err;
    struct trace_reader *r, *again;
    struct trace_writer *w;
    const struct trace_event *e;
    o.size = sizeof o;
    o.generation_bytes = 1;
    o.keeps_goroutine = filter ? odd : NULL;
    o.context = &p.asked;
    assert_int_equal(trace_reader_open_memory(&r, b->data, b->size_bytes, NULL, &err), 0);
    assert_int_equal(trace_writer_open_callback(&w, trace_bytes_write, &out, &o), 0);
    while (trace_reader_next(r, &e) > 0)
        assert_int_equal(trace_writer_put(w, r, e), 0);
    assert_int_equal(trace_writer_close(w), 0);
    assert_int_equal(trace_reader_open_memory(&again, out.data, out.size_bytes, NULL, &err), 0);
    while ((p.rc = trace_reader_next(again, &e)) > 0) {
        if (!p.first_ns)
            p.first_ns = e->time_ns;
        p.last_ns = e->time_ns;
        if (e->kind != TRACE_SYNC)
            p.before_ns = e->time_ns;
        p.transitions += e->kind == TRACE_TRANSITION && e->transition.from != e->transition.to;
        if (filter && e->kind == TRACE_TRANSITION && e->what == TRACE_RESOURCE_GOROUTINE)
            assert_true(e->transition.id % 2);
    }
    if (p.rc && out.size_bytes > 16)
        print_message("1.%u from %lld to %lld: %s\n", o.version, (long long)o.from_ns,
                      (long long)o.to_ns, trace_reader_error(again)->text);
    assert_true(p.rc == 0 || out.size_bytes == 16);
    p.size_bytes = out.size_bytes;
    trace_reader_close(r);
    trace_reader_close(again);
    free(out.data);
    return p;
}

// The times of a trace's events; how many.
static unsigned times_of(const struct trace_bytes *b, int64_t *times, unsigned capacity)
{
    struct fscope_error err;
    struct trace_reader *r;
    const struct trace_event *e;
    unsigned count = 0;
    assert_int_equal(trace_reader_open_memory(&r, b->data, b->size_bytes, NULL, &err), 0);
    while (trace_reader_next(r, &e) > 0) {
        assert_true(count < capacity);
        times[count++] = e->time_ns;
    }
    trace_reader_close(r);
    return count;
}

static void a_part_is_a_valid_trace_wherever_it_begins(void **state)
{
    (void)state;
    int64_t times[200];
    struct trace_bytes b = trace_sample(26, 3);
    unsigned count = times_of(&b, times, 200);
    struct part whole = put(&b, (struct trace_writer_options){.version = 23}, false);
    unsigned last = whole.transitions;
    assert_true(last > 30 && count > 100);
    assert_true(whole.first_ns == times[0] && whole.last_ns == times[count - 1]);
    for (unsigned i = 1; i < count; i++) {
        struct trace_writer_options o = {.version = i & 1 ? 23 : 26, .from_ns = times[i]};
        struct part p = put(&b, o, false);
        assert_true(p.rc == 0 && p.first_ns == times[i]);
        assert_true(p.transitions <=
                    last + 12); // what lives is announced, what is over is not there
        last = p.transitions;
        assert_true(put(&b, o, true).asked > 0);
    }
    assert_true(last < whole.transitions);
    struct trace_writer_options behind = {.version = 26, .from_ns = times[count - 1] + 1};
    assert_int_equal(put(&b, behind, false).size_bytes, 16);
    free(b.data);
}

static void a_range_keeps_its_ends(void **state)
{
    (void)state;
    int64_t times[200];
    struct trace_bytes b = trace_sample(26, 3);
    unsigned count = times_of(&b, times, 200), idle = 0, exact = 0;
    for (unsigned i = 0; i + 1 < count; i++)
        for (unsigned k = i; k + 1 < count; k += 1 + k % 7) {
            // Somewhere between two events; the same two: nothing happens there.
            int64_t from = times[i] + (times[i + 1] - times[i]) / 3 + 1;
            int64_t to = times[k + 1] - (times[k + 1] - times[k]) / 3;
            if (to <= from)
                continue;
            struct trace_writer_options o = {
                .version = k & 1 ? 23 : 26, .from_ns = from, .to_ns = to};
            struct part p = put(&b, o, i & 1);
            assert_int_equal(p.rc, 0);
            assert_int_equal(p.first_ns, from);
            // A stretch that is shorter than what is to be announced in it is longer by that.
            assert_true(p.last_ns == to || (p.last_ns > to && p.last_ns <= p.before_ns + 2));
            exact += p.last_ns == to;
            idle += i == k;
        }
    assert_true(idle > 50 && exact > 500);
    free(b.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_strings_and_stacks_are_cut),
        cmocka_unit_test(mistakes_are_refused_and_stay),
        cmocka_unit_test(a_full_disk_is_told),
        cmocka_unit_test(events_beyond_a_batch_go_on_in_the_next),
        cmocka_unit_test(a_part_is_a_valid_trace_wherever_it_begins),
        cmocka_unit_test(a_range_keeps_its_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
