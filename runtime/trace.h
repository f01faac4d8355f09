// SPDX-License-Identifier: MIT
//
// The scheduler's events of an execution trace (emit/emit.h). Off, each costs a load and a branch.
//
// Invariants: each is called by who has authority over what it names, before the status changes and before
// anybody else can see it; inside the M's transition, where nothing else is said.

#ifndef FIBERSCOPE_RUNTIME_TRACE_H
#define FIBERSCOPE_RUNTIME_TRACE_H

#include "emit/emit.h"
#include "runtime/core.h"

void trace_init(void); // [fib_init]

void trace_create_(struct m *m, struct g *g, uint64_t id);
void trace_start_(struct m *m, struct g *g, uint64_t now);
void trace_destroy_(struct m *m, uint64_t now);
void trace_yield_(struct m *m, struct g *g, uint64_t now);
void trace_preempt_(struct m *m, struct g *g, const void *context, uint64_t now);
void trace_park_(struct m *m, struct g *g, enum wait_reason reason, uint64_t now);
void trace_ready_(struct m *m, struct g *g);
void trace_resume_(struct m *m, struct g *g); // within `after`: on another's stack
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

#define FIB_TRACE(what, ...)                                                                       \
    do {                                                                                           \
        if (FIB_TRACE_IS_ON)                                                                       \
            trace_##what##_(__VA_ARGS__);                                                          \
    } while (0)

// Of plain threads and sysmon: from enter to leave nobody believes that the generation has passed. NULL: off.
struct emit_thread *trace_outside_enter(void);
void trace_outside_ready(struct emit_thread *t, struct g *g);
void trace_outside_steal(struct emit_thread *t, struct p *p);
void trace_outside_park(enum wait_reason reason); // a plain thread waits
#define trace_outside_wake  emit_self_wake        // and goes on
#define trace_outside_leave emit_leave

#endif
