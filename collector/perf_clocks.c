// SPDX-License-Identifier: MIT
//
// CPU clocks on a target's threads, opened from outside: see perf_event.h.
//
// Invariant: threads[] is sorted by tid, and each entry's fd is open. What a removed event had counted
// is kept in cpu_ns, so the sum never falls.

#include "collector/perf_event.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { DESCRIPTORS_WANTED = 65536 };

struct clock_thread {
    pid_t tid;
    int fd;
    bool seen; // in the present sync
};

struct perf_clocks {
    pid_t pid;
    int signal;
    uint32_t hz;
    bool kernel;
    int kernel_error;
    uint64_t cpu_ns; // of removed threads
    struct clock_thread *threads;
    size_t count, capacity;
};

int perf_clocks_new(struct perf_clocks **out, const struct perf_clocks_options *opts)
{
    struct perf_clocks *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->pid = opts->pid;
    c->hz = opts->hz;
    c->signal = opts->signal ? opts->signal : SIGPROF;
    c->kernel = true;
    *out = c;
    return 0;
}

static uint64_t event_ns(int fd)
{
    uint64_t ns;
    return read(fd, &ns, sizeof ns) == (ssize_t)sizeof ns ? ns : 0;
}

static void close_thread(struct perf_clocks *c, struct clock_thread *t)
{
    ioctl(t->fd, PERF_EVENT_IOC_DISABLE, 0);
    c->cpu_ns += event_ns(t->fd);
    close(t->fd);
}

void perf_clocks_free(struct perf_clocks *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++)
        close_thread(c, &c->threads[i]);
    free(c->threads);
    free(c);
}

// The index of tid, or of where it belongs.
static size_t position(const struct perf_clocks *c, pid_t tid)
{
    size_t lo = 0, hi = c->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c->threads[mid].tid < tid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int open_event(struct perf_clocks *c, pid_t tid)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof attr,
        .config = PERF_COUNT_SW_TASK_CLOCK,
        .sample_period = 1000000000u / (c->hz ? c->hz : 1),
        .disabled = 1,
        .exclude_hv = 1,
        .exclude_kernel = !c->kernel,
        .wakeup_events = 1,
        .remove_on_exec = 1,
    };
    int fd = perf_event_open_raw(&attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd == -EINVAL || fd == -E2BIG) {
        // Before Linux 5.13 there is no remove_on_exec; the agent drains before an exec itself.
        attr.remove_on_exec = 0;
        fd = perf_event_open_raw(&attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    }
    return fd;
}

// As open_event, without kernel time where that is not allowed.
static int open_allowed(struct perf_clocks *c, pid_t tid)
{
    int fd = open_event(c, tid);
    if ((fd == -EACCES || fd == -EPERM) && c->kernel) {
        int with_kernel = -fd;
        c->kernel = false;
        fd = open_event(c, tid);
        if (fd >= 0)
            c->kernel_error = with_kernel;
        else
            c->kernel = !c->count; // nothing learnt: this thread is refused either way
    }
    if (fd == -EMFILE) {
        perf_raise_descriptor_limit(DESCRIPTORS_WANTED);
        fd = open_event(c, tid);
    }
    return fd;
}

// Makes the event a signal to its own thread.
static int aim(const struct perf_clocks *c, int fd, pid_t tid)
{
    struct f_owner_ex owner = {.type = F_OWNER_TID, .pid = tid};
    // O_ASYNC comes last: before its signal is set the event would send SIGIO, which kills.
    if (fcntl(fd, F_SETSIG, c->signal) || fcntl(fd, F_SETOWN_EX, &owner) ||
        fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK | O_ASYNC))
        return -errno;
    if (c->hz && ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))
        return -errno;
    return 0;
}

static int refuse(const struct perf_clocks *c, pid_t tid, int rc, struct fscope_error *err)
{
    char why[320];
    pid_t target = c->pid > 0 ? c->pid : tid;
    perf_event_explain(perf_event_classify(-rc, target), -rc, target, why, sizeof why);
    return error_set(err, rc, 0, "CPU clock of thread %d: %s", (int)tid, why);
}

