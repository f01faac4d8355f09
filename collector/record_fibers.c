// SPDX-License-Identifier: MIT
//
// record --fibers: what all fibers do as the recording ends; see record.h. And what is only there
// with fibers.

#include "collector/fibers.h"
#include "collector/record_internal.h"

#include <errno.h>
#include <stdio.h>

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

static bool has_runtime(uint32_t pid)
{
    struct fscope_error err = {0};
    struct target *t = NULL;
    uint64_t at;
    bool has = target_open_pid(&t, pid, &err) ||
               !target_find_variable(t, "libfiberscope-rt", "fib_descriptor", &at);
    target_close(t);
    return has; // also where nobody may look
}

void record_say_conditions(const struct record_options *o, const struct record_result *result)
{
    bool latency = o->trace_slow_ns[2] != 0, stall = o->trace_slow_ns[3] != 0;
    if ((!latency && !stall) || o->quiet || !result->pid || has_runtime(result->pid))
        return;
    fprintf(o->messages,
            "fiberscope: %s%s%s without effect: process %u (%s) has no fiber runtime "
            "(libfiberscope-rt), which alone knows of processors to wait for or to hold; "
            "--slow-region, --slow-task and SIGUSR2 work in any program\n",
            latency ? "--slow-latency" : "", latency && stall ? " and " : "",
            stall ? "--slow-stall" : "", result->pid, result->program);
}
