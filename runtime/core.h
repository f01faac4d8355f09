// SPDX-License-Identifier: MIT
//
// The scheduler's own parts, for each other. What the rest may use is in sched.h.

#ifndef FIBERSCOPE_RUNTIME_CORE_H
#define FIBERSCOPE_RUNTIME_CORE_H

#include "runtime/arch/arch.h"
#include "runtime/diag.h"
#include "runtime/sched.h"

// --- The whole.

// NOLINTNEXTLINE(*Padding): lines by who writes them
struct sched {
    _Alignas(
        LINE) _Atomic uint32_t spinning; // Ms that look for work; at most one is woken at a time
    _Atomic uint32_t idle_ps;            // in the list
    _Atomic uint32_t ps_made;            // in ps
    _Atomic uint32_t procs;              // Ps with a smaller id may run
    _Atomic bool is_shared;              // several Ps or thieves: queues need atomics
    _Atomic uint32_t global_count, bound_count;
    _Atomic uint32_t stack_wait_count;

    _Alignas(LINE) struct rt_lock lock; // of what follows
    struct g_queue global;
    struct g_queue bound;       // preempted in their handlers: their Ms wait
    struct g_queue stack_waits; // runnable, but without a stack
    struct p *idle_p_list;
    struct m *idle_m_list;
    bool is_p_waiting;  // one in the idle list has work, and there was no M for it
    struct m *ended_ms; // whose threads have ended: used again by m_new
    uint32_t idle_ms, ms,
        running_ms; // in the list; in all; not stopped (in handlers and calls: running)
    uint32_t threads_max;

    _Atomic int64_t poll_until;     // the M that waits in netpoll returns then; 0: none waits
    _Atomic uint32_t poller;        // 1: one M waits in netpoll, or is about to
    _Atomic int64_t polled_at;      // last look at the netpoller
    _Atomic uint32_t ms_wanted;     // spawner: futex
    _Atomic uint32_t sysmon_sleeps; // futex: 1 while it sleeps without end

    struct p *_Atomic ps[PROCS_MAX]; // set once, from 0 on; NULL: not made
    struct m *_Atomic all_ms;
    size_t stack_bytes, main_stack_bytes;
    uint8_t stack_class; // of stack_bytes
    int64_t stall_ns;
    int64_t quantum_ns; // a fiber runs so long before it is preempted; FIB_DEBUG=quantum=US
    bool is_main_mode;  // fib_main: deadlock is an error
    bool is_chaos;
    bool is_slow; // seeded or chaos: always ask the scheduler
    uint64_t wake_after_ticks;
    bool is_preempt_off;
    _Atomic bool is_running;
    _Atomic uint32_t thread_gs_parked;
    _Atomic uint64_t spawns_outside; // by plain threads
    uint64_t seed;
    uint32_t fixed_threads; // threads of the process that are ours and run no fibers
};
extern struct sched sched;

// --- Transitions. See types.h.

