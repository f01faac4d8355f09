// SPDX-License-Identifier: MIT
//
// Writing events. Each function: room, the statuses that are still untold, the event, commit. The rules are
// the format's (docs/trace.md): a number of a G or P counts from its status in each generation.

#include "emit/internal.h"
#include "emit/wire.h"

_Alignas(4096) _Atomic uint64_t emit_page[512];

#define NO_THREAD UINT64_MAX

// Whether there is room for an event of this generation. t's is never 0 where it has a buffer.
static inline bool is_open(const struct emit_thread *t)
{
    uint64_t generation = atomic_load_explicit(&emit_generation, memory_order_relaxed);
    return __builtin_expect(t->generation == generation && t->at <= t->limit, 1) && generation;
}

// Ticks, at which the event is; 0: tracing is off.
static inline uint64_t open(struct emit_thread *t, uint64_t ticks)
{
    if (is_open(t))
        return ticks;
    return emit_is_on() ? emit_open_slow(t) : 0;
}

// Returns where the event's numbers go. In a local variable: bytes may alias what t has.
static inline uint8_t *head(struct emit_thread *t, uint64_t ticks, enum emit_event type)
{
    uint64_t was = t->units, units = emit_units(t->generation, ticks);
    units = units > was
                ? units
                : was; // no branch: where a unit lasts as long as an event, none foresees it
    uint64_t dt = units - was;
    uint8_t *at = t->at;
    t->units = units;
    *at = (uint8_t)type;
    return put_number(at + 1, dt);
}

// release: what is committed is whole, and what it tells is not yet to be seen by others
static inline void commit(struct emit_thread *t, uint8_t *at)
{
    t->at = at;
    atomic_store_explicit(&t->buffer->used, (uint64_t)(at - t->base), memory_order_release);
}

static inline uint64_t next_number(emit_mark *mark)
{
    uint64_t word = atomic_load_explicit(mark, memory_order_relaxed) + 1;
    atomic_store_explicit(mark, word, memory_order_relaxed);
    return word & UINT32_MAX;
}

static void put_g_status(struct emit_thread *t, uint64_t ticks, struct emit_thing g,
                         enum emit_state state, uint64_t tid)
{
    emit_number stack = g.start ? encoded(emit_stack_start(t, g.start)) : EMIT_NO_STACK;
    if (t->is_told == EMIT_TOLD_AHEAD && t->ahead_stack.bits && g.mark == &t->own_g)
        stack = t->ahead_stack;
    uint8_t *at = head(t, ticks, EV_GO_STATUS_STACK);
    at = put_number(at, g.id);
    at = put_number(at, tid);
    at = put_number(at, state);
    t->at = put_encoded(at, stack);
}

static void put_p_status(struct emit_thread *t, uint64_t ticks, struct emit_thing p,
                         enum emit_state state)
{
    uint8_t *at = head(t, ticks, EV_PROC_STATUS);
    at = put_number(at, p.id);
    t->at = put_number(at, state);
}

static inline void need_g(struct emit_thread *t, uint64_t ticks, struct emit_thing g,
                          enum emit_state state)
{
    if (__builtin_expect(emit_claim(g.mark, t->generation), 0))
        put_g_status(t, ticks, g, state, NO_THREAD);
}

static inline void need_p(struct emit_thread *t, uint64_t ticks, struct emit_thing p,
                          enum emit_state state)
{
    if (__builtin_expect(emit_claim(p.mark, t->generation), 0))
        put_p_status(t, ticks, p, state);
}

// How many Ps there are, once in each generation, by the first that has one and a G: readers ask for that, and Go's
// page on utilisation fails without.
static __attribute__((noinline)) void tell_procs(struct emit_thread *t, uint64_t ticks)
{
    uint64_t told = atomic_load_explicit(&emit.procs_told, memory_order_relaxed);
    if (t->g_state != EMIT_G_RUNNING || t->p_state != EMIT_P_RUNNING || told == t->generation ||
        !atomic_compare_exchange_strong_explicit(&emit.procs_told, &told, t->generation,
                                                 memory_order_relaxed, memory_order_relaxed))
        return;
    uint8_t *at = head(t, ticks, EV_PROCS_CHANGE);
    at = put_number(at, emit.runtime ? emit.runtime->procs() : emit.cpus);
    t->at = put_number(at, 0);
}

// The P of an M's call may be another's by now: it is told by what ends the call with it, or by who took it.
static void tell_view(struct emit_thread *t, uint64_t ticks)
{
    if (t->p_state == EMIT_P_RUNNING || (t->p_state && !t->owner))
        need_p(t, ticks, t->p, (enum emit_state)t->p_state);
    if (t->g_state && emit_claim(t->g.mark, t->generation))
        put_g_status(t, ticks, t->g, (enum emit_state)t->g_state, t->tid);
    tell_procs(t, ticks);
}

