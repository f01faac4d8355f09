// SPDX-License-Identifier: MIT
//
// Starting the runtime, and fib_main.

#include "runtime/core.h"
#include "runtime/descriptor.h"
#include "runtime/os/os.h"
#include "runtime/print.h"
#include "runtime/trace.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

// The number behind name= in a comma-separated list; no if it is not there.
int64_t debug_option(const char *name, int64_t no)
{
    const char *at = getenv("FIB_DEBUG");
    size_t n = strlen(name);
    while (at && *at) {
        if (!strncmp(at, name, n) && at[n] == '=')
            return strtoll(at + n + 1, NULL, 0);
        at = strchr(at, ',');
        at += at != NULL;
    }
    return no;
}

// A misspelt option does nothing, and nothing would say so.
void debug_warn(void)
{
    static const char *const names[] = {"schedtrace", "scheddetail", "stall",
                                        "sigquit",    "tlswarn",     "asyncpreemptoff",
                                        "quantum",    "seed",        "chaos"};
    enum { NAMES = sizeof names / sizeof *names };
    const char *at = getenv("FIB_DEBUG");
    struct print p = {.fd = 2};
    while (at && *at) {
        size_t n = strcspn(at, ","), name = strcspn(at, "=,");
        uint32_t i = 0;
        while (i < NAMES && (strlen(names[i]) != name || strncmp(at, names[i], name)))
            i++;
        const char *wrong = NULL;
        if (i == NAMES)
            wrong = "there is no such option";
        else if (name + 1 >= n || !strchr("0123456789-+", at[name + 1]))
            wrong = "a number is missing: NAME=NUMBER";
        if (wrong && n) {
            print_text(&p, "fiberscope-rt: FIB_DEBUG: ");
            print_name(&p, at, n < 40 ? n : 40);
            print_format(&p, ": %s; see ENVIRONMENT in fiberscope-runtime(7)\n", wrong);
        }
        at += n + (at[n] == ',');
    }
    print_flush(&p);
}

static int64_t environment(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    int64_t n = text ? strtoll(text, &end, 0) : 0;
    if (!text || end == text || n <= 0)
        return 0;
    static const char units[] = "KMG";
    const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
    return unit ? n << (10 * (unit - units + 1)) : n;
}

static int read_options(const struct fib_options *given, uint32_t *procs)
{
    struct fib_options o = {0};
    if (given) {
        if (given->size < sizeof given->size || given->size > sizeof o)
            return -EINVAL;
        memcpy(&o, given, given->size);
    }
    sched.seed = o.seed ? o.seed : (uint64_t)debug_option("seed", 0);
    int64_t wanted = o.procs ? o.procs : environment("FIB_MAXPROCS");
    if (wanted <= 0)
        wanted = os_cpus();
    if (o.procs > PROCS_MAX || o.threads_max > 1000000 || o.stack_bytes > STACK_BYTES_MAX ||
        o.main_stack_bytes > STACK_BYTES_MAX)
        return -EINVAL;
    *procs = sched.seed ? 1 : wanted > PROCS_MAX ? PROCS_MAX : (uint32_t)wanted;
    sched.threads_max = o.threads_max ? o.threads_max : THREADS_MAX;
    sched.stack_bytes = o.stack_bytes ? o.stack_bytes : (size_t)environment("FIB_STACK");
    if (!sched.stack_bytes || sched.stack_bytes > STACK_BYTES_MAX)
        sched.stack_bytes = 256 << 10;
    sched.stack_class = stack_class_of(sched.stack_bytes);
    sched.main_stack_bytes = o.main_stack_bytes ? o.main_stack_bytes : 8 << 20;
    sched.stall_ns = o.stall_ns ? (int64_t)o.stall_ns : debug_option("stall", 0) * 1000000;
    sched.quantum_ns = debug_option("quantum", 10000) * 1000;
    if (sched.quantum_ns < 100000)
        sched.quantum_ns = 100000;
    sched.is_preempt_off = debug_option("asyncpreemptoff", 0) || sched.seed;
    sched.is_chaos = debug_option("chaos", 0) && !sched.seed;
    sched_is_seeded = sched.seed;
    if (sched_is_seeded)
        __atomic_fetch_or(&sched_slow_locks, DESCRIPTOR_LOCKS_SEEDED, __ATOMIC_RELAXED);
    sched.is_slow = sched_is_seeded || sched.is_chaos;
    return 0;
}

