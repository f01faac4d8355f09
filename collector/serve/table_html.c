// SPDX-License-Identifier: MIT
//
// The table of fibers as a page; see table.h.

#include "collector/serve/table.h"

#include <inttypes.h>
#include <string.h>

static const char *const group_words[] = {"", "start", "site"};

// The query that keeps what is asked for, with another order.
static void put_query_of(FILE *out, const struct table *t, enum table_group group,
                         struct table_order order)
{
    fprintf(out, "sort=%s&amp;order=%s", table_headings[order.column].key,
            order.is_descending ? "desc" : "asc");
    if (group != TABLE_EACH)
        fprintf(out, "&amp;group=%s", group_words[group]);
    if (t->is_threads)
        fputs("&amp;of=threads", out);
    fprintf(out, "&amp;rows=%zu", t->shown_max);
}

static void put_head(FILE *out, const struct table *t)
{
    fputs("<div class=\"wide\"><table><thead><tr>", out);
    for (int c = 0; c < COLUMNS; c++) {
        const struct table_heading *h = &table_headings[c];
        struct table_order order = {(enum table_column)c, h->is_number && c != COLUMN_ID};
        bool is_on = t->order.column == (enum table_column)c;
        if (!table_has(t, (enum table_column)c))
            continue;
        if (is_on)
            order.is_descending = !t->order.is_descending;
        fprintf(out, "<th class=\"%s%s\" title=\"", h->is_number ? "n" : "", is_on ? " on" : "");
        put_html(out, h->help);
        fputs("\"><a href=\"?", out);
        put_query_of(out, t, t->group, order);
        fprintf(out, "&amp;refresh=%" PRIu64 "\">%s%s</a></th>", t->refresh_s, h->title,
                !is_on                   ? ""
                : t->order.is_descending ? " \xe2\x96\xbe"
                                         : " \xe2\x96\xb4");
        if (c == COLUMN_WAITING)
            fputs("<th>Shares</th>", out);
    }
    fputs("</tr></thead>\n<tbody>\n", out);
}

static void put_time(FILE *out, uint64_t ns)
{
    char text[32];
    fprintf(out, "<td class=\"n%s\">%s</td>", ns ? "" : " dim",
            ns ? duration_text(text, sizeof text, ns) : "\xe2\x80\x93");
}

static void put_count(FILE *out, uint64_t n)
{
    char text[32];
    fprintf(out, "<td class=\"n%s\">%s</td>", n ? "" : " dim", count_text(text, sizeof text, n));
}

static void put_bar(FILE *out, uint64_t busy, uint64_t runnable, uint64_t waiting)
{
    double all = (double)busy + (double)runnable + (double)waiting;
    if (!(all > 0)) {
        fputs("<td></td>", out);
        return;
    }
    double b = 100 * (double)busy / all, w = 100 * (double)runnable / all;
    fprintf(out,
            "<td><span class=\"bar\" title=\"busy %.1f %%, runnable %.1f %%, waiting %.1f %%\">"
            "<i class=\"b\" style=\"width:%.1f%%\"></i><i class=\"r\" "
            "style=\"width:%.1f%%\"></i></span></td>",
            b, w, 100 - b - w, b, w);
}

static void put_place(FILE *out, struct request *r, uint64_t address, bool is_call)
{
    struct name name;
    if (!address) {
        fputs("<td class=\"dim\">\xe2\x80\x93</td>", out);
        return;
    }
    name_get(r->serve, address - is_call, &name);
    fputs("<td class=\"f\">", out);
    put_html(out, name.function);
    if (name.place[0]) {
        fputs(" <span class=\"dim\">", out);
        put_html(out, name.place);
        fputs("</span>", out);
    }
    fputs("</td>", out);
}

static void put_holder(FILE *out, const struct session_row *row)
{
    if (!row->holder)
        fputs("<td></td>", out);
    else
        fprintf(out, "<td class=\"n\">%s %" PRIu64 "</td>",
                row->is_held_by_thread ? "thread" : "fiber", row->holder);
}

static void put_text_cell(FILE *out, const char *text)
{
    fputs("<td class=\"f\">", out);
    put_html(out, text);
    fputs("</td>", out);
}

static void put_name(FILE *out, const struct session_row *row)
{
    fputs("<td class=\"f\">", out);
    put_html(out, row->name);
    if (row->labels[0]) {
        fputs(" <span class=\"dim\">", out);
        put_html(out, row->labels);
        fputs("</span>", out);
    }
    fputs("</td>", out);
}

