// SPDX-License-Identifier: MIT
//
// What each record makes of threads and CPUs, and the events that say so. A verb announces what it speaks of, and makes
// the trace fit where a record does not.

#include "collector/bpf/kernel_calls.h"
#include "collector/bpf/kernel_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

enum { FRAMES_MAX = 3 };

// --- Saying.

static void say(struct kernel_build *b, int64_t thread, uint8_t wire, const uint64_t *args)
{
    int rc = trace_writer_event(b->out.writer, thread, wire, b->now_ns / KERNEL_UNITS_NS, args);
    b->said++;
    if (rc && !b->rc)
        b->rc = rc;
}
#define SAY(b, thread, wire, ...) say(b, thread, wire, (const uint64_t[]){__VA_ARGS__})

static uint64_t string(struct kernel_build *b, const char *text)
{
    uint64_t id = 0;
    int rc = trace_writer_string(b->out.writer, text, strlen(text), &id);
    if (rc && !b->rc)
        b->rc = rc;
    return id;
}

static struct trace_text text_of(const char *s)
{
    return (struct trace_text){s, (uint32_t)strlen(s)};
}

// Leaf first: why (NULL: no such frame), the call that it is in, the thread. g NULL: only why.
static uint64_t stack(struct kernel_build *b, const struct kernel_go *g, const char *why)
{
    struct trace_writer_frame frames[FRAMES_MAX];
    char process[32], number[24], name[KERNEL_COMM_BYTES + 1];
    uint32_t n = 0;
    uint64_t id = 0;
    if (why)
        frames[n++] = (struct trace_writer_frame){.pc = 1, .function = text_of(why)};
    if (g && g->call) {
        const char *call =
            g->call == KERNEL_CALL_FAULT ? "page fault" : kernel_call_name(g->call - 1);
        snprintf(number, sizeof number, "syscall %u", g->call - 1);
        frames[n++] = (struct trace_writer_frame){.pc = (UINT64_C(1) << 32) + g->call,
                                                  .function = text_of(call ? call : number)};
    }
    if (g) {
        snprintf(process, sizeof process, "process %u", g->pid);
        snprintf(name, sizeof name, "%.*s", KERNEL_COMM_BYTES, g->name[0] ? g->name : "?");
        frames[n++] = (struct trace_writer_frame){.pc = (UINT64_C(2) << 32) + g->tid,
                                                  .function = text_of(name),
                                                  .file = text_of(process)};
    }
    int rc = trace_writer_stack(b->out.writer, frames, n, &id);
    if (rc && !b->rc)
        b->rc = rc;
    return id;
}

// --- Who there is.

struct kernel_go *kernel_go_of(struct kernel_build *b, uint32_t tid)
{
    struct kernel_go **at = &b->buckets[tid % KERNEL_BUCKETS];
    for (struct kernel_go *g = *at; g; g = g->next)
        if (g->tid == tid)
            return g;
    struct kernel_go *g = calloc(1, sizeof *g);
    if (!g) {
        b->rc = b->rc ? b->rc : -ENOMEM;
        return NULL;
    }
    g->tid = tid;
    g->next = *at;
    *at = g;
    return g;
}

static struct kernel_go *born(struct kernel_go *g, enum kernel_state state)
{
    g->id = g->tid + ((uint64_t)g->uses++ << 32);
    g->seq = g->stamp = 0;
    g->call = 0;
    g->says_call = g->is_watched = false;
    g->at_start = 0;
    g->state = state;
    return g;
}

static void name(struct kernel_go *g, const char *comm)
{
    if (comm[0])
        memcpy(g->name, comm, sizeof g->name);
}

static void settle_name(const struct kernel_build *b, struct kernel_go *g)
{
    if (g->coming_ns >= b->now_ns)
        name(g, g->coming);
}

// One that a record speaks of; NULL: there is no memory.
static struct kernel_go *meet(struct kernel_build *b, uint32_t tid, uint32_t pid, bool is_watched)
{
    struct kernel_go *g = kernel_go_of(b, tid);
    if (!g)
        return NULL;
    if (g->state == KERNEL_GONE)
        born(g, KERNEL_UNKNOWN);
    if (g->state == KERNEL_UNKNOWN)
        settle_name(b, g);
    g->pid = pid;
    g->seen = b->out.number;
    g->is_watched |= is_watched;
    return g;
}

