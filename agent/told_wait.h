// SPDX-License-Identifier: MIT
//
// A hook around a call in which a plain thread waits in the kernel: told to the trace, and not to be ended by our signals.
//
// What always holds: a hook that uses WAIT calls the function behind it once, and keeps its result and errno. Without a
// trace that is one load more.

#ifndef FIBERSCOPE_AGENT_TOLD_WAIT_H
#define FIBERSCOPE_AGENT_TOLD_WAIT_H

#include "agent/agent.h"
#include "agent/capture.h"
#include "agent/hooks.h"
#include "agent/trace.h"
#include "emit/emit.h"

#include <errno.h>
#include <time.h>

static inline bool told_is_on(void)
{
    if (__builtin_expect(!hooks_ready(), 0))
        hooks_resolve_locks();
    if (emit_is_on())
        return true;
    if (trace_is_due())
        trace_begin_due();
    if (atomic_load_explicit(&emit_rests, memory_order_relaxed))
        emit_tick();
    return emit_is_on();
}

// at: TOLD_AT of the hook.
static inline void told_begin(int reason, uint64_t at)
{
    int saved = errno;
    if (reason)
        emit_self_block((enum emit_reason)reason, 0, at);
    else
        emit_self_call(at);
    errno = saved;
}

static inline void told_end(uint64_t at)
{
    int saved = errno;
    emit_self_go_on(at);
    emit_self_tick();
    errno = saved;
}

// A system call, or the reason of a wait.
enum { CALL = 0, SYNC = EMIT_REASON_SYNC, NET = EMIT_REASON_NETWORK, SLEEP = EMIT_REASON_SLEEP };

#define WAIT(type, kind, call)                                                                     \
    do {                                                                                           \
        if (!told_is_on()) {                                                                       \
            type untold_ = call;                                                                   \
            trace_here();                                                                          \
            return untold_;                                                                        \
        }                                                                                          \
        TOLD_UNWINDS();                                                                            \
        told_begin(kind, TOLD_AT);                                                                 \
        type rc_ = call;                                                                           \
        told_end(TOLD_AT);                                                                         \
        return rc_;                                                                                \
    } while (0)

// --- Waits that a handler ends early, whatever SA_RESTART says (signal(7)). Our signals are not to show, so waits that
// these alone have ended go on for the time that is left.

struct patience {
    uint32_t ended;
    int error;        // errno, before
    int64_t until_ns; // 0: for ever
};

static inline int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// ns: how long; negative: for ever.
static inline struct patience patience(int64_t ns)
{
    return (struct patience){waits_ended(), errno, ns > 0 ? now_ns() + ns : 0};
}

// In which a signal that was dropped may still end a wait, of a thread that comes to run late.
enum { DISARMING_NS = 20000000 };

static inline bool goes_on(struct patience *p, int error)
{
    uint32_t was = p->ended;
    if (__builtin_expect(error != EINTR, 1))
        return false;
    p->ended = waits_ended();
    int64_t disarmed = atomic_load_explicit(&source_disarmed_ns, memory_order_relaxed);
    if (p->ended == was && (!disarmed || now_ns() - disarmed > DISARMING_NS))
        return false;
    errno = p->error;
    return true;
}

// The same for waits that only a signal ends: one of the program's, taken for ours, might be the last that ever comes. So
// there a dropped signal of ours may end one.
static inline bool was_ours_alone(struct patience *p, int error)
{
    uint32_t was = p->ended;
    p->ended = waits_ended();
    if (error != EINTR || p->ended == was)
        return false;
    errno = p->error;
    return true;
}

static inline int64_t left_ns(const struct patience *p)
{
    int64_t left = p->until_ns - now_ns();
    return left > 0 ? left : 0;
}

static inline int left_ms(const struct patience *p, int timeout)
{
    return timeout > 0 ? (int)((left_ns(p) + 999999) / 1000000) : timeout;
}

static inline struct timespec left_time(const struct patience *p)
{
    int64_t ns = left_ns(p);
    return (struct timespec){ns / 1000000000, ns % 1000000000};
}

static inline int64_t time_ns(const struct timespec *t)
{
    return !t ? -1 : t->tv_sec > INT32_MAX ? INT64_MAX / 4 : t->tv_sec * 1000000000 + t->tv_nsec;
}

#endif
