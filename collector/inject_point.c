// SPDX-License-Identifier: MIT
//
// A thread at a safe point: see inject.h. Threads are looked at first without being stopped (/proc), in the order of how
// little they would be disturbed; each that is stopped and not found safe runs on at once.

#include "collector/inject_internal.h"

#include "collector/arch/x86_64.h"
#include "collector/permission.h"
#include "collector/stop_call.h"
#include "collector/thread_list.h"

#include <elf.h>
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

enum {
    FIND_LIMIT_MS = 4000,
    STOP_LIMIT_MS = 2000,
    PAUSE_NS = 1500000, // between passes
    POLL_NS = 1000000,
    MAPS_AGAIN = 16, // passes, after which what was mapped is read again
    COPY_BYTES = 128 << 10,
    DEPTH_MAX = 512,
};

uint64_t inject_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int inject_wait_stop(uint32_t tid, int *status, uint32_t limit_ms)
{
    const struct timespec poll = {.tv_nsec = POLL_NS};
    uint64_t until = inject_now_ns() + limit_ms * UINT64_C(1000000);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    for (;;) {
        pid_t got = waitpid((pid_t)tid, status, __WALL | WNOHANG);
        if (got)
            return got == (pid_t)tid && WIFSTOPPED(*status) ? 0 : -ESRCH;
        if (inject_now_ns() > until)
            return -ETIMEDOUT;
        sigtimedwait(&child, NULL, &poll);
    }
}

struct search {
    const struct inject_places *p;
    struct target *t;
    uint32_t pid;
    uint8_t stack[COPY_BYTES];
    uint64_t pcs[DEPTH_MAX];
    uint32_t depth;
    int seize_error; // of the last that could not be had
};

// --- Judging a stack.

static bool is_in(const struct inject_range *r, uint64_t pc)
{
    return pc >= r->start && pc < r->end;
}

static bool is_in_any(const struct inject_ranges *r, uint64_t pc)
{
    for (size_t i = 0; i < r->count; i++)
        if (is_in(&r->at[i], pc))
            return true;
    return false;
}

static uint64_t code_of(const struct search *s, uint32_t i)
{
    return s->pcs[i] - (i > 0); // return addresses lie behind the call
}

static bool is_in_libc(const struct search *s, uint32_t i)
{
    return is_in(&s->p->libc, code_of(s, i));
}

static bool is_in_agent(const struct search *s, uint32_t i)
{
    return is_in(&s->p->agent, code_of(s, i)) || is_in(&s->p->core, code_of(s, i));
}

// The frames of libc on top: a wait. `from` is the first below them; hooks of ours stand where they pass on a
// wait, with nothing held.
static bool skip_wait(const struct search *s, uint32_t *from)
{
    uint32_t i = 0;
    while (i < s->depth && is_in_libc(s, i))
        i++;
    if (i && !is_in_any(&s->p->waits, code_of(s, i - 1)))
        return false;
    while (i && i < s->depth && is_in_agent(s, i))
        i++;
    *from = i;
    return true;
}

// Where a thread or main began: libc's last frames, and _start, which called them.
static uint32_t root_of(const struct search *s)
{
    enum { ROOT_FRAMES = 3 };
    uint32_t last = s->depth, end;
    if (last > 1 && !is_in_libc(s, last - 1) && is_in_libc(s, last - 2))
        last--;
    for (end = last; end && last - end < ROOT_FRAMES && is_in_libc(s, end - 1);)
        end--;
    return end;
}

// Calls in which nobody holds an allocator's lock, whatever allocator.
static bool is_quiet_call(int64_t number)
{
    switch (number) {
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_accept:
    case SYS_accept4:
    case SYS_wait4:
    case SYS_waitid:
    case SYS_pause: return true;
    default: return false;
    }
}

static bool is_stack_safe(const struct search *s, bool is_in_call, int64_t number)
{
    uint32_t from = 0, end = root_of(s);
    if (s->p->has_own_malloc && !(is_in_call && is_quiet_call(number)))
        return false;
    if (is_in_call && !skip_wait(s, &from))
        return false;
    if (from >= end)
        return false; // libc alone: a thread at its end
    for (uint32_t i = from; i < end; i++) {
        uint64_t pc = code_of(s, i);
        bool is_signal = s->pcs[i] - s->p->restore <= 16;
        if (is_signal || is_in_any(&s->p->closed, pc) || is_in_agent(s, i) ||
            (is_in_libc(s, i) && (i == 0 || !is_in_any(&s->p->calls, pc))))
            return false;
    }
    return true;
}