void kernel_forget_all(struct kernel_build *b)
{
    for (size_t i = 0; i < KERNEL_BUCKETS; i++)
        for (struct kernel_go *g = b->buckets[i]; g; g = g->next) {
            g->state = KERNEL_GONE;
            g->uses = 0;
        }
    memset(b->procs, 0, b->o.cpu_count * sizeof *b->procs);
}

// --- Announcing.

static bool is_first(const struct kernel_build *b)
{
    return b->out.number == 1;
}

static void announce_proc(struct kernel_build *b, uint32_t cpu)
{
    struct kernel_proc *p = &b->procs[cpu];
    if (p->stamp == b->out.number)
        return;
    p->stamp = b->out.number;
    p->seq = 0;
    p->is_said = true;
    if (!p->is_running)
        SAY(b, TRACE_NONE, TRACE_EV_PROC_STATUS, cpu, TRACE_PROC_STATUS_IDLE);
    else
        SAY(b, cpu, TRACE_EV_PROC_STATUS, cpu,
            p->go && p->go->says_call ? TRACE_PROC_STATUS_SYSCALL : TRACE_PROC_STATUS_RUNNING);
}

// One whose state is known.
static void announce(struct kernel_build *b, struct kernel_go *g)
{
    static const uint8_t words[] = {
        [KERNEL_IS_RUNNABLE] = TRACE_GO_STATUS_RUNNABLE,
        [KERNEL_IS_RUNNING] = TRACE_GO_STATUS_RUNNING,
        [KERNEL_IS_WAITING] = TRACE_GO_STATUS_WAITING,
    };
    if (g->stamp == b->out.number)
        return;
    g->stamp = b->out.number;
    g->seq = 0;
    if (g->state == KERNEL_IS_RUNNING) {
        announce_proc(b, g->cpu);
        SAY(b, g->cpu, TRACE_EV_GO_STATUS_STACK, g->id, g->cpu,
            g->says_call ? TRACE_GO_STATUS_SYSCALL : TRACE_GO_STATUS_RUNNING, stack(b, g, NULL));
    } else {
        SAY(b, TRACE_NONE, TRACE_EV_GO_STATUS_STACK, g->id, UINT64_MAX, words[g->state],
            stack(b, g, NULL));
    }
}

// Needs a G that runs, and is not in a call.
static void say_procs(struct kernel_build *b, uint32_t cpu)
{
    const struct kernel_go *g = b->procs[cpu].go;
    if (b->said_procs || !g || g->says_call)
        return;
    b->said_procs = true;
    SAY(b, cpu, TRACE_EV_PROCS_CHANGE, b->o.cpu_count, 0);
}

void kernel_announce_all(struct kernel_build *b)
{
    for (uint32_t cpu = 0; cpu < b->o.cpu_count; cpu++) {
        struct kernel_proc *p = &b->procs[cpu];
        if (p->is_said)
            announce_proc(b, cpu);
        if (p->is_said && p->go)
            announce(b, p->go);
        say_procs(b, cpu);
    }
    for (size_t i = 0; i < KERNEL_BUCKETS; i++)
        for (struct kernel_go *g = b->buckets[i]; g; g = g->next) {
            if (!g->is_watched && g->state == KERNEL_IS_WAITING &&
                g->seen + KERNEL_SILENT_MAX < b->out.number)
                g->state = KERNEL_GONE;
            if (g->state > KERNEL_UNKNOWN)
                announce(b, g);
        }
}

// Nothing has changed for it since the file began.
static void announce_one_silent(struct kernel_build *b, struct kernel_go *g)
{
    bool runs = g->at_start == 'R';
    g->state = runs ? KERNEL_IS_RUNNABLE : KERNEL_IS_WAITING;
    if (runs && g->cpu < b->o.cpu_count && !b->procs[g->cpu].is_said) {
        b->procs[g->cpu].go = g;
        b->procs[g->cpu].is_running = true;
        g->state = KERNEL_IS_RUNNING;
    }
    announce(b, g);
}

