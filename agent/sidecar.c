// SPDX-License-Identifier: MIT
//
// Starts the sidecar; see sidecar.h. Two clones that share our memory while we stand still, as vfork does it: a large
// program's page tables are not copied, and its fork handlers do not run. The second one's tid comes back
// through that memory.

#include "agent/sidecar.h"

#include "agent/agent.h"
#include "agent/api.h"
#include "agent/arch/x86_64.h"
#include "agent/futex.h"

#include "fiberscope/profile.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ENVIRONMENT_MAX = 4096, SIGNALS_BYTES = 8, SET_PTRACER = 0x59616d61 };

static bool is_program(const char *path)
{
    return sys3(SYS_faccessat, AT_FDCWD, path, X_OK) == 0;
}

// `fiberscope` as seen from the folder of this library: a build tree, lib, lib/TRIPLET.
static bool find_beside(char *path, size_t size)
{
    static const char *const ways[] = {"../cli/fiberscope", "../bin/fiberscope",
                                       "../../bin/fiberscope"};
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)sidecar_start, &info) || !info.dli_fname)
        return false;
    const char *slash = strrchr(info.dli_fname, '/');
    for (size_t i = 0; slash && i < sizeof ways / sizeof *ways; i++) {
        int n =
            snprintf(path, size, "%.*s/%s", (int)(slash - info.dli_fname), info.dli_fname, ways[i]);
        if (n > 0 && (size_t)n < size && is_program(path))
            return true;
    }
    return false;
}

static bool find_in_path(char *path, size_t size)
{
    const char *list = getenv("PATH");
    while (list && *list) {
        size_t n = strcspn(list, ":");
        int written = snprintf(path, size, "%.*s/fiberscope", (int)n, list);
        if (n && written > 0 && (size_t)written < size && is_program(path))
            return true;
        list += n + (list[n] == ':');
    }
    return false;
}

static bool is_ours(const char *setting)
{
    static const char *const names[] = {
        "LD_PRELOAD=", "FIBERSCOPE=", "FIBERSCOPE_SEGMENT=", "FIBERSCOPE_SERVE="};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(setting, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

struct start {
    const char *path;
    const char *argv[8];
    const char *environment[ENVIRONMENT_MAX + 1];
    volatile int pid;   // of the sidecar; 0: none
    volatile int error; // -errno of execve
};

// In the sidecar-to-be. Shares our memory and our stack below this frame, and leaves by exec or exit alone.
static _Noreturn void become(struct start *s)
{
    uint64_t none = 0;
    // An own session: the terminal's Ctrl-C is the program's affair, and our end comes with its end.
    sys0(SYS_setsid);
    int null = (int)sys4(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
    if (null >= 0)
        sys3(SYS_dup3, SYS_ARG(null), 0, 0);
    if (sys3(SYS_close_range, 3, ~0u, 0)) // before Linux 5.9
        for (int fd = 3; fd < 1024; fd++)
            sys1(SYS_close, SYS_ARG(fd));
    // Handlers are reset by exec; what is ignored would stay so.
    struct {
        void (*handler)(int);
        uint64_t flags;
        void (*restorer)(void);
        uint64_t mask;
    } plain = {0};
    for (int signal = 1; signal < 32; signal++)
        sys4(SYS_rt_sigaction, SYS_ARG(signal), &plain, NULL, SIGNALS_BYTES);
    sys4(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, SIGNALS_BYTES);
    s->error = (int)sys3(SYS_execve, s->path, s->argv, s->environment);
    sys1(SYS_exit, 127);
    __builtin_unreachable();
}

// Clones that end before the caller goes on. exit_signal 0: invisible to waitpid without __WALL.
// Part of its caller: the clone goes on in this frame.
__attribute__((always_inline)) static inline long clone_here(void)
{
    return sys5(SYS_clone, CLONE_VM | CLONE_VFORK, 0, 0, 0, 0);
}

__attribute__((noinline)) static void start_second(struct start *s)
{
    long pid = clone_here();
    if (pid == 0)
        become(s);
    s->pid = pid > 0 ? (int)pid : 0;
    if (pid < 0)
        s->error = (int)pid;
}

__attribute__((noinline)) static int start_first(struct start *s)
{
    uint64_t all = ~UINT64_C(0), old = 0;
    sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old,
         SIGNALS_BYTES); // no handler of ours runs twice
    long pid = clone_here();
    if (pid == 0) {
        start_second(s);
        sys1(SYS_exit, 0);
        __builtin_unreachable();
    }
    sys4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, SIGNALS_BYTES);
    if (pid < 0)
        return (int)pid;
    while (sys4(SYS_wait4, SYS_ARG(pid), NULL, __WALL, NULL) == -EINTR) {
    }
    return s->error;
}

int sidecar_start(const char *address)
{
    static struct start s; // the lock of the API is held
    char path[PATH_MAX], pid[16];
    size_t n = 0;
    if (!find_beside(path, sizeof path) && !find_in_path(path, sizeof path))
        return -ENOENT;
    snprintf(pid, sizeof pid, "%u", (unsigned)sys0(SYS_getpid));
    s = (struct start){.path = path,
                       .argv = {path, "serve", "--sidecar", "-p", pid, "--listen", address, NULL}};
    for (char **e = environ; e && *e && n < ENVIRONMENT_MAX; e++)
        if (!is_ours(*e))
            s.environment[n++] = *e;
    int rc = start_first(&s);
    // Where ptrace_scope lets only ancestors look into a process, this one may (fibers are read from outside).
    if (!rc && s.pid)
        sys5(SYS_prctl, SET_PTRACER, SYS_ARG(s.pid), 0, 0, 0);
    return rc;
}

EXPORTED int fscope_serve(const char *address)
{
    if (!address || !*address)
        return -EINVAL;
    int rc = api_begin();
    if (rc)
        return rc;
    api_blind(); // a call's handler could not find it out
    futex_lock(&agent.api_lock);
    rc = sidecar_start(address);
    futex_unlock(&agent.api_lock);
    return rc;
}
