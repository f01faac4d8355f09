// SPDX-License-Identifier: MIT
//
// fiberscope trace cut: a valid smaller trace.

#include "base/file.h"
#include "cli/trace_report.h"
#include "formats/trace/write.h"

#include <inttypes.h>
#include <string.h>

static bool keeps(void *context, int64_t id)
{
    return trace_listed(context, id);
}

static int copy(struct trace_input *in, int fd, uint64_t *kept)
{
    const struct trace_args *a = in->args;
    struct trace_writer_options wo = {
        .size = sizeof wo,
        .version = trace_reader_version(in->reader) >= 25 ? 26 : 23,
        .keeps_goroutine = a->fibers.count ? keeps : NULL,
        .context = (void *)(uintptr_t)&a->fibers,
    };
    struct trace_writer *w;
    const struct trace_event *ev;
    int got = 0, rc = trace_writer_open_fd(&w, fd, &wo);
    if (rc)
        return rc;
    while (!rc && (got = trace_input_next(in, &ev)) > 0) {
        bool late = in->to_ns && ev->time_ns > in->to_ns; // up to the next Sync
        bool inside = ev->time_ns >= in->from_ns && !late;
        *kept += inside;
        rc = trace_writer_put(w, in->reader, ev,
                              late     ? TRACE_LATE
                              : inside ? TRACE_KEEP
                                       : TRACE_FOLLOW);
    }
    int close_rc = trace_writer_close(w);
    rc = rc ? rc : close_rc;
    return got < 0 ? 1 : rc; // 1: said already
}

int trace_report_cut(const struct trace_args *a)
{
    struct fscope_error err = {0};
    struct file_replace file = {.fd = -1};
    struct trace_input in;
    uint64_t kept = 0;
    int status = trace_input_open(&in, a);
    if (!status && trace_reader_version(in.reader) < 22)
        status = cli_fail("%s: a trace of Go 1.21 or older cannot be cut: it does not say on which "
                          "thread a system call ends, and what cut writes has to (--from and --to "
                          "of every other report work)",
                          a->path);
    if (!status && file_begin(&file, a->output, &err))
        status = cli_fail("%s", err.text);
    if (!status) {
        int rc = copy(&in, file.fd, &kept);
        if (rc)
            status = rc == 1 ? CLI_FAILURE : cli_fail("%s: %s", a->output, strerror(-rc));
        else if (!kept)
            status = cli_fail("%s: no event in this range; the result would be empty", a->path);
        else
            status = trace_input_check_fibers(&in);
        if (status)
            file_abort(&file);
        else if (file_commit(&file, &err))
            status = cli_fail("%s", err.text);
    }
    trace_input_close(&in);
    return status;
}
