// SPDX-License-Identifier: MIT
//
// See finish.h. The same feed as of a live target; files are found by path and checked by inode or
// build id, since nobody held them.

#include "collector/finish.h"

#include "collector/feed_internal.h"
#include "collector/fibers.h"
#include "collector/mapped_file.h"
#include "collector/record_internal.h"
#include "collector/record_trace.h"
#include "segment/producer.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_HZ = 99 };

static int open_module(void *arg, const struct seg_module *m, const char *path,
                       const char *build_id)
{
    (void)arg;
    return mapped_module_open(0, m, path, build_id);
}

// Enough of the file to know it by. False: there is not so much.
struct head {
    uint64_t magic;
    unsigned char rest[sizeof(Elf64_Ehdr) - 8];
};

static bool read_head(const char *path, struct head *head)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof *head, 0);
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)sizeof *head;
}

static bool is_core(const struct head *head)
{
    Elf64_Ehdr eh;
    memcpy(&eh, head, sizeof eh);
    return memcmp(eh.e_ident, ELFMAG, SELFMAG) == 0 && eh.e_ident[EI_CLASS] == ELFCLASS64 &&
           eh.e_type == ET_CORE;
}

bool finish_is_dump(const char *path)
{
    struct head head;
    return read_head(path, &head) &&
           (is_core(&head) || head.magic == SEG_MAGIC || head.magic == SEG_DUMP_MAGIC);
}

bool finish_is_core(const char *path)
{
    struct head head;
    return read_head(path, &head) && is_core(&head);
}

// A core file has the fibers themselves, with their stacks. Of other files the trace says what each did last.
static void add_fibers(const char *path, struct record_result *result)
{
    struct head head;
    struct target *t = NULL;
    struct fibers *f = NULL;
    struct fscope_error
        none; // a program without fibers, or one that is cut off: the rest is worth having
    if (!read_head(path, &head) || !is_core(&head))
        return;
    if (!target_open_core(&t, path, &none) && !fibers_open(&f, t, &none))
        fibers_profile(f, result->builders[RECORD_CUSTOM]);
    fibers_close(f);
    target_close(t);
}

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

// The mean bytes per sampled allocation, 1 where every one was counted; 0: not known any more.
static uint64_t heap_rate(const struct seg_header *h)
{
    uint64_t rate = load(&h->control.heap_rate_bytes);
    return h->areas[SEG_AREA_SITES].size ? 1 : rate < INT64_MAX ? rate : INT64_MAX;
}

// Builders for all kinds, with the rates that the target had in force.
static int new_builders(const struct seg_header *h, struct record_result *result,
                        struct fscope_error *err)
{
    uint64_t cpu = load(&h->control.cpu_period_ns), wall = load(&h->control.wall_period_ns);
    uint64_t heap = heap_rate(h);
    struct record_options o = {
        .cpu_hz = DEFAULT_HZ,
        .wall_hz = DEFAULT_HZ,
        .heap_bytes = heap ? heap : RECORD_HEAP_BYTES_DEFAULT,
        .block_ns = 1,
        .mutex_fraction = 1,
    };
    int rc = record_new_builders(&o, result, err);
    if (rc)
        return rc;
    if (cpu)
        builder_set_period(result->builders[RECORD_CPU], cpu);
    if (wall)
        builder_set_period(result->builders[RECORD_WALL], wall);
    return 0;
}

static uint64_t samples_of(const struct record_result *result, int kind)
{
    struct builder_stats st = {0};
    if (result->builders[kind])
        builder_get_stats(result->builders[kind], &st);
    return st.samples;
}

// What was on, of a target that recorded nothing: an empty profile of it is the answer.
static int first_wanted(const struct seg_header *h)
{
    if (load(&h->control.cpu_period_ns))
        return RECORD_CPU;
    return load(&h->control.wall_period_ns)    ? RECORD_WALL
           : load(&h->control.heap_rate_bytes) ? RECORD_HEAP
           : load(&h->control.block_rate_ns)   ? RECORD_BLOCK
           : load(&h->control.mutex_fraction)  ? RECORD_MUTEX
                                               : RECORD_CPU;
}

