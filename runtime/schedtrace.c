// SPDX-License-Identifier: MIT
//
// FIB_DEBUG=schedtrace=MS: a line each MS ms, in the shape of Go's GODEBUG=schedtrace (proc.go, schedtrace), which
// viewers of it read; with scheddetail=1 each P, M and G, too. What Go's garbage collector and
// allocator would fill in is 0.

#include "runtime/core.h"
#include "runtime/print.h"
#include "runtime/os/os.h"

static struct {
    int64_t period_ns, next_ns, start_ns;
    bool is_detailed;
} trace;

void schedtrace_init(void)
{
    trace.period_ns = debug_option("schedtrace", 0) * 1000000;
    trace.is_detailed = debug_option("scheddetail", 0) != 0;
    trace.start_ns = os_clock_ns();
    trace.next_ns = trace.start_ns;
}

FIB_LOOKS static uint32_t queue_length(const struct p *p)
{
    return atomic_load_explicit(&p->tail, memory_order_relaxed) -
           atomic_load_explicit(&p->head, memory_order_relaxed);
}

static void print_or_nil(struct print *p, bool is_there, uint64_t n)
{
    if (is_there)
        print_number(p, n);
    else
        print_text(p, "nil");
}

FIB_LOOKS static void print_ps(struct print *out, uint32_t procs)
{
    for (uint32_t i = 0; i < procs; i++)
        print_format(out, i ? " %u" : " [ %u", (uint64_t)queue_length(sched.ps[i]));
    print_text(out, " ] schedticks=[ ");
    for (uint32_t i = 0; i < procs; i++)
        print_format(out, "%u ", (uint64_t)atomic_load(&sched.ps[i]->schedules));
    print_text(out, "]\n");
}

FIB_LOOKS static void print_p(struct print *out, const struct p *p)
{
    const struct m *m = *(struct m *const volatile *)&p->m;
    print_format(out, "  P%u: status=%u schedtick=%u syscalltick=%u m=", (uint64_t)p->id,
                 (uint64_t)atomic_load(&p->status), (uint64_t)atomic_load(&p->schedules),
                 (uint64_t)p->syscall_ticks);
    print_or_nil(out, m, m ? m->id : 0);
    print_format(out, " runqsize=%u gfreecnt=%u timerslen=%u\n", (uint64_t)queue_length(p),
                 (uint64_t)p->free_gs.count, (uint64_t)p->timers.count);
}

FIB_LOOKS static void print_m(struct print *out, struct m *m)
{
    const struct p *p = m_p(m);
    const struct g *g = m->cur, *locked = m->locked_g;
    print_format(out, "  M%u: p=", (uint64_t)m->id);
    print_or_nil(out, p, p ? p->id : 0);
    print_text(out, " curg=");
    print_or_nil(out, g != &m->g0, atomic_load(&g->id));
    print_format(out,
                 " mallocing=0 throwing=0 preemptoff= locks=%u dying=0 spinning=%s blocked=%s "
                 "lockedg=",
                 (uint64_t)m->locks, m->is_spinning ? "true" : "false",
                 m->is_stopped ? "true" : "false");
    print_or_nil(out, locked, locked ? atomic_load(&locked->id) : 0);
    print_text(out, "\n");
}

// Go's numbers of a G's states, in the order of enum g_status; preempted fibers are runnable there.
static const uint8_t go_status[] = {6, 1, 2, 3, 4, 9};

FIB_LOOKS static void print_gs(struct print *out)
{
    struct g *g;
    for (uint32_t i = 0; (g = g_at(i)); i++) {
        uint64_t id = atomic_load(&g->id);
        if (!id)
            continue;
        const struct live *l = g_live(g);
        const struct m *at = NULL, *bound = l ? l->bound_m : NULL;
        for (struct m *m = atomic_load(&sched.all_ms); m && !at; m = m->all_link)
            at = m->cur == g ? m : NULL;
        print_format(out, "  G%u: status=%u(%s) m=", id,
                     (uint64_t)go_status[atomic_load(&g->status) % sizeof go_status],
                     l ? wait_reason_text(l->wait_reason) : "");
        print_or_nil(out, at, at ? at->id : 0);
        print_text(out, " lockedm=");
        print_or_nil(out, bound, bound ? bound->id : 0);
        print_text(out, "\n");
    }
}

FIB_LOOKS bool schedtrace_tick(int64_t now_ns)
{
    if (!trace.period_ns)
        return false;
    if (now_ns < trace.next_ns)
        return true;
    trace.next_ns = now_ns + trace.period_ns;
    uint32_t procs = atomic_load(&sched.procs);
    struct print out = {.fd = 2};
    print_format(&out, "SCHED %ums: gomaxprocs=%u idleprocs=%u threads=%u spinningthreads=%u ",
                 (uint64_t)(now_ns - trace.start_ns) / 1000000, (uint64_t)procs,
                 (uint64_t)atomic_load(&sched.idle_ps), (uint64_t)sched.ms + sched.fixed_threads,
                 (uint64_t)atomic_load(&sched.spinning));
    print_format(&out, "needspinning=0 idlethreads=%u runqueue=%u", (uint64_t)sched.idle_ms,
                 (uint64_t)atomic_load(&sched.global_count));
    if (!trace.is_detailed) {
        print_ps(&out, procs);
    } else {
        print_format(&out, " gcwaiting=false nmidlelocked=0 stopwait=0 sysmonwait=%s\n",
                     atomic_load(&sched.sysmon_sleeps) ? "true" : "false");
        for (uint32_t i = 0; i < procs; i++)
            print_p(&out, sched.ps[i]);
        for (struct m *m = atomic_load(&sched.all_ms); m; m = m->all_link)
            print_m(&out, m);
        print_gs(&out);
    }
    print_flush(&out);
    return true;
}
