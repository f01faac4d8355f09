// SPDX-License-Identifier: MIT
//
// The closing lines: what each file holds, what it lacks and why, and what to type next.

#include "base/shell_word.h"
#include "collector/record_internal.h"

#include <inttypes.h>
#include <string.h>

enum { LOSSES_BYTES = 1024, HIGH_HZ = 999 };

void record_say_count(FILE *out, uint64_t n)
{
    if (n >= 1000)
        record_say_count(out, n / 1000), fprintf(out, ",%03" PRIu64, n % 1000);
    else
        fprintf(out, "%" PRIu64, n);
}

void record_say_bytes(FILE *out, uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    int unit = -1;
    for (; value >= 1024 && unit < 5; unit++)
        value /= 1024;
    if (unit < 0)
        fprintf(out, "%" PRIu64 " B", bytes);
    else
        fprintf(out, "%.1f %s", value, units[unit]);
}

static void say_objects(FILE *out, uint64_t objects, uint64_t bytes)
{
    record_say_count(out, objects);
    fputs(objects == 1 ? " object (" : " objects (", out);
    record_say_bytes(out, bytes);
    fputc(')', out);
}

static void say_samples(FILE *out, const struct record_result *result, enum record_kind kind,
                        const struct builder_stats *st)
{
    record_say_count(out, st->samples);
    fprintf(out, " %s sample%s (%.2f s) in %.2f s", record_kind_name((int)kind),
            st->samples == 1 ? "" : "s", (double)st->ns / 1e9, (double)result->duration_ns / 1e9);
}

static void say_heap(FILE *out, const struct builder_heap_totals *t, uint32_t processes)
{
    const char *about = t->is_sampled ? "about " : "";
    fprintf(out, "heap: %s", about);
    say_objects(out, t->alloc_objects, t->alloc_bytes);
    fprintf(out, " allocated, %s", about);
    say_objects(out, t->inuse_objects, t->inuse_bytes);
    fputs(" in use at the end", out);
    if (t->is_exact) {
        fputs(", ", out);
        record_say_count(out, t->temporary_objects);
        fputs(" temporary, peak ", out);
        record_say_bytes(out, t->peak_bytes);
        fprintf(out, "%s after %.2f s", processes > 1 ? " in one process" : "",
                (double)t->peak_ns / 1e9);
    } else if (t->is_sampled) {
        fputs(", from ", out);
        record_say_count(out, t->samples);
        fputs(t->samples == 1 ? " sample" : " samples", out);
    }
}

static void say_waits(FILE *out, const struct record_result *result, const struct builder_stats *st)
{
    fputs("offcpu: ", out);
    record_say_count(out, st->samples);
    fprintf(out, " wait%s (%.2f s, of these %.2f s for a processor) in %.2f s",
            st->samples == 1 ? "" : "s", (double)st->ns / 1e9, (double)st->runnable_ns / 1e9,
            (double)result->duration_ns / 1e9);
}

static void say_growth(FILE *out, enum record_kind kind, const struct builder_growth *g)
{
    fprintf(out, "%s: ", record_kind_name((int)kind));
    record_say_bytes(out, g->resident_bytes);
    fputs(" became resident, ", out);
    record_say_bytes(out, g->returned_bytes);
    fputs(" given back; address space: ", out);
    record_say_bytes(out, g->mapped_bytes);
    fputs(" mapped, ", out);
    record_say_bytes(out, g->unmapped_bytes);
    fputs(" unmapped", out);
}

static void say_wakeups(FILE *out, const struct builder_stats *st)
{
    fputs("wakeups: ", out);
    record_say_count(out, st->samples);
    fprintf(out, " of threads that had waited %.2f s", (double)st->ns / 1e9);
}

static void say_contentions(FILE *out, enum record_kind kind, const struct builder_stats *st)
{
    fprintf(out, "%s: ", record_kind_name((int)kind));
    record_say_count(out, st->samples);
    fprintf(out, " contention%s, %.3f s of delay", st->samples == 1 ? "" : "s",
            (double)st->ns / 1e9);
}

