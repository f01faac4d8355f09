// SPDX-License-Identifier: MIT
//
// The bytes of a v1 trace. The first reading finds the batches, counts their events and takes the
// CPU samples; everything else is read when the order of events asks for a batch, because which of
// two definitions holds depends on that.

#include "formats/trace/leb.h"
#include "formats/trace/v1.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct v1_spec {
    const char *name;
    uint8_t args; // without time and stack
    bool has_stack, is_untimed;
} specs[V1_END] = {
    [V1_BATCH] = {"Batch", 2, false, true},
    [V1_FREQUENCY] = {"Frequency", 1, false, true},
    [V1_STACK] = {"Stack", 0, false, true},
    [V1_GOMAXPROCS] = {"Gomaxprocs", 1, true, false},
    [V1_PROC_START] = {"ProcStart", 1, false, false},
    [V1_PROC_STOP] = {"ProcStop", 0, false, false},
    [V1_GC_START] = {"GCStart", 1, true, false},
    [V1_GC_DONE] = {"GCDone", 0, false, false},
    [V1_STW_START] = {"GCSTWStart", 1, false, false},
    [V1_STW_DONE] = {"GCSTWDone", 0, false, false},
    [V1_SWEEP_START] = {"GCSweepStart", 0, true, false},
    [V1_SWEEP_DONE] = {"GCSweepDone", 2, false, false},
    [V1_GO_CREATE] = {"GoCreate", 2, true, false},
    [V1_GO_START] = {"GoStart", 2, false, false},
    [V1_GO_END] = {"GoEnd", 0, false, false},
    [V1_GO_STOP] = {"GoStop", 0, true, false},
    [V1_GO_SCHED] = {"GoSched", 0, true, false},
    [V1_GO_PREEMPT] = {"GoPreempt", 0, true, false},
    [V1_GO_SLEEP] = {"GoSleep", 0, true, false},
    [V1_GO_BLOCK] = {"GoBlock", 0, true, false},
    [V1_GO_UNBLOCK] = {"GoUnblock", 2, true, false},
    [V1_GO_BLOCK_SEND] = {"GoBlockSend", 0, true, false},
    [V1_GO_BLOCK_RECV] = {"GoBlockRecv", 0, true, false},
    [V1_GO_BLOCK_SELECT] = {"GoBlockSelect", 0, true, false},
    [V1_GO_BLOCK_SYNC] = {"GoBlockSync", 0, true, false},
    [V1_GO_BLOCK_COND] = {"GoBlockCond", 0, true, false},
    [V1_GO_BLOCK_NET] = {"GoBlockNet", 0, true, false},
    [V1_GO_SYSCALL] = {"GoSysCall", 0, true, false},
    [V1_GO_SYS_EXIT] = {"GoSysExit", 3, false, false},
    [V1_GO_SYS_BLOCK] = {"GoSysBlock", 0, false, false},
    [V1_GO_WAITING] = {"GoWaiting", 1, false, false},
    [V1_GO_IN_SYSCALL] = {"GoInSyscall", 1, false, false},
    [V1_HEAP_ALLOC] = {"HeapAlloc", 1, false, false},
    [V1_HEAP_GOAL] = {"HeapGoal", 1, false, false},
    [V1_TIMER_GOROUTINE] = {"TimerGoroutine", 1, false, true},
    [V1_FUTILE_WAKEUP] = {"FutileWakeup", 0, false, false},
    [V1_STRING] = {"String", 1, false, true},
    [V1_GO_START_LOCAL] = {"GoStartLocal", 1, false, false},
    [V1_GO_UNBLOCK_LOCAL] = {"GoUnblockLocal", 1, true, false},
    [V1_GO_SYS_EXIT_LOCAL] = {"GoSysExitLocal", 2, false, false},
    [V1_GO_START_LABEL] = {"GoStartLabel", 3, false, false},
    [V1_GO_BLOCK_GC] = {"GoBlockGC", 0, true, false},
    [V1_ASSIST_START] = {"GCMarkAssistStart", 0, true, false},
    [V1_ASSIST_DONE] = {"GCMarkAssistDone", 0, false, false},
    [V1_TASK_CREATE] = {"UserTaskCreate", 3, true, false},
    [V1_TASK_END] = {"UserTaskEnd", 1, true, false},
    [V1_REGION] = {"UserRegion", 3, true, false},
    [V1_LOG] = {"UserLog", 2, true, false},
    [V1_CPU_SAMPLE] = {"CPUSample", 3, true, false},
};

