// SPDX-License-Identifier: MIT
//
// Why a process may not be looked into. The kernel here may have no Yama: its setting is shown to the code by a
// mount over /proc/sys/kernel, in a namespace of a child's own, where an ordinary user asks.

#include "collector/permission.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/skip.h"

enum { NOBODY = 65534, CANNOT = 77 };

static bool show_scope(const char *scope)
{
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("none", "/proc/sys/kernel", "tmpfs", 0, NULL))
        return false;
    if (!*scope)
        return true;
    FILE *f = mkdir("/proc/sys/kernel/yama", 0755)
                  ? NULL
                  : fopen("/proc/sys/kernel/yama/ptrace_scope", "we");
    if (!f)
        return false;
    fprintf(f, "%s\n", scope);
    return fclose(f) == 0;
}

struct theirs {
    uid_t user;
    gid_t group;
    bool is_dumpable;
};

static const struct theirs usual = {NOBODY, NOBODY, true};

static pid_t sleeper(const struct theirs *t)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (setresgid(t->group, t->group, t->group) || setresuid(t->user, t->user, t->user) ||
            prctl(PR_SET_DUMPABLE, t->is_dumpable))
            _exit(1);
        for (;;)
            pause();
    }
    return pid;
}

// In a child: as user 65534, of a process of `theirs`.
static void ask(int to, const char *scope, const struct theirs *theirs)
{
    char text[512] = "";
    if (!show_scope(scope))
        _exit(CANNOT);
    pid_t target = sleeper(theirs);
    usleep(50000); // until it is what it will be
    if (target < 0 || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY) ||
        prctl(PR_SET_DUMPABLE, true))
        _exit(1);
    permission_explain((uint32_t)target, PERMISSION_TRACE, text, sizeof text);
    dprintf(to, "%s", text);
    _exit(0);
}

static void explain(const char *scope, const struct theirs *theirs, char text[512])
{
    int ends[2], status;
    if (geteuid())
        SKIP_CASE("needs root for a mount over /proc/sys/kernel");
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0 && !setpgid(0, 0))
        ask(ends[1], scope, theirs);
    close(ends[1]);
    ssize_t n = read(ends[0], text, 511);
    close(ends[0]);
    text[n > 0 ? n : 0] = '\0';
    assert_int_equal(waitpid(child, &status, 0), child);
    kill(-child, SIGKILL); // the process that it asked of
    if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT)
        SKIP_CASE("nothing can be mounted over /proc/sys/kernel");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void yama_is_named_with_its_remedy(void **state)
{
    (void)state;
    char text[512];
    for (const char *scope = "12"; *scope; scope++) {
        const char one[2] = {*scope, '\0'};
        explain(one, &usual, text);
        char want[64];
        snprintf(want, sizeof want, "kernel.yama.ptrace_scope is %s: ", one);
        assert_non_null(strstr(text, want));
        assert_non_null(strstr(text, "`sysctl kernel.yama.ptrace_scope=0`"));
        assert_non_null(strstr(text, "CAP_SYS_PTRACE"));
    }
    explain("3", &usual, text);
    assert_non_null(strstr(text, "kernel.yama.ptrace_scope is 3: nobody may"));
}

// Its setting would change nothing where the kernel refuses for another reason.
static void yama_is_not_blamed_for_what_others_refuse(void **state)
{
    (void)state;
    char text[512];
    explain("1", &(struct theirs){1, NOBODY, true}, text);
    assert_non_null(strstr(text, "it belongs to user 1 and you are user 65534"));
    explain("1", &(struct theirs){NOBODY, NOBODY, false}, text);
    assert_non_null(strstr(text, "not dumpable"));
    for (int i = 0; i < 2; i++) { // switched off, and not there
        explain(i ? "" : "0", &usual, text);
        assert_null(strstr(text, "yama"));
        assert_non_null(strstr(text, "a security module"));
    }
}

// A process that may not be seen into hides its user namespace, too: that it differs from ours is not known then.
static void a_group_of_its_own_is_named(void **state)
{
    (void)state;
    char text[512];
    for (int i = 0; i < 2; i++) {
        explain(i ? "" : "1", &(struct theirs){NOBODY, 5, true}, text);
        assert_non_null(strstr(text, "it runs with group 5 and you with group 65534"));
        assert_null(strstr(text, "namespace"));
    }
    explain("0", &(struct theirs){NOBODY, 5, false}, text);
    assert_non_null(strstr(text, "not dumpable"));
    assert_null(strstr(text, "namespace"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yama_is_named_with_its_remedy),
        cmocka_unit_test(yama_is_not_blamed_for_what_others_refuse),
        cmocka_unit_test(a_group_of_its_own_is_named),
    };
    return skip_status(cmocka_run_group_tests(tests, NULL, NULL));
}
