// SPDX-License-Identifier: MIT
//
// The reader of Go's v1 traces: every event of the format has its meaning, errors say where, damage
// ends in an error, and neither memory nor time can be made to grow beyond the file.
// What it says is compared with Go's reader in tests/conformance/trace_oracle.py.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/trace/v1.h"
#include "trace_v1_sample.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t versions[] = {11, 19, 21};

struct seen {
    unsigned events, by_kind[TRACE_EXPERIMENTAL + 1];
    uint32_t most_slot;
    uint8_t states[16]; // of Goroutines, by number
    int rc;
    struct trace_error error;
};

// Reads an exact copy, so that a sanitizer sees a read of one byte too many.
static struct seen read_with(const struct trace_bytes *b, size_t size,
                             const struct trace_reader_options *o)
{
    struct seen s = {0};
    struct trace_reader *r = NULL;
    struct fscope_error err = {0};
    const struct trace_event *e;
    int64_t last_ns = INT64_MIN;
    unsigned char *data = malloc(size ? size : 1);
    memcpy(data, b->data, size);
    s.rc = trace_reader_open_memory(&r, data, size, o, &err);
    assert_true((s.rc == 0) == (r != NULL) && (s.rc == 0 || err.text[0]));
    while (r && (s.rc = trace_reader_next(r, &e)) > 0) {
        assert_true(e->time_ns > last_ns);
        last_ns = e->time_ns;
        s.events++;
        s.by_kind[e->kind]++;
        if (e->kind != TRACE_TRANSITION || e->what != TRACE_RESOURCE_GOROUTINE)
            continue;
        assert_true(e->transition.slot != TRACE_NO_SLOT);
        s.most_slot = e->transition.slot > s.most_slot ? e->transition.slot : s.most_slot;
        if (e->transition.id >= 0 && e->transition.id < 16)
            s.states[e->transition.id] = e->transition.to;
    }
    if (r && s.rc < 0) {
        s.error = *trace_reader_error(r);
        assert_true(s.error.text[0] && s.error.code == s.rc && s.error.offset <= size);
    }
    trace_reader_close(r);
    free(data);
    return s;
}

static struct seen read_bytes(const struct trace_bytes *b, size_t size)
{
    return read_with(b, size, NULL);
}

static void every_event_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct trace_bytes b = trace_v1_sample(versions[i]);
        struct seen s = read_bytes(&b, b.size_bytes);
        assert_int_equal(s.rc, 0);
        assert_int_equal(s.events, versions[i] < 19 ? 83 : 84);
        assert_int_equal(s.by_kind[TRACE_SYNC], 2);
        assert_int_equal(s.by_kind[TRACE_METRIC], 2);
        assert_int_equal(s.by_kind[TRACE_RANGE_BEGIN], 4);
        assert_int_equal(s.by_kind[TRACE_RANGE_END], 4);
        assert_int_equal(s.by_kind[TRACE_REGION_END], 1);
        assert_int_equal(s.by_kind[TRACE_TASK_END], 1);
        assert_int_equal(s.by_kind[TRACE_LOG], 1);
        assert_int_equal(s.by_kind[TRACE_LABEL], 1);
        assert_int_equal(s.by_kind[TRACE_STACK_SAMPLE], versions[i] >= 19);
        static const uint8_t last[] = {0,
                                       TRACE_GO_NOT_EXIST,
                                       TRACE_GO_NOT_EXIST,
                                       TRACE_GO_RUNNABLE,
                                       TRACE_GO_RUNNABLE,
                                       TRACE_GO_WAITING};
        assert_memory_equal(s.states, last, sizeof last);
        assert_int_equal(s.most_slot, 4);
        free(b.data);
    }
}

static void what_does_not_fit_is_transient(void **state)
{
    (void)state;
    struct trace_bytes b = trace_v1_sample(21);
    struct trace_reader_options o = {.size = sizeof o, .intern_bytes_max = 1};
    struct trace_reader *r;
    struct fscope_error err;
    const struct trace_event *e;
    const struct trace_frame *frames;
    unsigned sleeps = 0;
    assert_int_equal(trace_reader_open_memory(&r, b.data, b.size_bytes, &o, &err), 0);
    while (trace_reader_next(r, &e) > 0) {
        if (e->kind != TRACE_TRANSITION || !e->transition.reason)
            continue;
        struct trace_text t = trace_reader_string(r, e->transition.reason);
        sleeps += t.size_bytes == 5 && memcmp(t.bytes, "sleep", 5) == 0;
        assert_true(e->transition.reason & TRACE_ID_TRANSIENT);
        assert_int_equal(trace_reader_stack(r, e->stack, &frames), 2);
        assert_int_equal(trace_reader_string(r, frames[1].function).size_bytes, 9);
    }
    assert_int_equal(sleeps, 1);
    trace_reader_close(r);
    free(b.data);
}

