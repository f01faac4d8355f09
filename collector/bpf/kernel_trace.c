// SPDX-License-Identifier: MIT
//
// See kernel_trace.h. Here: loading, who is watched as it begins, the thread that takes the records, and losses.
//
// Losses: a CPU that finds no room says so in kernel_cpu before anything else happens on it. We look there first and
// take records up to a moment before that look, so that what is taken has no hole; what came after the first loss is
// given up until all CPUs are found without one.

#include "collector/bpf/kernel_trace.h"
#include "collector/bpf/features.h"
#include "collector/bpf/messages.h"
#include "collector/bpf/privileges.h"

#include "collector/bpf/kernel.skel.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 10, RING_BYTES = 32 << 20, NICE = -15 };
enum { CUT_TURNS = 100, RING_HEADER_BYTES = 8 };
#define BEHIND_NS                                                                                  \
    UINT64_C(100000000) // records are ordered, names come, losses show within this time

struct kernel_trace {
    struct kernel_trace_options o;
    struct kernel_bpf *bpf;
    struct ring_buffer *ring;
    struct kernel_cpu *cpus; // mapped
    size_t cpus_bytes;
    uint32_t cpu_count;
    int *fault_fds; // [2 * cpu_count]
    struct bpf_link **fault_links;
    struct kernel_build *build;
    char lacks[128];
    pthread_t thread;
    bool is_running;
    atomic_bool is_over;
    uint64_t end_ns;
    uint64_t lost_seen; // records, of those that were told
    // Records of one call of ring_buffer__consume; no more than fit into the ring: what was in it before is taken.
    uint64_t taken, taken_max;
    bool is_cutting;
    uint64_t cut_ns, dropped_ns; // what came from then on is given up, and came up to then
    uint64_t told_ns;            // behind the last that was cut
    int rc;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// --- Who is there.

// /proc/PID/task/TID/stat: state and CPU.
static bool read_stat(pid_t pid, uint32_t tid, struct kernel_build_thread *t)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/task/%u/stat", pid, tid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0;
    if (f)
        fclose(f);
    line[n] = 0;
    char *open = strchr(line, '('), *close = strrchr(line, ')');
    if (!open || !close || close <= open || close[1] != ' ')
        return false;
    *t = (struct kernel_build_thread){.tid = tid, .pid = (uint32_t)pid, .state = close[2]};
    size_t length = (size_t)(close - open - 1);
    memcpy(t->name, open + 1, length < sizeof t->name ? length : sizeof t->name);
    char *at = close + 2, *rest = NULL;
    int field = 3;
    for (char *word = strtok_r(at, " ", &rest); word; word = strtok_r(NULL, " ", &rest), field++)
        if (field == 39)
            t->cpu = (uint32_t)strtoul(word, NULL, 10);
    return true;
}

struct processes { // to be looked at
    uint32_t pids[KERNEL_PROCESSES_MAX];
    uint32_t count;
};

static void find_children(struct processes *p, uint32_t pid, uint32_t tid)
{
    char path[64];
    unsigned child;
    snprintf(path, sizeof path, "/proc/%u/task/%u/children", pid, tid);
    FILE *f = fopen(path, "re");
    while (f && fscanf(f, "%u", &child) == 1) {
        if (p->count < KERNEL_PROCESSES_MAX)
            p->pids[p->count] = child;
        p->count++;
    }
    if (f)
        fclose(f);
}

// children: where to put its children; NULL: they are no matter.
static int add_process(struct kernel_trace *t, uint32_t pid, struct processes *children)
{
    char path[64];
    uint32_t one = 1;
    int rc =
        bpf_map__update_elem(t->bpf->maps.targets, &pid, sizeof pid, &one, sizeof one, BPF_ANY);
    snprintf(path, sizeof path, "/proc/%u/task", pid);
    DIR *d = opendir(path);
    struct dirent *e;
    while (!rc && d && (e = readdir(d))) {
        struct kernel_build_thread thread;
        uint32_t tid = (uint32_t)strtoul(e->d_name, NULL, 10);
        if (tid && read_stat((pid_t)pid, tid, &thread) && thread.state != 'Z' &&
            thread.state != 'X')
            rc = kernel_build_add(t->build, &thread);
        if (tid && !rc && children)
            find_children(children, pid, tid);
    }
    if (d)
        closedir(d);
    return rc;
}

