// SPDX-License-Identifier: MIT
//
// The runtime's data, all of it, and what always holds.
//
// Glossary (Go's words)
//   G        a fiber: struct g, its identity, 96 bytes, made by fib_go; and struct live, what only a fiber
//            that has run needs, at the top of its stack, so that a parked fiber touches one page
//   M        a kernel thread that runs fibers: struct m. Its own stack runs the scheduler, as m->g0
//   P        a processor: the right to run fibers, with a queue, timers and caches: struct p
//   park     to stop running until somebody calls g_ready
//   ready    to make runnable
//   bound    a G that only one M may run: preempted in its signal handler, locked, or pinned
//   thread G what stands for a plain thread that waits: has no stack of ours, is woken by a futex
//
// What always holds
//   - A P is owned by one M, or is in the idle list, or is in a blocking call (P_SYSCALL), from where a
//     compare-and-swap takes it. Only the owner touches what is the owner's.
//   - A G is in exactly one place: running (m->cur), in one queue, parked (and whoever may wake it holds
//     it), or dead in a free list. Who wakes a parked G is decided before g_ready: by a lock, or by a
//     compare-and-swap of live->is_chosen.
//   - A G that leaves a processor becomes visible to others (queue, unlock) only after its registers are
//     saved: by m->after, which runs on the next stack.
//   - Each transition of a G or P lies between trans_begin and trans_end: m->seq is odd inside.
//   - A signal handler preempts only outside of both transitions and runtime locks (m->locks).
//   - The runtime allocates by mmap alone, takes no lock of libc's and calls nothing that does, while it has a P:
//     a preempted fiber may hold libc's locks.
//   - Gs and stacks are never unmapped: a stale pointer reads old data and an id that differs.

#ifndef FIBERSCOPE_RUNTIME_TYPES_H
#define FIBERSCOPE_RUNTIME_TYPES_H

#include "fiberscope/fiber.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FIB_PUBLIC __attribute__((visibility("default")))
// For functions that read on purpose what others are writing, and can live with what they read: no data race to
// be reported. Of what is written plainly they read by volatile: atomic loads are seen all the same.
#define FIB_LOOKS __attribute__((no_sanitize("thread")))

enum {
    PROCS_MAX = 256,
    RUNQ_SIZE = 256,  // as Go's; a power of two
    GLOBAL_TICK = 61, // every so many switches the global queue goes first: as Go's
    LINE = 64,
    LOCALS_INLINE = 4,
    NAME_SIZE = 32,
    STACK_CLASSES = 14, // 16 KiB << class: to 128 MiB
    BOUND_MAX =
        1024, // Ms that preempted fibers may hold in handlers; beyond it nobody is preempted
    THREADS_MAX = 10000,
};

enum g_status { // one byte; shared with debuggers by the descriptor
    G_DEAD,
    G_RUNNABLE,
    G_RUNNING,
    G_SYSCALL,
    G_WAITING,
    G_PREEMPTED, // its M waits in a signal handler
};

enum g_flag {
    G_IS_THREAD = 1,  // a plain thread
    G_IS_SYSTEM = 2,  // g0
    G_IS_STARTED = 4, // has a stack
    G_IS_MEASURED =
        8,          // one in some of its site: on a fresh stack, whose use is looked at in the end
    G_IS_TASK = 16, // begins in its go_task's run
};

// Wait reasons: Go's words, in reasons.c.
enum wait_reason {
    WAIT_NONE,
    WAIT_CHAN_RECEIVE,
    WAIT_CHAN_SEND,
    WAIT_CHAN_RECEIVE_NIL,
    WAIT_CHAN_SEND_NIL,
    WAIT_SELECT,
    WAIT_SELECT_NO_CASES,
    WAIT_SLEEP,
    WAIT_MUTEX,
    WAIT_RWMUTEX_R,
    WAIT_RWMUTEX_W,
    WAIT_WAITGROUP,
    WAIT_COND,
    WAIT_SEMAPHORE,
    WAIT_JOIN,
    WAIT_IO,
    WAIT_STACK, // for a stack: memory or mappings are short
    WAIT_REASONS,
};

struct emit_thread;
struct m;
struct p;
struct g;
struct sudog;

// Flags in the word that names a lock's owner: no part of the id. See sync/mutex.c.
#define OWNER_FLAGS (UINT64_C(7) << 60)

// What a fiber keeps while it is not running, and what is counted about it. Lies at the top of its stack; of
// a thread G and a g0 anywhere.
struct live {
    uint64_t sp; // saved stack pointer; the registers are above it. First: switch.S
    struct g *g;
    int saved_errno;
    uint32_t wait_reason;       // enum wait_reason; 0: none
    void *eh_globals[2];        // __cxa_get_globals
    _Atomic uint32_t is_chosen; // of several that could wake it, one has
    uint32_t nopreempt;
    bool is_counted;    // thread G: in sched.thread_gs_parked
    uint64_t low, high; // the stack; high is the end of this struct's page

