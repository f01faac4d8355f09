// SPDX-License-Identifier: MIT
//
// The recording of a target that has no collector: written by the target itself as it leaves, to a
// temporary name first, so that what has the final name is whole. Nothing is ever overwritten: the
// children and later images of a program share its FIBERSCOPE, and each gets a name of its own.

#include "agent/agent.h"
#include "agent/arch/x86_64.h"
#include "agent/say.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { NAMES_MAX = 1000 };

// pattern expanded, with ".PID" for the second try and ".PID.N" for those after.
static int name_of(char *path, const char *pattern, uint32_t pid, const char *program, int attempt)
{
    int rc = agent_env_expand(path, AGENT_PATH_BYTES, pattern, pid, program);
    if (rc || !attempt)
        return rc;
    char suffix[32], *p = suffix + sizeof suffix;
    *--p = '\0';
    if (attempt > 1) {
        for (int n = attempt; n; n /= 10)
            *--p = (char)('0' + n % 10);
        *--p = '.';
    }
    for (uint32_t n = pid; n; n /= 10)
        *--p = (char)('0' + n % 10);
    *--p = '.';
    size_t length = strlen(path);
    if (length + strlen(p) >= AGENT_PATH_BYTES)
        return -ENAMETOOLONG;
    memcpy(path + length, p, strlen(p) + 1);
    return 0;
}

static int write_temporary(const struct agent *a, const char *path)
{
    int fd = (int)sys4(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fd;
    int rc = seg_dump(&a->space->seg, fd);
    long closed = sys1(SYS_close, fd);
    if (!rc)
        rc = (int)closed;
    if (rc)
        sys3(SYS_unlinkat, AT_FDCWD, path, 0); // nothing half-written stays
    return rc;
}

static int dump_somewhere(const struct agent *a, const char *pattern, char *path)
{
    char temporary[AGENT_PATH_BYTES + 8];
    int rc = name_of(path, pattern, a->space->pid, a->program, 1);
    if (rc)
        return rc;
    size_t n = strlen(path);
    memcpy(temporary, path, n);
    memcpy(temporary + n, ".part", 6);
    rc = write_temporary(a, temporary);
    if (rc)
        return rc;
    // Ours from before an exec that failed after all: the new one holds it too.
    if (a->space->saved_path[0]) {
        memcpy(path, a->space->saved_path, AGENT_PATH_BYTES);
        return (int)sys4(SYS_renameat, AT_FDCWD, temporary, AT_FDCWD, path);
    }
    for (int attempt = 0; attempt < NAMES_MAX; attempt++) {
        rc = name_of(path, pattern, a->space->pid, a->program, attempt);
        if (!rc) // 1: RENAME_NOREPLACE
            rc = (int)sys5(SYS_renameat2, AT_FDCWD, temporary, AT_FDCWD, path, 1);
        if (rc != -EEXIST)
            break;
    }
    if (rc)
        sys3(SYS_unlinkat, AT_FDCWD, temporary, 0);
    else
        memcpy(a->space->saved_path, path, AGENT_PATH_BYTES);
    return rc;
}

int output_dump(const struct agent *a, const char *pattern)
{
    char path[AGENT_PATH_BYTES];
    struct say line;
    int rc = dump_somewhere(a, pattern, path);
    if (a->env.quiet)
        return rc;
    if (rc)
        say_errno(say_text(say_text(say_begin(&line), pattern), ": cannot write: "), rc);
    else
        say_text(say_text(say_text(say_begin(&line), path), ": recorded; next: fiberscope finish "),
                 path);
    say_end(&line);
    return rc;
}
