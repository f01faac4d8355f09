// SPDX-License-Identifier: MIT
//
// The recorder's parts, for each other.

#ifndef FIBERSCOPE_EMIT_INTERNAL_H
#define FIBERSCOPE_EMIT_INTERNAL_H

#include "emit/emit.h"
#include "unwind/unwind.h"

enum {
    // Bytes that are free before each event: for statuses, and the event itself.
    EMIT_ROOM = 256,
    EMIT_STACKS_KNOWN = 1024, // a power of two
    EMIT_WALKS_KNOWN = 256,   // likewise
    EMIT_WALK_WAYS =
        4, // likewise: as many with one key, where stacks are as deep but differ further out
    EMIT_LINKS_MAX = 40, // of one walk that is known: as many frames, less one
    EMIT_LINKS_KNOWN = 4096,
    EMIT_FRAMES_MAX = 128, // the format's bound
};

// Set in the next id once a runtime has taken all from there on. Before it can be asked for one (emit.runtime) a plain
// thread's G has one that is far off.
#define EMIT_IDS_RUNTIME (UINT64_C(1) << 62)
#define EMIT_IDS_BETWEEN (UINT64_C(1) << 40)

// A walk that is known again, on any stack, as long as its links hold. A line of the cache.
struct emit_walk {
    uint64_t rip, below,
        rbp;        // of emit_stack's caller; rsp: so far below the stack's end; rbp: less rsp
    uint64_t valid; // stack.c's session_of << 32 | the unwinder's generation
    emit_number id;
    struct unwind_link *links;
    uint32_t pairs, count; // count 0: free
    uint32_t room;         // of links
    uint32_t fill;
};
_Static_assert(sizeof(struct emit_walk) == 64, "found by a shift");

// Links are handed out one behind the other, so that few pages are touched; when none are left, all walks are forgotten.
struct emit_walks {
    struct emit_walk walk[EMIT_WALKS_KNOWN];
    struct unwind_link links[EMIT_LINKS_KNOWN];
    uint32_t links_used;
};

// Ticks to units, within one generation. That of g lies at [g & 1]; written before g begins, when nobody uses
// g - 2 any more.
struct emit_clock {
    uint64_t ticks, units; // at its start
    uint64_t scale;        // units per tick, times 2^64
};

// NOLINTNEXTLINE(*Padding): grouped by use
struct emit {
    struct seg *seg;
    struct seg_trace *trace; // NULL: never started
    struct seg_trace_buffer *buffers;
    uint8_t *data;
    struct emit_clock clocks[2];
    _Atomic uint64_t session;
    uint32_t cpus;               // that the process may use: the Ps of one without the runtime
    _Atomic uint64_t procs_told; // generation in which ProcsChange was
    _Atomic uint32_t hint;       // where to look for a free buffer
    _Atomic uint32_t claimed;    // buffers, since the generation began
    _Atomic uint32_t lock;       // who starts, stops, advances; no signal interrupts that
    uint64_t mask;               // of signals, of who has it
    uint32_t look;               // counts quiesce's
    _Atomic uint32_t left;       // streams that are left behind
    uint64_t pending; // generation that is not yet complete, though the next has begun; 0: none
    bool is_untold;   // something that was busy has not been announced in this one
    _Atomic uint64_t retry_ns; // CLOCK_MONOTONIC: when either is tried again,
    uint64_t retry_pause_ns;   // so long after the last time
    _Atomic uint64_t nudge_ns; // when the runtime's are asked again
    _Atomic uint64_t begin_ns; // no session begins before,
    uint64_t begin_pause_ns;   // so long after the end of the last
    struct emit_options options;
    bool is_wanted;                    // by its user: after a cut it begins anew
    uint32_t pid;                      // whose session it is
    _Atomic uint32_t is_cut;           // it has ended, and is to be tidied up
    _Atomic uint64_t generation_began; // CLOCK_MONOTONIC, ns
    uint64_t session_began;            // likewise
    uint64_t last_generation;          // never reused
    uint64_t base_ticks, base_ns; // when the first session began: what the scale is measured from
    _Atomic uint64_t next_id;     // with EMIT_IDS_RUNTIME: lower ones are taken
    const struct emit_runtime *runtime; // NULL: none
    void (*cover)(const uint64_t *pcs, uint32_t depth);
    void (*copy)(void);
    _Atomic uint64_t slow_next_ns; // not again before
    uint64_t copied;               // of the trace's snapshots
    void (*bounds)(uint64_t *low, uint64_t *high);
    uint64_t agent_low, agent_high, core_low, core_high;
    emit_number reasons[EMIT_REASON_COUNT];
    bool is_armed; // see emit_runtime's arm
    bool
        is_parents; // in a child of a fork within an event: the segment is its parent's, for that event's sake
    struct emit_thread *_Atomic threads; // plain ones
    struct emit_thread *announcer;       // the stream without a thread
};
extern struct emit emit __attribute__((visibility("hidden")));