// The first one and those below it. -E2BIG: there are more than can be watched.
static int add_tree(struct kernel_trace *t)
{
    struct processes *p = malloc(sizeof *p);
    if (!p)
        return -ENOMEM;
    p->pids[0] = (uint32_t)t->o.pid;
    p->count = 1;
    int rc = 0;
    for (uint32_t i = 0; !rc && i < p->count; i++)
        rc = i < KERNEL_PROCESSES_MAX ? add_process(t, p->pids[i], t->o.no_inherit ? NULL : p)
                                      : -E2BIG;
    free(p);
    return rc;
}

// Those of the processes that are watched.
static int add_all(struct kernel_trace *t)
{
    struct processes *p = malloc(sizeof *p);
    int fd = bpf_map__fd(t->bpf->maps.targets), rc = 0;
    if (!p)
        return -ENOMEM;
    p->count = 0;
    for (uint32_t *before = NULL; p->count < KERNEL_PROCESSES_MAX; before = &p->pids[p->count++])
        if (bpf_map_get_next_key(fd, before, &p->pids[p->count]))
            break;
    for (uint32_t i = 0; !rc && i < p->count; i++)
        rc = add_process(t, p->pids[i], NULL);
    free(p);
    return rc;
}

// --- Records.

static int take(void *arg, void *data, size_t size)
{
    struct kernel_trace *t = arg;
    struct kernel_record r;
    int rc = 0;
    if (!kernel_build_record(&r, data, size))
        return 0;
    if (!t->is_cutting || r.time_ns < t->cut_ns)
        rc = kernel_build_push(t->build, &r);
    else if (r.time_ns > t->dropped_ns)
        t->dropped_ns = r.time_ns;
    return rc || ++t->taken < t->taken_max ? rc : -EAGAIN; // the ring is behind this record then
}

struct losses {
    uint64_t count, first_ns, last_ns;
};

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE); // written by BPF programs
}

static uint64_t count_losses(const struct kernel_trace *t)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < t->cpu_count; i++)
        count += load(&t->cpus[i].lost_ring) + load(&t->cpus[i].lost_threads);
    return count;
}

// Takes the times of the first, so that one from now on is a first one again: each CPU has its times before its count.
static struct losses look(struct kernel_trace *t)
{
    struct losses l = {.first_ns = UINT64_MAX, .count = count_losses(t)};
    for (uint32_t i = 0; i < t->cpu_count; i++) {
        uint64_t first = __atomic_exchange_n(&t->cpus[i].first_lost_ns, 0, __ATOMIC_ACQ_REL);
        uint64_t last = load(&t->cpus[i].last_lost_ns);
        if (first && first < l.first_ns)
            l.first_ns = first;
        if (last > l.last_ns)
            l.last_ns = last;
    }
    return l;
}

// Takes what is in the ring. What comes meanwhile may keep it full for as long as it lasts: it waits for the next turn.
static int consume(struct kernel_trace *t)
{
    t->taken = 0;
    int rc = ring_buffer__consume(t->ring);
    return rc == -EAGAIN ? 0 : rc;
}

// What came before the first loss is written, and it goes on behind the last.
static int cut(struct kernel_trace *t)
{
    struct losses now;
    int rc, turns = 0;
    t->is_cutting = true;
    t->cut_ns = UINT64_MAX;
    t->dropped_ns = 0;
    do { // until the ring is empty and none was lost meanwhile
        now = look(t);
        if (now.first_ns < t->cut_ns)
            t->cut_ns = now.first_ns;
        rc = consume(t);
    } while (rc >= 0 && count_losses(t) != now.count && ++turns < CUT_TURNS &&
             !atomic_load(&t->is_over));
    t->is_cutting = false;
    uint64_t to_ns = now.last_ns > t->dropped_ns ? now.last_ns : t->dropped_ns;
    to_ns = to_ns > t->told_ns ? to_ns : t->told_ns;
    if (t->cut_ns ==
        UINT64_MAX) // the loss was within the last cut already, and its count came later
        t->cut_ns = t->told_ns;
    if (rc >= 0)
        rc = kernel_build_cut(t->build, t->cut_ns, to_ns, now.count - t->lost_seen);
    t->lost_seen = now.count;
    t->told_ns = to_ns;
    return rc < 0 ? rc : add_all(t);
}

