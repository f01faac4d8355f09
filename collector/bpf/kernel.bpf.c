// SPDX-License-Identifier: MIT
//
// What the kernel's scheduler does with the threads of a process tree, as records: see kernel_layout.h.
//
// A thread's entry in `threads` is written under the lock of the run queue or of the thread that the kernel holds around
// these tracepoints, so one at a time. A CPU's count of waiting threads is written by others as well: atomically.

#include "collector/bpf/kernel_types.h"

#include "collector/bpf/kernel_layout.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

enum { STATE_STOPPED = 0x4, STATE_TRACED = 0x8, STATE_DEAD = 0x80 };
enum { CPUS_MAX = 1024 };
enum { CAUSE_NS = 20000 }; // whom it wakes it wakes at once

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct thread_info___scheduling {
    uint32_t cpu;
};
struct sched_info___scheduling {
    unsigned long long last_arrival;
};
struct task_struct___scheduling {
    struct thread_info___scheduling thread_info;
    int on_cpu;
    unsigned in_iowait : 1;
    struct sched_info___scheduling sched_info;
};
#pragma clang attribute pop

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 24);
} ring SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, KERNEL_PROCESSES_MAX);
    __type(key, uint32_t); // thread group id
    __type(value, uint32_t);
} targets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, KERNEL_THREADS_MAX);
    __type(key, uint32_t); // thread id
    __type(value, struct kernel_thread);
} threads SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, CPUS_MAX); // the collector sets how many there are
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, uint32_t);
    __type(value, struct kernel_cpu);
} cpus SEC(".maps");

const volatile uint32_t inherit = 1; // children of targets are targets

static __always_inline struct kernel_cpu *cpu_of(uint32_t cpu)
{
    return bpf_map_lookup_elem(&cpus, &cpu);
}

static __always_inline int is_target(uint32_t pid)
{
    return bpf_map_lookup_elem(&targets, &pid) != 0;
}

static __always_inline void lose(uint64_t now, int of_ring)
{
    struct kernel_cpu *c = cpu_of(bpf_get_smp_processor_id());
    if (!c)
        return;
    volatile uint64_t *first = &c->first_lost_ns, *last = &c->last_lost_ns;
    *last = now;
    if (!*first) // the collector takes it away at any time
        *first = now;
    asm volatile("" ::: "memory"); // who sees the count has the times
    if (of_ring)
        c->lost_ring++;
    else
        c->lost_threads++;
}

// NULL: there is no room for it.
static __always_inline struct kernel_thread *thread_of(uint32_t tid)
{
    static const struct kernel_thread none;
    struct kernel_thread *t = bpf_map_lookup_elem(&threads, &tid);
    if (t)
        return t;
    bpf_map_update_elem(&threads, &tid, &none, BPF_NOEXIST);
    t = bpf_map_lookup_elem(&threads, &tid);
    if (!t)
        lose(bpf_ktime_get_ns(), 0);
    return t;
}

static __always_inline void send(const struct kernel_record *r)
{
    struct kernel_cpu *c = cpu_of(bpf_get_smp_processor_id());
    int is_named = r->type <= KERNEL_NAME;
    if (bpf_ringbuf_output(&ring, (void *)r, is_named ? sizeof *r : KERNEL_RECORD_BYTES_UNNAMED,
                           BPF_RB_NO_WAKEUP))
        lose(r->time_ns, 1);
    else if (c)
        c->records++;
}

static __always_inline void put_name(char *to, const char *from)
{
    __builtin_memcpy(to, from, KERNEL_COMM_BYTES);
}

// --- Who is runnable where.

// The thread that has this CPU keeps a watched one off it.
static __always_inline void bring_into_view(uint32_t cpu, struct kernel_cpu *c, uint64_t now)
{
    struct kernel_record r = {.time_ns = now, .type = KERNEL_IN_VIEW, .cpu = cpu};
    if (c->is_open || !c->tid)
        return;
    c->is_open = 1;
    r.other = c->tid;
    r.other_pid = c->pid;
    put_name(r.comm, c->comm);
    send(&r);
}

