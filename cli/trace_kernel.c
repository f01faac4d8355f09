// SPDX-License-Identifier: MIT
//
// Reading the kernel trace of a recording. See trace_report.h.

#include "cli/trace_report.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

enum { FILES_MAX = 1000 };

bool trace_kernel_next(char *path, size_t size, const char *first, int number)
{
    int n = snprintf(path, size, "%s.%d", first, number);
    return number < FILES_MAX && n > 0 && (size_t)n < size && !access(path, F_OK);
}

bool trace_kernel_is(const char *path, char *program, size_t size)
{
    static const char ending[] = ".kernel.trace";
    const char *slash = strrchr(path, '/'), *at = strstr(slash ? slash : path, ending);
    const char *rest = at ? at + sizeof ending - 1 : "";
    if (!at || (*rest && *rest != '.'))
        return false;
    int n = snprintf(program, size, "%.*s.trace", (int)(at - path), path);
    if (n < 0 || (size_t)n >= size || access(program, F_OK))
        program[0] = '\0';
    return true;
}

static int read_file(struct trace_kernel *k, const struct trace_args *a, const char *path)
{
    struct trace_args ka = {.from_ns = -1,
                            .to_ns = -1,
                            .salvage = a->salvage,
                            .memory_bytes = a->memory_bytes,
                            .path = path};
    const struct trace_event *ev;
    struct trace_input in;
    int got = 0, rc = 0, status = trace_input_open(&in, &ka);
    while (!status && !rc && (got = trace_input_next(&in, &ev)) > 0)
        rc = trace_kernel_event(k, in.reader, ev);
    rc = rc ? rc : trace_kernel_file_end(k);
    trace_input_close(&in);
    if (!status && (got < 0 || rc))
        status = rc ? cli_fail("%s: %s", path, strerror(-rc)) : CLI_FAILURE;
    return status;
}

// The file, and those that follow it after a loss.
static int read_files(struct trace_kernel *k, const struct trace_args *a, const char *path)
{
    char next[PATH_MAX + 16];
    int status = read_file(k, a, path);
    for (int i = 2; !status && trace_kernel_next(next, sizeof next, path, i); i++)
        status = read_file(k, a, next);
    return status;
}

static int fail_missing(const struct trace_args *a, const char *path)
{
    if (!path)
        return cli_usage("lost: which kernel trace? fiberscope trace lost FILE KERNELFILE");
    return cli_fail("%s: there is no such file, which a kernel trace beside %s would be: "
                    "`fiberscope record --trace --kernel` makes both, or name it: fiberscope "
                    "trace lost FILE KERNELFILE",
                    path, a->path);
}

int trace_input_kernel(struct trace_kernel **k, const struct trace_args *a, bool is_needed)
{
    char path[PATH_MAX];
    *k = NULL;
    bool has_path = strcmp(a->path, "-") != 0 && !trace_kernel_path(path, sizeof path, a->path);
    bool is_beside = !a->second && has_path && !access(path, F_OK);
    if (!a->second && !is_beside)
        return is_needed ? fail_missing(a, has_path ? path : NULL) : CLI_OK;
    if (trace_kernel_new(k))
        return cli_fail("out of memory");
    return a->second ? read_file(*k, a, a->second) : read_files(*k, a, path);
}
