// SPDX-License-Identifier: MIT
//
// /metrics, in Prometheus' text format 0.0.4. Names: process_ as all clients have them; fiberscope_ for the rest, where
// those of Go's runtime/metrics are made into names as client_golang does it ("/sched/latencies:seconds" becomes
// sched_latencies_seconds, what only grows gets _total). docs/serve.md has the table.
//
// Invariant: the number of lines is bounded, whatever the program does: SITES_MAX creation sites, the session's regions,
// the runtime's states.

#include "collector/serve/table.h"

#include <inttypes.h>
#include <math.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

enum {
    SITES_MAX = 20,
    // Bounds of histograms, powers of two of ns: 64 ns to 17 s.
    LATENCY_FIRST = 6,
    REGION_FIRST = 10,
    REGION_STEP = 2,
    BUCKET_LAST = 34,
};

static void put_head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_number(FILE *out, double value)
{
    if (value == floor(value) && fabs(value) < 1e15)
        fprintf(out, " %.0f\n", value);
    else
        fprintf(out, " %.17g\n", value);
}

static void put_one(FILE *out, const char *name, const char *type, double value, const char *help)
{
    put_head(out, name, type, help);
    fputs(name, out);
    put_number(out, value);
}

// What buckets of powers of two make of a histogram: those above the last bound are in +Inf alone. more: counted, and in
// no bucket. sum_s negative: not known but by the buckets, whose middles stand for what is in them.
static void put_histogram(FILE *out, const char *name, const char *labels,
                          const uint64_t buckets[SESSION_BUCKETS], int first, int step,
                          uint64_t more, double sum_s)
{
    const char *comma = *labels ? "," : "";
    uint64_t below = 0, all = more;
    double middle_s = 0;
    for (int b = 0; b < SESSION_BUCKETS; b++) {
        all += buckets[b];
        middle_s += 1.5e-9 * ldexp(1, b) * (double)buckets[b];
    }
    for (int b = 0, bound = first; bound <= BUCKET_LAST; bound += step) {
        for (; b < bound; b++)
            below += buckets[b];
        fprintf(out, "%s_bucket{%s%sle=\"%.10g\"} %" PRIu64 "\n", name, labels, comma,
                ldexp(1, bound) * 1e-9, below);
    }
    fprintf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, all);
    fprintf(out, "%s_sum%s%s%s", name, *labels ? "{" : "", labels, *labels ? "}" : "");
    put_number(out, sum_s < 0 ? middle_s : sum_s);
    fprintf(out, "%s_count%s%s%s %" PRIu64 "\n", name, *labels ? "{" : "", labels,
            *labels ? "}" : "", all);
}

// --- The process.

static void put_process(FILE *out, const struct session_metrics *m)
{
    put_one(out, "process_cpu_seconds_total", "counter", m->cpu_s,
            "Total user and system CPU time spent in seconds.");
    put_one(out, "process_resident_memory_bytes", "gauge", (double)m->rss_bytes,
            "Resident memory size in bytes.");
    put_one(out, "process_virtual_memory_bytes", "gauge", (double)m->virtual_bytes,
            "Virtual memory size in bytes.");
    put_one(out, "process_start_time_seconds", "gauge", m->start_s,
            "Start time of the process since unix epoch in seconds.");
    put_one(out, "process_threads", "gauge", (double)m->threads, "Number of threads.");
    if (m->has_fds)
        put_one(out, "process_open_fds", "gauge", (double)m->fds,
                "Number of open file descriptors.");
    if (m->has_fds_max)
        put_one(out, "process_max_fds", "gauge", (double)m->fds_max,
                "Maximum number of open file descriptors.");
    if (m->has_virtual_max)
        put_one(out, "process_virtual_memory_max_bytes", "gauge", (double)m->virtual_max_bytes,
                "Maximum amount of virtual memory available in bytes.");
    if (m->has_cgroup)
        put_one(out, "fiberscope_cgroup_memory_usage_bytes", "gauge", (double)m->cgroup_bytes,
                "Memory that the control group of the process uses.");
    if (!m->has_cgroup_limit)
        return;
    put_one(out, "fiberscope_cgroup_memory_limit_bytes", "gauge", (double)m->cgroup_limit_bytes,
            "The nearest memory limit of the control group or one above it.");
    put_one(out, "fiberscope_cgroup_memory_headroom_bytes", "gauge",
            (double)m->cgroup_headroom_bytes, "What is left up to the nearest memory limit.");
}

// --- What the agent counts.

static void put_losses(FILE *out, const struct session_counts *c)
{
    static const char name[] = "fiberscope_recording_lost_total";
    const struct {
        const char *what;
        uint64_t n;
    } rows[] = {{"ring", c->ring_full},      {"stack", c->stacks_full},
                {"state", c->state_full},    {"thread", c->threads_full},
                {"module", c->modules_full}, {"pointer", c->untracked}};
    put_head(out, name, "counter",
             "What found its table full: records without time and thread (ring), without a stack, "
             "totals without "
             "details (state), threads, modules, and allocations that are not tracked (pointer).");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        fprintf(out, "%s{what=\"%s\"} %" PRIu64 "\n", name, rows[i].what, rows[i].n);
}

