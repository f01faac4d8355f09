// SPDX-License-Identifier: MIT
//
// Who makes the sampling signal on a thread, where the collector does not: a perf task-clock event
// or a POSIX CPU timer, each thread its own. Armed by tid, so one thread can start all others.
//
// The choice. A CPU timer needs no descriptor and no permission and counts kernel time, but the
// kernel looks at it only at its tick (250 a second here): it is right for any rate up to the tick.
// Above that a perf event is needed; where it may not count kernel time, the time spent there is
// seen by a CPU timer beside the event, at the tick; both weigh by the CPU clock, so no time counts
// twice. Where it is refused, the tick is the rate, and we say so.
//
// Sources: perf_event_open(2), timer_create(2), kernel/time/posix-cpu-timers.c.

#include "agent/agent.h"
#include "agent/arch/x86_64.h"
#include "agent/say.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>

enum { TIMER_MIN_NS = 100000 };
enum { JUDGED_SAMPLES_MIN = 50, RATE_TOLERATED_PERCENT = 95 }; // as the collector judges
enum { DESCRIPTOR_FLOOR = 512 }; // ours stay out of the way of dup2 and close loops' usual range

const char agent_cookie_cpu, agent_cookie_wall, agent_cookie_keeper;

// The CPU clock of a thread of this process, as the kernel encodes it; tid 0: the caller's.
clockid_t source_cpu_clock(uint32_t tid)
{
    return (clockid_t)((~tid << 3) | 6);
}

uint64_t source_thread_cpu_ns(uint32_t tid)
{
    struct timespec t;
    if (sys2(SYS_clock_gettime, tid ? source_cpu_clock(tid) : CLOCK_THREAD_CPUTIME_ID, &t))
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int perf_open(uint32_t tid, uint64_t period_ns, bool kernel)
{
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.size = sizeof attr;
    attr.type = PERF_TYPE_SOFTWARE;
    attr.config = PERF_COUNT_SW_TASK_CLOCK;
    attr.sample_period = period_ns;
    attr.disabled = 1;
    attr.exclude_kernel = !kernel;
    attr.exclude_hv = 1;
    attr.remove_on_exec = 1;
    long fd = sys5(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd == -EINVAL) { // before 5.13; the exec hooks do it alone there
        attr.remove_on_exec = 0;
        fd = sys5(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    }
    return (int)fd;
}

static int perf_open_best(uint32_t tid, uint64_t period_ns)
{
    int fd = perf_open(tid, period_ns, true);
    if (fd != -EACCES && fd != -EPERM)
        return fd;
    fd = perf_open(tid, period_ns, false);
    if (fd >= 0)
        atomic_store_explicit(&agent.space->user_only, 1, memory_order_relaxed);
    return fd;
}

static int arm_perf(struct agent_slot *s, uint64_t period_ns)
{
    uint32_t tid = atomic_load_explicit(&s->tid, memory_order_relaxed);
    int fd = perf_open_best(tid, period_ns);
    if (fd < 0)
        return fd;
    int high = (int)sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, DESCRIPTOR_FLOOR);
    if (high >= 0) {
        sys1(SYS_close, fd);
        fd = high;
    }
    struct f_owner_ex owner = {.type = F_OWNER_TID, .pid = (pid_t)tid};
    long rc = sys3(SYS_fcntl, fd, F_SETOWN_EX, &owner);
    if (!rc)
        rc = sys3(SYS_fcntl, fd, F_SETSIG, SIGPROF);
    if (!rc)
        rc = sys3(SYS_fcntl, fd, F_SETFL, O_ASYNC | O_NONBLOCK);
    if (!rc) // never PERF_EVENT_IOC_REFRESH: it hangs kernels 6.16 and 6.17
        rc = sys3(SYS_ioctl, fd, PERF_EVENT_IOC_ENABLE, 0);
    if (rc) {
        sys1(SYS_close, fd);
        return (int)rc;
    }
    int old = atomic_exchange(&s->perf_fd, fd);
    if (old >= 0)
        sys1(SYS_close, SYS_ARG(old));
    return 0;
}

// A thread that has just begun arms itself while who starts all threads arms it too: the later one takes the place of the
// earlier, whose timer or event goes.
void source_keep_timer(_Atomic int *where, int id)
{
    int old = atomic_exchange(where, id);
    if (old >= 0)
        sys1(SYS_timer_delete, SYS_ARG(old));
}

int source_set_timer(int id, uint64_t first_ns, uint64_t period_ns)
{
    struct itimerspec when = {
        .it_interval = {(time_t)(period_ns / 1000000000), (long)(period_ns % 1000000000)},
        .it_value = {(time_t)(first_ns / 1000000000), (long)(first_ns % 1000000000)},
    };
    return (int)sys4(SYS_timer_settime, SYS_ARG(id), 0, &when, NULL);
}

// A kernel timer whose signal goes to that thread. first_ns: until the first one.
int source_make_timer(uint32_t tid, clockid_t clock, const void *cookie, uint64_t first_ns,
                      uint64_t period_ns)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGPROF;
    memcpy(&event.sigev_value.sival_ptr, &cookie, sizeof cookie);
    event._sigev_un._tid = (pid_t)tid;
    int id = -1;
    long rc = sys3(SYS_timer_create, clock, &event, &id);
    if (rc)
        return (int)rc;
    rc = source_set_timer(id, first_ns, period_ns);
    if (rc) {
        sys1(SYS_timer_delete, id);
        return (int)rc;
    }
    return id;
}

