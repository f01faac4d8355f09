// SPDX-License-Identifier: MIT
//
// The agent's own state, and which file does what with it.
//
//   agent.c    the constructor, starting and stopping, fork, exit
//   env.c      the FIBERSCOPE variable
//   hello.c    messages to the collector;  call.c  one that comes late
//   output.c   the raw dump, written by the target itself where no collector does it
//   slot.c     one slot per thread: memory for its walks, its timers, its CPU clock
//   hooks.c    what is interposed: one table; hooks_got.c the other way to make it take effect,
//              got_slots.c what it has overwritten
//   inject.c   what an injector calls: into service, and out of it
//   capture.c  where a hook was called from
//   fibers.c   which fiber a thread runs, where the program has the runtime
//   fork.c     forks in the midst of a hook
//   heap*.c    the malloc family;  lock*.c  waits for locks, and their order
//   api.c      the fscope_ API: starting, stopping, writing; labels.c, custom.c, forbid.c (with
//              names.c: functions' names for a stack), bench.c: its parts
//   trace.c    traces, tasks, regions, logs; region_times.c: regions counted without a trace
//   held.c     what goes off with the collector that asked for it
//   source.c   who makes the sampling signal: perf events or timers
//   sample.c   the SIGPROF handler
//   modules.c  which files are mapped where, kept up to date from handlers
//   unload.c   which of them a dlclose takes away
//   signals.c, threads.c, images.c   the interposed functions of the process; real.c what is behind them
//
// What always holds
//   - `space` is one private mapping with MADV_WIPEONFORK: a forked child finds zeroes there, so
//     alive == 0 says "this address space has not begun to record", and nothing of the parent's is
//     taken for its own. Every hook and the handler ask agent_live() first.
//   - A vfork or CLONE_VM child shares this memory with its parent and must not change it; it has no
//     sampling source, and hooks that change state ask agent_owns() (which asks the kernel for the
//     pid) first.
//   - The SIGPROF handler stays installed for ever once it is, but for inject.c, which takes care: a late signal
//     must not kill.
//   - Nothing here allocates from the heap or takes a lock, but for the constructor's calls of
//     dlsym, pthread_key_create and __register_atfork.

#ifndef FIBERSCOPE_AGENT_AGENT_H
#define FIBERSCOPE_AGENT_AGENT_H

#include "agent/env.h"
#include "agent/lock.h"
#include "agent/lock_order.h"
#include "agent/region_times.h"
#include "segment/producer.h"
#include "unwind/unwind.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

enum {
    AGENT_SLOTS_MAX = 4096,
    AGENT_MODULES_MAX = 4096,
    AGENT_PAGES_KNOWN = 64,
    AGENT_ALT_STACK_BYTES = 65536, // for threads whose own stack is too small for a handler
    AGENT_SMALL_STACK_BYTES = 65536,
    AGENT_TRACE_BUFFER_BYTES = 64 << 10, // as seg_options counts them
    AGENT_FAILED = 2, // of space.beginning: it could not begin, and is not tried again by itself
    AGENT_FIBER_LABELS = 4096,    // label sets of fibers whose ids are kept
    AGENT_EXACT_STATES = 1 << 18, // of a segment that holds every allocation
    AGENT_EXACT_STACK_BYTES = 256 << 20,
};

// Code pages whose module is in the segment, as one walker of a thread has seen them.
struct agent_pages {
    uint32_t generation;
    uint64_t pages[AGENT_PAGES_KNOWN];
};

// One thread's. A slot is its thread's alone once tid is set, but for source_arm and source_disarm
// by the thread that starts or stops all sampling.
struct agent_slot {
    _Atomic uint32_t tid;   // 0 free; claimed by compare-and-swap
    _Atomic uint32_t busy;  // the handler is at work: a second entry is counted and leaves
    _Atomic uint32_t ready; // the pages behind this header are usable
    int segment_slot;       // of seg_thread_enter; -1: not yet
    _Atomic int perf_fd;    // -1: none
    _Atomic int cpu_timer, wall_timer; // kernel timer ids; -1: none
    uint32_t exit_rounds;              // of key destructors, as the thread ends
    uint32_t source;                   // enum seg_cpu_source that is armed for this thread
    bool keeps_timer;                  // beside perf events that do not see all
    bool was_used;                     // so perf_fd and the timers are no zeroes of fresh memory
    uint64_t cpu_period_ns;            // for which it was armed
    uint64_t cpu_seen_ns;              // the thread's CPU clock at its last sample
    int64_t cpu_due_ns; // CPU time not yet charged to a sample; negative: charged in advance
    uint64_t wall_seen_ns, wall_cpu_ns;
    uint64_t stack_low, stack_high; // the thread's own; 0: not known
    void *alt_stack;                // NULL: the thread has its own or needs none
    // Of the handler. Hooks have their own, below, because the handler interrupts them.
    struct agent_pages pages;
    struct agent_pages hook_pages;
    const uint64_t *hook_pcs; // of the last capture: its walker's, or hook_leaf
    uint64_t hook_leaf;
    struct agent_heap_thread *heap; // heap.c's, NULL: not yet
    uint64_t lock_random;           // lock.c's; 0: not yet seeded
    uint32_t waits_ended;           // by signals of ours alone: system calls that returned EINTR
    struct lock_holder order;       // lock_order.c's
};

