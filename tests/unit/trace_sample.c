// SPDX-License-Identifier: MIT

#include "trace_sample.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int trace_bytes_write(void *context, const void *bytes, size_t n)
{
    struct trace_bytes *b = context;
    if (b->size_bytes + n > b->capacity) {
        size_t capacity = 2 * (b->size_bytes + n);
        unsigned char *more = realloc(b->data, capacity);
        if (!more)
            return -ENOMEM;
        b->data = more;
        b->capacity = capacity;
    }
    memcpy(b->data + b->size_bytes, bytes, n);
    b->size_bytes += n;
    return 0;
}

static struct trace_text text(const char *s)
{
    return (struct trace_text){s, (uint32_t)strlen(s)};
}

static uint64_t string(struct trace_writer *w, const char *s)
{
    uint64_t id = 0;
    trace_writer_string(w, s, strlen(s), &id);
    return id;
}

static uint64_t stack(struct trace_writer *w, const char *leaf)
{
    // Both frames of a stack share a pc, which readers cannot stand: the writer has to see to it.
    uint64_t pc = (uint64_t)leaf[0] << 8;
    const struct trace_writer_frame frames[] = {
        {.pc = pc, .function = text(leaf), .file = text("leaf.c"), .line = 7},
        {.pc = pc, .function = text("main"), .file = text("main.c"), .line = 300},
    };
    uint64_t id = 0;
    trace_writer_stack(w, frames, 2, &id);
    return id;
}

