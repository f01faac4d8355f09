// SPDX-License-Identifier: MIT
//
// fib_leakcheck: fibers that are alive, by the place that created them, most first; of each place the oldest
// with its stack; and how much of their stacks is used there.

#include "runtime/core.h"
#include "runtime/dump.h"
#include "runtime/print.h"

static struct {
    uint32_t count;
    uint64_t oldest_id;
    struct g *oldest;
} found[SITES_ALL]; // of who holds dump_lock

FIB_LOOKS static uint32_t count_all(const struct g *self)
{
    uint32_t n = 0;
    struct g *g;
    for (uint32_t i = 0; (g = g_at(i)); i++) {
        uint64_t id = atomic_load_explicit(&g->id, memory_order_acquire);
        const struct site *site = g->site;
        if (!id || g == self || !site || atomic_load(&g->status) == G_DEAD)
            continue;
        uint32_t at = site_index(site);
        if (!found[at].count++ || id < found[at].oldest_id) {
            found[at].oldest_id = id;
            found[at].oldest = g;
        }
        n++;
    }
    return n;
}

static void print_site(struct print *p, uint32_t at)
{
    print_format(p, "%u created at ", (uint64_t)found[at].count);
    print_pc(p, atomic_load(&site_at(at)->pc), false);
    uint64_t used = atomic_load_explicit(&site_at(at)->stack_used_max, memory_order_relaxed);
    if (used)
        print_format(p, "of its stacks at most %u KiB were used\n", used >> 10);
    print_text(p, found[at].count > 1 ? "the oldest:\n" : "");
    print_g(p, found[at].oldest);
    print_text(p, "\n");
}

FIB_PUBLIC uint32_t fib_leakcheck(int fd)
{
    struct print p = {.fd = fd};
    struct m *m = this_m();
    dump_lock();
    for (uint32_t i = 0; i < SITES_ALL; i++)
        found[i].count = 0;
    uint32_t n = count_all(m ? m->cur : NULL);
    if (n)
        sites_measure();
    if (n)
        print_format(&p, "fiberscope-rt: %u fibers are alive\n\n", (uint64_t)n);
    for (;;) {
        uint32_t most = 0;
        for (uint32_t i = 1; i < SITES_ALL; i++)
            if (found[i].count > found[most].count)
                most = i;
        if (!found[most].count)
            break;
        print_site(&p, most);
        found[most].count = 0;
    }
    print_flush(&p);
    dump_unlock();
    return n;
}
