// SPDX-License-Identifier: MIT
//
// The trace buffers of a segment are read as they were committed: from a live one, a dump, a black box of a
// killed process; and numbers that no producer writes cost what they stand on, never more.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/trace/spec.h"
#include "segment/consumer.h"
#include "segment/hold.h"
#include "tests/unit/made_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct seg_options options = {.size = sizeof options,
                                     .threads = 4,
                                     .modules = 4,
                                     .state = 64,
                                     .stacks = 64,
                                     .ring_bytes = 4096,
                                     .stack_arena_bytes = 65536,
                                     .blob_arena_bytes = 4096,
                                     .trace_buffers = 8};

// Thread 7 fills more than one buffer, thread 8 a little; no thread says one thing.
enum { EVENTS = 12000 };

static void fill(struct made_trace *m, struct seg *s)
{
    made_trace_start(m, s, 1000);
    for (int i = 0; i < EVENTS; i++)
        assert_int_equal(MADE(m, 7, TRACE_EV_HEAP_ALLOC, (uint64_t)i * 1000), 0);
    MADE(m, 8, TRACE_EV_PROC_STATUS, 1, TRACE_PROC_STATUS_IDLE);
    MADE(m, UINT32_MAX, TRACE_EV_PROC_STATUS, 2, TRACE_PROC_STATUS_IDLE);
}

struct seen {
    struct seg_reader *r;
    uint64_t events, bytes, buffers, sealed, threads;
    uint64_t orders; // bit mask of thread 7's
    int stale, freed;
    bool frees;
};

static uint64_t count_events(const uint8_t *at, uint64_t size)
{
    uint64_t n = 0, i = 0;
    while (i < size) {
        uint32_t numbers = at[i++] == TRACE_EV_PROC_STATUS ? 3 : 2;
        for (; numbers && i < size; numbers--) {
            while (i < size && at[i] & 0x80)
                i++;
            i++;
        }
        assert_int_equal(numbers, 0);
        n++;
    }
    assert_int_equal(i, size);
    return n;
}

static int see(void *arg, const struct seg_trace_buffer *b, uint32_t index)
{
    static uint8_t bytes[1 << 16];
    struct seen *c = arg;
    uint64_t used = atomic_load(&b->used);
    int rc = seg_reader_trace_copy(c->r, index, b, bytes);
    if (rc == -ESTALE) {
        c->stale++;
        return 0;
    }
    assert_int_equal(rc, 0);
    c->events += count_events(bytes, used);
    c->bytes += used;
    c->buffers++;
    c->sealed += atomic_load(&b->state) == SEG_TRACE_SEALED;
    c->threads |= b->tid == UINT32_MAX ? 1 : UINT64_C(1) << b->tid;
    if (b->tid == 7)
        c->orders |= UINT64_C(1) << b->order;
    if (c->frees)
        c->freed += seg_reader_trace_free(c->r, index) == 0;
    return 0;
}

static void expect_all(struct seg_reader *r)
{
    struct seg_trace t;
    struct seen c = {.r = r};
    assert_int_equal(seg_reader_trace(r, &t), 0);
    assert_int_equal(atomic_load(&t.session), 1);
    assert_int_equal(atomic_load(&t.generation), 1);
    assert_int_equal(t.units_per_second, MADE_TRACE_UNITS);
    assert_int_equal(atomic_load(&t.clocks[1].generation), 1);
    assert_int_equal(t.clocks[1].units, 1000);
    assert_true(seg_reader_trace_buffers(r, see, &c) >= 4);
    assert_int_equal(c.events, EVENTS + 2);
    assert_int_equal(c.threads, 1 | 1 << 7 | 1 << 8);
    assert_true(c.orders == 3 && c.sealed == 1 && c.stale == 0);
}

static struct seg_reader *open_path(const char *path)
{
    struct seg_reader *r = NULL;
    struct fscope_error err = {0};
    if (seg_reader_open_file(&r, path, &err))
        fail_msg("%s", err.text);
    return r;
}

static struct seg_reader *open_live(const struct seg *s)
{
    struct seg_reader *r = NULL;
    struct fscope_error err = {0};
    if (seg_reader_open(&r, dup(s->fd), &err))
        fail_msg("%s", err.text);
    return r;
}

static char *temp_path(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "segment-trace.%d.%s", (int)getpid(), name);
    unlink(path);
    return path;
}

