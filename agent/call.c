// SPDX-License-Identifier: MIT
//
// Answers a late collector; see call.h.

#include "agent/call.h"

#include "agent/agent.h"
#include "agent/api.h"
#include "agent/arch/x86_64.h"
#include "agent/futex.h"
#include "agent/held.h"
#include "agent/protocol.h"
#include "agent/trace.h"
#include "emit/emit.h"

#include <errno.h>
#include <string.h>

// Found by name, by who wants to call.
extern _Atomic uint32_t fscope_agent_calls;
__attribute__((visibility("default"))) _Atomic uint32_t fscope_agent_calls;

void call_ready(void)
{
    atomic_store_explicit(&fscope_agent_calls, CALL_VERSION, memory_order_release);
}

void call_unready(void)
{
    atomic_store_explicit(&fscope_agent_calls, 0, memory_order_release);
}

static uint64_t load(const _Atomic uint64_t *w)
{
    return atomic_load_explicit(w, memory_order_relaxed);
}

static void store(_Atomic uint64_t *w, uint64_t value)
{
    atomic_store_explicit(w, value, memory_order_relaxed);
}

static uint64_t hz_of(uint64_t ns)
{
    return ns ? (1000000000 + ns / 2) / ns : 0;
}

// Forked children go by the environment's words, so these are kept alike.
static int arm(struct seg_control *c)
{
    uint32_t source = atomic_load_explicit(&c->asked_cpu_source, memory_order_relaxed);
    held_add(1u << SEG_HELD_SAMPLES);
    store(&c->cpu_period_ns, load(&c->asked_cpu_period_ns));
    store(&c->wall_period_ns, load(&c->asked_wall_period_ns));
    store(&c->cpu_flags, atomic_load_explicit(&c->asked_cpu_flags, memory_order_relaxed));
    atomic_store_explicit(&c->cpu_source, source, memory_order_relaxed);
    agent.env.cpu_hz = (uint32_t)hz_of(load(&c->cpu_period_ns));
    agent.env.wall_hz = (uint32_t)hz_of(load(&c->wall_period_ns));
    if (source == SEG_CPU_NONE)
        source_choose(&agent, false);
    agent.child_period_ns = load(&c->cpu_period_ns);
    return agent_arm_all();
}

// A word for locks that is 0 is set. One that is not is somebody's: the program's, or another collector's.
static void set_word(_Atomic uint64_t *word, const _Atomic uint64_t *asked, uint64_t *setting,
                     enum seg_held kind)
{
    if (load(word) || !load(asked))
        return;
    held_add(1u << kind);
    *setting = load(asked);
    store(word, *setting);
}

static int keep_first(int rc, int next)
{
    return rc ? rc : next;
}

// Forked children follow, where the collector listens to them.
static int begin_trace(bool is_flight)
{
    int rc = trace_begin_soon(is_flight);
    if (!rc && agent.env.socket[0] && !agent.space->told) {
        agent.env.trace_on = true;
        agent.env.trace_flight = is_flight;
    }
    return rc;
}

static int do_asked(struct seg_control *c, uint32_t what)
{
    int rc = 0, one;
    uint32_t off = atomic_load_explicit(&c->asked_off, memory_order_relaxed);
    held_stop(off);
    if (what & SEG_ASK_TRACE && off & agent.held & 1u << SEG_HELD_TRACE)
        return -EINPROGRESS; // the one of before has not ended yet
    if (what & SEG_ASK_HEAP) {
        rc = keep_first(rc, one = api_heap_start_here(load(&c->asked_heap_bytes)));
        if (!one)
            held_add(1u << SEG_HELD_HEAP);
    }
    if (what & SEG_ASK_ARM)
        rc = keep_first(rc, arm(c));
    if (what & SEG_ASK_BLOCK)
        set_word(&c->block_rate_ns, &c->asked_block_ns, &agent.env.block_ns, SEG_HELD_BLOCK);
    if (what & SEG_ASK_MUTEX)
        set_word(&c->mutex_fraction, &c->asked_mutex_fraction, &agent.env.mutex_fraction,
                 SEG_HELD_MUTEX);
    if (what & SEG_ASK_REGIONS && !load(&c->region_times)) {
        held_add(1u << SEG_HELD_REGIONS);
        store(&c->region_times, 1);
    }
    if (what & SEG_ASK_TRACE) {
        rc = keep_first(rc, one = begin_trace(what & SEG_ASK_FLIGHT));
        if (!one)
            held_add(1u << SEG_HELD_TRACE);
    }
    region_times_update();
    if (what & SEG_ASK_LOOK) {
        agent.env.order = lock_order_is_wanted();
        emit_poke();
    }
    lock_update();
    return rc;
}

static void look_at_wish(void)
{
    struct seg_control *c = &agent.space->seg.header->control;
    uint32_t asked =
        atomic_load_explicit(&c->asked, memory_order_acquire); // pairs with the collector's
    if (asked == atomic_load_explicit(&c->answered, memory_order_relaxed))
        return;
    int rc = do_asked(c, atomic_load_explicit(&c->asked_what, memory_order_relaxed));
    if (rc == -EINPROGRESS)
        return; // it calls again
    atomic_store_explicit(&c->answer, rc, memory_order_relaxed);
    atomic_store_explicit(&c->answered, asked, memory_order_release);
}

static int begin(void)
{
    uint32_t failed = AGENT_FAILED;
    if (agent_live())
        return 0;
    atomic_compare_exchange_strong(&agent.space->beginning, &failed, 0); // somebody asks now
    int rc = agent_begin(AGENT_WHY_CALL, true);
    if (rc && rc != -EBUSY)
        atomic_store_explicit(&agent.space->beginning, 0, memory_order_relaxed);
    agent.configured = !rc;
    return rc;
}

void call_take(uint64_t value, bool is_borrowed)
{
    // A vfork child has its parent's memory, and nothing to begin in it.
    if (!agent.space || agent.pid != (uint32_t)sys0(SYS_getpid) || !futex_try(&agent.api_lock))
        return;
    int rc = begin();
    if (!rc && agent_owns()) {
        char name[CALL_SOCKET_BYTES];
        uint64_t flags = value >> CALL_RANDOM_BITS;
        call_socket_name(value, name);
        // Whoever reads half of a new name there finds nobody, as with a collector that has gone.
        if (flags & CALL_STAY && !agent.space->told) {
            memcpy(agent.env.socket, name, sizeof name);
            agent.is_socket_called = true;
        }
        if (flags & CALL_HELLO)
            hello_call(&agent, name);
        look_at_wish();
        held_watch(is_borrowed);
    }
    futex_unlock(&agent.api_lock);
}
