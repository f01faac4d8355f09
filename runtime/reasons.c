// SPDX-License-Identifier: MIT
//
// Why fibers wait, in Go's words (runtime2.go), which readers of dumps and traces know; and a few that
// Go has not.

#include "runtime/sched.h"

const char *wait_reason_text(enum wait_reason r)
{
    static const char *const text[WAIT_REASONS] = {
        [WAIT_NONE] = "",
        [WAIT_CHAN_RECEIVE] = "chan receive",
        [WAIT_CHAN_SEND] = "chan send",
        [WAIT_CHAN_RECEIVE_NIL] = "chan receive (nil chan)",
        [WAIT_CHAN_SEND_NIL] = "chan send (nil chan)",
        [WAIT_SELECT] = "select",
        [WAIT_SELECT_NO_CASES] = "select (no cases)",
        [WAIT_SLEEP] = "sleep",
        [WAIT_MUTEX] = "sync.Mutex.Lock",
        [WAIT_RWMUTEX_R] = "sync.RWMutex.RLock",
        [WAIT_RWMUTEX_W] = "sync.RWMutex.Lock",
        [WAIT_WAITGROUP] = "sync.WaitGroup.Wait",
        [WAIT_COND] = "sync.Cond.Wait",
        [WAIT_SEMAPHORE] = "semacquire",
        [WAIT_JOIN] = "join",
        [WAIT_IO] = "IO wait",
        [WAIT_STACK] = "stack",
    };
    return (unsigned)r < WAIT_REASONS ? text[r] : "?";
}
