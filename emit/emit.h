// SPDX-License-Identifier: MIT
//
// The recorder of execution traces: events in Go's format (docs/trace.md) into the segment's trace buffers.
// Lives in libfiberscope-core.so, so that a process has one, whoever feeds it: the fiber runtime, and the agent
// for plain threads.
//
// Glossary
//   stream      what one thread writes: struct emit_thread
//   view        what the stream has told so far: the P and the G that its thread has
//   mark        of a G or P: the generation in which its status was told, and how many numbered events since
//   generation  about a second; begins with the status of whatever its events name
//   cut         tracing ends by itself: no buffer is free. All streams end at one causal moment
//
// What always holds
//   - An event is written and committed by who has authority over the G or P it names, before what it tells becomes
//     visible to others. Whether tracing is on, and in which generation, is read afresh for each event, after
//     that authority was obtained. So whoever depends on an event sees a generation at least as late,
//     and what is committed at any moment is a causal cut: starting and stopping need nobody to stand
//     still, and a killed process leaves a valid trace.
//   - A stream is written by its thread, inside a transition: between changes of a word that is odd inside (struct m's
//     seq; here `busy` of plain threads). A new generation has begun for good when each was seen even
//     once after it was announced; only then are the statuses of idle Gs and Ps told, by the one who
//     advances. Each status is told once: the mark is claimed by compare-and-swap.
//   - Nobody waits without bound for another thread's stream, which a handler may have parked within an event (collectors
//     that stop the world), or left by a jump, and whose thread may have no processor. So:
//     - Who advances (emit.lock, in which no signal is handled) looks for a moment. Is somebody still inside, then the
//       generation before is not complete yet, and events go on in the new one; it is looked at again at later ticks. After
//       some seconds, or when there is no room, the trace is cut.
//     - A session ends without those that are inside. What such a stream has committed is whole, and nobody depends on
//       what it has not. It is left behind: its buffer stays its own (not sealed, so never another's), it
//       writes nothing in a later session until its transition is over, and its thread then begins anew.
//     - A thread whose own stream, or the wait that it tells of, another holds for too long cuts the trace, drops the
//       stream, and takes another.
//     - A thread that has left its own event by a jump (or as the parent of a vfork child that was killed in one:
//       they share stack and memory) is, at its next event, no deeper in its stack than that event was. Then it
//       cuts the trace, as what it had begun is half told, and the stream is free.
//     An M of the fiber runtime is the exception: who advances waits for the end of its transition, however long that takes.
//   - No two streams have one tid in a session: they are made with signals blocked, under `naming` (others.c).
//   - What was told of a wait in one session is not known in the next (emit_thread's woken_session).
//   - A cut trace begins anew after a pause, so that nothing of this can come in storms.
//   - Nothing here allocates but by mmap, or takes a lock of libc's.
//
// Formats, rules and numbers: reference of Go's format v2; see docs/trace.md.

#ifndef FIBERSCOPE_EMIT_EMIT_H
#define FIBERSCOPE_EMIT_EMIT_H

#include "segment/producer.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define EMIT_API __attribute__((visibility("default")))

enum emit_state { // of a G or P, as in statuses on the wire
    EMIT_NONE = 0,
    EMIT_P_RUNNING = 1,
    EMIT_P_IDLE = 2,
    EMIT_P_SYSCALL = 3,
    EMIT_P_ABANDONED = 4, // in a system call whose thread is not told
    EMIT_G_RUNNABLE = 1,
    EMIT_G_RUNNING = 2,
    EMIT_G_SYSCALL = 3,
    EMIT_G_WAITING = 4,
};

enum emit_reason {
    EMIT_REASON_UNSPECIFIED,
    EMIT_REASON_FOREVER,
    EMIT_REASON_NETWORK,
    EMIT_REASON_SELECT,
    EMIT_REASON_COND,
    EMIT_REASON_SYNC,
    EMIT_REASON_SEND,
    EMIT_REASON_RECEIVE,
    EMIT_REASON_SLEEP,
    EMIT_REASON_SYSTEM,
    EMIT_REASON_PREEMPTED, // from here on: it stops, but is ready to run
    EMIT_REASON_GOSCHED,
    EMIT_REASON_COUNT,
};

