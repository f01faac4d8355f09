// SPDX-License-Identifier: MIT

#include "cli/target_arg.h"

#include "cli/profile_args.h"
#include "collector/finish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_pid(const char *text, uint32_t *pid)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || n == 0 || n > INT32_MAX || !access(text, F_OK))
        return false;
    *pid = (uint32_t)n;
    return true;
}

int target_arg_open(struct target **out, const char *text, struct fscope_error *err)
{
    uint32_t pid;
    const char *slash = strrchr(text, '/');
    if (is_pid(text, &pid))
        return target_open_pid(out, pid, err);
    int rc = target_open_core(out, text, err);
    if (rc == -ENOEXEC && profile_is_trace(text))
        error_set(err, rc, 0,
                  "%s: an execution trace, neither a process nor a core file: `fiberscope trace "
                  "%s` reports on it",
                  text, text);
    else if (rc == -ENOEXEC && finish_is_dump(text))
        error_set(
            err, rc, 0,
            "%s: a recording, neither a process nor a core file: `fiberscope finish %s` makes "
            "profiles and the trace of it",
            text, text);
    else if (rc == -ENOENT && !slash)
        error_set(err, rc, 0, "%s: no file, nor the number of a process: see `pgrep -l %s`", text,
                  text);
    else if (rc == -ENOEXEC && !access(text, X_OK))
        error_set(
            err, rc, 0,
            "%s: a program, no core file of one: give the number of the process, see `pgrep -l "
            "%s`",
            text, slash ? slash + 1 : text);
    return rc;
}

const char *target_arg_one(const char *pid, int argc, char **argv)
{
    return argc + (pid != NULL) != 1 ? NULL : pid ? pid : argv[0];
}

void target_arg_note_end(const struct target *t, const char *text)
{
    struct target_end e;
    char at[32] = "";
    if (!target_end(t, &e))
        return;
    if (e.has_address)
        snprintf(at, sizeof at, " at 0x%llx", (unsigned long long)e.address);
    const char *name = sigabbrev_np(e.signal);
    cli_note("%s: ended by SIG%s%s, in thread %u", text, name ? name : "?", at, e.tid);
}

void target_arg_note_missing(const struct target *t, const char *text)
{
    if (target_is_cut(t))
        cli_note("%s is cut off (ulimit -c, or a full disk?): what is missing is not seen", text);
    else if (target_has_gaps(t))
        cli_note(
            "%s lacks stacks of fibers, and what these fibers wait for: gdb's gcore gives up at "
            "their "
            "guard pages (Linux 6.13 and later); `kill -ABRT` has the kernel write a whole one",
            text);
}
