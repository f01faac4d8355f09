// SPDX-License-Identifier: MIT
//
// Prints the summary of a trace fiber by fiber, region by region, task by task, in the lines of
// trace_summary_oracle.go: for comparing our figures with Go's. Usage: trace_numbers FILE

#include "analysis/trace/summary.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct trace_summary *summary;

static void quoted(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            putchar('\\');
        putchar(*s);
    }
    putchar('"');
}

static void moment(int64_t ns)
{
    if (ns == INT64_MIN)
        putchar('-');
    else
        printf("%" PRId64, ns);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(trace_names_text(&summary->names, ((const struct trace_wait *)a)->reason),
                  trace_names_text(&summary->names, ((const struct trace_wait *)b)->reason));
}

static void times(const struct trace_times *t)
{
    printf("total %" PRId64 " running %" PRId64 " runnable %" PRId64 " syscall %" PRId64
           " blocked %" PRId64 " stw %" PRId64 " sweep %" PRId64 " assist %" PRId64 " [",
           t->total_ns, t->running_ns, t->runnable_ns, t->syscall_ns, t->syscall_blocked_ns,
           t->range_ns[TRACE_RANGE_STW], t->range_ns[TRACE_RANGE_GC_SWEEP],
           t->range_ns[TRACE_RANGE_GC_ASSIST]);
    struct trace_wait *waits = calloc(t->wait_count + 1ull, sizeof *waits);
    uint32_t n = 0;
    for (uint32_t i = 0; waits && i < t->wait_count; i++) {
        if (t->waits[i].ns)
            waits[n++] = t->waits[i];
    }
    if (n)
        qsort(waits, n, sizeof *waits, by_text);
    for (uint32_t i = 0; i < n; i++) {
        fputs(i ? " " : "", stdout);
        quoted(trace_names_text(&summary->names, waits[i].reason));
        printf("=%" PRId64, waits[i].ns);
    }
    free(waits);
    printf("]\n");
}

static void fiber(void *context, const struct trace_fiber *f)
{
    (void)context;
    printf("fiber %" PRId64 " ", f->id);
    quoted(trace_names_text(&summary->names, f->name));
    printf(" %" PRIx64 " created %" PRId64 " start ", f->pc, f->created_ns);
    moment(f->first_run_ns);
    printf(" end ");
    moment(f->ended_ns);
    putchar(' ');
    times(&f->times);
}

static void region(void *context, const struct trace_region *r)
{
    (void)context;
    printf("region %" PRId64 " ", r->fiber);
    quoted(trace_names_text(&summary->names, r->type));
    printf(" task %" PRIu64 " ", r->task);
    moment(r->begin_ns);
    putchar('-');
    moment(r->end_ns);
    putchar(' ');
    times(&r->times);
}

static void task(void *context, const struct trace_task *t)
{
    (void)context;
    printf("task %" PRIu64 " ", t->id);
    quoted(trace_names_text(&summary->names, t->type));
    printf(" parent ");
    if (t->parent == TRACE_NO_TASK)
        putchar('-');
    else
        printf("%" PRIu64, t->parent);
    putchar(' ');
    moment(t->begin_ns);
    putchar('-');
    moment(t->end_ns);
    putchar('\n');
}

int main(int argc, char **argv)
{
    struct trace_summary_options so = {
        .size = sizeof so, .fiber = fiber, .region = region, .task = task};
    struct fscope_error err = {0};
    struct trace_reader *r;
    const struct trace_event *ev;
    int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1, rc;
    if (fd < 0 || trace_reader_open_fd(&r, fd, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    if (trace_summary_new(&summary, &so))
        return 2;
    while ((rc = trace_reader_next(r, &ev)) > 0) {
        if (trace_summary_event(summary, r, ev))
            return 2;
    }
    if (rc < 0)
        fprintf(stderr, "%s\n", trace_reader_error(r)->text);
    if (trace_summary_finish(summary))
        return 2;
    trace_summary_free(summary);
    trace_reader_close(r);
    close(fd);
    return rc < 0;
}