// Of a target that stopped sampling before it dumped, the period is gone; what a sample weighs on
// average is as good.
static void keep_what_has_samples(const struct seg_header *h, struct record_result *result)
{
    const _Atomic uint64_t *periods[] = {&h->control.cpu_period_ns, &h->control.wall_period_ns};
    int wanted = result->has_trace ? -1 : first_wanted(h);
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        if (samples_of(result, kind))
            wanted = -1;
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        struct builder_stats st;
        struct builder *b = result->builders[kind];
        if (!b)
            continue;
        builder_get_stats(b, &st);
        if (st.samples == 0 && kind != wanted) {
            builder_free(b);
            result->builders[kind] = NULL;
        } else if (kind < RECORD_STREAM_COUNT && st.samples && !load(periods[kind])) {
            builder_set_period(b, st.ns / st.samples);
        }
    }
    if (result->builders[RECORD_HEAP] && heap_rate(h) == 0)
        snprintf(result->warning, sizeof result->warning,
                 "the heap's sampling rate is not known any more; taken as %llu bytes",
                 (unsigned long long)RECORD_HEAP_BYTES_DEFAULT);
}

// Up to the dump or exit, of a process that lives up to now, of one that was killed up to its last record.
static uint64_t duration_of(const struct seg_header *h, uint64_t last_ns)
{
    uint64_t end = load(&h->control.end_ns);
    if (!end && seg_owner_is_alive(h))
        end = record_now_ns(CLOCK_MONOTONIC);
    if (end < last_ns)
        end = last_ns;
    uint64_t ns = end > h->mono_ns ? end - h->mono_ns : 0;
    return ns < FEED_VALUE_MAX ? ns : 0; // no honest clock
}

int finish_read(const char *path, struct record_result *result, struct fscope_error *err)
{
    *result = (struct record_result){.target_ended = true};
    struct seg_reader *reader = NULL;
    struct feed feed = {0};
    int rc = seg_reader_open_file(&reader, path, err);
    if (rc)
        return rc;
    const struct seg_header *h = seg_reader_header(reader);
    struct seg_trace trace;
    result->has_trace = seg_reader_trace(reader, &trace) == 0 && load(&trace.session) != 0;
    memcpy(result->program, h->program, sizeof result->program - 1);
    result->pid = h->pid;
    rc = new_builders(h, result, err);
    if (rc)
        goto out;
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        if (result->builders[kind])
            builder_set_start(result->builders[kind], h->real_ns);
    rc = feed_init(&feed, reader, result->builders, h->pid, open_module, NULL);
    feed.series = &result->series;
    result->series.start_ns = h->mono_ns;
    for (int64_t n = 1; !rc && n > 0;) {
        n = feed_pump(&feed);
        rc = n < 0 ? (int)n : 0;
    }
    if (!rc)
        rc = feed_finish(&feed);
    if (rc) {
        error_set(err, rc, 0, "%s: %s", path, strerror(-rc));
        goto out;
    }
    result->damaged = feed.damaged;
    result->duration_ns = duration_of(h, feed.last_ns);
    add_fibers(path, result);
    keep_what_has_samples(h, result);
    if (feed.damaged)
        snprintf(result->warning, sizeof result->warning, "%s: %llu damaged records left out", path,
                 (unsigned long long)feed.damaged);
out:
    feed_free(&feed);
    seg_reader_close(reader);
    return rc;
}

// Before when the events of generations that are not whole make a causal cut, see docs/segment.md: of a dump, when
// it was begun; of a black box whose process lives, when it was read; all, of what was dead or stopped.
static uint64_t cut_of(const char *path, const struct seg_header *h, uint64_t before_read_ns)
{
    uint64_t magic = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, &magic, sizeof magic, 0);
    if (fd >= 0)
        close(fd);
    if (n == (ssize_t)sizeof magic && magic == SEG_DUMP_MAGIC)
        return load(&h->control.end_ns) ? load(&h->control.end_ns) : before_read_ns;
    return n == (ssize_t)sizeof magic && magic == SEG_MAGIC && seg_owner_is_alive(h)
               ? before_read_ns
               : UINT64_MAX;
}

