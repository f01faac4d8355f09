// SPDX-License-Identifier: MIT
//
// See thread_stacks.h. Source: ptrace(2); signal(7) on what is not restarted; the kernel's
// arch_do_signal_or_restart, which looks at a call's result after the tracer has had its say.

#include "collector/thread_stacks.h"

#include "collector/arch/x86_64.h"
#include "collector/stop_call.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    COPY_BYTES = 128 << 10, // while it is stopped
    BLOCKED_BYTES = 1 << 20,
    DEPTH_MAX = 512,
    // For it to stop, which it does when it next gets a processor; until then it is not held up. One that
    // stops later is let go as soon as that is seen.
    STOP_LIMIT_NS = 2000000000,
    SLICE_NS = 100000, // the least that the kernel takes
    POLL_NS = 2000000, // where another thread of ours takes SIGCHLD away
};

struct take {
    struct thread_stacks *out;
    struct target *t;
    const struct thread_list *list;
    const bool *wanted;
    uint8_t *bytes; // of a stack
    uint64_t pcs[DEPTH_MAX];
    uint32_t *late; // seized, but they have not stopped yet
    size_t late_count;
    bool is_hasty; // may have real-time priority
    int rc;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static size_t copy_stack(const struct take *k, uint64_t sp, size_t most)
{
    uint64_t end = target_map_end(k->t, sp); // 0: mapped since, take what there is
    size_t size = end && end - sp < most ? end - sp : most;
    return target_read_some(k->t, sp, k->bytes, size);
}

static void keep(struct take *k, struct thread_stack *s, uint32_t depth, enum thread_stack_how how,
                 enum unwind_end end)
{
    if (!depth)
        return;
    uint64_t *pcs = malloc(depth * sizeof *pcs);
    if (!pcs) {
        k->rc = -ENOMEM;
        return;
    }
    memcpy(pcs, k->pcs, depth * sizeof *pcs);
    free(s->pcs);
    s->pcs = pcs;
    s->depth = depth;
    s->how = how;
    s->end = end;
}

// --- Without stopping it.

// True: that was all of it. Else its inner frames are kept, if it stood still.
static bool take_blocked(struct take *k, const struct thread_state *th, struct thread_stack *s)
{
    struct thread_state before, after;
    struct unwind_registers r;
    enum unwind_end end;
    uint32_t pid = target_pid(k->t);
    if (thread_list_look(&before, pid, th->tid) || !before.sp)
        return false;
    size_t size = copy_stack(k, before.sp, BLOCKED_BYTES);
    if (thread_list_look(&after, pid, th->tid) || !thread_list_is_same(&before, &after))
        return false;
    arch_from_call(&r, before.pc, before.sp, before.call.args);
    uint32_t n = target_walk_copy(k->t, &r, true, k->bytes, size, k->pcs, DEPTH_MAX, &end);
    keep(k, s, n, THREAD_STACK_PARTIAL, end);
    if (end == UNWIND_END_ROOT || end == UNWIND_END_DEPTH)
        s->how = n ? THREAD_STACK_BLOCKED : s->how;
    return s->how == THREAD_STACK_BLOCKED;
}

// --- What a stop does to a call.

static void mend_call(uint32_t tid, const struct user_regs_struct *u)
{
    int64_t number = (int64_t)u->orig_rax;
    if (number >= 0 && (int64_t)u->rax == -EINTR && stop_call_is_cut(number))
        ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, regs.rax),
               (unsigned long)(long)ARCH_RESTARTNOHAND);
}

// --- Stopping.

// Real-time priority while a thread is stopped, where that is allowed: so nobody keeps us from letting it go.
static void hurry(struct take *k, bool on)
{
    struct sched_param p = {.sched_priority = on ? 1 : 0};
    if (k->is_hasty && sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &p))
        k->is_hasty = false;
}

// Else the shortest slice, which whoever may ask for: it is run the sooner when it wakes (Linux 6.12).
static void shorten_slice(void)
{
    struct { // the first version of struct sched_attr, which glibc does not have
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } a = {.size = sizeof a};
    _Static_assert(sizeof a == 48, "SCHED_ATTR_SIZE_VER0");
    if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) || a.policy != SCHED_OTHER)
        return;
    a.runtime = SLICE_NS;
    syscall(SYS_sched_setattr, 0, &a, 0);
}

// Lets it go on. A signal that was on its way to it is given to it; what is stopped stays stopped.
static void release(uint32_t tid, int status)
{
    int sig = status >> 16 ? 0 : WSTOPSIG(status); // an event: no signal
    ptrace(PTRACE_DETACH, tid, 0, (unsigned long)(unsigned)sig);
}

static void mend_and_release(uint32_t tid, int status)
{
    struct user_regs_struct u;
    if (!ptrace(PTRACE_GETREGS, tid, 0, &u))
        mend_call(tid, &u);
    release(tid, status);
}

// 1: stopped; 0: not yet; -1: it has ended.
static int has_stopped(uint32_t tid, int *status)
{
    pid_t got = waitpid((pid_t)tid, status, __WALL | WNOHANG);
    if (got == 0)
        return 0;
    return got == (pid_t)tid && WIFSTOPPED(*status) ? 1 : -1;
}