struct agent_module {
    _Atomic uint64_t start, end; // end == 0: no longer mapped
    int segment_index;
};

// The part that a forked child must not inherit.
// NOLINTNEXTLINE(*Padding): in groups that belong together; there is one of it
struct agent_space {
    _Atomic uint32_t alive; // release, last of agent_begin: pairs with the acquire in agent_live
    _Atomic uint32_t beginning;
    _Atomic uint32_t running; // samples are taken; 0 after stop
    _Atomic uint32_t saved;   // the dump was written
    uint32_t pid;
    // Of a forked child: how often the collector's backlog was full, and when it is tried again (CLOCK_MONOTONIC).
    _Atomic uint32_t hello_tries;
    _Atomic uint64_t hello_again_ns;
    _Atomic uint32_t user_only;               // a perf event of ours may not count kernel time
    _Atomic uint32_t rate_said;               // one line on the rate is enough
    _Atomic uint64_t cpu_samples, cpu_sum_ns; // taken, for the delivered rate
    _Atomic uint32_t copies;                  // of the flight recorder, asked for so far
    char saved_path[AGENT_PATH_BYTES];
    bool told;                   // the collector has the segment: nothing is written here
    _Atomic uint32_t slots_used; // high-water mark
    struct seg seg;
    _Atomic uint32_t modules_lock, modules_used, modules_generation;
    _Atomic uint64_t modules_quiet_until_ns; // no scan before: the last one found nothing
    struct agent_module modules[AGENT_MODULES_MAX];
    struct lock_table locks;
    struct lock_order order;
    _Atomic uint32_t fiber_labels[AGENT_FIBER_LABELS]; // by the runtime's index; 0: not yet known
    struct region_names region_names;
    char buffer[8192]; // of whoever holds modules_lock
};

// The part that survives fork by being copied.
struct agent {
    struct agent_env env;
    bool configured; // there is something to record: children follow
    bool has_key;
    bool is_ghost;  // fork.h: what is here is the parent's, until a capture ends
    bool is_loaded; // the settings have been read
    bool is_child;  // of a fork, not of an exec
    int segment_fd; // for calls (call.h); -1: none
    uint64_t segment_inode, segment_device;
    uint32_t pid;              // whose process this is: a vfork child shares all of it
    uint32_t forks;            // between the first process and this one
    _Atomic uint32_t api_lock; // futex.h: one start or stop at a time
    pthread_key_t key;
    pid_t parent;
    struct agent_space *space;
    uint8_t *slots; // slot_stride bytes each; reserved without access, opened one by one
    uint32_t slot_stride, slot_count;
    uint64_t main_stack_low, main_stack_high;
    uint64_t thread_stack_bytes; // of a thread made without attributes
    uint64_t child_period_ns;    // of a forked child's first timer
    int child_timer;             // kernel id + 1; 0: none
    const void *child_context;   // its first signal's; NULL: it begins elsewhere
    uint32_t held;               // held.h
    _Atomic int keeper;          // a timer; -1: none
    uint32_t keeper_tid;
    bool keeper_by_cpu;
    bool is_socket_called; // env.socket came by a call
    uint64_t tick_ns;      // the kernel's tick: CPU timers fire no oftener
    char program[64];
};

extern struct agent agent;
// Their addresses mark our timers' signals.
extern const char agent_cookie_cpu, agent_cookie_wall, agent_cookie_keeper;

static inline bool agent_live(void)
{
    // acquire: pairs with the release in agent_begin
    return agent.space && atomic_load_explicit(&agent.space->alive, memory_order_acquire);
}

// Live, if need be after a forked child's recording was begun. [normal context]
bool agent_here(void);
// The same where the child may wait for the collector's answer, so that it is known even if it ends at once.
bool agent_here_answered(void);

// Live, and called in the process that owns the memory, not in its vfork child.
bool agent_owns(void);

// agent.c: makes this address space record. why is enum agent_why; in_handler: called at a forked
// child's first signal. 0 or -errno. [async-signal-safe when in_handler]
// -EBUSY: another does, or could not.
int agent_begin(uint32_t why, bool in_handler);
// Keeps a descriptor of it, above those that programs meet, for calls; -1: it is not open. Closes fd.
void agent_keep_segment(int fd);
// The segment's descriptor, if it is still there and still that; -1. [async-signal-safe]
int agent_segment_fd(void);
// A forked child's recording begins, at its first signal or hook. 0 or -errno.
int agent_begin_child(void);
// In a forked child: nothing of the parent's recording is left, its own may begin.
void agent_forget_parent(void);
// Reads the settings, if that is still to be done, and begins what they ask for. agent.api_lock held.
void agent_load_locked(void);
// Ready for agent_begin: the handler, the key, the fork hook. 0 or -errno.
int agent_prepare(void);
// The target leaves: last words into the segment, the dump where the agent writes it itself.
void agent_leave(void);
// The dump alone, before an exec.
void agent_save(void);
// Starts, or stops, the sources of all threads of this process. 0, or what the first that failed says.
int agent_arm_all(void);
void agent_disarm_all(void);

