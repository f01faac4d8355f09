// SPDX-License-Identifier: MIT
//
// What needs the runtime says so before it has been started: by -ESRCH or NULL, or, where neither can be returned,
// by aborting with the rule. What does not need it works in the plain thread.

#include "fiberscope/chan.h"
#include "fiberscope/sync.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { MS = 1000000 };

static int task(void *arg, struct fib_ctx *ctx)
{
    (void)arg, (void)ctx;
    return 0;
}

static void nothing(void *arg)
{
    (void)arg;
}

static void start_timer(void)
{
    static struct fib_timer t;
    fib_timer_start(&t, MS, 0, nothing, NULL);
}

static void make_deadline(void)
{
    fib_ctx_with_timeout(fib_ctx_background(), MS);
}

static void aborts(void (*fn)(void))
{
    static const char rule[] = "the runtime has not been started";
    char text[4096] = {0};
    int fds[2], status;
    CHECK(!pipe(fds));
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        dup2(fds[1], 2);
        fn();
        _exit(0);
    }
    close(fds[1]);
    for (size_t used = 0; used < sizeof text - 1;) {
        ssize_t n = read(fds[0], text + used, sizeof text - 1 - used);
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    close(fds[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %x", (unsigned)status);
    CHECK(strstr(text, rule), "%s", text);
}

int main(void)
{
    struct fib_waitgroup w = {0};
    struct fib_workers_options o = {.size = sizeof o};
    CHECK(fib_go(NULL, nothing, NULL) == -ESRCH);
    CHECK(fib_waitgroup_go(&w, nothing, NULL) == -ESRCH);
    fib_waitgroup_wait(&w); // nothing was added
    CHECK(!fib_workers_new(NULL, NULL) && !fib_workers_new(NULL, &o));
    struct fib_group *g = fib_group_new(NULL, 0);
    CHECK(g && fib_group_go(g, task, NULL) == -ESRCH);
    fib_group_free(g);
    CHECK(fib_procs(0) == 0 && fib_self().id == 0);

    struct fib_chan *c = fib_chan_new(0, 1);
    CHECK(c && !fib_chan_send_for(c, NULL, 0) && fib_chan_send_for(c, NULL, MS) == -ETIMEDOUT);
    fib_chan_free(c);
    fib_sleep(MS);

    aborts(start_timer);
    aborts(make_deadline);
    return 0;
}
