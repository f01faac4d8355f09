// SPDX-License-Identifier: MIT
//
// Answers a late collector; see call.h.

#include "agent/call.h"

#include "agent/agent.h"
#include "agent/api.h"
#include "agent/arch/x86_64.h"
#include "agent/futex.h"
#include "agent/heap.h"
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

static uint64_t hz_of(const _Atomic uint64_t *period_ns)
{
    uint64_t ns = atomic_load_explicit(period_ns, memory_order_relaxed);
    return ns ? (1000000000 + ns / 2) / ns : 0;
}

// Forked children go by the environment's words, so these are kept alike.
static int arm(struct seg_control *c)
{
    agent.env.cpu_hz = (uint32_t)hz_of(&c->cpu_period_ns);
    agent.env.wall_hz = (uint32_t)hz_of(&c->wall_period_ns);
    if (atomic_load_explicit(&c->cpu_source, memory_order_relaxed) == SEG_CPU_NONE)
        source_choose(&agent, false);
    agent.child_period_ns = atomic_load_explicit(&c->cpu_period_ns, memory_order_relaxed);
    return agent_arm_all();
}

static int disarm(void)
{
    agent.env.cpu_hz = agent.env.wall_hz = 0;
    agent.child_period_ns = 0;
    agent_disarm_all();
    return 0;
}

static int keep_first(int rc, int next)
{
    return rc ? rc : next;
}

static int do_asked(struct seg_control *c, uint32_t what)
{
    int rc = 0;
    if (what & SEG_ASK_HEAP)
        rc = keep_first(rc, api_heap_start_here(atomic_load(&c->asked_heap_bytes)));
    if (what & SEG_ASK_HEAP_STOP)
        rc = keep_first(rc, heap_stop());
    if (what & SEG_ASK_DISARM)
        rc = keep_first(rc, disarm());
    if (what & SEG_ASK_ARM)
        rc = keep_first(rc, arm(c));
    if (what & SEG_ASK_TRACE)
        rc = keep_first(rc, trace_begin_soon(what & SEG_ASK_FLIGHT));
    if (what & SEG_ASK_LOOK) {
        agent.env.block_ns = atomic_load_explicit(&c->block_rate_ns, memory_order_relaxed);
        agent.env.mutex_fraction = atomic_load_explicit(&c->mutex_fraction, memory_order_relaxed);
        agent.env.order = lock_order_is_wanted();
        region_times_update();
        emit_poke();
        lock_update();
    }
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

void call_take(uint64_t value)
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
        if (flags & CALL_STAY && !agent.space->told)
            memcpy(agent.env.socket, name, sizeof name);
        if (flags & CALL_HELLO)
            hello_call(&agent, name);
        look_at_wish();
    }
    futex_unlock(&agent.api_lock);
}
