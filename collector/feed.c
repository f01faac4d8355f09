// SPDX-License-Identifier: MIT
//
// See feed.h. The reader has validated that records are whole; here their meaning is checked.

#include "collector/feed_internal.h"

#include "base/array.h"
#include "collector/mapped_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH_RECORDS_MAX = 1 << 20, // of one pump: a target that writes faster waits for the next
};

struct feed_thread { // what the segment last said of a thread slot
    uint32_t tid;
    char name[SEG_THREAD_NAME_BYTES + 1];
};

struct feed_module {
    uint64_t start;
    uint32_t load_epoch, unload_epoch;
};

int feed_kind_of(unsigned seg_kind)
{
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        if (record_seg_kind(kind) == seg_kind)
            return kind;
    return -1;
}

int feed_init(struct feed *f, struct seg_reader *reader, struct builder *const *builders,
              uint32_t pid, feed_open_fn *open_file, void *open_arg)
{
    *f = (struct feed){.reader = reader, .pid = pid, .open_file = open_file, .open_arg = open_arg};
    const struct seg_header *h = seg_reader_header(reader);
    char program[sizeof h->program + 1];
    memcpy(program, h->program, sizeof h->program);
    program[sizeof h->program] = '\0';
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        f->builders[kind] = builders[kind];
        if (!builders[kind] || kind == RECORD_CUSTOM)
            continue;
        f->processes[kind] = builder_process(builders[kind], pid, h->mono_ns, program);
        if (!f->processes[kind])
            return -ENOMEM;
    }
    return 0;
}

static int keep_record(void *arg, const struct seg_record *r)
{
    struct feed *f = arg;
    if (f->record_count >= BATCH_RECORDS_MAX)
        return 1;
    if (array_reserve((void **)&f->records, &f->record_capacity, f->record_count,
                      sizeof *f->records))
        return -ENOMEM;
    f->records[f->record_count++] = *r;
    return 0;
}

static int add_module(struct feed *f, const struct seg_module *m, const char *path)
{
    char build_id[MODULE_BUILD_ID_SIZE];
    mapped_module_build_id(m, build_id);
    uint32_t unload = atomic_load_explicit(&m->unload_epoch, memory_order_relaxed);
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        if (!f->processes[kind])
            continue;
        bool is_known =
            builder_has_module(f->processes[kind], m->start, m->end, m->offset, m->load_epoch);
        struct builder_module bm = {
            .start = m->start,
            .end = m->end,
            .offset = m->offset,
            .path = path,
            .build_id = build_id,
            .device = m->device,
            .inode = m->inode,
            .from = m->load_epoch,
            .until = unload,
            .fd = is_known || !f->open_file ? -1 : f->open_file(f->open_arg, m, path, build_id),
        };
        int rc = builder_module(f->processes[kind], &bm);
        if (rc == -EINVAL)
            f->damaged++; // an empty range: a hostile or broken entry costs itself
        else if (rc)
            return rc;
    }
    return 0;
}

// Modules come in the same order each time, so one comparison tells that nothing changed.
static int see_module(void *arg, const struct seg_module *m, const char *path)
{
    struct feed *f = arg;
    struct feed_module now = {m->start, m->load_epoch,
                              atomic_load_explicit(&m->unload_epoch, memory_order_relaxed)};
    size_t i = f->module_seen++;
    if (i < f->module_count && memcmp(&f->modules[i], &now, sizeof now) == 0)
        return 0;
    if (i >= f->module_count) {
        if (array_reserve((void **)&f->modules, &f->module_capacity, i, sizeof *f->modules))
            return -ENOMEM;
        f->module_count = i + 1;
    }
    f->modules[i] = now;
    return add_module(f, m, path);
}

static int see_thread(void *arg, const struct seg_thread *t)
{
    struct feed *f = arg;
    uint32_t tid = atomic_load_explicit(&t->tid, memory_order_relaxed);
    struct feed_thread now = {.tid = tid};
    memcpy(now.name, t->name, SEG_THREAD_NAME_BYTES);
    // A name that has not changed here must not overwrite a newer one from /proc.
    size_t i = f->thread_seen++;
    if (!tid || (i < f->thread_count && f->threads[i].tid == tid &&
                 memcmp(f->threads[i].name, now.name, sizeof now.name) == 0))
        return 0;
    if (i >= f->thread_count) {
        if (array_reserve((void **)&f->threads, &f->thread_capacity, i, sizeof *f->threads))
            return -ENOMEM;
        for (; f->thread_count < i; f->thread_count++) // slots that were empty until now
            f->threads[f->thread_count] = (struct feed_thread){0};
        f->thread_count = i + 1;
    }
    f->threads[i] = now;
    for (int kind = 0; kind < RECORD_STREAM_COUNT; kind++) // state knows no threads
        if (f->processes[kind] && builder_thread(f->processes[kind], tid, now.name))
            return -ENOMEM;
    return 0;
}

struct feed_memory *feed_memory(struct feed *f)
{
    if (!f->memory)
        f->memory = malloc(sizeof *f->memory);
    return f->memory;
}