// Of its first thread; 0 where that is not told.
static uint32_t children_of(uint32_t pid)
{
    char path[64];
    uint32_t n = 0, child;
    snprintf(path, sizeof path, "/proc/%u/task/%u/children", pid, pid);
    FILE *f = fopen(path, "re");
    while (f && fscanf(f, "%" SCNu32, &child) == 1)
        n++;
    if (f)
        fclose(f);
    return n;
}

static void say_no_time(FILE *out, const struct record_result *result, enum record_kind kind,
                        const struct record_options *o)
{
    uint32_t hz = kind == RECORD_CPU ? o->cpu_hz : o->wall_hz;
    uint32_t children = result->by_ebpf && o->pid ? children_of(o->pid) : 0;
    fputs("no samples: the program used less CPU time than one period", out);
    if (hz < HIGH_HZ)
        fprintf(out, "; try a higher rate (-F %d)%s", HIGH_HZ,
                kind == RECORD_CPU && !o->pid ? " or --wall" : "");
    if (children)
        fprintf(out,
                "; it has %u child%s, and those that it had before are not recorded: name one by "
                "-p, or their control group by --cgroup",
                children, children == 1 ? "" : "ren");
    fputc('\n', out);
}

// Why there may be nothing in it.
static void say_empty(FILE *out, const struct record_result *result, enum record_kind kind,
                      const struct record_options *o)
{
    struct builder_growth growth;
    fputs("fiberscope: ", out);
    if (builder_get_growth(result->builders[kind], &growth)) {
        fputs("nothing became resident and nothing was mapped: what was allocated, if anything, "
              "found room in memory that was there already\n",
              out);
    } else if (kind == RECORD_HEAP && result->by_ebpf && (o->whole_machine || o->cgroup)) {
        fputs("no allocations were seen: of many processes, only those of a process whose agent "
              "records the heap are\n",
              out);
    } else if (kind == RECORD_HEAP && o->heap_bytes > 1) {
        fputs("no samples: the program allocated little for a sample every ", out);
        record_say_bytes(out, o->heap_bytes);
        fprintf(out, ", or has its allocator linked in; %s\n",
                o->pid ? "a lower rate (--heap=4KiB) samples more"
                       : "--heap=exact counts every allocation");
    } else if (kind == RECORD_HEAP) {
        fputs("no allocations were seen: the program makes none by malloc or new, or has its "
              "allocator linked in\n",
              out);
    } else if (kind == RECORD_BLOCK) {
        fputs("no waits were seen: no thread waited for another one, or only so shortly that none "
              "was kept; --block=1 keeps all\n",
              out);
    } else if (kind == RECORD_MUTEX) {
        fprintf(out,
                "no contention was seen: no thread waited for a lock that another one released%s\n",
                result->by_ebpf ? " (goroutines wait for Go's locks without the kernel, unseen)"
                                : "");
    } else if (kind == RECORD_OFFCPU || kind == RECORD_WAKEUPS) {
        fputs("no waits were seen: no thread left its processor\n", out);
    } else {
        say_no_time(out, result, kind, o);
    }
}