void kernel_announce_silent(struct kernel_build *b)
{
    for (size_t i = 0; i < KERNEL_BUCKETS; i++)
        for (struct kernel_go *g = b->buckets[i]; g; g = g->next)
            if (g->is_watched && g->state == KERNEL_UNKNOWN && g->at_start)
                announce_one_silent(b, g);
    for (uint32_t cpu = 0; cpu < b->o.cpu_count; cpu++)
        say_procs(b, cpu);
}

// --- Calls.

static void begin_call(struct kernel_build *b, struct kernel_go *g)
{
    struct kernel_proc *p = &b->procs[g->cpu];
    if (g->says_call || g->state != KERNEL_IS_RUNNING)
        return;
    announce(b, g);
    announce_proc(b, g->cpu);
    SAY(b, g->cpu, TRACE_EV_GO_SYSCALL_BEGIN, ++p->seq, stack(b, g, NULL));
    g->says_call = true;
}

static void end_call(struct kernel_build *b, struct kernel_go *g)
{
    if (!g->says_call)
        return;
    announce(b, g);
    announce_proc(b, g->cpu);
    SAY(b, g->cpu, TRACE_EV_GO_SYSCALL_END, 0);
    g->says_call = false;
}

// --- On and off a CPU.

enum how { LEAVE_RUNNABLE, LEAVE_WAITING, LEAVE_DEAD };

static const char *wait_reason(const struct kernel_go *g, uint32_t flags)
{
    if (!g->is_watched)
        return "system goroutine wait";
    if (flags & KERNEL_STOPPED)
        return "wait for debug call";
    if (flags & KERNEL_IO || !g->call || g->call == KERNEL_CALL_FAULT)
        return "unspecified";
    return kernel_call_reason(g->call - 1);
}

static void leave(struct kernel_build *b, struct kernel_go *g, enum how how, uint32_t flags)
{
    uint32_t cpu = g->cpu;
    end_call(b, g);
    announce(b, g);
    b->procs[cpu].go = NULL;
    if (how == LEAVE_DEAD) {
        SAY(b, cpu, TRACE_EV_GO_DESTROY, 0);
        g->state = KERNEL_GONE;
    } else if (how == LEAVE_RUNNABLE) {
        bool yields = g->call == SYS_sched_yield + 1;
        SAY(b, cpu, TRACE_EV_GO_STOP, string(b, yields ? "runtime.Gosched" : "preempted"),
            stack(b, g, NULL));
        g->state = KERNEL_IS_RUNNABLE;
    } else {
        const char *why = flags & KERNEL_IO        ? "block I/O"
                          : flags & KERNEL_STOPPED ? "stopped"
                                                   : NULL;
        SAY(b, cpu, TRACE_EV_GO_BLOCK, string(b, wait_reason(g, flags)), stack(b, g, why));
        g->state = KERNEL_IS_WAITING;
    }
}

static void start_proc(struct kernel_build *b, uint32_t cpu)
{
    struct kernel_proc *p = &b->procs[cpu];
    announce_proc(b, cpu);
    if (!p->is_running)
        SAY(b, cpu, TRACE_EV_PROC_START, cpu, ++p->seq);
    p->is_running = true;
}

static void stop_proc(struct kernel_build *b, uint32_t cpu)
{
    struct kernel_proc *p = &b->procs[cpu];
    if (p->is_running) {
        announce_proc(b, cpu);
        SAY(b, cpu, TRACE_EV_PROC_STOP, 0);
    }
    p->is_running = false;
}

// The CPU's P runs and has no G. A thread that the trace did not know is in it as a runnable one; who only comes into view
// begins then.
static void introduce(struct kernel_build *b, struct kernel_go *g, uint32_t cpu)
{
    g->state = KERNEL_IS_RUNNABLE;
    if (is_first(b) && g->is_watched) {
        announce(b, g);
        return;
    }
    g->stamp = b->out.number;
    g->seq = 0;
    SAY(b, cpu, TRACE_EV_GO_CREATE, g->id, stack(b, g, NULL), 0);
}

static void clear(struct kernel_build *b, struct kernel_go *g) // off its CPU, against all we know
{
    b->file.repairs++;
    leave(b, g, g->is_watched ? LEAVE_RUNNABLE : LEAVE_WAITING, 0);
}