static inline void trans_begin(struct m *m)
{
    // Written by this thread alone; read by others after a membarrier.
    atomic_store_explicit(&m->seq, atomic_load_explicit(&m->seq, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void trans_end(struct m *m)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&m->seq, atomic_load_explicit(&m->seq, memory_order_relaxed) + 1,
                          memory_order_release); // what the transition wrote comes before
}

static inline struct p *m_p(struct m *m)
{
    return atomic_load_explicit(&m->p, memory_order_relaxed);
}

// For who looks at fibers that others run.
// Not an atomic load: see FIB_LOOKS.
FIB_LOOKS static inline struct live *g_live(const struct g *g)
{
    return *(struct live *const volatile *)&g->live;
}

// --- Switching (switch.c).

// From m->cur to next, which runs in status G_RUNNING and may be g0; between trans_begin and trans_end
// (the latter done on next's stack, after m->after). Returns when m->cur is switched to again, then perhaps in
// another M. now: ticks.
void switch_to(struct m *m, struct g *next, uint64_t now);

// The next fiber if it is plain to see and can run at once; NULL: the scheduler has to look.
struct g *next_fast(struct m *m, uint64_t now);

// trans_begin of this M, which has a P: a fiber that blocked unannounced lost it, and gets one first.
struct m *trans_begin_with_p(void);

// A new G into p's queue, as readied by m's fiber. Inside a transition.
void g_enqueue_new(struct m *m, struct p *p, struct g *g);

// --- Queues (runq.c).
bool runq_is_empty(const struct p *p);
void runq_put(struct p *p,
              struct g *g); // at the end; half goes to the global queue when full. Owner
void runq_put_next(struct p *p, struct g *g); // to run next; who was there goes to the end. Owner
struct g *runq_get(struct p *p);              // owner
struct g *runq_steal(struct p *to, struct p *from, bool with_next); // half, one of them returned
void queue_append(struct g_queue *q, struct g *g);
struct g *queue_take(struct g_queue *q);
void global_put(struct g *g);                    // takes sched.lock
void global_put_list(struct g_queue *q);         // empties q
struct g *global_get(struct p *p, uint32_t max); // up to max go to p's queue; sched.lock held
uint64_t random_next(uint64_t *state);

// --- Gs and stacks (g.c, stack.c, site.c).
struct g *g_new(struct p *p); // p NULL: a plain thread. Status G_DEAD, id not set; NULL: no memory
void g_free(struct p *p, struct g *g);
struct g *g_at(uint32_t index); // all slots that ever were, by index from 0; NULL: no more
struct g_table {                // for the descriptor
    const void *slabs, *count;
    uint32_t slab_gs;
};
struct g_table g_table(void);
bool stack_attach(struct p *p, struct g *g); // false: none to be had
void stack_release(struct p *p, struct g *g);
bool stacks_are_short(void);
// Some of the stacks that nobody has wanted give their memory back; a period is some tenths of a second. True: there
// are more than need be. [sysmon]
bool stacks_trim(bool is_new_period);
size_t stack_used_bytes(const struct live *l);
void stacks_count(uint64_t *made, uint64_t *free); // *free: about
struct site *site_of(uintptr_t pc, bool *is_measured);
enum { STACK_BYTES_MAX = 128 << 20 }; // of one stack
enum { SITES_ALL = 4097 };            // the last one: of all further places
const struct site *site_at(uint32_t index);
uint32_t site_index(const struct site *s);
void site_note(struct site *s, uint64_t stack_used_bytes);
void sites_measure(void); // those of its measured fibers that live
uint8_t stack_class_of(size_t bytes);

// --- Ps and Ms (proc.c, thread.c).
void p_acquire(struct m *m, struct p *p); // m owns it now; taken from the idle list or given
void p_own(struct m *m, struct p *p);     // the same, of one that m has had all the time
struct p *p_release(struct m *m);         // m has none now
void p_idle_put(struct p *p);             // sched.lock held
struct p *p_idle_get(void);               // sched.lock held; NULL
void p_hand_off(struct p *p); // to an M that runs it, or to the idle list if there is no work
void m_start(struct p *p, bool is_spinning);       // some M runs p
void m_stop(struct m *m);                          // until it is given a P; m has none
void m_stop_locked(struct m *m);                   // until its locked G may run: then it has a P
void m_give(struct m *m, struct p *p);             // wakes m, stopped or about to be, with p
bool m_give_if_idle(struct m *m, struct p *p);     // false: it is not in the idle list
struct g *bound_take(void);                        // sched.lock held
void m_resume_bound(struct g *g, struct p *p);     // g, from bound_take, runs on with p
void m_end(struct m *m) __attribute__((noreturn)); // the thread ends
int thread_start(void *(*fn)(void *), void *arg, size_t stack_bytes); // detached; 0 or -errno
void *spawner_main(void *arg);
int64_t debug_option(const char *name, int64_t no); // FIB_DEBUG=name=N,...
void debug_warn(void);                              // of what it has that is no option
bool is_work_anywhere(void);                        // in any queue
void stacks_try_again(void);                        // after a time without memory for stacks
void wake_p(void); // one more M looks for work, if there is an idle P and none looks
int m_new(void);   // a thread; 0 or -errno. Spawner and fib_init alone
void m_want(void); // asks the spawner for one

// --- The scheduler (schedule.c).
void schedule_loop(struct m *m) __attribute__((noreturn));

// --- Timers (timer.c).
void timers_run(int64_t now);                     // those that are due, of all Ps
void timers_run_some(struct p *p, int64_t now);   // of this M's P, up to a number
void timers_run_others(struct p *p, int64_t now); // of other Ps than p, as far as nobody else does
void sleep_add(struct g *g, int64_t when);        // g, which has just parked, is readied then
void timers_init(struct p *p);
int64_t timers_first(void); // of all Ps; INT64_MAX
bool seed_clock_advance(
    void); // the deterministic clock jumps to the next timer; false: there is none
uint64_t ns_to_ticks(int64_t ns);
uint64_t ticks_at(int64_t ns); // about, of a moment by CLOCK_MONOTONIC
void clock_anchor(void);
const void *ticks_scale(void); // of a uint64_t: ns per tick, times 2^32
void clock_init(void);

// --- Others.
void *sysmon_main(void *arg);
int preempt_init(void);
void m_preempt(struct m *m, enum preempt_kind kind);
void dead_check(
    void); // nothing runs any more, sched.lock held: reports and exits if that is an error
void sysmon_wake(void);
void join_wake(struct g *g);  // g ends: wakes its joiners, clears its id
void locals_end(struct g *g); // runs exit hooks and destructors; in the fiber
void pool_age_all(void);      // what lies unused in pools; spawns a fiber if there is something
void thread_park(struct g *g, enum wait_reason reason, const void *object, park_after_fn *after,
                 void *arg, int64_t timeout_ns); // thread_g.c
// All thread Gs by index from 0; NULL: no more. *tid 0: free.
struct g *thread_g_at(uint32_t index, pid_t *tid);
void fiber_begin(void); // from fib_root_
uint64_t fib_next_id(struct p *p);
void ids_begin(uint64_t first); // before the first: lower ones are plain threads' in a trace

#endif
