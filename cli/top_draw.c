// SPDX-License-Identifier: MIT
//
// How `fiberscope top -p` looks: a screen for a terminal, or lines. See top_live.h.
//
//   fiberscope top: server (4711)  cpu 99 Hz, by the agent                 12 s
//   1.98s in the last 2 s (99% of a CPU), 11.9s in all   focus: parse
//                       this window                           in all
//      flat  flat%      cum   cum%     flat  flat%      cum   cum%  function

#include "cli/top_live.h"

#include "analysis/units.h"
#include "cli/options.h"
#include "cli/terminal.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEAD_ROWS = 4,
    FOOT_ROWS = 1,
    VALUE_COLUMNS = 9,
    GAP_COLUMNS = 1, // before the second value
    SHARE_COLUMNS = 7,
    GROUP_COLUMNS = 2 * (VALUE_COLUMNS + SHARE_COLUMNS) + GAP_COLUMNS,
    SHARES_COLUMNS = 2 * (SHARE_COLUMNS + 1), // a group without its values
    NAME_COLUMNS_WISHED = 36,                 // below this the values of the second group go
    NAME_COLUMNS_MIN = 12,                    // ... and below this all of it
    LINE_BYTES = 1024,
};

// A line that is cut at the screen's edge.
struct line {
    char text[LINE_BYTES];
    size_t length;
};

static void put(struct line *l, const char *fmt, ...) FSCOPE_PRINTF(2, 3);
static void put(struct line *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(l->text + l->length, sizeof l->text - l->length, fmt, ap);
    va_end(ap);
    l->length += n < 0 ? 0 : (size_t)n;
    if (l->length >= sizeof l->text)
        l->length = sizeof l->text - 1;
}

static const char *label(char *buf, int64_t value, const struct top_table *t)
{
    return units_label(buf, UNITS_LABEL_MAX, value, t->unit, "auto");
}

// The smallest shares have too many digits for their column.
static const char *percent(char buf[32], int64_t value, int64_t total)
{
    units_percent(buf, 32, value, total);
    if (strlen(buf) >= SHARE_COLUMNS && total && fabs((double)value / (double)total) < 1e-4)
        snprintf(buf, 32, "<0.01%%");
    return buf;
}

static const char *seconds(char *buf, uint64_t ns)
{
    double s = (double)ns / 1e9;
    snprintf(buf, 32, s < 10 && s != (double)(int)s ? "%.1f s" : "%.0f s", s);
    return buf;
}

// --- What stands above the table.

static void put_title(struct line *l, const struct top_view *v)
{
    put(l, "%s (%u)  %s", v->program[0] ? v->program : "process", v->pid, top_kind_name(v->kind));
    if (v->kind < TOP_HEAP)
        put(l, " %u Hz", v->hz);
    if (v->has_way)
        put(l, ", %s", v->way == SESSION_AGENT ? "by the agent" : "from outside");
}

static void put_sums(struct line *l, const struct top_view *v)
{
    char a[UNITS_LABEL_MAX], b[UNITS_LABEL_MAX], t[32];
    const struct top_table *table = v->table;
    if (top_kind_is_level(v->kind)) {
        put(l, "%s %s", label(a, table->total, table),
            v->kind == TOP_FIBERS ? "fibers, or threads where there is no runtime" : table->type);
        if (v->window_ns)
            put(l, ", %s changed in the last %s", label(b, table->window, table),
                seconds(t, v->window_ns));
    } else {
        put(l, "%s in the last %s", label(a, table->window, table), seconds(t, v->window_ns));
        if (v->kind == TOP_CPU && v->window_ns)
            put(l, " (%.0f%% of a CPU)", 100.0 * (double)table->window / (double)v->window_ns);
        put(l, ", %s in all", label(b, table->total, table));
    }
    if (v->lost)
        put(l, ", %llu sample%s lost", (unsigned long long)v->lost, cli_s(v->lost));
}

// Which columns there is room for.
struct layout {
    bool has_values, has_second;
    int name_columns;
};

static struct layout layout_of(int columns)
{
    if (!columns)
        return (struct layout){.has_values = true, .has_second = true};
    int name = columns - 2 * GROUP_COLUMNS - 2;
    if (name >= NAME_COLUMNS_WISHED)
        return (struct layout){true, true, name};
    name = columns - GROUP_COLUMNS - SHARES_COLUMNS - 2;
    if (name >= NAME_COLUMNS_MIN)
        return (struct layout){false, true, name};
    name = columns - GROUP_COLUMNS - 2;
    return (struct layout){false, false, name > 1 ? name : 1};
}

static const char *second_title(enum top_kind kind)
{
    return top_kind_is_level(kind) ? "now" : "in all";
}

