// SPDX-License-Identifier: MIT
//
// See held.h.

#include "agent/held.h"

#include "agent/agent.h"
#include "agent/arch/x86_64.h"
#include "agent/futex.h"
#include "agent/heap.h"
#include "agent/say.h"
#include "emit/emit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define KEEPER_NS      UINT64_C(10000000000)
#define KEEPER_SOON_NS UINT64_C(500000000) // a trace that is asked to end takes a moment
#define KEEPER_CPU_NS  UINT64_C(250000000)

#define BIT(kind) (UINT32_C(1) << (kind))

static _Atomic bool is_said; // that there is no keeper

static struct seg_control *control(void)
{
    return &agent.space->seg.header->control;
}

static uint32_t held(void)
{
    return atomic_load_explicit(&control()->held, memory_order_relaxed);
}

// Forked children go by the copy.
static void set_held(uint32_t kinds)
{
    agent.held = kinds;
    atomic_store_explicit(&control()->held, kinds, memory_order_relaxed);
}

void held_add(uint32_t kinds)
{
    set_held(held() | kinds);
}

void held_own(uint32_t kinds)
{
    set_held(held() & ~kinds);
}

// --- Off.

// In the settings, which children go by.
static void unset(uint32_t kinds)
{
    if (kinds & BIT(SEG_HELD_SAMPLES)) {
        agent.env.cpu_hz = agent.env.wall_hz = 0;
        agent.child_period_ns = 0;
    }
    if (kinds & BIT(SEG_HELD_HEAP))
        agent.env.heap_bytes = 0;
    if (kinds & BIT(SEG_HELD_BLOCK))
        agent.env.block_ns = 0;
    if (kinds & BIT(SEG_HELD_MUTEX))
        agent.env.mutex_fraction = 0;
    if (kinds & BIT(SEG_HELD_TRACE))
        agent.env.trace_on = false;
}

static void stop_samples(struct seg_control *c)
{
    // First: a thread that is just arming finds out at its first signal.
    atomic_store_explicit(&c->cpu_period_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&c->wall_period_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&c->cpu_flags, 0, memory_order_relaxed);
    atomic_store_explicit(&c->cpu_source, SEG_CPU_NONE, memory_order_relaxed);
    agent_disarm_all();
}

// The same wish as a consumer's, which can be made in a handler. Whether it has ended.
static bool stop_trace(void)
{
    struct seg_header *h = agent.space->seg.header;
    if (emit_is_wanted()) {
        struct seg_trace *t = (void *)((char *)h + h->areas[SEG_AREA_TRACE].offset);
        atomic_store(&t->request, SEG_TRACE_STOP);
        emit_poke();
    }
    return !emit_is_wanted();
}

void held_stop(uint32_t kinds)
{
    struct seg_control *c = control();
    kinds &= held();
    if (!kinds)
        return;
    unset(kinds);
    if (kinds & BIT(SEG_HELD_SAMPLES))
        stop_samples(c);
    if (kinds & BIT(SEG_HELD_HEAP))
        heap_stop();
    if (kinds & BIT(SEG_HELD_BLOCK))
        atomic_store_explicit(&c->block_rate_ns, 0, memory_order_relaxed);
    if (kinds & BIT(SEG_HELD_MUTEX))
        atomic_store_explicit(&c->mutex_fraction, 0, memory_order_relaxed);
    if (kinds & BIT(SEG_HELD_REGIONS))
        atomic_store_explicit(&c->region_times, 0, memory_order_relaxed);
    if (kinds & BIT(SEG_HELD_TRACE) && !stop_trace())
        kinds &= ~BIT(SEG_HELD_TRACE); // it is looked at again
    region_times_update();
    lock_update();
    set_held(held() & ~kinds);
}

// --- Who holds what.

static bool lock_wishes(int fd, short type)
{
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = SEG_LOCK_WISHES, .l_len = 1};
    return !sys3(SYS_fcntl, SYS_ARG(fd), F_OFD_SETLK, &lock);
}