static void say_what(FILE *out, const struct record_result *result, const struct record_written *w,
                     const struct builder_stats *st)
{
    struct builder_heap_totals totals;
    struct builder_growth growth;
    if (builder_get_growth(result->builders[w->kind], &growth)) {
        say_growth(out, w->kind, &growth);
    } else if (w->kind == RECORD_HEAP) {
        builder_get_heap(result->builders[w->kind], &totals);
        say_heap(out, &totals, st->processes);
    } else if (w->kind == RECORD_CUSTOM && strcmp(w->part, RECORD_FIBERS_PART) == 0) {
        record_say_count(out, st->samples);
        fputs(st->samples == 1 ? " fiber" : " fibers", out);
    } else if (w->kind == RECORD_CUSTOM) {
        uint64_t sum = builder_get_part(result->builders[w->kind], w->part);
        fprintf(out, "%.100s: ", w->part);
        record_say_count(out, sum);
        fputs(result->by_ebpf ? sum == 1 ? " event" : " events"
                              : " counted at the end (a profile of the program's own)",
              out);
    } else if (w->kind == RECORD_BLOCK || w->kind == RECORD_MUTEX) {
        say_contentions(out, w->kind, st);
    } else if (w->kind == RECORD_OFFCPU) {
        say_waits(out, result, st);
    } else if (w->kind == RECORD_WAKEUPS) {
        say_wakeups(out, st);
    } else {
        say_samples(out, result, w->kind, st);
    }
    if (st->processes > 1)
        fprintf(out, ", %u processes", st->processes);
    if (st->lost || w->kind < RECORD_STREAM_COUNT) {
        // Of state that the agent keeps an entry may be damaged; what comes from the kernel is lost on the way.
        bool drops = w->kind < RECORD_STREAM_COUNT || result->by_ebpf;
        fputs(", ", out);
        record_say_count(out, st->lost);
        fputs(drops ? " dropped" : " damaged", out);
    }
    if (st->truncated)
        fprintf(out, ", %" PRIu64 " cut at %d frames", st->truncated, SEG_STACK_DEPTH_MAX);
    fprintf(out, "; wrote %s\n", w->path);
}

// Of a program that freed all, the view by what is in use is empty.
static const char *next_options(const struct record_result *result, enum record_kind kind)
{
    struct builder_heap_totals totals;
    struct builder_growth growth;
    if (kind != RECORD_HEAP || builder_get_growth(result->builders[kind], &growth))
        return "";
    builder_get_heap(result->builders[kind], &totals);
    return totals.inuse_bytes ? "" : "-sample_index=alloc_space ";
}

static bool is_sum_whole(const struct builder_losses *l)
{
    return !l->untracked && !l->unknown_frees && !l->series && !l->negative;
}

static void say_next(FILE *out, const char *options, const char *path)
{
    fprintf(out, "fiberscope: next: fiberscope top %s", options);
    shell_word_print(out, path);
    fputc('\n', out);
}

void record_say_closing(const struct record_options *o, const struct record_result *result,
                        const struct record_written *w)
{
    struct builder_stats st;
    FILE *out = o->messages;
    char losses[LOSSES_BYTES];
    bool has_rate_note = w->kind == RECORD_CPU && result->rate_note[0];
    builder_get_stats(result->builders[w->kind], &st);
    fputs("fiberscope: ", out);
    if (w->kind == RECORD_HEAP && w->part[0]) {
        fprintf(out, "how long freed objects had lived; wrote %s\n", w->path);
        if (w->files == 1 && strcmp(w->path, "-") != 0)
            say_next(out, "-tagleaf=lifetime ", w->path);
        return; // of the heap, all was said
    }
    say_what(out, result, w, &st);
    if (has_rate_note)
        st.losses.collapsed = 0; // the line about the rate says it, with the reason
    record_losses_text(w->kind, &st, false, losses, sizeof losses);
    if (losses[0])
        fprintf(out, "fiberscope: %s%s\n", losses,
                is_sum_whole(&st.losses) ? "; the sums hold them" : "");
    if (w->without_symbols[0])
        fprintf(out, "fiberscope: %s\n", w->without_symbols);
    if (has_rate_note)
        fprintf(out, "fiberscope: %s\n", result->rate_note);
    if (st.samples == 0)
        say_empty(out, result, w->kind, o);
    else if (w->files == 1 && strcmp(w->path, "-") != 0)
        say_next(out, next_options(result, w->kind), w->path);
}

void record_say_series(const struct record_options *o, const struct record_result *result,
                       const char *path)
{
    fputs("fiberscope: the heap over time, ", o->messages);
    record_say_count(o->messages, result->series.count);
    fprintf(o->messages, " moment%s; wrote %s\n", result->series.count == 1 ? "" : "s", path);
}