static const char *first_title(enum top_kind kind)
{
    return top_kind_is_level(kind) ? "change in this window" : "this window";
}

// A column's heading, marked where it decides the order.
static void put_heading(struct line *l, const struct top_view *v, const char *text, int width,
                        enum top_sort sort, bool has_marks)
{
    int pad = width - (int)strlen(text);
    const char *on = has_marks && v->sort == sort ? "\033[7m" : "";
    put(l, "%*s%s%s%s", pad, "", on, text, *on ? "\033[0;1m" : "");
}

static void put_headings(struct line *l, const struct top_view *v, const struct layout *at,
                         bool has_marks)
{
    put_heading(l, v, "flat", VALUE_COLUMNS, TOP_BY_FLAT, has_marks);
    put(l, "%*s", SHARE_COLUMNS, "flat%");
    put_heading(l, v, "cum", VALUE_COLUMNS + GAP_COLUMNS, TOP_BY_CUM, has_marks);
    put(l, "%*s", SHARE_COLUMNS, "cum%");
    if (at->has_second && at->has_values) {
        put_heading(l, v, "flat", VALUE_COLUMNS, TOP_BY_TOTAL_FLAT, has_marks);
        put(l, "%*s", SHARE_COLUMNS, "flat%");
        put_heading(l, v, "cum", VALUE_COLUMNS + GAP_COLUMNS, TOP_BY_TOTAL_CUM, has_marks);
        put(l, "%*s", SHARE_COLUMNS, "cum%");
    } else if (at->has_second) {
        put_heading(l, v, "flat%", SHARE_COLUMNS + 1, TOP_BY_TOTAL_FLAT, has_marks);
        put_heading(l, v, "cum%", SHARE_COLUMNS + 1, TOP_BY_TOTAL_CUM, has_marks);
    }
    put_heading(l, v, "function", 10, TOP_BY_NAME, has_marks);
}

static void put_groups(struct line *l, const struct top_view *v, const struct layout *at)
{
    put(l, "%*s", GROUP_COLUMNS, first_title(v->kind));
    if (at->has_second)
        put(l, "%*s", at->has_values ? GROUP_COLUMNS : SHARES_COLUMNS, second_title(v->kind));
}

// --- The table.

static void put_group(struct line *l, int64_t flat, int64_t cum, int64_t total,
                      const struct top_table *t, bool has_values)
{
    char a[UNITS_LABEL_MAX], b[UNITS_LABEL_MAX], p[32], q[32];
    percent(p, flat, total);
    percent(q, cum, total);
    if (has_values)
        put(l, "%*s%*s%*s%*s", VALUE_COLUMNS, label(a, flat, t), SHARE_COLUMNS, p,
            VALUE_COLUMNS + GAP_COLUMNS, label(b, cum, t), SHARE_COLUMNS, q);
    else
        put(l, "%*s%*s", SHARE_COLUMNS + 1, p, SHARE_COLUMNS + 1, q);
}

static void print_row(FILE *out, const struct top_row *r, const struct top_table *t,
                      const struct layout *at, const struct terminal *term)
{
    struct line l = {0};
    double share = t->window  ? (double)r->flat / (double)t->window
                   : t->total ? (double)r->total_flat / (double)t->total
                              : 0;
    put_group(&l, r->flat, r->cum, t->window, t, true);
    if (at->has_second)
        put_group(&l, r->total_flat, r->total_cum, t->total, t, at->has_values);
    fprintf(out, "%s%s%s  ", terminal_heat(term, share), l.text, terminal_reset(term));
    terminal_print(out, term, r->label, at->name_columns);
}

// --- A screen.

static const char *const help[] = {
    "f c     sort by flat, by cum, of this window",
    "F C n   sort by flat, by cum, of the second group; by name",
    "1 - 6   cpu, wall, heap, block, mutex, fibers; Tab: the next one",
    "/       focus: only stacks with a function that matches (empty: all)",
    "p       pause the screen; recording goes on",
    "j k     down and up; also arrows, page keys, Home, End",
    "q       quit",
    "",
    "flat is what a function used itself, cum what it used with all it called.",
    "wall, heap, block and mutex need the agent inside; they are switched on",
    "when you look and off when you leave.",
};

enum { HELP_ROWS = sizeof help / sizeof help[0] };

size_t top_draw_rows(const struct top_view *v)
{
    int rows = v->rows - HEAD_ROWS - FOOT_ROWS;
    return rows > 0 ? (size_t)rows : 0;
}

static void end_line(FILE *out)
{
    fputs("\033[0m\033[K\r\n", out);
}

static void print_cut(FILE *out, const struct terminal *term, const char *text, int columns)
{
    // terminal_print takes 0 as no limit, and does not cut below 9.
    terminal_print(out, term, text, columns > 8 ? columns : 9);
}