#define DO(thread, wire, ...)                                                                      \
    trace_writer_event(w, thread, TRACE_EV_##wire, time += 10, (const uint64_t[]){__VA_ARGS__})

static uint64_t annotations(struct trace_writer *w, uint64_t time)
{
    uint64_t at = stack(w, "annotate");
    DO(100, STW_BEGIN, string(w, "start trace"), at);
    DO(100, STW_END, 0);
    DO(100, GC_ASSIST_BEGIN, at);
    DO(100, GC_ASSIST_END, 0);
    DO(100, GC_SWEEP_BEGIN, at);
    DO(100, GC_SWEEP_END, 10, 20);
    DO(100, HEAP_ALLOC, 1000);
    DO(100, HEAP_GOAL, 2000);
    DO(100, GO_LABEL, string(w, "label"));
    DO(100, TASK_BEGIN, 7, 0, string(w, "task"), at);
    DO(100, REGION_BEGIN, 7, string(w, "region"), at);
    DO(100, LOG, 7, string(w, "key"), string(w, "message"), at);
    DO(100, REGION_END, 7, string(w, "region"), at);
    DO(100, TASK_END, 7, at);
    return time;
}

static uint64_t foreign_thread(struct trace_writer *w, uint64_t time)
{
    DO(300, GO_CREATE_SYSCALL, 9);
    DO(300, PROC_STATUS, 1000, TRACE_PROC_STATUS_SYSCALL);
    DO(300, GO_SYSCALL_END, 0);
    DO(300, GO_SYSCALL_BEGIN, 1, 0);
    DO(300, GO_DESTROY_SYSCALL, 0);
    return time;
}

static uint64_t since_123(struct trace_writer *w, uint64_t time)
{
    DO(TRACE_NONE, GO_STATUS_STACK, 5, (uint64_t)TRACE_NONE, TRACE_GO_STATUS_WAITING,
       stack(w, "waits"));
    DO(100, GO_CREATE_BLOCKED, 3, stack(w, "coroutine"), stack(w, "create"));
    DO(100, GO_SWITCH, 3, 1);
    DO(100, GO_SWITCH_DESTROY, 1, 1);
    DO(100, SPAN, 1, 2, 3);
    DO(100, SPAN_ALLOC, 1, 2, 3);
    DO(100, SPAN_FREE, 1);
    DO(100, HEAP_OBJECT, 1, 2);
    DO(100, HEAP_OBJECT_ALLOC, 1, 2);
    DO(100, HEAP_OBJECT_FREE, 1);
    DO(100, GO_STACK, 1, 2);
    DO(100, GO_STACK_ALLOC, 1, 2);
    DO(100, GO_STACK_FREE, 1);
    trace_writer_experimental(w, 1, 100, time, "table", 5);
    return time;
}

static uint64_t first_generation(struct trace_writer *w, uint64_t time, uint32_t version)
{
    uint64_t at = stack(w, "work");
    uint64_t seq = version >= 23; // of Goroutine 1
    DO(TRACE_NONE, GC_ACTIVE, 41);
    DO(100, PROC_STATUS, 1, TRACE_PROC_STATUS_RUNNING);
    DO(100, GC_SWEEP_ACTIVE, 1);
    DO(100, GO_STATUS, 1, 100, TRACE_GO_STATUS_RUNNING);
    DO(100, GC_ASSIST_ACTIVE, 1);
    DO(100, PROCS_CHANGE, 4, at);
    DO(100, GC_END, 42);
    DO(100, GC_SWEEP_END, 1, 2);
    DO(100, GC_ASSIST_END, 0);
    DO(100, GC_BEGIN, 43, at);
    DO(100, GC_END, 44);
    time = annotations(w, time);
    if (version >= 23)
        time = since_123(w, time);
    DO(100, GO_CREATE, 2, stack(w, "child"), at);
    DO(100, GO_SYSCALL_BEGIN, 1, at);
    DO(100, GO_SYSCALL_END, 0);
    DO(100, GO_STOP, string(w, "preempted"), at);
    DO(100, GO_START, 2, 1);
    DO(100, GO_BLOCK, string(w, "chan receive"), at);
    DO(100, GO_START, 1, ++seq);
    DO(100, GO_UNBLOCK, 2, 2, at);
    DO(100, GO_SYSCALL_BEGIN, 2, at);
    DO(200, PROC_STEAL, 1, 3, 100);
    DO(200, PROC_START, 1, 4);
    DO(200, GO_START, 2, 3);
    DO(200, GO_DESTROY, 0);
    DO(200, PROC_STOP, 0);
    DO(100, GO_SYSCALL_END_BLOCKED, 0);
    DO(100, PROC_START, 1, 5);
    DO(100, GO_START, 1, ++seq);
    trace_writer_cpu_sample(w, time, 100, 1, 1, at);
    return foreign_thread(w, time);
}

static uint64_t later_generation(struct trace_writer *w, uint64_t time, uint64_t number,
                                 uint32_t version)
{
    DO(100, PROC_STATUS, 1, TRACE_PROC_STATUS_RUNNING);
    DO(100, GO_STATUS, 1, 100, TRACE_GO_STATUS_RUNNING);
    if (version >= 23)
        DO(TRACE_NONE, GO_STATUS, 5, (uint64_t)TRACE_NONE, TRACE_GO_STATUS_WAITING);
    if (number == 2) {
        DO(200, PROC_STATUS, 1000, TRACE_PROC_STATUS_SYSCALL_ABANDONED);
        DO(200, PROC_STEAL, 1000, 1, 300);
    } else {
        DO(200, PROC_STATUS, 1000, TRACE_PROC_STATUS_IDLE);
    }
    return annotations(w, time);
}

void trace_sample_write(struct trace_writer *w, uint32_t version, uint64_t count)
{
    for (uint64_t number = 1; number <= count; number++) {
        uint64_t time = number * 1000000;
        trace_writer_begin(w, number);
        time = number == 1 ? first_generation(w, time, version)
                           : later_generation(w, time, number, version);
        struct trace_writer_clock clock = {
            .time = number * 1000000 + 1, .mono_ns = number, .wall_s = 12, .wall_ns = 34};
        trace_writer_end(w, &clock);
    }
}

struct trace_bytes trace_sample(uint32_t version, uint64_t count)
{
    struct trace_bytes b = {0};
    struct trace_writer *w;
    struct trace_writer_options o = {.size = sizeof o, .version = version};
    if (trace_writer_open_callback(&w, trace_bytes_write, &b, &o))
        return b;
    trace_sample_write(w, version, count);
    if (trace_writer_close(w)) {
        free(b.data);
        b = (struct trace_bytes){0};
    }
    return b;
}
