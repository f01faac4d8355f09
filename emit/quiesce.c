// SPDX-License-Identifier: MIT
//
// Waiting for other threads' streams, which is bounded: see emit.h. What is written here is guarded by emit.lock, whose holder
// no handler interrupts.

#include "emit/internal.h"

#include <linux/membarrier.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SPINS = 300, PAUSE_NS = 20000, BLIND_NS = 10000000 };

static void pause_ns(long ns)
{
    const struct timespec ts = {.tv_nsec = ns};
    syscall(SYS_nanosleep, &ts, NULL);
}

void emit_pause(void)
{
    pause_ns(PAUSE_NS); // not a yield: the other may have less priority
}

// --- emit.lock.

// All but those that a fault of our own would raise.
static uint64_t all_signals(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS};
    uint64_t mask = UINT64_MAX;
    for (unsigned i = 0; i < sizeof faults / sizeof *faults; i++)
        mask &= ~(UINT64_C(1) << (faults[i] - 1));
    return mask;
}

static void set_mask(int how, const uint64_t *mask, uint64_t *was)
{
    syscall(SYS_rt_sigprocmask, how, mask, was, sizeof *mask);
}

void emit_signals_block(uint64_t *was)
{
    uint64_t mask = all_signals();
    set_mask(SIG_BLOCK, &mask, was);
}

void emit_signals_restore(const uint64_t *was)
{
    set_mask(SIG_SETMASK, was, NULL);
}

bool emit_try_lock(void)
{
    uint64_t was = 0;
    uint32_t no = 0;
    if (atomic_load_explicit(&emit.lock, memory_order_relaxed))
        return false;
    emit_signals_block(&was);
    if (atomic_compare_exchange_strong_explicit(&emit.lock, &no, 1, memory_order_acquire,
                                                memory_order_relaxed)) {
        emit.mask = was;
        return true;
    }
    emit_signals_restore(&was);
    return false;
}

void emit_lock(void)
{
    while (!emit_try_lock())
        pause_ns(100000);
}

void emit_unlock(void)
{
    uint64_t was = emit.mask;
    atomic_store_explicit(&emit.lock, 0, memory_order_release);
    emit_signals_restore(&was);
}

// --- Transitions of plain threads.

static struct emit_thread *first(void)
{
    return atomic_load_explicit(&emit.threads, memory_order_acquire);
}

static bool is_left(struct emit_thread *t)
{
    return atomic_load_explicit(&t->left, memory_order_relaxed) != 0;
}

// Whether it was outside once since this look began.
static bool was_outside(struct emit_thread *t)
{
    uint32_t now = atomic_load_explicit(&t->busy, memory_order_acquire);
    if (t->looked != emit.look) {
        t->looked = emit.look;
        t->found = now;
    }
    return !(t->found & 1) || now != t->found;
}

// until: by CLOCK_MONOTONIC; 0: not known yet.
static bool wait_for(struct emit_thread *t, uint64_t patience_ns, uint64_t *until)
{
    for (int i = 0; !was_outside(t); i++) {
        uint64_t now = i < SPINS ? 0 : emit_now_ns();
        *until = now && !*until ? now + patience_ns : *until;
        if (!now)
            __builtin_ia32_pause();
        else if (now >= *until)
            return false;
        else
            emit_pause();
    }
    return true;
}

bool emit_quiesce(bool is_new, uint64_t patience_ns)
{
    uint64_t until = 0;
    bool are_out = true;
    if (is_new) {
        emit.look++;
        if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
            pause_ns(BLIND_NS); // a kernel without: all stores have long been seen
    }
    // Each is looked at, though one is waited for in vain: what was seen once counts at the next try, too.
    for (struct emit_thread *t = first(); t; t = t->next) {
        if (is_left(t))
            continue;
        are_out &= are_out ? wait_for(t, patience_ns, &until) : was_outside(t);
    }
    if (is_new && emit.runtime)
        emit.runtime->quiesce();
    return are_out;
}

// --- Those that are left behind.

void emit_leave_behind(void)
{
    uint64_t session = emit_session();
    for (struct emit_thread *t = first(); t; t = t->next)
        if (!is_left(t) && !was_outside(t)) {
            atomic_store(&t->left, session);
            atomic_fetch_add(&emit.left, 1);
        }
}

bool emit_is_left(const struct seg_trace_buffer *b)
{
    struct emit_thread *t = atomic_load_explicit(&emit.left, memory_order_relaxed) ? first() : NULL;
    while (t &&
           (t->tid != b->tid || atomic_load_explicit(&t->left, memory_order_relaxed) != b->session))
        t = t->next;
    return t;
}

void emit_return(struct emit_thread *t)
{
    uint64_t session = atomic_load(&t->left);
    for (uint32_t i = 0; emit.trace && i < emit.trace->buffer_count; i++) {
        struct seg_trace_buffer *b = &emit.buffers[i];
        if (atomic_load_explicit(&b->state, memory_order_acquire) == SEG_TRACE_WRITING &&
            b->tid == t->tid && b->session == session)
            emit_buffer_seal(b);
    }
    t->session = t->generation = 0;
    t->buffer = NULL;
    t->is_told = 0;
    t->is_made = false;
    t->g_state = t->p_state = EMIT_NONE;
    atomic_store(&t->left, 0);
    atomic_fetch_sub(&emit.left, 1);
}