static void a_live_segment_is_read_and_its_buffers_come_back(void **state)
{
    (void)state;
    struct seg s = {0};
    struct made_trace m;
    struct seg_trace t;
    assert_int_equal(seg_create(&s, &options), 0);
    fill(&m, &s);
    struct seg_reader *r = open_live(&s);
    expect_all(r);

    struct seen c = {.r = r, .frees = true};
    made_trace_advance(&m);
    assert_int_equal(seg_reader_trace(r, &t), 0);
    assert_int_equal(atomic_load(&t.complete), 1);
    assert_int_equal(seg_reader_trace_buffers(r, see, &c), 4);
    assert_int_equal(c.freed, 4);
    assert_int_equal(seg_reader_trace_buffers(r, see, &c), 0);
    MADE(&m, 8, TRACE_EV_PROC_STATUS, 1, TRACE_PROC_STATUS_IDLE);
    assert_int_equal(seg_reader_trace_buffers(r, see, &c), 1);
    assert_int_equal(c.freed, 4); // it is being written

    assert_int_equal(seg_reader_trace_hold(r, true), 0);
    assert_true(seg_is_held(&m.t->hold));
    atomic_fetch_sub(&m.t->hold, SEG_HOLD_MS); // its holder has died, or sleeps
    assert_false(seg_is_held(&m.t->hold));
    assert_int_equal(seg_reader_trace_hold(r, true), 0);
    assert_true(seg_is_held(&m.t->hold));
    assert_int_equal(seg_reader_trace_hold(r, false), 0);
    assert_int_equal(atomic_load(&m.t->hold), 0);
    uint32_t wake = atomic_load(&s.header->control.wake);
    assert_int_equal(seg_reader_trace_request(r, SEG_TRACE_STOP), 0);
    assert_int_equal(atomic_load(&m.t->request), SEG_TRACE_STOP);
    assert_int_equal(atomic_load(&s.header->control.wake), wake + 1);
    seg_reader_close(r);
    seg_close(&s);
}

// The buffer goes to somebody else between the look at its head and the copy of its bytes.
static int reuse(void *arg, const struct seg_trace_buffer *b, uint32_t index)
{
    struct made_trace *m = *(struct made_trace **)arg;
    struct seg_reader *r = *(struct seg_reader **)((char *)arg + sizeof m);
    static uint8_t bytes[1 << 16];
    if (b->tid != 8)
        return 0;
    assert_int_equal(seg_reader_trace_free(r, index), 0);
    MADE(m, 9, TRACE_EV_PROC_STATUS, 1, TRACE_PROC_STATUS_IDLE);
    assert_int_equal(seg_reader_trace_copy(r, index, b, bytes), -ESTALE);
    return 1;
}

static void a_buffer_that_is_reused_meanwhile_is_not_taken(void **state)
{
    (void)state;
    struct seg s = {0};
    struct made_trace m;
    assert_int_equal(seg_create(&s, &options), 0);
    fill(&m, &s);
    made_trace_advance(&m);
    struct {
        struct made_trace *m;
        struct seg_reader *r;
    } both = {&m, open_live(&s)};
    struct seg_trace t;
    assert_int_equal(seg_reader_trace(both.r, &t), 0);
    // Buffers are claimed from the first on: thread 9 gets the one that was thread 8's.
    assert_true(seg_reader_trace_buffers(both.r, reuse, &both) >= 0);
    seg_reader_close(both.r);
    seg_close(&s);
}

static void a_dump_has_what_was_committed(void **state)
{
    (void)state;
    struct seg s = {0};
    struct made_trace m;
    char *path = temp_path("dump");
    assert_int_equal(seg_create(&s, &options), 0);
    fill(&m, &s);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_int_equal(seg_dump(&s, fd), 0);
    assert_int_equal(atomic_load(&m.t->hold), 0);
    off_t size = lseek(fd, 0, SEEK_CUR);
    assert_true(size > EVENTS * 3 && size < EVENTS * 8 + (64 << 10)); // and nothing that is free
    close(fd);
    seg_close(&s);
    struct seg_reader *r = open_path(path);
    expect_all(r);
    assert_int_equal(seg_reader_trace_request(r, SEG_TRACE_STOP), -ESRCH);
    seg_reader_close(r);
    for (; size > 0; size = size * 4 / 5) {
        assert_int_equal(truncate(path, size), 0);
        if (seg_reader_open_file(&r, path, NULL))
            continue;
        struct seg_trace t;
        struct seen c = {.r = r};
        if (seg_reader_trace(r, &t) == 0)
            seg_reader_trace_buffers(r, see, &c);
        assert_true(c.events <= EVENTS + 2);
        seg_reader_close(r);
    }
    unlink(path);
}

