// SPDX-License-Identifier: MIT
//
// See trace_tables.h.

#include "cli/trace_tables.h"

#include "analysis/units.h"

#include <inttypes.h>
#include <string.h>

static const char *text_of(const struct trace_summary *s, uint32_t name)
{
    return trace_names_text(&s->names, name);
}

static void print_more(FILE *out, uint64_t left)
{
    if (left)
        fprintf(out, "%12s %" PRIu64 " more (-n 0: all)\n", "...", left);
}

void trace_print_functions(FILE *out, const struct trace_summary *s,
                           struct trace_function *const *functions, uint32_t count, uint32_t rows)
{
    struct terminal t = terminal_of(out);
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX], c[TRACE_NS_MAX], d[TRACE_NS_MAX], e[TRACE_NS_MAX];
    double whole = 0;
    for (uint32_t i = 0; i < count; i++)
        whole += (double)functions[i]->times.running_ns;
    fprintf(out, "%12s %7s %10s %10s %10s %8s %6s\n", "running", "", "runnable", "blocked",
            "syscall", "fibers", "alive");
    for (uint32_t i = 0; i < count && i < rows; i++) {
        const struct trace_function *f = functions[i];
        const struct trace_times *x = &f->times;
        fprintf(out, "%12s %7s %10s %10s %10s %8" PRIu64 " %6" PRIu64 "  ",
                trace_ns(a, x->running_ns), trace_share(b, (double)x->running_ns, whole),
                trace_ns(c, x->runnable_ns), trace_ns(d, x->blocked_ns),
                trace_ns(e, x->syscall_ns + x->syscall_blocked_ns), f->fibers, f->alive);
        trace_name_print(out, &t, text_of(s, f->name));
        fputc('\n', out);
    }
    print_more(out, count > rows ? count - rows : 0);
}

void trace_print_procs(FILE *out, const struct trace_summary *s, uint32_t rows)
{
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX], c[TRACE_NS_MAX], d[TRACE_NS_MAX];
    fprintf(out, "%8s %10s %10s %10s %10s %10s %8s\n", "Proc", "running", "syscall", "idle",
            "scheduling", "runs", "stolen");
    for (uint32_t i = 0; i < s->proc_count && i < rows; i++) {
        const struct trace_proc *p = s->procs[i];
        fprintf(out, "%8" PRId64 " %10s %10s %10s %10s %10" PRIu64 " %8" PRIu64 "\n", p->id,
                trace_ns(a, p->running_ns), trace_ns(b, p->syscall_ns), trace_ns(c, p->idle_ns),
                trace_ns(d, p->other_ns), p->runs, p->steals);
    }
    print_more(out, s->proc_count > rows ? s->proc_count - rows : 0);
}

static bool edge_matches(const struct trace_summary *s, const struct trace_edge *e,
                         const char *name)
{
    return e->wakes && (trace_name_matches(text_of(s, e->from), name) ||
                        trace_name_matches(text_of(s, e->to), name));
}

bool trace_wakes_of(const struct trace_summary *s, const char *name)
{
    for (uint32_t i = 0; i < s->edge_count; i++)
        if (edge_matches(s, s->edges[i], name))
            return true;
    return false;
}

void trace_print_wakes(FILE *out, const struct trace_summary *s, uint32_t rows, const char *name)
{
    struct terminal t = terminal_of(out);
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    uint32_t shown = 0, left = 0;
    fprintf(out, "%12s %12s %12s\n", "wakes", "it had", "then it");
    fprintf(out, "%12s %12s %12s\n", "", "waited", "waited to run (means)");
    for (uint32_t i = 0; i < s->edge_count; i++) {
        const struct trace_edge *e = s->edges[i];
        if (!edge_matches(s, e, name))
            continue;
        if (shown == rows) {
            left++;
            continue;
        }
        shown++;
        int64_t n = (int64_t)e->wakes;
        fprintf(out, "%12" PRIu64 " %12s %12s  ", e->wakes, trace_ns(a, e->blocked_ns / n),
                trace_ns(b, e->runnable_ns / n));
        if (e->waker == TRACE_WAKER_FIBER)
            trace_name_print(out, &t, text_of(s, e->from));
        else
            fputs(trace_waker_as_name(e->waker), out);
        fputs(" -> ", out);
        trace_name_print(out, &t, text_of(s, e->to));
        fputc('\n', out);
    }
    print_more(out, left);
}

