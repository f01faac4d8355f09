// SPDX-License-Identifier: MIT
//
// The scheduler's events of an execution trace (emit/emit.h). Off, a transition costs a comparison with memory.
//
// Invariants: each is called by who has authority over what it names, before the status changes and before
// anybody else can see it; inside the M's transition, where nothing else is said. While tracing may be on, each M's
// is_traced is set: before tracing begins, every transition has ended that may have seen it clear. So one look at
// it is enough for each, and whether tracing is on, in which generation, is emit's to find out.

#ifndef FIBERSCOPE_RUNTIME_TRACE_H
#define FIBERSCOPE_RUNTIME_TRACE_H

#include "emit/emit.h"
#include "runtime/core.h"
#include "runtime/os/os.h"
#include "runtime/tools.h"

void trace_init(void); // [fib_init]

struct emit_thread *trace_stream_anew(struct m *m);

// m's stream; NULL: no memory.
static inline struct emit_thread *trace_stream(struct m *m)
{
    struct emit_thread *t = m->trace;
    return __builtin_expect(t && t->tid == (uint32_t)m->tid, 1) ? t : trace_stream_anew(m);
}

// The stack of m's fiber, the caller's frame first. Inline: each frame takes its time.
static inline emit_number trace_stack(struct m *m)
{
    const struct g *g = m->cur;
    struct emit_thread *t = g == &m->g0 ? NULL : trace_stream(m);
    return t ? emit_stack(t, g->live->low + OS_PAGE, g->live->high) : EMIT_NO_STACK;
}

void trace_create_(struct m *m, struct g *g, uint64_t id);
void trace_start_(struct m *m, struct g *g, uint64_t now);
void trace_preempt_(struct m *m, struct g *g, const void *context, uint64_t now);
// The running fiber leaves, and next starts, which may be g0.
void trace_destroy_(struct m *m, struct g *next, uint64_t now);
void trace_yield_(struct m *m, emit_number stack, struct g *next, uint64_t now);
void trace_park_(struct m *m, enum wait_reason reason, emit_number stack, struct g *next,
                 uint64_t now);
void trace_ready_(struct m *m, struct g *g, emit_number stack);
void trace_resume_(struct m *m, struct g *g); // no stack: within `after`, or by the scheduler
void trace_call_begin_(struct m *m, struct g *g, const void *context);
void trace_call_end_(struct m *m);
void trace_call_end_blocked_(struct m *m);
void trace_proc_start_(struct m *m, struct p *p);
void trace_proc_stop_(struct m *m);
void trace_proc_steal_(struct m *m, struct p *p); // out of another's call; m has none
void trace_procs_(struct m *m, uint32_t procs);
void trace_label_(struct m *m, uint32_t text); // of its fiber
void trace_tell_(struct m *m);                 // in the handler of SIGURG: what runs here
void trace_thread_ends_(struct m *m);

// FIB_NO_TRACE: what the runtime would be without, which ./dev bench trace compares with.
#ifdef FIB_NO_TRACE
#define FIB_TRACE_IS_ON false
#else
#define FIB_TRACE_IS_ON emit_is_on()
#endif

void trace_m_begins(struct m *m); // it is in sched.all_ms, and in no transition yet

// Within a transition. Not read as an atomic, which takes an instruction more; but for the thread sanitizer.
static inline bool m_is_traced(const struct m *m)
{
#ifdef FIB_NO_TRACE
    (void)m;
    return false;
#elif defined(FIB_TSAN) || defined(__SANITIZE_THREAD__)
    return __atomic_load_n(&m->is_traced, __ATOMIC_RELAXED);
#else
    return __builtin_expect(m->is_traced, 0);
#endif
}

// FIB_TRACE: where it does not matter; in transitions that are many, m_is_traced.
#define FIB_TRACE(what, ...)                                                                       \
    do {                                                                                           \
        if (FIB_TRACE_IS_ON)                                                                       \
            trace_##what##_(__VA_ARGS__);                                                          \
    } while (0)

// Of plain threads and sysmon: from enter to leave nobody believes that the generation has passed. NULL: off.
struct emit_thread *trace_outside_enter(void);
struct emit_thread *trace_outside_create(struct g *g,
                                         uint64_t id); // enters; before g is to be seen
void trace_outside_ready(struct emit_thread *t, struct g *g);
// What was changed is to be seen, and nobody can go on from it yet. If it could not be told (t is NULL, as nothing was
// recorded, or this thread may not; or its session has ended without it), a trace that has begun meanwhile, or goes
// on, ends before them.
void trace_outside_told(struct emit_thread *t);
void trace_outside_steal(struct emit_thread *t, struct p *p);
void trace_outside_park_(enum wait_reason reason, uint64_t at);
// A plain thread waits, and goes on: in one function.
#define trace_outside_park(reason) trace_outside_park_(reason, (uint64_t)__builtin_frame_address(0))
#define trace_outside_wake()       emit_self_go_on((uint64_t)__builtin_frame_address(0))
#define trace_outside_leave        emit_leave

#endif
