// SPDX-License-Identifier: MIT

#include "cli/target_arg.h"

#include <stdlib.h>
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
    return is_pid(text, &pid) ? target_open_pid(out, pid, err) : target_open_core(out, text, err);
}