// Makes room for one event of this generation: a new buffer, and at the generation's first event the view's
// statuses. Ticks, now; 0: tracing is off.
uint64_t emit_open_slow(struct emit_thread *t);
uint32_t emit_free_buffers(void);

// A free buffer for t in this generation; NULL: there is none. is_next: it has filled one.
struct seg_trace_buffer *emit_buffer_claim(struct emit_thread *t, uint64_t generation,
                                           bool is_next);
void emit_buffer_seal(struct seg_trace_buffer *b);
// Seals what is still written of generations up to this one. Nobody writes them any more.
void emit_buffers_seal_all(uint64_t generation);
// Flight recorder: what is older gives way. False: nothing did.
bool emit_buffers_give_way(uint64_t below);
void *emit_pages(size_t bytes); // NULL: no memory
void emit_cut(uint64_t generation);
void emit_cut_now(void); // in whatever generation

// emit.lock, all signals blocked: no handler parks who has it, or jumps out.
void emit_signals_block(uint64_t *was);
void emit_signals_restore(const uint64_t *was);
bool emit_try_lock(void);
void emit_lock(void);
void emit_unlock(void);

// Both clocks at one moment.
struct emit_moment {
    uint64_t ticks, ns;
};
struct emit_moment emit_now_of_both(void);
void emit_set_clock(uint64_t generation, bool is_first); // of one that is about to begin
uint64_t emit_now_ns(void);                              // CLOCK_MONOTONIC
void emit_pause(void); // some microseconds, in which who has less priority may run

// With emit.lock. Whether no transition that began before `is_new` is going on any more; false: after so long one still
// is, or its thread has no end for it. The next try (not new) goes on with those that were not seen outside yet.
bool emit_quiesce(bool is_new, uint64_t patience_ns);
// The session has ended without those that were not: they are its.
void emit_leave_behind(void);
bool emit_is_left(const struct seg_trace_buffer *b); // of such a stream: not to be sealed by others
void emit_return(struct emit_thread *t);             // it is whoever's holds it now

// A stream that another thread holds is waited for so long.
#define EMIT_OWN_NS   UINT64_C(20000000) // by its own thread, which drops it then
#define EMIT_OTHER_NS UINT64_C(50000)
bool emit_busy_lock(struct emit_thread *t, uint64_t patience_ns); // by another thread than its own
void emit_busy_unlock(struct emit_thread *t);
bool emit_busy_try(struct emit_thread *t); // once
void emit_self_forget(void);
void emit_self_hold(void); // it counts as inside
void emit_self_let_go(void);
void emit_self_drop_stream(void); // somebody holds it, or the wait that it tells of, for too long
void emit_thread_begin(
    struct emit_thread *t); // a plain thread's G and P, if they are not told in this session
void emit_thread_leave(struct emit_thread *t); // and their end

// Plain threads that say nothing as a session begins are told by who begins it: those that wait, and those that run on.
// emit.lock held.
void emit_others_tell(void);
uint32_t emit_count_cpus(void); // that the process may use
// Ends those whose threads have ended without a word. Likewise.
void emit_others_end(void);
void emit_others_forget(void); // in a forked child
// The thread of a stream that was told ahead goes on. Within its transition.
void emit_others_go_on(struct emit_thread *t, uint64_t ticks);
// The stream that was told ahead for the calling thread, or a new one; NULL: no memory, or not now.
struct emit_thread *emit_others_adopt(uint32_t tid);
struct emit_thread *emit_others_find(uint32_t tid); // ... NULL: none was
// t, which was made for the calling thread, is its stream from now on; `before` (NULL: none), and what was told ahead for
// it, end. False: not now.
bool emit_others_begin(struct emit_thread *t, struct emit_thread *before, uint32_t tid);

struct emit_thread *emit_plain_take(uint32_t tid); // one that is free, or a new one
struct emit_thread *emit_plain_of(
    uint32_t tid); // who has that tid, if it is known; NULL: it may be there
void emit_plain_set_tid(struct emit_thread *t, uint32_t tid);
void emit_plain_give(struct emit_thread *t); // it is free
void emit_plain_drop(
    struct emit_thread *t);   // it is, once who holds it or has claimed its wait lets go
void emit_plain_forget(void); // in a forked child
void emit_plain_name(struct emit_thread *t); // a G and a P for it
void emit_plain_end(struct emit_thread *t);  // its thread ends, or has ended

// The stack of a function that a fiber or thread begins with.
void emit_stack_forget(struct emit_thread *t); // what it knows: it was left in the midst of that
uint32_t emit_stack_start(struct emit_thread *t, uint64_t function);

// How many units so many ticks are.
static inline uint64_t emit_span_units(uint64_t generation, uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * emit.clocks[generation & 1].scale) >> 64);
}

static inline uint64_t emit_units(uint64_t generation, uint64_t ticks)
{
    const struct emit_clock *c = &emit.clocks[generation & 1];
    uint64_t since = ticks > c->ticks ? ticks - c->ticks : 0;
    return c->units + (uint64_t)(((unsigned __int128)since * c->scale) >> 64);
}

#endif
