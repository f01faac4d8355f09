// SPDX-License-Identifier: MIT
//
// Writing events. Each function: room, the statuses that are still untold, the event, commit. The rules are
// the format's (docs/trace.md): a number of a G or P counts from its status in each generation.

#include "emit/internal.h"
#include "emit/wire.h"

_Alignas(4096) _Atomic uint64_t emit_page[512];

#define NO_THREAD UINT64_MAX

static inline bool open(struct emit_thread *t, uint64_t *ticks)
{
    uint64_t generation = atomic_load_explicit(&emit_generation, memory_order_relaxed);
    if (!generation)
        return false;
    if (__builtin_expect(t->generation == generation && t->at <= t->limit, 1))
        return true;
    return emit_open_slow(t, ticks);
}

static inline void head(struct emit_thread *t, uint64_t ticks, enum emit_event type)
{
    uint64_t units = emit_units(t->generation, ticks);
    uint64_t dt = units > t->units ? units - t->units : 0;
    t->units += dt;
    *t->at++ = (uint8_t)type;
    t->at = put_number(t->at, dt);
}

static inline void arg(struct emit_thread *t, uint64_t n)
{
    t->at = put_number(t->at, n);
}

// release: what is committed is whole, and what it tells is not yet to be seen by others
static inline void commit(struct emit_thread *t)
{
    atomic_store_explicit(&t->buffer->used, (uint64_t)(t->at - t->base), memory_order_release);
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
    uint64_t pc = g.start + 1; // as a return address, which is looked up one lower
    uint32_t stack = g.start ? seg_stack(emit.seg, &pc, 1, 0, 0) : 0;
    head(t, ticks, EV_GO_STATUS_STACK);
    arg(t, g.id);
    arg(t, tid);
    arg(t, state);
    arg(t, stack);
}