static void put_cell(FILE *out, struct request *r, const struct session_row *row,
                     enum table_column c)
{
    switch (c) {
    case COLUMN_ID: fprintf(out, "<td class=\"n\">%" PRIu64 "</td>", row->id); break;
    case COLUMN_NAME: put_name(out, row); break;
    case COLUMN_START: put_place(out, r, row->start, false); break;
    case COLUMN_SITE: put_place(out, r, row->created_at, true); break;
    case COLUMN_STATE: put_text_cell(out, row->state); break;
    case COLUMN_SINCE: put_time(out, row->since_ns); break;
    case COLUMN_BUSY: put_time(out, row->busy_ns); break;
    case COLUMN_RUNNABLE: put_time(out, row->runnable_ns); break;
    case COLUMN_WAITING:
        put_time(out, table_waiting_ns(row));
        put_bar(out, row->busy_ns, row->runnable_ns, table_waiting_ns(row));
        break;
    case COLUMN_SWITCHES: put_count(out, row->switches); break;
    case COLUMN_WAKES: put_count(out, row->wakes); break;
    case COLUMN_SELF: put_count(out, row->self_wakes); break;
    case COLUMN_PREEMPTED: put_count(out, row->preempted); break;
    case COLUMN_ON: put_text_cell(out, row->on); break;
    case COLUMN_HOLDER: put_holder(out, row); break;
    default: break;
    }
}

static void put_rows(FILE *out, struct request *r, const struct table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        fprintf(out, "<tr id=\"f%" PRIu64 "\">", t->rows[i].id);
        for (int c = 0; c < COLUMNS; c++)
            if (table_has(t, (enum table_column)c))
                put_cell(out, r, &t->rows[i], (enum table_column)c);
        fputs("</tr>\n", out);
    }
}

static void put_group(FILE *out, struct request *r, const struct table *t,
                      const struct table_sum *g)
{
    fputs("<tr>", out);
    if (t->is_threads)
        put_text_cell(out, g->name);
    else if (!g->key)
        put_text_cell(out, "others");
    else
        put_place(out, r, g->key, t->group == TABLE_BY_SITE);
    put_time(out, g->since_max_ns);
    put_count(out, g->count);
    put_time(out, g->busy_ns);
    put_time(out, g->runnable_ns);
    put_time(out, g->waiting_ns);
    put_bar(out, g->busy_ns, g->runnable_ns, g->waiting_ns);
    put_count(out, g->switches);
    put_count(out, g->wakes);
    if (!t->is_threads)
        put_count(out, g->self_wakes);
    put_count(out, g->preempted);
    fputs("</tr>\n", out);
}

// --- Above the table.

static void put_latency(FILE *out, const struct session_fibers *f)
{
    static const double fractions[] = {0.5, 0.9, 0.99};
    char text[32];
    int first = SESSION_BUCKETS, last = -1;
    uint64_t most = 1, total = 0;
    for (int b = 0; b < SESSION_BUCKETS; b++) {
        if (!f->latency[b])
            continue;
        first = first < b ? first : b;
        last = b;
        total += f->latency[b];
        most = f->latency[b] > most ? f->latency[b] : most;
    }
    if (last < 0)
        return;
    fputs("<h2>Waits of runnable fibers for a processor</h2>\n<p class=\"dim\">", out);
    fprintf(out, "about %s since the start, by one in 8;", count_text(text, sizeof text, total));
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++)
        fprintf(out, " %g %% below %s%s", fractions[i] * 100,
                duration_text(text, sizeof text, powers_quantile_ns(f->latency, fractions[i])),
                i + 1 < sizeof fractions / sizeof *fractions ? "," : "");
    fputs("</p>\n<div class=\"hist\">", out);
    for (int b = first; b <= last; b++) {
        duration_text(text, sizeof text, UINT64_C(1) << b);
        text[strcspn(text, ".")] = '\0';
        fprintf(out, "<span title=\"%s", duration_text((char[32]){0}, 32, UINT64_C(1) << b));
        fprintf(out, " up to %s: ", duration_text((char[32]){0}, 32, UINT64_C(2) << b));
        fprintf(out, "%s\"><i style=\"height:%.1f%%\"></i></span>",
                count_text((char[32]){0}, 32, f->latency[b]),
                f->latency[b] ? 2 + 98 * (double)f->latency[b] / (double)most : 0);
    }
    fputs("</div><div class=\"hist\" style=\"height:auto;margin:0\">", out);
    for (int b = first; b <= last; b++) {
        duration_text(text, sizeof text, UINT64_C(1) << b);
        fprintf(out, "<span>%.*s%s</span>", (int)strcspn(text, ". "), text, strchr(text, ' '));
    }
    fputs("</div>\n", out);
}

