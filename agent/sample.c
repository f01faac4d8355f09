// SPDX-License-Identifier: MIT
//
// The SIGPROF handler: whose signal is it, what is it worth, where was the thread.
//
// What a CPU sample is worth is read from the thread's CPU clock, not from the number of signals:
// time is charged in whole periods, the rest waits for the next sample. So the values of a thread
// add up to its CPU time within one period, whatever became of single signals: merged while
// blocked, missed in the kernel, early, or sent by two sources at once.

#include "agent/agent.h"
#include "agent/arch/x86_64.h"
#include "agent/call.h"
#include "agent/capture.h"
#include "agent/fibers.h"
#include "emit/emit.h"
#include "agent/held.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>

_Static_assert((int)UNWIND_DEPTH_MAX == (int)SEG_STACK_DEPTH_MAX, "a walk fills a stack");

enum whose { WHOSE_TARGET, WHOSE_CPU, WHOSE_WALL, WHOSE_CALL, WHOSE_KEEPER };

static enum whose whose_signal(const siginfo_t *info)
{
    if (info->si_code == SI_TIMER) {
        if (info->si_value.sival_ptr == (const void *)&agent_cookie_cpu)
            return WHOSE_CPU;
        if (info->si_value.sival_ptr == (const void *)&agent_cookie_wall)
            return WHOSE_WALL;
        if (info->si_value.sival_ptr == (const void *)&agent_cookie_keeper)
            return WHOSE_KEEPER;
        return WHOSE_TARGET;
    }
    if (info->si_code == SI_QUEUE && call_is_one((uint64_t)(uintptr_t)info->si_value.sival_ptr))
        return WHOSE_CALL;
    if (info->si_code >= POLL_IN && info->si_code <= POLL_HUP)
        return WHOSE_CPU; // F_SETSIG: a perf event
    // The kernel had no memory for the details (RLIMIT_SIGPENDING): as likely ours as anybody's,
    // and taking it costs nothing, because the CPU clock decides.
    if (info->si_code == SI_USER && info->si_pid == 0)
        return WHOSE_CPU;
    return WHOSE_TARGET;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// Charges the CPU time since the last sample: the number of whole periods, 0 if it is too early.
static uint64_t charge_cpu(struct agent_slot *s, uint64_t period)
{
    uint64_t now = source_thread_cpu_ns(0);
    // Not armed by us (the collector's event came first), or another thread's slot once, whose tid
    // is in use again: what it used before is not known to have been sampled.
    if (!s->cpu_seen_ns || now < s->cpu_seen_ns) {
        s->cpu_seen_ns = now;
        s->cpu_due_ns = (int64_t)period;
    }
    s->cpu_due_ns += (int64_t)(now - s->cpu_seen_ns);
    s->cpu_seen_ns = now;
    if (s->cpu_due_ns < 0)
        return 0;
    uint64_t n = ((uint64_t)s->cpu_due_ns + period / 2) / period;
    if (!n)
        n = 1; // a little early; paid back by the next one
    s->cpu_due_ns -= (int64_t)(n * period);
    return n;
}

// Whether another handler was interrupted, one that has a stack of its own.
static bool is_on_signal_stack(const void *context, uint64_t rsp)
{
    const stack_t *s = &((const ucontext_t *)context)->uc_stack;
    return !(s->ss_flags & SS_DISABLE) && rsp - (uint64_t)(uintptr_t)s->ss_sp < s->ss_size;
}

static void take(struct agent_slot *s, enum seg_kind kind, uint64_t value, uint8_t flags,
                 const void *context)
{
    struct seg *seg = &agent.space->seg;
    struct unwind_registers regs;
    enum unwind_end end = UNWIND_END_ROOT;
    const uint64_t *pcs; // the walker's: nobody else walks while s is busy
    struct fiber_here fiber = {0};
    uint32_t labels = agent_tls.labels;
    unwind_registers_from_context(&regs, context);
    if (fibers_exist())
        fibers_begin_walk(s, slot_unwind(s), regs.rsp, is_on_signal_stack(context, regs.rsp),
                          &fiber, &labels);
    uint32_t depth = unwind_walk(slot_unwind(s), &regs, &pcs, UNWIND_DEPTH_MAX, &end);
    if (!depth) { // the walker was at work in this thread: the leaf is known all the same
        pcs = &regs.rip;
        depth = 1;
        end = UNWIND_END_BAD_MEMORY;
    }
    depth = fibers_strip(pcs, depth);
    if (end == UNWIND_END_DEPTH)
        flags |= SEG_FLAG_TRUNCATED;
    else if (end != UNWIND_END_ROOT)
        flags |= SEG_FLAG_BROKEN;
    modules_cover(&s->pages, pcs, depth);
    struct seg_record r = {
        .kind = (uint8_t)kind,
        .flags = flags,
        .tid = atomic_load_explicit(&s->tid, memory_order_relaxed),
        .time_ns = now_ns(),
        .fiber = fiber.id,
        .labels = labels,
        .user_stack = seg_stack(seg, pcs, depth, 0, flags),
        .values = {1, value},
    };
    if (s->segment_slot >= 0) {
        seg_record_put(seg, s->segment_slot, SEG_CONTEXT_SIGNAL, &r);
    } else { // more threads than the segment has slots: stacks and times still add up
        const uint64_t values[4] = {1, value, 0, 0};
        seg_state_add(seg, kind, r.user_stack, r.labels, 0, values);
    }
}

void sample_enter(struct agent_slot *s)
{
    if (s->segment_slot >= 0)
        return;
    char name[SEG_THREAD_NAME_BYTES] = "";
    uint32_t tid = atomic_load_explicit(&s->tid, memory_order_relaxed);
    sys2(SYS_prctl, 16 /* PR_GET_NAME */, name);
    s->segment_slot = seg_thread_enter(&agent.space->seg, tid, name);
    // Threads from before the agent get their exit hook here. Keys below 32 live in the thread's own
    // descriptor: setting one allocates nothing.
    if (s->segment_slot >= 0 && agent.has_key && agent.key < 32)
        pthread_setspecific(agent.key, s);
}

static void sample_cpu(struct agent_slot *s, const void *context)
{
    struct seg_header *h = agent.space->seg.header;
    uint64_t period = atomic_load_explicit(&h->control.cpu_period_ns, memory_order_relaxed);
    uint32_t source = atomic_load_explicit(&h->control.cpu_source, memory_order_relaxed);
    if (!period) {
        source_disarm(s);
        return;
    }
    // The collector took over (a forked child starts with its own timer): one source is enough.
    if (source == SEG_CPU_COLLECTOR_PERF && s->source != source)
        source_yield(s);
    uint64_t n = charge_cpu(s, period);
    if (!n)
        return;
    sample_enter(s);
    if (n > 1)
        atomic_fetch_add_explicit(&h->losses.collapsed, n - 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&agent.space->cpu_samples, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&agent.space->cpu_sum_ns, n * period, memory_order_relaxed);
    take(s, SEG_KIND_CPU, n * period, 0, context);
}

static void sample_wall(struct agent_slot *s, const void *context)
{
    struct seg_header *h = agent.space->seg.header;
    uint64_t period = atomic_load_explicit(&h->control.wall_period_ns, memory_order_relaxed);
    uint64_t now = now_ns(), cpu = source_thread_cpu_ns(0);
    uint64_t wall = now - s->wall_seen_ns, used = cpu - s->wall_cpu_ns;
    if (!period)
        source_disarm(s);
    if (!period || !s->wall_seen_ns)
        return;
    uint64_t n = (wall + period / 2) / period;
    if (!n)
        return;
    sample_enter(s);
    s->wall_seen_ns += n * period;
    s->wall_cpu_ns = cpu;
    // Idle: it was off the CPU for most of the period. Waking up for us costs it some 10 us.
    take(s, SEG_KIND_WALL, n * period, used * 2 < wall ? SEG_FLAG_IDLE : 0, context);
}

// A wait that ended because of this signal, and of no other one: the hooks of such waits go on with them
// (io_hooks.c). If the program's own handler came first, it stands where we interrupted; if it comes next, its signal
// is pending.
static void note_ended_wait(const ucontext_t *c)
{
    const greg_t *r = c->uc_mcontext.gregs;
    uint64_t pending = ~UINT64_C(0), blocked;
    if (r[REG_RAX] != -EINTR)
        return;
    uint8_t code[2] = {0}; // it may be anywhere, where nothing can be read before
    struct iovec here = {code, 2}, there = {(void *)(uintptr_t)(r[REG_RIP] - 2), 2};
    sys6(SYS_process_vm_readv, agent.pid, SYS_ARG(&here), 1, SYS_ARG(&there), 1, 0);
    if (code[0] != 0x0f || code[1] != 0x05)
        return;
    memcpy(&blocked, &c->uc_sigmask, sizeof blocked);
    sys2(SYS_rt_sigpending, &pending, sizeof pending);
    struct agent_slot *s = agent_tls.slot;
    pending &=
        ~(blocked | UINT64_C(1) << (SIGPROF - 1)); // a second one of ours says the same once more
    if (!pending && s)
        s->waits_ended++;
}

// A poll or select of no descriptors is a way to sleep.
static int as_sleep(int call, const greg_t *r)
{
    bool is_poll = call == SYS_poll || call == SYS_ppoll;
    bool is_select = call == SYS_select || call == SYS_pselect6;
    bool is_of_none =
        (is_poll && !r[REG_RSI]) || (is_select && !r[REG_RSI] && !r[REG_RDX] && !r[REG_R10]);
    return is_of_none ? SYS_nanosleep : call;
}

// The number of the system call that the signal has interrupted: it will be made again, or has ended (then libc has put
// the number into the register just before, if we are lucky).
static int call_of(const ucontext_t *c)
{
    const greg_t *r = c->uc_mcontext.gregs;
    uint8_t code[9] = {0};
    struct iovec here = {code, sizeof code},
                 there = {(void *)(uintptr_t)(r[REG_RIP] - 7), sizeof code};
    sys6(SYS_process_vm_readv, agent.pid, SYS_ARG(&here), 1, SYS_ARG(&there), 1, 0);
    if (code[7] == 0x0f && code[8] == 0x05 && r[REG_RAX] >= 0 && r[REG_RAX] < 1024)
        return as_sleep((int)r[REG_RAX], r);
    if (r[REG_RAX] != -EINTR || code[5] != 0x0f || code[6] != 0x05)
        return EMIT_DOING_RUN;
    return code[0] == 0xb8 && !code[3] && !code[4] ? as_sleep(code[1] | code[2] << 8, r)
                                                   : EMIT_DOING_UNKNOWN_CALL;
}

static int begin_child(const void *context)
{
    agent.child_context = context;
    int rc = agent_begin_child();
    agent.child_context = NULL;
    return rc;
}

static void on_sigprof(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    enum whose whose = whose_signal(info);
    if (whose == WHOSE_TARGET) {
        errno = saved;
        signals_forward(signal, info, context);
        return;
    }
    if (whose == WHOSE_KEEPER) {
        held_look();
        struct agent_slot *s = agent_live() ? slot_self() : NULL;
        if (s && agent.keeper >= 0)
            sample_enter(s); // its end has to be known
        note_ended_wait(context);
        errno = saved;
        return;
    }
    if (whose == WHOSE_CALL) {
        emit_self_doing(call_of(context), context);
        call_take((uint64_t)(uintptr_t)info->si_value.sival_ptr, false);
        emit_self_doing(EMIT_DOING_NOTHING_KNOWN, NULL);
        struct agent_slot *s = agent_live() ? slot_self() : NULL;
        if (s && agent.keeper >= 0)
            sample_enter(s); // its end has to be known
        note_ended_wait(context);
        errno = saved;
        return;
    }
    if ((agent_live() || !begin_child(context)) &&
        atomic_load_explicit(&agent.space->running, memory_order_relaxed)) {
        struct agent_slot *s = slot_self();
        if (s && atomic_exchange_explicit(&s->busy, 1, memory_order_relaxed)) {
            atomic_fetch_add_explicit(&agent.space->seg.header->losses.reentered, 1,
                                      memory_order_relaxed);
        } else if (s) {
            if (whose == WHOSE_CPU)
                sample_cpu(s, context);
            else
                sample_wall(s, context);
            atomic_store_explicit(&s->busy, 0, memory_order_relaxed);
        }
    }
    note_ended_wait(context);
    errno = saved;
}

int sample_install(void)
{
    struct sigaction ours, old;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_sigprof;
    ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    // While we sample, the target's handlers wait: they may longjmp away.
    sigfillset(&ours.sa_mask);
    static const int keep[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS};
    for (unsigned i = 0; i < sizeof keep / sizeof *keep; i++)
        sigdelset(&ours.sa_mask, keep[i]);
    if (signals_real_action(NULL, &old))
        return -errno;
    if (old.sa_flags & SA_SIGINFO && old.sa_sigaction == on_sigprof)
        return 0;
    signals_adopt(&old);
    return signals_real_action(&ours, NULL) ? -errno : 0;
}
