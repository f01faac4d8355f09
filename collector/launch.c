// SPDX-License-Identifier: MIT
//
// Fork and exec; see launch.h. The child reports a failed exec through a pipe that a successful one
// closes, so the parent never has to guess.

#include "collector/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef FSCOPE_AGENT_INSTALLED // the configured place, set by CMake
#define FSCOPE_AGENT_INSTALLED "/usr/local/lib/fiberscope/libfiberscope.so"
#endif
#ifndef FSCOPE_AGENT_RELATIVE // from the installed executable's folder
#define FSCOPE_AGENT_RELATIVE "../lib/fiberscope/libfiberscope.so"
#endif

// Without symbolic links and "..": what LD_PRELOAD gets must hold from any working directory.
static int try_agent(char *path, size_t size, const char *dir, const char *name)
{
    char joined[2 * PATH_MAX], real[PATH_MAX];
    int n = snprintf(joined, sizeof joined, "%s%s%s", dir, dir[0] ? "/" : "", name);
    if (n < 0 || (size_t)n >= sizeof joined || !realpath(joined, real) || access(real, R_OK) != 0 ||
        strlen(real) >= size)
        return -ENOENT;
    strcpy(path, real);
    return 0;
}

int launch_find_agent(char *path, size_t size, struct fscope_error *err)
{
    static const char *const beside[] = {
        "../agent/libfiberscope.so", // build tree: cli/fiberscope
        FSCOPE_AGENT_RELATIVE,
        "libfiberscope.so",
    };
    const char *dir = getenv("FIBERSCOPE_LIBDIR");
    int rc = -ENOENT;
    if (dir && *dir) {
        rc = try_agent(path, size, dir, "libfiberscope.so");
        if (rc)
            return error_set(err, rc, 0,
                             "%s: no readable libfiberscope.so there (FIBERSCOPE_LIBDIR)", dir);
    }
    char self[PATH_MAX] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? strrchr(self, '/') : NULL;
    if (slash)
        *slash = '\0';
    for (size_t i = 0; rc && slash && i < sizeof beside / sizeof *beside; i++)
        rc = try_agent(path, size, self, beside[i]);
    if (rc)
        rc = try_agent(path, size, "", FSCOPE_AGENT_INSTALLED);
    if (rc)
        return error_set(
            err, rc, 0,
            "libfiberscope.so not found beside %s nor as %s; set FIBERSCOPE_LIBDIR to its "
            "folder",
            self, FSCOPE_AGENT_INSTALLED);
    if (strpbrk(path, " :"))
        return error_set(
            err, -EINVAL, 0,
            "%s: LD_PRELOAD cannot carry a path with a space or a colon; copy the library "
            "elsewhere and set FIBERSCOPE_LIBDIR",
            path);
    return 0;
}

static int set_environment(const struct launch_options *o)
{
    if (o->preload) {
        const char *users = getenv("LD_PRELOAD");
        char *joined = NULL;
        if (asprintf(&joined, "%s%s%s", o->preload, users && *users ? ":" : "",
                     users ? users : "") < 0)
            return -ENOMEM;
        int rc = setenv("LD_PRELOAD", joined, 1);
        free(joined);
        if (rc)
            return -ENOMEM;
    }
    if (o->settings && setenv("FIBERSCOPE", o->settings, 1))
        return -ENOMEM;
    return 0;
}

// Our handlers must not swallow what is for the command; exec resets them too, but only then.
static void drop_handlers(const sigset_t *ignored)
{
    for (int signo = 1; signo < NSIG; signo++) {
        struct sigaction sa;
        if (sigaction(signo, NULL, &sa) == 0 && sa.sa_handler != SIG_IGN &&
            sa.sa_handler != SIG_DFL) {
            bool is_ignored = ignored && sigismember(ignored, signo) == 1;
            sa = (struct sigaction){.sa_handler = is_ignored ? SIG_IGN : SIG_DFL};
            sigaction(signo, &sa, NULL);
        }
    }
}

// After fork; does not return. We are single-threaded, so libc may be used.
static void child(const struct launch_options *o, int go_fd, int fault_fd)
{
    int rc = set_environment(o);
    if (!rc && go_fd >= 0) {
        char byte;
        ssize_t n;
        while ((n = read(go_fd, &byte, 1)) < 0 && errno == EINTR) {
        }
        if (n != 1)
            rc = -ECANCELED; // nobody wants this program to run
    }
    if (!rc) {
        drop_handlers(o->ignored);
        sigprocmask(SIG_SETMASK, o->sigmask, NULL);
        execv(o->path, o->argv);
        rc = -errno;
    }
    ssize_t n = write(fault_fd, &rc, sizeof rc);
    _exit(n == (ssize_t)sizeof rc ? 127 : 126);
}

int launch_start(struct launch *out, const struct launch_options *opts, struct fscope_error *err)
{
    *out = (struct launch){.pidfd = -1, .go_fd = -1, .fault_fd = -1};
    int go[2] = {-1, -1}, fault[2] = {-1, -1};
    int rc;
    if (pipe2(fault, O_CLOEXEC) || (opts->hold && pipe2(go, O_CLOEXEC))) {
        rc = error_set(err, -errno, 0, "pipe: %s", strerror(errno));
        goto fail;
    }
    pid_t pid = fork();
    if (pid < 0) {
        rc = error_set(err, -errno, 0, "fork: %s", strerror(errno));
        goto fail;
    }
    if (pid == 0) {
        if (go[1] >= 0)
            close(go[1]); // or the child would keep its own pipe open and wait for ever
        child(opts, go[0], fault[1]);
    }
    if (go[0] >= 0)
        close(go[0]);
    close(fault[1]);
    out->pid = pid;
    out->go_fd = go[1];
    out->fault_fd = fault[0];
    out->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (out->pidfd < 0) {
        rc = error_set(err, -errno, 0, "pidfd_open: %s (Linux 5.3 or newer is needed)",
                       strerror(errno));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        launch_close(out);
        return rc;
    }
    return 0;
fail:
    for (int i = 0; i < 2; i++) {
        if (go[i] >= 0)
            close(go[i]);
        if (fault[i] >= 0)
            close(fault[i]);
    }
    return rc;
}

int launch_go(struct launch *l, const char *path, struct fscope_error *err)
{
    if (l->go_fd >= 0) {
        ssize_t w = write(l->go_fd, "g", 1);
        int failed = w == 1 ? 0 : errno;
        close(l->go_fd);
        l->go_fd = -1;
        if (failed)
            return error_set(err, -failed, 0, "%s: could not be started: %s", path,
                             strerror(failed));
    }
    int fault = 0;
    ssize_t n;
    while ((n = read(l->fault_fd, &fault, sizeof fault)) < 0 && errno == EINTR) {
    }
    close(l->fault_fd);
    l->fault_fd = -1;
    if (n != (ssize_t)sizeof fault)
        return 0;
    return error_set(err, fault, 0, "%s: cannot be executed: %s", path, strerror(-fault));
}

void launch_close(struct launch *l)
{
    int *fds[] = {&l->pidfd, &l->go_fd, &l->fault_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}
