// SPDX-License-Identifier: MIT
//
// The page of a trace: summary, latencies, timeline. See report_page.h. The picture is fiberscope-view's, which
// draws it in a process of its own.

#include "base/file.h"
#include "cli/flame_svg.h"
#include "cli/report_page.h"
#include "cli/trace_tables.h"
#include "cli/viewer_program.h"

#include <errno.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { ROWS_MAX = 200, WAKES_MAX = 30, BARS = 48, BAR = 12, HEIGHT = 90, LABELS = 18 };

static void write_card(FILE *out, const char *word, const char *fmt, ...) FSCOPE_PRINTF(3, 4);
static void write_card(FILE *out, const char *word, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("<div><b>", out);
    vfprintf(out, fmt, ap);
    fprintf(out, "</b><span>%s</span></div>", word);
    va_end(ap);
}

static void write_shares(FILE *out, const struct trace_times *t)
{
    const struct {
        const char *cls, *word;
        int64_t ns;
    } parts[] = {{"run", "running", t->running_ns},
                 {"ready", "runnable", t->runnable_ns},
                 {"sys", "in system calls", t->syscall_ns + t->syscall_blocked_ns},
                 {"wait", "blocked", t->blocked_ns}};
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    double whole = t->total_ns > 0 ? (double)t->total_ns : 1;
    fputs("<div class=\"share\">", out);
    for (size_t i = 0; i < CLI_COUNT(parts); i++)
        if (parts[i].ns > 0)
            fprintf(out, "<i class=\"%s\" style=\"width:%.3f%%\"></i>", parts[i].cls,
                    100.0 * (double)parts[i].ns / whole);
    fputs("</div><p class=\"key\">", out);
    for (size_t i = 0; i < CLI_COUNT(parts); i++)
        fprintf(out, "<i class=\"%s\"></i>%s %s, %s", parts[i].cls, parts[i].word,
                trace_ns(a, parts[i].ns), trace_share(b, (double)parts[i].ns, whole));
    fputs("</p>\n", out);
}

static void write_time(FILE *out, int64_t ns)
{
    char a[TRACE_NS_MAX];
    fprintf(out, "<td data-v=\"%" PRId64 "\">%s</td>", ns, trace_ns(a, ns));
}

static void write_functions(FILE *out, const struct trace_summary *s)
{
    uint32_t n = s->function_count < ROWS_MAX ? s->function_count : ROWS_MAX;
    fputs("<h2>By start function</h2><table class=\"sortable\"><thead><tr>"
          "<th data-col=\"0\" class=\"down\">running</th><th data-col=\"1\">runnable</th>"
          "<th data-col=\"2\">in system calls</th><th data-col=\"3\">blocked</th>"
          "<th data-col=\"4\">fibers</th><th data-col=\"5\">alive</th>"
          "<th data-col=\"6\" class=\"n\">function</th></tr></thead><tbody>\n",
          out);
    for (uint32_t i = 0; i < n; i++) {
        const struct trace_function *f = s->functions[i];
        fputs("<tr>", out);
        write_time(out, f->times.running_ns);
        write_time(out, f->times.runnable_ns);
        write_time(out, f->times.syscall_ns + f->times.syscall_blocked_ns);
        write_time(out, f->times.blocked_ns);
        fprintf(out,
                "<td data-v=\"%" PRIu64 "\">%" PRIu64 "</td><td data-v=\"%" PRIu64 "\">%" PRIu64
                "</td><td class=\"n\">",
                f->fibers, f->fibers, f->alive, f->alive);
        flame_svg_escape(out, trace_function_word(trace_names_text(&s->names, f->name)));
        fputs("</td></tr>\n", out);
    }
    fputs("</tbody></table>\n", out);
    if (s->function_count > n)
        fprintf(out, "<p class=\"dim\">%u more are left out.</p>\n", s->function_count - n);
}

// What a report prints for a terminal, as it is: fill writes it.
static void write_text(FILE *out, void (*fill)(FILE *text, const void *what), const void *what)
{
    char *text = NULL;
    size_t size = 0;
    FILE *t = open_memstream(&text, &size);
    if (t) {
        fill(t, what);
        fclose(t);
    }
    fputs("<pre>", out);
    for (char *line = text, *end; line && *line; line = end + 1) {
        end = strchr(line, '\n');
        if (end)
            *end = 0;
        flame_svg_escape(out, line);
        fputc('\n', out);
        if (!end)
            break;
    }
    fputs("</pre>\n", out);
    free(text);
}