uint64_t emit_open_slow(struct emit_thread *t)
{
    uint64_t generation = atomic_load_explicit(&emit_generation, memory_order_acquire);
    bool is_new = t->generation != generation;
    if (__builtin_expect(atomic_load(&t->left) != 0, 0))
        return 0;
    uint64_t session = atomic_load_explicit(&emit.session, memory_order_relaxed);
    if (t->session != session) {
        t->session = session;
        t->order = 0;
        t->is_told = 0;
        t->is_made &= t->session_made == session;
        t->buffer = NULL;
        t->units = 0;
        t->g_state = t->p_state = EMIT_NONE; // of those without a thread, which look at nothing
        if (t->look)
            t->look(t);
    }
    // A buffer of an older generation is sealed by who advances: it may have been given away already.
    if (t->buffer && !is_new)
        emit_buffer_seal(t->buffer);
    t->buffer = NULL;
    t->generation = 0;
    // Later than what was told for us by others, which was claimed before we looked.
    uint64_t ticks = emit_ticks();
    uint64_t units = emit_units(generation, ticks);
    t->units = units > t->units ? units : t->units;
    struct seg_trace_buffer *b = emit_buffer_claim(t, generation, !is_new);
    if (!b) {
        emit_cut(generation);
        return 0;
    }
    if (__builtin_expect(atomic_load(&t->left) != 0, 0)) { // meanwhile
        emit_buffer_seal(b);
        return 0;
    }
    t->buffer = b;
    t->base = t->at = emit.data + (size_t)(b - emit.buffers) * emit.trace->buffer_bytes;
    t->limit = t->base + emit.trace->buffer_bytes - EMIT_ROOM;
    t->generation = generation;
    if (is_new) {
        tell_view(t, ticks);
        ticks = emit_ticks(); // claimed by others until now: they told it before
        commit(t, t->at);
    }
    return ticks;
}

void emit_tell(struct emit_thread *t, uint64_t ticks)
{
    open(t, ticks);
}

// A thread that comes in from outside, and of which it is known where it began: a G with that name, made by nobody.
static void begin_named(struct emit_thread *t, uint64_t ticks, struct emit_thing g,
                        struct emit_thing p)
{
    emit_proc_start(t, ticks, p);
    emit_go_create(t, ticks, g, EMIT_NO_STACK);
    emit_go_start(t, ticks, g);
}

// As cgo callbacks come in in Go: made in a system call, back from it without a P, and given one. Accepted at any time.
// (With a P in the call `go tool trace` panics: it never sees the G start.)
static void begin_nameless(struct emit_thread *t, uint64_t ticks, struct emit_thing g,
                           struct emit_thing p)
{
    atomic_store_explicit(g.mark, t->generation << 32, memory_order_relaxed);
    uint8_t *at = head(t, ticks, EV_GO_CREATE_SYSCALL);
    t->at = put_number(at, g.id);
    at = head(t, ticks, EV_GO_SYSCALL_END_BLOCKED);
    commit(t, at);
    emit_proc_start(t, ticks, p);
    emit_go_start(t, ticks, g);
}

void emit_thread_begin(struct emit_thread *t)
{
    uint64_t ticks = emit_ticks();
    if (!(ticks = open(t, ticks)) || t->is_told == EMIT_TOLD)
        return;
    bool is_ahead = t->is_told;
    t->is_told = EMIT_TOLD;
    if (is_ahead) {
        emit_others_go_on(t, ticks);
        return;
    }
    if (t->is_made) {
        t->is_made = false;
        struct emit_thing g = t->g, p = t->p;
        emit_proc_start(t, ticks, p);
        emit_go_start(t, ticks, g);
        return;
    }
    struct emit_thing g = t->g, p = t->p;
    g.mark = &t->own_g;
    p.mark = &t->own_p;
    atomic_store_explicit(p.mark, 0, memory_order_relaxed);
    if (g.start)
        begin_named(t, ticks, g, p);
    else
        begin_nameless(t, ticks, g, p);
}

void emit_thread_leave(struct emit_thread *t)
{
    uint64_t ticks = emit_ticks();
    if (t->is_told && t->g_state == EMIT_G_RUNNING && t->p_state == EMIT_P_RUNNING &&
        (ticks = open(t, ticks)) && t->is_told) {
        t->at = head(t, ticks, EV_GO_DESTROY);
        commit(t, head(t, ticks, EV_PROC_STOP));
    }
    t->g_state = t->p_state = EMIT_NONE;
    t->is_told = 0;
}

