// SPDX-License-Identifier: MIT
//
// See thread_list.h. Source: Linux, Documentation/filesystems/proc.rst.

#include "collector/thread_list.h"
#include "collector/permission.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STATUS_BYTES = 8192, THREADS_MAX = 1 << 22 };

// The whole of a small file of /proc, terminated: its length, or -errno.
static ssize_t read_small(uint32_t pid, uint32_t tid, const char *name, char *out, size_t size)
{
    char path[96];
    snprintf(path, sizeof path, "/proc/%u/task/%u/%s", pid, tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, out, size - 1);
    int error = errno;
    close(fd);
    if (n < 0)
        return -error;
    out[n] = '\0';
    return n;
}

// --- status

static void read_field(struct thread_state *out, const char *line)
{
    unsigned long long n;
    if (sscanf(line, "State: %c", &out->state) == 1)
        return;
    if (strncmp(line, "NSpid:", 6) == 0) { // of each namespace down to its own
        char *at = (char *)(uintptr_t)line + 6, *end;
        for (unsigned long v = strtoul(at, &end, 10); end != at && *at != '\n';
             v = strtoul(at = end, &end, 10))
            out->own_tid = (uint32_t)v;
    } else if (sscanf(line, "voluntary_ctxt_switches: %llu", &n) == 1 ||
               sscanf(line, "nonvoluntary_ctxt_switches: %llu", &n) == 1) {
        out->switches += n;
    }
}

static int read_status(struct thread_state *out, uint32_t pid, uint32_t tid)
{
    char text[STATUS_BYTES];
    ssize_t n = read_small(pid, tid, "status", text, sizeof text);
    if (n <= 0)
        return n == -EACCES || n == -EPERM ? -EACCES : -ESRCH;
    out->own_tid = tid;
    out->switches = 0;
    if (strncmp(text, "Name:\t", 6) == 0) {
        size_t length = strcspn(text + 6, "\n");
        snprintf(out->name, sizeof out->name, "%.*s", (int)length, text + 6);
    }
    for (char *c = out->name; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = '?';
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        read_field(out, line);
    }
    return 0;
}

// --- syscall

// "running", "-1 SP PC" (blocked elsewhere, as in a page fault) or "NUMBER ARGUMENTS SP PC".
static int read_call(struct thread_state *out, uint32_t pid, uint32_t tid)
{
    char text[512];
    unsigned long long a[6], sp, pc;
    long long number;
    ssize_t n = read_small(pid, tid, "syscall", text, sizeof text);
    if (n <= 0)
        return n == -EACCES || n == -EPERM ? -EACCES : -ESRCH;
    int fields = sscanf(text, "%lld 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx",
                        &number, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &sp, &pc);
    if (fields == 3 && number == -1) {
        out->sp = a[0];
        out->pc = a[1];
    } else if (fields == 9 && number >= 0) {
        out->call = (struct target_call){.is_in = true, .number = number};
        for (int i = 0; i < 6; i++)
            out->call.args[i] = a[i];
        out->sp = sp;
        out->pc = pc;
    }
    return 0;
}

// A call that was interrupted and that the kernel goes on with has this number, and its own arguments.
static void name_restarted(struct thread_state *s, uint32_t pid, uint32_t tid)
{
    char where[128];
    if (!s->call.is_in || s->call.number != SYS_restart_syscall ||
        read_small(pid, tid, "wchan", where, sizeof where) <= 0)
        return;
    if (strstr(where, "futex"))
        s->call.number = SYS_futex;
    else if (strstr(where, "poll"))
        s->call.number = SYS_poll;
    else if (where[0] !=
             '0') // the third of that kind; the kernel does not always name a sleep's own function
        s->call.number = SYS_clock_nanosleep;
}

int thread_list_look(struct thread_state *out, uint32_t pid, uint32_t tid)
{
    *out = (struct thread_state){.tid = tid};
    int rc = read_status(out, pid, tid);
    if (rc)
        return rc;
    if (out->state == 'Z' || out->state == 'X')
        return -ESRCH;
    rc = read_call(out, pid, tid);
    name_restarted(out, pid, tid);
    return rc;
}

bool thread_list_is_same(const struct thread_state *a, const struct thread_state *b)
{
    return a->tid == b->tid && a->switches == b->switches && a->sp == b->sp && a->pc == b->pc &&
           a->call.is_in == b->call.is_in && a->call.number == b->call.number &&
           memcmp(a->call.args, b->call.args, sizeof a->call.args) == 0;
}

// --- All of them.

static int compare_threads(const void *a, const void *b)
{
    const struct thread_state *x = a, *y = b;
    return x->own_tid < y->own_tid ? -1 : x->own_tid > y->own_tid;
}

static struct thread_state *add_thread(struct thread_list *l)
{
    if ((l->count & (l->count - 1)) == 0) { // 0 or a power of two: full
        size_t n = l->count ? l->count * 2 : 1;
        struct thread_state *grown =
            l->count < THREADS_MAX ? reallocarray(l->threads, n, sizeof *grown) : NULL;
        if (!grown)
            return NULL;
        l->threads = grown;
    }
    return &l->threads[l->count++];
}

