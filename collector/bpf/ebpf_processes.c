// SPDX-License-Identifier: MIT
//
// Who is watched: what the sideband and the BPF programs say of processes, and when their code is told to the programs
// again. See ebpf_internal.h.
//
// Told of are: what is recorded by name, and its children, as soon as they are seen; of all others those alone that were
// sampled. A process that was told of is told of again when its mappings change.

#include "collector/bpf/ebpf_internal.h"

#include "collector/perf_target.h"
#include "runtime/descriptor.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

// --- The table.

struct ebpf_process *ebpf_process(struct ebpf *e, uint32_t pid)
{
    struct ebpf_process *p = e->known[pid % EBPF_BUCKETS];
    while (p && p->pid != pid)
        p = p->next;
    return p;
}

struct ebpf_process *ebpf_process_put(struct ebpf *e, uint32_t pid)
{
    struct ebpf_process *p = ebpf_process(e, pid);
    if (p)
        return p;
    p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->pid = pid;
    p->next = e->known[pid % EBPF_BUCKETS];
    e->known[pid % EBPF_BUCKETS] = p;
    return p;
}

void ebpf_process_drop(struct ebpf *e, uint32_t pid)
{
    struct ebpf_process **at = &e->known[pid % EBPF_BUCKETS];
    while (*at && (*at)->pid != pid)
        at = &(*at)->next;
    struct ebpf_process *p = *at;
    if (!p)
        return;
    *at = p->next;
    e->ended_rounds = 2;
    e->ended_cpu_ns += p->has_cpu ? p->cpu_ns - p->cpu_first_ns : 0;
    free(p);
}

void ebpf_processes_free(struct ebpf *e)
{
    for (size_t i = 0; i < EBPF_BUCKETS; i++) {
        for (struct ebpf_process *p = e->known[i], *next; p; p = next) {
            next = p->next;
            free(p);
        }
        e->known[i] = NULL;
    }
}

// --- What the sideband says.

// Of whom mappings are followed: of all, where anyone may be sampled.
static bool is_followed(struct ebpf *e, uint32_t pid)
{
    const struct ebpf_process *p = ebpf_process(e, pid);
    return e->filter != BPF_FILTER_TARGETS || (p && p->is_target);
}

static void mark(struct ebpf *e, uint32_t pid)
{
    struct ebpf_process *p = ebpf_process(e, pid);
    if (p && (p->is_target || p->is_told))
        p->is_dirty = true;
}

static int on_fork(struct ebpf *e, const struct perf_record *r)
{
    if (r->task.pid == r->task.parent_pid)
        return 0;                      // a thread
    ebpf_process_drop(e, r->task.pid); // an earlier one of this number
    if (e->filter != BPF_FILTER_TARGETS)
        return perf_code_fork(e->processes, r);
    if (!e->o->inherit || !is_followed(e, r->task.parent_pid))
        return 0;
    struct ebpf_process *child = ebpf_process_put(e, r->task.pid);
    if (!child)
        return -ENOMEM;
    child->is_target = child->is_dirty = true;
    e->busy_since_ns = r->time_ns;
    return perf_code_fork(e->processes, r);
}

static int on_comm(struct ebpf *e, const struct perf_record *r)
{
    if (!is_followed(e, r->pid))
        return 0;
    struct ebpf_process *p = ebpf_process(e, r->pid);
    if (p && r->comm.is_exec) {
        p->is_dirty |= p->is_target;
        e->busy_since_ns = r->time_ns;
    }
    return perf_code_comm(e->processes, r);
}

static int on_exit_record(struct ebpf *e, const struct perf_record *r)
{
    if (!is_followed(e, r->task.pid))
        return 0;
    perf_code_exit(e->processes, r);
    // The programs tell of the end of those alone that they know.
    const struct ebpf_process *p = ebpf_process(e, r->task.pid);
    if (p && !p->is_target && perf_target_has_ended(p->pid)) {
        bpf_code_ended(e->code, p->pid);
        ebpf_process_drop(e, r->task.pid);
    }
    return 0;
}

int ebpf_on_sideband(void *arg, const struct perf_record *r)
{
    struct ebpf *e = arg;
    switch (r->type) {
    case PERF_RECORD_LOST: e->rescan = true; return 0;
    case PERF_RECORD_FORK: return on_fork(e, r);
    case PERF_RECORD_COMM: return on_comm(e, r);
    case PERF_RECORD_EXIT: return on_exit_record(e, r);
    case PERF_RECORD_MMAP2:
        if (!(r->mmap.protection & PROT_EXEC) || !is_followed(e, r->pid))
            return 0;
        mark(e, r->pid);
        ebpf_probes_mapped(e, r);
        return perf_code_mmap(e->processes, r);
    default: return 0;
    }
}

// --- What the BPF programs say.

