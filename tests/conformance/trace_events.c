// SPDX-License-Identifier: MIT
//
// Prints the events of a trace, one a line, in the words of trace_oracle.go: for comparing our
// reader with Go's. Usage: trace_events [--salvage] [--how=file|memory|stream] [--quiet] FILE
// or, for many files, trace_events --serve: the same arguments a line on standard input each, for every
// line "STATUS BYTES" and so many bytes of output.
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

static FILE *out;
static uint32_t *numbers; // by stable stack id
static uint32_t number_capacity, number_next;

static void text(const struct trace_reader *r, uint32_t id)
{
    struct trace_text t = trace_reader_string(r, id);
    putc('"', out);
    for (uint32_t i = 0; i < t.size_bytes; i++) {
        unsigned char c = (unsigned char)t.bytes[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\')
            fprintf(out, "\\x%02x", c);
        else
            putc(c, out);
    }
    putc('"', out);
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
    fprintf(out, "stack %u", number_next);
    for (uint32_t i = 0; i < count; i++) {
        fprintf(out, " %llx:", (unsigned long long)frames[i].pc);
        text(r, frames[i].function);
        putc(':', out);
        text(r, frames[i].file);
        fprintf(out, ":%llu", (unsigned long long)frames[i].line);
    }
    putc('\n', out);
    return number_next;
}

static void transition(const struct trace_reader *r, const struct trace_event *e, uint32_t stack)
{
    bool is_go = e->what == TRACE_RESOURCE_GOROUTINE;
    fprintf(
        out, " %s(%lld) %s->%s ", is_go ? "Goroutine" : "Proc", (long long)e->transition.id,
        is_go ? trace_go_state_name(e->transition.from) : trace_proc_state_name(e->transition.from),
        is_go ? trace_go_state_name(e->transition.to) : trace_proc_state_name(e->transition.to));
    text(r, e->transition.reason);
    fprintf(out, " %u", stack);
}

static void range(const struct trace_reader *r, const struct trace_event *e)
{
    static const char *const scopes[] = {"", "Goroutine", "None", "Proc", "Goroutine"};
    fprintf(out, " %s ", trace_range_name(e->what));
    text(r, e->range.reason);
    fprintf(out, " %s(%lld)", scopes[e->what],
            e->what == TRACE_RANGE_GC_MARK ? 0 : (long long)e->range.id);
    if (e->kind == TRACE_RANGE_END && e->what == TRACE_RANGE_GC_SWEEP)
        fprintf(out, " %llu %llu", (unsigned long long)e->range.swept_bytes,
                (unsigned long long)e->range.reclaimed_bytes);
}

static void sync_event(const struct trace_reader *r, const struct trace_event *e)
{
    struct trace_clock clock = trace_reader_clock(r);
    fprintf(out, " %u", e->sync.number);
    if (clock.is_known)
        fprintf(out, " clock %lld %llu %lld.%09lld", (long long)clock.trace_ns,
                (unsigned long long)clock.mono_ns, (long long)clock.wall_s,
                (long long)clock.wall_ns);
    uint64_t bytes = 0;
    struct trace_experimental_batch b;
    for (uint32_t i = 0; trace_reader_experimental(r, i, &b); i++)
        bytes += b.size_bytes;
    fprintf(out, " experimental %u %llu", e->sync.experimental_count, (unsigned long long)bytes);
}

static void details(const struct trace_reader *r, const struct trace_event *e)
{
    switch (e->kind) {
    case TRACE_SYNC: sync_event(r, e); break;
    case TRACE_METRIC:
        fprintf(out, " %s %llu", trace_metric_name(e->what), (unsigned long long)e->metric.value);
        break;
    case TRACE_LABEL:
        putc(' ', out);
        text(r, e->label.text);
        break;
    case TRACE_RANGE_BEGIN:
    case TRACE_RANGE_ACTIVE:
    case TRACE_RANGE_END: range(r, e); break;
    case TRACE_TASK_BEGIN:
    case TRACE_TASK_END:
        fprintf(out, " %llu %lld ", (unsigned long long)e->task.id, (long long)e->task.parent);
        text(r, e->task.type);
        break;
    case TRACE_REGION_BEGIN:
    case TRACE_REGION_END:
        fprintf(out, " %llu ", (unsigned long long)e->region.task);
        text(r, e->region.type);
        break;
    case TRACE_LOG:
        fprintf(out, " %llu ", (unsigned long long)e->log.task);
        text(r, e->log.category);
        putc(' ', out);
        text(r, e->log.message);
        break;
    case TRACE_EXPERIMENTAL:
        fprintf(out, " %s", trace_spec_of(e->wire)->name);
        for (uint32_t i = 0; i < trace_spec_of(e->wire)->arg_count; i++)
            fprintf(out, " %llu", (unsigned long long)e->experimental.args[i]);
        break;
    default: break;
    }
}

static void print(const struct trace_reader *r, const struct trace_event *e)
{
    uint32_t stack = stack_number(r, e->stack), of_resource = 0;
    if (e->kind == TRACE_TRANSITION)
        of_resource = stack_number(r, e->transition.stack);
    fprintf(out, "%lld M=%lld P=%lld G=%lld %s", (long long)e->time_ns, (long long)e->thread,
            (long long)e->proc, (long long)e->goroutine, trace_kind_name(e->kind));
    if (e->kind == TRACE_TRANSITION)
        transition(r, e, of_resource);
    else
        details(r, e);
    fprintf(out, " stack %u\n", stack);
}

static int64_t read_some(void *context, void *bytes, size_t n)
{
    ssize_t k = read(*(int *)context, bytes, n < 777 ? n : 777);
    return k < 0 ? -errno : k;
}

static void *mapped;
static size_t mapped_bytes;

static void unmap(void)
{
    if (mapped)
        munmap(mapped, mapped_bytes);
    mapped = NULL;
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
    mapped_bytes = (size_t)st.st_size;
    mapped = st.st_size ? mmap(NULL, mapped_bytes, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    if (mapped == MAP_FAILED) {
        mapped = NULL;
        return -errno;
    }
    return trace_reader_open_memory(r, mapped, mapped_bytes, o, err);
}

static int print_all(struct trace_reader *r, bool is_quiet)
{
    const struct trace_event *e;
    unsigned long long events = 0;
    int rc;
    memset(numbers, 0, number_capacity * sizeof *numbers);
    number_next = 0;
    while ((rc = trace_reader_next(r, &e)) > 0) {
        events++;
        if (!is_quiet)
            print(r, e);
    }
    if (rc < 0)
        fprintf(out, "error %s %s\n", trace_rule_name(trace_reader_error(r)->rule),
                trace_reader_error(r)->text);
    if (trace_reader_damage(r))
        fprintf(out, "salvaged %s\n", trace_reader_damage(r)->text);
    if (is_quiet)
        fprintf(stderr, "%llu events\n", events);
    return rc < 0;
}

static int answer(int argc, char **argv)
{
    struct trace_reader_options o = {.size = sizeof o};
    struct fscope_error err = {0};
    struct trace_reader *r;
    const char *how = "file";
    bool is_quiet = false;
    for (int i = 0; i < argc - 1; i++) {
        o.salvage |= strcmp(argv[i], "--salvage") == 0;
        o.lenient |= strcmp(argv[i], "--lenient") == 0;
        is_quiet |= strcmp(argv[i], "--quiet") == 0;
        if (strncmp(argv[i], "--how=", 6) == 0)
            how = argv[i] + 6;
    }
    int fd = argc ? open(argv[argc - 1], O_RDONLY | O_CLOEXEC) : -1, rc = 2;
    if (fd < 0)
        return 2;
    if (open_how(&r, how, fd, &o, &err)) {
        fprintf(out, "error open %s\n", err.text);
        rc = 1;
    } else {
        rc = print_all(r, is_quiet);
        trace_reader_close(r);
    }
    unmap();
    close(fd);
    return rc;
}

static int serve(void)
{
    char line[4096], *words[8];
    while (fgets(line, sizeof line, stdin)) {
        char *bytes = NULL, *rest = line;
        size_t size = 0;
        int count = 0;
        while (count < 8 && (words[count] = strtok_r(count ? NULL : line, " \n", &rest)))
            count++;
        out = open_memstream(&bytes, &size);
        if (!out)
            return 2;
        int rc = answer(count, words);
        fclose(out);
        printf("%d %zu\n", rc, size);
        fwrite(bytes, 1, size, stdout);
        fflush(stdout);
        free(bytes);
    }
    free(numbers);
    return 0;
}

int main(int argc, char **argv)
{
    numbers = calloc(1, sizeof *numbers);
    number_capacity = 1;
    if (!numbers)
        return 2;
    if (argc == 2 && strcmp(argv[1], "--serve") == 0)
        return serve();
    out = stdout;
    int rc = answer(argc - 1, argv + 1);
    free(numbers);
    return rc;
}