const char *v1_name(uint8_t type)
{
    return type < V1_END && specs[type].name ? specs[type].name : "?";
}

// An event as it stands in the file.
struct raw {
    const unsigned char *begin;
    uint8_t type;
    uint32_t arg_count;
    uint64_t args[V1_ARGS_MAX];           // the first of them
    const unsigned char *list, *list_end; // where they stand, if their size stands before them
    const unsigned char *text;            // a string, a log's message
    uint64_t text_bytes;
};

static int bad(struct trace_reader *r, const struct raw *raw, const char *what)
{
    const struct trace_v1 *v = r->v1;
    r->where.offset = v->base + (uint64_t)(raw->begin - v->data);
    return reader_fail(r, -EINVAL, TRACE_RULE_EVENT, "%s %s", v1_name(raw->type), what);
}

// The error's byte is the one behind the last, as in v2.
static int cut(struct trace_reader *r, const struct raw *raw)
{
    const struct trace_v1 *v = r->v1;
    r->where.offset = v->base + v->size_bytes;
    return reader_fail(r, -ENODATA, TRACE_RULE_TRUNCATED,
                       "the file ends here, inside a %s that begins at byte %" PRIu64,
                       v1_name(raw->type), v->base + (uint64_t)(raw->begin - v->data));
}

static int number(struct trace_reader *r, const struct raw *raw, const unsigned char **at,
                  uint64_t *value)
{
    const unsigned char *end = r->v1->data + r->v1->size_bytes;
    if (leb_read(at, end, value))
        return 0;
    if (end - *at < LEB_BYTES_MAX)
        return cut(r, raw);
    return bad(r, raw, "has an argument that is no number");
}

// The bytes of a string, behind their size.
static int text(struct trace_reader *r, struct raw *raw, const unsigned char **at)
{
    int rc = number(r, raw, at, &raw->text_bytes);
    if (rc)
        return rc;
    uint64_t left = (uint64_t)(r->v1->data + r->v1->size_bytes - *at);
    if (raw->text_bytes > left)
        return cut(r, raw);
    raw->text = *at;
    *at += raw->text_bytes;
    return 0;
}

// Arguments with their size in bytes before them.
static int list(struct trace_reader *r, struct raw *raw, const unsigned char **at)
{
    uint64_t size;
    int rc = number(r, raw, at, &size);
    if (rc)
        return rc;
    uint64_t left = (uint64_t)(r->v1->data + r->v1->size_bytes - *at);
    if (size > V1_LIST_BYTES_MAX)
        return bad(r, raw, "is longer than the format permits (2048 bytes)");
    if (size > left || left == 0)
        return cut(r, raw);
    raw->list = *at;
    raw->list_end = *at += size;
    for (const unsigned char *p = raw->list; p < raw->list_end; raw->arg_count++) {
        uint64_t value;
        if (!leb_read(&p, raw->list_end, &value))
            return bad(r, raw, "has an argument that is no number");
        if (raw->arg_count < V1_ARGS_MAX)
            raw->args[raw->arg_count] = value;
    }
    return 0;
}

static int batch_arguments(struct trace_reader *r, struct raw *raw, const unsigned char **at)
{
    raw->arg_count = 2;
    int rc = number(r, raw, at, &raw->args[0]);
    if (!rc)
        rc = number(r, raw, at, &raw->args[1]);
    if (!rc && raw->args[0] != UINT64_MAX && raw->args[0] > INT32_MAX)
        rc = bad(r, raw, "is of a P whose number is too large");
    return rc;
}