static int turn(struct kernel_trace *t)
{
    uint64_t now = now_ns();
    int rc = consume(t);
    if (rc >= 0 && count_losses(t) != t->lost_seen)
        return cut(t);
    return rc < 0 ? rc : kernel_build_flush(t->build, now - BEHIND_NS);
}

static void *serve(void *arg)
{
    struct kernel_trace *t = arg;
    const struct timespec tick = {0, TICK_MS * 1000000};
    struct fscope_error ignored;
    // What is watched may keep all CPUs busy, and the ring full; without the right to it we try as we are.
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    int rc = privileges_drop(t->o.may_write, t->o.arg, 0, &ignored);
    while (!atomic_load(&t->is_over)) {
        int turn_rc = turn(t);
        rc = rc ? rc : turn_rc;
        nanosleep(&tick, NULL);
    }
    int end_rc = turn(t); // what is left in the ring
    if (!end_rc)
        end_rc = kernel_build_finish(t->build, t->end_ns);
    t->rc = rc ? rc : end_rc;
    return NULL;
}

// --- Beginning and end.

static int refuse(struct fscope_error *err, int rc)
{
    const char *reason = bpf_messages_reason();
    if (rc == -E2BIG)
        return error_set(err, rc, 0, "--kernel: more than %d processes", KERNEL_PROCESSES_MAX);
    return error_set(err, -ENOTSUP, 0, "--kernel: this kernel does not load it: %s%s%.200s",
                     strerror(-rc), reason[0] ? ": " : "", reason);
}

// A page fault is over when its software event comes: one on each CPU for minor, one for major ones.
static int watch_faults(struct kernel_trace *t, uint32_t cpu, bool is_major)
{
    struct perf_event_attr a = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof a,
        .config = is_major ? PERF_COUNT_SW_PAGE_FAULTS_MAJ : PERF_COUNT_SW_PAGE_FAULTS_MIN,
        .sample_period = 1,
    };
    struct bpf_program *p =
        is_major ? t->bpf->progs.kernel_fault_major : t->bpf->progs.kernel_fault_minor;
    int fd = (int)syscall(SYS_perf_event_open, &a, -1, (int)cpu, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        return errno == ENODEV ? 0 : -errno;                       // the CPU is off
    struct bpf_link *link = bpf_program__attach_perf_event(p, fd); // has fd from then on
    if (!link) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    t->fault_links[2 * cpu + is_major] = link;
    return 0;
}

// What only some kernels tell.
static void choose_programs(struct kernel_trace *t)
{
    const struct {
        struct bpf_program *program;
        const char *tracepoint, *what;
    } optional[] = {
        {t->bpf->progs.kernel_disk, "block_rq_complete", "disks"},
        {t->bpf->progs.kernel_network, "sk_data_ready", "sockets"},
    };
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++) {
        size_t n = strlen(t->lacks);
        if (libbpf_find_vmlinux_btf_id(optional[i].tracepoint, BPF_TRACE_RAW_TP) > 0)
            continue;
        bpf_program__set_autoload(optional[i].program, false);
        snprintf(t->lacks + n, sizeof t->lacks - n, "%s%s (tracepoint %s)", n ? ", " : "",
                 optional[i].what, optional[i].tracepoint);
    }
}