static void print_head(FILE *out, const struct top_view *v, const struct layout *at,
                       const struct terminal *term)
{
    struct line title = {0}, sums = {0}, groups = {0}, heads = {0};
    char t[32];
    put_title(&title, v);
    if (v->elapsed_ns)
        put(&title, "  %s", seconds(t, v->elapsed_ns));
    if (v->is_paused)
        put(&title, "  PAUSED");
    fputs("\033[1m", out);
    print_cut(out, term, title.text, v->columns);
    end_line(out);
    if (v->table->type[0])
        put_sums(&sums, v);
    else if (!v->is_bad)
        put(&sums, "waiting for the first samples");
    if (v->focus[0])
        put(&sums, "%sfocus: %s", sums.length ? "   " : "", v->focus);
    print_cut(out, term, sums.text, v->columns);
    end_line(out);
    put_groups(&groups, v, at);
    fprintf(out, "\033[2m%s", groups.text);
    end_line(out);
    put_headings(&heads, v, at, true);
    fprintf(out, "\033[1m%s", heads.text);
    end_line(out);
}

// A sentence over as many lines as it takes; how many these were.
static size_t print_wrapped(FILE *out, const struct top_view *v, const struct terminal *term,
                            const char *text, size_t rows)
{
    struct line l;
    size_t width = v->columns > 12 ? (size_t)v->columns - 4 : 8, used = 0;
    while (*text && used < rows) {
        size_t n = strlen(text);
        if (n > width) {
            n = width;
            while (n > 1 && text[n] != ' ')
                n--;
            n = n > 1 ? n : width;
        }
        l = (struct line){0};
        put(&l, "  %.*s", (int)n, text);
        terminal_print(out, term, l.text, 0);
        end_line(out);
        text += n;
        text += strspn(text, " ");
        used++;
    }
    return used;
}

static size_t print_body(FILE *out, const struct top_view *v, const struct layout *at,
                         const struct terminal *term, size_t rows)
{
    size_t used = 0;
    if (v->is_bad)
        return print_wrapped(out, v, term, v->message, rows);
    for (; used < rows && v->first + used < v->table->count; used++) {
        print_row(out, &v->table->rows[v->first + used], v->table, at, term);
        end_line(out);
    }
    return used;
}

static void print_foot(FILE *out, const struct top_view *v, const struct terminal *term)
{
    struct line l = {0};
    if (v->typed)
        put(&l, "focus: /%s", v->typed);
    else if (v->message && v->message[0] && !v->is_bad)
        put(&l, "%s", v->message);
    else
        put(&l, "? help  q quit  / focus  1-6 kind  f c F C n sort  p %s",
            v->is_paused ? "go on" : "pause");
    fputs(v->typed ? "\033[1m" : "\033[2m", out);
    print_cut(out, term, l.text, v->columns - (v->typed != NULL));
    fputs(v->typed ? "\033[7m \033[0m\033[K" : "\033[0m\033[K", out);
}

void top_draw_screen(FILE *out, const struct top_view *v)
{
    const char *no = getenv("NO_COLOR");
    const struct terminal term = {.is_tty = true, .colour = !(no && *no), .columns = v->columns};
    struct layout at = layout_of(v->columns);
    size_t rows = top_draw_rows(v), used = 0;
    fputs("\033[H", out);
    if (rows)
        print_head(out, v, &at, &term);
    for (; v->is_helping && used < rows && used < HELP_ROWS; used++) {
        fputs("  ", out);
        print_cut(out, &term, help[used], v->columns - 2);
        end_line(out);
    }
    if (!v->is_helping)
        used = print_body(out, v, &at, &term, rows);
    while (used++ < rows)
        end_line(out);
    print_foot(out, v, &term);
    fputs("\033[J", out);
}

// --- Lines.

void top_draw_lines(FILE *out, const struct top_view *v)
{
    struct terminal term = terminal_of(out);
    struct layout at = layout_of(term.columns);
    struct line title = {0}, sums = {0}, groups = {0}, heads = {0};
    char t[32];
    put_title(&title, v);
    put_sums(&sums, v);
    put_groups(&groups, v, &at);
    put_headings(&heads, v, &at, false);
    terminal_print(out, &term, title.text, 0);
    fprintf(out, "  %s\n%s\n%s\n%s\n", seconds(t, v->elapsed_ns), sums.text, groups.text,
            heads.text);
    for (size_t i = 0; i < v->table->count && (!v->row_max || i < v->row_max); i++) {
        print_row(out, &v->table->rows[i], v->table, &at, &term);
        fputc('\n', out);
    }
    fputc('\n', out);
    fflush(out);
}
