// SPDX-License-Identifier: MIT
//
// Runs a table of bad use: see misuse.h.

#include "tests/runtime/misuse.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { TEXT_MAX = 1 << 16 };

static char text[TEXT_MAX];

static __attribute__((noreturn)) void run_here(const struct misuse *r, bool is_thread)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0});
    alarm(30);
    if (!is_thread)
        _exit(fib_main(r->fn, NULL) ? 3 : 0);
    CHECK(!fib_init(NULL));
    r->fn(NULL);
    _exit(0);
}

// Its wait status; what it said on standard error is in text.
static int run_child(const struct misuse *r, bool is_thread)
{
    int fds[2];
    CHECK(!pipe(fds));
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        dup2(fds[1], 2);
        close(fds[0]);
        run_here(r, is_thread);
    }
    close(fds[1]);
    size_t used = 0;
    ssize_t n;
    while ((n = read(fds[0], text + used, sizeof text - 1 - used)) > 0)
        used += (size_t)n;
    text[used] = 0;
    close(fds[0]);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static bool is_main_fiber(const char *line, size_t size)
{
    static const char head[] = "goroutine 1 [", end[] = ", \"main\"]:";
    return size > sizeof head + sizeof end && !memcmp(line, head, sizeof head - 1) &&
           !memcmp(line + size - (sizeof end - 1), end, sizeof end - 1);
}

// The line behind the rule's says who, and the one after it begins a stack: "function(...)".
static bool names_who(const char *rule, const char *who)
{
    const char *line = strchr(rule, '\n');
    const char *stack = line++ ? strchr(line, '\n') : NULL;
    const char *end = stack ? strchr(stack + 1, '\n') : NULL;
    if (!end || end - stack <= 5 || memcmp(end - 5, "(...)", 5))
        return false;
    size_t size = (size_t)(stack - line);
    return who ? size == strlen(who) && !memcmp(line, who, size) : is_main_fiber(line, size);
}

static bool is_as_wanted(const struct misuse *r, bool is_thread)
{
    char want[256];
    snprintf(want, sizeof want, "fiberscope-rt: %s: %s", r->call, r->rule);
    const char *who = r->who ? r->who : is_thread ? "in a plain thread:" : NULL;
    int status = run_child(r, is_thread);
    const char *rule = strstr(text, want);
    bool ok = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && rule && names_who(rule, who);
    printf("%s: %s%s\n", ok ? "ok" : "FAILED", r->behaviour, is_thread ? ", in a thread" : "");
    if (!ok)
        printf("status %#x, wanted \"%s\", by %s with its stack; got:\n%s\n", (unsigned)status,
               want, who ? who : "fiber 1, main,", text);
    if (ok && r->check)
        r->check(text);
    fflush(stdout);
    return ok;
}

static bool is_named(const char *name, char **names)
{
    for (char **n = names; *n; n++)
        if (!strcmp(*n, name))
            return true;
    return !*names;
}

int misuse_run(const struct misuse *rows, size_t count, int argc, char **argv)
{
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        const struct misuse *r = &rows[i];
        if (!is_named(r->behaviour, argv + (argc > 0)))
            continue;
        if (r->where != MISUSE_IN_THREAD)
            failed += !is_as_wanted(r, false);
        if (r->where != MISUSE_IN_FIBER)
            failed += !is_as_wanted(r, true);
    }
    return failed ? 1 : 0;
}