typedef _Atomic uint64_t emit_mark; // generation << 32 | number; 0: never told

struct emit_thing { // a G or P to be named
    emit_mark *mark;
    uint64_t id;
    uint64_t start; // of a G: its start function's address; 0: unknown
};
// As a start function: main, of which a program does not say where it is. In the segment a stack of this + 1 alone.
#define EMIT_START_MAIN SEG_TRACE_MAIN

// A number that is written often, as it is written: its bytes, the first lowest, and in the topmost how many.
typedef struct {
    uint64_t bits;
} emit_number;
#define EMIT_NO_STACK ((emit_number){UINT64_C(1) << 56}) // 0

enum emit_told {
    EMIT_TOLD = 1,
    EMIT_TOLD_AHEAD
}; // ahead: by who began the session, as it was then

enum emit_rwlock { EMIT_RWLOCK_NONE, EMIT_RWLOCK_READ, EMIT_RWLOCK_WRITE };

enum emit_use {
    EMIT_UNUSED,
    EMIT_USED,
    EMIT_TAKEN,   // about to be: it has not the tid yet
    EMIT_LEAVING, // its thread has ended, and it is about to be free
    EMIT_DROPPED
}; // dropped: by its thread, while another held it
#define EMIT_BUSY_BY_OTHER (UINT32_C(1) << 31)

struct unwind_thread;

struct emit_bucket;

enum { EMIT_RELEASES = 4, EMIT_HOLDS = 4 };

// NOLINTNEXTLINE(*Padding): what each event needs first
struct emit_thread {
    uint8_t *at, *limit; // where the next event goes; beyond `limit` it needs another buffer
    uint8_t *base;
    struct seg_trace_buffer *buffer; // NULL: none
    uint64_t generation;             // of the buffer
    uint64_t units;                  // time of the last event
    struct emit_thing g, p;          // the view; valid where the states say so
    uint8_t g_state, p_state;        // enum emit_state

    uint64_t session;
    uint64_t order;
    uint32_t tid; // ~0: no thread
    // Sets the view from the truth, as it is before the coming event. Called at the first event of a session.
    void (*look)(struct emit_thread *t);
    void *owner; // look's

    // Stacks.
    struct unwind_thread *unwind; // NULL: not yet, or no memory
    uint64_t stack_low, stack_high;
    struct emit_stack_slot {
        uint64_t hash;
        uint32_t id, session; // id 0: free
    } * known;                // a cache, direct mapped
    struct emit_walks *walks; // NULL: not yet

    // Plain threads: a G and a P of their own.
    _Atomic uint32_t busy;  // odd: the owner writes, or (EMIT_BUSY_BY_OTHER) another thread for it
    uint32_t looked, found; // quiesce.c: what busy was as this look began
    _Atomic uint64_t left;  // session in which it was left behind; 0: it is not
    emit_mark own_g, own_p;
    struct emit_thread *next; // of all plain ones; set once
    _Atomic uint32_t is_used; // by a living thread; enum emit_use
    uint8_t is_told;          // this session: its G exists; enum emit_told
    bool is_made;             // another told its G as created: it is to start
    uint64_t session_made;    // the session in which
    uint64_t region;          // id of its innermost region