static struct p *p_new(uint32_t id)
{
    struct p *p = os_pages((sizeof *p + OS_PAGE - 1) & ~(size_t)(OS_PAGE - 1));
    if (!p)
        return NULL;
    p->id = id;
    p->countdown = GLOBAL_TICK;
    p->random = (0x9E3779B97F4A7C15ULL * (id + 1)) ^ (sched.seed * 0xD1B54A32D192ED03ULL);
    p->random = p->random ? p->random : 1;
    timers_init(p);
    return p;
}

static int start_thread(void *(*fn)(void *))
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = thread_start(fn, NULL, 128 << 10);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    sched.fixed_threads += !rc;
    return rc;
}

static int add_ps(uint32_t procs)
{
    for (uint32_t i = 0; i < procs; i++) {
        if (sched.ps[i])
            continue;
        struct p *p = p_new(i);
        if (!p)
            return -ENOMEM;
        sched.ps[i] = p;
        rt_lock(&sched.lock);
        atomic_fetch_add(&sched.ps_made, 1);
        p_idle_put(p);
        rt_unlock(&sched.lock);
    }
    return 0;
}

// A program that links the runtime alone is served as well: the agent comes late then, and patches what is loaded.
static void load_agent(void)
{
    const char *address = getenv("FIBERSCOPE_SERVE");
    if (!address || !*address || dlsym(RTLD_DEFAULT, "fscope_serve"))
        return;
    if (!dlopen("libfiberscope.so." FSCOPE_SOVERSION, RTLD_NOW)) {
        struct print p = {.fd = 2};
        print_format(&p, "fiberscope-rt: FIBERSCOPE_SERVE=%s: %s\n", address, dlerror());
        print_flush(&p);
    }
}

static int start(const struct fib_options *options)
{
    static _Atomic bool is_started;
    if (atomic_exchange(&is_started, true))
        return -EALREADY;
    load_agent();
    uint32_t procs;
    int rc = read_options(options, &procs);
    if (!rc) {
        clock_init();
        sched.wake_after_ticks = ns_to_ticks(20000);
        atomic_store(&sched.procs, procs);
        atomic_store(&sched.is_shared, procs > 1);
        rc = add_ps(procs);
    }
    if (!rc)
        rc = preempt_init();
    if (!rc) {
        diag_init();
        trace_init();
        atomic_store(&sched.is_running, true);
        rc = start_thread(sysmon_main);
    }
    if (!rc)
        rc = start_thread(spawner_main);
    for (uint32_t i = 0; !rc && i < 2; i++) // one runs, one is there when that one's P is taken
        rc = m_new();
    if (rc) {
        atomic_store(&sched.is_running, false);
        atomic_store(&is_started, false);
    }
    return rc;
}

FIB_PUBLIC int fib_init(const struct fib_options *options)
{
    if (this_m())
        return -EALREADY;
    return start(options);
}

FIB_PUBLIC int fib_main(fib_fn *fn, void *arg)
{
    if (!fn)
        return -EINVAL;
    int rc = this_m() ? -EALREADY : start(NULL);
    if (rc && (rc != -EALREADY || this_m() || sched.is_main_mode))
        return rc;
    this_g(); // counted as a thread that waits from the start
    sched.is_main_mode = true;
    struct fib main_fiber;
    struct fib_go_options o = {
        .size = sizeof o, .name = "main", .stack_bytes = sched.main_stack_bytes};
    rc = fib_go_with(&main_fiber, &o, fn, arg);
    if (!rc)
        fib_join(main_fiber);
    sched.is_main_mode = false;
    return rc;
}

// From one P to several: queues that only their owner touched get thieves. Each M is outside of every
// transition once before there is a second P.
static void share(void)
{
    if (atomic_exchange(&sched.is_shared, true))
        return;
    os_membarrier();
    for (struct m *m = atomic_load(&sched.all_ms); m; m = m->all_link) {
        uint32_t seq = atomic_load(&m->seq);
        while ((seq & 1) && atomic_load(&m->seq) == seq && m != this_m())
            os_yield();
    }
}

FIB_PUBLIC uint32_t fib_procs(uint32_t procs)
{
    static struct rt_lock lock;
    uint32_t was = atomic_load(&sched.procs);
    if (!procs || sched_is_seeded || !atomic_load(&sched.is_running))
        return was;
    procs = procs > PROCS_MAX ? PROCS_MAX : procs;
    rt_lock(&lock);
    if (procs > 1)
        share();
    if (!add_ps(procs))
        atomic_store(&sched.procs, procs);
    rt_unlock(&lock);
    struct m *m = this_m();
    if (m && FIB_TRACE_IS_ON) {
        trans_begin(m);
        trace_procs_(m, procs);
        trans_end(m);
    }
    wake_p();
    return was;
}
