// SPDX-License-Identifier: MIT
//
// fib_sleep, fib_yield, and who one is.

#include "runtime/core.h"
#include "runtime/os/os.h"

#include <errno.h>
#include <string.h>

FIB_PUBLIC void fib_yield(void)
{
    if (this_m())
        g_yield();
    else
        os_yield();
}

static void after_sleep(struct m *m, struct g *g, void *arg)
{
    (void)m;
    sleep_add(g, *(const int64_t *)arg); // from then on *arg may be gone
}

FIB_PUBLIC void fib_sleep(int64_t ns)
{
    if (!this_m()) {
        if (ns > 0)
            os_sleep(ns);
        else
            os_yield();
        return;
    }
    if (ns <= 0) {
        g_yield();
        return;
    }
    int64_t now = clock_soon();
    int64_t when = ns > INT64_MAX - now ? INT64_MAX : now + ns;
    g_park(WAIT_SLEEP, NULL, after_sleep, &when);
}

FIB_PUBLIC struct fib fib_self(void)
{
    struct m *m = this_m();
    if (!m || m->cur == &m->g0)
        return (struct fib){0};
    return (struct fib){m->cur, atomic_load_explicit(&m->cur->id, memory_order_relaxed)};
}

uint64_t this_owner(void)
{
    struct m *m = this_m();
    if (m)
        return atomic_load_explicit(&m->cur->id, memory_order_relaxed);
    if (fib_tls.owner)
        return fib_tls.owner;
    uint64_t self = (uint64_t)os_tid() | (uint64_t)1 << 63;
    if (!locks_are_slow())
        fib_tls.owner = self; // from here on it locks inline
    return self;
}

FIB_PUBLIC int *fib_errno_location(void)
{
    struct m *m = this_m();
    return m ? m->errno_at : &errno;
}

FIB_PUBLIC void fib_set_name(const char *name)
{
    struct m *m = this_m();
    if (!m || m->cur == &m->g0)
        return;
    char *to = m->cur->live->name;
    strncpy(to, name ? name : "", NAME_SIZE - 1);
    to[NAME_SIZE - 1] = 0;
}
