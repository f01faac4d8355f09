// SPDX-License-Identifier: MIT
//
// fiberscope trace export: for other viewers.

#include "analysis/trace/wall.h"
#include "base/file.h"
#include "cli/trace_report.h"
#include "formats/folded.h"
#include "formats/trace/export.h"

#include <string.h>

static int write_all(void *context, const void *bytes, size_t n)
{
    return file_write_all(*(int *)context, bytes, n);
}

static int stream(struct trace_input *in, enum trace_export_format format, int fd)
{
    const struct trace_export_options o = {.size = sizeof o,
                                           .format = format,
                                           .base_ns = in->base_ns,
                                           .from_ns = in->from_ns,
                                           .to_ns = in->to_ns};
    struct trace_export *x;
    const struct trace_event *ev;
    int got = 0, rc = trace_export_open(&x, &o, write_all, &fd);
    while (!rc && (got = trace_input_next(in, &ev)) > 0)
        rc = trace_export_event(x, in->reader, ev);
    int closed = trace_export_close(x);
    rc = rc ? rc : closed;
    if (rc && got >= 0)
        cli_fail("%s: %s", in->args->output, strerror(-rc));
    return rc || got < 0 ? CLI_FAILURE : CLI_OK;
}

// Folded stacks, and the profile that they are made from.
static int stacks(struct trace_input *in, bool folded, int fd)
{
    struct fscope_error err = {0};
    struct trace_spans *s = NULL;
    struct pprof_profile *p = NULL;
    struct trace_spans_options so = {.keep = TRACE_KEEP_SPANS | TRACE_KEEP_SAMPLES};
    int status = trace_input_spans(in, &so, &s);
    if (!status && trace_wall_profile(s, in->from_ns, in->to_ns, &p))
        status = cli_fail("out of memory");
    if (!status && (folded ? folded_write_fd(p, 1, fd, &err) : pprof_write_fd(p, fd, true, &err)))
        status = cli_fail("%s", err.text);
    pprof_free(p);
    trace_spans_free(s);
    return status;
}

int trace_report_export(const struct trace_args *a)
{
    const char *format = a->format ? a->format : "json";
    struct fscope_error err = {0};
    struct file_replace file = {.fd = -1};
    struct trace_input in;
    int status = trace_input_open(&in, a);
    if (!status && file_begin(&file, a->output, &err))
        status = cli_fail("%s", err.text);
    if (!status) {
        if (!strcmp(format, "json"))
            status = stream(&in, TRACE_EXPORT_JSON, file.fd);
        else if (!strcmp(format, "perfetto"))
            status = stream(&in, TRACE_EXPORT_PERFETTO, file.fd);
        else
            status = stacks(&in, !strcmp(format, "folded"), file.fd);
        if (status)
            file_abort(&file);
        else if (file_commit(&file, &err))
            status = cli_fail("%s", err.text);
    }
    trace_input_close(&in);
    return status;
}