struct page {
    const struct trace_input *in;
    const struct trace_summary *s;
    const struct trace_lint *lints;
    size_t lint_count;
};

static void fill_wakes(FILE *text, const void *what)
{
    const struct page *p = what;
    trace_print_wakes(text, p->s, WAKES_MAX, NULL);
}

static void fill_lints(FILE *text, const void *what)
{
    const struct page *p = what;
    trace_print_lints(text, p->in, p->s, p->lints, p->lint_count, ROWS_MAX);
}

static void write_summary(FILE *out, const struct page *p)
{
    const struct trace_summary *s = p->s;
    const struct trace_totals *t = &s->totals;
    char a[TRACE_NS_MAX];
    fputs("<div class=\"cards\">", out);
    write_card(out, "duration", "%s", trace_ns(a, t->end_ns - t->begin_ns));
    write_card(out, "of the Procs used", "%.1f%%", 100 * t->running_share);
    write_card(out, "Procs", "%" PRIu64, t->gomaxprocs);
    write_card(out, "fibers", "%" PRIu64, t->fibers);
    write_card(out, "threads", "%" PRIu64, t->threads);
    write_card(out, "events", "%" PRIu64, t->events);
    if (t->heap_max_bytes)
        write_card(out, "heap at most", "%.1f MB", (double)t->heap_max_bytes / 1e6);
    fputs("</div>\n<h2>What the fibers did</h2>", out);
    write_shares(out, &t->times);
    if (t->runnable.count) {
        fputs("<p>", out);
        trace_print_runnable(out, &t->runnable);
        fputs("</p>\n", out);
    }
    if (p->lint_count) {
        fputs("<h2>Remarkable</h2>", out);
        write_text(out, fill_lints, p);
    }
    write_functions(out, s);
    if (s->edge_count) {
        fputs("<h2>Who wakes whom</h2>", out);
        write_text(out, fill_wakes, p);
    }
}

// Equal steps of the logarithm, an eighth of a power of two each, joined so that BARS hold them.
static void write_histogram(FILE *out, const struct trace_hist *h)
{
    unsigned first = TRACE_HIST_BUCKETS, last = 0;
    uint64_t bars[BARS] = {0}, most = 0;
    char a[TRACE_NS_MAX];
    for (unsigned i = 0; i < TRACE_HIST_BUCKETS; i++) {
        if (!h->buckets[i])
            continue;
        first = first < i ? first : i;
        last = i;
    }
    if (first > last)
        return;
    unsigned step = (last - first) / BARS + 1, used = (last - first) / step + 1;
    for (unsigned i = first; i <= last; i++)
        bars[(i - first) / step] += h->buckets[i];
    for (unsigned i = 0; i < used; i++)
        most = bars[i] > most ? bars[i] : most;
    fprintf(out, "<svg class=\"hist\" width=\"%d\" height=\"%d\" role=\"img\">", BARS * BAR + 60,
            HEIGHT + LABELS);
    for (unsigned i = 0; i < used; i++) {
        double share = (double)bars[i] / (double)most;
        double height = bars[i] ? 1.5 + share * (HEIGHT - 4) : 0;
        unsigned next = first + (i + 1) * step;
        if (bars[i])
            fprintf(
                out,
                "<rect x=\"%u\" y=\"%.1f\" width=\"%d\" height=\"%.1f\"><title>%" PRIu64
                " below %s</title></rect>",
                i * BAR, HEIGHT - height, BAR - 1, height, bars[i],
                trace_ns(a, next < TRACE_HIST_BUCKETS ? trace_hist_bucket_ns(next) : h->max_ns));
        if (i % 6 == 0)
            fprintf(out, "<text x=\"%u\" y=\"%d\">%s</text>", i * BAR, HEIGHT + LABELS - 4,
                    trace_ns(a, trace_hist_bucket_ns(first + i * step)));
    }
    fprintf(out, "<line x1=\"0\" x2=\"%u\" y1=\"%d.5\" y2=\"%d.5\"/></svg>\n", used * BAR, HEIGHT,
            HEIGHT);
}