static int load_programs(struct kernel_trace *t)
{
    uint64_t ring_bytes = t->o.ring_bytes ? t->o.ring_bytes : RING_BYTES;
    t->cpu_count = (uint32_t)libbpf_num_possible_cpus();
    t->bpf = kernel_bpf__open();
    t->fault_links = calloc(2 * t->cpu_count, sizeof *t->fault_links);
    if (!t->bpf || !t->fault_links)
        return -ENOMEM;
    t->taken_max = ring_bytes / (KERNEL_RECORD_BYTES_UNNAMED + RING_HEADER_BYTES) + 1;
    t->bpf->rodata->inherit = !t->o.no_inherit;
    choose_programs(t);
    bpf_map__set_max_entries(t->bpf->maps.ring, (uint32_t)ring_bytes);
    bpf_map__set_max_entries(t->bpf->maps.cpus, t->cpu_count);
    int rc = kernel_bpf__load(t->bpf);
    if (rc)
        return rc;
    long page = sysconf(_SC_PAGESIZE);
    t->cpus_bytes = ((sizeof *t->cpus + 7) / 8 * 8 * t->cpu_count + (size_t)page - 1) /
                    (size_t)page * (size_t)page;
    t->cpus = mmap(NULL, t->cpus_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                   bpf_map__fd(t->bpf->maps.cpus), 0);
    if (t->cpus == MAP_FAILED) {
        t->cpus = NULL;
        return -errno;
    }
    t->ring = ring_buffer__new(bpf_map__fd(t->bpf->maps.ring), take, t, NULL);
    return t->ring ? 0 : -errno;
}

// From the moment that it is a target on its records come; what it is at the beginning is read after that.
static int attach(struct kernel_trace *t)
{
    int rc = kernel_bpf__attach(t->bpf);
    for (uint32_t cpu = 0; !rc && cpu < t->cpu_count; cpu++) {
        rc = watch_faults(t, cpu, false);
        if (!rc)
            rc = watch_faults(t, cpu, true);
    }
    if (!rc)
        rc = add_tree(t);
    return rc;
}

static int start_thread(struct kernel_trace *t)
{
    sigset_t all, users;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &users);
    int rc = pthread_create(&t->thread, NULL, serve, t);
    pthread_sigmask(SIG_SETMASK, &users, NULL);
    t->is_running = !rc;
    return -rc;
}

int kernel_trace_start(struct kernel_trace **out, const struct kernel_trace_options *o,
                       struct fscope_error *err)
{
    struct fscope_error cause;
    *out = NULL;
    int may = bpf_features_check(
        &cause); // in a pid namespace of its own it would watch others than those meant
    if (may)
        return error_set(err, may, 0, "--kernel: %s", cause.text);
    struct kernel_trace *t = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, -ENOMEM, 0, "out of memory");
    memcpy(&t->o, o, o->size < sizeof t->o ? o->size : sizeof t->o);
    bpf_messages_begin();
    int rc = load_programs(t);
    const struct kernel_build_options bo = {.size = sizeof bo,
                                            .version = t->o.version,
                                            .cpu_count = t->cpu_count,
                                            .open_file = t->o.open_file,
                                            .close_file = t->o.close_file,
                                            .arg = t->o.arg};
    if (!rc)
        rc = kernel_build_new(&t->build, &bo);
    if (!rc)
        rc = attach(t);
    if (!rc)
        rc = start_thread(t);
    bpf_messages_end();
    if (rc) {
        kernel_trace_free(t);
        return refuse(err, rc);
    }
    *out = t;
    return 0;
}

const char *kernel_trace_lacks(const struct kernel_trace *t)
{
    return t->lacks;
}

int kernel_trace_stop(struct kernel_trace *t)
{
    if (!t->is_running)
        return t->rc;
    t->is_running = false;
    t->end_ns = now_ns();
    kernel_bpf__detach(t->bpf);
    atomic_store(&t->is_over, true);
    pthread_join(t->thread, NULL);
    return t->rc;
}

void kernel_trace_free(struct kernel_trace *t)
{
    if (!t)
        return;
    kernel_trace_stop(t);
    for (uint32_t i = 0; t->fault_links && i < 2 * t->cpu_count; i++)
        bpf_link__destroy(t->fault_links[i]);
    if (t->cpus)
        munmap(t->cpus, t->cpus_bytes);
    ring_buffer__free(t->ring);
    kernel_build_free(t->build);
    kernel_bpf__destroy(t->bpf);
    free(t->fault_links);
    free(t);
}
