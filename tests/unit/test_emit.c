// SPDX-License-Identifier: MIT
//
// The recorder by itself: numbers are written as the format has them, and a trace that is halted ends at that moment.

#include "emit/internal.h"
#include "emit/wire.h"
#include "segment/producer.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

enum { HALT_NS = 2000000 }; // what emit_halt waits at least, for others

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void a_halted_trace_ends_when_it_is_halted(void **state)
{
    (void)state;
    struct seg s;
    const struct seg_options o = {.size = sizeof o, .trace_buffers = 8};
    assert_int_equal(seg_create(&s, &o), 0);
    assert_int_equal(emit_start(&s, NULL), 0);
    emit_halt();
    uint64_t after = now_ns();
    const struct seg_trace *t =
        (const void *)((const char *)s.header + s.header->areas[SEG_AREA_TRACE].offset);
    assert_true(atomic_load(&t->stopped_units) * 64 + HALT_NS <= after);
    emit_forget();
    seg_close(&s);
}

static sem_t blocked, released;

static void *block_and_go_on(void *object)
{
    const uint64_t at = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    emit_self_block(EMIT_REASON_SYNC, (uint64_t)(uintptr_t)object, at);
    sem_post(&blocked);
    sem_wait(&released);
    emit_self_go_on(at);
    return NULL;
}

// Who holds it has been parked by a handler, say. The thread goes on, and the stream is another's once it is let go.
static void a_stream_that_was_held_for_too_long_is_used_again(void **state)
{
    (void)state;
    struct seg s;
    const struct seg_options o = {.size = sizeof o, .trace_buffers = 8};
    pthread_t t;
    assert_int_equal(sem_init(&blocked, 0, 0) | sem_init(&released, 0, 0), 0);
    assert_int_equal(seg_create(&s, &o), 0);
    assert_int_equal(emit_start(&s, NULL), 0);
    assert_int_equal(pthread_create(&t, NULL, block_and_go_on, &s), 0);
    sem_wait(&blocked);
    struct emit_thread *stream = atomic_load(&emit.threads);
    assert_true(stream && emit_busy_try(stream));
    sem_post(&released);
    pthread_join(t, NULL);
    emit_busy_unlock(stream);
    assert_ptr_equal(emit_plain_take(1), stream);
    emit_forget();
    seg_close(&s);
}

static void check_number(uint64_t n)
{
    uint8_t want[16], got[16];
    size_t bytes = 0;
    for (uint64_t rest = n; bytes == 0 || rest; rest >>= 7)
        want[bytes++] = (uint8_t)((rest & 0x7f) | (rest >> 7 ? 0x80 : 0));
    assert_ptr_equal(put_number(got, n), got + bytes);
    assert_memory_equal(got, want, bytes);
    if (n <= UINT32_MAX) {
        assert_ptr_equal(put_encoded(got, encoded((uint32_t)n)), got + bytes);
        assert_memory_equal(got, want, bytes);
    }
}

static void numbers_are_leb128(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 70000; n++)
        check_number(n);
    for (int bit = 0; bit < 64; bit++)
        for (int64_t off = -2; off <= 2; off++)
            check_number((UINT64_C(1) << bit) + (uint64_t)off);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_leb128),
        cmocka_unit_test(a_halted_trace_ends_when_it_is_halted),
        cmocka_unit_test(a_stream_that_was_held_for_too_long_is_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