// Reads the event at *at and moves behind it. What may be where is not looked at here.
static int raw_read(struct trace_reader *r, const unsigned char **at, struct raw *raw)
{
    *raw = (struct raw){.begin = *at};
    uint8_t first = *(*at)++;
    unsigned inline_count = (first >> 6) + 1u;
    raw->type = first & 63;
    if (raw->type == 0 || raw->type >= V1_END || (raw->type == V1_CPU_SAMPLE && r->version < 19))
        return bad(r, raw, "is no event of this version");
    if (raw->type == V1_STRING) {
        raw->arg_count = 1;
        int rc = number(r, raw, at, &raw->args[0]);
        return rc ? rc : text(r, raw, at);
    }
    if (raw->type == V1_BATCH)
        return inline_count == 2 ? batch_arguments(r, raw, at)
                                 : bad(r, raw, "has a wrong number of arguments");
    if (inline_count == 4) {
        int rc = list(r, raw, at);
        if (!rc && raw->type == V1_LOG)
            rc = text(r, raw, at);
        if (!rc && raw->text_bytes > TRACE_V1_STRING_BYTES_MAX)
            rc = bad(r, raw, "has a message of more than a million bytes");
        return rc;
    }
    for (; raw->arg_count < inline_count; raw->arg_count++) {
        int rc = number(r, raw, at, &raw->args[raw->arg_count]);
        if (rc)
            return rc;
    }
    return 0;
}

// --- The first reading.

static int add_batch(struct trace_reader *r, const struct raw *raw, const unsigned char *at)
{
    struct trace_v1 *v = r->v1;
    struct v1_batch *items =
        generation_room(r, v->batches, v->batch_count, &v->batch_capacity, sizeof *items);
    if (!items)
        return r->error.code;
    v->batches = items;
    if (v->batch_count)
        items[v->batch_count - 1].end = (uint64_t)(raw->begin - v->data);
    r->where.batch = v->batch_count;
    items[v->batch_count++] = (struct v1_batch){
        .begin = (uint64_t)(at - v->data),
        .end = v->size_bytes,
        .time = (int64_t)raw->args[1],
        .pid = raw->args[0] == UINT64_MAX ? -1 : (int32_t)raw->args[0],
    };
    return 0;
}

static int add_sample(struct trace_reader *r, const struct raw *raw)
{
    struct trace_v1 *v = r->v1;
    if (raw->arg_count != 5)
        return bad(r, raw, "has a wrong number of arguments");
    struct v1_event *items =
        generation_room(r, v->samples, v->sample_count, &v->sample_capacity, sizeof *items);
    if (!items)
        return r->error.code;
    v->samples = items;
    items[v->sample_count++] = (struct v1_event){
        .time = (int64_t)raw->args[1],
        .p = (int32_t)(uint32_t)raw->args[2],
        .g = raw->args[3],
        .stack = (uint32_t)raw->args[4],
        .offset = v->base + (uint64_t)(raw->begin - v->data),
        .batch = v->batch_count - 1,
        .type = V1_CPU_SAMPLE,
    };
    return 0;
}

static int by_pid(const void *x, const void *y, void *context)
{
    const struct v1_batch *batches = context;
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    if (batches[a].pid != batches[b].pid)
        return batches[a].pid < batches[b].pid ? -1 : 1;
    return (a > b) - (a < b);
}