    _Atomic uint64_t
        call; // the frame of the program's call that is told and has not ended; 0: none
    // What it waits for, and what it released that others wait for: see waits.c.
    _Atomic uint32_t wait;
    _Atomic uint64_t wait_object, wait_ticks; // object: its address; 0: nobody can know
    struct emit_release {
        uint64_t object, ticks;
        emit_number stack;
        bool is_told; // who went on by it has been
    } released[EMIT_RELEASES];
    uint32_t release_next;
    struct emit_thread *queue_next, *queue_prev; // queue.c
    struct emit_bucket *queue_bucket;            // NULL: in no queue
    uint8_t queue;                               // which of the bucket's
    bool is_unqueued;                            // it waits, and is in no queue
    // Of a condition's waiter: the mutex that it takes before it goes on, and when it was woken; and where it waits.
    _Atomic uint64_t wait_again, woken_ticks;
    _Atomic uint64_t
        woken_session; // in which it was told that it was woken, or that its wait is over
    _Atomic uint64_t holds[EMIT_HOLDS]; // mutexes that it took while others needed them; 0: none
    uint64_t wait_takes;                // what it has once it goes on
    uint8_t wait_rwlock;                // enum emit_rwlock: what object is besides
    emit_number wait_stack;
    emit_number ahead_stack; // told ahead: where it was; 0 bits: not known
    bool is_orphan;          // told for its thread, which does not know it yet: others.c
};

// Plain threads that wait for an object: what an unlock asks first.
extern EMIT_API _Atomic uint32_t emit_waiters;
// Those of a condition that were woken and have not got their mutex yet: what who gets a mutex asks.
extern EMIT_API _Atomic uint32_t emit_relocking;

// --- Whether.

// The first word is the generation being written, 0: off. A page of its own, which a forked child finds wiped.
extern EMIT_API _Atomic uint64_t emit_page[512];
#define emit_generation emit_page[0]
#define emit_rests                                                                                 \
    emit_page[1] // not 0: it has been cut, and emit_tick begins it anew, should somebody call that

static inline bool emit_is_on(void)
{
    return __builtin_expect(atomic_load_explicit(&emit_generation, memory_order_relaxed) != 0, 0);
}

// --- Starting and stopping. [any thread; not in signal handlers]

struct emit_options {
    size_t size;
    bool is_flight;         // the oldest generations give way
    uint64_t flight_ns;     // and those older than that; 0: as many as there is room for
    uint64_t generation_ns; // 0: 1 s
};

// -ENOTSUP: s has no trace area. -EALREADY: on.
int emit_start(struct seg *s, const struct emit_options *o);
// The same where it cannot be done at once: in a signal handler. It begins at the next emit_tick, which is seen to.
// -EINPROGRESS: somebody is just starting or stopping. -EALREADY. [async-signal-safe]
int emit_start_soon(struct seg *s, const struct emit_options *o);
// emit_tick now, by whoever can: for requests. [async-signal-safe]
void emit_poke(void);
int emit_stop(void);       // -EINVAL: not on
bool emit_is_wanted(void); // started and not stopped, though it may not have begun, or been cut
// The process ends, or is about to write a dump for the last time: as emit_stop, but in any context, and waiting for
// others for some milliseconds only.
void emit_halt(void);
// Begins a new generation, so that the one before is whole. 0, -EINVAL: not on; -EBUSY: another does, or something
// that runs has been asked to tell itself first.
int emit_advance(void);
// What has to be done from time to time, by whoever has time (the runtime's sysmon; the agent): advances, obeys the
// consumer's requests, and begins anew after a cut.
void emit_tick(void);
// The process forked: the child traces nothing until it starts anew. [async-signal-safe]
void emit_forget(void);

// --- Conditions of the flight recorder: what lasts longer than its limit (ns; 0: none) asks for a copy, at most once
// a second.

enum emit_slow {
    EMIT_SLOW_REGION,
    EMIT_SLOW_TASK,
    EMIT_SLOW_LATENCY,
    EMIT_SLOW_STALL,
    EMIT_SLOW_COUNT
};
extern EMIT_API _Atomic uint64_t emit_slow_ns[EMIT_SLOW_COUNT];
void emit_is_slow(enum emit_slow what, uint64_t ns,
                  uint32_t name); // name: a string of the segment, 0: none

static inline bool emit_is_over(enum emit_slow what, uint64_t ns)
{
    uint64_t limit = atomic_load_explicit(&emit_slow_ns[what], memory_order_relaxed);
    return __builtin_expect(limit && ns >= limit, 0);
}

