// SPDX-License-Identifier: MIT
//
// Events on all threads of processes, and their rings: see perf_watch.h.

#include "collector/perf_watch.h"

#include "collector/perf_event.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { STACK_BYTES_MIN = 8192 }; // unless asked for
enum { CPUS_MAX = 4096, DESCRIPTORS_WANTED = 1 << 20, SCANS_MAX = 64 };
#define RING_BYTES_MAX   (UINT64_C(8) << 20)  // per CPU
#define RING_BYTES_TOTAL (UINT64_C(64) << 20) // of all CPUs, unless asked for
#define RING_BYTES_MIN   (UINT64_C(64) << 10)

struct watched_thread {
    pid_t tid;
    bool is_suspect; // may have inherited events too
    bool is_double;  // has; its own are closed
    int *fds;        // [cpu_count]
};

struct thread_set {
    struct watched_thread *threads; // in order of discovery
    size_t count, capacity;
    uint32_t *slots; // tid -> index + 1, open addressing
    size_t slot_count;
};

struct perf_watch {
    struct perf_watch_options o;
    struct perf_event_attr attr;
    bool kernel;
    int kernel_error;
    int *cpus; // numbers of the online ones
    size_t cpu_count;
    int *holders; // [cpu_count]
    struct perf_ring *rings;
    struct pollfd *polls; // [cpu_count + 1]
    struct thread_set set;
    uint64_t cpu_ns; // of closed events
};

// --- The rings.

static int list_cpus(struct perf_watch *w)
{
    FILE *f = fopen("/sys/devices/system/cpu/online", "re");
    w->cpus = calloc(CPUS_MAX, sizeof *w->cpus);
    if (!w->cpus) {
        if (f)
            fclose(f);
        return -ENOMEM;
    }
    int first, last;
    while (f && fscanf(f, "%d", &first) == 1) {
        last = first;
        int c = fgetc(f);
        if (c == '-' && fscanf(f, "%d", &last) == 1)
            c = fgetc(f);
        for (int cpu = first; cpu <= last && w->cpu_count < CPUS_MAX; cpu++)
            w->cpus[w->cpu_count++] = cpu;
        if (c != ',')
            break;
    }
    if (f)
        fclose(f);
    for (int cpu = 0; w->cpu_count == 0 && cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++)
        w->cpus[w->cpu_count++] = cpu; // no /sys here
    return w->cpu_count ? 0 : -ENODEV;
}