// Groups the batches by P.
static int group(struct trace_reader *r)
{
    struct trace_v1 *v = r->v1;
    v->by_proc = v1_alloc(r, v->batch_count, sizeof *v->by_proc);
    if (!v->by_proc)
        return r->error.code;
    for (uint32_t i = 0; i < v->batch_count; i++)
        v->by_proc[i] = i;
    qsort_r(v->by_proc, v->batch_count, sizeof *v->by_proc, by_pid, v->batches);
    for (uint32_t i = 0; i < v->batch_count; i++)
        v->proc_count += !i || v->batches[v->by_proc[i]].pid != v->batches[v->by_proc[i - 1]].pid;
    v->procs = v1_alloc(r, v->proc_count + 1ull, sizeof *v->procs);
    if (!v->procs)
        return r->error.code;
    struct v1_proc *p = v->procs - 1;
    for (uint32_t i = 0; i < v->batch_count; i++) {
        struct v1_batch *b = &v->batches[v->by_proc[i]];
        if (!i || b->pid != p->pid)
            *++p = (struct v1_proc){.pid = b->pid, .batch_at = i};
        p->batch_end = i + 1;
        b->proc = (uint32_t)(p - v->procs);
    }
    v->procs[v->proc_count].end = v->sample_count;
    return 0;
}

int v1_index(struct trace_reader *r)
{
    struct trace_v1 *v = r->v1;
    const unsigned char *at = v->data, *end = v->data + v->size_bytes;
    struct raw raw;
    while (at < end) {
        int rc = raw_read(r, &at, &raw);
        if (!rc && raw.type == V1_BATCH)
            rc = add_batch(r, &raw, at);
        else if (!rc && raw.type == V1_STRING)
            continue;
        else if (!rc && !v->batch_count)
            rc = bad(r, &raw, "stands before the first batch");
        else if (!rc && raw.type == V1_CPU_SAMPLE)
            rc = add_sample(r, &raw);
        else if (!rc)
            v->timed_count += !specs[raw.type].is_untimed;
        v->has_frequency |= raw.type == V1_FREQUENCY;
        if (rc)
            return rc;
    }
    if (v->timed_count + v->sample_count > TRACE_ID_TRANSIENT)
        return reader_fail(r, -EFBIG, TRACE_RULE_SYSTEM, "the trace has too many events");
    v->events = v1_alloc(r, v->timed_count, sizeof *v->events);
    return v->events ? group(r) : r->error.code;
}

// --- Batches.

static int add_stack(struct trace_reader *r, const struct raw *raw)
{
    struct trace_v1 *v = r->v1;
    uint64_t count = raw->args[1], ignored;
    if (raw->arg_count < 2 || count > V1_LIST_BYTES_MAX || raw->arg_count != 2 + 4 * count)
        return bad(r, raw, "has a number of arguments that its frames do not have");
    if ((uint32_t)raw->args[0] == 0 || count == 0)
        return 0;
    struct v1_stack *items =
        generation_room(r, v->stacks, v->stack_count, &v->stack_capacity, sizeof *items);
    if (!items)
        return r->error.code;
    v->stacks = items;
    const unsigned char *frames = raw->list;
    leb_read(&frames, raw->list_end, &ignored);
    leb_read(&frames, raw->list_end, &ignored);
    items[v->stack_count++] =
        (struct v1_stack){.frames = frames, .id = (uint32_t)raw->args[0], .count = (uint32_t)count};
    return 0;
}

static int add_string(struct trace_reader *r, const struct raw *raw)
{
    struct trace_generation *g = &r->gen;
    if (raw->args[0] == 0)
        return bad(r, raw, "has the number 0, which is no string's");
    if (raw->text_bytes == 0 || raw->text_bytes > TRACE_V1_STRING_BYTES_MAX)
        return bad(r, raw, "is empty, or has more than a million bytes");
    struct generation_string *items =
        generation_room(r, g->strings, g->string_count, &g->string_capacity, sizeof *items);
    if (!items)
        return r->error.code;
    g->strings = items;
    items[g->string_count++] = (struct generation_string){
        .file_id = raw->args[0],
        .bytes = (const char *)raw->text,
        .size_bytes = (uint32_t)raw->text_bytes,
    };
    return 0;
}