// --- Of others.

void emit_g_status(struct emit_thread *t, uint64_t ticks, struct emit_thing g,
                   enum emit_state state, uint64_t tid)
{
    if (!(ticks = open(t, ticks)) || !emit_claim(g.mark, t->generation))
        return;
    put_g_status(t, ticks, g, state, tid);
    commit(t, t->at);
}

void emit_p_status(struct emit_thread *t, uint64_t ticks, struct emit_thing p,
                   enum emit_state state)
{
    if (!(ticks = open(t, ticks)) || !emit_claim(p.mark, t->generation))
        return;
    put_p_status(t, ticks, p, state);
    commit(t, t->at);
}

// --- Gs.

void emit_go_create(struct emit_thread *t, uint64_t ticks, struct emit_thing g, emit_number stack)
{
    atomic_store_explicit(g.mark, 0, memory_order_relaxed);
    if (!(ticks = open(t, ticks)) || t->p_state != EMIT_P_RUNNING)
        return;
    uint32_t start = emit_stack_start(t, g.start);
    atomic_store_explicit(g.mark, t->generation << 32, memory_order_relaxed);
    uint8_t *at = head(t, ticks, EV_GO_CREATE);
    at = put_number(at, g.id);
    at = put_number(at, start);
    at = put_encoded(at, stack);
    commit(t, at);
}

// At the moment of the event before.
static inline uint8_t *head_again(uint8_t *at, enum emit_event type)
{
    at[0] = (uint8_t)type;
    at[1] = 0;
    return at + 2;
}

// From where its head ends. The G's status is told in this generation; number: the next of its mark.
static inline void start_known(struct emit_thread *t, uint8_t *at, struct emit_thing g,
                               uint64_t number)
{
    at = put_number(at, g.id);
    at = put_number(at, number);
    commit(t, at);
    t->g.mark = g.mark;
    t->g.id = g.id;
    t->g.start = g.start;
    t->g_state = EMIT_G_RUNNING;
}

static inline void start(struct emit_thread *t, uint64_t ticks, struct emit_thing g)
{
    need_g(t, ticks, g, EMIT_G_RUNNABLE);
    start_known(t, head(t, ticks, EV_GO_START), g, next_number(g.mark));
    if (__builtin_expect(
            atomic_load_explicit(&emit.procs_told, memory_order_relaxed) != t->generation, 0)) {
        tell_procs(t, ticks);
        commit(t, t->at);
    }
}

// Whether an event that names this G is all that there is to tell: then nothing is called, and nothing has to be
// kept across a call. What nearly always runs stands apart from the rest for that.
static inline bool is_plain(const struct emit_thread *t, emit_mark *mark)
{
    return is_open(t) && __builtin_expect(atomic_load_explicit(mark, memory_order_relaxed) >> 32 ==
                                              (t->generation & UINT32_MAX),
                                          1);
}

// The trailing _: with what makes up the thing in registers, see emit.h.
void emit_go_start_(struct emit_thread *t, uint64_t ticks, emit_mark *mark, uint64_t id,
                    uint64_t start_at)
{
    if ((ticks = open(t, ticks)))
        start(t, ticks, (struct emit_thing){mark, id, start_at});
}

void emit_go_destroy(struct emit_thread *t, uint64_t ticks)
{
    if (!(ticks = open(t, ticks)) || t->g_state != EMIT_G_RUNNING)
        return;
    uint8_t *at = head(t, ticks, EV_GO_DESTROY);
    commit(t, at);
    t->g_state = EMIT_NONE;
}

// Not committed.
static inline void leave(struct emit_thread *t, uint64_t ticks, enum emit_reason reason,
                         emit_number stack)
{
    uint8_t *at = head(t, ticks, reason >= EMIT_REASON_PREEMPTED ? EV_GO_STOP : EV_GO_BLOCK);
    at = put_encoded(at, emit.reasons[reason]);
    t->at = put_encoded(at, stack);
}

void emit_go_block(struct emit_thread *t, uint64_t ticks, enum emit_reason reason,
                   emit_number stack)
{
    if (!(ticks = open(t, ticks)) || t->g_state != EMIT_G_RUNNING)
        return;
    leave(t, ticks, reason, stack);
    commit(t, t->at);
    t->g_state = EMIT_NONE;
}

