// SPDX-License-Identifier: MIT
//
// What is known of tasks as a page and as JSON; see requests.h.

#include "collector/serve/requests.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ACTIVE_SHOWN = 50 };

static int64_t now_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t took(const struct task *t)
{
    int64_t until = t->end_ns ? t->end_ns : now_of(CLOCK_MONOTONIC);
    return until > t->begin_ns ? (uint64_t)(until - t->begin_ns) : 0;
}

static const char *family_name(const struct task_family *f)
{
    return f->name[0] ? f->name : "(others)";
}

static bool is_shown(const struct task_family *f)
{
    return f->count || f->active;
}

// Without the places behind the point that duration_text has: bounds are round.
static const char *bound_text(char *text, size_t size, uint64_t ns)
{
    duration_text(text, size, ns);
    size_t whole = strcspn(text, ".");
    const char *unit = strchr(text, ' ');
    if (text[whole] && unit)
        memmove(text + whole, unit, strlen(unit) + 1);
    return text;
}

// --- The selected ones, newest first.

static int newest_first(const void *a, const void *b)
{
    const struct task *x = *(struct task *const *)a, *y = *(struct task *const *)b;
    return x->begin_ns > y->begin_ns ? -1 : x->begin_ns < y->begin_ns;
}

// Their number; *tasks is the caller's.
static size_t select_tasks(const struct requests *q, uint32_t family, int bucket,
                           struct task ***tasks)
{
    size_t n = 0;
    struct task **all = calloc(REQUESTS_ACTIVE, sizeof *all);
    *tasks = all;
    if (!all)
        return 0;
    if (bucket >= 0) {
        const struct task_list *l = &q->families[family].recent[bucket];
        for (; n < l->count; n++)
            all[n] = l->tasks[n];
    }
    for (uint32_t i = 0; bucket < 0 && i < REQUESTS_ACTIVE; i++)
        if (q->active[i] && q->active[i]->family == family)
            all[n++] = q->active[i];
    if (n)
        qsort(all, n, sizeof(struct task *), newest_first);
    return n < ACTIVE_SHOWN ? n : ACTIVE_SHOWN;
}

static void put_when(FILE *out, int64_t mono_ns)
{
    int64_t real = now_of(CLOCK_REALTIME) - (now_of(CLOCK_MONOTONIC) - mono_ns);
    time_t seconds = (time_t)(real / 1000000000);
    struct tm tm;
    char text[32] = "?";
    if (real > 0 && gmtime_r(&seconds, &tm))
        strftime(text, sizeof text, "%H:%M:%S", &tm);
    fprintf(out, "%s.%06d", text, real > 0 ? (int)(real % 1000000000 / 1000) : 0);
}

static void put_event(FILE *out, const struct task *t, const struct task_event *e)
{
    char text[32];
    int64_t after = e->at_ns - t->begin_ns;
    fprintf(out, "<tr><td></td><td class=\"n dim\">+%s</td><td class=\"w%s\">",
            duration_text(text, sizeof text, after > 0 ? (uint64_t)after : 0),
            e->kind == TASK_ERROR ? " bad" : "");
    put_html(out, e->text);
    if (e->kind == TASK_REGION)
        fprintf(out, " <span class=\"dim\">%s</span>",
                e->took_ns < 0 ? "has not ended"
                               : duration_text(text, sizeof text, (uint64_t)e->took_ns));
    fputs("</td></tr>\n", out);
}

static void put_task(FILE *out, const struct task *t)
{
    char text[32];
    fprintf(out, "<tr id=\"t%" PRIu64 "\"><td class=\"c\">", t->id);
    put_when(out, t->begin_ns);
    fprintf(out, "</td><td class=\"n\"><b>%s</b></td><td%s>task %" PRIu64,
            duration_text(text, sizeof text, took(t)), t->has_error ? " class=\"bad\"" : "", t->id);
    if (t->parent)
        fprintf(out, " of task %" PRIu64, t->parent);
    fprintf(out, "%s%s</td></tr>\n", t->end_ns ? "" : ", active", t->has_error ? ", error" : "");
    for (uint32_t i = 0; i < t->event_count; i++)
        put_event(out, t, &t->events[i]);
    if (t->events_lost)
        fprintf(out, "<tr><td></td><td></td><td class=\"dim\">%u more</td></tr>\n", t->events_lost);
}