void feed_fill_stacks(struct feed *f, struct builder_sample *s, uint32_t user, uint32_t kernel,
                      uint32_t *flags)
{
    struct feed_memory *mem = f->memory;
    uint32_t kind = 0;
    int n = seg_reader_stack(f->reader, user, mem->user, SEG_STACK_DEPTH_MAX, &kind, NULL, flags);
    if (n < 0 || (n && kind != 0))
        f->damaged++;
    s->user = mem->user;
    s->user_depth = n > 0 && kind == 0 ? (uint32_t)n : 0;
    s->stack_key = s->user_depth ? user : 0;
    if (!kernel)
        return;
    n = seg_reader_stack(f->reader, kernel, mem->kernel, SEG_STACK_DEPTH_MAX, &kind, NULL, NULL);
    if (n < 0 || (n && kind != 1))
        f->damaged++;
    s->kernel = mem->kernel;
    s->kernel_depth = n > 0 && kind == 1 ? (uint32_t)n : 0;
}

void feed_fill_labels(struct feed *f, struct builder_sample *s, uint32_t labels)
{
    struct feed_memory *mem = f->memory;
    s->labels = mem->labels;
    if (!labels)
        return;
    int n = seg_reader_labels(f->reader, labels, mem->pairs, FEED_LABELS_MAX);
    for (int i = 0; i < n && i < FEED_LABELS_MAX; i++) {
        char(*text)[FEED_LABEL_BYTES] = mem->text[i];
        if (seg_reader_string(f->reader, mem->pairs[i][0], text[0], FEED_LABEL_BYTES) < 0 ||
            seg_reader_string(f->reader, mem->pairs[i][1], text[1], FEED_LABEL_BYTES) < 0) {
            f->damaged++;
            continue;
        }
        mem->labels[s->label_count++] = (struct builder_label){.key = text[0], .value = text[1]};
    }
    if (n < 0)
        f->damaged++;
}

// Totals are kept modulo 2^64, and threads hold some back: one's frees may come before another's allocations.
static uint64_t not_negative(uint64_t total)
{
    return total >> 63 ? 0 : total;
}

static int add_moment(struct feed *f, const struct seg_record *r)
{
    const struct series_point p = {
        .time_ns = r->time_ns,
        .live_objects = not_negative(r->values[0]),
        .live_bytes = not_negative(r->values[1]),
        .alloc_bytes = r->object,
        .pid = f->pid,
    };
    if (!f->series)
        return 0;
    if (p.live_objects > FEED_VALUE_MAX || p.live_bytes > FEED_VALUE_MAX) {
        f->damaged++;
        return 0;
    }
    f->last_ns = r->time_ns > f->last_ns ? r->time_ns : f->last_ns;
    return series_add(f->series, &p);
}

static int add_record(struct feed *f, const struct seg_record *r)
{
    int kind = feed_kind_of(r->kind);
    if (r->kind == SEG_KIND_CPU && f->see_cpu)
        f->see_cpu(f->see_arg, r);
    if (r->kind == SEG_KIND_SERIES)
        return add_moment(f, r);
    if (kind < 0 || kind >= RECORD_STREAM_COUNT || !f->processes[kind])
        return 0;
    if (r->values[0] > FEED_VALUE_MAX || r->values[1] > FEED_VALUE_MAX) {
        f->damaged++;
        return 0;
    }
    f->last_ns = r->time_ns > f->last_ns ? r->time_ns : f->last_ns;
    struct builder_sample s = {
        .tid = r->tid,
        .when = r->epoch,
        .count = r->values[0],
        .ns = r->values[1],
        .flags = r->flags,
    };
    feed_fill_stacks(f, &s, r->user_stack, r->kernel_stack, NULL);
    feed_fill_labels(f, &s, r->labels);
    if (r->fiber && r->fiber <= INT64_MAX) // feed_memory has room for it
        f->memory->labels[s.label_count++] =
            (struct builder_label){.key = "fiber", .number = (int64_t)r->fiber};
    return builder_add(f->processes[kind], &s);
}

int feed_modules(struct feed *f)
{
    f->module_seen = 0;
    int64_t rc = seg_reader_modules(f->reader, see_module, f);
    return rc < 0 ? (int)rc : 0;
}

int64_t feed_pump(struct feed *f)
{
    f->record_count = 0;
    int64_t got = seg_reader_drain(f->reader, keep_record, f, &f->damaged);
    int64_t rc = feed_modules(f);
    f->thread_seen = 0;
    if (rc >= 0 && f->record_count)
        rc = seg_reader_threads(f->reader, see_thread, f);
    if (f->record_count && !feed_memory(f)) {
        f->oom++;
        return -ENOMEM;
    }
    // Records that were taken are counted whatever happens: a builder counts those it cannot keep.
    for (size_t i = 0; i < f->record_count; i++)
        if (add_record(f, &f->records[i]))
            f->oom++;
    return got < 0 ? got : rc < 0 ? rc : (int64_t)f->record_count;
}

void feed_free(struct feed *f)
{
    free(f->modules);
    free(f->threads);
    free(f->records);
    free(f->memory);
    *f = (struct feed){0};
}