static int read_core(struct thread_list *l, const struct target *t)
{
    const struct target_thread *threads;
    size_t n = target_threads(t, &threads);
    for (size_t i = 0; i < n; i++) {
        struct thread_state *s = add_thread(l);
        if (!s)
            return -ENOMEM;
        *s = (struct thread_state){.tid = threads[i].tid,
                                   .own_tid = threads[i].tid,
                                   .call = threads[i].call,
                                   .sp = threads[i].registers.rsp,
                                   .pc = threads[i].registers.rip};
    }
    return 0;
}

static int read_process(struct thread_list *l, uint32_t pid)
{
    char path[64];
    int rc = 0;
    snprintf(path, sizeof path, "/proc/%u/task", pid);
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? -ESRCH : -errno;
    for (struct dirent *e; !rc && (e = readdir(dir));) {
        struct thread_state one, *s;
        unsigned long tid = strtoul(e->d_name, NULL, 10);
        if (!tid)
            continue;
        rc = thread_list_look(&one, pid, (uint32_t)tid);
        if (rc == -ESRCH) { // it has ended
            rc = 0;
            continue;
        }
        if (!rc && (s = add_thread(l)))
            *s = one;
        else if (!rc)
            rc = -ENOMEM;
    }
    closedir(dir);
    return rc ? rc : l->count ? 0 : -ESRCH;
}

int thread_list_read(struct thread_list *out, const struct target *t, struct fscope_error *err)
{
    uint32_t pid = target_pid(t);
    const char *name = target_name(t);
    *out = (struct thread_list){0};
    int rc = target_is_core(t) ? read_core(out, t) : read_process(out, pid);
    if (rc)
        thread_list_free(out);
    if (out->count)
        qsort(out->threads, out->count, sizeof *out->threads, compare_threads);
    if (rc == -ESRCH)
        return error_set(err, rc, 0, "process %u (%s) has ended", pid, name);
    if (rc == -EACCES) {
        char why[256];
        permission_explain(pid, PERMISSION_READ, why, sizeof why);
        return error_set(err, rc, 0,
                         "process %u (%s): what its threads wait for may not be read: %s", pid,
                         name, why);
    }
    return rc ? error_set(err, rc, 0, "process %u (%s): %s", pid, name, strerror(-rc)) : 0;
}

void thread_list_free(struct thread_list *l)
{
    free(l->threads);
    *l = (struct thread_list){0};
}

const struct thread_state *thread_list_find(const struct thread_list *l, uint32_t own_tid)
{
    const struct thread_state key = {.own_tid = own_tid};
    return l->count ? bsearch(&key, l->threads, l->count, sizeof key, compare_threads) : NULL;
}

// --- Names of calls that wait.

const char *thread_list_call_name(int64_t number, char *buf, size_t size, bool *takes_fd)
{
    static const struct {
        int number;
        bool takes_fd;
        const char *name;
    } calls[] = {
        {SYS_read, true, "read"},
        {SYS_write, true, "write"},
        {SYS_readv, true, "readv"},
        {SYS_writev, true, "writev"},
        {SYS_pread64, true, "pread"},
        {SYS_pwrite64, true, "pwrite"},
        {SYS_recvfrom, true, "recv"},
        {SYS_recvmsg, true, "recvmsg"},
        {SYS_recvmmsg, true, "recvmmsg"},
        {SYS_sendto, true, "send"},
        {SYS_sendmsg, true, "sendmsg"},
        {SYS_accept, true, "accept"},
        {SYS_accept4, true, "accept"},
        {SYS_connect, true, "connect"},
        {SYS_epoll_wait, true, "epoll_wait"},
        {SYS_epoll_pwait, true, "epoll_wait"},
        {SYS_epoll_pwait2, true, "epoll_wait"},
        {SYS_fsync, true, "fsync"},
        {SYS_fdatasync, true, "fdatasync"},
        {SYS_flock, true, "flock"},
        {SYS_fcntl, true, "fcntl"},
        {SYS_ioctl, true, "ioctl"},
        {SYS_io_uring_enter, true, "io_uring_enter"},
        {SYS_sendfile, false, "sendfile"},
        {SYS_splice, false, "splice"},
        {SYS_open, false, "open"},
        {SYS_openat, false, "open"},
        {SYS_poll, false, "poll"},
        {SYS_ppoll, false, "poll"},
        {SYS_select, false, "select"},
        {SYS_pselect6, false, "select"},
        {SYS_nanosleep, false, "sleep"},
        {SYS_clock_nanosleep, false, "sleep"},
        {SYS_wait4, false, "wait for a child"},
        {SYS_waitid, false, "wait for a child"},
        {SYS_vfork, false, "vfork"},
        {SYS_clone, false, "clone"},
        {SYS_pause, false, "pause"},
        {SYS_rt_sigsuspend, false, "sigsuspend"},
        {SYS_rt_sigtimedwait, false, "sigwait"},
        {SYS_semop, false, "semop"},
        {SYS_semtimedop, false, "semop"},
        {SYS_msgrcv, false, "msgrcv"},
        {SYS_msgsnd, false, "msgsnd"},
        {SYS_mq_timedreceive, false, "mq_receive"},
        {SYS_mq_timedsend, false, "mq_send"},
        {SYS_io_getevents, false, "io_getevents"},
        {SYS_futex, false, "futex"},
        {SYS_restart_syscall, false, "system call"},
    };
    *takes_fd = false;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (calls[i].number == number) {
            *takes_fd = calls[i].takes_fd;
            return calls[i].name;
        }
    snprintf(buf, size, "system call %lld", (long long)number);
    return buf;
}
