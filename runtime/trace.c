// SPDX-License-Identifier: MIT
//
// See trace.h. P ids are told one higher: tools take 0 for none.

#include "runtime/trace.h"

#include "runtime/descriptor.h"
#include "runtime/os/os.h"

extern const char fib_root_end_[] __attribute__((visibility("hidden")));

static struct emit_thing thing_g(struct g *g, uint64_t id)
{
    return (struct emit_thing){&g->trace, id, (uint64_t)(uintptr_t)g->fn};
}

// 0: a free one.
FIB_LOOKS static uint64_t id_of(const struct g *g)
{
    uint64_t id = atomic_load_explicit(&g->id, memory_order_acquire);
    const struct live *l = id ? NULL : g_live(g);
    return l ? l->ended_id : id; // joined already, and still to leave its processor
}

static struct emit_thing thing_of(struct g *g)
{
    return thing_g(g, id_of(g));
}

static uint64_t p_first =
    1; // lower ones are plain threads' that were told before the runtime was there

static struct emit_thing thing_p(struct p *p)
{
    return (struct emit_thing){&p->trace, p->id + p_first, 0};
}

// What this M has, before the coming event.
static void look(struct emit_thread *t)
{
    struct m *m = t->owner;
    struct p *p = m_p(m);
    struct g *g = m->cur;
    t->g_state = t->p_state = EMIT_NONE;
    uint8_t status = atomic_load_explicit(&g->status, memory_order_relaxed);
    bool is_fiber = g != &m->g0 && id_of(g) && (status == G_RUNNING || status == G_SYSCALL);
    if (is_fiber) {
        t->g = thing_of(g);
        t->g_state = p ? EMIT_G_RUNNING : EMIT_G_SYSCALL;
    }
    if (p) {
        t->p = thing_p(p);
        t->p_state = EMIT_P_RUNNING;
    } else if (is_fiber && m->syscall_p) {
        t->p = thing_p(m->syscall_p);
        t->p_state = EMIT_P_SYSCALL;
    }
}

__attribute__((noinline)) struct emit_thread *trace_stream_anew(struct m *m)
{
    struct emit_thread *t = m->trace;
    if (!t)
        t = m->trace = emit_thread_new((uint32_t)m->tid, look, m);
    if (t) { // the thread of this m has ended, and another come
        t->tid = (uint32_t)m->tid;
        t->session = 0;
    }
    return t;
}

static emit_number stack_of(struct m *m, struct emit_thread *t, const void *context)
{
    struct live *l = m->cur->live;
    return context ? emit_stack_from(t, context, l->low + OS_PAGE, l->high) : trace_stack(m);
}

static const uint8_t reasons[WAIT_REASONS] = {
    [WAIT_CHAN_RECEIVE] = EMIT_REASON_RECEIVE,
    [WAIT_CHAN_SEND] = EMIT_REASON_SEND,
    [WAIT_CHAN_RECEIVE_NIL] = EMIT_REASON_FOREVER,
    [WAIT_CHAN_SEND_NIL] = EMIT_REASON_FOREVER,
    [WAIT_SELECT] = EMIT_REASON_SELECT,
    [WAIT_SELECT_NO_CASES] = EMIT_REASON_FOREVER,
    [WAIT_SLEEP] = EMIT_REASON_SLEEP,
    [WAIT_MUTEX] = EMIT_REASON_SYNC,
    [WAIT_RWMUTEX_R] = EMIT_REASON_SYNC,
    [WAIT_RWMUTEX_W] = EMIT_REASON_SYNC,
    [WAIT_WAITGROUP] = EMIT_REASON_SYNC,
    [WAIT_COND] = EMIT_REASON_COND,
    [WAIT_SEMAPHORE] = EMIT_REASON_SYNC,
    [WAIT_JOIN] = EMIT_REASON_SYNC,
    [WAIT_IO] = EMIT_REASON_NETWORK,
    [WAIT_STACK] = EMIT_REASON_SYSTEM,
};

static enum emit_reason reason_of(enum wait_reason r)
{
    return (enum emit_reason)reasons[r];
}

// --- Gs.

// A fiber that lost its P, or is in a blocking call, starts another: a P is needed for the event, which a thread of
// its own has.
static void create_aside(struct g *g, uint64_t id)
{
    static struct emit_thread *aside;
    static struct rt_lock lock;
    static emit_mark mark;
    rt_lock(&lock);
    if (!aside)
        aside = emit_thread_new(UINT32_MAX - 1, NULL, NULL);
    if (aside) {
        struct emit_thing p = {&mark, p_first + PROCS_MAX, 0};
        uint64_t now = ticks_now();
        emit_proc_start(aside, now, p);
        emit_go_create(aside, now, thing_g(g, id), EMIT_NO_STACK);
        emit_proc_stop(aside, now);
    }
    rt_unlock(&lock);
}

