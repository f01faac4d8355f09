// SPDX-License-Identifier: MIT
//
// Plain threads: each is a G that runs on a P of its own, told when it first has something to tell. Its stream is
// guarded by `busy`, as who advances tells the status of threads that say nothing.

#include "emit/waits.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SPINS = 300,
    // A handler's frames lie deeper than what it has interrupted by all that the kernel puts between: more than 1 KiB. Hooks
    // that are called at one depth differ by less than this.
    FRAME_SLACK = 768,
};

static __thread struct emit_thread *self __attribute__((tls_model("initial-exec")));
static __thread uint32_t held
    __attribute__((tls_model("initial-exec"))); // `busy` words, by this thread
static __thread bool has_ended __attribute__((tls_model("initial-exec"))); // it tells nothing more
// Its stack pointer when the first of them was taken; 0: not known. Changed while `held` is not 0.
static __thread uint64_t frame __attribute__((tls_model("initial-exec")));
static __thread bool is_quiet_now __attribute__((tls_model("initial-exec")));
static __thread uint64_t own_start __attribute__((tls_model("initial-exec"))); // 0: not known

static inline __attribute__((always_inline)) uint64_t stack_pointer(void)
{
    uint64_t sp;
    __asm__ volatile("mov %%rsp, %0" : "=r"(sp));
    return sp;
}

// Before `busy` is: a handler is not to find it held and not counted.
static inline __attribute__((always_inline)) void hold(void)
{
    bool is_first = !held++;
    atomic_signal_fence(memory_order_seq_cst);
    if (is_first)
        frame = stack_pointer();
}

static inline void let_go(void)
{
    if (held == 1)
        frame = 0;
    atomic_signal_fence(memory_order_seq_cst);
    held--;
}

static inline bool take(struct emit_thread *t, uint32_t by)
{
    uint32_t was = atomic_load_explicit(&t->busy, memory_order_relaxed);
    if ((was & 1) ||
        !atomic_compare_exchange_strong_explicit(&t->busy, &was, (was + 1) | by,
                                                 memory_order_acquire, memory_order_relaxed))
        return false;
    if (__builtin_expect(atomic_load_explicit(&t->left, memory_order_relaxed) != 0, 0))
        emit_return(t);
    return true;
}

static void give(struct emit_thread *t)
{
    uint32_t was = atomic_load_explicit(&t->busy, memory_order_relaxed);
    // release: pairs with the acquire of who takes it, and of who waits for the transition's end
    atomic_store_explicit(&t->busy, (was + 1) & ~EMIT_BUSY_BY_OTHER, memory_order_release);
}

// Counted already.
static __attribute__((noinline)) bool take_patiently(struct emit_thread *t, uint32_t by,
                                                     uint64_t patience_ns)
{
    uint64_t until = 0;
    for (int i = 0; !take(t, by); i++) {
        uint64_t now = i < SPINS ? 0 : emit_now_ns();
        until = now && !until ? now + patience_ns : until;
        if (!now) {
            __builtin_ia32_pause();
        } else if (now >= until) {
            let_go();
            return false;
        } else {
            emit_pause();
        }
    }
    return true;
}

static inline bool lock_own(struct emit_thread *t)
{
    hold();
    return __builtin_expect(take(t, 0), 1) || take_patiently(t, 0, EMIT_OWN_NS);
}

bool emit_busy_lock(struct emit_thread *t, uint64_t patience_ns)
{
    hold();
    return take_patiently(t, EMIT_BUSY_BY_OTHER, patience_ns);
}

bool emit_busy_try(struct emit_thread *t)
{
    hold();
    bool is_ours = take(t, EMIT_BUSY_BY_OTHER);
    if (!is_ours)
        let_go();
    return is_ours;
}

void emit_busy_unlock(struct emit_thread *t)
{
    give(t);
    let_go();
}

static bool is_on_stack(const struct emit_thread *t, uint64_t sp)
{
    return sp >= t->stack_low && sp < t->stack_high;
}

// Whether what `held` counts has been left, and we are no handler that has interrupted it. Nothing can be said on other stacks.
static bool is_left_by_jump(void)
{
    uint64_t sp = stack_pointer();
    stack_t other = {0};
    return self && frame && sp + FRAME_SLACK >= frame && is_on_stack(self, sp) &&
           is_on_stack(self, frame) && !syscall(SYS_sigaltstack, NULL, &other) &&
           !(other.ss_flags & SS_ONSTACK);
}

