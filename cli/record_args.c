// SPDX-License-Identifier: MIT
//
// See record_args.h. Naming a kind replaces the default (CPU), so `--wall` alone is wall time alone.

#include "cli/record_args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { HZ_MAX = 10000, HZ_DEFAULT = 99 };

static int read_number(const char *text, const char *what, uint64_t max, uint32_t *out,
                       struct fscope_error *err)
{
    char *end = NULL;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (errno || end == text || *end || n == 0 || n > max || *text == '-')
        return error_set(err, -EINVAL, 0, "%s %s: a whole number from 1 to %llu is needed", what,
                         text, (unsigned long long)max);
    *out = (uint32_t)n;
    return 0;
}

int record_args_duration(const char *text, uint64_t *ns)
{
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"", 1e9},   {"s", 1e9},    {"ms", 1e6},  {"us", 1e3},
                 {"m", 60e9}, {"min", 60e9}, {"h", 3600e9}};
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || !(value > 0) || value > 1e9)
        return -EINVAL;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(end, units[i].unit) != 0)
            continue;
        double total = value * units[i].ns;
        if (total < 1 || total > 1e18)
            return -EINVAL;
        *ns = (uint64_t)total;
        return 0;
    }
    return -EINVAL;
}

static int read_rates(const struct record_args *a, struct record_options *o,
                      struct fscope_error *err)
{
    uint32_t rate = HZ_DEFAULT;
    int rc = a->rate ? read_number(a->rate, "-F", HZ_MAX, &rate, err) : 0;
    bool is_cpu = a->cpu || !a->wall;
    o->cpu_hz = is_cpu ? rate : 0;
    o->wall_hz = a->wall ? rate : 0;
    if (!rc && a->cpu && *a->cpu)
        rc = read_number(a->cpu, "--cpu", HZ_MAX, &o->cpu_hz, err);
    if (!rc && a->wall && *a->wall)
        rc = read_number(a->wall, "--wall", HZ_MAX, &o->wall_hz, err);
    return rc;
}

int record_args_read(const struct record_args *a, struct record_options *o,
                     struct fscope_error *err)
{
    record_options_init(o);
    int rc = read_rates(a, o, err);
    if (rc)
        return rc;
    if (a->duration && record_args_duration(a->duration, &o->duration_ns))
        return error_set(err, -EINVAL, 0, "--duration %s: a time like 30s, 500ms or 2m is needed",
                         a->duration);
    if (a->pid)
        rc = read_number(a->pid, "-p", INT32_MAX, &o->pid, err);
    if (!rc && a->stack_size)
        rc = read_number(a->stack_size, "--stack-size", 65528, &o->stack_bytes, err);
    if (rc)
        return rc;
    bool has_command = a->command && a->command[0];
    if (a->pid && has_command)
        return error_set(err, -EINVAL, 0, "either -p %s or a command (%s), not both", a->pid,
                         a->command[0]);
    if (!a->pid && !has_command)
        return error_set(err, -EINVAL, 0,
                         "what to record is missing: fiberscope record COMMAND [ARGUMENT ...], or "
                         "fiberscope record -p PID");
    if (a->output && !*a->output)
        return error_set(err, -EINVAL, 0, "-o: an empty name");
    o->output = a->output;
    o->inherit = !a->no_inherit;
    o->quiet = a->quiet;
    o->symbolize = !a->no_symbols;
    o->command = a->command;
    return 0;
}