static uint32_t unheld(int fd)
{
    uint32_t kinds = 0;
    for (uint32_t kind = 0; kind < SEG_HELD_COUNT; kind++) {
        struct flock lock = {
            .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = seg_held_byte(kind), .l_len = 1};
        if (held() & BIT(kind) && !sys3(SYS_fcntl, SYS_ARG(fd), F_OFD_GETLK, &lock) &&
            lock.l_type == F_UNLCK)
            kinds |= BIT(kind);
    }
    return kinds;
}

// Whether there is more to do before long.
static bool sweep(void)
{
    int fd = agent_segment_fd();
    if (!held() || fd < 0)
        return false;
    if (!lock_wishes(fd, F_WRLCK))
        return true; // a collector tells a wish just now, and sweeps by itself
    uint32_t kinds = unheld(fd);
    held_stop(kinds);
    lock_wishes(fd, F_UNLCK);
    return kinds & held();
}

void held_look(void)
{
    if (!agent_owns())
        return;
    bool is_locked = futex_try(&agent.api_lock); // else a start or stop is at work
    if ((!is_locked || sweep()) && !agent.keeper_by_cpu)
        source_set_timer(agent.keeper, KEEPER_SOON_NS, KEEPER_NS);
    if (!is_locked)
        return;
    held_watch(false);
    futex_unlock(&agent.api_lock);
}

// --- The keeper.

static bool is_there(uint32_t tid)
{
    return tid && sys3(SYS_tgkill, agent.space->pid, tid, 0) != -ESRCH;
}

static int keep_on(uint32_t tid, bool by_cpu)
{
    uint64_t period = by_cpu ? KEEPER_CPU_NS : KEEPER_NS;
    clockid_t clock = by_cpu ? source_cpu_clock(tid) : CLOCK_MONOTONIC;
    int id = source_make_timer(tid, clock, &agent_cookie_keeper, period, period);
    if (id < 0)
        return id;
    source_keep_timer(&agent.keeper, id);
    agent.keeper_tid = tid;
    return 0;
}

// Once: what goes without a keeper does so until the next collector's call, which tries it again.
static void say_unkept(int rc)
{
    struct say s;
    struct pollfd out = {.fd = 2, .events = POLLOUT};
    // A full pipe is not waited for: this may be in a handler.
    if (!rc || agent.env.quiet || sys3(SYS_poll, &out, 1, 0) != 1)
        return;
    if (atomic_exchange_explicit(&is_said, true, memory_order_relaxed))
        return;
    say_text(say_begin(&s), "no timer (");
    say_text(
        say_errno(&s, rc),
        "), so what a collector records here goes on if that is killed, until the next one comes");
    say_end(&s);
}

void held_watch(bool is_borrowed)
{
    uint32_t kinds = held(), tid = (uint32_t)sys0(SYS_gettid);
    if (!kinds) {
        source_drop_timer(&agent.keeper);
        return;
    }
    bool has_wall = atomic_load_explicit(&control()->wall_period_ns, memory_order_relaxed) != 0;
    bool by_cpu = is_borrowed && !has_wall;
    bool is_better = agent.keeper_by_cpu && !by_cpu;
    if (agent.keeper >= 0 && is_there(agent.keeper_tid) && !is_better)
        return;
    int rc = keep_on(tid, by_cpu);
    if (!rc)
        agent.keeper_by_cpu = by_cpu;
    else if (agent.keeper < 0 || !is_there(agent.keeper_tid))
        say_unkept(rc);
}

void held_thread_leaves(uint32_t tid)
{
    if (agent.keeper < 0 || agent.keeper_tid != tid || !agent_owns())
        return;
    uint32_t used = atomic_load_explicit(&agent.space->slots_used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        uint32_t other = atomic_load_explicit(&slot_at(i)->tid, memory_order_relaxed);
        if (other && other != tid && !keep_on(other, agent.keeper_by_cpu))
            return;
    }
    say_unkept(keep_on(agent.space->pid, agent.keeper_by_cpu));
}

void held_fork_child(void)
{
    agent.keeper = -1; // timers are not inherited
    if (!agent.held || agent.env.socket[0])
        return;
    unset(agent.held);
    agent.held = 0;
    agent.configured = agent.configured && agent_env_wants_anything(&agent.env);
}