static int add_untimed(struct trace_reader *r, const struct raw *raw)
{
    struct trace_v1 *v = r->v1;
    struct v1_go *g;
    switch (raw->type) {
    case V1_STACK: return add_stack(r, raw);
    case V1_STRING: return add_string(r, raw);
    case V1_FREQUENCY:
        v->frequency = (int64_t)raw->args[0];
        return v->frequency > 0 ? 0 : bad(r, raw, "is no positive number");
    case V1_TIMER_GOROUTINE:
        g = v1_go_of(r, raw->args[0]);
        if (!g)
            return r->error.code;
        g->is_timer = true;
        return 0;
    default: return 0;
    }
}

// Whose event it is follows from which Goroutine started last.
static void whose(struct v1_proc *p, struct v1_event *ev)
{
    switch (ev->type) {
    case V1_GO_START:
    case V1_GO_START_LOCAL:
    case V1_GO_START_LABEL: ev->g = p->last_g = ev->args[0]; break;
    case V1_GO_END:
    case V1_GO_STOP:
    case V1_GO_SCHED:
    case V1_GO_PREEMPT:
    case V1_GO_SLEEP:
    case V1_GO_BLOCK:
    case V1_GO_BLOCK_SEND:
    case V1_GO_BLOCK_RECV:
    case V1_GO_BLOCK_SELECT:
    case V1_GO_BLOCK_SYNC:
    case V1_GO_BLOCK_COND:
    case V1_GO_BLOCK_NET:
    case V1_GO_SYS_BLOCK:
    case V1_GO_BLOCK_GC: p->last_g = 0; break;
    case V1_GO_SYS_EXIT:
    case V1_GO_WAITING:
    case V1_GO_IN_SYSCALL: ev->g = ev->args[0]; break;
    default: break;
    }
}

static void add_timed(struct trace_reader *r, struct v1_proc *p, const struct raw *raw,
                      uint32_t batch, int64_t *time)
{
    struct trace_v1 *v = r->v1;
    struct v1_event *ev = &v->events[v->event_count++];
    *time = (int64_t)((uint64_t)*time + raw->args[0]);
    *ev = (struct v1_event){
        .time = *time,
        .g = p->last_g,
        .offset = v->base + (uint64_t)(raw->begin - v->data),
        .p = p->pid,
        .batch = batch,
        .type = raw->type,
    };
    for (uint32_t i = 0; i < specs[raw->type].args; i++)
        ev->args[i] = raw->args[1 + i];
    if (specs[raw->type].has_stack)
        ev->stack = (uint32_t)raw->args[raw->arg_count - 1];
    if (raw->type == V1_LOG)
        ev->args[2] = (uint64_t)(raw->text - v->data) << V1_LOG_SIZE_BITS | raw->text_bytes;
    whose(p, ev);
}

int v1_load_batch(struct trace_reader *r, uint32_t proc)
{
    struct trace_v1 *v = r->v1;
    struct v1_proc *p = &v->procs[proc];
    if (p->batch_at == p->batch_end)
        return 0;
    uint32_t batch = v->by_proc[p->batch_at++];
    const struct v1_batch *b = &v->batches[batch];
    const unsigned char *at = v->data + b->begin, *end = v->data + b->end;
    int64_t time = b->time;
    struct raw raw;
    r->where.batch = batch;
    p->at = v->event_count;
    while (at < end) {
        int rc = raw_read(r, &at, &raw);
        if (rc)
            return rc;
        if (raw.type == V1_CPU_SAMPLE)
            continue;
        const struct v1_spec *spec = &specs[raw.type];
        uint32_t want = spec->args + (uint32_t)spec->has_stack + (uint32_t)!spec->is_untimed;
        if (raw.type != V1_STACK && raw.arg_count != want)
            return bad(r, &raw, "has a wrong number of arguments");
        if (spec->is_untimed)
            rc = add_untimed(r, &raw);
        else
            add_timed(r, p, &raw, batch, &time);
        if (rc)
            return rc;
    }
    p->end = v->event_count;
    return 1;
}
