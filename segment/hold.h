// SPDX-License-Identifier: MIT
//
// Who copies a flight recorder's buffers asks its producer to leave the sealed ones alone (seg_trace.hold): until a moment,
// which is put off with each buffer, so that one that dies over it holds nothing for long.

#ifndef FIBERSCOPE_SEGMENT_HOLD_H
#define FIBERSCOPE_SEGMENT_HOLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum { SEG_HOLD_MS = 1000 };

// CLOCK_MONOTONIC; it wraps.
static inline uint32_t seg_hold_now_ms(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint32_t)((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
}

// Returns what to let go of.
static inline uint32_t seg_hold(_Atomic uint32_t *hold)
{
    uint32_t until = seg_hold_now_ms() + SEG_HOLD_MS;
    until += !until;
    // seq_cst: a producer that looks for a buffer either sees it, or has changed the head that is looked at again after
    // the bytes
    atomic_store(hold, until);
    return until;
}

// Of two that copy, the first that is done may take it from the other, until that one's next buffer.
static inline void seg_let_go(_Atomic uint32_t *hold, uint32_t until)
{
    atomic_compare_exchange_strong(hold, &until, 0);
}

static inline bool seg_is_held(_Atomic uint32_t *hold)
{
    uint32_t until = atomic_load(hold);
    return until && until - seg_hold_now_ms() - 1 < SEG_HOLD_MS;
}

#endif
