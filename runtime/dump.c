// SPDX-License-Identifier: MIT
//
// Dumps of fibers in Go's shape, which people and tools know. No locks of libc's, no allocation: it is
// used by handlers, by sysmon, and by what is dying.

#include "runtime/dump.h"
#include "runtime/backtrace.h"
#include "runtime/core.h"
#include "runtime/os/os.h"
#include "runtime/print.h"
#include "runtime/symbols.h"

#include <errno.h>

enum { ANSWER_NS = 100000000, LOCK_ROUNDS = 2000 };

uintptr_t dump_pcs[DUMP_DEPTH];

static _Atomic uint32_t lock_owner; // a thread id
static uint32_t lock_depth;

void dump_lock(void)
{
    struct m *m = this_m();
    if (m)
        m->locks++;
    atomic_signal_fence(memory_order_seq_cst);
    uint32_t self = (uint32_t)os_tid(), owner = 0;
    for (int i = 0; atomic_load(&lock_owner) != self; i++, owner = 0) {
        if (atomic_compare_exchange_strong(&lock_owner, &owner, self))
            break;
        if (i == LOCK_ROUNDS) {
            atomic_store(&lock_owner, self); // its owner will not come back
            lock_depth = 0;
            break;
        }
        os_sleep(1000000);
    }
    lock_depth++;
}

void dump_unlock(void)
{
    if (!--lock_depth)
        atomic_store(&lock_owner, 0);
    atomic_signal_fence(memory_order_seq_cst);
    struct m *m = this_m();
    if (m)
        m->locks--;
}

// --- Stacks of fibers that run: their threads are asked.

static struct {
    _Atomic uint32_t is_done;
    uint32_t depth;
    uint64_t id;
} answer;

void stack_wanted(struct m *m, const void *context)
{
    uint32_t wish = atomic_exchange(&m->stack_wanted, STACK_NONE);
    if (wish == STACK_FOR_STALL) {
        stall_report(m, context);
    } else if (wish == STACK_FOR_DUMP) {
        answer.depth = backtrace_context(m, context, dump_pcs, DUMP_DEPTH);
        answer.id = atomic_load_explicit(&m->cur->id, memory_order_relaxed);
        atomic_store_explicit(&answer.is_done, 1, memory_order_release); // pairs with ask
        os_futex_wake(&answer.is_done, 1);
    }
}

static int ask(struct m *m, uint64_t id)
{
    atomic_store(&answer.is_done, 0);
    atomic_store(&m->stack_wanted, STACK_FOR_DUMP);
    if (os_signal_thread(m->tid, SIGNAL_PREEMPT))
        return -EBUSY;
    for (int i = 0; i < 2; i++) {
        int64_t end = os_clock_ns() + ANSWER_NS, left;
        // acquire: pairs with the release in stack_wanted
        while (!atomic_load_explicit(&answer.is_done, memory_order_acquire) &&
               (left = end - os_clock_ns()) > 0)
            os_futex_wait(&answer.is_done, 0, left);
        if (atomic_load_explicit(&answer.is_done, memory_order_acquire))
            return answer.id == id ? (int)answer.depth : -EBUSY;
        // Once the wish is withdrawn nobody writes the answer any more; else it is being written.
        if (atomic_exchange(&m->stack_wanted, STACK_NONE) == STACK_FOR_DUMP)
            break;
    }
    return -EBUSY;
}

FIB_LOOKS static struct m *m_of(const struct g *g)
{
    for (struct m *m = atomic_load_explicit(&sched.all_ms, memory_order_acquire); m;
         m = m->all_link)
        if (__atomic_load_n(&m->cur, __ATOMIC_RELAXED) == g)
            return m;
    return NULL;
}

FIB_LOOKS int dump_stack(struct g *g, uint64_t id)
{
    struct m *self = this_m();
    if (self && self->cur == g) {
        struct unwind_registers r;
        unwind_here(&r);
        r.valid = 0;
        return (int)backtrace_from(&r, true, g->live->low + OS_PAGE, g->live->high, dump_pcs,
                                   DUMP_DEPTH);
    }
    int n = -EBUSY;
    for (int tries = 0; n == -EBUSY && tries < 4; tries++) {
        n = backtrace_parked(g, id, dump_pcs, DUMP_DEPTH);
        struct m *m = n == -EBUSY ? m_of(g) : NULL;
        if (m)
            n = ask(m, id);
    }
    return n;
}

// --- Printing.

FIB_LOOKS const char *g_name(const struct g *g)
{
    const struct live *l = g_live(g);
    return l && l->name[0] ? l->name : g->name ? g->name : "";
}

