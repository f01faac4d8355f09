// SPDX-License-Identifier: MIT

#include "trace_v1_sample.h"
#include "formats/trace/leb.h"
#include "formats/trace/v1.h"

#include <stdio.h>
#include <string.h>

static void numbers(struct trace_bytes *b, unsigned n, const uint64_t *args)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned char bytes[LEB_BYTES_MAX];
        trace_bytes_write(b, bytes, (size_t)(leb_write(bytes, args[i]) - bytes));
    }
}

void trace_v1_begin(struct trace_bytes *b, uint32_t version)
{
    char header[17];
    snprintf(header, sizeof header, "go 1.%u trace%c%c%c", version, 0, 0, 0);
    trace_bytes_write(b, header, 16);
}

void trace_v1_event(struct trace_bytes *b, uint8_t type, unsigned n, const uint64_t *args)
{
    if (type == V1_BATCH || n <= 3) {
        uint8_t first = (uint8_t)(type | (n - 1) << 6);
        trace_bytes_write(b, &first, 1);
        numbers(b, n, args);
        return;
    }
    struct trace_bytes list = {0};
    uint8_t first = (uint8_t)(type | 3 << 6);
    numbers(&list, n, args);
    trace_bytes_write(b, &first, 1);
    numbers(b, 1, (const uint64_t[]){list.size_bytes});
    trace_bytes_write(b, list.data, list.size_bytes);
    free(list.data);
}

void trace_v1_string(struct trace_bytes *b, uint64_t id, const char *s)
{
    uint8_t first = V1_STRING;
    trace_bytes_write(b, &first, 1);
    numbers(b, 2, (const uint64_t[]){id, strlen(s)});
    trace_bytes_write(b, s, strlen(s));
}

void trace_v1_log(struct trace_bytes *b, const uint64_t args[4], const char *message)
{
    trace_v1_event(b, V1_LOG, 4, args);
    numbers(b, 1, (const uint64_t[]){strlen(message)});
    trace_bytes_write(b, message, strlen(message));
}

static void before_the_trace(struct trace_bytes *b)
{
    TRACE_V1(b, V1_GO_CREATE, 10, 1, 2, 1);
    for (uint64_t g = 2; g <= 4; g++)
        TRACE_V1(b, V1_GO_CREATE, 10, g, 2, 1);
    TRACE_V1(b, V1_GO_WAITING, 1, 2);
    TRACE_V1(b, V1_GO_IN_SYSCALL, 1, 3);
    TRACE_V1(b, V1_PROC_START, 1, 100);
    TRACE_V1(b, V1_GO_START, 1, 1, 1);
    TRACE_V1(b, V1_TIMER_GOROUTINE, 9);
    TRACE_V1(b, V1_GOMAXPROCS, 1, 2, 1);
}

static void garbage(struct trace_bytes *b)
{
    TRACE_V1(b, V1_HEAP_ALLOC, 1, 4096);
    TRACE_V1(b, V1_HEAP_GOAL, 1, 8192);
    TRACE_V1(b, V1_STW_START, 1, 1);
    TRACE_V1(b, V1_STW_DONE, 1);
    TRACE_V1(b, V1_GC_START, 1, 0, 1);
    TRACE_V1(b, V1_ASSIST_START, 1, 1);
    TRACE_V1(b, V1_ASSIST_DONE, 1);
    TRACE_V1(b, V1_SWEEP_START, 1, 1);
    TRACE_V1(b, V1_SWEEP_DONE, 1, 1000, 500);
    TRACE_V1(b, V1_GC_DONE, 1);
}

static void user(struct trace_bytes *b)
{
    TRACE_V1(b, V1_TASK_CREATE, 1, 1, 0, 4, 1);
    TRACE_V1(b, V1_REGION, 1, 1, 0, 5, 1);
    trace_v1_log(b, (const uint64_t[]){1, 1, 6, 1}, "message");
    TRACE_V1(b, V1_REGION, 1, 1, 1, 5, 1);
    TRACE_V1(b, V1_TASK_END, 1, 1, 1);
}

// Goroutine 1 makes 5; they wait for each other in every way there is.
static void waits(struct trace_bytes *b)
{
    static const uint8_t ways[] = {V1_GO_SLEEP,      V1_GO_BLOCK,        V1_GO_BLOCK_SEND,
                                   V1_GO_BLOCK_RECV, V1_GO_BLOCK_SELECT, V1_GO_BLOCK_SYNC,
                                   V1_GO_BLOCK_COND, V1_GO_BLOCK_NET,    V1_GO_BLOCK_GC};
    TRACE_V1(b, V1_GO_CREATE, 1, 5, 2, 1);
    for (size_t i = 0; i < sizeof ways; i++) {
        TRACE_V1(b, ways[i], 1, 1);
        TRACE_V1(b, V1_GO_START_LOCAL, 1, 5);
        TRACE_V1(b, V1_GO_UNBLOCK_LOCAL, 1, 1, 1);
        TRACE_V1(b, i % 2 ? V1_GO_SCHED : V1_GO_PREEMPT, 1, 1);
        TRACE_V1(b, V1_GO_START_LOCAL, 1, 1);
    }
}

struct trace_bytes trace_v1_sample(uint32_t version)
{
    static const char *const strings[] = {"main.main", "main.go", "main.worker", "task",
                                          "region",    "key",     "label"};
    struct trace_bytes b = {0};
    trace_v1_begin(&b, version);
    TRACE_V1(&b, V1_BATCH, 0, 1000);
    for (uint64_t i = 0; i < 7; i++)
        trace_v1_string(&b, i + 1, strings[i]);
    before_the_trace(&b);
    garbage(&b);
    user(&b);
    waits(&b);
    TRACE_V1(&b, V1_GO_UNBLOCK, 1, 2, 2, 1);
    TRACE_V1(&b, V1_GO_SYSCALL, 1, 1);
    TRACE_V1(&b, V1_GO_SYSCALL, 10, 1);
    TRACE_V1(&b, V1_GO_SYS_BLOCK, 10);
    TRACE_V1(&b, V1_GO_START_LABEL, 1, 5, 10, 7);
    TRACE_V1(&b, V1_GO_STOP, 1, 1);
    TRACE_V1(&b, V1_PROC_STOP, 1);
    if (version >= 19)
        TRACE_V1(&b, V1_CPU_SAMPLE, 1, 1110, 0, 1, 1);

    // The other P wakes up; the two system calls end on it, one of them before that is written down.
    TRACE_V1(&b, V1_BATCH, 1, 2000);
    TRACE_V1(&b, V1_PROC_START, 1, 101);
    TRACE_V1(&b, V1_GO_SYS_EXIT, 1, 1, 20, 1990);
    TRACE_V1(&b, V1_GO_SYS_EXIT, 1, 3, 2, 0);
    TRACE_V1(&b, V1_GO_START, 1, 1, 21);
    TRACE_V1(&b, V1_GO_END, 1);
    TRACE_V1(&b, V1_GO_START, 1, 2, 3);
    TRACE_V1(&b, V1_GO_END, 1);

    TRACE_V1(&b, V1_BATCH, 0, 3000);
    TRACE_V1(&b, V1_FREQUENCY, 500000000);
    TRACE_V1(&b, V1_STACK, 2, 1, 0x20, 3, 2, 30);
    TRACE_V1(&b, V1_STACK, 1, 2, 0x20, 3, 2, 30, 0x10, 1, 2, 10);
    return b;
}