// What `held` counts has been left.
static void leave_event(void)
{
    uint32_t was = self ? atomic_load_explicit(&self->busy, memory_order_relaxed) : 0;
    if ((was & 1) && !(was & EMIT_BUSY_BY_OTHER)) {
        if (self->session == emit_session() && !atomic_load(&self->left))
            emit_cut_now();
        emit_stack_forget(self);
        give(self);
    }
    frame = 0;
    held = 0;
}

static __attribute__((noinline)) bool recover(void)
{
    if (!is_left_by_jump())
        return false;
    leave_event();
    return true;
}

bool emit_self_is_inside(void)
{
    return __builtin_expect(held != 0, 0) && !recover();
}

void emit_self_hold(void)
{
    hold();
}

void emit_self_let_go(void)
{
    let_go();
}

void emit_self_drop_stream(void)
{
    struct emit_thread *t = self;
    emit_cut_now();
    self = NULL;
    if (t)
        emit_plain_drop(t);
}

static void find_stack(struct emit_thread *t)
{
    t->stack_low = t->stack_high = 0;
    if (emit.bounds)
        emit.bounds(&t->stack_low, &t->stack_high);
}

// With signals blocked: a handler that came in between would make another, and no two streams may have one tid in a session. Nor
// does a session begin in one meanwhile.
static __attribute__((noinline)) struct emit_thread *make_self(void)
{
    // A child of vfork has this memory, its parent's thread-local variables too.
    if (has_ended || emit.pid != (uint32_t)syscall(SYS_getpid))
        return NULL;
    uint64_t mask;
    emit_signals_block(&mask);
    struct emit_thread *t = self;
    if (!t && (t = emit_others_adopt((uint32_t)syscall(SYS_gettid)))) {
        if (own_start)
            t->g.start = own_start;
        find_stack(t);
        self = t;
    }
    emit_signals_restore(&mask);
    return t;
}

void emit_plain_end(struct emit_thread *t)
{
    if (!lock_own(t)) {
        emit_cut_now();
        emit_plain_drop(t);
        return;
    }
    if (t->is_told == EMIT_TOLD_AHEAD)
        emit_thread_begin(t);
    emit_waits_flush(t);
    emit_thread_leave(t);
    emit_thread_end(t);
    t->session = 0;                          // another thread's order begins anew
    atomic_store(&t->is_used, EMIT_LEAVING); // who finds it by its tid is not to tell it again
    emit_busy_unlock(t);
    emit_plain_give(t);
}

// The calling thread's stream that was told ahead, and of which it knows nothing.
static struct emit_thread *find_ahead(uint32_t tid)
{
    uint64_t mask;
    if (!emit_is_on())
        return NULL;
    emit_signals_block(&mask);
    struct emit_thread *t = emit_others_find(tid);
    emit_signals_restore(&mask);
    return t;
}

void emit_self_end(void)
{
    emit_self_unwound();
    has_ended = true; // destructors that come after ours, whose calls nobody would end
    struct emit_thread *t = self ? self : find_ahead((uint32_t)syscall(SYS_gettid));
    self = NULL;
    if (t)
        emit_plain_end(t);
}

static inline struct emit_thread *enter_self(void)
{
    struct emit_thread *t = self ? self : make_self();
    if (!t || __builtin_expect(lock_own(t), 1))
        return t;
    emit_self_drop_stream();
    return NULL;
}

struct emit_thread *emit_enter_bare(void)
{
    return emit_is_on() && !emit_self_is_inside() ? enter_self() : NULL;
}

void emit_untold(void)
{
    // seq_cst: what was changed before is seen by a session that is not seen here
    atomic_thread_fence(memory_order_seq_cst);
    if (emit_is_on())
        emit_cut_now();
}

struct emit_thread *emit_enter(void)
{
    if (!emit_is_on())
        return NULL;
    struct emit_thread *t = emit.runtime ? emit.runtime->enter() : NULL;
    if (t)
        return t;
    t = emit_enter_bare();
    if (t)
        emit_thread_begin(t);
    return t;
}

struct emit_thread *emit_enter_user(void)
{
    if (emit_is_on() && emit.runtime)
        emit.runtime->regain();
    return emit_enter();
}

void emit_leave(struct emit_thread *t)
{
    if (!t)
        return;
    if (t->owner)
        emit.runtime->leave(t);
    else
        emit_busy_unlock(t);
}

