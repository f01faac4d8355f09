// SPDX-License-Identifier: MIT
//
// The detour of a stopped thread: steps 4 to 8 of inject.h.

#include "collector/inject_internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum {
    PAGE = 4096,
    CODE_AT = 0, // in the area
    BLOCK_PAGES = 2,
    STACK_BYTES = 256 << 10,
    AREA_BYTES = PAGE * (1 + BLOCK_PAGES) + STACK_BYTES,
    CALL_LIMIT_MS = 2000, // of mmap, mprotect
    LOCK_LIMIT_MS = 1000, // of the wait for the loader's lock
    RUN_LIMIT_MS = 10000, // of the rest
};

int inject_write(const struct inject_detour *d, uint64_t address, const void *from, size_t size)
{
    struct iovec here = {(void *)(uintptr_t)from, size}, there = {(void *)(uintptr_t)address, size};
    ssize_t n = process_vm_writev((pid_t)d->tid, &here, 1, &there, 1, 0);
    return n == (ssize_t)size ? 0 : n < 0 ? -errno : -EFAULT;
}

static int read_memory(const struct inject_detour *d, uint64_t address, void *to, size_t size)
{
    struct iovec here = {to, size}, there = {(void *)(uintptr_t)address, size};
    ssize_t n = process_vm_readv((pid_t)d->tid, &here, 1, &there, 1, 0);
    return n == (ssize_t)size ? 0 : n < 0 ? -errno : -EFAULT;
}

// No handler of the program's runs on the way. Those of faults may: they come to us first.
static void block_signals(const struct inject_detour *d)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
    uint64_t mask = UINT64_MAX;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        mask &= ~(UINT64_C(1) << (faults[i] - 1));
    ptrace((enum __ptrace_request)0x420b, d->tid, sizeof mask, &mask); // PTRACE_SETSIGMASK
}

static int set_registers(const struct inject_detour *d, struct user_regs_struct *u)
{
    return ptrace(PTRACE_SETREGS, d->tid, 0, u) ? -errno : 0;
}

// --- From one stop to the next.

enum stop { STOP_ENTRY, STOP_EXIT, STOP_FAULT, STOP_NONE };

struct seen {
    enum stop stop;
    uint64_t number, args[6]; // of an entry
    int64_t result;           // of an exit
    int sig;                  // of a fault
};

static void describe_call(const struct inject_detour *d, struct seen *out)
{
    struct __ptrace_syscall_info info = {0};
    ptrace(PTRACE_GET_SYSCALL_INFO, d->tid, sizeof info, &info);
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY || info.op == PTRACE_SYSCALL_INFO_SECCOMP) {
        out->stop = STOP_ENTRY;
        out->number = info.entry.nr;
        for (int i = 0; i < 6; i++)
            out->args[i] = info.entry.args[i];
    } else {
        out->stop = STOP_EXIT;
        out->result = info.exit.rval;
    }
}

// Lets it run to the next entry or exit of a system call. 0, -ETIMEDOUT, -ESRCH.
static int go_on(const struct inject_detour *d, struct seen *out, uint32_t limit_ms)
{
    uint64_t until = inject_now_ns() + limit_ms * UINT64_C(1000000);
    unsigned long sig = 0;
    bool is_listening = false;
    for (;;) {
        int status;
        if (!is_listening && ptrace(PTRACE_SYSCALL, d->tid, 0, sig))
            return -ESRCH;
        uint64_t now = inject_now_ns();
        int rc = inject_wait_stop(d->tid, &status,
                                  now < until ? (uint32_t)((until - now) / 1000000) + 1 : 0);
        if (rc)
            return rc;
        is_listening = false;
        sig = 0;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            describe_call(d, out);
            return 0;
        }
        if (status >> 16 ==
            PTRACE_EVENT_STOP) { // SIGSTOP stops it for the while that the user wishes
            is_listening = WSTOPSIG(status) != SIGTRAP && !ptrace(PTRACE_LISTEN, d->tid, 0, 0);
        } else if (!(status >> 16)) {
            sig = (unsigned long)WSTOPSIG(status);
            if (sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE ||
                sig == SIGTRAP || sig == SIGSYS) {
                out->stop = STOP_FAULT;
                out->sig = (int)sig;
                return 0;
            }
        }
    }
}

// --- Leaving.

static void detach(const struct inject_detour *d)
{
    ptrace(PTRACE_DETACH, d->tid, 0, 0);
}

// Stopped anywhere on the way: unmaps the area, if there is one, and is where it was.
void inject_send_home(const struct inject_detour *d)
{
    struct user_regs_struct u = d->point->state.regs;
    const uint64_t args[6] = {d->area, AREA_BYTES};
    if (d->area) {
        inject_set_call(&u, d->p->munmap, d->frame.slot, args);
    } else {
        u.rip = d->p->restore;
        u.rsp = d->frame.slot + 8;
    }
    ptrace(PTRACE_SETREGS, d->tid, 0, &u);
    detach(d);
}

