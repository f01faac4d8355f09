// SPDX-License-Identifier: MIT
//
// The runtime's USDT sites (docs/usdt.md): of fibers alone, not of plain threads that wait, nor of the schedulers' own.
// Each stands where a trace is told of the same: before others can see the change, and by who makes it.

#ifndef FIBERSCOPE_RUNTIME_USDT_H
#define FIBERSCOPE_RUNTIME_USDT_H

#include "emit/usdt.h"
#include "runtime/core.h"

#define RUNTIME_PROBES(X)                                                                          \
    X(spawn)                                                                                       \
    X(start)                                                                                       \
    X(park)                                                                                        \
    X(unpark)                                                                                      \
    X(yield)                                                                                       \
    X(preempt)                                                                                     \
    X(syscall_enter)                                                                               \
    X(syscall_exit)                                                                                \
    X(steal)                                                                                       \
    X(handoff)                                                                                     \
    X(exit)                                                                                        \
    X(block)                                                                                       \
    X(mutex)

RUNTIME_PROBES(USDT_DECLARE)

// The id that a fiber has, or had until it was joined.
static inline uint64_t usdt_id(const struct g *g)
{
    uint64_t id = atomic_load_explicit(&g->id, memory_order_relaxed);
    return id || !g->live ? id : g->live->ended_id;
}

// Of who runs; 0: no fiber.
static inline uint64_t usdt_self(const struct m *m)
{
    return m && m->cur != &m->g0 ? usdt_id(m->cur) : 0;
}

// g, a fiber, is readied by the one that runs on m, or by none.
static inline void usdt_unpark(const struct m *m, const struct g *g)
{
    if (USDT_IS_ON(unpark))
        USDT2(unpark, usdt_id(g), usdt_self(m));
}

// m's fiber runs.
static inline void usdt_start(const struct m *m)
{
    if (!USDT_IS_ON(start) || m->cur == &m->g0)
        return;
    const struct p *p = atomic_load_explicit(&m->p, memory_order_relaxed);
    USDT3(start, usdt_id(m->cur), (uintptr_t)m->cur->fn, p ? p->id : UINT32_MAX);
}

#endif
