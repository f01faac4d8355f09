// SPDX-License-Identifier: MIT
//
// Starting fibers and joining them.
//
// g->joiners is a lock, too: JOIN_LOCKED while somebody reads or changes the list. Who joins checks the id
// under it, and who ends clears the id under it.

#include "runtime/core.h"
#include "runtime/os/os.h"
#include "runtime/trace.h"
#include "runtime/usdt.h"

#include <errno.h>

#define JOIN_LOCKED ((struct sudog *)(uintptr_t)1)

struct start {
    fib_fn *fn; // as which it is known
    void *arg;
    bool is_task; // begins in arg's run instead
    const char *name;
    uint8_t class;
};

static int go(struct fib *out, const struct start *start, uintptr_t pc)
{
    fib_fn *fn = start->fn;
    if (!atomic_load_explicit(&sched.is_running, memory_order_relaxed))
        return -ESRCH;
    if (!fn)
        return -EINVAL;
    if (stacks_are_short())
        return -ENOMEM;
    struct m *m = this_m();
    struct p *p = NULL;
    if (m) {
        trans_begin(m);
        p = m_p(m);
    }
    struct g *self = m ? m->cur : fib_tls.g;
    bool is_measured;
    struct site *site = site_of(pc, &is_measured);
    struct g *g = g_new(p);
    if (!g) {
        if (m)
            trans_end(m);
        return -ENOMEM;
    }
    uint64_t id = fib_next_id(p);
    g->flags = (uint8_t)((is_measured ? G_IS_MEASURED : 0) | (start->is_task ? G_IS_TASK : 0));
    g->stack_class = start->class;
    g->labels = self ? self->labels : 0;
    g->fn = fn;
    g->arg = start->arg;
    g->name = start->name;
    g->site = site;
    g->creator = self ? atomic_load_explicit(&self->id, memory_order_relaxed) : 0;
    atomic_store_explicit(&g->trace, 0, memory_order_relaxed);
    if (m ? m_is_traced(m) : FIB_TRACE_IS_ON)
        trace_create_(m, g, id);
    if (USDT_IS_ON(spawn))
        USDT4(spawn, id, (uintptr_t)fn, g->creator, pc);
    atomic_store_explicit(&g->status, G_RUNNABLE, memory_order_relaxed);
    // release: who finds the id finds the rest
    atomic_store_explicit(&g->id, id, memory_order_release);
    if (out)
        *out = (struct fib){g, id};
    if (!p) {
        atomic_fetch_add_explicit(&sched.spawns_outside, 1, memory_order_relaxed);
        global_put(g);
        if (m)
            trans_end(m);
        wake_p();
        return 0;
    }
    atomic_store_explicit(&p->spawns, atomic_load_explicit(&p->spawns, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    g_enqueue_new(m, p, g);
    trans_end(m);
    return 0;
}

FIB_PUBLIC int fib_go(struct fib *out, fib_fn *fn, void *arg)
{
    const struct start start = {.fn = fn, .arg = arg, .class = sched.stack_class};
    return go(out, &start, (uintptr_t)__builtin_return_address(0));
}

int go_task(fib_fn *fn, struct go_task *t)
{
    const struct start start = {.fn = fn, .arg = t, .is_task = true, .class = sched.stack_class};
    return go(NULL, &start, (uintptr_t)__builtin_return_address(0));
}

FIB_PUBLIC int fib_go_with(struct fib *out, const struct fib_go_options *o, fib_fn *fn, void *arg)
{
    if (!o || o->size < sizeof *o || o->stack_bytes > STACK_BYTES_MAX)
        return -EINVAL;
    size_t bytes = o->stack_bytes ? o->stack_bytes : sched.stack_bytes;
    const struct start start = {
        .fn = fn, .arg = arg, .name = o->name, .class = stack_class_of(bytes)};
    return go(out, &start, (uintptr_t)__builtin_return_address(0));
}

// --- Joining.

static struct sudog *joiners_lock(struct g *g)
{
    struct m *m = this_m();
    if (m)
        m->locks++;
    atomic_signal_fence(memory_order_seq_cst);
    struct sudog *list;
    // acquire: pairs with the release in joiners_unlock
    for (int i = 0; (list = atomic_exchange_explicit(&g->joiners, JOIN_LOCKED,
                                                     memory_order_acquire)) == JOIN_LOCKED;
         i++) {
        if (i % 64 == 63)
            os_yield();
        else
            arch_pause();
    }
    return list;
}

static void joiners_unlock(struct g *g, struct sudog *list)
{
    atomic_store_explicit(&g->joiners, list, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    struct m *m = this_m();
    if (m)
        m->locks--;
}

void join_wake(struct g *g)
{
    struct sudog *list = joiners_lock(g);
    // release: pairs with the acquire in fib_join_for, for who comes too late to wait
    atomic_store_explicit(&g->id, 0, memory_order_release);
    // Under the lock: one whose time is over takes it before it leaves, and its sudog with it.
    while (list) {
        struct sudog *s = list;
        list = s->next;
        if (!s->is_choice || g_choose(s->g))
            g_ready(s->g);
    }
    joiners_unlock(g, NULL);
}

struct join {
    struct g *g;
    struct sudog *mine;
};

static void after_join(struct m *m, struct g *prev, void *arg)
{
    (void)prev;
    struct join *j = arg;
    struct sudog *mine = j->mine;
    atomic_store_explicit(&j->g->joiners, mine, memory_order_release);
    if (m)
        m->locks--;
}

FIB_PUBLIC int fib_join_for(struct fib f, int64_t timeout_ns)
{
    struct g *g = f.g;
    if (!g || atomic_load_explicit(&g->id, memory_order_acquire) != f.id)
        return 0;
    struct g *self = this_g();
    if (self == g)
        return -EDEADLK;
    struct sudog mine = {.g = self, .is_choice = timeout_ns >= 0};
    struct sudog *list = joiners_lock(g);
    if (atomic_load_explicit(&g->id, memory_order_relaxed) != f.id) {
        joiners_unlock(g, list);
        return 0;
    }
    mine.next = list;
    atomic_store_explicit(&self->live->is_chosen, 0, memory_order_relaxed);
    self->live->wait_owner = mine.is_choice ? NULL : &g->id; // as wait_park; g_park clears it
    struct join j = {g, &mine};
    if (g_park_for(WAIT_JOIN, g, after_join, &j, timeout_ns))
        return 0;
    list = joiners_lock(g);
    if (atomic_load_explicit(&g->id, memory_order_relaxed) == f.id) {
        for (struct sudog **at = &list; *at; at = &(*at)->next) {
            if (*at == &mine) {
                *at = mine.next;
                break;
            }
        }
    }
    joiners_unlock(g, list);
    return -ETIMEDOUT;
}

FIB_PUBLIC int fib_join(struct fib f)
{
    return fib_join_for(f, -1);
}
