// SPDX-License-Identifier: MIT
//
// The reader's quick way through plain events (formats/trace/order_fast.c) tells the same events and
// the same errors as its careful one, which the other tests compare with Go's reader: for random
// schedules on threads whose clocks differ, whole and with bytes flipped.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/trace/reader.h"
#include "trace_sample.h"

#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, GOS = 200, GENERATIONS = 3 };

static uint64_t seed, parked; // parked: traces of which a thread was put aside

static unsigned below(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed >> 33) % n;
}

// --- A program that does as it likes.

struct go {
    uint64_t id, seq;
    uint8_t status; // 0: none
};

struct program {
    struct trace_writer *w;
    struct go gos[GOS];
    int bound[THREADS]; // index in gos, -1: none
    bool calls[THREADS];
    uint64_t proc_seq[THREADS];
    uint64_t time, skew[THREADS];
    uint64_t next_id, string, stack;
    bool forgets; // a third of the Goroutines in later generations
};

static void say(struct program *p, int thread, uint8_t wire, uint64_t a, uint64_t b, uint64_t c)
{
    trace_writer_event(p->w, 100 + thread, wire, p->time + p->skew[thread],
                       (const uint64_t[]){a, b, c});
}

// Ids of all lengths, and some that meet in the table in front of the hash.
static uint64_t new_id(struct program *p)
{
    uint64_t id = p->next_id++;
    switch (below(8)) {
    case 0: return id << 10 | 1;
    case 1: return id | 1 << 22;
    case 2: return id | UINT64_C(1) << 31;
    default: return id;
    }
}

static struct go *some_go(struct program *p, uint8_t status)
{
    for (unsigned tries = 0; tries < 20; tries++) {
        struct go *g = &p->gos[below(GOS)];
        if (g->status == status && g->id)
            return g;
        if (status == 0 && g->status == 0)
            return g;
    }
    return NULL;
}

static void unblocks(struct program *p, int thread)
{
    struct go *g = some_go(p, TRACE_GO_STATUS_WAITING);
    if (!g)
        return;
    say(p, thread, TRACE_EV_GO_UNBLOCK, g->id, ++g->seq, below(4) ? p->stack : 0);
    g->status = TRACE_GO_STATUS_RUNNABLE;
}

static void creates(struct program *p, int thread)
{
    struct go *g = some_go(p, 0);
    if (!g)
        return;
    *g = (struct go){new_id(p), 0, TRACE_GO_STATUS_RUNNABLE};
    say(p, thread, TRACE_EV_GO_CREATE, g->id, p->stack, below(2) ? p->stack : 0);
}

static void starts(struct program *p, int thread)
{
    struct go *g = some_go(p, TRACE_GO_STATUS_RUNNABLE);
    if (!g)
        return;
    say(p, thread, TRACE_EV_GO_START, g->id, ++g->seq, 0);
    g->status = TRACE_GO_STATUS_RUNNING;
    p->bound[thread] = (int)(g - p->gos);
}

static void leaves(struct program *p, int thread, uint8_t status)
{
    struct go *g = &p->gos[p->bound[thread]];
    uint8_t wire = status == TRACE_GO_STATUS_WAITING    ? TRACE_EV_GO_BLOCK
                   : status == TRACE_GO_STATUS_RUNNABLE ? TRACE_EV_GO_STOP
                                                        : TRACE_EV_GO_DESTROY;
    say(p, thread, wire, below(5) ? p->string : 0, p->stack, 0);
    g->status = status;
    p->bound[thread] = -1;
}

static void switches(struct program *p, int thread)
{
    struct go *g = some_go(p, TRACE_GO_STATUS_WAITING);
    if (!g)
        return;
    say(p, thread, TRACE_EV_GO_SWITCH, g->id, ++g->seq, 0);
    p->gos[p->bound[thread]].status = TRACE_GO_STATUS_WAITING;
    g->status = TRACE_GO_STATUS_RUNNING;
    p->bound[thread] = (int)(g - p->gos);
}