static inline void emit_lasted(enum emit_slow what, uint64_t ns)
{
    if (emit_is_over(what, ns))
        emit_is_slow(what, ns, 0);
}

// Called by emit_tick after such a moment, once the generation is whole, where no consumer takes the copy. NULL: none.
void emit_set_copy(void (*copy)(void));

// --- The runtime's part. Set once, before its first event.

struct emit_runtime {
    size_t size;
    // The first id that is free for its Gs and Ps. Before it is asked for anything else.
    void (*begin)(uint64_t first_id);
    // Called with true before tracing begins, and with false some time after it has ended. In a transition that it
    // finds begun, tracing does not begin: so one look at what it sets is enough for each.
    void (*arm)(bool is_on);
    void (*quiesce)(void); // returns when each M was outside of transitions once
    // Tells the status of each G and P that emit_claim finds untold, on t; and has the running Ms tell theirs.
    void (*announce)(struct emit_thread *t, uint64_t ticks);
    // Asks those running Ms that have not told theirs in this generation; true: there are none.
    bool (*nudge)(void);
    uint64_t (*next_id)(void);
    uint32_t (*procs)(void);
    // The calling thread's stream, and its transition has begun; NULL: it runs no fiber. leave ends it. stack: of
    // the fiber, by emit_stack.
    struct emit_thread *(*enter)(void);
    void (*leave)(struct emit_thread *t);
    // The calling fiber gets a P, should it have lost its own in a call that blocked unannounced: it may switch.
    void (*regain)(void);
    emit_number (*stack)(struct emit_thread *t);
    uint64_t *(*region_word)(struct emit_thread *t);
    bool (*is_m)(void); // whether the calling thread runs fibers
    void (*poke)(void); // has emit_tick called soon [async-signal-safe]
    uint64_t text_low,
        text_high; // its code: left out of stacks but for the outermost of the leaf's frames
    uint64_t root_low, root_high; // its root function's code
};
void emit_set_runtime(const struct emit_runtime *r);

// The agent's: called with pcs of a stack that was not known. [normal context]
void emit_set_cover(void (*cover)(const uint64_t *pcs, uint32_t depth));
// Its code, left out of stacks like the runtime's; and where the calling plain thread's stack is (high 0: unknown).
void emit_set_agent(uint64_t text_low, uint64_t text_high,
                    void (*bounds)(uint64_t *low, uint64_t *high));

// --- Streams.

// A stream for an M or for the runtime's own threads; lives for ever, NULL: no memory.
struct emit_thread *emit_thread_new(uint32_t tid, void (*look)(struct emit_thread *), void *owner);
void emit_thread_end(struct emit_thread *t); // its thread ends: what it wrote is sealed

// --- Events. Called by the stream's thread inside its transition; do nothing when tracing is off. ticks: of
// emit_ticks' clock, now.

void emit_go_create(struct emit_thread *t, uint64_t ticks, struct emit_thing g, emit_number stack);
void emit_go_start_(struct emit_thread *t, uint64_t ticks, emit_mark *mark, uint64_t id,
                    uint64_t start);
void emit_go_destroy(struct emit_thread *t, uint64_t ticks);
// GoStop where the reason is one of those that come last, else GoBlock.
void emit_go_block(struct emit_thread *t, uint64_t ticks, enum emit_reason reason,
                   emit_number stack);
// The same two in one: the running G leaves, and another starts.
void emit_go_switch_(struct emit_thread *t, uint64_t ticks, enum emit_reason reason,
                     emit_number stack, emit_mark *mark, uint64_t id, uint64_t start);
void emit_go_unblock_(struct emit_thread *t, uint64_t ticks, emit_number stack, emit_mark *mark,
                      uint64_t id, uint64_t start);