static __attribute__((noinline)) void switch_anew(struct emit_thread *t, uint64_t ticks,
                                                  enum emit_reason reason, emit_number stack,
                                                  emit_mark *mark, uint64_t id, uint64_t start_at)
{
    if (!(ticks = open(t, ticks)))
        return;
    if (t->g_state == EMIT_G_RUNNING)
        leave(t, ticks, reason, stack);
    start(t, ticks, (struct emit_thing){mark, id, start_at});
}

// One commit for both: nothing that the first tells is to be seen by others before the second is told.
void emit_go_switch_(struct emit_thread *t, uint64_t ticks, enum emit_reason reason,
                     emit_number stack, emit_mark *mark, uint64_t id, uint64_t start_at)
{
    if (!is_plain(t, mark) ||
        atomic_load_explicit(&emit.procs_told, memory_order_relaxed) != t->generation) {
        switch_anew(t, ticks, reason, stack, mark, id, start_at);
        return;
    }
    uint8_t *at;
    if (__builtin_expect(t->g_state == EMIT_G_RUNNING, 1)) {
        leave(t, ticks, reason, stack);
        at = head_again(t->at, EV_GO_START);
    } else {
        at = head(t, ticks, EV_GO_START);
    }
    start_known(t, at, (struct emit_thing){mark, id, start_at}, next_number(mark));
}

static __attribute__((noinline)) void unblock_anew(struct emit_thread *t, uint64_t ticks,
                                                   emit_number stack, emit_mark *mark, uint64_t id,
                                                   uint64_t start_at)
{
    if (!(ticks = open(t, ticks)))
        return;
    need_g(t, ticks, (struct emit_thing){mark, id, start_at}, EMIT_G_WAITING);
    uint8_t *at = head(t, ticks, EV_GO_UNBLOCK);
    at = put_number(at, id);
    at = put_number(at, next_number(mark));
    at = put_encoded(at, stack);
    commit(t, at);
}

void emit_go_unblock_(struct emit_thread *t, uint64_t ticks, emit_number stack, emit_mark *mark,
                      uint64_t id, uint64_t start_at)
{
    if (!is_plain(t, mark)) {
        unblock_anew(t, ticks, stack, mark, id, start_at);
        return;
    }
    uint8_t *at = head(t, ticks, EV_GO_UNBLOCK);
    at = put_number(at, id);
    at = put_number(at, next_number(mark));
    at = put_encoded(at, stack);
    commit(t, at);
}

// --- System calls.

void emit_syscall_begin(struct emit_thread *t, uint64_t ticks, emit_number stack)
{
    if (!(ticks = open(t, ticks)) || t->g_state != EMIT_G_RUNNING || t->p_state != EMIT_P_RUNNING)
        return;
    uint8_t *at = head(t, ticks, EV_GO_SYSCALL_BEGIN);
    at = put_number(at, next_number(t->p.mark));
    at = put_encoded(at, stack);
    commit(t, at);
    t->g_state = EMIT_G_SYSCALL;
    t->p_state = EMIT_P_SYSCALL;
}

void emit_syscall_end(struct emit_thread *t, uint64_t ticks)
{
    if (!(ticks = open(t, ticks)) || t->g_state != EMIT_G_SYSCALL)
        return;
    if (t->p_state)
        need_p(t, ticks, t->p, EMIT_P_SYSCALL);
    uint8_t *at = head(t, ticks, EV_GO_SYSCALL_END);
    commit(t, at);
    t->g_state = EMIT_G_RUNNING;
    t->p_state = EMIT_P_RUNNING;
}

void emit_syscall_end_blocked(struct emit_thread *t, uint64_t ticks)
{
    t->p_state = EMIT_NONE; // it is another's by now: not to be told here
    if (!(ticks = open(t, ticks)) || t->g_state != EMIT_G_SYSCALL)
        return;
    uint8_t *at = head(t, ticks, EV_GO_SYSCALL_END_BLOCKED);
    commit(t, at);
    t->g_state = EMIT_NONE;
}

// --- Ps.

void emit_proc_start(struct emit_thread *t, uint64_t ticks, struct emit_thing p)
{
    if (!(ticks = open(t, ticks)))
        return;
    need_p(t, ticks, p, EMIT_P_IDLE);
    uint8_t *at = head(t, ticks, EV_PROC_START);
    at = put_number(at, p.id);
    at = put_number(at, next_number(p.mark));
    commit(t, at);
    t->p = p;
    t->p_state = EMIT_P_RUNNING;
}

void emit_proc_stop(struct emit_thread *t, uint64_t ticks)
{
    if (!(ticks = open(t, ticks)) || !t->p_state)
        return;
    need_p(t, ticks, t->p, (enum emit_state)t->p_state);
    uint8_t *at = head(t, ticks, EV_PROC_STOP);
    commit(t, at);
    t->p_state = EMIT_NONE;
}