// An event on ourselves that never counts and holds the ring of one CPU.
static int open_holder(const struct perf_watch *w, int cpu, uint64_t ring_bytes)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof attr,
        .config = PERF_COUNT_SW_DUMMY,
        .disabled = 1,
        .exclude_kernel = 1,
        .exclude_hv = 1,
        .comm = 1, // for perf_watch_flush_losses
        .watermark = 1,
        .wakeup_watermark = (uint32_t)(ring_bytes / 2),
    };
    perf_format_fill(&attr, false, 0);
    attr.sample_type = w->attr.sample_type & ~(uint64_t)PERF_SAMPLE_CALLCHAIN;
    perf_format_no_copies(&attr);
    return perf_event_open_raw(&attr, 0, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static void close_rings(struct perf_watch *w)
{
    for (size_t i = 0; i < w->cpu_count; i++) {
        perf_ring_close(&w->rings[i]);
        if (w->holders[i] >= 0)
            close(w->holders[i]);
        w->holders[i] = -1;
    }
}

static int open_rings(struct perf_watch *w, uint64_t ring_bytes)
{
    int rc = 0;
    for (size_t i = 0; i < w->cpu_count && !rc; i++) {
        int fd = open_holder(w, w->cpus[i], ring_bytes);
        if (fd < 0) {
            rc = fd;
            break;
        }
        w->holders[i] = fd;
        rc = perf_ring_open(&w->rings[i], fd, ring_bytes);
        w->polls[i] = (struct pollfd){.fd = fd, .events = POLLIN};
        if (rc == -EPERM)
            rc = -ENOMEM; // over perf_event_mlock_kb, not a filter
    }
    if (rc)
        close_rings(w);
    return rc;
}

// The largest rings that the locked-memory limits allow.
static int open_rings_allowed(struct perf_watch *w)
{
    uint64_t bytes = RING_BYTES_MAX;
    if (w->o.ring_bytes)
        return open_rings(w, w->o.ring_bytes);
    while (bytes > RING_BYTES_MIN && bytes * w->cpu_count > RING_BYTES_TOTAL)
        bytes /= 2;
    int rc;
    while ((rc = open_rings(w, bytes)) == -ENOMEM && bytes > RING_BYTES_MIN)
        bytes /= 2;
    w->o.ring_bytes = bytes;
    return rc;
}

static int refuse(int rc, pid_t pid, struct fscope_error *err)
{
    char why[320];
    perf_event_explain(perf_event_classify(-rc, pid), -rc, pid, why, sizeof why);
    return error_set(err, rc, 0, "%s", why);
}

// See perf_watch_options.stack_bytes.
static uint32_t stack_for_ring(const struct perf_watch *w)
{
    uint64_t samples = w->o.hz / 10 + 1, bytes = w->o.ring_bytes / samples;
    if (bytes > PERF_STACK_MAX)
        bytes = PERF_STACK_MAX;
    if (bytes < STACK_BYTES_MIN)
        bytes = STACK_BYTES_MIN;
    return (uint32_t)bytes & ~7u;
}

static void fill_attr(struct perf_watch *w, uint32_t stack_bytes)
{
    perf_format_processes(&w->attr, PERF_COUNT_SW_TASK_CLOCK, w->o.ring_bytes);
    w->attr.sample_period = 1000000000u / w->o.hz;
    w->attr.disabled = 1;
    w->attr.inherit = 1;
    w->attr.inherit_thread = !w->o.inherit;
    w->attr.exclude_kernel = !w->kernel;
    w->attr.enable_on_exec = w->o.on_exec;
    perf_format_fill(&w->attr, w->kernel, stack_bytes);
}

int perf_watch_new(struct perf_watch **out, const struct perf_watch_options *opts,
                   struct fscope_error *err)
{
    struct perf_watch *w = calloc(1, sizeof *w);
    if (!w)
        return error_set(err, -ENOMEM, 0, "out of memory");
    w->o = *opts;
    w->kernel = true;
    int rc = list_cpus(w);
    if (rc)
        goto fail;
    rc = -ENOMEM;
    w->holders = malloc(w->cpu_count * sizeof *w->holders);
    w->rings = calloc(w->cpu_count, sizeof *w->rings);
    w->polls = calloc(w->cpu_count + 1, sizeof *w->polls);
    if (!w->holders || !w->rings || !w->polls)
        goto fail;
    memset(w->holders, -1, w->cpu_count * sizeof *w->holders);
    perf_raise_descriptor_limit(DESCRIPTORS_WANTED);
    fill_attr(w, opts->stack_bytes);
    rc = open_rings_allowed(w);
    if (rc)
        goto fail;
    // The rings' size is known now.
    fill_attr(w, opts->stack_bytes ? opts->stack_bytes : stack_for_ring(w));
    *out = w;
    return 0;

fail:
    refuse(rc, 0, err);
    perf_watch_free(w);
    return rc;
}

// --- Threads.

static size_t slot_of(const struct thread_set *s, pid_t tid)
{
    size_t at = ((uint32_t)tid * 2654435761u) & (s->slot_count - 1);
    while (s->slots[at] && s->threads[s->slots[at] - 1].tid != tid)
        at = (at + 1) & (s->slot_count - 1);
    return at;
}

static struct watched_thread *find_thread(const struct thread_set *s, pid_t tid)
{
    if (!s->slot_count)
        return NULL;
    uint32_t index = s->slots[slot_of(s, tid)];
    return index ? &s->threads[index - 1] : NULL;
}

static int reserve_thread(struct thread_set *s)
{
    if (s->count < s->capacity)
        return 0;
    size_t capacity = s->capacity ? 2 * s->capacity : 64;
    struct watched_thread *grown = reallocarray(s->threads, capacity, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    s->threads = grown;
    uint32_t *slots = calloc(2 * capacity, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    free(s->slots);
    s->slots = slots;
    s->slot_count = 2 * capacity;
    s->capacity = capacity;
    for (size_t i = 0; i < s->count; i++)
        s->slots[slot_of(s, s->threads[i].tid)] = (uint32_t)i + 1;
    return 0;
}

static uint64_t count_of(int fd)
{
    uint64_t ns;
    return read(fd, &ns, sizeof ns) == (ssize_t)sizeof ns ? ns : 0;
}

static void close_thread(struct perf_watch *w, struct watched_thread *t)
{
    for (size_t i = 0; t->fds && i < w->cpu_count; i++) {
        if (t->fds[i] < 0)
            continue;
        ioctl(t->fds[i], PERF_EVENT_IOC_DISABLE, 0);
        if (!t->is_double) // what it counted is in the inherited events as well
            w->cpu_ns += count_of(t->fds[i]);
        close(t->fds[i]);
    }
    free(t->fds);
    t->fds = NULL;
}

static void free_set(struct perf_watch *w, struct thread_set *s)
{
    for (size_t i = 0; i < s->count; i++)
        close_thread(w, &s->threads[i]);
    free(s->threads);
    free(s->slots);
    *s = (struct thread_set){0};
}

void perf_watch_free(struct perf_watch *w)
{
    if (!w)
        return;
    free_set(w, &w->set);
    if (w->holders && w->rings)
        close_rings(w);
    free(w->cpus);
    free(w->holders);
    free(w->rings);
    free(w->polls);
    free(w);
}

// An event on one thread and CPU; falls back where the kernel is older or forbids kernel time.
static int open_event(struct perf_watch *w, pid_t tid, int cpu)
{
    int fd = perf_event_open_raw(&w->attr, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    if ((fd == -EINVAL || fd == -E2BIG) && w->attr.build_id) {
        w->attr.build_id = 0; // Linux 5.12
        fd = perf_event_open_raw(&w->attr, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    }
    if ((fd == -EACCES || fd == -EPERM) && w->kernel && w->set.count == 0) {
        struct perf_event_attr with_kernel = w->attr;
        uint32_t build_id = w->attr.build_id;
        w->kernel = false;
        fill_attr(w, w->attr.sample_stack_user);
        w->attr.build_id = build_id & 1;
        int error = -fd;
        fd = perf_event_open_raw(&w->attr, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
        if (fd < 0) {
            w->kernel = true;
            w->attr = with_kernel;
        } else {
            w->kernel_error = error;
        }
    }
    return fd;
}

// Opens the events of one thread; nothing is left open on failure.
static int open_thread(struct perf_watch *w, struct watched_thread *t)
{
    int rc = 0;
    t->fds = malloc(w->cpu_count * sizeof *t->fds);
    if (!t->fds)
        return -ENOMEM;
    memset(t->fds, -1, w->cpu_count * sizeof *t->fds);
    for (size_t i = 0; i < w->cpu_count && !rc; i++) {
        int fd = open_event(w, t->tid, w->cpus[i]);
        if (fd == -ENODEV)
            continue; // that CPU went offline meanwhile
        if (fd < 0)
            rc = fd;
        else if (ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, w->holders[i]))
            rc = -errno;
        t->fds[i] = fd < 0 ? -1 : fd;
    }
    if (rc) {
        t->is_double = true; // has counted nothing
        close_thread(w, t);
    }
    return rc;
}

// One pass over the threads: how many new ones, or -errno.
static int scan(struct perf_watch *w, struct thread_set *s, pid_t pid, bool is_first)
{
    char path[64];
    int found = 0, rc = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    if (!d)
        return errno == ENOENT ? -ESRCH : -errno;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        struct watched_thread t = {.tid = atoi(e->d_name), .is_suspect = !is_first};
        if (t.tid <= 0 || find_thread(s, t.tid))
            continue;
        rc = reserve_thread(s);
        if (!rc)
            rc = open_thread(w, &t);
        if (rc == -ESRCH) {
            rc = 0; // it has ended meanwhile
            continue;
        }
        if (rc)
            break;
        s->slots[slot_of(s, t.tid)] = (uint32_t)s->count + 1; // free: tid is not there
        s->threads[s->count++] = t;
        found++;
    }
    closedir(d);
    return rc ? rc : found;
}

// Passes until nothing new turns up: a thread may start others while we look.
static int add_process(struct perf_watch *w, struct thread_set *s, pid_t pid)
{
    size_t before = s->count;
    for (int pass = 0; pass < SCANS_MAX; pass++) {
        int found = scan(w, s, pid, pass == 0 && before == 0);
        if (found < 0)
            return found;
        if (found == 0)
            break;
    }
    return s->count > before ? 0 : -ESRCH;
}

int perf_watch_add(struct perf_watch *w, pid_t pid, struct fscope_error *err)
{
    int rc = add_process(w, &w->set, pid);
    return rc ? refuse(rc, pid, err) : 0;
}

static void control(struct perf_watch *w, const struct thread_set *s, unsigned long request)
{
    for (size_t i = 0; i < s->count; i++)
        for (size_t k = 0; s->threads[i].fds && k < w->cpu_count; k++)
            if (s->threads[i].fds[k] >= 0)
                ioctl(s->threads[i].fds[k], request, 0);
}

void perf_watch_start(struct perf_watch *w)
{
    if (!w->o.on_exec)
        control(w, &w->set, PERF_EVENT_IOC_ENABLE);
}

void perf_watch_stop(struct perf_watch *w)
{
    control(w, &w->set, PERF_EVENT_IOC_DISABLE);
}

int perf_watch_grow(struct perf_watch *w, uint32_t stack_bytes, const pid_t *pids, size_t count)
{
    struct thread_set grown = {0};
    struct perf_event_attr before = w->attr;
    int rc = 0;
    w->attr.sample_stack_user = stack_bytes;
    w->attr.enable_on_exec = 0; // that exec is over
    for (size_t i = 0; i < count && !rc; i++) {
        rc = add_process(w, &grown, pids[i]);
        if (rc == -ESRCH)
            rc = 0;
    }
    if (rc || !grown.count) {
        w->attr = before;
        struct thread_set none = grown;
        for (size_t i = 0; i < none.count; i++)
            none.threads[i].is_double = true;
        free_set(w, &none);
        return rc ? rc : -ESRCH;
    }
    // Old ones off before new ones on: nothing is counted twice.
    control(w, &w->set, PERF_EVENT_IOC_DISABLE);
    control(w, &grown, PERF_EVENT_IOC_ENABLE);
    free_set(w, &w->set);
    w->set = grown;
    return 0;
}

bool perf_watch_sees(struct perf_watch *w, const struct perf_record *r)
{
    struct watched_thread *t = find_thread(&w->set, (pid_t)r->tid);
    if (!t || !t->is_suspect || t->is_double)
        return true;
    for (size_t i = 0; i < w->cpu_count; i++) {
        uint64_t id = 0;
        if (t->fds[i] >= 0 && ioctl(t->fds[i], PERF_EVENT_IOC_ID, &id) == 0 && id == r->id)
            return true;
    }
    // An inherited event of another thread writes samples of this one: its own are too many.
    t->is_double = true;
    close_thread(w, t);
    return false;
}

uint32_t perf_watch_stack_bytes(const struct perf_watch *w)
{
    return w->attr.sample_stack_user;
}

uint64_t perf_watch_ring_bytes(const struct perf_watch *w)
{
    return w->o.ring_bytes;
}

// --- Reading.

int perf_watch_wait(struct perf_watch *w, int extra_fd, int timeout_ms)
{
    struct pollfd *extra = &w->polls[w->cpu_count];
    *extra = (struct pollfd){.fd = extra_fd, .events = POLLIN};
    int n = poll(w->polls, w->cpu_count + 1, timeout_ms);
    if (n < 0)
        return -errno;
    return extra->revents != 0;
}

int64_t perf_watch_drain(struct perf_watch *w, uint64_t horizon_ns, perf_record_fn *fn, void *arg)
{
    return perf_rings_drain(w->rings, w->cpu_count, &w->attr, horizon_ns, fn, arg);
}

void perf_watch_flush_losses(struct perf_watch *w)
{
    // A loss is told when the next record finds room. Naming our own thread writes one into the ring
    // of the CPU that we run on.
    cpu_set_t *before = CPU_ALLOC(CPUS_MAX), *one = CPU_ALLOC(CPUS_MAX);
    size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
    char name[16];
    if (before && one && sched_getaffinity(0, size, before) == 0 && prctl(PR_GET_NAME, name) == 0) {
        for (size_t i = 0; i < w->cpu_count; i++) {
            CPU_ZERO_S(size, one);
            CPU_SET_S((size_t)w->cpus[i], size, one);
            if (sched_setaffinity(0, size, one))
                continue; // not ours to use: its losses stay untold
            ioctl(w->holders[i], PERF_EVENT_IOC_ENABLE, 0);
            prctl(PR_SET_NAME, name);
            ioctl(w->holders[i], PERF_EVENT_IOC_DISABLE, 0);
        }
        sched_setaffinity(0, size, before);
    }
    CPU_FREE(before);
    CPU_FREE(one);
}

bool perf_watch_kernel(const struct perf_watch *w, char *why_not, size_t size)
{
    if (!w->kernel && why_not && size)
        perf_event_explain(perf_event_classify(w->kernel_error, 0), w->kernel_error, 0, why_not,
                           size);
    return w->kernel;
}

uint64_t perf_watch_cpu_ns(struct perf_watch *w)
{
    uint64_t ns = w->cpu_ns;
    for (size_t i = 0; i < w->set.count; i++)
        for (size_t k = 0; w->set.threads[i].fds && k < w->cpu_count; k++)
            if (w->set.threads[i].fds[k] >= 0)
                ns += count_of(w->set.threads[i].fds[k]);
    return ns;
}

uint64_t perf_watch_damaged(const struct perf_watch *w)
{
    uint64_t n = 0;
    for (size_t i = 0; i < w->cpu_count; i++)
        n += w->rings[i].damaged;
    return n;
}
