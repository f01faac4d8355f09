// SPDX-License-Identifier: MIT
//
// fib_info_read, fib_each, fib_stack: fibers as other code of the process sees them. Nothing stops meanwhile;
// what is read of a fiber that moves is of about now.

#include "runtime/backtrace.h"
#include "runtime/core.h"
#include "runtime/dump.h"
#include "runtime/os/os.h"

#include "unwind/arch/x86_64.h"

#include <errno.h>
#include <string.h>

static enum fib_status public_status(uint8_t s)
{
    _Static_assert((int)FIB_DEAD == G_DEAD && (int)FIB_RUNNABLE == G_RUNNABLE &&
                       (int)FIB_RUNNING == G_RUNNING && (int)FIB_SYSCALL == G_SYSCALL &&
                       (int)FIB_WAITING == G_WAITING && (int)FIB_PREEMPTED == G_PREEMPTED,
                   "the same numbers");
    return (enum fib_status)s;
}

__attribute__((no_sanitize("address", "thread"))) uint64_t owner_read(_Atomic uint64_t *at)
{
    uint64_t address = (uint64_t)(uintptr_t)at;
    if (!address || address % 8 || !arch_is_readable(address & ~(uint64_t)(OS_PAGE - 1)))
        return 0;
    // Not an atomic load: the thread sanitizer would see it. The lock may be gone, and its memory used anew.
    return *(const volatile uint64_t *)address & ~OWNER_FLAGS;
}

FIB_LOOKS static void read_live(const struct live *l, struct fib_info *i)
{
    i->cpu_ns = ticks_to_ns(l->cpu_ticks);
    i->runnable_ns = ticks_to_ns(l->runnable_ticks);
    i->switches = l->switches;
    i->wakes = l->wakes;
    i->preempted = l->preempted;
    uint64_t low = l->low, high = l->high;
    i->stack_bytes = high > low ? high - low : 0; // zero: it has just ended
    i->stack_used_bytes = stack_used_bytes(l);
    if (i->status != FIB_WAITING)
        return;
    i->reason = wait_reason_text(l->wait_reason);
    i->object = l->wait_object;
    uint64_t now = ticks_now(), since = l->wait_since_ticks;
    i->waiting_ns = now > since ? ticks_to_ns(now - since) : 0;
    i->owner = l->wait_reason == WAIT_JOIN ? 0 : owner_read(l->wait_owner);
}

FIB_LOOKS FIB_PUBLIC int fib_info_read(struct fib f, struct fib_info *out)
{
    struct g *g = f.g;
    if (!out || out->size < sizeof out->size)
        return -EINVAL;
    // acquire: pairs with the release in go
    if (!g || !f.id || atomic_load_explicit(&g->id, memory_order_acquire) != f.id)
        return -ESRCH;
    struct fib_info i = {
        .size = out->size < sizeof i ? out->size : sizeof i,
        .id = f.id,
        .creator = g->creator,
        .status = public_status(atomic_load_explicit(&g->status, memory_order_acquire)),
        .start = g->fn,
        .created_at = g->site ? (const void *)atomic_load(&g->site->pc) : NULL,
        .reason = "",
    };
    const struct live *l = g_live(g);
    strncpy(i.name, g_name(g), sizeof i.name - 1);
    if (l)
        read_live(l, &i);
    struct m *m = this_m();
    if (m && m->cur == g)
        i.cpu_ns += ticks_to_ns(ticks_now() - m->since_ticks);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&g->id, memory_order_relaxed) != f.id)
        return -ESRCH;
    memcpy(out, &i, i.size);
    return 0;
}

FIB_PUBLIC int fib_each(int (*fn)(void *arg, struct fib f), void *arg)
{
    struct g *g;
    int rc = 0;
    for (uint32_t i = 0; !rc && (g = g_at(i)); i++) {
        uint64_t id = atomic_load_explicit(&g->id, memory_order_acquire);
        if (id && atomic_load_explicit(&g->status, memory_order_relaxed) != G_DEAD)
            rc = fn(arg, (struct fib){g, id});
    }
    return rc;
}

FIB_PUBLIC int fib_stack(struct fib f, uintptr_t *pcs, uint32_t max)
{
    if (!f.g || !f.id)
        return -ESRCH;
    return backtrace_parked(f.g, f.id, pcs, max);
}