static void drop(struct perf_clocks *c, size_t at)
{
    close_thread(c, &c->threads[at]);
    memmove(&c->threads[at], &c->threads[at + 1], (c->count - at - 1) * sizeof *c->threads);
    c->count--;
}

// Whether the thread that the event was opened on has ended, or left its image by exec.
static bool is_over(int fd)
{
    struct pollfd p = {.fd = fd};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLHUP);
}

int perf_clocks_add(struct perf_clocks *c, pid_t tid, struct fscope_error *err)
{
    size_t at = position(c, tid);
    if (at < c->count && c->threads[at].tid == tid) {
        if (!is_over(c->threads[at].fd))
            return 0;
        drop(c, at); // an earlier thread of this number
    }
    if (c->count == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 64;
        struct clock_thread *grown = reallocarray(c->threads, capacity, sizeof *grown);
        if (!grown)
            return error_set(err, -ENOMEM, 0, "CPU clock of thread %d: out of memory", (int)tid);
        c->threads = grown;
        c->capacity = capacity;
    }
    int fd = open_allowed(c, tid);
    if (fd < 0)
        return refuse(c, tid, fd, err);
    int rc = aim(c, fd, tid);
    if (rc) {
        close(fd);
        return refuse(c, tid, rc, err);
    }
    memmove(&c->threads[at + 1], &c->threads[at], (c->count - at) * sizeof *c->threads);
    c->threads[at] = (struct clock_thread){.tid = tid, .fd = fd};
    c->count++;
    return 0;
}

void perf_clocks_remove(struct perf_clocks *c, pid_t tid)
{
    size_t at = position(c, tid);
    if (at < c->count && c->threads[at].tid == tid)
        drop(c, at);
}

int perf_clocks_sync(struct perf_clocks *c, struct fscope_error *err)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)c->pid);
    DIR *d = opendir(path);
    if (!d)
        return refuse(c, c->pid, errno == ENOENT ? -ESRCH : -errno, err);
    for (size_t i = 0; i < c->count; i++)
        c->threads[i].seen = false;
    int rc = 0;
    for (struct dirent *e; (e = readdir(d));) {
        pid_t tid = atoi(e->d_name);
        if (tid <= 0)
            continue;
        // A thread that has a clock is left alone even when its event is over: after an exec there
        // may be no handler yet.
        size_t at = position(c, tid);
        if (at == c->count || c->threads[at].tid != tid) {
            int added = perf_clocks_add(c, tid, rc ? NULL : err);
            if (added && added != -ESRCH && !rc) // one that has ended meanwhile is no failure
                rc = added;
            at = position(c, tid);
        }
        if (at < c->count && c->threads[at].tid == tid)
            c->threads[at].seen = true;
    }
    closedir(d);
    for (size_t i = c->count; i-- > 0;)
        if (!c->threads[i].seen)
            drop(c, i);
    return rc && c->count == 0 ? rc : (int)c->count;
}

int perf_clocks_set_rate(struct perf_clocks *c, uint32_t hz)
{
    int rc = 0;
    uint64_t period = hz ? 1000000000u / hz : 0;
    for (size_t i = 0; i < c->count; i++) {
        int fd = c->threads[i].fd;
        if (!hz) {
            if (ioctl(fd, PERF_EVENT_IOC_DISABLE, 0))
                rc = -errno;
        } else if (ioctl(fd, PERF_EVENT_IOC_PERIOD, &period) ||
                   (!c->hz && ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))) {
            rc = -errno;
        }
    }
    c->hz = hz;
    return rc;
}

bool perf_clocks_kernel(const struct perf_clocks *c, char *why_not, size_t size)
{
    if (!c->kernel && why_not && size)
        perf_event_explain(perf_event_classify(c->kernel_error, 0), c->kernel_error, c->pid,
                           why_not, size);
    return c->kernel;
}

uint64_t perf_clocks_cpu_ns(struct perf_clocks *c)
{
    uint64_t ns = c->cpu_ns;
    for (size_t i = 0; i < c->count; i++)
        ns += event_ns(c->threads[i].fd);
    return ns;
}

size_t perf_clocks_count(const struct perf_clocks *c)
{
    return c->count;
}