// --- Rules. Each row: an event behind a small valid trace, on P 0, which runs Goroutine 1.

static void a_broken_rule_is_named_with_its_place(void **state)
{
    (void)state;
    static const struct {
        enum trace_rule rule;
        uint8_t type;
        unsigned n;
        uint64_t args[4];
    } rows[] = {
        {TRACE_RULE_EVENT, V1_GO_START, 2, {1, 4}},
        {TRACE_RULE_EVENT, V1_CPU_SAMPLE, 1, {1}},
        {TRACE_RULE_EVENT, V1_REGION, 4, {1, 0, 2, 0}},
        {TRACE_RULE_EVENT, V1_FUTILE_WAKEUP, 1, {1}},
        {TRACE_RULE_EVENT, V1_FREQUENCY, 1, {0}},
        {TRACE_RULE_EVENT, V1_STACK, 3, {1, 1, 1}},
        {TRACE_RULE_SEQUENCE, V1_GO_START, 3, {1, 4, 2}},
        {TRACE_RULE_SEQUENCE, V1_GO_CREATE, 4, {1, 4, 0, 0}},
        {TRACE_RULE_STATUS, V1_GO_SYS_EXIT_LOCAL, 3, {1, 2, 0}},
        {TRACE_RULE_STATUS, V1_PROC_START, 2, {1, 100}},
        {TRACE_RULE_STATUS, V1_PROC_STOP, 1, {1}},
        {TRACE_RULE_CONTEXT, V1_GO_START_LOCAL, 2, {1, 4}},
        {TRACE_RULE_RANGE, V1_SWEEP_DONE, 3, {1, 0, 0}},
        {TRACE_RULE_RANGE, V1_STW_DONE, 1, {1}},
        {TRACE_RULE_GC, V1_GC_DONE, 1, {1}},
        {TRACE_RULE_ID, V1_GO_CREATE, 4, {1, 7, 99, 0}},
        {TRACE_RULE_ID, V1_TASK_CREATE, 5, {1, 1, 0, 99}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct trace_bytes b = {0};
        trace_v1_begin(&b, 21);
        TRACE_V1(&b, V1_BATCH, 0, 1000);
        TRACE_V1(&b, V1_FREQUENCY, 1000000000);
        for (uint64_t g = 1; g < 5; g++)
            TRACE_V1(&b, V1_GO_CREATE, 10, g, 0, 0);
        TRACE_V1(&b, V1_GO_WAITING, 1, 2);
        TRACE_V1(&b, V1_PROC_START, 1, 100);
        TRACE_V1(&b, V1_GO_START_LOCAL, 1, 1);
        TRACE_V1(&b, V1_GOMAXPROCS, 1, 2, 0);
        assert_int_equal(read_bytes(&b, b.size_bytes).rc, 0);
        size_t at = b.size_bytes;
        uint64_t args[5];
        memcpy(args, rows[i].args, sizeof rows[i].args);
        args[4] = 0;
        trace_v1_event(&b, rows[i].type, rows[i].n, args);
        struct seen s = read_bytes(&b, b.size_bytes);
        assert_true(s.rc < 0);
        assert_int_equal(s.error.rule, rows[i].rule);
        assert_int_equal(s.error.offset, at);
        char name[32];
        snprintf(name, sizeof name, "%s", v1_name(rows[i].type));
        char *local = strstr(name, "Local"); // ordered, it is as the others
        if (local)
            *local = 0;
        assert_true(strstr(s.error.text, name) != NULL);
        free(b.data);
    }
}

// --- Damage.

static void cut_anywhere_it_ends_or_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct trace_bytes b = trace_v1_sample(versions[i]);
        struct trace_reader_options salvage = {.size = sizeof salvage, .salvage = true};
        unsigned refused = 0;
        for (size_t n = 0; n < b.size_bytes; n++) {
            refused += read_bytes(&b, n).rc < 0;
            assert_int_equal(read_with(&b, n, &salvage).rc, read_bytes(&b, n).rc);
        }
        // Without the frequency and where Goroutines start it is no trace; only the last stack may
        // be missing.
        assert_int_equal(refused, b.size_bytes - 1);
        free(b.data);
    }
}

