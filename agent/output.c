// SPDX-License-Identifier: MIT
//
// The recording of a target that has no collector: written by the target itself as it leaves, to a
// temporary name first, so that what has the final name is whole. Nothing is ever overwritten: the
// children and later images of a program share its FIBERSCOPE, and each gets a name of its own. So do the
// copies that a flight recorder takes on the way, which are limited in number: a condition that is met
// every second must not fill the disk.

#include "agent/agent.h"
#include "agent/arch/x86_64.h"
#include "agent/say.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { NAMES_MAX = 1000, COPIES_MAX = 16 };

// What comes after the expanded pattern, made from its end.
struct suffix {
    char text[48];
    char *begin;
};

static void suffix_begin(struct suffix *s)
{
    s->begin = s->text + sizeof s->text - 1;
    *s->begin = '\0';
}

static void before_text(struct suffix *s, const char *text)
{
    s->begin -= strlen(text);
    memcpy(s->begin, text, strlen(text));
}

static void before_number(struct suffix *s, uint32_t n)
{
    do
        *--s->begin = (char)('0' + n % 10);
    while (n /= 10);
}

// A dump's: "" at first, ".PID" at the second try, ".PID.N" at those after.
static void suffix_of_dump(struct suffix *s, uint32_t pid, int attempt)
{
    suffix_begin(s);
    if (attempt > 1) {
        before_number(s, (uint32_t)attempt);
        before_text(s, ".");
    }
    if (attempt) {
        before_number(s, pid);
        before_text(s, ".");
    }
}

static int name_of(char *path, const struct agent *a, const char *pattern, const struct suffix *s)
{
    int rc = agent_env_expand(path, AGENT_PATH_BYTES, pattern, a->space->pid, a->program);
    size_t length = rc ? 0 : strlen(path);
    if (rc)
        return rc;
    if (length + strlen(s->begin) >= AGENT_PATH_BYTES)
        return -ENAMETOOLONG;
    memcpy(path + length, s->begin, strlen(s->begin) + 1);
    return 0;
}

// Under NAME.PID.part, of a copy NAME.PID.copyN.part: both may be written at one time. Its name is in path.
static int write_temporary(const struct agent *a, const char *pattern, uint32_t copy, char *path)
{
    struct suffix s;
    suffix_begin(&s);
    before_text(&s, ".part");
    if (copy) {
        before_number(&s, copy);
        before_text(&s, ".copy");
    }
    before_number(&s, a->space->pid);
    before_text(&s, ".");
    int rc = name_of(path, a, pattern, &s);
    if (rc)
        return rc;
    int fd = (int)sys4(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fd;
    rc = seg_dump(&a->space->seg, fd);
    long closed = sys1(SYS_close, fd);
    if (!rc)
        rc = (int)closed;
    if (rc)
        sys3(SYS_unlinkat, AT_FDCWD, path, 0); // nothing half-written stays
    return rc;
}

// -EEXIST: the name is taken.
static int give_name(const char *temporary, const char *path)
{
    return (int)sys5(SYS_renameat2, AT_FDCWD, temporary, AT_FDCWD, path, 1); // RENAME_NOREPLACE
}

static int dump_somewhere(const struct agent *a, const char *pattern, char *path)
{
    char temporary[AGENT_PATH_BYTES];
    int rc = write_temporary(a, pattern, 0, temporary);
    if (rc)
        return rc;
    // Ours from before an exec that failed after all: the new one holds it too.
    if (a->space->saved_path[0]) {
        memcpy(path, a->space->saved_path, AGENT_PATH_BYTES);
        return (int)sys4(SYS_renameat, AT_FDCWD, temporary, AT_FDCWD, path);
    }
    rc = -EEXIST;
    for (int attempt = 0; rc == -EEXIST && attempt < NAMES_MAX; attempt++) {
        struct suffix s;
        suffix_of_dump(&s, a->space->pid, attempt);
        rc = name_of(path, a, pattern, &s);
        if (!rc)
            rc = give_name(temporary, path);
    }
    if (rc)
        sys3(SYS_unlinkat, AT_FDCWD, temporary, 0);
    else
        memcpy(a->space->saved_path, path, AGENT_PATH_BYTES);
    return rc;
}

// NAME.copyN, with the next N that no file has.
static int copy_somewhere(const struct agent *a, const char *pattern, uint32_t number, char *path)
{
    char temporary[AGENT_PATH_BYTES];
    int rc = write_temporary(a, pattern, number, temporary);
    if (rc)
        return rc;
    rc = -EEXIST;
    for (uint32_t n = number; rc == -EEXIST && n < number + NAMES_MAX; n++) {
        struct suffix s;
        suffix_begin(&s);
        before_number(&s, n);
        before_text(&s, ".copy");
        rc = name_of(path, a, pattern, &s);
        if (!rc)
            rc = give_name(temporary, path);
    }
    if (rc)
        sys3(SYS_unlinkat, AT_FDCWD, temporary, 0);
    return rc;
}

static int say_where(const struct agent *a, const char *pattern, const char *path, int rc,
                     const char *what)
{
    struct say line;
    if (a->env.quiet)
        return rc;
    if (rc)
        say_errno(say_text(say_text(say_begin(&line), pattern), ": cannot write: "), rc);
    else
        say_text(say_text(say_text(say_begin(&line), path), what), path);
    say_end(&line);
    return rc;
}

int output_dump(const struct agent *a, const char *pattern)
{
    char path[AGENT_PATH_BYTES];
    int rc = dump_somewhere(a, pattern, path);
    return say_where(a, pattern, path, rc, ": recorded; next: fiberscope finish ");
}

int output_copy(const struct agent *a, const char *pattern)
{
    char path[AGENT_PATH_BYTES];
    struct say line;
    uint32_t number = atomic_fetch_add_explicit(&a->space->copies, 1, memory_order_relaxed) + 1;
    if (number <= COPIES_MAX) {
        int rc = copy_somewhere(a, pattern, number, path);
        return say_where(a, pattern, path, rc,
                         ": a copy of the flight recorder; next: fiberscope finish ");
    }
    if (number == COPIES_MAX + 1 && !a->env.quiet) {
        say_number(say_text(say_begin(&line), "no further copies of the flight recorder, after "),
                   COPIES_MAX);
        say_end(&line);
    }
    return -EDQUOT;
}