static void put_selected(FILE *out, const struct request *r, const struct requests *q)
{
    uint32_t family;
    int bucket;
    struct task **tasks;
    char text[32];
    if (!requests_selected(r, q, &family, &bucket))
        return;
    size_t n = select_tasks(q, family, bucket, &tasks);
    fputs("<h2>", out);
    put_html(out, family_name(&q->families[family]));
    if (bucket < 0)
        fputs(": active", out);
    else if (bucket == REQUESTS_ERRORS)
        fputs(": the last with an error", out);
    else
        fprintf(out, ": the last that took %s or more",
                bound_text(text, sizeof text, requests_bounds_ns[bucket]));
    fputs("</h2>\n<div class=\"wide\"><table class=\"fit\"><thead><tr><th>Began (UTC)</th><th "
          "class=\"n\">Took</th>"
          "<th>What</th></tr></thead><tbody>\n",
          out);
    for (size_t i = 0; i < n; i++)
        put_task(out, tasks[i]);
    fputs("</tbody></table></div>\n", out);
    free(tasks);
}

// --- The families.

static void put_cell(FILE *out, const struct task_family *f, uint64_t count, const char *bucket,
                     uint64_t refresh_s, bool is_bad)
{
    char text[32];
    if (!count) {
        fputs("<td class=\"n dim\">0</td>", out);
        return;
    }
    fputs("<td class=\"n\"><a href=\"?family=", out);
    put_query(out, f->name);
    fprintf(out, "&amp;b=%s&amp;refresh=%" PRIu64 "\"%s>%s</a></td>", bucket, refresh_s,
            is_bad ? " class=\"bad\"" : "", count_text(text, sizeof text, count));
}

static void put_family(FILE *out, const struct task_family *f, uint64_t refresh_s)
{
    static const double fractions[] = {0.5, 0.9, 0.99};
    char text[32];
    fputs("<tr><td class=\"f\">", out);
    put_html(out, family_name(f));
    fprintf(out, "</td><td class=\"n\">%s</td>", count_text(text, sizeof text, f->count));
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++)
        fprintf(out, "<td class=\"n\">%s</td>",
                f->count ? duration_text(text, sizeof text, requests_quantile_ns(f, fractions[i]))
                         : "\xe2\x80\x93");
    put_cell(out, f, f->active, "active", refresh_s, false);
    for (int b = 0; b < REQUESTS_BUCKETS; b++) {
        snprintf(text, sizeof text, "%d", b);
        put_cell(out, f, f->buckets[b], text, refresh_s, false);
    }
    put_cell(out, f, f->errors, "errors", refresh_s, true);
    fputs("</tr>\n", out);
}

static void put_families(FILE *out, const struct requests *q, uint64_t refresh_s)
{
    char text[32];
    fputs("<div class=\"wide\"><table><thead><tr><th>Task</th><th class=\"n\">Ended</th>"
          "<th class=\"n\">p50</th><th class=\"n\">p90</th><th class=\"n\">p99</th>"
          "<th class=\"n\">Active</th>",
          out);
    for (int b = 0; b < REQUESTS_BUCKETS; b++)
        fprintf(out, "<th class=\"n\">\xe2\x89\xa5 %s</th>",
                bound_text(text, sizeof text, requests_bounds_ns[b]));
    fputs("<th class=\"n\">Errors</th></tr></thead><tbody>\n", out);
    for (uint32_t i = 0; i < q->family_count; i++)
        if (is_shown(&q->families[i]))
            put_family(out, &q->families[i], refresh_s);
    fputs("</tbody></table></div>\n", out);
}

static void put_about(FILE *out, const struct requests *q, const char *why, double seconds)
{
    char text[32];
    static const char links[] = "<a href=\"?seconds=1&amp;refresh=0\">1 s</a>, "
                                "<a href=\"?seconds=5&amp;refresh=0\">5 s</a>, "
                                "<a href=\"?seconds=30&amp;refresh=0\">30 s</a>, or "
                                "<a href=\"?seconds=2&amp;refresh=1\">2 s again and again</a>";
    if (*why) {
        fputs(seconds > 0 ? "<p class=\"bad\">" : "<p>", out);
        put_html(out, why);
        fputs(".</p>\n", out);
    }
    fprintf(out, "<p>Record tasks now for %s.</p>\n", links);
    if (!q->seen_until)
        fputs("<p class=\"dim\">Tasks are what the program puts between fscope_task_begin and "
              "fscope_task_end. They are recorded with execution traces: now by one of the links, "
              "or at any time by "
              "a flight recorder (<code>fscope_trace_start</code> with <code>is_flight</code>, or "
              "<code>FIBERSCOPE=trace=1,flight=1</code>), which this page reads each time it is "
              "loaded. An error is "
              "what is logged under the category <code>error</code>.</p>\n",
              out);
    else
        fprintf(out, "<p class=\"dim\">Seen without a gap for %s, until %s ago.",
                duration_text(text, sizeof text, (uint64_t)(q->seen_until - q->seen_from)),
                duration_text((char[32]){0}, 32,
                              (uint64_t)(now_of(CLOCK_MONOTONIC) > q->seen_until
                                             ? now_of(CLOCK_MONOTONIC) - q->seen_until
                                             : 0)));
    if (q->seen_until && q->forgotten)
        fprintf(out, " %s were active at a gap, and are forgotten.",
                count_text(text, sizeof text, q->forgotten));
    if (q->seen_until && q->unfollowed)
        fprintf(out, " %s active ones were too many.",
                count_text(text, sizeof text, q->unfollowed));
    fputs(q->seen_until ? "</p>\n" : "", out);
}