static void write_slowest(FILE *out, const struct page *p, const struct trace_type *t)
{
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    if (!t->slowest_count)
        return;
    fputs("<p class=\"dim\">slowest:", out);
    for (uint32_t i = 0; i < t->slowest_count && i < 3; i++)
        fprintf(out, "%s %s of fiber %" PRId64 " at %s", i ? "," : "",
                trace_ns(a, t->slowest[i].ns), t->slowest[i].fiber,
                trace_at(b, p->in, t->slowest[i].begin_ns));
    fputs("</p>\n", out);
}

static void write_types(FILE *out, const struct page *p, const char *title,
                        struct trace_type *const *types, uint32_t count)
{
    char quantile[TRACE_NS_MAX], max[TRACE_NS_MAX];
    if (!count)
        return;
    fprintf(out, "<h2>%s</h2>\n", title);
    for (uint32_t i = 0; i < count && i < ROWS_MAX; i++) {
        const struct trace_type *t = types[i];
        fprintf(out, "<details%s><summary><b>", i < 4 ? " open" : "");
        flame_svg_escape(out, trace_names_text(&p->s->names, t->name));
        fprintf(out, "</b> <span class=\"dim\">%" PRIu64 " times; ", t->count);
        if (t->complete) {
            static const double q[] = {0.5, 0.9, 0.99};
            static const char *const words[] = {"median", "p90", "p99"};
            for (size_t k = 0; k < CLI_COUNT(q); k++) {
                fprintf(out, "%s ", words[k]);
                flame_svg_escape(out, trace_quantile(quantile, t, q[k])); // "<=1.30s"
                fputs(", ", out);
            }
            fprintf(out, "max %s", trace_ns(max, t->latency.max_ns));
        } else {
            fputs("none has begin and end in the trace", out);
        }
        fputs("</span></summary><div style=\"padding:4px 14px\">", out);
        write_histogram(out, &t->latency);
        if (t->times.total_ns > 0)
            write_shares(out, &t->times);
        write_slowest(out, p, t);
        fputs("</div></details>\n", out);
    }
}

static void write_latencies(FILE *out, const struct page *p)
{
    const struct trace_summary *s = p->s;
    write_types(out, p, "Regions", s->region_types, s->region_type_count);
    write_types(out, p, "Tasks", s->task_types, s->task_type_count);
    if (!s->region_type_count && !s->task_type_count)
        fputs("<p class=\"dim\">The program marks no regions and no tasks: "
              "fscope_region_begin(), fscope_task_begin().</p>",
              out);
    if (s->totals.runnable.count) {
        fputs("<h2>Waits of runnable fibers for a Proc</h2>", out);
        write_histogram(out, &s->totals.runnable);
    }
}

