// SPDX-License-Identifier: MIT
//
// A lock for what the fscope_ API does seldom: starting, stopping, custom profiles. Not pthread's, whose
// functions are ours here: a wait for it would be recorded, or be forbidden, as the program's.
//
// The word is 0 free, 1 held, 2 held and perhaps waited for. A forked child finds it zeroed (it lies in
// memory that is wiped, or on_fork_child does it): a parent's thread that held it is not there.
// Never held across code of the target's. [any thread] [not async-signal-safe]

#ifndef FIBERSCOPE_AGENT_FUTEX_H
#define FIBERSCOPE_AGENT_FUTEX_H

#include "agent/arch/x86_64.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

static inline void futex_lock(_Atomic uint32_t *word)
{
    uint32_t was = 0;
    // acquire: pairs with the release in futex_unlock
    if (atomic_compare_exchange_strong_explicit(word, &was, 1, memory_order_acquire,
                                                memory_order_relaxed))
        return;
    while (atomic_exchange_explicit(word, 2, memory_order_acquire))
        sys6(SYS_futex, SYS_ARG(word), FUTEX_WAIT_PRIVATE, 2, 0, 0, 0);
}

// [async-signal-safe]
static inline bool futex_try(_Atomic uint32_t *word)
{
    uint32_t was = 0;
    // acquire: pairs with the release in futex_unlock
    return atomic_compare_exchange_strong_explicit(word, &was, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

static inline void futex_unlock(_Atomic uint32_t *word)
{
    // release: pairs with the acquires in futex_lock
    if (atomic_exchange_explicit(word, 0, memory_order_release) == 2)
        sys6(SYS_futex, SYS_ARG(word), FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

#endif