static void put_counts(FILE *out, const struct table *t)
{
    char text[32];
    fprintf(out, "<p><b>%s</b> %s%s", count_text(text, sizeof text, t->total),
            t->is_threads ? "thread" : "fiber", t->total == 1 ? "" : "s");
    for (size_t i = 0; i < t->state_count; i++) {
        fprintf(out, "%s %s ", i ? " \xc2\xb7" : ":",
                count_text(text, sizeof text, t->states[i].count));
        put_html(out, t->states[i].text);
    }
    if (t->has_fibers) {
        const struct session_fibers *f = &t->fibers;
        fprintf(out,
                "<span class=\"dim\"> \xc2\xb7 %" PRIu64 " processors, %" PRIu64
                " threads (%" PRIu64 " idle)",
                f->procs, f->threads, f->threads_idle);
        fprintf(out, " \xc2\xb7 %s made", count_text(text, sizeof text, f->spawns));
        fprintf(out, ", %s switches", count_text(text, sizeof text, f->switches));
        fprintf(out, ", %s steals</span>", count_text(text, sizeof text, f->steals));
    }
    fputs("</p>\n", out);
}

static void put_tab(FILE *out, const struct table *t, enum table_group group, bool threads,
                    const char *word)
{
    struct table to = *t;
    struct table_order order = {group == TABLE_EACH ? COLUMN_BUSY : COLUMN_COUNT, true};
    to.is_threads = threads;
    if (t->group == group && t->is_threads == threads) {
        fprintf(out, "<span class=\"on\">%s</span>", word);
        return;
    }
    fputs("<a href=\"?", out);
    put_query_of(out, &to, group, order);
    fprintf(out, "&amp;refresh=%" PRIu64 "\">%s</a>", t->refresh_s, word);
}

static void put_tabs(FILE *out, const struct table *t)
{
    fputs("<nav style=\"margin:12px 0 6px\">", out);
    if (t->has_fibers) {
        put_tab(out, t, TABLE_EACH, false, "each fiber");
        put_tab(out, t, TABLE_BY_START, false, "by start function");
        put_tab(out, t, TABLE_BY_SITE, false, "by creation site");
    }
    put_tab(out, t, TABLE_EACH, true, "each thread");
    put_tab(out, t, TABLE_BY_START, true, "threads by name");
    fputs("<span class=\"right dim\"><i class=\"key b\"></i>busy<i class=\"key r\"></i>runnable"
          "<i class=\"key v\"></i>waiting</span></nav>\n",
          out);
}

static void put_below(FILE *out, const struct table *t)
{
    char text[32];
    fputs("</tbody></table></div>\n", out);
    if (t->group == TABLE_EACH && t->total > t->count) {
        fprintf(out, "<p class=\"dim\">%s more are not shown: ",
                count_text(text, sizeof text, t->total - t->count));
        struct table more = *t;
        more.shown_max = 5000;
        fputs("<a href=\"?", out);
        put_query_of(out, &more, t->group, t->order);
        fputs("&amp;refresh=0\">show 5,000</a></p>\n", out);
    }
    fputs(t->is_threads ? "<p class=\"dim\">Busy and runnable are the kernel\xe2\x80\x99s own "
                          "account of each thread "
                          "(/proc/PID/task/TID/schedstat); wakes are its voluntary switches.</p>\n"
                        : "<p class=\"dim\">Times count from a fiber\xe2\x80\x99s first run. "
                          "Runnable is estimated by one wait "
                          "in 8; waiting is the rest. The runtime counts all this at any time; "
                          "nothing is switched on for "
                          "this page, and nothing stops for it.</p>\n",
          out);
    fputs("<p class=\"dim\">Also as <a href=\"?format=json\">JSON</a> and <a "
          "href=\"?debug=1\">text</a>; "
          "with stacks: <a href=\"/debug/pprof/goroutine?debug=2\">goroutine?debug=2</a>.</p>\n",
          out);
}

void table_put_html(struct request *r, FILE *out, const struct table *t)
{
    char query[160];
    snprintf(query, sizeof query, "sort=%s&amp;order=%s%s%s%s&amp;rows=%zu",
             table_headings[t->order.column].key, t->order.is_descending ? "desc" : "asc",
             t->group == TABLE_EACH ? "" : "&amp;group=", group_words[t->group],
             t->is_threads ? "&amp;of=threads" : "", t->shown_max);
    html_begin(out, r, t->is_threads ? "threads" : "fibers", t->refresh_s);
    html_refresh(out, query, t->refresh_s);
    put_counts(out, t);
    if (t->has_fibers)
        put_latency(out, &t->fibers);
    put_tabs(out, t);
    names_want_table(r->serve, t);
    put_head(out, t);
    if (t->group == TABLE_EACH)
        put_rows(out, r, t);
    for (size_t i = 0; i < t->group_count; i++)
        put_group(out, r, t, &t->groups[i]);
    put_below(out, t);
    html_end(out);
}