// hello.c: 0 when the collector answered (or, with no wait, has been told), else -errno.
int hello_send(const struct agent *a, uint32_t why, bool wait, uint32_t tid);
int hello_thread(const struct agent *a, uint32_t tid);
// To the socket of a call; nobody waits. [async-signal-safe]
int hello_call(const struct agent *a, const char *socket);

// output.c: writes the dump to the path that pattern gives, or a free name beside it, whole or not
// at all; says where on stderr. 0 or -errno.
int output_dump(const struct agent *a, const char *pattern);

// The same for a copy on the way: to that path with .copyN, the next that is free. -EDQUOT: enough of them.
int output_copy(const struct agent *a, const char *pattern);

// slot.c. slot_self: the calling thread's, claimed at first; NULL: none free, or the thread is on
// its way out. slot_for: another thread's. slot_leave: at thread exit.
struct agent_slot *slot_self(void);
struct agent_slot *slot_for(uint32_t tid);
void slot_leave(void);
int slot_map(struct agent *a);
struct unwind_thread *slot_unwind(struct agent_slot *s); // of the handler
extern size_t slot_hook_unwind_at;
static inline struct unwind_thread *slot_hook_unwind(
    struct agent_slot *s) // of hooks, in normal context
{
    return (struct unwind_thread *)(void *)((char *)s + slot_hook_unwind_at);
}
void slot_set_stack(struct agent_slot *s, uint64_t low, uint64_t high);
void slot_alt_stack(struct agent_slot *s);
static inline struct agent_slot *slot_at(uint32_t i)
{
    return (struct agent_slot *)(void *)(agent.slots + (size_t)i * agent.slot_stride);
}

// source.c
void source_choose(struct agent *a, bool say);
int source_arm(struct agent_slot *s);
void source_fall_back(struct agent_slot *s); // a timer, where the collector cannot be told
void source_yield(struct agent_slot *s);     // the collector's events have come
void source_say_rate(void); // at the end: the measured rate, if it was not the asked one
void source_disarm(struct agent_slot *s);
extern _Atomic int64_t source_disarmed_ns;   // CLOCK_MONOTONIC; 0: never
uint64_t source_thread_cpu_ns(uint32_t tid); // 0: not to be had
void source_arm_first(uint64_t period_ns);   // a forked child's, before it has a slot
void source_disarm_first(void);
clockid_t source_cpu_clock(uint32_t tid); // of a thread of this process; 0: the caller's
// A timer whose SIGPROF, with that cookie, goes to that thread. Its id, or -errno.
int source_make_timer(uint32_t tid, clockid_t clock, const void *cookie, uint64_t first_ns,
                      uint64_t period_ns);
int source_set_timer(int id, uint64_t first_ns, uint64_t period_ns);
void source_keep_timer(_Atomic int *where,
                       int id); // in the place of the one that is there, which goes
void source_drop_timer(_Atomic int *where);

// sample.c
int sample_install(void);
void sample_enter(struct agent_slot *s); // the thread's slot in the segment, if it has none yet

// signals.c: gives a SIGPROF that is not ours to the target's own handler.
void signals_forward(int signal, siginfo_t *info, void *context);
bool signals_target_uses(void);
void signals_adopt(const struct sigaction *old); // what was installed before us
// After the sources are off: SIGPROF is nobody's; then what the target had it be, or has made it meanwhile. 0 or -errno.
int signals_ignore(void);
int signals_give_back(void);
int signals_real_action(const struct sigaction *action, struct sigaction *old);

// modules.c
void modules_scan_all(void); // normal context
void modules_cover(struct agent_pages *known, const uint64_t *pcs, uint32_t depth); // any context
void modules_close(uint64_t address); // the file mapped there will go

// unload.c: the library mapped there will be closed, and what only it needs. [normal context]
void unload_begin(uint64_t base);

// resolve: the functions behind the interposed ones; NULL where libc has none.
struct agent_real {
    int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int (*thrd_create)(void *, int (*)(void *), void *);
    int (*execve)(const char *, char *const[], char *const[]);
    int (*execvpe)(const char *, char *const[], char *const[]);
    int (*fexecve)(int, char *const[], char *const[]);
    int (*execveat)(int, const char *, char *const[], char *const[], int);
    int (*dlclose)(void *);
    int (*sigwait)(const sigset_t *, int *);
    int (*sigwaitinfo)(const sigset_t *, siginfo_t *);
    int (*sigtimedwait)(const sigset_t *, siginfo_t *, const struct timespec *);
    int (*signalfd)(int, const sigset_t *, int);
    int (*sigaction)(int, const struct sigaction *, struct sigaction *);
    __sighandler_t (*signal)(int, __sighandler_t);
};
const struct agent_real *agent_real(void);

#endif