static bool is_any_relocking(void)
{
    return atomic_load_explicit(&emit_relocking, memory_order_relaxed) != 0;
}

// Who forks in a handler is inside yet, in the child as well.
void emit_self_forget(void)
{
    has_ended = false;
    self = NULL;
    emit_others_forget();
    emit_plain_forget();
}

// --- What agent and runtime tell of plain threads.

static inline bool is_plain(void)
{
    return emit_is_on() && !is_quiet_now && !(emit.runtime && emit.runtime->is_m());
}

static inline __attribute__((always_inline)) struct emit_thread *enter_plain(void)
{
    struct emit_thread *t = is_plain() && !emit_self_is_inside() ? enter_self() : NULL;
    if (t)
        emit_thread_begin(t);
    return t;
}

static inline uint64_t call_of(struct emit_thread *t)
{
    return t ? atomic_load_explicit(&t->call, memory_order_relaxed) : 0;
}

static void set_call(struct emit_thread *t, uint64_t at)
{
    atomic_store_explicit(&t->call, at, memory_order_relaxed);
}

// The open call has ended. Where nobody has told that it wakes this one, the event has no emitter but this thread's P.
static __attribute__((noinline)) void go_on(struct emit_thread *w)
{
    hold();          // a handler comes before all of what follows, or after it
    if (self != w) { // a handler has forked, or dropped it
        let_go();
        return;
    }
    bool is_told = emit_waits_end(w), is_ours = self == w && emit_waits_claimed(w);
    struct emit_thread *t = is_plain() ? enter_self() : NULL;
    if (t)
        emit_thread_begin(t);
    // Else it was dropped: somebody is about to tell of its wait, or, where the claim is ours, holds it.
    if (self == w || is_ours)
        emit_waits_over(w);
    if (t && t->g_state == EMIT_G_SYSCALL) {
        emit_syscall_end(t, emit_ticks());
    } else if (t && !t->g_state) {
        struct emit_thing g = t->g, p = t->p;
        if (!is_told)
            emit_go_unblock(t, emit_ticks(), g, EMIT_NO_STACK);
        emit_proc_start(t, emit_ticks(), p);
        emit_go_start(t, emit_ticks(), g);
    }
    if (t && is_any_relocking())
        emit_waits_took(t, t->wait_takes);
    emit_leave(t);
    set_call(w, 0);
    let_go();
}

// Whether `at` is further in than the open call: on the stack that grew from there, or on the one that a handler has.
static bool is_within(uint64_t call, uint64_t at)
{
    stack_t s = {0};
    if (at < call)
        return true;
    if (syscall(SYS_sigaltstack, NULL, &s) || !(s.ss_flags & SS_ONSTACK))
        return false;
    uint64_t low = (uint64_t)s.ss_sp;
    return at - low < s.ss_size && call - low >= s.ss_size;
}

// NULL: it is not to be told, a handler's within another. A handler may fork or drop the stream at any moment: `self` is
// read once.
static inline __attribute__((always_inline)) struct emit_thread *enter_call(uint64_t at)
{
    struct emit_thread *w = self;
    uint64_t call = call_of(w);
    if (__builtin_expect(call != 0, 0)) {
        if (emit_self_is_inside() || is_within(call, at))
            return NULL;
        go_on(w);
    }
    struct emit_thread *t = enter_plain();
    if (t)
        set_call(t, at);
    return t;
}

void emit_self_go_on(uint64_t at)
{
    struct emit_thread *w = self;
    uint64_t call = call_of(w);
    if (emit_self_is_inside())
        return; // in a handler, whose call was not told to begin either
    if (__builtin_expect(call != at || !call, 0)) {
        if (!call)
            emit_self_here();
        return;
    }
    if (w->g_state != EMIT_G_SYSCALL) {
        go_on(w);
        return;
    }
    struct emit_thread *t = enter_plain();
    if (t && t->g_state == EMIT_G_SYSCALL)
        emit_syscall_end(t, emit_ticks());
    set_call(w, 0);
    emit_leave(t);
}

void emit_self_unwound(void)
{
    struct emit_thread *w = self;
    if (call_of(w) && !emit_self_is_inside())
        go_on(w);
}