static void step(struct program *p, int thread)
{
    p->time += below(3) ? below(100) : below(50) ? below(20000) : below(1 << 30);
    if (p->calls[thread]) {
        say(p, thread, TRACE_EV_GO_SYSCALL_END, 0, 0, 0);
        p->calls[thread] = false;
        return;
    }
    if (p->bound[thread] < 0) {
        (below(3) ? starts : below(2) ? unblocks : creates)(p, thread);
        return;
    }
    switch (below(10)) {
    case 0:
    case 1: leaves(p, thread, TRACE_GO_STATUS_WAITING); break;
    case 2: leaves(p, thread, TRACE_GO_STATUS_RUNNABLE); break;
    case 3: leaves(p, thread, 0); break;
    case 4: say(p, thread, TRACE_EV_HEAP_ALLOC, below(1 << 30), 0, 0); break;
    case 5:
        say(p, thread, TRACE_EV_GO_SYSCALL_BEGIN, ++p->proc_seq[thread], p->stack, 0);
        p->calls[thread] = true;
        break;
    case 6: switches(p, thread); break;
    case 7: creates(p, thread); break;
    default: unblocks(p, thread); break;
    }
}

static void announce(struct program *p, uint64_t number)
{
    for (int i = 0; i < THREADS; i++) {
        p->proc_seq[i] = 0;
        say(p, i, TRACE_EV_PROC_STATUS, (uint64_t)i,
            p->calls[i] ? TRACE_PROC_STATUS_SYSCALL : TRACE_PROC_STATUS_RUNNING, 0);
        if (p->bound[i] < 0)
            continue;
        struct go *g = &p->gos[p->bound[i]];
        g->seq = 0;
        say(p, i, TRACE_EV_GO_STATUS, g->id, (uint64_t)(100 + i),
            p->calls[i] ? TRACE_GO_STATUS_SYSCALL : TRACE_GO_STATUS_RUNNING);
    }
    for (int i = 0; i < GOS; i++) {
        struct go *g = &p->gos[i];
        if (g->status != TRACE_GO_STATUS_WAITING && g->status != TRACE_GO_STATUS_RUNNABLE)
            continue;
        if (p->forgets && number > 1 && below(3) == 0)
            continue;
        g->seq = 0;
        trace_writer_event(p->w, TRACE_NONE, TRACE_EV_GO_STATUS, p->time,
                           (const uint64_t[]){g->id, (uint64_t)TRACE_NONE, g->status});
    }
}

static struct trace_bytes schedule(uint64_t with, unsigned steps, uint64_t frequency, bool forgets)
{
    struct trace_bytes b = {0};
    struct trace_writer_options o = {.size = sizeof o, .version = 23, .frequency = frequency};
    struct program *p = calloc(1, sizeof *p);
    const struct trace_writer_frame frame = {.pc = 1, .function = {"f", 1}, .file = {"f.c", 3}};
    assert_int_equal(trace_writer_open_callback(&p->w, trace_bytes_write, &b, &o), 0);
    seed = with;
    p->forgets = forgets;
    p->next_id = 1;
    p->time = 1000000;
    for (int i = 0; i < THREADS; i++) {
        p->bound[i] = -1;
        p->skew[i] = below(3000);
    }
    for (int i = 0; i < GOS / 2; i++)
        p->gos[i] =
            (struct go){new_id(p), 0, i % 2 ? TRACE_GO_STATUS_WAITING : TRACE_GO_STATUS_RUNNABLE};
    for (uint64_t number = 1; number <= GENERATIONS; number++) {
        trace_writer_begin(p->w, number);
        trace_writer_string(p->w, "chan receive", 12, &p->string);
        trace_writer_stack(p->w, &frame, 1, &p->stack);
        announce(p, number);
        int thread = 0;
        for (unsigned i = 0; i < steps; i++) {
            thread = below(10) ? thread : (int)below(THREADS);
            step(p, thread);
        }
        trace_writer_end(p->w, NULL);
        p->time += 1 << 20;
    }
    assert_int_equal(trace_writer_close(p->w), 0);
    free(p);
    return b;
}

// --- Both ways at once.

static void assert_same_event(const struct trace_event *a, const struct trace_event *b)
{
    assert_memory_equal(a, b, offsetof(struct trace_event, transition));
    if (a->kind == TRACE_METRIC)
        assert_true(a->metric.value == b->metric.value);
    if (a->kind != TRACE_TRANSITION)
        return;
    assert_true(a->transition.id == b->transition.id);
    assert_int_equal(a->transition.slot, b->transition.slot);
    assert_int_equal(a->transition.reason, b->transition.reason);
    assert_int_equal(a->transition.stack, b->transition.stack);
    assert_int_equal(a->transition.from, b->transition.from);
    assert_int_equal(a->transition.to, b->transition.to);
    assert_true(a->transition.peer == b->transition.peer);
}

