// SPDX-License-Identifier: MIT
//
// What a request costs in system calls, counted from outside by ptrace: at each end one read and one write, with
// no attempt that finds nothing and no epoll_ctl.

#include "fiberscope/fiber.h"
#include "fiberscope/io.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { ROUNDS = 500, WARM = 10, NUMBERS = 512 };

// --- The traced process.

static void mark(void)
{
    syscall(SYS_getppid);
}

static void serve(void *arg)
{
    int fd = *(int *)arg;
    char b[256];
    ssize_t n;
    while ((n = fib_read(fd, b, sizeof b)) > 0)
        CHECK(fib_write(fd, b, (size_t)n) == n);
}

static void ask(int fd, int rounds)
{
    char b[256], request[64] = "request";
    for (int i = 0; i < rounds; i++) {
        CHECK(fib_write(fd, request, sizeof request) == sizeof request);
        CHECK(fib_read(fd, b, sizeof b) == sizeof request);
    }
}

static void exchange(void *arg)
{
    (void)arg;
    int tcp = fib_listen("127.0.0.1", 0, 1);
    struct sockaddr_storage a;
    socklen_t size = sizeof a;
    CHECK(tcp >= 0 && !getsockname(tcp, (struct sockaddr *)&a, &size));
    unsigned char *port = (unsigned char *)&a + 2;
    int c = fib_dial("127.0.0.1", (uint16_t)(port[0] << 8 | port[1]), -1);
    int s = fib_accept(tcp, NULL, NULL);
    struct fib f;
    CHECK(c >= 0 && s >= 0 && !fib_go(&f, serve, &s));
    ask(c, WARM);
    mark();
    ask(c, ROUNDS);
    mark();
    fib_close(c);
    fib_join(f);
}

static void traced(void)
{
    struct fib_options options = {.size = sizeof options, .procs = 1};
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
        _exit(77);
    raise(SIGSTOP);
    CHECK(!fib_init(&options) && !fib_main(exchange, NULL));
    _exit(0);
}

// --- The tracer.

struct counts {
    int marks;
    long calls[NUMBERS];
};

// Each stop at an entry into a call; an exit has orig_rax, too, and rax other than -ENOSYS.
static void count(struct counts *c, pid_t tid)
{
    struct user_regs_struct r;
    if (ptrace(PTRACE_GETREGS, tid, NULL, &r) || (long)r.rax != -ENOSYS)
        return;
    if (r.orig_rax == SYS_getppid)
        c->marks++;
    else if (c->marks == 1 && r.orig_rax < NUMBERS)
        c->calls[r.orig_rax]++;
}

static int trace(pid_t pid, struct counts *c)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    CHECK(!ptrace(PTRACE_SETOPTIONS, pid, NULL,
                  PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL));
    ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
    for (;;) {
        pid_t tid = waitpid(-1, &status, __WALL);
        CHECK(tid > 0);
        if (WIFEXITED(status) && tid == pid)
            return WEXITSTATUS(status);
        CHECK(!WIFSIGNALED(status), "signal %d", WTERMSIG(status));
        if (!WIFSTOPPED(status))
            continue;
        int signal = WSTOPSIG(status);
        if (signal == (SIGTRAP | 0x80))
            count(c, tid);
        bool is_own = signal == (SIGTRAP | 0x80) || signal == SIGTRAP || signal == SIGSTOP;
        ptrace(PTRACE_SYSCALL, tid, NULL, is_own ? 0 : signal);
    }
}

int main(void)
{
    static struct counts c;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid)
        traced();
    int status = trace(pid, &c);
    if (status == 77) {
        puts("SKIP: no ptrace here");
        return 77;
    }
    CHECK(!status && c.marks == 2, "status %d, %d marks", status, c.marks);
    long reads = c.calls[SYS_recvfrom], writes = c.calls[SYS_sendto];
    printf("%d requests: recvfrom %ld, sendto %ld, epoll_wait %ld, epoll_ctl %ld, read %ld\n",
           ROUNDS, reads, writes, c.calls[SYS_epoll_wait] + c.calls[SYS_epoll_pwait2],
           c.calls[SYS_epoll_ctl], c.calls[SYS_read]);
    CHECK(writes == 2 * ROUNDS);
    CHECK(reads >= 2 * ROUNDS && reads <= 2 * ROUNDS + ROUNDS / 20);
    CHECK(c.calls[SYS_epoll_ctl] == 0 && c.calls[SYS_read] + c.calls[SYS_write] < ROUNDS / 20);
    CHECK(c.calls[SYS_fcntl] == 0 && c.calls[SYS_poll] + c.calls[SYS_ppoll] == 0);
    return 0;
}
