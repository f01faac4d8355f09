// SPDX-License-Identifier: MIT

#include "cli/target_arg.h"

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

static bool is_trace(const char *path)
{
    char head[5] = "";
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    if (f)
        fclose(f);
    return n == sizeof head && !memcmp(head, "go 1.", n);
}

int target_arg_open(struct target **out, const char *text, struct fscope_error *err)
{
    uint32_t pid;
    if (is_pid(text, &pid))
        return target_open_pid(out, pid, err);
    int rc = target_open_core(out, text, err);
    if (rc == -ENOEXEC && is_trace(text))
        error_set(err, rc, 0,
                  "%s: an execution trace, neither a process nor a core file: `fiberscope trace "
                  "%s` reports on it",
                  text, text);
    return rc;
}