const char *trace_quantile(char *buf, const struct trace_type *t, double q)
{
    bool exact;
    int64_t ns = trace_type_quantile_ns(t, q, &exact);
    size_t at = exact ? 0 : strlen(strcpy(buf, "<="));
    units_label(buf + at, TRACE_NS_MAX - at, ns, "nanoseconds", "auto");
    return buf;
}

void trace_print_types(FILE *out, const struct trace_summary *s, struct trace_type *const *types,
                       uint32_t count, uint32_t rows, const char *name)
{
    struct terminal t = terminal_of(out);
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX], c[TRACE_NS_MAX], d[TRACE_NS_MAX];
    uint32_t shown = 0, left = 0;
    bool has_more = false;
    fprintf(out, "%12s %10s %10s %10s %10s %10s\n", "count", "complete", "median", "p99", "longest",
            "total");
    for (uint32_t i = 0; i < count; i++) {
        const struct trace_type *x = types[i];
        has_more |= trace_type_is_rest(s, x);
        if (!trace_name_matches(text_of(s, x->name), name))
            continue;
        if (shown == rows) {
            left++;
            continue;
        }
        shown++;
        fprintf(out, "%12" PRIu64 " %10" PRIu64, x->count, x->complete);
        if (x->complete)
            fprintf(out, " %10s %10s %10s %10s  ", trace_quantile(a, x, 0.5),
                    trace_quantile(b, x, 0.99), trace_ns(c, x->latency.max_ns),
                    trace_ns(d, x->latency.sum_ns));
        else
            fprintf(out, " %10s %10s %10s %10s  ", "-", "-", "-", "-");
        trace_name_print(out, &t, text_of(s, x->name));
        fputc('\n', out);
    }
    print_more(out, left);
    if (has_more)
        fprintf(out, "%12s (more names) are those beyond %d names, which are not told apart\n", "",
                TRACE_TYPES_MAX);
}

void trace_print_share(FILE *out, double share, uint64_t gomaxprocs)
{
    char a[TRACE_NS_MAX];
    if (!gomaxprocs)
        fprintf(out, "The trace does not say how many Procs there are.\n");
    else
        fprintf(out, "The Procs ran fibers %s of the time (GOMAXPROCS %" PRIu64 ").\n",
                trace_share(a, share, 1), gomaxprocs);
}

void trace_print_runnable(FILE *out, const struct trace_hist *h)
{
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX], c[TRACE_NS_MAX];
    // 1 ns is what keeps two events apart that were one.
    if (h->count && h->max_ns > 1)
        fprintf(out,
                "Of the waits for a Proc half took at most %s, 99 of 100 at most %s, the longest "
                "%s.\n",
                trace_ns(a, trace_hist_quantile_ns(h, 0.5)),
                trace_ns(b, trace_hist_quantile_ns(h, 0.99)), trace_ns(c, h->max_ns));
}

// --- JSON.

void trace_json_hist(struct json *j, const struct trace_hist *h, const struct trace_type *type)
{
    static const struct {
        const char *key;
        double q;
    } quantiles[] = {{"p50_ns", 0.5}, {"p90_ns", 0.9}, {"p99_ns", 0.99}};
    bool exact = false;
    json_int(j, "count", (int64_t)h->count);
    json_int(j, "sum_ns", h->sum_ns);
    for (size_t i = 0; i < CLI_COUNT(quantiles); i++) {
        double q = quantiles[i].q;
        json_int(j, quantiles[i].key,
                 type ? trace_type_quantile_ns(type, q, &exact) : trace_hist_quantile_ns(h, q));
    }
    json_bool(j, "exact", exact); // else at most those
    json_int(j, "max_ns", h->max_ns);
    json_open(j, "histogram", '[');
    for (unsigned i = 0; i < TRACE_HIST_BUCKETS; i++) {
        if (!h->buckets[i])
            continue;
        json_open(j, NULL, '{');
        json_int(j, "from_ns", trace_hist_bucket_ns(i));
        json_int(j, "count", (int64_t)h->buckets[i]);
        json_close(j, '}');
    }
    json_close(j, ']');
}