static void a_black_box_has_it_after_a_kill(void **state)
{
    (void)state;
    char *path = temp_path("box");
    pid_t pid = fork();
    if (pid == 0) {
        struct seg s = {0};
        struct made_trace m;
        struct seg_options o = options;
        o.path = path;
        if (seg_create(&s, &o))
            _exit(1);
        fill(&m, &s);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    struct seg_reader *r = open_path(path);
    expect_all(r);
    seg_reader_close(r);
    // A live named file is read, and its buffers given back, without a mapping.
    assert_int_equal(seg_reader_open(&r, open(path, O_RDWR | O_CLOEXEC), NULL), 0);
    expect_all(r);
    struct seen c = {.r = r, .frees = true};
    seg_reader_trace_buffers(r, see, &c);
    assert_int_equal(c.freed, 1);
    assert_int_equal(seg_reader_trace_request(r, SEG_TRACE_ADVANCE), 0);
    seg_reader_close(r);
    unlink(path);
}

static void numbers_that_no_producer_writes_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        uint64_t value;
        size_t size;
    } wrong[] = {
        {offsetof(struct seg_trace, buffer_count), 0, 4},
        {offsetof(struct seg_trace, buffer_count), UINT32_MAX, 4},
        {offsetof(struct seg_trace, buffer_count), 9, 4},
        {offsetof(struct seg_trace, buffer_bytes), 0, 4},
        {offsetof(struct seg_trace, buffer_bytes), UINT32_MAX, 4},
        {offsetof(struct seg_trace, buffer_bytes), 1 << 17, 4},
        {offsetof(struct seg_trace, units_per_second), 0, 8},
        {offsetof(struct seg_trace, units_per_second), UINT64_MAX, 8},
        {offsetof(struct seg_trace, data_offset), 8, 8},
        {offsetof(struct seg_trace, data_offset), UINT64_MAX, 8},
        {offsetof(struct seg_trace, data_offset), 1 << 20, 8},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct seg s = {0};
        struct made_trace m;
        struct seg_trace t;
        assert_int_equal(seg_create(&s, &options), 0);
        fill(&m, &s);
        memcpy((char *)m.t + wrong[i].offset, &wrong[i].value, wrong[i].size);
        struct seg_reader *r = open_live(&s);
        assert_int_equal(seg_reader_trace(r, &t), -EINVAL);
        struct seen c = {.r = r};
        assert_true(seg_reader_trace_buffers(r, see, &c) < 0 || c.events == 0);
        seg_reader_close(r);
        seg_close(&s);
    }
}

// A head that lies costs its buffer; what was read once is not asked again.
static void a_head_that_lies_costs_its_buffer(void **state)
{
    (void)state;
    struct seg s = {0};
    struct made_trace m;
    struct seg_trace t;
    assert_int_equal(seg_create(&s, &options), 0);
    fill(&m, &s);
    struct seg_reader *r = open_live(&s);
    expect_all(r);
    struct seg_trace_buffer *b = (struct seg_trace_buffer *)(void *)(m.t + 1);
    atomic_store(&b[0].used, (1 << 16) + 1);
    atomic_store(&b[1].state, 77);
    m.t->buffer_count = UINT32_MAX;
    m.t->data_offset = UINT64_MAX / 2;
    assert_int_equal(seg_reader_trace(r, &t), 0);
    assert_int_equal(t.buffer_count, 8);
    struct seen c = {.r = r};
    assert_int_equal(seg_reader_trace_buffers(r, see, &c), 2);
    assert_int_equal(c.events, 2);
    assert_int_equal(seg_reader_trace_free(r, 8), -EINVAL);
    assert_int_equal(seg_reader_trace_free(r, UINT32_MAX), -EINVAL);
    seg_reader_close(r);
    seg_close(&s);
}

static void a_segment_without_traces_says_so(void **state)
{
    (void)state;
    struct seg s = {0};
    struct seg_trace t;
    struct seg_options o = options;
    o.trace_buffers = 0;
    assert_int_equal(seg_create(&s, &o), 0);
    struct seg_reader *r = open_live(&s);
    assert_int_equal(seg_reader_trace(r, &t), -ENODATA);
    assert_int_equal(seg_reader_trace_buffers(r, see, NULL), -ENODATA);
    assert_int_equal(seg_reader_trace_request(r, SEG_TRACE_STOP), -ENODATA);
    assert_int_equal(seg_reader_trace_hold(r, true), -ENODATA);
    seg_reader_close(r);
    seg_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_live_segment_is_read_and_its_buffers_come_back),
        cmocka_unit_test(a_buffer_that_is_reused_meanwhile_is_not_taken),
        cmocka_unit_test(a_dump_has_what_was_committed),
        cmocka_unit_test(a_black_box_has_it_after_a_kill),
        cmocka_unit_test(numbers_that_no_producer_writes_are_refused),
        cmocka_unit_test(a_head_that_lies_costs_its_buffer),
        cmocka_unit_test(a_segment_without_traces_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