static bool walk(struct search *s, const struct user_regs_struct *u)
{
    struct unwind_registers r;
    enum unwind_end end;
    uint64_t high = target_map_end(s->t, u->rsp);
    size_t size = high && high - u->rsp < COPY_BYTES ? high - u->rsp : COPY_BYTES;
    size = target_read_some(s->t, u->rsp, s->stack, size);
    arch_from_user(&r, u);
    s->depth = target_walk_copy(s->t, &r, true, s->stack, size, s->pcs, DEPTH_MAX, &end);
    return end == UNWIND_END_ROOT && s->depth > 1;
}

// --- Restartable sequences: the kernel would not know where to abort one.

static bool is_in_rseq(const struct search *s, uint32_t tid, uint64_t pc)
{
    struct {
        uint64_t pointer;
        uint32_t size, signature, flags, pad;
    } c = {0};
    struct {
        uint32_t version, flags;
        uint64_t start, size, abort;
    } section;
    uint64_t at = 0;
    if (ptrace((enum __ptrace_request)0x420f, tid, sizeof c, &c) < 0 || !c.pointer)
        return false; // PTRACE_GET_RSEQ_CONFIGURATION; none is registered
    if (target_read(s->t, c.pointer + 8, &at, sizeof at) || !at)
        return false;
    if (target_read(s->t, at, &section, sizeof section))
        return true;
    return pc - section.start < section.size;
}

// --- One thread.

// With a time limit that is counted from the call's beginning.
static bool has_limit(const struct target_call *c)
{
    const uint64_t *a = c->args;
    switch (c->number) {
    case SYS_nanosleep: return true;
    case SYS_clock_nanosleep: return !(a[1] & TIMER_ABSTIME);
    case SYS_poll: return (int32_t)a[2] >= 0;
    case SYS_ppoll:
    case SYS_rt_sigtimedwait: return a[2] != 0;
    case SYS_select:
    case SYS_pselect6:
    case SYS_io_getevents: return a[4] != 0;
    case SYS_futex: return ((int)a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT && a[3];
    case SYS_epoll_wait:
    case SYS_epoll_pwait: return (int32_t)a[3] >= 0;
    case SYS_epoll_pwait2:
    case SYS_semtimedop: return a[3] != 0;
    default: return false;
    }
}

static bool may_begin_anew(const struct target_call *c)
{
    struct target_call endless = *c;
    switch (c->number) { // as without a limit
    case SYS_epoll_wait:
    case SYS_epoll_pwait: endless.args[3] = UINT64_MAX; break;
    case SYS_epoll_pwait2:
    case SYS_semtimedop: endless.args[3] = 0; break;
    case SYS_rt_sigtimedwait: endless.args[2] = 0; break;
    case SYS_restart_syscall: return false;
    default: break;
    }
    return stop_call_may(&endless);
}

// A call that was interrupted before, and that the kernel goes on with: which it was, from `mov $number, %eax` before it.
static int64_t number_in_code(const struct search *s, uint64_t pc)
{
    uint8_t code[7] = {0};
    uint32_t number;
    if (target_read(s->t, pc - sizeof code, code, sizeof code) || code[0] != 0xb8 ||
        code[5] != 0x0f || code[6] != 0x05)
        return SYS_restart_syscall;
    memcpy(&number, code + 1, sizeof number);
    return number;
}

static bool read_state(uint32_t tid, struct inject_state *st)
{
    struct iovec part = {st->xstate, sizeof st->xstate};
    if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &part) ||
        ptrace(PTRACE_GETSIGMASK, tid, sizeof st->mask, &st->mask))
        return false;
    st->xstate_size = part.iov_len;
    return true;
}

static bool judge(struct search *s, uint32_t tid, bool longer_too, struct inject_point *out)
{
    struct user_regs_struct *u = &out->state.regs;
    struct target_call c = {0};
    if (ptrace(PTRACE_GETREGS, tid, 0, u) || u->cs != 0x33)
        return false;
    c.is_in = arch_call(u, &c.number, c.args);
    if (c.is_in && c.number == SYS_restart_syscall) {
        c.number = number_in_code(s, u->rip);
        u->orig_rax = (uint64_t)c.number;
    }
    inject_mend(u);
    if (c.is_in && (!may_begin_anew(&c) || (has_limit(&c) && !longer_too)))
        return false;
    struct user_regs_struct here = *u;
    if (c.is_in)
        here.rip += 2; // behind the call, as it stands in its function
    return !is_in_rseq(s, tid, u->rip) && walk(s, &here) && is_stack_safe(s, c.is_in, c.number) &&
           read_state(tid, &out->state);
}