// Where in its first period a thread's first sample falls: anywhere, or threads that live for less
// than a period would never, or always, be seen.
static uint64_t random_phase(uint32_t tid, uint64_t period_ns)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t x = (uint64_t)t.tv_nsec * UINT64_C(0x9e3779b97f4a7c15) ^ tid;
    x = (x ^ (x >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    return 1 + (x >> 8) % period_ns;
}

static int arm_cpu_timer(struct agent_slot *s, uint64_t period_ns)
{
    uint32_t tid = atomic_load_explicit(&s->tid, memory_order_relaxed);
    // Asked for much less than a tick the kernel signals at each tick that meets the thread running,
    // which is a fair sample; asked for a tick it would pass over those where the thread ran shorter.
    uint64_t interval = period_ns <= agent.tick_ns ? TIMER_MIN_NS : period_ns;
    uint64_t first = random_phase(tid, interval);
    int id = source_make_timer(tid, source_cpu_clock(tid), &agent_cookie_cpu, first, interval);
    if (id < 0)
        return id;
    source_keep_timer(&s->cpu_timer, id);
    s->cpu_due_ns = (int64_t)(period_ns - (first < period_ns ? first : period_ns));
    return 0;
}

static bool sees_user_only(uint32_t source)
{
    struct agent_space *space = agent.space;
    const struct seg_control *c = &space->seg.header->control;
    if (source == SEG_CPU_AGENT_PERF)
        return atomic_load_explicit(&space->user_only, memory_order_relaxed);
    return source == SEG_CPU_COLLECTOR_PERF &&
           atomic_load_explicit(&c->cpu_flags, memory_order_relaxed) & SEG_CPU_USER_ONLY;
}

int source_arm(struct agent_slot *s)
{
    struct agent_space *space = agent.space;
    struct seg_control *c = &space->seg.header->control;
    uint32_t tid = atomic_load_explicit(&s->tid, memory_order_relaxed);
    uint64_t period = atomic_load_explicit(&c->cpu_period_ns, memory_order_relaxed);
    uint64_t wall = atomic_load_explicit(&c->wall_period_ns, memory_order_relaxed);
    int rc = 0;
    source_disarm(s);
    s->cpu_seen_ns = source_thread_cpu_ns(tid);
    s->cpu_due_ns = 0;
    s->source = atomic_load_explicit(&c->cpu_source, memory_order_relaxed);
    s->cpu_period_ns = period;
    if (!period)
        s->source = SEG_CPU_NONE;
    if (s->source == SEG_CPU_AGENT_PERF) {
        rc = arm_perf(s, period);
        if (rc) // out of descriptors, say: this thread gets what can be had
            s->source = SEG_CPU_TIMER;
    }
    if (s->source == SEG_CPU_TIMER)
        rc = arm_cpu_timer(s, period);
    else if (sees_user_only(s->source))
        source_fall_back(s);
    if (wall) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        s->wall_seen_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        s->wall_cpu_ns = s->cpu_seen_ns;
        int id = source_make_timer(tid, CLOCK_MONOTONIC, &agent_cookie_wall,
                                   random_phase(tid, wall), wall);
        if (id >= 0)
            source_keep_timer(&s->wall_timer, id);
        else
            rc = id;
    }
    return rc;
}

void source_fall_back(struct agent_slot *s)
{
    if (s->cpu_period_ns && s->cpu_timer < 0 && !arm_cpu_timer(s, s->cpu_period_ns))
        s->keeps_timer = true;
}

void source_yield(struct agent_slot *s)
{
    int fd = atomic_exchange(&s->perf_fd, -1);
    if (fd >= 0)
        sys1(SYS_close, SYS_ARG(fd));
    if (sees_user_only(SEG_CPU_COLLECTOR_PERF)) {
        source_fall_back(s);
        s->keeps_timer = true;
    } else {
        int timer = atomic_exchange(&s->cpu_timer, -1);
        if (timer >= 0)
            sys1(SYS_timer_delete, SYS_ARG(timer));
    }
    s->source = SEG_CPU_COLLECTOR_PERF;
}

_Atomic int64_t source_disarmed_ns;

// Before the timers go: since Linux 6.12 a signal of theirs that is on its way then is dropped, and still ends a wait.
static void note_disarming(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    atomic_store_explicit(&source_disarmed_ns, (int64_t)t.tv_sec * 1000000000 + t.tv_nsec,
                          memory_order_relaxed);
}

void source_drop_timer(_Atomic int *where)
{
    if (atomic_load_explicit(where, memory_order_relaxed) < 0)
        return;
    note_disarming();
    int id = atomic_exchange(where, -1);
    if (id >= 0)
        sys1(SYS_timer_delete, SYS_ARG(id));
}

