// SPDX-License-Identifier: MIT
//
// Opening perf events and saying why one was refused: see perf_event.h.

#include "collector/perf_event.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CAP_BIT_SYS_ADMIN = 21, CAP_BIT_PERFMON = 38 };

int perf_event_open_raw(struct perf_event_attr *attr, pid_t tid, int cpu, int group, uint64_t flags)
{
    long fd = syscall(SYS_perf_event_open, attr, tid, cpu, group, flags);
    return fd < 0 ? -errno : (int)fd;
}

static bool read_number(const char *path, long long *value)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fscanf(f, "%lld", value) == 1;
    if (f)
        fclose(f);
    return ok;
}

static int read_paranoid(void)
{
    long long v;
    return read_number("/proc/sys/kernel/perf_event_paranoid", &v) ? (int)v : INT_MIN;
}

static uint64_t effective_capabilities(void)
{
    unsigned long long caps = 0;
    char line[256];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "CapEff: %llx", &caps) == 1)
            break;
    if (f)
        fclose(f);
    return caps;
}

static bool has_perfmon(void)
{
    uint64_t caps = effective_capabilities();
    return (caps >> CAP_BIT_SYS_ADMIN & 1) || (caps >> CAP_BIT_PERFMON & 1);
}

// errno of a counting event on a process (0: ourselves), 0 if it opened.
static int try_event(pid_t pid, uint32_t type, uint64_t config, bool kernel)
{
    struct perf_event_attr attr = {
        .type = type,
        .size = sizeof attr,
        .config = config,
        .disabled = 1,
        .exclude_kernel = !kernel,
        .exclude_hv = 1,
    };
    int fd = perf_event_open_raw(&attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        return -fd;
    close(fd);
    return 0;
}

enum perf_refusal perf_event_classify(int error, pid_t pid)
{
    switch (error) {
    case 0: return PERF_ALLOWED;
    case ESRCH: return PERF_REFUSED_NO_TARGET;
    case EMFILE:
    case ENFILE: return PERF_REFUSED_DESCRIPTORS;
    case ENOMEM: return PERF_REFUSED_MEMORY;
    case ENOENT:
    case EOPNOTSUPP:
    case E2BIG:
    case ENODEV: return PERF_REFUSED_NO_EVENT;
    case ENOSYS: // some seccomp profiles answer ENOSYS; a kernel without perf has no sysctl
        return read_paranoid() == INT_MIN ? PERF_REFUSED_NO_EVENT : PERF_REFUSED_SECCOMP;
    case EACCES:
        if (pid > 0 && pid != getpid() &&
            try_event(0, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, false) == 0)
            return PERF_REFUSED_OWNER;
        return PERF_REFUSED_PARANOID;
    case EPERM:
        // The sysctl answers EACCES; EPERM comes from a filter or a security module before it.
        return PERF_REFUSED_SECCOMP;
    default: return PERF_REFUSED_OTHER;
    }
}

static int explain_owner(pid_t pid, char *text, size_t size)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    if (stat(path, &st))
        return snprintf(text, size, "process %d has ended", (int)pid);
    if (st.st_uid == geteuid())
        return snprintf(text, size,
                        "process %d is not dumpable (setuid, or it asked for that): run as root",
                        (int)pid);
    return snprintf(text, size,
                    "process %d belongs to user %u and you are user %u without CAP_PERFMON: run as "
                    "that user or as root",
                    (int)pid, (unsigned)st.st_uid, (unsigned)geteuid());
}

int perf_event_explain(enum perf_refusal why, int error, pid_t pid, char *text, size_t size)
{
    int paranoid = read_paranoid();
    switch (why) {
    case PERF_ALLOWED: return snprintf(text, size, "perf events are allowed");
    case PERF_REFUSED_PARANOID:
        return snprintf(
            text, size,
            "kernel.perf_event_paranoid is %d and you have no CAP_PERFMON: run as root, "
            "or `sysctl kernel.perf_event_paranoid=%d`",
            paranoid, paranoid > 2 ? 2 : 1);
    case PERF_REFUSED_OWNER: return explain_owner(pid, text, size);
    case PERF_REFUSED_SECCOMP:
        return snprintf(
            text, size,
            "perf_event_open is refused (%s) by a seccomp filter or security policy, as "
            "in Docker's default profile: allow perf_event_open there (--cap-add "
            "PERFMON, or --security-opt seccomp=FILE)",
            strerror(error));
    case PERF_REFUSED_NO_TARGET: return snprintf(text, size, "process %d has ended", (int)pid);
    case PERF_REFUSED_NO_EVENT:
        return snprintf(text, size, "this kernel has no such perf event (%s)", strerror(error));
    case PERF_REFUSED_DESCRIPTORS:
        return snprintf(text, size,
                        "too many open files (one per thread and CPU): raise `ulimit -n`");
    case PERF_REFUSED_MEMORY:
        return snprintf(text, size,
                        "not enough locked memory for perf rings: raise "
                        "kernel.perf_event_mlock_kb or `ulimit -l`");
    case PERF_REFUSED_OTHER: break;
    }
    return snprintf(text, size, "perf_event_open: %s", strerror(error));
}