void emit_self_jump(uint64_t to)
{
    if (__builtin_expect(held != 0, 0) && frame && !is_within(frame, to))
        leave_event();
    struct emit_thread *w = self;
    uint64_t call = call_of(w);
    if (call && !held && !is_within(call, to))
        go_on(w);
}

static void block(struct emit_thread *t, enum emit_reason reason, uint64_t object, uint64_t again)
{
    emit_waits_flush(t);
    t->wait_stack = emit_stack_here(t);
    t->wait_takes = again ? again : object;
    t->wait_rwlock = EMIT_RWLOCK_NONE;
    emit_go_block(t, emit_ticks(), reason, t->wait_stack);
    emit_proc_stop(t, emit_ticks());
    emit_waits_begin(t, object, again);
}

void emit_self_block(enum emit_reason reason, uint64_t object, uint64_t at)
{
    struct emit_thread *t = enter_call(at);
    if (t)
        block(t, reason, object, 0);
    emit_leave(t);
}

void emit_self_block_again(enum emit_reason reason, uint64_t object, uint64_t mutex, uint64_t at)
{
    struct emit_thread *t = enter_call(at);
    if (t)
        block(t, reason, object, mutex);
    emit_leave(t);
}

void emit_self_block_rwlock(uint64_t object, bool to_write, uint64_t at)
{
    struct emit_thread *t = enter_call(at);
    if (t) {
        block(t, EMIT_REASON_SYNC, 0, 0);
        t->wait_takes = object;
        t->wait_rwlock = to_write ? EMIT_RWLOCK_WRITE : EMIT_RWLOCK_READ;
        emit_waits_begin(t, object, 0);
    }
    emit_leave(t);
}

void emit_self_call(uint64_t at)
{
    struct emit_thread *t = enter_call(at);
    if (t) {
        emit_waits_flush(t);
        emit_syscall_begin(t, emit_ticks(), emit_stack_here(t));
    }
    emit_leave(t);
}

void emit_self_timed_out(uint64_t mutex, uint64_t late_ns)
{
    struct emit_thread *t = self ? enter_plain() : NULL;
    if (t)
        emit_waits_timed_out(t, mutex, late_ns);
    emit_leave(t);
}

void emit_self_took(uint64_t mutex)
{
    struct emit_thread *t = enter_plain();
    if (t)
        emit_waits_took(t, mutex);
    emit_leave(t);
}

void emit_self_here(void)
{
    emit_leave(enter_plain());
}

void emit_self_release(uint64_t object)
{
    struct emit_thread *t = enter_plain();
    if (t)
        emit_waits_note(t, object);
    emit_leave(t);
}

void emit_self_signal(uint64_t object, bool all)
{
    // Not in the midst of an event of this very thread, nor for one that has told nothing yet.
    if (!self || emit_self_is_inside())
        return;
    struct emit_thread *t = enter_plain();
    if (t)
        emit_waits_signal(t, object, all);
    emit_leave(t);
}

void emit_self_tick(void)
{
    if (!emit.runtime || !emit.runtime->is_m())
        emit_tick();
}

void emit_self_quiet(bool is_quiet)
{
    is_quiet_now = is_quiet;
}

struct emit_thread *emit_self_create(uint64_t start)
{
    struct emit_thread *t = enter_plain(), *made = t ? emit_plain_take(0) : NULL;
    if (made) {
        emit_plain_name(made);
        made->g.start = start;
        emit_go_create(t, emit_ticks(), made->g, emit_stack_here(t));
        made->is_made = true;
        made->session_made = t->session;
    }
    emit_leave(t);
    return made;
}

void emit_self_begin(struct emit_thread *t, uint64_t start)
{
    uint64_t mask;
    own_start = start;
    if (!t)
        return;
    emit_signals_block(&mask); // as in make_self
    uint32_t tid = (uint32_t)syscall(SYS_gettid);
    // A handler has told something already, as of a thread from outside; or a session began in this very moment.
    if (emit_others_begin(t, self, tid)) {
        find_stack(t);
        self = t;
    } else {
        emit_self_drop(t); // it never starts, and the thread is one from outside
    }
    emit_signals_restore(&mask);
    emit_leave(emit_enter());
}

void emit_self_drop(struct emit_thread *t)
{
    if (!t)
        return;
    if (!lock_own(t)) {
        emit_cut_now();
        emit_plain_drop(t);
        return;
    }
    t->is_made = false;
    t->session = 0;
    emit_busy_unlock(t);
    emit_plain_give(t);
}