static __always_inline void wait_end(struct kernel_thread *t)
{
    struct kernel_cpu *c = t->waits_on ? cpu_of(t->waits_on - 1) : 0;
    t->waits_on = 0;
    if (c)
        __sync_fetch_and_add(&c->waiting, -1);
}

static __always_inline struct kernel_cpu *wait_begin(struct kernel_thread *t, uint32_t cpu)
{
    struct kernel_cpu *c = cpu_of(cpu);
    wait_end(t);
    if (!c)
        return 0;
    t->waits_on = cpu + 1;
    __sync_fetch_and_add(&c->waiting, 1);
    return c;
}

// Now and then a kernel switches without this tracepoint. Then prev is not the one that we saw get the CPU: it was since
// last_arrival, by the scheduler's clock, whose distance from ours the last switch that was seen has told.
static __always_inline void mend(struct kernel_cpu *c, uint32_t cpu, struct task_struct *prev,
                                 int watched, uint64_t now)
{
    const struct task_struct___scheduling *p = (void *)prev;
    struct kernel_record r = {.type = KERNEL_SWITCH, .cpu = cpu, .time_ns = now};
    if (!c->clock_ahead_ns || c->tid == (uint32_t)prev->pid || (!c->is_open && !watched))
        return;
    if (bpf_core_field_exists(p->sched_info.last_arrival)) {
        uint64_t since = p->sched_info.last_arrival + c->clock_ahead_ns;
        if (since < now && since > c->switched_ns)
            r.time_ns = since;
    }
    if (c->is_open)
        r.tid = c->tid;
    r.pid = c->pid;
    r.flags = KERNEL_RUNNABLE | (r.tid && is_target(r.pid) ? KERNEL_WATCHED : 0);
    if (prev->pid && (watched || c->is_open)) {
        r.other = prev->pid;
        r.other_pid = prev->tgid;
        r.flags |= watched ? KERNEL_OTHER_WATCHED : 0;
        put_name(r.comm, prev->comm);
    }
    c->mended++;
    c->is_open = r.other != 0;
    send(&r);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(kernel_switch, _Bool preempt, struct task_struct *prev, struct task_struct *next,
             unsigned int prev_state)
{
    const struct task_struct___scheduling *leaving = (void *)prev;
    uint32_t cpu = bpf_get_smp_processor_id();
    struct kernel_cpu *c = cpu_of(cpu);
    struct kernel_record r = {.type = KERNEL_SWITCH, .cpu = cpu};
    int prev_watched = is_target(prev->tgid), next_watched = is_target(next->tgid);
    int is_runnable = preempt || !prev_state;
    struct kernel_thread *t;
    uint32_t tid;
    if (!c)
        return 0;
    r.time_ns = bpf_ktime_get_ns();
    mend(c, cpu, prev, prev_watched, r.time_ns);
    if (prev_watched && is_runnable && (t = thread_of(prev->pid)))
        wait_begin(t, cpu);
    if (next_watched && (t = thread_of(next->pid)))
        wait_end(t);
    int shows_next = next->pid && (next_watched || (int)c->waiting > 0);
    if (prev_watched || c->is_open) {
        r.tid = prev->pid;
        r.pid = prev->tgid;
    }
    if (shows_next) {
        r.other = next->pid;
        r.other_pid = next->tgid;
        put_name(r.comm, next->comm);
    }
    const struct task_struct___scheduling *coming = (void *)next;
    if (bpf_core_field_exists(coming->sched_info.last_arrival) && next->pid)
        c->clock_ahead_ns = r.time_ns - coming->sched_info.last_arrival;
    c->switched_ns = r.time_ns;
    c->is_open = shows_next;
    c->cause = 0;
    c->tid = next->pid;
    c->pid = next->tgid;
    put_name(c->comm, next->comm);
    if (!r.tid && !r.other)
        return 0;
    r.flags = (prev_watched ? KERNEL_WATCHED : 0) | (next_watched ? KERNEL_OTHER_WATCHED : 0) |
              (is_runnable ? KERNEL_RUNNABLE : 0);
    if (!is_runnable && (prev_state & STATE_DEAD))
        r.flags |= KERNEL_DEAD;
    if (!is_runnable && (prev_state & (STATE_STOPPED | STATE_TRACED)))
        r.flags |= KERNEL_STOPPED;
    if (!is_runnable && BPF_CORE_READ_BITFIELD(leaving, in_iowait))
        r.flags |= KERNEL_IO;
    send(&r);
    if (prev_watched && (r.flags & KERNEL_DEAD)) {
        tid = prev->pid;
        bpf_map_delete_elem(&threads, &tid);
    }
    return 0;
}

// --- Who makes whom runnable.

static __always_inline uint32_t cpu_of_task(struct task_struct *task)
{
    struct task_struct___scheduling *p = (void *)task;
    return p->thread_info.cpu;
}

// What waits for this is woken on this CPU by whoever says it, mostly an interrupt.
static __always_inline int is_over(uint32_t cause)
{
    struct kernel_cpu *c = cpu_of(bpf_get_smp_processor_id());
    if (!c)
        return 0;
    c->cause = cause;
    c->cause_ns = bpf_ktime_get_ns();
    return 0;
}

SEC("tp_btf/block_rq_complete")
int kernel_disk(void *ctx)
{
    return is_over(KERNEL_BY_DISK);
}

SEC("tp_btf/sk_data_ready")
int kernel_network(void *ctx)
{
    return is_over(KERNEL_BY_NETWORK);
}

static __always_inline uint32_t cause_here(void)
{
    struct kernel_cpu *c = cpu_of(bpf_get_smp_processor_id());
    return c && c->cause && bpf_ktime_get_ns() - c->cause_ns < CAUSE_NS ? c->cause : 0;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(kernel_waking, struct task_struct *task)
{
    struct kernel_thread *t;
    if (!is_target(task->tgid) || !(t = thread_of(task->pid)))
        return 0;
    t->waker = (uint32_t)bpf_get_current_pid_tgid();
    t->waker_cpu = bpf_get_smp_processor_id();
    t->cause = cause_here();
    return 0;
}

static __always_inline int wake(struct task_struct *task, uint16_t type)
{
    struct task_struct___scheduling *p = (void *)task;
    struct kernel_record r = {
        .type = type, .cpu = bpf_get_smp_processor_id(), .flags = KERNEL_WATCHED};
    struct kernel_thread *t;
    struct kernel_cpu *c = 0;
    if (!is_target(task->tgid) || !(t = thread_of(task->pid)))
        return 0;
    uint32_t cpu = cpu_of_task(task);
    r.time_ns = bpf_ktime_get_ns();
    r.tid = task->pid;
    r.pid = task->tgid;
    r.other = type == KERNEL_WAKE ? t->waker : (uint32_t)bpf_get_current_pid_tgid();
    r.value = type == KERNEL_WAKE ? t->waker_cpu : r.cpu;
    put_name(r.comm, task->comm);
    r.flags |= type == KERNEL_WAKE ? t->cause : 0;
    t->waker = t->cause = 0;
    if (type == KERNEL_WAKE_NEW || !p->on_cpu) // else it has not gone to sleep yet
        c = wait_begin(t, cpu);
    send(&r);
    if (c)
        bring_into_view(cpu, c, r.time_ns);
    return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(kernel_wakeup, struct task_struct *task)
{
    return wake(task, KERNEL_WAKE);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(kernel_wakeup_new, struct task_struct *task)
{
    return wake(task, KERNEL_WAKE_NEW);
}

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(kernel_migrate, struct task_struct *task, int to)
{
    struct kernel_thread *t;
    struct kernel_cpu *c;
    if (!is_target(task->tgid) || !(t = thread_of(task->pid)) || !t->waits_on)
        return 0;
    c = wait_begin(t, to);
    if (c)
        bring_into_view(to, c, bpf_ktime_get_ns());
    return 0;
}

// --- Processes.

SEC("tp_btf/sched_process_fork")
int BPF_PROG(kernel_fork, struct task_struct *parent, struct task_struct *child)
{
    uint32_t pid = child->tgid, one = 1;
    if (!inherit || child->pid != child->tgid || !is_target(parent->tgid))
        return 0;
    if (bpf_map_update_elem(&targets, &pid, &one, BPF_ANY))
        lose(bpf_ktime_get_ns(), 0);
    return 0;
}

SEC("tp_btf/sched_process_free")
int BPF_PROG(kernel_free, struct task_struct *task)
{
    uint32_t tid = task->pid;
    if (task->pid != task->tgid || !is_target(task->tgid))
        return 0;
    bpf_map_delete_elem(&threads, &tid);
    bpf_map_delete_elem(&targets, &tid);
    return 0;
}

static __always_inline int name(struct task_struct *task, const char *comm, uint32_t before)
{
    struct kernel_record r = {.type = KERNEL_NAME, .flags = KERNEL_WATCHED, .other = before};
    if (!is_target(task->tgid))
        return 0;
    r.cpu = bpf_get_smp_processor_id();
    r.time_ns = bpf_ktime_get_ns();
    r.tid = task->pid;
    r.pid = task->tgid;
    if (comm)
        bpf_probe_read_kernel_str(r.comm, sizeof r.comm, comm);
    else
        put_name(r.comm, task->comm);
    send(&r);
    return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(kernel_rename, struct task_struct *task, const char *comm)
{
    return name(task, comm, 0);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(kernel_exec, struct task_struct *task, int before)
{
    return name(task, 0, before == task->pid ? 0 : before);
}

// --- What they do in the kernel.

// One about the thread that runs, if it is watched.
static __always_inline struct kernel_thread *begin(struct kernel_record *r)
{
    uint64_t both = bpf_get_current_pid_tgid();
    if (!is_target(both >> 32))
        return 0;
    r->flags = KERNEL_WATCHED;
    r->cpu = bpf_get_smp_processor_id();
    r->time_ns = bpf_ktime_get_ns();
    r->tid = (uint32_t)both;
    r->pid = both >> 32;
    return thread_of(r->tid);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(kernel_syscall, struct pt_regs *regs, long number)
{
    struct kernel_record r = {.type = KERNEL_SYSCALL, .value = number};
    struct kernel_thread *t = begin(&r);
    if (!t)
        return 0;
    struct kernel_cpu *c = cpu_of(r.cpu);
    if (c)
        c->cause = 0; // whom this call wakes, it wakes for another reason
    t->in_syscall = 1;
    t->in_fault = 0;
    send(&r);
    return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(kernel_syscall_end, struct pt_regs *regs, long result)
{
    struct kernel_record r = {.type = KERNEL_SYSCALL_END, .value = result};
    struct kernel_thread *t = begin(&r);
    if (!t || !t->in_syscall)
        return 0;
    t->in_syscall = 0;
    send(&r);
    return 0;
}

SEC("tp_btf/page_fault_user")
int BPF_PROG(kernel_fault, unsigned long address, struct pt_regs *regs, unsigned long error)
{
    struct kernel_record r = {.type = KERNEL_FAULT, .value = address};
    struct kernel_thread *t = begin(&r);
    if (!t)
        return 0;
    t->in_fault = 1;
    send(&r);
    return 0;
}

static __always_inline int fault_end(uint64_t is_major)
{
    struct kernel_record r = {.type = KERNEL_FAULT_END, .value = is_major};
    struct kernel_thread *t = begin(&r);
    if (!t || !t->in_fault)
        return 0;
    t->in_fault = 0;
    send(&r);
    return 0;
}

// The software events of page faults come when these are dealt with.
SEC("perf_event")
int kernel_fault_minor(void *ctx)
{
    return fault_end(0);
}

SEC("perf_event")
int kernel_fault_major(void *ctx)
{
    return fault_end(1);
}

// One that ends in a signal has no such event: it is over when the signal is delivered.
SEC("tp_btf/signal_deliver")
int BPF_PROG(kernel_signal, int number)
{
    return fault_end(0);
}

char program_license[] SEC("license") = "Dual MIT/GPL";