static void enter(struct kernel_build *b, struct kernel_go *g, uint32_t cpu)
{
    struct kernel_proc *p = &b->procs[cpu];
    if (p->go == g)
        return;
    if (p->go)
        clear(b, p->go);
    if (g->state == KERNEL_IS_RUNNING) {
        uint32_t from = g->cpu;
        clear(b, g);
        stop_proc(b, from);
    }
    start_proc(b, cpu);
    if (g->state == KERNEL_UNKNOWN)
        introduce(b, g, cpu);
    announce(b, g);
    if (g->state == KERNEL_IS_WAITING) {
        SAY(b, g->is_watched ? TRACE_NONE : (int64_t)cpu, TRACE_EV_GO_UNBLOCK, g->id, ++g->seq, 0);
        b->file.repairs += g->is_watched;
    }
    SAY(b, cpu, TRACE_EV_GO_START, g->id, ++g->seq);
    g->state = KERNEL_IS_RUNNING;
    g->cpu = cpu;
    p->go = g;
    say_procs(b, cpu);
    if (g->call)
        begin_call(b, g);
}

// A record says that g has this CPU, and has had it.
static void is_on(struct kernel_build *b, struct kernel_go *g, uint32_t cpu)
{
    struct kernel_proc *p = &b->procs[cpu];
    if (p->go == g)
        return;
    if (g->state == KERNEL_UNKNOWN && is_first(b) && !p->is_said) {
        p->go = g;
        p->is_running = true;
        g->state = KERNEL_IS_RUNNING;
        g->cpu = cpu;
        announce(b, g);
        say_procs(b, cpu);
        return;
    }
    b->file.repairs += g->state != KERNEL_UNKNOWN;
    enter(b, g, cpu);
}

// --- Records.

static void take_switch(struct kernel_build *b, const struct kernel_record *r)
{
    struct kernel_go *g;
    struct kernel_proc *p = &b->procs[r->cpu];
    b->file.switches++;
    if (r->tid && (g = meet(b, r->tid, r->pid, r->flags & KERNEL_WATCHED))) {
        is_on(b, g, r->cpu);
        enum how how = r->flags & KERNEL_DEAD                                    ? LEAVE_DEAD
                       : r->flags & KERNEL_RUNNABLE && r->flags & KERNEL_WATCHED ? LEAVE_RUNNABLE
                                                                                 : LEAVE_WAITING;
        leave(b, g, how, r->flags);
    } else if (p->go) {
        clear(b, p->go);
    }
    if (r->other && (g = meet(b, r->other, r->other_pid, r->flags & KERNEL_OTHER_WATCHED))) {
        name(g, r->comm);
        settle_name(b, g);
        enter(b, g, r->cpu);
    } else {
        announce_proc(b, r->cpu);
        stop_proc(b, r->cpu);
    }
}

static void take_in_view(struct kernel_build *b, const struct kernel_record *r)
{
    struct kernel_go *g = meet(b, r->other, r->other_pid, false);
    if (!g)
        return;
    name(g, r->comm);
    enter(b, g, r->cpu);
}

// By whom, if it is one of ours that is in a call: what else wakes on its CPU is an interrupt.
static struct kernel_go *waker_of(const struct kernel_build *b, const struct kernel_record *r)
{
    struct kernel_go *g = r->value < b->o.cpu_count ? b->procs[r->value].go : NULL;
    return g && g->tid == r->other && g->is_watched && g->says_call ? g : NULL;
}

// A timer may end a sleep just after an interrupt of a disk.
static const char *what_ended(const struct kernel_go *g, uint32_t flags)
{
    bool is_call = g->call && g->call != KERNEL_CALL_FAULT;
    const char *reason = is_call ? kernel_call_reason(g->call - 1) : "";
    if (!strcmp(reason, "sleep") || !strcmp(reason, "sync"))
        return NULL;
    return flags & KERNEL_BY_DISK ? "disk" : flags & KERNEL_BY_NETWORK ? "network" : NULL;
}