static void see_cpu(void *arg, const struct seg_record *r)
{
    trace_build_sample(arg, r);
}

// The samples for the trace; the profile has been made.
static int read_samples(struct seg_reader *reader, struct trace_build *build)
{
    struct builder *none[RECORD_KIND_COUNT] = {0};
    struct feed feed;
    int rc = feed_init(&feed, reader, none, 0, NULL, NULL);
    feed.see_cpu = see_cpu;
    feed.see_arg = build;
    for (int64_t n = 1; !rc && n > 0;) {
        n = feed_pump(&feed);
        rc = n < 0 ? (int)n : 0;
    }
    feed_free(&feed);
    return rc;
}

int finish_traces(const char *path, const struct record_options *o, struct record_result *result,
                  struct fscope_error *err)
{
    struct seg_reader *reader = NULL;
    struct trace_build *build = NULL;
    struct trace_build_stats st;
    uint64_t before_ns = record_now_ns(CLOCK_MONOTONIC);
    int rc = seg_reader_open_file(&reader, path, err);
    if (rc)
        return rc;
    const struct seg_header *h = seg_reader_header(reader);
    struct record_trace_sink sink = {.o = o, .result = result, .pid = h->pid};
    memcpy(sink.program, result->program, sizeof sink.program);
    struct trace_build_options bo = {
        .size = sizeof bo, .reader = reader, .open_module = open_module};
    result->recorder_pid = (uint32_t)load(&h->control.consumer_pid);
    bo.was_taken_from = result->recorder_pid != 0;
    record_trace_options(&sink, &bo);
    rc = trace_build_new(&build, &bo, err);
    if (!rc)
        rc = read_samples(reader, build);
    if (!rc) {
        uint64_t cut = cut_of(path, h, before_ns), end = load(&h->control.end_ns);
        // Until when it ran is told by itself, or is now.
        trace_build_finish(build, cut, end || cut != before_ns ? end : before_ns);
        trace_build_get_stats(build, &st);
        result->trace_lost_generations = st.lost_generations;
        snprintf(result->trace_error, sizeof result->trace_error, "%s", trace_build_error(build));
    } else if (err && !err->text[0]) {
        error_set(err, rc, 0, "%s: %s", path, strerror(-rc));
    }
    trace_build_free(build);
    record_trace_abort(&sink);
    seg_reader_close(reader);
    return rc;
}

struct wanted {
    const char *name; // "": any
    const char *found;
};

static int match_part(void *arg, const char *part)
{
    struct wanted *w = arg;
    if (*w->name && strcmp(w->name, part) != 0)
        return 0;
    w->found = part; // the builder's, which lives on
    return 1;
}

// The kind with this name, or whose part has it; -1: none.
static int find_kind(const struct record_result *result, struct wanted *w)
{
    for (int kind = 0; kind < RECORD_CUSTOM; kind++)
        if (result->builders[kind] && (!*w->name || strcmp(w->name, record_kind_name(kind)) == 0))
            return kind;
    for (int kind = RECORD_HEAP; kind < RECORD_KIND_COUNT; kind++)
        if (result->builders[kind] && builder_each_part(result->builders[kind], match_part, w))
            return kind;
    return -1;
}

int finish_profile(const char *path, const char *kind, struct pprof_profile **out,
                   struct fscope_error *err)
{
    struct record_result result;
    struct wanted w = {.name = kind ? kind : ""};
    int rc = finish_read(path, &result, err);
    int found = rc ? -1 : find_kind(&result, &w);
    if (!rc && found < 0)
        rc = error_set(err, -ENOENT, 0, "%s: has no %s samples", path, kind);
    if (!rc)
        rc = record_make_profile(&result, (enum record_kind)found, w.found, out, err);
    record_result_free(&result);
    return rc;
}