void trace_create_(struct m *m, struct g *g, uint64_t id)
{
    struct emit_thread *t = trace_stream(m);
    if (t && m_p(m))
        emit_go_create(t, ticks_now(), thing_g(g, id), trace_stack(m));
    else
        create_aside(g, id);
}

void trace_start_(struct m *m, struct g *g, uint64_t now)
{
    struct emit_thread *t = trace_stream(m);
    if (t)
        emit_go_start(t, now, thing_of(g));
}

void trace_destroy_(struct m *m, struct g *next, uint64_t now)
{
    struct emit_thread *t = trace_stream(m);
    if (!t)
        return;
    emit_go_destroy(t, now);
    if (next != &m->g0)
        emit_go_start(t, now, thing_of(next));
}

static inline void leave_for(struct m *m, struct emit_thread *t, enum emit_reason reason,
                             emit_number stack, struct g *next, uint64_t now)
{
    if (next != &m->g0)
        emit_go_switch(t, now, reason, stack, thing_of(next));
    else
        emit_go_block(t, now, reason, stack);
}

void trace_yield_(struct m *m, emit_number stack, struct g *next, uint64_t now)
{
    struct emit_thread *t = trace_stream(m);
    if (t)
        leave_for(m, t, EMIT_REASON_GOSCHED, stack, next, now);
}

void trace_preempt_(struct m *m, struct g *g, const void *context, uint64_t now)
{
    struct emit_thread *t = trace_stream(m);
    (void)g;
    if (!t)
        return;
    if (m_p(m))
        emit_go_block(t, now, EMIT_REASON_PREEMPTED, stack_of(m, t, context));
    else
        emit_syscall_end_blocked(t, now);
}

// It blocked unannounced, lost its P, and waits now: only who has one can do that.
static __attribute__((noinline)) void park_without_p(struct m *m, struct emit_thread *t,
                                                     enum wait_reason reason, emit_number stack,
                                                     uint64_t now)
{
    emit_syscall_end_blocked(t, now);
    emit_proc_start(t, now, (struct emit_thing){&m->trace_p, p_first + 100000 + m->id, 0});
    emit_go_start(t, now, thing_of(m->cur));
    emit_go_block(t, now, reason_of(reason), stack);
    emit_proc_stop(t, now);
}

void trace_park_(struct m *m, enum wait_reason reason, emit_number stack, struct g *next,
                 uint64_t now)
{
    struct emit_thread *t = trace_stream(m);
    if (!t)
        return;
    if (m_p(m))
        leave_for(m, t, reason_of(reason), stack, next, now);
    else
        park_without_p(m, t, reason, stack, now);
}

void trace_ready_(struct m *m, struct g *g, emit_number stack)
{
    struct emit_thread *t = trace_stream(m);
    if (t)
        emit_go_unblock(t, ticks_now(), thing_of(g), stack);
}

void trace_resume_(struct m *m, struct g *g)
{
    struct emit_thread *t = trace_stream(m);
    if (t)
        emit_go_unblock(t, ticks_now(), thing_of(g), EMIT_NO_STACK);
}

// --- Calls.

void trace_call_begin_(struct m *m, struct g *g, const void *context)
{
    struct emit_thread *t = trace_stream(m);
    (void)g;
    if (t && m_p(m))
        emit_syscall_begin(t, ticks_now(), stack_of(m, t, context));
}

void trace_call_end_(struct m *m)
{
    struct emit_thread *t = trace_stream(m);
    if (t)
        emit_syscall_end(t, ticks_now());
}

void trace_call_end_blocked_(struct m *m)
{
    struct emit_thread *t = trace_stream(m);
    if (t)
        emit_syscall_end_blocked(t, ticks_now());
}

// --- Ps. In the scheduler outside of transitions, too: then they make one.

static bool begin(struct m *m)
{
    if (atomic_load_explicit(&m->seq, memory_order_relaxed) & 1)
        return false;
    trans_begin(m);
    return true;
}

void trace_proc_start_(struct m *m, struct p *p)
{
    struct emit_thread *t = trace_stream(m);
    bool is_begun = begin(m);
    if (t)
        emit_proc_start(t, ticks_now(), thing_p(p));
    if (is_begun)
        trans_end(m);
}