int perf_event_try(pid_t pid, char *why, size_t size)
{
    int error = try_event(pid, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, false);
    if (error)
        perf_event_explain(perf_event_classify(error, pid), error, pid, why, size);
    return -error;
}

void perf_rights_probe(struct perf_rights *r)
{
    long long v;
    *r = (struct perf_rights){.paranoid = read_paranoid(), .has_perfmon = has_perfmon()};
    r->user_error = try_event(0, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, false);
    r->kernel_error = try_event(0, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, true);
    r->user = r->user_error == 0;
    r->kernel = r->kernel_error == 0;
    r->user_why = perf_event_classify(r->user_error, 0);
    r->kernel_why = perf_event_classify(r->kernel_error, 0);
    r->hardware = try_event(0, PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, false) == 0;
    if (read_number("/proc/sys/kernel/perf_event_mlock_kb", &v) && v > 0)
        r->mlock_kb = (uint64_t)v;
    if (read_number("/proc/sys/kernel/perf_event_max_sample_rate", &v) && v > 0)
        r->rate_max = (uint64_t)v;
    r->cpu_count = sysconf(_SC_NPROCESSORS_ONLN);
}

uint64_t perf_raise_descriptor_limit(uint64_t want)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l))
        return 0;
    if (l.rlim_cur < want && l.rlim_cur < l.rlim_max) {
        struct rlimit raised = l;
        raised.rlim_cur = l.rlim_max < want ? l.rlim_max : want;
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            l = raised;
    }
    return l.rlim_cur;
}

// --- The delivered rate.

static volatile sig_atomic_t rate_signals;

static void count_signal(int sig)
{
    (void)sig;
    rate_signals++;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double spin(uint64_t spin_ns)
{
    uint64_t start = thread_cpu_ns(), now;
    int first = rate_signals;
    do { // reads the clock seldom, so that most of the time is user time
        for (volatile int i = 0; i < 20000; i++)
            ;
        now = thread_cpu_ns();
    } while (now - start < spin_ns);
    return (double)(rate_signals - first) * 1e9 / (double)(now - start);
}

static double rate_of_event(uint32_t hz, uint64_t spin_ns)
{
    pid_t self = (pid_t)syscall(SYS_gettid);
    struct perf_clocks_options o = {.size = sizeof o, .pid = getpid(), .hz = hz};
    struct perf_clocks *c;
    int rc = perf_clocks_new(&c, &o);
    if (rc)
        return rc;
    rc = perf_clocks_add(c, self, NULL);
    double rate = rc ? rc : spin(spin_ns);
    perf_clocks_free(c);
    return rate;
}

static double rate_of_timer(uint32_t hz, uint64_t spin_ns)
{
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGPROF};
    long ns = (long)(1000000000u / hz);
    struct itimerspec its = {.it_interval = {.tv_nsec = ns}, .it_value = {.tv_nsec = ns}};
    timer_t t;
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &ev, &t))
        return -errno;
    double rate = timer_settime(t, 0, &its, NULL) ? -errno : spin(spin_ns);
    timer_delete(t);
    return rate;
}

double perf_delivered_rate(bool by_event, uint32_t hz, uint64_t spin_ns)
{
    if (hz < 2 || hz > 100000)
        return -EINVAL;
    struct sigaction act = {.sa_handler = count_signal, .sa_flags = SA_RESTART}, old;
    sigset_t prof, mask;
    sigemptyset(&act.sa_mask);
    sigemptyset(&prof);
    sigaddset(&prof, SIGPROF);
    if (sigaction(SIGPROF, &act, &old))
        return -errno;
    pthread_sigmask(SIG_UNBLOCK, &prof, &mask);
    rate_signals = 0;
    double rate = by_event ? rate_of_event(hz, spin_ns) : rate_of_timer(hz, spin_ns);
    // A last signal may be pending: it must not meet the old disposition, which may kill.
    pthread_sigmask(SIG_BLOCK, &prof, NULL);
    struct timespec none = {0};
    while (sigtimedwait(&prof, NULL, &none) == SIGPROF)
        ;
    sigaction(SIGPROF, &old, NULL);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return rate;
}