// It runs: stopped and sent home. 0, or what hinders it: then it goes on by itself.
static int interrupt_and_send_home(const struct inject_detour *d)
{
    int status;
    ptrace(PTRACE_INTERRUPT, d->tid, 0, 0);
    int rc = inject_wait_stop(d->tid, &status, CALL_LIMIT_MS);
    if (!rc)
        inject_send_home(d);
    return rc;
}

// --- A call of libc's on the thread's own stack.

// 0 and its result: it is stopped at the call's end. -errno: it was sent home, or runs there by itself.
int inject_call_libc(struct inject_detour *d, uint64_t function, const uint64_t args[6],
                     uint64_t number, int64_t *result, struct fscope_error *err)
{
    struct user_regs_struct u = d->point->state.regs;
    struct seen seen;
    bool is_ours = false;
    inject_set_call(&u, function, d->frame.slot, args);
    int rc = set_registers(d, &u);
    if (rc) {
        detach(d);
        return error_set(err, rc, 0, "process %u: PTRACE_SETREGS: %s", d->pid, strerror(-rc));
    }
    block_signals(d);
    for (int i = 0; i < 4; i++) {
        rc = go_on(d, &seen, CALL_LIMIT_MS);
        if (rc)
            break;
        if (seen.stop == STOP_ENTRY) {
            is_ours = seen.number == number;
        } else if (seen.stop == STOP_EXIT && is_ours) {
            *result = seen.result;
            return 0;
        } else if (seen.stop == STOP_FAULT) {
            break;
        }
    }
    if (!rc)
        inject_send_home(d);
    return error_set(err, rc ? rc : -EFAULT, 0, "process %u: a system call in its name failed: %s",
                     d->pid, rc ? strerror(-rc) : "it never came to that");
}

// --- The stub.

static void fill_block(struct inject_detour *d, uint64_t what)
{
    const struct inject_places *p = d->p;
    struct inject_block *b = &d->block;
    *b = (struct inject_block){
        .dlopen = p->dlopen,
        .dlerror = p->dlerror,
        .errno_location = p->errno_location,
        .munmap = p->munmap,
        .close = p->close,
        .fds = {-1, -1},
        .entry = p->entry,
        .slot = d->frame.slot,
        .area = d->area,
        .area_bytes = AREA_BYTES,
        .what = what,
    };
    if (!p->is_inside && !p->is_hidden) {
        b->path = d->area + INJECT_BLOCK_AT + offsetof(struct inject_block, path_bytes);
        memcpy(b->path_bytes, p->path, sizeof b->path_bytes);
    }
}

static int map_area(struct inject_detour *d, struct fscope_error *err)
{
    size_t stub_size;
    const void *stub = inject_stub(&stub_size);
    const uint64_t map[6] = {
        0, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, UINT64_MAX, 0};
    int64_t got = 0;
    int rc = inject_call_libc(d, d->p->mmap, map, SYS_mmap, &got, err);
    if (rc)
        return rc;
    if (got < 0 && got > -PAGE) {
        inject_send_home(d);
        return error_set(err, (int)got, 0, "process %u: no memory for %d KiB: %s", d->pid,
                         AREA_BYTES >> 10, strerror((int)-got));
    }
    d->area = (uint64_t)got;
    rc = inject_write(d, d->area + CODE_AT, stub, stub_size);
    if (rc) {
        inject_send_home(d);
        return error_set(err, rc, 0, "process %u: its memory: %s", d->pid, strerror(-rc));
    }
    const uint64_t protect[6] = {d->area, PAGE, PROT_READ | PROT_EXEC};
    rc = inject_call_libc(d, d->p->mprotect, protect, SYS_mprotect, &got, err);
    if (rc || !got)
        return rc;
    inject_send_home(d);
    return error_set(
        err, (int)got, 0,
        "process %u: no memory of its may become executable (%s): SELinux or systemd's "
        "MemoryDenyWriteExecute? Start it with the agent",
        d->pid, strerror((int)-got));
}

static bool is_lock_wait(const struct inject_detour *d, const struct seen *s)
{
    int op = (int)s->args[1] & FUTEX_CMD_MASK;
    return d->calls == 1 && s->stop == STOP_ENTRY && s->number == SYS_futex &&
           (op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET);
}

// Until it is where it was: at rt_sigreturn's end. If it does not come there, it does without us.
static void see_home(const struct inject_detour *d)
{
    struct seen seen = {0};
    bool is_return = false;
    for (int i = 0; i < 4; i++) { // munmap's end; rt_sigreturn
        if (go_on(d, &seen, CALL_LIMIT_MS) || seen.stop == STOP_FAULT)
            break;
        if (seen.stop == STOP_EXIT && is_return)
            break;
        is_return = seen.stop == STOP_ENTRY && seen.number == SYS_rt_sigreturn;
    }
    detach(d);
}