// The picture as text, malloc'd; NULL, and why in `reason`.
static char *draw_timeline(const char *path, const char *theme, char *reason, size_t reason_size)
{
    char viewer[VIEWER_PATH_MAX], *text = NULL;
    posix_spawn_file_actions_t actions;
    char *argv[] = {(char *)(uintptr_t) "fiberscope-view",
                    (char *)(uintptr_t) "--render",
                    (char *)(uintptr_t) "timeline",
                    (char *)(uintptr_t) "--svg",
                    (char *)(uintptr_t) "-",
                    (char *)(uintptr_t) "--theme",
                    (char *)(uintptr_t)theme,
                    (char *)(uintptr_t) "--size",
                    (char *)(uintptr_t) "1600x900",
                    (char *)(uintptr_t) "--",
                    (char *)(uintptr_t)path,
                    NULL};
    int status = 0, fd = -1;
    pid_t pid;
    if (viewer_program(viewer)) {
        snprintf(reason, reason_size, "fiberscope-view, which draws it, is not installed");
        return NULL;
    }
    fd = memfd_create("timeline", MFD_CLOEXEC);
    posix_spawn_file_actions_init(&actions);
    if (fd >= 0)
        posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
    int rc = fd < 0 ? errno : posix_spawn(&pid, viewer, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    while (!rc && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    off_t size = rc ? 0 : lseek(fd, 0, SEEK_END);
    if (!rc && !status && size > 0 && (text = malloc((size_t)size + 1))) {
        ssize_t n = pread(fd, text, (size_t)size, 0);
        text[n < 0 ? 0 : n] = 0;
    } else {
        snprintf(reason, reason_size, "fiberscope-view could not draw it (%s)",
                 rc ? strerror(rc) : "its message is above");
    }
    if (fd >= 0)
        close(fd);
    return text;
}

// The picture, with ids of its own: the page has two. In words a quote is escaped, so none of them is taken for one.
static void write_picture(FILE *out, const char *svg, const char *theme)
{
    static const char *const ids[] = {" id=\"c", " clip-path=\"url(#c"};
    fprintf(out, "<div class=\"picture %s\">", theme);
    while (*svg) {
        size_t n = strcspn(svg + 1, " ") + 1;
        for (size_t i = 0; i < CLI_COUNT(ids); i++) {
            size_t length = strlen(ids[i]);
            if (strncmp(svg, ids[i], length) != 0)
                continue;
            fprintf(out, "%.*s%s-c", (int)length - 1, svg, theme);
            svg += length;
            n -= length;
        }
        fwrite(svg, 1, n, out);
        svg += n;
    }
    fputs("</div>\n", out);
}

// As light or dark as the page, which follows the reader's choice.
static void write_timeline(FILE *out, const char *path)
{
    static const char *const themes[] = {"light", "dark"};
    char reason[256] = "";
    for (size_t i = 0; i < CLI_COUNT(themes) && !*reason; i++) {
        char *svg = draw_timeline(path, themes[i], reason, sizeof reason);
        const char *begin = svg ? strstr(svg, "<svg") : NULL;
        if (begin)
            write_picture(out, begin, themes[i]);
        else
            fprintf(out, "<p class=\"dim\">There is no picture: %s.</p>\n",
                    svg ? "fiberscope-view wrote no SVG" : reason);
        free(svg);
    }
    if (*reason)
        cli_note("the page has no timeline: %s", reason);
    fputs("<p class=\"dim\">fiberscope view FILE opens it to zoom, follow wake-ups and look at "
          "stacks; go tool trace FILE and ui.perfetto.dev (fiberscope trace export) do, too.</p>\n",
          out);
}

static void write_page(FILE *out, const struct page *p, const struct report_args *a,
                       const char *path)
{
    const struct trace_totals *t = &p->s->totals;
    char under[256], ns[TRACE_NS_MAX];
    snprintf(under, sizeof under, "execution trace, %s, %" PRIu64 " events of %" PRIu64 " fiber%s",
             trace_ns(ns, t->end_ns - t->begin_ns), t->events, t->fibers, cli_s(t->fibers));
    report_page_open(out, a->title ? a->title : file_base_name(path), under);
    report_page_tab(out, "summary", "Summary", true);
    report_page_tab(out, "latencies", "Latencies", false);
    report_page_tab(out, "timeline", "Timeline", false);
    report_page_section(out, "summary", true);
    write_summary(out, p);
    report_page_section_end(out);
    report_page_section(out, "latencies", false);
    write_latencies(out, p);
    report_page_section_end(out);
    report_page_section(out, "timeline", false);
    write_timeline(out, path);
    report_page_section_end(out);
    report_page_close(out);
}

int report_trace(struct report_args *a, const char *path)
{
    const struct trace_args ta = {
        .from_ns = -1, .to_ns = -1, .longer_ns = -1, .path = path, .salvage = a->profile.salvage};
    struct trace_summary_options opts = {0};
    struct trace_summary *s = NULL;
    struct trace_lint *lints = NULL;
    struct profile_output o;
    struct trace_input in;
    int status = trace_input_open(&in, &ta);
    if (!status)
        status = trace_input_summary(&in, &opts, &s);
    int count = status ? 0 : trace_lints(s, &lints);
    if (count < 0)
        status = cli_fail("out of memory");
    if (!status && !(status = profile_output_open(&o, a->profile.output))) {
        const struct page p = {&in, s, lints, (size_t)count};
        write_page(o.out, &p, a, path);
        status = profile_output_close(&o, true);
    }
    free(lints);
    trace_summary_free(s);
    trace_input_close(&in);
    return status;
}
