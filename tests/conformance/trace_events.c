// SPDX-License-Identifier: MIT
//
// Prints the events of a trace, one a line, in the words of trace_oracle.go: for comparing our
// reader with Go's. Usage: trace_events [--salvage] [--how=file|memory|stream] [--quiet] FILE
//
// A stack is numbered when it is first printed, by what it holds, and defined on a line before.

#include "formats/trace/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static uint32_t *numbers; // by stable stack id
static uint32_t number_capacity, number_next;

static void text(const struct trace_reader *r, uint32_t id)
{
    struct trace_text t = trace_reader_string(r, id);
    putchar('"');
    for (uint32_t i = 0; i < t.size_bytes; i++) {
        unsigned char c = (unsigned char)t.bytes[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\')
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    putchar('"');
}

// The number of a stack; defines it when it is new.
static uint32_t stack_number(const struct trace_reader *r, uint32_t id)
{
    const struct trace_frame *frames;
    uint32_t count = trace_reader_stack(r, id, &frames);
    if (count == 0)
        return 0;
    if (id & TRACE_ID_TRANSIENT) {
        fputs("a transient stack\n", stderr);
        exit(2);
    }
    if (id >= number_capacity) {
        uint32_t more = 2 * id + 64;
        numbers = realloc(numbers, more * sizeof *numbers);
        if (!numbers)
            exit(2);
        memset(numbers + number_capacity, 0, (more - number_capacity) * sizeof *numbers);
        number_capacity = more;
    }
    if (numbers[id])
        return numbers[id];
    numbers[id] = ++number_next;
    printf("stack %u", number_next);
    for (uint32_t i = 0; i < count; i++) {
        printf(" %llx:", (unsigned long long)frames[i].pc);
        text(r, frames[i].function);
        putchar(':');
        text(r, frames[i].file);
        printf(":%llu", (unsigned long long)frames[i].line);
    }
    putchar('\n');
    return number_next;
}

static void transition(const struct trace_reader *r, const struct trace_event *e, uint32_t stack)
{
    bool is_go = e->what == TRACE_RESOURCE_GOROUTINE;
    printf(" %s(%lld) %s->%s ", is_go ? "Goroutine" : "Proc", (long long)e->transition.id,
           is_go ? trace_go_state_name(e->transition.from)
                 : trace_proc_state_name(e->transition.from),
           is_go ? trace_go_state_name(e->transition.to) : trace_proc_state_name(e->transition.to));
    text(r, e->transition.reason);
    printf(" %u", stack);
}

static void range(const struct trace_reader *r, const struct trace_event *e)
{
    static const char *const scopes[] = {"", "Goroutine", "None", "Proc", "Goroutine"};
    printf(" %s ", trace_range_name(e->what));
    text(r, e->range.reason);
    printf(" %s(%lld)", scopes[e->what],
           e->what == TRACE_RANGE_GC_MARK ? 0 : (long long)e->range.id);
    if (e->kind == TRACE_RANGE_END && e->what == TRACE_RANGE_GC_SWEEP)
        printf(" %llu %llu", (unsigned long long)e->range.swept_bytes,
               (unsigned long long)e->range.reclaimed_bytes);
}

static void sync_event(const struct trace_reader *r, const struct trace_event *e)
{
    struct trace_clock clock = trace_reader_clock(r);
    printf(" %u", e->sync.number);
    if (clock.is_known)
        printf(" clock %lld %llu %lld.%09lld", (long long)clock.trace_ns,
               (unsigned long long)clock.mono_ns, (long long)clock.wall_s,
               (long long)clock.wall_ns);
    uint64_t bytes = 0;
    struct trace_experimental_batch b;
    for (uint32_t i = 0; trace_reader_experimental(r, i, &b); i++)
        bytes += b.size_bytes;
    printf(" experimental %u %llu", e->sync.experimental_count, (unsigned long long)bytes);
}

static void details(const struct trace_reader *r, const struct trace_event *e)
{
    switch (e->kind) {
    case TRACE_SYNC: sync_event(r, e); break;
    case TRACE_METRIC:
        printf(" %s %llu", trace_metric_name(e->what), (unsigned long long)e->metric.value);
        break;
    case TRACE_LABEL:
        putchar(' ');
        text(r, e->label.text);
        break;
    case TRACE_RANGE_BEGIN:
    case TRACE_RANGE_ACTIVE:
    case TRACE_RANGE_END: range(r, e); break;
    case TRACE_TASK_BEGIN:
    case TRACE_TASK_END:
        printf(" %llu %lld ", (unsigned long long)e->task.id, (long long)e->task.parent);
        text(r, e->task.type);
        break;
    case TRACE_REGION_BEGIN:
    case TRACE_REGION_END:
        printf(" %llu ", (unsigned long long)e->region.task);
        text(r, e->region.type);
        break;
    case TRACE_LOG:
        printf(" %llu ", (unsigned long long)e->log.task);
        text(r, e->log.category);
        putchar(' ');
        text(r, e->log.message);
        break;
    case TRACE_EXPERIMENTAL:
        printf(" %s", trace_spec_of(e->wire)->name);
        for (uint32_t i = 0; i < trace_spec_of(e->wire)->arg_count; i++)
            printf(" %llu", (unsigned long long)e->experimental.args[i]);
        break;
    default: break;
    }
}

static void print(const struct trace_reader *r, const struct trace_event *e)
{
    uint32_t stack = stack_number(r, e->stack), of_resource = 0;
    if (e->kind == TRACE_TRANSITION)
        of_resource = stack_number(r, e->transition.stack);
    printf("%lld M=%lld P=%lld G=%lld %s", (long long)e->time_ns, (long long)e->thread,
           (long long)e->proc, (long long)e->goroutine, trace_kind_name(e->kind));
    if (e->kind == TRACE_TRANSITION)
        transition(r, e, of_resource);
    else
        details(r, e);
    printf(" stack %u\n", stack);
}

static int64_t read_some(void *context, void *bytes, size_t n)
{
    ssize_t k = read(*(int *)context, bytes, n < 777 ? n : 777);
    return k < 0 ? -errno : k;
}

static int open_how(struct trace_reader **r, const char *how, int fd,
                    const struct trace_reader_options *o, struct fscope_error *err)
{
    struct stat st;
    static int stream_fd;
    if (strcmp(how, "file") == 0)
        return trace_reader_open_fd(r, fd, o, err);
    stream_fd = fd;
    if (strcmp(how, "stream") == 0)
        return trace_reader_open_callback(r, read_some, &stream_fd, o, err);
    if (fstat(fd, &st) < 0)
        return -errno;
    void *data = st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    return trace_reader_open_memory(r, data, (size_t)st.st_size, o, err);
}

int main(int argc, char **argv)
{
    struct trace_reader_options o = {.size = sizeof o};
    struct fscope_error err = {0};
    struct trace_reader *r;
    const struct trace_event *e;
    const char *how = "file";
    bool is_quiet = false;
    for (int i = 1; i < argc - 1; i++) {
        o.salvage |= strcmp(argv[i], "--salvage") == 0;
        o.lenient |= strcmp(argv[i], "--lenient") == 0;
        is_quiet |= strcmp(argv[i], "--quiet") == 0;
        if (strncmp(argv[i], "--how=", 6) == 0)
            how = argv[i] + 6;
    }
    int fd = argc > 1 ? open(argv[argc - 1], O_RDONLY) : -1;
    if (fd < 0)
        return 2;
    if (open_how(&r, how, fd, &o, &err)) {
        printf("error open %s\n", err.text);
        return 1;
    }
    unsigned long long events = 0;
    int rc;
    while ((rc = trace_reader_next(r, &e)) > 0) {
        events++;
        if (!is_quiet)
            print(r, e);
    }
    if (rc < 0)
        printf("error %s %s\n", trace_rule_name(trace_reader_error(r)->rule),
               trace_reader_error(r)->text);
    if (trace_reader_damage(r))
        printf("salvaged %s\n", trace_reader_damage(r)->text);
    fprintf(stderr, "%llu events\n", events);
    trace_reader_close(r);
    free(numbers);
    close(fd);
    return rc < 0;
}
