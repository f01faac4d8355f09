// SPDX-License-Identifier: MIT
//
// The ways out of this program image: exec and _exit.
//
// exec. A SIGPROF that is pending when the new image starts finds no handler and kills it, and the
// window is wide: exec itself burns CPU time. So SIGPROF is ignored for its duration, which also
// discards what is pending; if exec fails the handler comes back. The new image starts with SIGPROF
// ignored until its own agent takes over. In a vfork child nothing is done: no source signals it, and
// its memory is its parent's.
//
// posix_spawn, system and popen need nothing: their child is such a child, inside libc.

#include "agent/agent.h"
#include "agent/arch/x86_64.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INTERPOSED __attribute__((visibility("default")))

static bool exec_begin(struct sigaction *saved)
{
    struct sigaction ignore;
    bool is_recording = agent_owns();
    // A handler that waits for a call is worth as much; in a vfork child it is the parent's.
    if (!is_recording && (!agent.space || agent.pid != (uint32_t)sys0(SYS_getpid)))
        return false;
    memset(&ignore, 0, sizeof ignore);
    ignore.sa_handler = SIG_IGN;
    if (is_recording && !agent.env.segment[0])
        agent_save(); // no collector and no black box holds what was recorded: exec would drop it
    return !signals_real_action(&ignore, saved);
}

static int exec_failed(bool begun, const struct sigaction *saved, int rc)
{
    int error = errno;
    if (begun) {
        signals_real_action(saved, NULL);
        atomic_store_explicit(&agent.space->saved, 0, memory_order_relaxed);
    }
    errno = error;
    return rc;
}

#define EXEC(call)                                                                                 \
    do {                                                                                           \
        struct sigaction saved;                                                                    \
        bool begun = exec_begin(&saved);                                                           \
        return exec_failed(begun, &saved, agent_real()->call);                                     \
    } while (0)

INTERPOSED int execve(const char *path, char *const argv[], char *const envp[])
{
    EXEC(execve(path, argv, envp));
}

INTERPOSED int execv(const char *path, char *const argv[])
{
    EXEC(execve(path, argv, environ));
}

INTERPOSED int execvpe(const char *file, char *const argv[], char *const envp[])
{
    EXEC(execvpe(file, argv, envp));
}

INTERPOSED int execvp(const char *file, char *const argv[])
{
    EXEC(execvpe(file, argv, environ));
}

INTERPOSED int fexecve(int fd, char *const argv[], char *const envp[])
{
    EXEC(fexecve(fd, argv, envp));
}

INTERPOSED int execveat(int dir, const char *path, char *const argv[], char *const envp[],
                        int flags)
{
    EXEC(execveat(dir, path, argv, envp, flags));
}

// The list forms: the arguments are gathered on the stack, as libc does (these may run in a vfork
// child, where malloc is out of the question).
static size_t count_list(const char *first, va_list *list)
{
    size_t n = first ? 1 : 0;
    if (first)
        while (va_arg(*list, const char *))
            n++;
    return n;
}

static void gather(char **argv, const char *first, size_t n, va_list *list)
{
    memcpy(&argv[0], &first, sizeof first); // argv is char *const[] for reasons older than const
    for (size_t i = 1; i <= n; i++)
        argv[i] = va_arg(*list, char *);
    argv[n] = NULL;
}

#define GATHER(first)                                                                              \
    va_list list;                                                                                  \
    va_start(list, first);                                                                         \
    size_t n = count_list(first, &list);                                                           \
    va_end(list);                                                                                  \
    char **argv = __builtin_alloca((n + 2) * sizeof *argv);                                        \
    va_start(list, first);                                                                         \
    gather(argv, first, n, &list)

INTERPOSED int execl(const char *path, const char *arg, ...)
{
    GATHER(arg);
    va_end(list);
    EXEC(execve(path, argv, environ));
}

INTERPOSED int execlp(const char *file, const char *arg, ...)
{
    GATHER(arg);
    va_end(list);
    EXEC(execvpe(file, argv, environ));
}

INTERPOSED int execle(const char *path, const char *arg, ...)
{
    GATHER(arg);
    // gather stopped at the list's NULL; the environment follows it
    char *const *envp = va_arg(list, char *const *);
    va_end(list);
    EXEC(execve(path, argv, envp));
}

// _exit runs no destructors: the last words are said here.
static _Noreturn void leave(int status)
{
    if (agent_owns())
        agent_leave();
    for (;;)
        sys1(SYS_exit_group, status);
}

INTERPOSED void _exit(int status)
{
    leave(status);
}

INTERPOSED void _Exit(int status)
{
    leave(status);
}