void emit_proc_steal(struct emit_thread *t, uint64_t ticks, struct emit_thing p, uint32_t from_tid)
{
    if (!(ticks = open(t, ticks)))
        return;
    need_p(t, ticks, p, EMIT_P_ABANDONED);
    uint8_t *at = head(t, ticks, EV_PROC_STEAL);
    at = put_number(at, p.id);
    at = put_number(at, next_number(p.mark));
    at = put_number(at, from_tid);
    commit(t, at);
}

void emit_procs_change(struct emit_thread *t, uint64_t ticks, uint32_t procs)
{
    if (!(ticks = open(t, ticks)) || t->g_state != EMIT_G_RUNNING)
        return;
    uint8_t *at = head(t, ticks, EV_PROCS_CHANGE);
    at = put_number(at, procs);
    at = put_number(at, 0);
    commit(t, at);
}

// --- The user's: with a running G only.

static inline bool is_running(const struct emit_thread *t)
{
    return t->g_state == EMIT_G_RUNNING && t->p_state == EMIT_P_RUNNING;
}

static inline uint64_t open_running(struct emit_thread *t, uint64_t ticks)
{
    ticks = open(t, ticks);
    return is_running(t) ? ticks : 0;
}

static inline void label(struct emit_thread *t, uint64_t ticks, uint32_t text)
{
    uint8_t *at = head(t, ticks, EV_GO_LABEL);
    at = put_number(at, text);
    commit(t, at);
}

static __attribute__((noinline)) void label_anew(struct emit_thread *t, uint64_t ticks,
                                                 uint32_t text)
{
    if ((ticks = open_running(t, ticks)))
        label(t, ticks, text);
}

void emit_label(struct emit_thread *t, uint64_t ticks, uint32_t text)
{
    if (is_open(t) && is_running(t))
        label(t, ticks, text);
    else
        label_anew(t, ticks, text);
}

void emit_heap(struct emit_thread *t, uint64_t ticks, uint64_t bytes)
{
    if (!(ticks = open_running(t, ticks)))
        return;
    uint8_t *at = head(t, ticks, EV_HEAP_ALLOC);
    at = put_number(at, bytes);
    commit(t, at);
}

void emit_task_begin(struct emit_thread *t, uint64_t ticks, uint64_t task, uint64_t parent,
                     uint32_t name, emit_number stack)
{
    if (!(ticks = open_running(t, ticks)))
        return;
    uint8_t *at = head(t, ticks, EV_USER_TASK_BEGIN);
    at = put_number(at, task);
    at = put_number(at, parent);
    at = put_number(at, name);
    at = put_encoded(at, stack);
    commit(t, at);
}

void emit_task_end(struct emit_thread *t, uint64_t ticks, uint64_t task, emit_number stack)
{
    if (!(ticks = open_running(t, ticks)))
        return;
    uint8_t *at = head(t, ticks, EV_USER_TASK_END);
    at = put_number(at, task);
    at = put_encoded(at, stack);
    commit(t, at);
}

bool emit_region(struct emit_thread *t, uint64_t ticks, bool is_end, uint64_t task, uint32_t name,
                 emit_number stack)
{
    if (!(ticks = open_running(t, ticks)))
        return false;
    uint8_t *at = head(t, ticks, is_end ? EV_USER_REGION_END : EV_USER_REGION_BEGIN);
    at = put_number(at, task);
    at = put_number(at, name);
    at = put_encoded(at, stack);
    commit(t, at);
    return true;
}

static inline void log_event(struct emit_thread *t, uint64_t ticks, uint64_t task, uint32_t key,
                             uint32_t value, emit_number stack)
{
    uint8_t *at = head(t, ticks, EV_USER_LOG);
    at = put_number(at, task);
    at = put_number(at, key);
    at = put_number(at, value);
    at = put_encoded(at, stack);
    commit(t, at);
}

static __attribute__((noinline)) void log_anew(struct emit_thread *t, uint64_t ticks, uint64_t task,
                                               uint32_t key, uint32_t value, emit_number stack)
{
    if ((ticks = open_running(t, ticks)))
        log_event(t, ticks, task, key, value, stack);
}

void emit_log(struct emit_thread *t, uint64_t ticks, uint64_t task, uint32_t key, uint32_t value,
              emit_number stack)
{
    if (is_open(t) && is_running(t))
        log_event(t, ticks, task, key, value, stack);
    else
        log_anew(t, ticks, task, key, value, stack);
}
