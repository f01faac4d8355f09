// SPDX-License-Identifier: MIT
//
// See inject.h: the order of things, and the helper process that does what needs a tracer.

#include "collector/inject_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    AGAIN_MAX = 20,      // where the agent is at another start or stop
    AGAIN_NS = 20000000, // between two
    // Between a detach's beginning and its end: what other collectors have sent has arrived.
    SETTLE_NS = 100000000,
};

struct report { // of the helper
    int rc;
    int32_t said; // by the agent
    struct inject_result result;
    struct fscope_error err;
};

static void borrow(const struct inject_places *p, uint32_t pid, uint64_t what, struct report *r)
{
    struct inject_point *point = calloc(1, sizeof *point);
    r->rc = point ? inject_find_point(point, p, pid, &r->err)
                  : error_set(&r->err, -ENOMEM, 0, "out of memory");
    if (!r->rc) {
        r->result.tid = point->tid;
        r->rc = inject_run(point, p, pid, what, &r->said, &r->err);
        r->result.stopped_ns = inject_now_ns() - point->since_ns;
    }
    free(point);
}

// In the child: it outlives our group's end, and is never the reason of anything in the target.
static void help(const struct inject_places *p, uint32_t pid, uint64_t what, int fd)
{
    struct report r = {0};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGCHLD, SIG_DFL); // ignored ones would not be told
    setsid();
    borrow(p, pid, what, &r);
    ssize_t n = write(fd, &r, sizeof r); // whoever asked may have gone
    _exit(n == (ssize_t)sizeof r ? 0 : 1);
}

static int read_report(int fd, struct report *out)
{
    size_t got = 0;
    while (got < sizeof *out) {
        ssize_t n = read(fd, (char *)out + got, sizeof *out - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -EPIPE;
        got += (size_t)n;
    }
    return 0;
}

static int run_helper(const struct inject_places *p, uint32_t pid, uint64_t what,
                      struct report *out)
{
    int ends[2];
    *out = (struct report){0};
    if (pipe2(ends, O_CLOEXEC))
        return error_set(&out->err, -errno, 0, "pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        help(p, pid, what, ends[1]);
    }
    int rc = child < 0 ? -errno : 0;
    close(ends[1]);
    if (!rc)
        rc = read_report(ends[0], out);
    close(ends[0]);
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    return rc ? error_set(&out->err, rc, 0, "process %u: the helper ended: %s", pid, strerror(-rc))
              : out->rc;
}

static int refused(uint32_t pid, int32_t said, struct fscope_error *err)
{
    switch (said) {
    case -EPERM:
        return error_set(err, said, 0,
                         "process %u was started with the agent, or is linked with it: it stays in",
                         pid);
    case -EBUSY:
        return error_set(err, said, 0,
                         "process %u is being recorded (`fiberscope ps`): end that first", pid);
    default: return error_set(err, said, 0, "process %u: its agent says: %s", pid, strerror(-said));
    }
}

// Has the agent do one thing, if need be again.
static int have_done(const struct inject_places *p, uint32_t pid, uint64_t what,
                     struct inject_result *out, struct fscope_error *err)
{
    struct report r;
    for (int i = 0; i < AGAIN_MAX; i++) {
        int rc = run_helper(p, pid, what, &r);
        if (rc)
            return error_set(err, rc, 0, "%s", r.err.text);
        out->tid = r.result.tid;
        out->stopped_ns += r.result.stopped_ns;
        if (r.said != -EAGAIN)
            break;
        nanosleep(&(struct timespec){.tv_nsec = AGAIN_NS}, NULL);
    }
    return r.said ? refused(pid, r.said, err) : 0;
}

static void read_options(struct inject_options *o, const struct inject_options *given)
{
    *o = (struct inject_options){0};
    memcpy(o, given, given->size < sizeof *o ? given->size : sizeof *o);
}

// Its user may not enter the folder that we see: then the files are sent.
static int put_in(struct inject_places *p, uint32_t pid, struct inject_result *out,
                  struct fscope_error *err)
{
    struct fscope_error why = {0};
    int rc = have_done(p, pid, INJECT_ATTACH, out, &why);
    if (rc == -ENOEXEC && !p->is_inside && !p->is_hidden &&
        strstr(why.text, "cannot open shared object file")) {
        p->is_hidden = true;
        rc = have_done(p, pid, INJECT_ATTACH, out, &why);
    }
    return rc ? error_set(err, rc, 0, "%s", why.text) : 0;
}

int inject_attach(const struct inject_options *given, struct inject_result *out,
                  struct fscope_error *err)
{
    struct inject_options o;
    struct inject_places *p = calloc(1, sizeof *p);
    read_options(&o, given);
    *out = (struct inject_result){0};
    int rc = p ? inject_look(p, &o, err) : error_set(err, -ENOMEM, 0, "out of memory");
    if (!rc) {
        out->was_inside = p->is_inside;
        if (!p->is_calling)
            rc = put_in(p, o.pid, out, err);
    }
    free(p);
    return rc;
}

int inject_detach(const struct inject_options *given, struct inject_result *out,
                  struct fscope_error *err)
{
    struct inject_options o;
    struct inject_places *p = calloc(1, sizeof *p);
    read_options(&o, given);
    o.with_seccomp = true; // it has borne the agent
    *out = (struct inject_result){0};
    int rc = p ? 0 : error_set(err, -ENOMEM, 0, "out of memory");
    if (!rc && !inject_has_agent(o.pid)) // nor could it have one, perhaps: of no interest
        rc = error_set(err, -ENOENT, 0, "process %u has no agent", o.pid);
    if (!rc)
        rc = inject_look(p, &o, err);
    if (!rc && !p->is_inside)
        rc = error_set(err, -ENOENT, 0, "process %u has no agent", o.pid);
    if (!rc) {
        out->was_inside = true;
        rc = have_done(p, o.pid, INJECT_DETACH_BEGIN, out, err);
    }
    if (!rc) {
        nanosleep(&(struct timespec){.tv_nsec = SETTLE_NS}, NULL);
        rc = have_done(p, o.pid, INJECT_DETACH_END, out, err);
    }
    free(p);
    return rc;
}

int inject_check(const struct inject_options *given, struct fscope_error *err)
{
    struct inject_options o;
    struct inject_places *p = calloc(1, sizeof *p);
    read_options(&o, given);
    int rc = p ? inject_look(p, &o, err) : error_set(err, -ENOMEM, 0, "out of memory");
    free(p);
    return rc;
}

int inject_call(uint32_t pid, uint64_t value, struct fscope_error *err)
{
    const struct inject_options o = {.pid = pid, .with_seccomp = true};
    struct inject_places *p = calloc(1, sizeof *p);
    struct inject_result unused = {0};
    int rc = p ? inject_look(p, &o, err) : error_set(err, -ENOMEM, 0, "out of memory");
    if (!rc && !p->is_calling)
        rc = error_set(err, -ENOENT, 0, "process %u: its agent answers no calls", pid);
    if (!rc)
        rc = have_done(p, pid, value, &unused, err);
    free(p);
    return rc;
}