FIB_LOOKS static const char *status_text(const struct g *g, const struct live *l)
{
    static const char *const text[] = {"dead",    "runnable", "running",
                                       "syscall", "waiting",  "preempted"};
    uint8_t s = atomic_load(&g->status);
    if (s == G_WAITING && l && l->wait_reason)
        return wait_reason_text(l->wait_reason);
    return s < sizeof text / sizeof *text ? text[s] : "?";
}

FIB_LOOKS static void print_header(struct print *p, const struct g *g, uint64_t id)
{
    const struct live *l = g_live(g);
    print_format(p, "goroutine %u [%s", id, status_text(g, l));
    if (l && atomic_load(&g->status) == G_WAITING) {
        uint64_t minutes = ticks_to_ns(ticks_now() - l->wait_since_ticks) / 60000000000u;
        if (minutes)
            print_format(p, ", %u minutes", minutes);
    }
    if (l && l->locked)
        print_text(p, ", locked to thread");
    const char *name = g_name(g);
    if (*name) {
        print_text(p, ", \"");
        print_name(p, name, NAME_SIZE);
        print_text(p, "\"");
    }
    print_text(p, "]:\n");
}

// "created by SITE in goroutine N"
FIB_LOOKS static void print_creator(struct print *p, const struct g *g)
{
    uintptr_t pc = g->site ? atomic_load(&g->site->pc) : 0;
    if (!pc)
        return;
    struct symbol s;
    symbol_find(pc - 1, &s);
    print_text(p, "created by ");
    if (s.name)
        print_text(p, s.name);
    else
        print_hex(p, pc);
    if (g->creator)
        print_format(p, " in goroutine %u", g->creator);
    print_format(p, "\n\t%s +%x\n", s.file, s.address);
}

FIB_LOOKS void print_g(struct print *p, struct g *g)
{
    dump_lock();
    uint64_t id = atomic_load_explicit(&g->id, memory_order_acquire);
    if (id || g->flags & G_IS_THREAD) {
        print_header(p, g, id);
        int n = dump_stack(g, id);
        if (n < 0) {
            print_text(p, "\tgoroutine running on other thread; stack unavailable\n");
        } else if (n == 0) { // has not run: where it will start
            print_pc(p, (uintptr_t)g->fn, true);
        } else {
            uint32_t skip = backtrace_skip(dump_pcs, (uint32_t)n);
            print_stack(p, dump_pcs + skip, (uint32_t)n - skip);
        }
        print_creator(p, g);
    }
    dump_unlock();
}

void print_own_stack(struct print *p)
{
    struct unwind_registers r;
    dump_lock();
    unwind_here(&r);
    r.valid = 0;
    uint32_t n = backtrace_from(&r, true, 0, 0, dump_pcs, DUMP_DEPTH);
    uint32_t skip = backtrace_skip(dump_pcs, n);
    print_stack(p, dump_pcs + skip, n - skip);
    dump_unlock();
}

// Plain threads that wait without a limit. A join is that of fib_main, and says nothing.
FIB_LOOKS static void print_threads(struct print *p)
{
    pid_t tid;
    struct g *g;
    for (uint32_t i = 0; (g = thread_g_at(i, &tid)); i++) {
        const struct live *l = g->live;
        if (!tid || atomic_load(&g->status) != G_WAITING || l->wait_reason == WAIT_JOIN)
            continue;
        print_format(p, "thread %u [%s] for %x\n\n", (uint64_t)tid,
                     wait_reason_text(l->wait_reason), (uint64_t)(uintptr_t)l->wait_object);
    }
}

FIB_LOOKS static bool is_alive(const struct g *g)
{
    return atomic_load_explicit(&g->id, memory_order_relaxed) &&
           atomic_load_explicit(&g->status, memory_order_relaxed) != G_DEAD;
}

void dump_all(struct print *p)
{
    dump_lock();
    struct m *m = this_m();
    struct g *self = m && m->cur != &m->g0 ? m->cur : NULL, *g;
    if (self) { // first, as Go has it
        print_g(p, self);
        print_text(p, "\n");
    }
    for (uint32_t i = 0; (g = g_at(i)); i++) {
        if (g == self || !is_alive(g))
            continue;
        print_g(p, g);
        print_text(p, "\n");
    }
    print_threads(p);
    dump_unlock();
}

FIB_PUBLIC void fib_dump(int fd)
{
    int saved_errno = errno;
    struct print p = {.fd = fd};
    dump_all(&p);
    print_flush(&p);
    errno = saved_errno;
}