static void take_wake(struct kernel_build *b, const struct kernel_record *r)
{
    struct kernel_go *g = meet(b, r->tid, r->pid, true), *by = waker_of(b, r);
    b->file.wakes++;
    if (!g)
        return;
    name(g, r->comm);
    settle_name(b, g);
    if (g->state == KERNEL_UNKNOWN && is_first(b))
        g->state = KERNEL_IS_WAITING;
    if (g->state != KERNEL_IS_WAITING)
        return; // it has not gone to sleep yet; or is new to the trace, and comes with its next start
    announce(b, g);
    if (by)
        announce(b, by);
    const char *why = what_ended(g, r->flags);
    SAY(b, by ? (int64_t)by->cpu : TRACE_NONE, TRACE_EV_GO_UNBLOCK, g->id, ++g->seq,
        by || why ? stack(b, by, why) : 0);
    g->state = KERNEL_IS_RUNNABLE;
}

static void take_birth(struct kernel_build *b, const struct kernel_record *r)
{
    struct kernel_go *g = kernel_go_of(b, r->tid);
    struct kernel_proc *p = r->value < b->o.cpu_count ? &b->procs[r->value] : NULL;
    b->file.wakes++;
    if (!g)
        return;
    if (g->state == KERNEL_IS_RUNNING)
        clear(b, g);
    born(g, KERNEL_UNKNOWN);
    g->pid = r->pid;
    g->is_watched = true;
    name(g, r->comm);
    settle_name(b, g);
    if (!p || !p->go || p->go->tid != r->other)
        return;
    struct kernel_go *parent = p->go;
    uint32_t cpu = parent->cpu;
    end_call(b, parent);
    announce(b, parent);
    g->stamp = b->out.number;
    g->state = KERNEL_IS_RUNNABLE;
    SAY(b, cpu, TRACE_EV_GO_CREATE, g->id, stack(b, g, NULL), stack(b, parent, NULL));
    if (parent->call)
        begin_call(b, parent);
}

// A thread that does not lead has executed: it has its leader's id from now on.
static void rekey(struct kernel_build *b, uint32_t before, uint32_t tid)
{
    struct kernel_go *old = kernel_go_of(b, before), *leader = kernel_go_of(b, tid);
    if (!old || !leader || old->state == KERNEL_GONE)
        return;
    if (leader->state == KERNEL_IS_RUNNING)
        clear(b, leader);
    struct kernel_go was = *leader;
    uint64_t id = old->id;
    struct kernel_go *chain = leader->next;
    *leader = *old;
    leader->next = chain;
    leader->tid = tid;
    leader->id = id;
    leader->uses = was.uses;
    if (leader->state == KERNEL_IS_RUNNING)
        b->procs[leader->cpu].go = leader;
    old->state = KERNEL_GONE;
}

static void take_name(struct kernel_build *b, const struct kernel_record *r)
{
    if (r->other)
        rekey(b, r->other, r->tid);
    struct kernel_go *g = meet(b, r->tid, r->pid, true);
    if (g)
        name(g, r->comm);
}

static void take_call(struct kernel_build *b, const struct kernel_record *r, uint32_t call)
{
    struct kernel_go *g = meet(b, r->tid, r->pid, true);
    if (!g)
        return;
    is_on(b, g, r->cpu);
    end_call(b, g);
    g->call = call;
    if (call)
        begin_call(b, g);
}

void kernel_take(struct kernel_build *b, const struct kernel_record *r)
{
    switch (r->type) {
    case KERNEL_SWITCH: take_switch(b, r); break;
    case KERNEL_IN_VIEW: take_in_view(b, r); break;
    case KERNEL_WAKE: take_wake(b, r); break;
    case KERNEL_WAKE_NEW: take_birth(b, r); break;
    case KERNEL_NAME: take_name(b, r); break;
    case KERNEL_SYSCALL:
        b->file.syscalls++;
        take_call(b, r, (uint32_t)r->value + 1);
        break;
    case KERNEL_FAULT:
        b->file.faults++;
        take_call(b, r, KERNEL_CALL_FAULT);
        break;
    case KERNEL_SYSCALL_END: // an exec's comes under another number than it began
    case KERNEL_FAULT_END: take_call(b, r, 0); break;
    default: break;
    }
}