static void assert_same_error(const struct trace_error *a, const struct trace_error *b)
{
    assert_int_equal(a->code, b->code);
    assert_int_equal(a->rule, b->rule);
    assert_int_equal(a->generation, b->generation);
    assert_int_equal(a->batch, b->batch);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->thread, b->thread);
    assert_int_equal(a->wire, b->wire);
    assert_string_equal(a->text, b->text);
}

// A reader that puts every thread aside that cannot go on tells the same, too.
static void same_parked(const struct trace_bytes *bytes)
{
    struct trace_reader *a = NULL, *b = NULL;
    struct fscope_error err = {0};
    const struct trace_event *x, *y;
    int rc;
    if (trace_reader_open_memory(&a, bytes->data, bytes->size_bytes, NULL, &err))
        return;
    assert_int_equal(trace_reader_open_memory(&b, bytes->data, bytes->size_bytes, NULL, &err), 0);
    b->tries = UINT64_MAX / 2;
    while ((rc = trace_reader_next(a, &x)) > 0) {
        assert_int_equal(trace_reader_next(b, &y), 1);
        assert_same_event(x, y);
    }
    assert_int_equal(trace_reader_next(b, &y), rc);
    if (rc)
        assert_same_error(trace_reader_error(a), trace_reader_error(b));
    parked += b->parked.capacity != 0;
    trace_reader_close(a);
    trace_reader_close(b);
}

// Whether the trace is whole. *fast: events that went the quick way, of *all.
static bool same_both_ways(const struct trace_bytes *bytes, uint64_t *fast, uint64_t *all)
{
    same_parked(bytes);
    struct trace_reader *a = NULL, *b = NULL;
    struct fscope_error err = {0};
    const struct trace_event *x, *y;
    int rc = trace_reader_open_memory(&a, bytes->data, bytes->size_bytes, NULL, &err);
    if (rc)
        return false;
    assert_int_equal(trace_reader_open_memory(&b, bytes->data, bytes->size_bytes, NULL, &err), 0);
    b->is_careful = true;
    while ((rc = trace_reader_next(a, &x)) > 0) {
        assert_int_equal(trace_reader_next(b, &y), 1);
        assert_same_event(x, y);
        ++*all;
    }
    assert_int_equal(trace_reader_next(b, &y), rc);
    if (rc)
        assert_same_error(trace_reader_error(a), trace_reader_error(b));
    *fast += a->fast_count;
    assert_int_equal(b->fast_count, 0);
    trace_reader_close(a);
    trace_reader_close(b);
    return rc == 0;
}

static void a_valid_schedule_reads_the_same(void **state)
{
    (void)state;
    static const uint64_t frequencies[] = {1000000000, 15625000, 999999937};
    uint64_t fast[3] = {0}, all[3] = {0};
    for (unsigned i = 0; i < 30; i++) {
        struct trace_bytes b = schedule(i + 1, 3000, frequencies[i % 3], false);
        assert_true(same_both_ways(&b, &fast[i % 3], &all[i % 3]));
        free(b.data);
    }
    assert_true(fast[0] > all[0] / 2 && fast[1] > all[1] / 2);
    assert_int_equal(fast[2], 0); // ticks that are no whole number of ns are not for it
    assert_true(all[2] > 10000 && parked == 30);
}

// Its sequence number would go on, but is of the generation before.
static void who_is_not_announced_again_breaks_the_same(void **state)
{
    (void)state;
    uint64_t fast = 0, all = 0;
    for (unsigned i = 0; i < 10; i++) {
        struct trace_bytes b = schedule(i + 1, 3000, 1000000000, true);
        assert_false(same_both_ways(&b, &fast, &all));
        free(b.data);
    }
}

static void flipped_bytes_break_the_same(void **state)
{
    (void)state;
    struct trace_bytes b = schedule(77, 400, 1000000000, false), flipped = b;
    flipped.data = malloc(b.size_bytes);
    uint64_t fast = 0, all = 0, whole = 0, tries = 4000;
    for (unsigned i = 0; i < tries; i++) {
        memcpy(flipped.data, b.data, b.size_bytes);
        for (unsigned k = 0; k <= i % 3; k++)
            flipped.data[16 + below((unsigned)b.size_bytes - 16)] = (unsigned char)below(256);
        whole += same_both_ways(&flipped, &fast, &all);
    }
    assert_true(whole < tries / 2 && fast > tries);
    free(flipped.data);
    free(b.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_valid_schedule_reads_the_same),
        cmocka_unit_test(who_is_not_announced_again_breaks_the_same),
        cmocka_unit_test(flipped_bytes_break_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