void source_disarm(struct agent_slot *s)
{
    if (s->cpu_timer >= 0 || s->wall_timer >= 0)
        note_disarming();
    // Taken out first: the thread itself and who stops all of them may come at the same time.
    int fd = atomic_exchange(&s->perf_fd, -1), cpu = atomic_exchange(&s->cpu_timer, -1);
    int wall = atomic_exchange(&s->wall_timer, -1);
    if (fd >= 0)
        sys1(SYS_close, SYS_ARG(fd));
    if (cpu >= 0)
        sys1(SYS_timer_delete, SYS_ARG(cpu));
    if (wall >= 0)
        sys1(SYS_timer_delete, SYS_ARG(wall));
    s->source = SEG_CPU_NONE;
    s->keeps_timer = false;
}

void source_arm_first(uint64_t period_ns)
{
    uint32_t tid = (uint32_t)sys0(SYS_gettid);
    if (!period_ns)
        return;
    if (period_ns < agent.tick_ns)
        period_ns = agent.tick_ns;
    int id = source_make_timer(tid, source_cpu_clock(tid), &agent_cookie_cpu,
                               random_phase(tid, period_ns), period_ns);
    agent.child_timer = id >= 0 ? id + 1 : 0;
}

void source_disarm_first(void)
{
    if (agent.child_timer)
        sys1(SYS_timer_delete, agent.child_timer - 1);
    agent.child_timer = 0;
}

static void complain(uint64_t asked_ns, uint64_t got_ns, int why)
{
    struct say line;
    if (atomic_exchange_explicit(&agent.space->rate_said, 1, memory_order_relaxed))
        return;
    say_number(say_begin(&line), 1000000000 / got_ns);
    say_number(say_text(&line, " Hz instead of "), 1000000000 / asked_ns);
    if (why) {
        say_errno(say_text(&line, ": perf_event_open is refused ("), why);
        say_text(&line, ") and CPU timers are no faster than the kernel's tick; ");
        say_text(&line,
                 "sysctl kernel.perf_event_paranoid=2, in a container allow perf_event_open");
    } else {
        say_text(&line, ": CPU timers are no faster than the kernel's tick; ");
        say_text(&line, "leave source=timer out of FIBERSCOPE");
    }
    say_end(&line);
}

// Known only now: how much of its time the program spent where the event may not look.
void source_say_rate(void)
{
    struct agent_space *space = agent.space;
    struct say line;
    uint64_t n = atomic_load_explicit(&space->cpu_samples, memory_order_relaxed);
    uint64_t ns = atomic_load_explicit(&space->cpu_sum_ns, memory_order_relaxed);
    uint64_t asked = agent.env.cpu_hz;
    if (agent.env.quiet || space->told || n < JUDGED_SAMPLES_MIN || !asked ||
        !atomic_load_explicit(&space->user_only, memory_order_relaxed))
        return;
    uint64_t hz = n * 1000000000 / ns;
    if (hz * 100 >= asked * RATE_TOLERATED_PERCENT ||
        atomic_exchange_explicit(&space->rate_said, 1, memory_order_relaxed))
        return;
    say_number(say_begin(&line), hz);
    say_number(say_text(&line, " Hz instead of "), asked);
    say_text(&line, ": perf events may not count kernel time (kernel.perf_event_paranoid), and CPU "
                    "timers tick at ");
    say_number(&line, 1000000000 / agent.tick_ns);
    say_text(&line, " Hz; run as root, or sysctl kernel.perf_event_paranoid=1");
    say_end(&line);
}

// Sets source and period of the control words for the case that the collector does not.
void source_choose(struct agent *a, bool say)
{
    struct agent_space *space = a->space;
    struct seg_control *c = &space->seg.header->control;
    uint64_t period = a->env.cpu_hz ? 1000000000 / a->env.cpu_hz : 0;
    uint32_t source = SEG_CPU_NONE;
    if (period) {
        bool fits = period >= a->tick_ns;
        int fd = 0, wanted = 0;
        source = SEG_CPU_TIMER;
        if (a->env.source == AGENT_SOURCE_PERF || (a->env.source == AGENT_SOURCE_AUTO && !fits))
            wanted = 1;
        if (wanted)
            fd = perf_open_best(0, period);
        if (wanted && fd >= 0) {
            sys1(SYS_close, fd);
            source = SEG_CPU_AGENT_PERF;
        } else if (!fits) {
            if (say && !a->env.quiet)
                complain(period, a->tick_ns, fd);
            period = a->tick_ns; // what is delivered is what a sample is worth
        }
    }
    uint64_t wall = a->env.wall_hz ? 1000000000 / a->env.wall_hz : 0;
    atomic_store_explicit(&c->cpu_period_ns, period, memory_order_relaxed);
    atomic_store_explicit(&c->wall_period_ns, wall, memory_order_relaxed);
    atomic_store_explicit(&c->cpu_source, source, memory_order_relaxed);
}
