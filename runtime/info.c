// SPDX-License-Identifier: MIT
//
// Looking at one fiber, and at all. Nothing is stopped: a G is read, and then its id once more; what
// changed meanwhile is another moment's value, never another fiber's.

#include "runtime/core.h"

#include <errno.h>
#include <string.h>

static void read_live(const struct live *l, enum g_status status, struct fib_info *o)
{
    o->cpu_ns = ticks_to_ns(l->cpu_ticks);
    o->runnable_ns = ticks_to_ns(l->runnable_ticks);
    o->switches = l->switches;
    o->wakes = l->wakes;
    o->preempted = l->preempted;
    o->stack_bytes = l->high - l->low;
    o->stack_used_bytes = stack_used_bytes(l);
    if (l->name[0])
        memcpy(o->name, l->name, sizeof o->name);
    o->name[sizeof o->name - 1] = 0;
    if (status != G_WAITING)
        return;
    o->reason = wait_reason_text((enum wait_reason)l->wait_reason);
    o->object = l->wait_object;
    o->waiting_ns = ticks_to_ns(ticks_now() - l->wait_since_ticks);
    _Atomic uint64_t *owner = l->wait_owner;
    o->owner = owner ? atomic_load_explicit(owner, memory_order_relaxed) : 0;
}

FIB_PUBLIC int fib_info_read(struct fib f, struct fib_info *out)
{
    struct g *g = f.g;
    struct fib_info o = {.size = out->size, .id = f.id, .reason = ""};
    if (out->size < sizeof o)
        return -EINVAL;
    if (!g || !f.id || atomic_load_explicit(&g->id, memory_order_acquire) != f.id)
        return -ESRCH;
    enum g_status status = atomic_load_explicit(&g->status, memory_order_acquire);
    struct live *l = g->live; // stacks stay mapped
    o.status = (enum fib_status)status;
    o.creator = g->creator;
    o.start = g->fn;
    o.created_at = g->site ? (const void *)atomic_load(&g->site->pc) : NULL;
    if (g->name)
        strncpy(o.name, g->name, sizeof o.name - 1);
    if (l)
        read_live(l, status, &o);
    struct m *m = this_m();
    if (m && m->cur == g)
        o.cpu_ns += ticks_to_ns(ticks_now() - m->since_ticks);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&g->id, memory_order_relaxed) != f.id)
        return -ESRCH;
    *out = o;
    return 0;
}

FIB_PUBLIC int fib_each(int (*fn)(void *arg, struct fib f), void *arg)
{
    int rc = 0;
    struct g *g;
    for (uint32_t i = 0; !rc && (g = g_at(i)); i++) {
        uint64_t id = atomic_load_explicit(&g->id, memory_order_acquire);
        if (id && atomic_load_explicit(&g->status, memory_order_relaxed) != G_DEAD)
            rc = fn(arg, (struct fib){g, id});
    }
    return rc;
}