static double seconds_of(const struct request *r)
{
    size_t size;
    double seconds = 0;
    char *text = query_get(r->query, "seconds", &size);
    if (text)
        query_parse_float(text, size, &seconds);
    free(text);
    return seconds > 0 ? seconds : 0;
}

void requests_put_html(struct request *r, FILE *out, const struct requests *q, const char *why)
{
    uint64_t refresh_s = html_refresh_of(r, 0);
    double seconds = seconds_of(r);
    uint32_t family;
    int bucket;
    char query[64] = "";
    bool any = false;
    if (seconds > 0)
        snprintf(query, sizeof query, "seconds=%g", seconds);
    html_begin(out, r, "requests", refresh_s);
    html_refresh(out, query, refresh_s);
    put_about(out, q, why, seconds);
    for (uint32_t i = 0; i < q->family_count; i++)
        any |= is_shown(&q->families[i]);
    if (any)
        put_families(out, q, refresh_s);
    else if (q->seen_until)
        fputs("<p>No task was seen.</p>\n", out);
    put_selected(out, r, q);
    if (any && !requests_selected(r, q, &family, &bucket))
        fputs("<p class=\"dim\">The numbers lead to the last ten of each, with their logs and "
              "regions.</p>\n",
              out);
    html_end(out);
}

// --- JSON.

static void put_json_task(FILE *out, const struct task *t)
{
    static const char *const kinds[] = {"log", "region", "error"};
    fprintf(out,
            "{\"task\":%" PRIu64 ",\"parent\":%" PRIu64 ",\"begin_ns\":%" PRId64
            ",\"took_ns\":%" PRIu64 ",\"is_active\":%s,\"has_error\":%s,\"events\":[",
            t->id, t->parent, t->begin_ns, took(t), t->end_ns ? "false" : "true",
            t->has_error ? "true" : "false");
    for (uint32_t i = 0; i < t->event_count; i++) {
        const struct task_event *e = &t->events[i];
        fprintf(out, "%s{\"kind\":\"%s\",\"after_ns\":%" PRId64 ",\"text\":", i ? "," : "",
                kinds[e->kind], e->at_ns - t->begin_ns);
        put_json(out, e->text);
        if (e->kind == TASK_REGION && e->took_ns >= 0)
            fprintf(out, ",\"took_ns\":%" PRId64, e->took_ns);
        fputc('}', out);
    }
    fputs("]}", out);
}

static void put_json_family(FILE *out, const struct task_family *f)
{
    fputs("{\"name\":", out);
    put_json(out, f->name);
    fprintf(out,
            ",\"ended\":%" PRIu64 ",\"active\":%" PRIu64 ",\"errors\":%" PRIu64
            ",\"p50_ns\":%" PRIu64 ",\"p90_ns\":%" PRIu64 ",\"p99_ns\":%" PRIu64 ",\"buckets\":[",
            f->count, f->active, f->errors, requests_quantile_ns(f, 0.5),
            requests_quantile_ns(f, 0.9), requests_quantile_ns(f, 0.99));
    for (int b = 0; b < REQUESTS_BUCKETS; b++)
        fprintf(out, "%s{\"from_ns\":%" PRIu64 ",\"count\":%" PRIu64 "}", b ? "," : "",
                requests_bounds_ns[b], f->buckets[b]);
    fputs("]}", out);
}

void requests_put_json(struct request *r, FILE *out, const struct requests *q, const char *why)
{
    uint32_t family;
    int bucket;
    bool is_first = true;
    fputs("{\"why\":", out);
    put_json(out, why);
    fprintf(out,
            ",\"seen_from_ns\":%" PRId64 ",\"seen_until_ns\":%" PRId64 ",\"forgotten\":%" PRIu64
            ",\"unfollowed\":%" PRIu64 ",\n\"families\":[",
            q->seen_from, q->seen_until, q->forgotten, q->unfollowed);
    for (uint32_t i = 0; i < q->family_count; i++) {
        if (!is_shown(&q->families[i]))
            continue;
        fputs(is_first ? "\n" : ",\n", out);
        put_json_family(out, &q->families[i]);
        is_first = false;
    }
    fputs("\n]", out);
    if (requests_selected(r, q, &family, &bucket)) {
        struct task **tasks;
        size_t n = select_tasks(q, family, bucket, &tasks);
        fputs(",\n\"tasks\":[", out);
        for (size_t i = 0; i < n; i++) {
            fputs(i ? ",\n" : "\n", out);
            put_json_task(out, tasks[i]);
        }
        fputs("\n]", out);
        free(tasks);
    }
    fputs("}\n", out);
}