void emit_syscall_begin(struct emit_thread *t, uint64_t ticks, emit_number stack);
void emit_syscall_end(struct emit_thread *t, uint64_t ticks);
void emit_syscall_end_blocked(struct emit_thread *t, uint64_t ticks);
void emit_proc_start(struct emit_thread *t, uint64_t ticks, struct emit_thing p);
void emit_proc_stop(struct emit_thread *t, uint64_t ticks);
void emit_proc_steal(struct emit_thread *t, uint64_t ticks, struct emit_thing p, uint32_t from_tid);
void emit_procs_change(struct emit_thread *t, uint64_t ticks, uint32_t procs);
void emit_label(struct emit_thread *t, uint64_t ticks, uint32_t text);
void emit_heap(struct emit_thread *t, uint64_t ticks, uint64_t bytes);
void emit_task_begin(struct emit_thread *t, uint64_t ticks, uint64_t task, uint64_t parent,
                     uint32_t name, emit_number stack);
void emit_task_end(struct emit_thread *t, uint64_t ticks, uint64_t task, emit_number stack);
// is_end: UserRegionEnd. True: it was written.
bool emit_region(struct emit_thread *t, uint64_t ticks, bool is_end, uint64_t task, uint32_t name,
                 emit_number stack);
void emit_log(struct emit_thread *t, uint64_t ticks, uint64_t task, uint32_t key, uint32_t value,
              emit_number stack);
// Tells whatever of the view is untold in this generation.
void emit_tell(struct emit_thread *t, uint64_t ticks);

// The frequent ones: in registers, as memory that was just written in other pieces is slow to read.
static inline void emit_go_start(struct emit_thread *t, uint64_t ticks, struct emit_thing g)
{
    emit_go_start_(t, ticks, g.mark, g.id, g.start);
}

static inline void emit_go_switch(struct emit_thread *t, uint64_t ticks, enum emit_reason reason,
                                  emit_number stack, struct emit_thing g)
{
    emit_go_switch_(t, ticks, reason, stack, g.mark, g.id, g.start);
}

static inline void emit_go_unblock(struct emit_thread *t, uint64_t ticks, struct emit_thing g,
                                   emit_number stack)
{
    emit_go_unblock_(t, ticks, stack, g.mark, g.id, g.start);
}

// For who announces: the status of a thing that nobody has authority over now, if it is untold. tid: of a G in a
// system call, else ~0.
void emit_g_status(struct emit_thread *t, uint64_t ticks, struct emit_thing g,
                   enum emit_state state, uint64_t tid);
void emit_p_status(struct emit_thread *t, uint64_t ticks, struct emit_thing p,
                   enum emit_state state);

// --- Plain threads. Between enter and leave the thread's stream is its own, as a G that runs on a P of its own.