    const void *wait_object;
    // Where the id can be read of who owns what it waits for, or whose end it waits for; or NULL.
    _Atomic uint64_t *wait_owner;
    uint64_t wait_since_ticks; // by ticks_now
    void *wait_data;           // the waker's, for the waiter: sudog, result

    uint64_t cpu_ticks, runnable_ticks; // see fib_info
    uint64_t switches, wakes, preempted;

    struct m *bound_m; // only this M may run it; NULL: any
    uint64_t region;   // the recorder's: id of its innermost region
    uint64_t ended_id; // its id, once g's is cleared
    struct m *last_m;  // where it ran when it began to wait for a lock; FIB_DEBUG=chaos=1: last
    uint32_t locked;   // fib_lock_thread's depth
    uint32_t pinned;   // fib_pin's
    uint32_t blocking; // fib_blocking_enter's depth
    _Atomic uint32_t futex; // thread G: 1 has been readied; preempted G: its M may go on
    void *locals[LOCALS_INLINE];
    void **locals_more;           // the other keys' values: malloc'd, FIB_KEYS of them
    struct exit_hook *exit_hooks; // sync/owner.h: run by locals_end when the fiber ends
    void *asan_fake_stack, *tsan_fiber;
    uint64_t started_ticks; // when it first ran
    char name[NAME_SIZE];   // last: of a new fiber all before it is zeroed, and its start
};

// The argument of a fiber that begins in a function of ours, and is known as the program's that this one calls.
struct go_task {
    fib_fn *run;
};

// The identity of a fiber.
struct g {
    _Atomic uint8_t status; // enum g_status
    uint8_t flags;          // enum g_flag
    uint8_t stack_class;
    uint8_t is_waking_sampled; // ready_ticks is set: the coming run-queue wait is measured
    int32_t labels;            // index of a label set; 0: none
    _Atomic uint64_t id;       // 0: free
    struct g *link;            // of the queue that it is in
    struct live *live;         // NULL before its first run
    fib_fn *fn;                // as which it is known
    void *arg;
    uint64_t creator;
    struct site *site;             // where it was created
    struct sudog *_Atomic joiners; // see go.c: waiters, linked; or JOIN_LOCKED
    const char *name;              // given at creation
    uint64_t ready_ticks;          // when it became runnable
    _Atomic uint64_t trace;        // an emit_mark
};
_Static_assert(sizeof(struct g) == 96,
               "a parked fiber's memory is stack page, page tables and this");

// A place that creates fibers: the pc behind fib_go.
struct site {
    _Atomic uintptr_t pc;            // 0: free
    _Atomic uint32_t countdown;      // to the next measured one; not exact
    _Atomic uint32_t measured;       // so many have ended
    _Atomic uint64_t stack_used_max; // bytes: the high-water mark of those measured
};

struct g_queue { // singly linked by g->link; protected by its owner
    struct g *head, *tail;
    uint32_t count;
};

// --- Locks of the runtime: a spin lock whose holder is never preempted by us, but may be by the kernel.
struct rt_lock {
    _Atomic uint32_t held; // 0 or 1; whatever else: what it guarded is gone
};
enum { RT_LOCK_GONE = 2 };

// --- Timers.
struct timer {    // in struct fib_timer, or on the stack of who waits
    int64_t when; // ns, by clock_now
    int64_t period;
    // Called with the heap's lock held, in an M or the deterministic clock: may ready Gs and spawn, not
    // wait, nor touch timers.
    void (*fire)(struct timer *t);
    void *arg;
    struct p
        *_Atomic p; // whose heap it is or was in; its lock guards the rest. NULL: never started
    _Atomic uint32_t index; // there, from 1; 0: not in it. Changed with the lock
    uint32_t reserved;
    fib_fn *fn; // fib_timer's
    void *fn_arg;
};
_Static_assert(sizeof(struct timer) <= sizeof(struct fib_timer), "fits the public one");

struct timer_heap {
    struct rt_lock lock;
    uint32_t count, capacity;
    struct timer_slot {
        int64_t when;
        uintptr_t what; // a struct timer *, or a struct g * that sleeps | 1: nobody stops that one
    } * slots;          // a 4-ary heap; from mmap, so that four children lie in one line
    _Atomic int64_t first;        // slots[0].when; INT64_MAX: none. Read without the lock
    _Atomic uint64_t first_ticks; // in ticks, about, when the owner is to look; UINT64_MAX
    struct timer *_Atomic firing; // its fire is running, with the lock held
};

// --- Processors.
// STOPPED: beyond fib_procs. TAKEN: out of a blocking call, while that is told to the trace.
enum p_status { P_IDLE, P_RUNNING, P_SYSCALL, P_STOPPED, P_TAKEN };