void trace_proc_stop_(struct m *m)
{
    struct emit_thread *t = trace_stream(m);
    bool is_begun = begin(m);
    if (t)
        emit_proc_stop(t, ticks_now());
    if (is_begun)
        trans_end(m);
}

// m's own view of its P is gone: it was in the call that ends now.
void trace_proc_steal_(struct m *m, struct p *p)
{
    struct emit_thread *t = trace_stream(m);
    if (!t)
        return;
    t->p_state = EMIT_NONE;
    emit_proc_steal(t, ticks_now(), thing_p(p), (uint32_t)p->syscall_tid);
}

void trace_procs_(struct m *m, uint32_t procs)
{
    struct emit_thread *t = trace_stream(m);
    if (t)
        emit_procs_change(t, ticks_now(), procs);
}

void trace_label_(struct m *m, uint32_t text)
{
    struct emit_thread *t = trace_stream(m);
    if (t)
        emit_label(t, ticks_now(), text);
}

void trace_tell_(struct m *m)
{
    struct emit_thread *t = trace_stream(m);
    if (t)
        emit_tell(t, ticks_now());
}

void trace_thread_ends_(struct m *m)
{
    trans_begin(m);
    emit_thread_end(m->trace);
    trans_end(m);
}

// --- Plain threads and sysmon.

struct emit_thread *trace_outside_enter(void)
{
    return emit_enter_bare();
}

struct emit_thread *trace_outside_create(struct g *g, uint64_t id)
{
    struct emit_thread *t = emit_enter();
    if (t)
        emit_go_create(t, ticks_now(), thing_g(g, id), emit_stack(t, 0, 0));
    return t;
}

void trace_outside_told(struct emit_thread *t)
{
    // seq_cst: what was changed is seen by a session that begins once this stream is left behind
    if (t)
        atomic_thread_fence(memory_order_seq_cst);
    if (!t || atomic_load(&t->left))
        emit_untold();
}

void trace_outside_ready(struct emit_thread *t, struct g *g)
{
    if (t)
        emit_go_unblock(t, ticks_now(), thing_of(g), EMIT_NO_STACK);
}

void trace_outside_steal(struct emit_thread *t, struct p *p)
{
    if (t)
        emit_proc_steal(t, ticks_now(), thing_p(p), (uint32_t)p->syscall_tid);
}

void trace_outside_park_(enum wait_reason reason, uint64_t at)
{
    emit_self_block((enum emit_reason)reasons[reason], 0, at);
}

// --- The operations that emit/ asks for.

static _Atomic bool is_armed;

static void set_traced(struct m *m, bool is_on)
{
    __atomic_store_n(&m->is_traced, is_on, __ATOMIC_RELAXED);
}

static void arm(bool is_on)
{
    // seq_cst: an M that is not in the list yet sees it in trace_m_begins
    atomic_store(&is_armed, is_on);
    for (struct m *m = atomic_load(&sched.all_ms); m; m = m->all_link)
        set_traced(m, is_on);
}

// Never cleared here: that could be late.
void trace_m_begins(struct m *m)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&is_armed))
        set_traced(m, true);
}

static void quiesce(void)
{
    struct m *self = this_m();
    for (struct m *m = atomic_load_explicit(&sched.all_ms, memory_order_acquire); m;
         m = m->all_link) {
        uint32_t seq = atomic_load_explicit(&m->seq, memory_order_acquire);
        for (uint32_t i = 1;
             m != self && (seq & 1) && atomic_load_explicit(&m->seq, memory_order_acquire) == seq;
             i++) {
            if (i % 64)
                arch_pause();
            else
                os_sleep(20000); // not a yield: its thread may have less priority
        }
    }
}

FIB_LOOKS static void announce_g(struct emit_thread *t, uint64_t ticks, struct g *g)
{
    uint64_t id = id_of(g);
    uint8_t status = atomic_load_explicit(&g->status, memory_order_acquire);
    if (!id)
        return;
    // In a call nobody else tells it; its thread is found through who runs it, in announce.
    if (status == G_RUNNABLE || status == G_PREEMPTED)
        emit_g_status(t, ticks, thing_g(g, id), EMIT_G_RUNNABLE, UINT64_MAX);
    else if (status == G_WAITING)
        emit_g_status(t, ticks, thing_g(g, id), EMIT_G_WAITING, UINT64_MAX);
}

