// SPDX-License-Identifier: MIT
//
// fiberscope trace cut: a valid smaller trace.

#include "base/file.h"
#include "cli/trace_report.h"
#include "formats/trace/write.h"

#include <string.h>

static bool keeps(void *context, int64_t id)
{
    return trace_listed(context, id);
}

// What is not in the result, for its readers: of what waits at its end nobody there may be who ends that.
static uint32_t say_parts(struct trace_note notes[3], const struct trace_input *in)
{
    uint32_t n = 0;
    if (in->from_ns > in->base_ns)
        notes[n++] = (struct trace_note){"cut", 0, in->from_ns, 0, "cut off by --from"};
    if (in->to_ns)
        notes[n++] = (struct trace_note){TRACE_NOTE_PART, in->to_ns, 0, 0, "cut off by --to"};
    if (in->args->fibers.count)
        notes[n++] = (struct trace_note){TRACE_NOTE_PART, 0, 0, 0, "fibers left out by --fiber"};
    return n;
}

static int copy(struct trace_input *in, int fd)
{
    const struct trace_args *a = in->args;
    struct trace_note notes[3];
    struct trace_writer_options wo = {
        .size = sizeof wo,
        .version = trace_reader_version(in->reader) >= 25 ? 26 : 23,
        .keeps_goroutine = a->fibers.count ? keeps : NULL,
        .context = (void *)(uintptr_t)&a->fibers,
        .from_ns = in->from_ns,
        .to_ns = in->to_ns,
        .notes = notes,
        .note_count = say_parts(notes, in),
    };
    struct trace_writer *w;
    const struct trace_event *ev;
    int got = 0, rc = trace_writer_open_fd(&w, fd, &wo);
    if (rc)
        return rc;
    while (!rc && (got = trace_input_next(in, &ev)) > 0)
        rc = trace_writer_put(w, in->reader, ev);
    int close_rc = trace_writer_close(w);
    rc = rc ? rc : close_rc;
    return got < 0 ? 1 : rc; // 1: said already
}

int trace_report_cut(const struct trace_args *a)
{
    struct fscope_error err = {0};
    struct file_replace file = {.fd = -1};
    struct trace_input in;
    int status = trace_input_open(&in, a);
    if (!status && trace_reader_version(in.reader) < 22)
        status = cli_fail("%s: a trace of Go 1.21 or older cannot be cut: it does not say on which "
                          "thread a system call ends, and what cut writes has to (--from and --to "
                          "of every other report work)",
                          a->path);
    if (!status && file_begin(&file, a->output, &err))
        status = cli_fail("%s", err.text);
    if (!status) {
        int rc = copy(&in, file.fd);
        if (rc)
            status = rc == 1 ? CLI_FAILURE : cli_fail("%s: %s", a->output, strerror(-rc));
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