static void flipped_bits_do_no_harm(void **state)
{
    (void)state;
    struct trace_bytes b = trace_v1_sample(21);
    unsigned refused = 0;
    struct trace_reader_options o = {.size = sizeof o, .generation_bytes_max = 16 << 20};
    for (size_t bit = 0; bit < 8 * b.size_bytes; bit++) {
        b.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        refused += read_with(&b, b.size_bytes, &o).rc < 0;
        b.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    assert_true(refused > b.size_bytes);
    free(b.data);
}

// --- Memory and time.

static struct trace_bytes many_events(unsigned count)
{
    struct trace_bytes b = {0};
    trace_v1_begin(&b, 21);
    TRACE_V1(&b, V1_BATCH, 0, 1000);
    TRACE_V1(&b, V1_FREQUENCY, 1000000000);
    for (unsigned i = 0; i < count / 2; i++) {
        TRACE_V1(&b, V1_PROC_START, 1, 100);
        TRACE_V1(&b, V1_PROC_STOP, 1);
    }
    return b;
}

static void memory_is_68_bytes_an_event(void **state)
{
    (void)state;
    struct trace_bytes b = many_events(400000);
    struct fscope_error err;
    struct trace_reader *r;
    const struct trace_event *e;
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    assert_int_equal(trace_reader_open_memory(&r, b.data, b.size_bytes, NULL, &err), 0);
    unsigned events = 0;
    while (trace_reader_next(r, &e) > 0)
        events++;
    assert_null(trace_reader_error(r));
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    assert_int_equal(events, 400002);
    assert_true(sizeof(struct v1_event) == 64);
    assert_true(after - before < 68 * 400000 + (512 << 10));
    trace_reader_close(r);
    struct trace_reader_options o = {.size = sizeof o, .generation_bytes_max = 60 * 400000};
    struct seen s = read_with(&b, b.size_bytes, &o);
    assert_int_equal(s.rc, -EFBIG);
    assert_int_equal(s.error.rule, TRACE_RULE_SYSTEM);
    free(b.data);
}

// What a search through all waiting Ps after each event would take minutes for.
static void many_waiting_procs_take_no_time(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    struct trace_bytes b = {0};
    trace_v1_begin(&b, 21);
    for (uint64_t p = 1; p <= COUNT; p++) {
        TRACE_V1(&b, V1_BATCH, p, 2000);
        TRACE_V1(&b, V1_GO_START, 1, 1, 1000000000 + p);
    }
    TRACE_V1(&b, V1_BATCH, 0, 1000);
    TRACE_V1(&b, V1_GO_CREATE, 1, 1, 0, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        TRACE_V1(&b, V1_GO_START_LOCAL, 1, 1);
        TRACE_V1(&b, V1_GO_SCHED, 1, 0);
    }
    TRACE_V1(&b, V1_FREQUENCY, 1000); // else it counts as cut off
    struct seen s = read_bytes(&b, b.size_bytes);
    assert_int_equal(s.rc, -EINVAL);
    assert_int_equal(s.error.rule, TRACE_RULE_SEQUENCE);
    free(b.data);
}

static void bytes_may_come_in_any_way(void **state)
{
    (void)state;
    struct trace_bytes b = trace_v1_sample(19);
    FILE *f = tmpfile();
    struct fscope_error err;
    struct trace_reader *r;
    const struct trace_event *e;
    assert_int_equal(fwrite(b.data, 1, b.size_bytes, f), b.size_bytes);
    fflush(f);
    rewind(f);
    assert_int_equal(trace_reader_open_fd(&r, fileno(f), NULL, &err), 0);
    unsigned events = 0;
    while (trace_reader_next(r, &e) > 0)
        events++;
    assert_int_equal(events, 84);
    assert_int_equal(trace_reader_version(r), 19);
    assert_int_equal(trace_reader_offset(r), b.size_bytes);
    trace_reader_close(r);
    fclose(f);
    free(b.data);
}

static void it_is_not_written_again(void **state)
{
    (void)state;
    struct trace_bytes b = trace_v1_sample(21), out = {0};
    struct fscope_error err;
    struct trace_reader *r;
    struct trace_writer *w;
    const struct trace_event *e;
    assert_int_equal(trace_reader_open_memory(&r, b.data, b.size_bytes, NULL, &err), 0);
    assert_int_equal(trace_writer_open_callback(&w, trace_bytes_write, &out, NULL), 0);
    assert_int_equal(trace_reader_next(r, &e), 1);
    assert_int_equal(trace_writer_put(w, r, e), -ENOTSUP);
    assert_int_equal(trace_writer_close(w), -ENOTSUP);
    trace_reader_close(r);
    free(out.data);
    free(b.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_is_read),
        cmocka_unit_test(what_does_not_fit_is_transient),
        cmocka_unit_test(a_broken_rule_is_named_with_its_place),
        cmocka_unit_test(cut_anywhere_it_ends_or_is_refused),
        cmocka_unit_test(flipped_bits_do_no_harm),
        cmocka_unit_test(memory_is_68_bytes_an_event),
        cmocka_unit_test(many_waiting_procs_take_no_time),
        cmocka_unit_test(bytes_may_come_in_any_way),
        cmocka_unit_test(it_is_not_written_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