struct emit_thread *emit_enter(void); // NULL: tracing is off, or no memory
// The same for a call of the program's own, where a fiber may wait for a P: without one nothing can be told of it.
struct emit_thread *emit_enter_user(void);
void emit_leave(struct emit_thread *t);
void emit_self_end(void); // the calling thread ends
// The calling thread holds the `busy` of some stream: it is in an event, or in a handler that has interrupted one. One that it
// has left by a jump is over.
bool emit_self_is_inside(void);
// The calling thread's calls of the program's that wait. Each is told to begin and to end by what stands around it, which
// says with `at` which it is: the address of its own frame (where its caller's ends).
//   - One call is open at a time: the first that is told. From then until its end is told, the thread is in that call,
//     handlers that interrupt it included; what a handler calls meanwhile is not told, neither its beginning nor its end.
//     Nor is it while an event is written (`held`), of which the end of an open call is one, from the claim of the thread's
//     own wait until it is over. So what begins finds the thread running, and nothing that a handler does ends a wait
//     but its own.
//   - A call ends in one of three ways: it returns, its frame is unwound (cancelled, pthread_exit, an exception:
//     emit_self_unwound), or a handler jumps out of it (emit_self_jump). Each is told before anything of the program's
//     runs again: as long as a call is open, its object is there. One that was left in another way (by a jump that we
//     do not see) is over as soon as another begins in a frame further out.
// It waits for an object (its address; 0: for what no thread ends), and goes on: GoBlock, GoUnblock by whoever is
// known to have ended the wait or by nobody, GoStart. Nothing in a thread that runs fibers.
void emit_self_block(enum emit_reason reason, uint64_t object, uint64_t at);
// The same where the waiter takes a mutex (a pthread_mutex_t or mtx_t) before it goes on: that of a condition, or the one
// that it waits for. From when it is woken it is blocked on that, if somebody else has it for more than a moment.
void emit_self_block_again(enum emit_reason reason, uint64_t object, uint64_t mutex, uint64_t at);
void emit_self_block_rwlock(uint64_t object, bool to_write, uint64_t at); // a pthread_rwlock_t
// The same for a system call.
void emit_self_call(uint64_t at);
void emit_self_go_on(uint64_t at); // the end of either
// The calling thread's frames up to `to`, where it will go on, are left.
void emit_self_jump(uint64_t to);
void emit_self_unwound(void); // those of the open call are
// The wait that goes on is over by its time since late_ns, and then the mutex was another's.
void emit_self_timed_out(uint64_t mutex, uint64_t late_ns);
void emit_self_took(uint64_t mutex); // the calling thread has got it without waiting
// A call that was not told has ended: if tracing began meanwhile, the thread is told to go on.
void emit_self_here(void);
// What the calling thread, in a signal handler, has been interrupted in, while something here is called from that: the
// number of a system call, or one of these.
enum { EMIT_DOING_NOTHING_KNOWN = -3, EMIT_DOING_UNKNOWN_CALL = -2, EMIT_DOING_RUN = -1 };
void emit_self_doing(int call, const void *ucontext); // NULL: it is not known where
// The calling thread is about to release an object that one waiter gets, or signals one or all of its waiters.
void emit_self_release(uint64_t object);
void emit_self_signal(uint64_t object, bool all); // also in a signal handler
// emit_tick, after a wait or a call: a program without the runtime has nobody else to see to the recorder from time to time.
// Nothing in a thread that runs fibers, whose sysmon does.
void emit_self_tick(void);
// A thread is about to be made that begins with `start`: told as created by this one. What is returned goes to the new
// thread's emit_self_begin; NULL: tracing is off. Where no thread came of it: emit_self_drop.
// Between emit_self_quiet(true) and (false) the calling thread tells nothing as a plain one, nor of threads that it
// makes: the runtime's.
void emit_self_quiet(bool is_quiet);
struct emit_thread *emit_self_create(uint64_t start);
void emit_self_begin(struct emit_thread *t, uint64_t start);
void emit_self_drop(struct emit_thread *t);
// A waker's side: GoUnblock needs neither.
struct emit_thread *emit_enter_bare(void);
// emit_enter has given NULL (also: not now), and what could not be told is what later events build on: a creation, a
// wake-up. The trace ends before them.
void emit_untold(void);

// --- What events name.

// The calling thread's stack from its caller on: within [low, high), or anywhere if high is 0.
emit_number emit_stack(struct emit_thread *t, uint64_t low, uint64_t high);
emit_number emit_stack_from(struct emit_thread *t, const void *ucontext, uint64_t low,
                            uint64_t high);

// The stack of who called the program's own event: within emit_enter and emit_leave.
emit_number emit_stack_here(struct emit_thread *t);
// The word that holds the id of the innermost region, and the session (regions of another one are over): likewise.
uint64_t *emit_region_word(struct emit_thread *t);
uint64_t emit_session(void);

uint32_t emit_string(const char *text, size_t n); // its id, in the segment in use

uint64_t emit_ticks(void); // the clock of events: the TSC where it is invariant, else ns

// Claims a mark: true for the one who is to tell the status in this generation.
static inline bool emit_claim(emit_mark *mark, uint64_t generation)
{
    uint64_t was = atomic_load_explicit(mark, memory_order_relaxed);
    // acq_rel: who finds it claimed sees what was told, and what the status was read from came before
    return was >> 32 != (generation & UINT32_MAX) &&
           atomic_compare_exchange_strong_explicit(mark, &was, generation << 32,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

#endif