static void put_heap(FILE *out, const struct session_metrics *m)
{
    double freed_objects = fmax(m->heap_alloc_objects - m->heap_live_objects, 0);
    double freed_bytes = fmax(m->heap_alloc_bytes - m->heap_live_bytes, 0);
    put_one(out, "fiberscope_gc_heap_allocs_bytes_total", "counter", floor(m->heap_alloc_bytes),
            "Bytes allocated since the heap is recorded, by its samples.");
    put_one(out, "fiberscope_gc_heap_allocs_objects_total", "counter", floor(m->heap_alloc_objects),
            "Allocations since the heap is recorded, by its samples.");
    put_one(out, "fiberscope_gc_heap_frees_bytes_total", "counter", floor(freed_bytes),
            "Bytes freed since the heap is recorded, by its samples.");
    put_one(out, "fiberscope_gc_heap_frees_objects_total", "counter", floor(freed_objects),
            "Frees since the heap is recorded, by its samples.");
    put_one(out, "fiberscope_gc_heap_objects_objects", "gauge", floor(m->heap_live_objects),
            "Objects in use, of those allocated since the heap is recorded, by its samples.");
    put_one(out, "fiberscope_memory_classes_heap_objects_bytes", "gauge", floor(m->heap_live_bytes),
            "Bytes in use, of those allocated since the heap is recorded, by its samples.");
}

static void put_locks(FILE *out, const struct session_metrics *m)
{
    if (m->has_mutex) {
        put_one(
            out, "fiberscope_sync_mutex_wait_total_seconds_total", "counter", m->mutex_wait_s,
            "Time that others waited for locks, when these were released, since it is recorded.");
        put_one(out, "fiberscope_sync_mutex_contentions_total", "counter",
                (double)m->mutex_contentions, "Releases of locks that others waited for.");
    }
    if (m->has_block) {
        put_one(out, "fiberscope_sync_block_wait_seconds_total", "counter", m->block_wait_s,
                "Time spent in waiting for locks and other threads, since it is recorded.");
        put_one(out, "fiberscope_sync_block_contentions_total", "counter",
                (double)m->block_contentions, "Waits for locks and other threads.");
    }
}

// Its label as a whole; the caller frees it. NULL: no memory.
static char *label_of(const char *name, const char *value)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    put_label(out, name, value);
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}

static const char *name_of(const struct session_region *r)
{
    return r->name[0] ? r->name : "other";
}

static void put_regions(FILE *out, const struct session_metrics *m)
{
    static const char times[] = "fiberscope_region_duration_seconds",
                      errors[] = "fiberscope_region_errors_total";
    if (!m->region_count)
        return;
    put_head(
        out, times, "histogram",
        "How long regions took (fscope_region_begin to fscope_region_end) since the first scrape.");
    for (size_t i = 0; i < m->region_count; i++) {
        const struct session_region *r = &m->regions[i];
        char *label = r->count ? label_of("region", name_of(r)) : NULL;
        if (label)
            put_histogram(out, times, label, r->buckets, REGION_FIRST, REGION_STEP, r->unmeasured,
                          1e-9 * (double)r->ns);
        free(label);
    }
    put_head(out, errors, "counter",
             "Regions that had an error (fscope_region_error) since the first scrape.");
    for (size_t i = 0; i < m->region_count; i++) {
        const struct session_region *r = &m->regions[i];
        if (!r->count)
            continue;
        fprintf(out, "%s{", errors);
        put_label(out, "region", name_of(r));
        fprintf(out, "} %" PRIu64 "\n", r->errors);
    }
}

// --- Fibers.

// Go's four classes, by the runtime's words.
static void put_classes(FILE *out, const struct table *t)
{
    static const char *const classes[][2] = {{"running", "running"},
                                             {"runnable", "runnable preempted"},
                                             {"not_in_go", "syscall"},
                                             {"waiting", NULL}}; // what is nowhere else
    uint64_t counts[4] = {0};
    for (size_t i = 0; i < t->state_count; i++) {
        size_t k = 0;
        for (; k < 3; k++) {
            const char *found = strstr(classes[k][1], t->states[i].text);
            if (found && t->states[i].text[0])
                break;
        }
        counts[k] += t->states[i].count;
    }
    for (size_t k = 0; k < 4; k++) {
        char name[64], help[96];
        snprintf(name, sizeof name, "fiberscope_sched_goroutines_%s_goroutines", classes[k][0]);
        snprintf(help, sizeof help, "Fibers that are %s.",
                 k == 2   ? "in blocking calls"
                 : k == 1 ? "waiting for a processor"
                 : k == 3 ? "waiting for something else"
                          : "running");
        put_one(out, name, "gauge", (double)counts[k], help);
    }
}