static int take_result(struct inject_detour *d, int32_t *result, struct fscope_error *err)
{
    struct inject_block *b = &d->block;
    int rc = read_memory(d, d->area + INJECT_BLOCK_AT, b, sizeof *b);
    see_home(d);
    if (rc)
        return error_set(err, rc, 0, "process %u: its memory: %s", d->pid, strerror(-rc));
    b->text[sizeof b->text - 1] = '\0';
    if (b->state == INJECT_STUB_REFUSED)
        return error_set(err, -ENOEXEC, 0, "process %u: its dynamic linker refused: %.250s", d->pid,
                         b->text[0] ? b->text : "no reason given");
    *result = (int32_t)b->result;
    return 0;
}

static int run_stub(struct inject_detour *d, int32_t *result, struct fscope_error *err)
{
    struct user_regs_struct u = d->point->state.regs;
    struct seen seen = {0};
    int rc = inject_write(d, d->area + INJECT_BLOCK_AT, &d->block, sizeof d->block);
    if (rc) {
        inject_send_home(d);
        return error_set(err, rc, 0, "process %u: its memory: %s", d->pid, strerror(-rc));
    }
    inject_set_stub(&u, d->area + CODE_AT, d->area + INJECT_BLOCK_AT, d->area + AREA_BYTES);
    rc = set_registers(d, &u);
    for (uint32_t limit = RUN_LIMIT_MS; !rc;) {
        rc = go_on(d, &seen, limit);
        if (rc)
            break;
        d->calls += seen.stop == STOP_ENTRY;
        if (seen.stop == STOP_ENTRY && seen.number == SYS_munmap && seen.args[0] == d->area)
            return take_result(d, result, err);
        if (seen.stop == STOP_FAULT) {
            inject_send_home(d);
            return error_set(
                err, -EFAULT, 0,
                "process %u: loading the agent ended with signal %d (%s); the process runs "
                "on, but its dynamic linker may be held",
                d->pid, seen.sig, seen.sig == SIGSYS ? "a seccomp filter" : strsignal(seen.sig));
        }
        limit = is_lock_wait(d, &seen) ? LOCK_LIMIT_MS : RUN_LIMIT_MS;
    }
    if (rc == -ETIMEDOUT && is_lock_wait(d, &seen) && !interrupt_and_send_home(d))
        return error_set(err, -EAGAIN, 0,
                         "process %u: its dynamic linker is held by another thread, which loads a "
                         "library: try again",
                         d->pid);
    return error_set(err, rc, 0, "process %u: %s", d->pid,
                     rc == -ETIMEDOUT
                         ? "it has been loading the agent for 10 s, and goes on with that "
                           "alone: see `fiberscope ps`"
                         : "it has ended, or executed another program");
}

// Whether the code that it will be sent into is what the files have: libc may be patched, or lie elsewhere than its maps say.
// It is stopped.
static bool is_as_expected(const struct inject_detour *d)
{
    uint8_t there[sizeof d->p->expected->bytes];
    for (size_t i = 0; i < d->p->expected_count; i++)
        if (read_memory(d, d->p->expected[i].address, there, sizeof there) ||
            memcmp(there, d->p->expected[i].bytes, sizeof there) != 0)
            return false;
    return true;
}

static void let_go(const struct inject_point *point)
{
    ptrace(PTRACE_SETREGS, point->tid, 0, &point->state.regs); // its call is begun anew
    ptrace(PTRACE_DETACH, point->tid, 0, 0);
}

int inject_run(struct inject_point *point, const struct inject_places *p, uint32_t pid,
               uint64_t what, int32_t *result, struct fscope_error *err)
{
    struct inject_detour *d = calloc(1, sizeof *d);
    int rc = d ? 0 : -ENOMEM;
    if (d) {
        d->point = point;
        d->p = p;
        d->pid = pid;
        d->tid = point->tid;
        rc = inject_make_frame(&d->frame, &point->state, p->restore);
    }
    if (!rc && !is_as_expected(d)) {
        let_go(point);
        free(d);
        return error_set(err, -EOPNOTSUPP, 0,
                         "process %u: in its memory libc or the agent is not what their files "
                         "are (patched, or replaced by another program): nothing was changed; "
                         "start it with the agent",
                         pid);
    }
    if (!rc)
        rc = inject_write(d, d->frame.start, d->frame.bytes, d->frame.size);
    if (rc) {
        let_go(point);
        free(d);
        return error_set(err, rc == -EFAULT ? -EAGAIN : rc, 0,
                         "process %u: no room on a thread's stack: %s: try again", pid,
                         strerror(-rc));
    }
    rc = map_area(d, err);
    if (!rc) {
        fill_block(d, what);
        if (p->is_hidden && !p->is_inside)
            rc = inject_send_files(d, err);
    }
    if (!rc) {
        rc = run_stub(d, result, err);
    }
    free(d);
    return rc;
}
