// SPDX-License-Identifier: MIT
//
// record --fibers: what all fibers do as the recording ends; see record.h. And what is only there
// with fibers.

#include "collector/fibers.h"
#include "collector/record_internal.h"
#include "collector/record_trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int record_fibers(const struct record_options *o, struct record_result *result,
                  struct fscope_error *err)
{
    struct target *t = NULL;
    struct fibers *f = NULL;
    if (!o->fibers)
        return 0;
    if (result->target_ended || !result->pid) {
        snprintf(result->warning, sizeof result->warning,
                 "no snapshot of fibers: the program had ended (use -d TIME or -p PID)");
        return 0;
    }
    int rc = target_open_pid(&t, result->pid, err);
    if (!rc)
        rc = fibers_open(&f, t, err);
    if (!rc) {
        int64_t n = fibers_profile(f, result->builders[RECORD_CUSTOM]);
        rc = n < 0 ? error_set(err, (int)n, 0, "fibers of process %u: cannot be read", result->pid)
                   : 0;
    }
    fibers_close(f);
    target_close(t);
    if (rc && (o->cpu_hz || o->wall_hz || !o->pid)) { // the rest is worth writing
        snprintf(result->warning, sizeof result->warning, "no snapshot of fibers: %.400s",
                 err->text);
        return 0;
    }
    return rc;
}

bool record_has_runtime(uint32_t pid)
{
    struct fscope_error err = {0};
    struct target *t = NULL;
    uint64_t at;
    bool has = target_open_pid(&t, pid, &err) ||
               !target_find_variable(t, "libfiberscope-rt", "fib_descriptor", &at);
    target_close(t);
    return has;
}

static void say_no_runtime(const struct record_options *o, const struct record_result *result)
{
    bool latency = o->trace_slow_ns[2] != 0, stall = o->trace_slow_ns[3] != 0;
    fprintf(o->messages,
            "fiberscope: %s%s%s without effect: process %u (%s) has no fiber runtime "
            "(libfiberscope-rt), which alone knows of processors to wait for or to hold; "
            "--slow-region, --slow-task and SIGUSR2 work in any program\n",
            latency ? "--slow-latency" : "", latency && stall ? " and " : "",
            stall ? "--slow-stall" : "", result->pid, result->program);
}

void record_say_conditions(const struct record_options *o, struct record_result *result)
{
    bool is_about_it = o->trace_slow_ns[2] || o->trace_slow_ns[3];
    if (!is_about_it || o->quiet || !result->pid || result->has_runtime ||
        record_has_runtime(result->pid))
        return;
    result->has_said_conditions = true;
    say_no_runtime(o, result);
}

// How many copies were made because of the option.
static unsigned copies_for(const struct record_result *result, const char *option)
{
    unsigned n = 0;
    for (size_t i = 0; i < result->trace_count; i++)
        n += result->traces[i].file.generations && strstr(result->traces[i].file.cause, option);
    return n;
}

static void say_limit(FILE *out, const char *option, uint64_t ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"h", UINT64_C(3600000000000)},
                 {"m", UINT64_C(60000000000)},
                 {"s", UINT64_C(1000000000)},
                 {"ms", 1000000},
                 {"us", 1000},
                 {"ns", 1}};
    int i = 0;
    while (ns % units[i].ns) // the largest that needs no fraction
        i++;
    fprintf(out, "fiberscope: %s=%" PRIu64 "%s: ", option, ns / units[i].ns, units[i].name);
}

static void say_copies(FILE *out, unsigned copies, unsigned others, uint64_t hits)
{
    char times[64];
    snprintf(times, sizeof times, "met %s%" PRIu64 " time%s", hits >= UINT16_MAX ? "at least " : "",
             hits, hits == 1 ? "" : "s");
    if (copies)
        fprintf(out, "%u cop%s for it (at most one a second); %s\n", copies,
                copies == 1 ? "y was made" : "ies were made", times);
    else
        fprintf(out, "%s; %s\n", times,
                others ? "a copy for another condition was less than a second old"
                       : "no copy for it was made in time, what was written is of the end");
}

void record_say_met(const struct record_options *o, const struct record_result *result)
{
    static const struct {
        const char *option, *why_not;
    } conditions[] = {
        {"--slow-region", "no region took longer"},
        {"--slow-task", "no task took longer"},
        {"--slow-latency", "no fiber that was looked at (one in 8) waited longer for a processor"},
        {"--slow-stall", "no fiber held its processor longer"},
    };
    bool needs_runtime = (o->trace_slow_ns[2] || o->trace_slow_ns[3]) && !result->has_runtime;
    if (needs_runtime && !result->has_said_conditions)
        say_no_runtime(o, result);
    for (int i = 0; i < 4; i++) {
        unsigned n = copies_for(result, conditions[i].option);
        if (!o->trace_slow_ns[i] || (i >= 2 && needs_runtime))
            continue;
        say_limit(o->messages, conditions[i].option, o->trace_slow_ns[i]);
        if (n || result->trace_hits[i])
            say_copies(o->messages, n, copies_for(result, "--slow-") - n, result->trace_hits[i]);
        else
            fprintf(o->messages, "not met: %s; what was written is of the end\n",
                    conditions[i].why_not);
    }
}