static void put_sites(FILE *out, struct serve *s, const struct table *t)
{
    static const char name[] = "fiberscope_fibers_by_creation_site";
    uint64_t others = 0;
    put_head(out, name, "gauge",
             "Living fibers by who made them: the 20 sites with most, and all others.");
    for (size_t i = 0; i < t->group_count; i++) {
        struct name at;
        if (i >= SITES_MAX || !t->groups[i].key) {
            others += t->groups[i].count;
            continue;
        }
        name_get(s, t->groups[i].key - 1, &at);
        fprintf(out, "%s{", name);
        put_label(out, "function", at.function);
        fputc(',', out);
        put_label(out, "at", at.place);
        // Two calls may stand in one line.
        fprintf(out, ",address=\"0x%" PRIx64 "\"} %" PRIu64 "\n", t->groups[i].key,
                t->groups[i].count);
    }
    fprintf(out, "%s{function=\"other\",at=\"\",address=\"\"} %" PRIu64 "\n", name, others);
}

static void put_fibers(FILE *out, struct serve *s, const struct table *t)
{
    static const char states[] = "fiberscope_fibers";
    const struct session_fibers *f = &t->fibers;
    put_one(out, "fiberscope_sched_gomaxprocs_threads", "gauge", (double)f->procs,
            "How many fibers may run at a time.");
    put_one(out, "fiberscope_sched_goroutines_goroutines", "gauge", (double)t->total,
            "Living fibers.");
    put_classes(out, t);
    put_one(out, "fiberscope_sched_goroutines_created_goroutines_total", "counter",
            (double)f->spawns, "Fibers created since the start.");
    put_one(out, "fiberscope_sched_threads_total_threads", "gauge", (double)f->threads,
            "Threads that run fibers.");
    put_one(out, "fiberscope_sched_threads_idle_threads", "gauge", (double)f->threads_idle,
            "Threads that would run fibers and have none.");
    put_one(out, "fiberscope_sched_switches_total", "counter", (double)f->switches,
            "Times that a fiber was given a processor.");
    put_one(out, "fiberscope_sched_steals_total", "counter", (double)f->steals,
            "Times that a processor took fibers from another's queue.");
    put_one(out, "fiberscope_sched_thread_wakes_total", "counter", (double)f->thread_wakes,
            "Wakes of sleeping threads.");
    put_one(out, "fiberscope_sched_thread_parks_total", "counter", (double)f->thread_parks,
            "Times that a thread went to sleep for want of work.");
    put_head(out, "fiberscope_sched_latencies_seconds", "histogram",
             "Waits of runnable fibers for a processor, estimated from one in 8; the sum is "
             "estimated from the "
             "buckets.");
    put_histogram(out, "fiberscope_sched_latencies_seconds", "", f->latency, LATENCY_FIRST, 1, 0,
                  -1);
    put_head(out, states, "gauge", "Living fibers by what they do or wait for.");
    for (size_t i = 0; i < t->state_count; i++) {
        fprintf(out, "%s{", states);
        put_label(out, "state", t->states[i].text);
        fprintf(out, "} %" PRIu64 "\n", t->states[i].count);
    }
    put_sites(out, s, t);
}

// --- The page.

static void put_about(FILE *out, const struct session *s)
{
    put_head(out, "fiberscope_target_info", "gauge", "What is looked at, and how.");
    fputs("fiberscope_target_info{", out);
    put_label(out, "program", session_program(s));
    fprintf(out, ",pid=\"%u\",way=\"%s\"} 1\n", session_pid(s),
            session_way(s) == SESSION_AGENT ? "agent" : "outside");
}

void page_metrics(struct request *r)
{
    struct session *s = r->serve->session;
    struct session_metrics *m = malloc(sizeof *m);
    struct table t = {0};
    if (!m) {
        reply_http_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
        return;
    }
    if (session_metrics(s, m)) {
        reply_http_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "the program has ended");
        free(m);
        return;
    }
    bool has_fibers = table_sum_sites(&t, s) == 0;
    FILE *out = reply_text_begin(r, "text/plain; version=0.0.4; charset=utf-8");
    if (out) {
        put_about(out, s);
        put_process(out, m);
        if (has_fibers) {
            size_t most = t.group_count;
            t.group_count = most < SITES_MAX ? most : SITES_MAX;
            names_want_table(r->serve, &t);
            t.group_count = most;
            put_fibers(out, r->serve, &t);
        }
        if (m->has_heap)
            put_heap(out, m);
        put_locks(out, m);
        if (m->has_regions)
            put_regions(out, m);
        if (m->has_counts)
            put_losses(out, &m->counts);
        reply_text_end(r, out);
    }
    table_free(&t);
    free(m);
}
