// SPDX-License-Identifier: MIT
//
// A thread's place in its batches, and how events are decoded there.
//
// Most of an event's numbers have one or two bytes, and which it will be cannot be foreseen: a
// branch per byte is the most expensive way to find out. So the ends of all numbers of an event are
// found at once, as the bytes without a continuation bit among the sixteen behind its type, and only
// what is long or near the end of a batch is read byte by byte.
//
// Invariant: event <= at <= end. The pending event's type and time are known, its arguments not yet
// decoded; at is where they begin.

#ifndef FIBERSCOPE_FORMATS_TRACE_CURSOR_H
#define FIBERSCOPE_FORMATS_TRACE_CURSOR_H

#include "formats/trace/generation.h"
#include "formats/trace/leb.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

// The compiler thinks that what runs for every event is too large to stand where it runs.
#define TRACE_HOT static inline __attribute__((always_inline))

enum { CURSOR_WINDOW_BYTES = 16, CURSOR_SLACK_BYTES = 24 };

struct cursor {
    const unsigned char *event, *at, *end;
    struct state_thread *thread;
    int64_t time_ns;  // of the pending event; 0 also if the batch has just begun
    uint32_t numbers; // bit i: byte i behind the type ends a number; bits 16.. are set. 0: unknown
    uint8_t wire;
    uint32_t batch;          // number in the file
    uint64_t data_to_offset; // + (uintptr_t)event is where the event is in the file
    uint64_t batch_time;
    uint32_t next;         // 1 + index of the thread's next batch, 0: none
    unsigned char *buffer; // for batches that are read when their turn comes
    uint32_t buffer_bytes;
};

static inline uint32_t cursor_numbers(const unsigned char *p)
{
#ifdef __SSE2__
    __m128i bytes;
    memcpy(&bytes, p, sizeof bytes);
    return ~(uint32_t)_mm_movemask_epi8(bytes);
#else
    (void)p;
    return 0;
#endif
}

// The number of length bytes at p, which ends before end; four bytes can be read from p.
TRACE_HOT uint64_t cursor_number(const unsigned char *p, unsigned length, const unsigned char *end)
{
    if (__builtin_expect(length <= 4, 1)) {
        uint32_t x;
        memcpy(&x, p, sizeof x);
        x &= UINT32_MAX >> (32 - 8 * length);
        return (x & 0x7f) | (x >> 1 & 0x3f80) | (x >> 2 & 0x1fc000) | (x >> 3 & 0xfe00000);
    }
    uint64_t v = 0;
    return leb_read_long(&p, end, &v) ? v : UINT64_MAX;
}

// Decodes the first number behind the type: dt. false: there is none.
TRACE_HOT bool cursor_step(struct cursor *c, uint64_t *ticks)
{
    const unsigned char *at = c->event + 1;
    c->numbers = 0;
    if (__builtin_expect(c->end - at >= CURSOR_SLACK_BYTES, 1)) {
        uint32_t numbers = cursor_numbers(at);
        unsigned length = (unsigned)__builtin_ctz(numbers | 1u << 31) + 1;
        if (__builtin_expect(numbers && length <= 4, 1)) {
            c->numbers = numbers;
            c->at = at + length;
            *ticks = cursor_number(at, length, c->end);
            return true;
        }
    }
    c->at = at;
    return leb_read(&c->at, c->end, ticks);
}

// Decodes the n arguments of the pending event; *at is behind them. false: they are not there.
TRACE_HOT bool cursor_args(const struct cursor *c, const unsigned char **at, uint64_t *v,
                           unsigned n)
{
    uint32_t numbers = c->numbers;
    if (__builtin_expect(numbers, 1)) {
        const unsigned char *base = c->event + 1;
        unsigned from[TRACE_ARGS_MAX + 1];
#pragma GCC unroll 5
        for (unsigned i = 0; i <= n; i++) {
            from[i] = (unsigned)__builtin_ctz(numbers) + 1;
            numbers &= numbers - 1;
        }
        if (__builtin_expect(from[n] <= CURSOR_WINDOW_BYTES, 1)) {
#pragma GCC unroll 4
            for (unsigned i = 0; i < n; i++)
                v[i] = cursor_number(base + from[i], from[i + 1] - from[i], c->end);
            *at = base + from[n];
            return true;
        }
    }
    *at = c->at;
    for (unsigned i = 0; i < n; i++)
        if (!leb_read(at, c->end, &v[i]))
            return false;
    return true;
}

#endif