FIB_LOOKS static void announce(struct emit_thread *t, uint64_t ticks)
{
    for (uint32_t i = 0; i < PROCS_MAX; i++) {
        struct p *p = sched.ps[i];
        if (p && atomic_load_explicit(&p->status, memory_order_acquire) == P_IDLE)
            emit_p_status(t, ticks, thing_p(p), EMIT_P_IDLE);
    }
    struct g *g;
    for (uint32_t i = 0; (g = g_at(i)); i++)
        announce_g(t, i % 64 ? ticks : (ticks = ticks_now()), g);
    for (struct m *m = atomic_load_explicit(&sched.all_ms, memory_order_acquire); m;
         m = m->all_link) {
        g = __atomic_load_n(&m->cur, __ATOMIC_RELAXED);
        uint64_t id = id_of(g);
        if (g != &m->g0 && id && !m_p(m) &&
            atomic_load_explicit(&g->status, memory_order_acquire) == G_SYSCALL)
            emit_g_status(t, ticks_now(), thing_g(g, id), EMIT_G_SYSCALL, (uint32_t)m->tid);
    }
}

// A thread that computes and comes to no event tells by the handler of SIGURG what it runs.
FIB_LOOKS static bool nudge(void)
{
    uint64_t generation = atomic_load_explicit(&emit_generation, memory_order_relaxed);
    struct m *self = this_m();
    bool all_told = true;
    for (struct m *m = atomic_load_explicit(&sched.all_ms, memory_order_acquire); m;
         m = m->all_link) {
        struct emit_thread *t = m->trace;
        struct g *g = __atomic_load_n(&m->cur, __ATOMIC_RELAXED);
        if (m == self || !m->tid || !m_p(m) || g == &m->g0 || (t && t->generation == generation))
            continue;
        all_told = false;
        atomic_store_explicit(&m->is_tell_wanted, true, memory_order_release);
        os_signal_thread(m->tid, SIGNAL_PREEMPT);
    }
    // The caller's own: it is in a call of the program's, outside of transitions.
    if (self && self->cur != &self->g0 && !(atomic_load(&self->seq) & 1)) {
        trans_begin(self);
        FIB_TRACE(tell, self);
        trans_end(self);
    }
    return all_told;
}

static uint64_t next_id(void)
{
    return fib_next_id(NULL);
}

static uint32_t procs(void)
{
    return atomic_load_explicit(&sched.procs, memory_order_relaxed);
}

static struct emit_thread *enter(void)
{
    struct m *m = this_m();
    if (!m || m->cur == &m->g0 || (atomic_load_explicit(&m->seq, memory_order_relaxed) & 1))
        return NULL;
    trans_begin(m);
    struct emit_thread *t = trace_stream(m);
    if (!t)
        trans_end(m);
    return t;
}

static void leave(struct emit_thread *t)
{
    trans_end(t->owner);
}

static void regain(void)
{
    struct m *m = this_m();
    if (m && m->cur != &m->g0 && !(atomic_load_explicit(&m->seq, memory_order_relaxed) & 1) &&
        !m_p(m) && !m->cur->live->blocking)
        trans_end(trans_begin_with_p());
}

// t is its M's stream since enter, which is looked for once.
static emit_number here(struct emit_thread *t)
{
    const struct m *m = t->owner;
    const struct g *g = m->cur;
    if (__builtin_expect(g == &m->g0, 0))
        return EMIT_NO_STACK;
    return emit_stack(t, g->live->low + OS_PAGE, g->live->high);
}

static bool is_m(void)
{
    return this_m();
}

static uint64_t *region_word(struct emit_thread *t)
{
    struct m *m = t->owner;
    return &m->cur->live->region;
}

static void ids_given(uint64_t first_id)
{
    p_first = first_id;
    ids_begin(first_id);
}

void trace_init(void)
{
    static struct emit_runtime ops = {
        .size = sizeof ops,
        .begin = ids_given,
        .arm = arm,
        .quiesce = quiesce,
        .announce = announce,
        .nudge = nudge,
        .next_id = next_id,
        .procs = procs,
        .enter = enter,
        .leave = leave,
        .regain = regain,
        .stack = here,
        .region_word = region_word,
        .is_m = is_m,
        .poke = sysmon_wake,
    };
    ops.text_low = fib_descriptor.text;
    ops.text_high = fib_descriptor.text_end;
    ops.root_low = (uint64_t)(uintptr_t)fib_root_;
    ops.root_high = (uint64_t)(uintptr_t)fib_root_end_;
    emit_set_runtime(&ops);
}