int ebpf_on_task(struct ebpf *e, const struct bpf_task_event *t)
{
    struct ebpf_process *p = ebpf_process(e, t->head.pid);
    switch (t->head.type) {
    case BPF_RECORD_EXEC: // its slot is empty
        if (e->held_pid == t->head.pid)
            e->held_pid = 0;
        if (p) {
            bpf_code_executed(e->code, t->head.pid);
            p->is_dirty = p->is_target || p->is_told;
            p->is_told = false;
        }
        return 0;
    case BPF_RECORD_EXIT:
        bpf_code_ended(e->code, t->head.pid);
        ebpf_process_drop(e, t->head.pid);
        return 0;
    default: return 0; // forks: the sideband has them, in order with mappings
    }
}

static int tell_one(struct ebpf *e, struct ebpf_process *p)
{
    uint64_t now = record_now_ns(CLOCK_MONOTONIC);
    if (perf_target_has_ended(p->pid)) { // who is made a target now would stay one
        p->is_dirty = p->is_unsure = false;
        return 0;
    }
    struct perf_process *process = perf_code_process(e->processes, p->pid, now);
    if (!process || (p->is_unsure && perf_code_look_again(e->processes, process, now)))
        return -ENOMEM;
    p->is_dirty = p->is_unsure = false;
    p->told_ns = now;
    int rc = bpf_code_tell(e->code, process);
    p->is_told = !rc;
    return rc;
}

int ebpf_tell(struct ebpf *e)
{
    bpf_code_look_again(e->code);
    for (size_t i = 0; i < EBPF_BUCKETS; i++)
        for (struct ebpf_process *p = e->known[i]; p; p = p->next) {
            int rc = p->is_dirty ? tell_one(e, p) : 0;
            if (rc)
                return rc;
        }
    return 0;
}

// --- Fibers.

struct ebpf_fibers ebpf_fibers(const struct ebpf *e, uint32_t pid)
{
    const struct fib_descriptor *d = bpf_code_fibers(e->code, pid);
    if (!d || !d->label_size || d->label_size >= sizeof e->label_text[0][0])
        return (struct ebpf_fibers){0};
    return (struct ebpf_fibers){
        .is_there = true,
        .root = d->root,
        .root_end = d->root_end,
        .text = d->text,
        .text_end = d->text_end,
        .label_pairs = d->label_pairs,
        .label_size = d->label_size,
    };
}

// --- CPU time.

// Of all threads, also ended ones, without children.
static bool read_cpu(uint32_t pid, uint64_t *ns)
{
    char path[64], text[1024];
    unsigned long long user, kernel;
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    const char *mark_of_end = strrchr(text, ')');
    if (!mark_of_end ||
        sscanf(mark_of_end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
               &kernel) != 2)
        return false;
    *ns = (user + kernel) * (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
    return true;
}

void ebpf_look_at_cpu(struct ebpf *e)
{
    for (size_t i = 0; e->filter == BPF_FILTER_TARGETS && i < EBPF_BUCKETS; i++) {
        for (struct ebpf_process *p = e->known[i]; p; p = p->next) {
            uint64_t ns;
            if (!p->is_target || !read_cpu(p->pid, &ns))
                continue;
            if (!p->has_cpu)
                p->cpu_first_ns = ns;
            p->has_cpu = true;
            p->cpu_ns = ns;
        }
    }
}

uint32_t ebpf_rate_limit(void)
{
    uint32_t hz = 0;
    FILE *f = fopen("/proc/sys/kernel/perf_event_max_sample_rate", "re");
    if (f && fscanf(f, "%u", &hz) != 1)
        hz = 0;
    if (f)
        fclose(f);
    return hz;
}

uint64_t ebpf_busy_ns(const struct ebpf *e)
{
    unsigned long long user, nice, kernel, irq, softirq;
    if (e->filter == BPF_FILTER_CGROUP)
        return control_group_cpu_ns(&e->group);
    FILE *f = fopen("/proc/stat", "re");
    int n =
        f ? fscanf(f, "cpu %llu %llu %llu %*u %*u %llu %llu", &user, &nice, &kernel, &irq, &softirq)
          : 0;
    if (f)
        fclose(f);
    return n == 5 ? (user + nice + kernel + irq + softirq) *
                        (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK))
                  : 0;
}

uint64_t ebpf_cpu_ns(struct ebpf *e)
{
    uint64_t ns = e->ended_cpu_ns;
    if (e->filter != BPF_FILTER_TARGETS) {
        return e->busy_end_ns > e->busy_ns && e->busy_ns ? e->busy_end_ns - e->busy_ns : 0;
    }
    for (size_t i = 0; i < EBPF_BUCKETS; i++)
        for (const struct ebpf_process *p = e->known[i]; p; p = p->next)
            ns += p->has_cpu ? p->cpu_ns - p->cpu_first_ns : 0;
    return ns;
}
