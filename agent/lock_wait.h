// SPDX-License-Identifier: MIT
//
// What the hooks of lock_hooks.c consist of: what is asked before and after the function behind. For inside a hook alone:
// the registers that are captured are those of the hook's caller, and some of these return from it.

#ifndef FIBERSCOPE_AGENT_LOCK_WAIT_H
#define FIBERSCOPE_AGENT_LOCK_WAIT_H

#include "agent/capture.h"
#include "agent/forbid.h"
#include "agent/hooks.h"
#include "agent/lock.h"
#include "agent/lock_order.h"
#include "agent/trace.h"
#include "emit/emit.h"

#define FRAME __builtin_frame_address(0)

static inline bool is_on(void)
{
    if (!hooks_ready()) // an early constructor: the function behind is not known yet
        hooks_resolve_locks();
    return lock_is_wanted();
}

// Whether an unlock or a signal may end the wait of a thread whose trace is recorded.
static inline bool is_awaited(void)
{
    return atomic_load_explicit(&lock_flags, memory_order_relaxed) & LOCK_TRACE &&
           atomic_load_explicit(&emit_waiters, memory_order_relaxed);
}

// Whether a thread that was woken needs a mutex first, which somebody else may just have got.
static inline bool is_relocked(void)
{
    return atomic_load_explicit(&lock_flags, memory_order_relaxed) & LOCK_TRACE &&
           __builtin_expect(atomic_load_explicit(&emit_relocking, memory_order_relaxed) != 0, 0);
}

// A mutex that was tried, and is not taken by somebody else.
static inline int tried(const void *m, int rc)
{
    if (!rc && is_relocked())
        trace_took(m);
    return rc;
}

// After a wait that nobody asked to be told of when it began.
static inline int untold(int rc)
{
    trace_here();
    return rc;
}

// One wait: real call in between. `unwaited` is the result that says that no wait took place.
#define WAIT(object, type, has_owner, call, unwaited)                                              \
    do {                                                                                           \
        int rc_;                                                                                   \
        WAIT_OF(rc_, FRAME, object, type, has_owner, NULL, call, unwaited);                        \
        return rc_;                                                                                \
    } while (0)
#define WAIT_OF(rc, frame, object, type, has_owner, again, call, unwaited)                         \
    do {                                                                                           \
        struct lock_wait w_;                                                                       \
        struct unwind_registers regs_;                                                             \
        CAPTURE_CALLER_OF(&regs_, frame);                                                          \
        TOLD_UNWINDS();                                                                            \
        if (forbid_is_on(FORBID_BLOCK))                                                            \
            forbid_wait(type, (type) == SEG_LOCK_JOIN ? NULL : (object), &regs_);                  \
        lock_wait_begin(&w_, object, type, has_owner, again, &regs_);                              \
        rc = (call);                                                                               \
        lock_wait_end(&w_, rc != (unwaited));                                                      \
    } while (0)

// A lock that is held: wanted, waited for, taken. how: enum lock_order_how.
#define WAIT_LOCK(object, type, how, call, unwaited)                                               \
    WAIT_LOCK_OF(FRAME, object, type, how, call, unwaited)
#define WAIT_LOCK_OF(frame, object, type, how, call, unwaited)                                     \
    do {                                                                                           \
        int rc_;                                                                                   \
        if (lock_order_is_on())                                                                    \
            lock_order_wants_at(object, type, how, frame);                                         \
        WAIT_OF(rc_, frame, object, type, true, (how)&LOCK_ORDER_READS ? NULL : (object), call,    \
                unwaited);                                                                         \
        return TOOK(frame, object, type, (how) & ~(unsigned)LOCK_ORDER_WAITS, rc_);                \
    } while (0)
// rc, of a call that has taken the lock if it succeeded.
#define TOOK(frame, object, type, how, rc)                                                         \
    (lock_order_is_on() ? lock_order_result(object, type, how, rc, frame) : (rc))

// What waits for `object` is charged before it is released, and recorded after.
#define RELEASE(object, call)                                                                      \
    do {                                                                                           \
        bool is_on_ = is_on();                                                                     \
        if (is_on_ && lock_order_is_on())                                                          \
            lock_order_releases(object);                                                           \
        if (is_on_ && is_awaited())                                                                \
            trace_unlock(object);                                                                  \
        if (!is_on_ || !lock_is_mutex_on())                                                        \
            return (call);                                                                         \
        RELEASE_OF(FRAME, object, call);                                                           \
    } while (0)
#define RELEASE_OF(frame, object, call)                                                            \
    do {                                                                                           \
        if (!lock_has_waiters(object))                                                             \
            return (call);                                                                         \
        struct unwind_registers regs_;                                                             \
        CAPTURE_CALLER_OF(&regs_, frame);                                                          \
        struct lock_charge owed_ = lock_charge(object);                                            \
        int rc_ = (call);                                                                          \
        if (owed_.delay_ns && !rc_)                                                                \
            lock_charged(object, owed_, &regs_);                                                   \
        return rc_;                                                                                \
    } while (0)

#endif