static void release_late(struct take *k)
{
    size_t left = 0;
    for (size_t i = 0; i < k->late_count; i++) {
        int status, rc = has_stopped(k->late[i], &status);
        if (rc > 0)
            mend_and_release(k->late[i], status);
        else if (rc == 0)
            k->late[left++] = k->late[i];
    }
    k->late_count = left;
}

// It is told by SIGCHLD, which is blocked here.
static int wait_for_stop(struct take *k, uint32_t tid, int *status)
{
    const struct timespec poll = {.tv_nsec = POLL_NS};
    uint64_t until = now_ns() + STOP_LIMIT_NS;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    for (;;) {
        int rc = has_stopped(tid, status);
        if (rc)
            return rc;
        release_late(k);
        if (now_ns() > until)
            break;
        sigtimedwait(&child, NULL, &poll);
    }
    k->late[k->late_count++] = tid;
    return 0;
}

static void take_stopped(struct take *k, const struct thread_state *th, struct thread_stack *s)
{
    struct user_regs_struct u;
    struct unwind_registers r;
    enum unwind_end end;
    int status;
    uint32_t tid = th->tid;
    if (ptrace(PTRACE_SEIZE, tid, 0, 0)) // traced by another, or gone
        return;
    hurry(k, true);
    ptrace(PTRACE_INTERRUPT, tid, 0, 0);
    if (wait_for_stop(k, tid, &status) <= 0) {
        hurry(k, false);
        return;
    }
    uint64_t began = now_ns();
    bool has_registers = !ptrace(PTRACE_GETREGS, tid, 0, &u);
    size_t size = has_registers ? copy_stack(k, u.rsp, COPY_BYTES) : 0;
    if (has_registers)
        mend_call(tid, &u);
    release(tid, status);
    s->stopped_ns = now_ns() - began;
    hurry(k, false);
    k->out->stopped_ns += s->stopped_ns;
    if (!has_registers)
        return;
    arch_from_user(&r, &u);
    uint32_t n = target_walk_copy(k->t, &r, true, k->bytes, size, k->pcs, DEPTH_MAX, &end);
    keep(k, s, n, THREAD_STACK_STOPPED, end);
}

static void take_one(struct take *k, const struct thread_state *th, struct thread_stack *s)
{
    struct thread_state now;
    s->tid = th->tid;
    if (take_blocked(k, th, s) || thread_list_look(&now, target_pid(k->t), th->tid))
        return;
    if (now.state != 'D' && now.state != 't' && (!now.call.is_in || stop_call_may(&now.call)))
        take_stopped(k, th, s);
    release_late(k);
}

static void take_core(struct take *k)
{
    const struct target_thread *threads;
    size_t n = target_threads(k->t, &threads), at = 0;
    for (size_t i = 0; i < k->list->count; i++) {
        if (k->wanted && !k->wanted[i])
            continue;
        struct thread_stack *s = &k->out->stacks[at++];
        enum unwind_end end;
        s->tid = k->list->threads[i].tid;
        for (size_t j = 0; j < n; j++)
            if (threads[j].tid == s->tid) {
                uint32_t depth =
                    target_walk(k->t, &threads[j].registers, true, 0, k->pcs, DEPTH_MAX, &end);
                keep(k, s, depth, THREAD_STACK_STOPPED, end);
                break;
            }
    }
}

static void *take_all(void *arg)
{
    struct take *k = arg;
    size_t at = 0;
    shorten_slice();
    k->is_hasty = true;
    for (size_t i = 0; i < k->list->count; i++)
        if (!k->wanted || k->wanted[i])
            take_one(k, &k->list->threads[i], &k->out->stacks[at++]);
    return NULL; // what is attached still is let go by the kernel
}

// In the caller SIGCHLD is blocked, too: else it would take it. It is without effect where it is not handled.
static int run_tracer(struct take *k)
{
    sigset_t all, before;
    pthread_t tracer;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); // the tracer has it from here
    int rc = -pthread_create(&tracer, NULL, take_all, k);
    sigset_t meanwhile = before;
    sigaddset(&meanwhile, SIGCHLD);
    pthread_sigmask(SIG_SETMASK, &meanwhile, NULL);
    if (!rc)
        pthread_join(tracer, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int thread_stacks_take(struct thread_stacks *out, struct target *t, const struct thread_list *list,
                       const bool *wanted)
{
    struct take *k = calloc(1, sizeof *k);
    size_t n = 0;
    *out = (struct thread_stacks){0};
    for (size_t i = 0; i < list->count; i++)
        n += !wanted || wanted[i];
    out->stacks = calloc(n + 1, sizeof *out->stacks);
    if (k) {
        *k = (struct take){.out = out, .t = t, .list = list, .wanted = wanted};
        k->bytes = malloc(BLOCKED_BYTES);
        k->late = calloc(n + 1, sizeof *k->late);
    }
    int rc = k && out->stacks && k->bytes && k->late ? 0 : -ENOMEM;
    if (!rc) {
        out->count = n;
        if (target_is_core(t))
            take_core(k);
        else
            rc = run_tracer(k);
        rc = rc ? rc : k->rc;
    }
    if (k) {
        free(k->bytes);
        free(k->late);
    }
    free(k);
    if (rc)
        thread_stacks_free(out);
    return rc;
}

void thread_stacks_free(struct thread_stacks *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->stacks[i].pcs);
    free(s->stacks);
    *s = (struct thread_stacks){0};
}