void trace_json_moments(struct json *j, const struct trace_moments *m)
{
    json_int(j, "runs", (int64_t)m->runs);
    json_int(j, "yields", (int64_t)m->yields);
    json_int(j, "preemptions", (int64_t)m->preemptions);
    json_int(j, "blocks", (int64_t)m->blocks);
    json_int(j, "syscalls", (int64_t)m->syscalls);
    json_int(j, "wakes", (int64_t)m->wakes);
    json_int(j, "creates", (int64_t)m->creates);
}

void trace_json_functions(struct json *j, const struct trace_summary *s)
{
    json_open(j, "functions", '[');
    for (uint32_t i = 0; i < s->function_count; i++) {
        const struct trace_function *f = s->functions[i];
        json_open(j, NULL, '{');
        json_string(j, "function", text_of(s, f->name));
        json_int(j, "fibers", (int64_t)f->fibers);
        json_int(j, "alive", (int64_t)f->alive);
        trace_json_times(j, s, &f->times);
        trace_json_moments(j, &f->moments);
        json_int(j, "longest_run_ns", f->run.ns);
        json_int(j, "longest_runnable_ns", f->wait.ns);
        json_open(j, "runnable", '{');
        trace_json_hist(j, &f->runnable, NULL);
        json_close(j, '}');
        json_close(j, '}');
    }
    json_close(j, ']');
}

void trace_json_procs(struct json *j, const struct trace_summary *s)
{
    json_open(j, "procs", '[');
    for (uint32_t i = 0; i < s->proc_count; i++) {
        const struct trace_proc *p = s->procs[i];
        json_open(j, NULL, '{');
        json_int(j, "proc", p->id);
        json_int(j, "running_ns", p->running_ns);
        json_int(j, "syscall_ns", p->syscall_ns);
        json_int(j, "idle_ns", p->idle_ns);
        json_int(j, "other_ns", p->other_ns);
        json_int(j, "runs", (int64_t)p->runs);
        json_int(j, "steals", (int64_t)p->steals);
        json_close(j, '}');
    }
    json_close(j, ']');
}

void trace_json_wakes(struct json *j, const struct trace_summary *s, const char *name)
{
    json_open(j, "wakes", '[');
    for (uint32_t i = 0; i < s->edge_count; i++) {
        const struct trace_edge *e = s->edges[i];
        if (name && !edge_matches(s, e, name))
            continue;
        json_open(j, NULL, '{');
        json_string(j, "from", text_of(s, e->from));
        json_string(j, "to", text_of(s, e->to));
        json_string(j, "by", trace_waker_name(e->waker));
        json_int(j, "wakes", (int64_t)e->wakes);
        json_int(j, "creates", (int64_t)e->creates);
        json_int(j, "blocked_ns", e->blocked_ns);
        json_int(j, "runnable_ns", e->runnable_ns);
        json_close(j, '}');
    }
    json_close(j, ']');
}

void trace_json_types(struct json *j, const char *key, const struct trace_input *in,
                      const struct trace_summary *s, struct trace_type *const *types,
                      uint32_t count, const char *name)
{
    json_open(j, key, '[');
    for (uint32_t i = 0; i < count; i++) {
        const struct trace_type *x = types[i];
        if (!trace_name_matches(text_of(s, x->name), name))
            continue;
        json_open(j, NULL, '{');
        json_string(j, "name", text_of(s, x->name));
        json_int(j, "instances", (int64_t)x->count);
        json_int(j, "complete", (int64_t)x->complete);
        json_open(j, "latency", '{');
        trace_json_hist(j, &x->latency, x);
        json_close(j, '}');
        json_open(j, "times", '{');
        trace_json_times(j, s, &x->times);
        json_close(j, '}');
        json_open(j, "slowest", '[');
        for (uint32_t k = 0; k < x->slowest_count; k++) {
            json_open(j, NULL, '{');
            json_int(j, "ns", x->slowest[k].ns);
            json_int(j, "at_ns", x->slowest[k].begin_ns - in->base_ns);
            json_int(j, "fiber", x->slowest[k].fiber);
            json_int(j, "task", (int64_t)x->slowest[k].task);
            json_close(j, '}');
        }
        json_close(j, ']');
        json_close(j, '}');
    }
    json_close(j, ']');
}