// Its call, if the kernel would end it because of the stop, is begun anew.
static void release(uint32_t tid, int status)
{
    struct user_regs_struct u;
    int64_t number;
    uint64_t args[6];
    int sig = status >> 16 ? 0 : WSTOPSIG(status);
    if (!sig && !ptrace(PTRACE_GETREGS, tid, 0, &u) && arch_call(&u, &number, args) &&
        (int64_t)u.rax == -EINTR && stop_call_is_cut(number))
        ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, regs.rax),
               (unsigned long)(long)ARCH_RESTARTNOHAND);
    ptrace(PTRACE_DETACH, tid, 0, (unsigned long)(unsigned)sig);
}

// 0: that is it. -EAGAIN: not now.
static int try_thread(struct search *s, uint32_t tid, bool longer_too, struct inject_point *out)
{
    int status;
    if (ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD)) {
        s->seize_error = errno;
        return -EAGAIN;
    }
    s->seize_error = 0;
    ptrace(PTRACE_INTERRUPT, tid, 0, 0);
    int rc = inject_wait_stop(tid, &status, STOP_LIMIT_MS);
    if (rc == -ETIMEDOUT)
        return rc; // we end now, and the kernel lets it go
    if (rc)
        return -EAGAIN;
    out->tid = tid;
    out->since_ns = inject_now_ns();
    if (status >> 16 == PTRACE_EVENT_STOP && WSTOPSIG(status) == SIGTRAP &&
        judge(s, tid, longer_too, out))
        return 0;
    release(tid, status);
    return -EAGAIN;
}

// --- All of them.

enum { PASSES_SPARING = 4 }; // in which no wait is made longer

static bool is_worth_it(const struct thread_state *th, bool longer_too)
{
    if (th->state == 'R')
        return true;
    if (th->state != 'S' || !th->call.is_in)
        return false;
    if (th->call.number == SYS_restart_syscall)
        return longer_too; // its code says which it was
    return may_begin_anew(&th->call) && (longer_too || !has_limit(&th->call));
}

static int pass(struct search *s, unsigned round, struct inject_point *out)
{
    struct thread_list list = {0};
    bool longer_too = round >= PASSES_SPARING;
    int rc = thread_list_read(&list, s->t, NULL);
    if (rc)
        return rc;
    rc = -EAGAIN;
    for (size_t i = 0; i < list.count && rc == -EAGAIN; i++)
        if (is_worth_it(&list.threads[(i + round) % list.count], longer_too))
            rc = try_thread(s, list.threads[(i + round) % list.count].tid, longer_too, out);
    thread_list_free(&list);
    return rc;
}

static int none_found(const struct search *s, int rc, struct fscope_error *err)
{
    if (s->seize_error == EPERM) {
        char why[256];
        permission_explain(s->pid, PERMISSION_TRACE, why, sizeof why);
        return error_set(err, -EPERM, 0, "process %u may not be traced: %s", s->pid, why);
    }
    if (rc == -ETIMEDOUT)
        return error_set(err, -EAGAIN, 0, "process %u: a thread did not stop for %d s: try again",
                         s->pid, STOP_LIMIT_MS / 1000);
    if (rc != -EAGAIN)
        return error_set(err, rc, 0, "process %u: %s", s->pid, strerror(-rc));
    return error_set(
        err, -EAGAIN, 0,
        "process %u: no thread was found at a safe point for %d s (all are in calls that "
        "cannot be begun anew, in the allocator, in signal handlers, or on stacks that "
        "cannot be walked): try again, or start it with the agent",
        s->pid, FIND_LIMIT_MS / 1000);
}

int inject_find_point(struct inject_point *out, const struct inject_places *p, uint32_t pid,
                      struct fscope_error *err)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    uint64_t until = inject_now_ns() + FIND_LIMIT_MS * UINT64_C(1000000);
    struct search *s = calloc(1, sizeof *s);
    int rc = s ? -EAGAIN : error_set(err, -ENOMEM, 0, "out of memory");
    if (!s)
        return rc;
    s->p = p;
    s->pid = pid;
    for (unsigned round = 0; rc == -EAGAIN && inject_now_ns() < until; round++) {
        if (round % MAPS_AGAIN == 0) {
            target_close(s->t);
            s->t = NULL;
            rc = target_open_pid(&s->t, pid, err);
            if (rc)
                break;
        }
        rc = pass(s, round, out);
        if (rc == -EAGAIN && s->seize_error == EPERM && round > PASSES_SPARING)
            break;
        if (rc == -EAGAIN)
            nanosleep(&pause, NULL);
    }
    if (rc && s->t)
        rc = none_found(s, rc, err);
    target_close(s->t);
    free(s);
    return rc;
}