// NOLINTNEXTLINE(*Padding): lines by who writes them
struct p {
    _Alignas(LINE) _Atomic uint32_t status;
    uint32_t id;
    struct m *m;                // its owner; NULL in the idle list
    uint32_t countdown;         // to the next look at the global queue; owner
    bool is_bounds_turn;        // preempted ones and others take turns; owner
    _Atomic uint32_t schedules; // the same, for sysmon
    struct p *link;             // of the idle list
    uint64_t random;            // owner

    // The queue. Owner puts at tail, takes at head; thieves take at head.
    _Alignas(LINE) _Atomic uint32_t head;
    _Atomic uint32_t tail;
    struct g *_Atomic next; // runs before the queue: readied by the running one
    struct g *_Atomic queue[RUNQ_SIZE];

    _Alignas(LINE) struct timer_heap timers;

    // Owner's caches.
    struct g_queue free_gs;
    uint64_t id_next, id_end; // a batch of ids
    struct stack_cache {
        void *head; // linked through struct live, see stack.c
        uint32_t count;
    } stacks[STACK_CLASSES];

    // Counters, by the owner; read by anyone.
    _Atomic uint64_t spawns, exits, switches, steals, wakes;
    _Atomic uint64_t io_waits;    // begun in the netpoller's words (poll.h)
    _Atomic uint64_t latency[64]; // scheduling latency by power of two of ns, one in 8; times 8
    int64_t ran_since_tick;       // sysmon's: clock when schedules last changed
    uint32_t ran_schedules;       // sysmon's
    uint32_t syscall_ticks;       // sysmon's

    _Atomic uint64_t trace; // an emit_mark
    pid_t syscall_tid;      // whose blocking call it is in
};

// --- Threads.
enum preempt_kind { PREEMPT_NONE, PREEMPT_RUNNING, PREEMPT_BLOCKED };
enum stack_wish { STACK_NONE, STACK_FOR_DUMP, STACK_FOR_STALL };

// NOLINTNEXTLINE(*Padding): the first line is what each switch needs
struct m {
    _Alignas(LINE) _Atomic uint32_t seq; // odd inside a transition
    uint32_t locks;                      // runtime locks held: not preempted
    struct g *cur;                       // running; never NULL
    struct p *_Atomic p;                 // NULL: has none
    uint64_t since_ticks;                // when cur began to run
    int *errno_at;                       // the thread's errno
    void **eh_globals;                   // the thread's __cxa_eh_globals; NULL: no C++ here
    // What is done for `prev` on the next stack, once its registers are saved; NULL: nothing.
    void (*after)(struct m *m, struct g *prev, void *arg);
    void *after_arg;
    struct g *prev;
    struct g *handed;     // taken, but for the scheduler to run
    bool is_spinning;     // looks for work; counted in sched.spinning
    bool is_traced;       // see trace.h
    struct p *syscall_p;  // had when the blocking call began
    uint64_t clock_ticks; // clock_soon's last look at the clock: when
    int64_t clock_ns;     // and what it said
    uint64_t
        interrupted; // os_thread_interrupted, when a fiber that seemed to compute was last looked at

    struct g g0;
    struct live g0_live;
    _Atomic uint32_t park;    // futex: 1 has been woken
    struct p *next_p;         // given with the wake; sched.lock
    bool is_stopped, is_idle; // waits for a P; and is in the idle list. sched.lock
    bool is_ending;           // its locked fiber has ended: the thread ends
    struct g *locked_g;       // wired to this thread; NULL
    struct rt_lock pinned_lock;
    struct g_queue pinned; // ready Gs that are pinned here
    _Atomic uint32_t pinned_count;
    _Atomic uint32_t preempt; // enum preempt_kind, sysmon's wish
    uint32_t preempt_skips;   // handler: times that libc was interrupted
    uint64_t cpu_seen_ns;     // sysmon's: CPU time of the thread at its last look
    struct m *link;           // of the idle list
    struct m *all_link;       // of sched.all_ms; set once
    pid_t tid;
    uint32_t id;
    void *signal_stack;
    uint64_t random;
    _Atomic uint64_t wakes_issued, parks;
    struct emit_thread *trace;   // its stream; NULL: not yet
    _Atomic uint64_t trace_p;    // the mark of a P that stands for none, see trace.c
    _Atomic bool is_tell_wanted; // the handler of SIGURG is to tell the trace what runs here

    // Diagnosis.
    const void *_Atomic context;   // ucontext_t of what was preempted, while its handler waits
    _Atomic uint32_t stack_wanted; // enum stack_wish: the handler of SIGURG is to show its stack
    int64_t stall_next_ns;         // sysmon's: reported when its fiber has run so long
    int64_t stall_ran_ns;          // for the handler
    uint32_t stall_schedules;      // sysmon's: the run that this is about
};

#endif
