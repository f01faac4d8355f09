// SPDX-License-Identifier: MIT
//
// The slow path of rt_lock. Holders are on a processor for some tens of nanoseconds, or the kernel took
// it away: so spin a little, then yield, then sleep (a yield alone would never let a holder of a lower
// real-time priority run).

#include "runtime/arch/arch.h"
#include "runtime/os/os.h"
#include "runtime/sched.h"

void rt_lock_slow(struct rt_lock *l)
{
    for (uint32_t round = 0;; round++) {
        for (int i = 0; i < 60; i++) {
            uint32_t held = atomic_load_explicit(&l->held, memory_order_relaxed);
            if (!held && !atomic_exchange_explicit(&l->held, 1, memory_order_acquire))
                return;
            if (held > 1) // else it would wait for ever
                rt_fatal("lock", "the object at %p has been freed, or its memory written over",
                         (void *)l);
            arch_pause();
        }
        if (round < 16)
            os_yield();
        else
            os_sleep(50000);
    }
}