static void put_p_status(struct emit_thread *t, uint64_t ticks, struct emit_thing p,
                         enum emit_state state)
{
    head(t, ticks, EV_PROC_STATUS);
    arg(t, p.id);
    arg(t, state);
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

// The P of an M's call may be another's by now: it is told by what ends the call with it, or by who took it.
static void tell_view(struct emit_thread *t, uint64_t ticks)
{
    if (t->p_state == EMIT_P_RUNNING || (t->p_state && !t->owner))
        need_p(t, ticks, t->p, (enum emit_state)t->p_state);
    if (t->g_state && emit_claim(t->g.mark, t->generation))
        put_g_status(t, ticks, t->g, (enum emit_state)t->g_state, t->tid);
    uint64_t told = atomic_load_explicit(&emit.procs_told, memory_order_relaxed);
    if (t->g_state == EMIT_G_RUNNING && t->p_state == EMIT_P_RUNNING && emit.runtime &&
        told != t->generation &&
        atomic_compare_exchange_strong_explicit(&emit.procs_told, &told, t->generation,
                                                memory_order_relaxed, memory_order_relaxed)) {
        head(t, ticks, EV_PROCS_CHANGE);
        arg(t, emit.runtime->procs());
        arg(t, 0);
    }
}

bool emit_open_slow(struct emit_thread *t, uint64_t *ticks)
{
    uint64_t generation = atomic_load_explicit(&emit_generation, memory_order_acquire);
    bool is_new = t->generation != generation;
    uint64_t session = atomic_load_explicit(&emit.session, memory_order_relaxed);
    if (t->session != session) {
        t->session = session;
        t->order = 0;
        t->is_told = false;
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
    *ticks = emit_ticks();
    uint64_t units = emit_units(generation, *ticks);
    t->units = units > t->units ? units : t->units;
    struct seg_trace_buffer *b = emit_buffer_claim(t, generation);
    if (!b) {
        emit_cut(generation);
        return false;
    }
    t->buffer = b;
    t->base = t->at = emit.data + (size_t)(b - emit.buffers) * emit.trace->buffer_bytes;
    t->limit = t->base + emit.trace->buffer_bytes - EMIT_ROOM;
    t->generation = generation;
    if (is_new) {
        tell_view(t, *ticks);
        *ticks = emit_ticks(); // claimed by others until now: they told it before
        commit(t);
    }
    return true;
}

void emit_tell(struct emit_thread *t, uint64_t ticks)
{
    open(t, &ticks);
}

// A thread that comes in from outside, as cgo callbacks do in Go: made in a system call, with a P in one, and back from
// it. Accepted at any time.
void emit_thread_begin(struct emit_thread *t)
{
    uint64_t ticks = emit_ticks();
    if (!open(t, &ticks) || t->is_told)
        return;
    t->is_told = true;
    if (t->is_made) {
        t->is_made = false;
        struct emit_thing g = t->g, p = t->p;
        emit_proc_start(t, ticks, p);
        emit_go_start(t, ticks, g);
        return;
    }
    t->g.mark = &t->own_g;
    t->p.mark = &t->own_p;
    atomic_store_explicit(t->g.mark, t->generation << 32, memory_order_relaxed);
    atomic_store_explicit(t->p.mark, t->generation << 32, memory_order_relaxed);
    head(t, ticks, EV_GO_CREATE_SYSCALL);
    arg(t, t->g.id);
    put_p_status(t, ticks, t->p, EMIT_P_SYSCALL);
    head(t, ticks, EV_GO_SYSCALL_END);
    commit(t);
    t->g_state = EMIT_G_RUNNING;
    t->p_state = EMIT_P_RUNNING;
}

void emit_thread_leave(struct emit_thread *t)
{
    uint64_t ticks = emit_ticks();
    if (t->is_told && t->g_state == EMIT_G_RUNNING && t->p_state == EMIT_P_RUNNING &&
        open(t, &ticks) && t->is_told) {
        head(t, ticks, EV_GO_DESTROY);
        head(t, ticks, EV_PROC_STOP);
        commit(t);
    }
    t->g_state = t->p_state = EMIT_NONE;
    t->is_told = false;
}

// --- Of others.

void emit_g_status(struct emit_thread *t, uint64_t ticks, struct emit_thing g,
                   enum emit_state state, uint64_t tid)
{
    if (!open(t, &ticks) || !emit_claim(g.mark, t->generation))
        return;
    put_g_status(t, ticks, g, state, tid);
    commit(t);
}

void emit_p_status(struct emit_thread *t, uint64_t ticks, struct emit_thing p,
                   enum emit_state state)
{
    if (!open(t, &ticks) || !emit_claim(p.mark, t->generation))
        return;
    put_p_status(t, ticks, p, state);
    commit(t);
}

// --- Gs.

void emit_go_create(struct emit_thread *t, uint64_t ticks, struct emit_thing g, uint32_t stack)
{
    atomic_store_explicit(g.mark, 0, memory_order_relaxed);
    if (!open(t, &ticks) || t->p_state != EMIT_P_RUNNING)
        return;
    uint64_t pc = g.start + 1;
    uint32_t start = seg_stack(emit.seg, &pc, 1, 0, 0);
    atomic_store_explicit(g.mark, t->generation << 32, memory_order_relaxed);
    head(t, ticks, EV_GO_CREATE);
    arg(t, g.id);
    arg(t, start);
    arg(t, stack);
    commit(t);
}

void emit_go_start(struct emit_thread *t, uint64_t ticks, struct emit_thing g)
{
    if (!open(t, &ticks))
        return;
    need_g(t, ticks, g, EMIT_G_RUNNABLE);
    head(t, ticks, EV_GO_START);
    arg(t, g.id);
    arg(t, next_number(g.mark));
    commit(t);
    t->g = g;
    t->g_state = EMIT_G_RUNNING;
}

void emit_go_destroy(struct emit_thread *t, uint64_t ticks)
{
    if (!open(t, &ticks) || t->g_state != EMIT_G_RUNNING)
        return;
    head(t, ticks, EV_GO_DESTROY);
    commit(t);
    t->g_state = EMIT_NONE;
}

static void leave(struct emit_thread *t, uint64_t ticks, enum emit_event type, uint32_t reason,
                  uint32_t stack)
{
    if (!open(t, &ticks) || t->g_state != EMIT_G_RUNNING)
        return;
    head(t, ticks, type);
    arg(t, reason);
    arg(t, stack);
    commit(t);
    t->g_state = EMIT_NONE;
}

void emit_go_stop(struct emit_thread *t, uint64_t ticks, uint32_t reason, uint32_t stack)
{
    leave(t, ticks, EV_GO_STOP, reason, stack);
}

void emit_go_block(struct emit_thread *t, uint64_t ticks, uint32_t reason, uint32_t stack)
{
    leave(t, ticks, EV_GO_BLOCK, reason, stack);
}

void emit_go_unblock(struct emit_thread *t, uint64_t ticks, struct emit_thing g, uint32_t stack)
{
    if (!open(t, &ticks))
        return;
    need_g(t, ticks, g, EMIT_G_WAITING);
    head(t, ticks, EV_GO_UNBLOCK);
    arg(t, g.id);
    arg(t, next_number(g.mark));
    arg(t, stack);
    commit(t);
}

// --- System calls.

void emit_syscall_begin(struct emit_thread *t, uint64_t ticks, uint32_t stack)
{
    if (!open(t, &ticks) || t->g_state != EMIT_G_RUNNING || t->p_state != EMIT_P_RUNNING)
        return;
    head(t, ticks, EV_GO_SYSCALL_BEGIN);
    arg(t, next_number(t->p.mark));
    arg(t, stack);
    commit(t);
    t->g_state = EMIT_G_SYSCALL;
    t->p_state = EMIT_P_SYSCALL;
}

void emit_syscall_end(struct emit_thread *t, uint64_t ticks)
{
    if (!open(t, &ticks) || t->g_state != EMIT_G_SYSCALL)
        return;
    if (t->p_state)
        need_p(t, ticks, t->p, EMIT_P_SYSCALL);
    head(t, ticks, EV_GO_SYSCALL_END);
    commit(t);
    t->g_state = EMIT_G_RUNNING;
    t->p_state = EMIT_P_RUNNING;
}

void emit_syscall_end_blocked(struct emit_thread *t, uint64_t ticks)
{
    t->p_state = EMIT_NONE; // it is another's by now: not to be told here
    if (!open(t, &ticks) || t->g_state != EMIT_G_SYSCALL)
        return;
    head(t, ticks, EV_GO_SYSCALL_END_BLOCKED);
    commit(t);
    t->g_state = EMIT_NONE;
}

// --- Ps.

void emit_proc_start(struct emit_thread *t, uint64_t ticks, struct emit_thing p)
{
    if (!open(t, &ticks))
        return;
    need_p(t, ticks, p, EMIT_P_IDLE);
    head(t, ticks, EV_PROC_START);
    arg(t, p.id);
    arg(t, next_number(p.mark));
    commit(t);
    t->p = p;
    t->p_state = EMIT_P_RUNNING;
}

void emit_proc_stop(struct emit_thread *t, uint64_t ticks)
{
    if (!open(t, &ticks) || !t->p_state)
        return;
    need_p(t, ticks, t->p, (enum emit_state)t->p_state);
    head(t, ticks, EV_PROC_STOP);
    commit(t);
    t->p_state = EMIT_NONE;
}

void emit_proc_steal(struct emit_thread *t, uint64_t ticks, struct emit_thing p, uint32_t from_tid)
{
    if (!open(t, &ticks))
        return;
    need_p(t, ticks, p, EMIT_P_ABANDONED);
    head(t, ticks, EV_PROC_STEAL);
    arg(t, p.id);
    arg(t, next_number(p.mark));
    arg(t, from_tid);
    commit(t);
}

void emit_procs_change(struct emit_thread *t, uint64_t ticks, uint32_t procs)
{
    if (!open(t, &ticks) || t->g_state != EMIT_G_RUNNING)
        return;
    head(t, ticks, EV_PROCS_CHANGE);
    arg(t, procs);
    arg(t, 0);
    commit(t);
}

// --- The user's: with a running G only.

static bool open_running(struct emit_thread *t, uint64_t *ticks)
{
    return open(t, ticks) && t->g_state == EMIT_G_RUNNING && t->p_state == EMIT_P_RUNNING;
}

void emit_label(struct emit_thread *t, uint64_t ticks, uint32_t text)
{
    if (!open_running(t, &ticks))
        return;
    head(t, ticks, EV_GO_LABEL);
    arg(t, text);
    commit(t);
}

void emit_heap(struct emit_thread *t, uint64_t ticks, uint64_t bytes)
{
    if (!open_running(t, &ticks))
        return;
    head(t, ticks, EV_HEAP_ALLOC);
    arg(t, bytes);
    commit(t);
}

void emit_task_begin(struct emit_thread *t, uint64_t ticks, uint64_t task, uint64_t parent,
                     uint32_t name, uint32_t stack)
{
    if (!open_running(t, &ticks))
        return;
    head(t, ticks, EV_USER_TASK_BEGIN);
    arg(t, task);
    arg(t, parent);
    arg(t, name);
    arg(t, stack);
    commit(t);
}

void emit_task_end(struct emit_thread *t, uint64_t ticks, uint64_t task, uint32_t stack)
{
    if (!open_running(t, &ticks))
        return;
    head(t, ticks, EV_USER_TASK_END);
    arg(t, task);
    arg(t, stack);
    commit(t);
}

bool emit_region(struct emit_thread *t, uint64_t ticks, bool is_end, uint64_t task, uint32_t name,
                 uint32_t stack)
{
    if (!open_running(t, &ticks))
        return false;
    head(t, ticks, is_end ? EV_USER_REGION_END : EV_USER_REGION_BEGIN);
    arg(t, task);
    arg(t, name);
    arg(t, stack);
    commit(t);
    return true;
}

void emit_log(struct emit_thread *t, uint64_t ticks, uint64_t task, uint32_t key, uint32_t value,
              uint32_t stack)
{
    if (!open_running(t, &ticks))
        return;
    head(t, ticks, EV_USER_LOG);
    arg(t, task);
    arg(t, key);
    arg(t, value);
    arg(t, stack);
    commit(t);
}
