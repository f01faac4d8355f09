// SPDX-License-Identifier: MIT
//
// The histogram of the latency panel, and its frame. See panel_latency.h.
//
// Both axes are logarithmic: a tail of a few slow ones among millions is what it is looked at for.
// A bar is a bucket of hist.h, or two, four, eight of them where there is no room for each.

#include "viewer/panels/panel_latency.h"

#include "viewer/panels/panel_spans.h"
#include "viewer/ui/font.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BAR_LEAST = 3 };

// How many buckets are a bar, so that bars are wide enough to be told apart.
static unsigned buckets_of_bar(const struct panel_latency *x, int width)
{
    unsigned n = x->last_bucket - x->first_bucket, per = 1;
    while (per < 8 && (int)((n + per - 1) / per) * BAR_LEAST > width)
        per *= 2;
    return per;
}

// Where a bucket begins, in pixels; the last one ends at the right edge.
static int bucket_x(const struct panel_latency *x, double bucket)
{
    double part = (bucket - x->first_bucket) / (double)(x->last_bucket - x->first_bucket);
    return x->bars.x + (int)floor(part * x->bars.w + 0.5);
}

static unsigned bucket_at(const struct panel_latency *x, int at, bool is_end)
{
    unsigned per = buckets_of_bar(x, x->bars.w), n = x->last_bucket - x->first_bucket;
    double part = x->bars.w > 0 ? (double)(at - x->bars.x) / x->bars.w : 0;
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    unsigned bar = (unsigned)(part * n / per) + is_end;
    unsigned last = (n + per - 1) / per;
    bar = bar > last ? last : bar;
    unsigned bucket = x->first_bucket + bar * per;
    return bucket > x->last_bucket ? x->last_bucket : bucket;
}

// A length as a bucket, with what part of it lies before.
static double bucket_of(int64_t ns)
{
    unsigned low = 0, high = TRACE_HIST_BUCKETS; // the first that begins after it
    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        if (trace_hist_bucket_ns(mid) <= ns)
            low = mid + 1;
        else
            high = mid;
    }
    if (!low || low >= TRACE_HIST_BUCKETS)
        return low;
    int64_t from = trace_hist_bucket_ns(low - 1), to = trace_hist_bucket_ns(low);
    return low - 1 + (double)(ns - from) / (double)(to - from);
}

static uint64_t bar_count(const struct panel_latency *x, unsigned bucket, unsigned per)
{
    uint64_t n = 0;
    for (unsigned i = bucket; i < bucket + per && i < x->last_bucket; i++)
        n += x->hist.buckets[i];
    return n;
}

// The largest bar's height is all there is; one of 1 can still be seen.
static double height_of(uint64_t count, uint64_t most)
{
    return count ? (1 + log10((double)count)) / (1 + log10((double)most)) : 0;
}

// --- Drawing.

static void draw_counts(struct ui *u, struct rect r, struct rect bars, uint64_t most)
{
    char text[32];
    int height = font_height(u->font), last = bars.y + bars.h + height;
    for (uint64_t n = 1; n <= most && n < UINT64_MAX / 10; n *= 10) {
        int y = bars.y + bars.h - (int)(height_of(n, most) * bars.h);
        draw_rect(u->list, rect_make(bars.x, y, bars.w, 1), u->theme.grid);
        snprintf(text, sizeof text, "%" PRIu64, n);
        if (last - y < height)
            continue; // no room between them
        last = y;
        ui_label_right(u, rect_make(r.x, y - height / 2, bars.x - r.x - u->pad / 2, height),
                       u->theme.dim, text);
    }
}

static void draw_lengths(const struct panel_latency *x, struct ui *u, struct rect r)
{
    int height = font_height(u->font), y = x->bars.y + x->bars.h, end = r.x;
    char text[PANEL_CELL_MAX];
    for (int64_t ns = 1; ns < INT64_MAX / 10; ns *= 10) {
        double bucket = bucket_of(ns);
        if (bucket < x->first_bucket || bucket > x->last_bucket)
            continue;
        int at = bucket_x(x, bucket), width = font_width(u->font, panel_ns(text, ns), SIZE_MAX);
        draw_rect(u->list, rect_make(at, y, 1, 3), u->theme.border);
        draw_rect(u->list, rect_make(at, x->bars.y, 1, x->bars.h), u->theme.grid);
        int left = at - width / 2;
        if (left < end || left + width > r.x + r.w)
            continue;
        ui_label(u, rect_make(left, y + 3, width + 1, height), u->theme.dim, text);
        end = left + width + u->pad;
    }
}

static void draw_bars(struct panel_latency *x, struct ui *u, struct rect r, uint64_t most)
{
    unsigned per = buckets_of_bar(x, x->bars.w);
    bool has_brush = x->brush_last > x->brush_first;
    char text[PANEL_CELL_MAX], a[PANEL_CELL_MAX], b[PANEL_CELL_MAX];
    for (unsigned i = x->first_bucket; i < x->last_bucket; i += per) {
        unsigned end = i + per < x->last_bucket ? i + per : x->last_bucket;
        uint64_t n = bar_count(x, i, per);
        int left = bucket_x(x, i), right = bucket_x(x, end);
        int tall = (int)(height_of(n, most) * x->bars.h + 0.5);
        bool in = !has_brush || (i >= x->brush_first && i < x->brush_last);
        uint32_t color = in ? u->theme.accent : theme_mix(u->theme.ground, u->theme.accent, 0.35);
        struct rect bar = {left, x->bars.y + x->bars.h - tall, right - left, tall};
        bar.w -= bar.w > BAR_LEAST; // a line between them
        draw_rect(u->list, bar, color);
        if (!ui_inside(u, rect_make(left, r.y, right - left, r.h)) || !n)
            continue;
        snprintf(text, sizeof text, "%" PRIu64 " of %" PRIu64 "\n%.60s to %.60s", n, x->hist.count,
                 panel_ns(a, trace_hist_bucket_ns(i)),
                 panel_ns(b, end < TRACE_HIST_BUCKETS ? trace_hist_bucket_ns(end) : INT64_MAX));
        ui_tip(u, text);
    }
}

static void draw_mark(const struct panel_latency *x, struct ui *u, const char *name, int64_t ns,
                      int y)
{
    char text[PANEL_CELL_MAX], both[PANEL_CELL_MAX];
    int at = bucket_x(x, bucket_of(ns)), height = font_height(u->font);
    snprintf(both, sizeof both, "%s %.60s", name, panel_ns(text, ns));
    int width = font_width(u->font, both, SIZE_MAX);
    draw_rect(u->list, rect_make(at, y, 1, x->bars.y + x->bars.h - y), u->theme.text);
    // At the right edge the word stands before its line.
    int left = at + 4 + width > x->bars.x + x->bars.w ? at - 4 - width : at + 4;
    ui_label(u, rect_make(left, y, width + 1, height), u->theme.text, both);
}

static void draw_brush(const struct panel_latency *x, struct ui *u)
{
    if (x->brush_last <= x->brush_first)
        return;
    int left = bucket_x(x, x->brush_first), right = bucket_x(x, x->brush_last);
    draw_rect(u->list, rect_make(left, x->bars.y, right - left, x->bars.h), u->theme.range);
    draw_rect(u->list, rect_make(left, x->bars.y, 1, x->bars.h), u->theme.accent);
    draw_rect(u->list, rect_make(right - 1, x->bars.y, 1, x->bars.h), u->theme.accent);
}

// --- Input.

static void drag(struct panel_latency *x, struct ui *u)
{
    unsigned hit = ui_hit(u, ui_id("histogram", 0), x->bars);
    if (hit & UI_PRESSED) {
        x->drag_from = bucket_at(x, u->mouse_x, false);
        x->is_dragged = true;
        panel_latency_brush(x, 0, 0);
    }
    if (!(hit & UI_HELD))
        x->is_dragged = false;
    if (!x->is_dragged || u->mouse_x == u->press_x)
        return;
    unsigned per = buckets_of_bar(x, x->bars.w), at = bucket_at(x, u->mouse_x, false);
    unsigned low = at < x->drag_from ? at : x->drag_from;
    unsigned high = (at > x->drag_from ? at : x->drag_from) + per;
    panel_latency_brush(x, low, high < x->last_bucket ? high : x->last_bucket);
}

// Left and Right move the brush by a bar, with Shift its right end; without one they begin with
// what is as slow as p99 at least.
static void keys(struct panel_latency *x, struct ui *u)
{
    int per = (int)buckets_of_bar(x, x->bars.w);
    int first = (int)x->brush_first, last = (int)x->brush_last, low = (int)x->first_bucket,
        high = (int)x->last_bucket;
    bool has = last > first;
    int way = ui_key(u, UI_KEY_RIGHT, 0) ? per : ui_key(u, UI_KEY_LEFT, 0) ? -per : 0;
    int more = ui_key(u, UI_KEY_RIGHT, UI_SHIFT)  ? per
               : ui_key(u, UI_KEY_LEFT, UI_SHIFT) ? -per
                                                  : 0;
    if (has && ui_key(u, UI_KEY_ESCAPE, 0)) {
        panel_latency_brush(x, 0, 0);
        u->again = true;
        return;
    }
    if (!way && !more)
        return;
    if (!has) {
        first = low + ((int)bucket_of(x->p99_ns) - low) / per * per;
        last = high;
    } else if (first + way >= low && last + way <= high) {
        first += way;
        last += way + more;
    } else {
        last += more;
    }
    last = last > high ? high : last <= first ? first + per : last;
    panel_latency_brush(x, (unsigned)first, (unsigned)last);
    u->again = true;
}

void panel_histogram_frame(struct panel_latency *x, const struct panel_context *c, struct ui *u,
                           struct rect r, bool has_keys)
{
    (void)c;
    int height = font_height(u->font), gutter = font_width(u->font, "000000", SIZE_MAX) + u->pad;
    x->bars = rect_make(r.x + gutter, r.y + 2 * height + 2, r.w - gutter - 2 * u->pad,
                        r.h - 3 * height - 10);
    if (!x->has || !x->hist.count || x->bars.w < 1 || x->bars.h < 1) {
        bool none = x->has && !x->hist.count;
        ui_label(u, rect_make(r.x + u->pad, r.y, r.w - 2 * u->pad, u->line), u->theme.dim,
                 none ? "none with both ends" : "");
        x->bars.w = x->bars.h = 0;
        return;
    }
    unsigned per = buckets_of_bar(x, x->bars.w), brush = x->brush_first;
    unsigned brush_last = x->brush_last;
    drag(x, u);
    if (has_keys)
        keys(x, u);
    u->again |= brush != x->brush_first || brush_last != x->brush_last;
    uint64_t most = 1;
    for (unsigned i = x->first_bucket; i < x->last_bucket; i += per) {
        uint64_t n = bar_count(x, i, per);
        most = n > most ? n : most;
    }
    draw_clip_push(u->list, r);
    draw_counts(u, r, x->bars, most);
    draw_lengths(x, u, r);
    draw_bars(x, u, x->bars, most);
    draw_brush(x, u);
    draw_rect(u->list, rect_make(x->bars.x, x->bars.y + x->bars.h, x->bars.w, 1), u->theme.border);
    draw_mark(x, u, "median", x->p50_ns, r.y + height);
    draw_mark(x, u, "p99", x->p99_ns, r.y + 1);
    draw_clip_pop(u->list);
}

// --- The panel.

void panel_latency_keys(struct panel_latency *x, const struct panel_context *c, struct ui *u)
{
    if (!c->has_keys || !ui_key(u, 'r', 0))
        return;
    x->in_range = !x->in_range;
    u->again = true;
}

static void draw_head(const struct panel_latency *x, const struct panel_context *c, struct ui *u,
                      struct rect *r, enum panel_latency_part part)
{
    char text[PANEL_CELL_MAX], a[PANEL_CELL_MAX], b[PANEL_CELL_MAX];
    const struct trace_instance_name *n = panel_latency_name(x);
    const char *name = n ? trace_names_text(&c->model->spans->names, n->name) : "";
    bool keys = c->has_keys && c->part == part;
    if (part == PANEL_NAMES)
        snprintf(text, sizeof text, "%s", x->in_range ? "In the range (R)" : "In the trace (R)");
    else if (part == PANEL_HISTOGRAM)
        snprintf(text, sizeof text, "%.200s: %" PRIu64 " with both ends, p90 %.60s, longest %.60s",
                 name, x->hist.count, panel_ns(a, x->p90_ns), panel_ns(b, x->hist.max_ns));
    else if (x->brush_last > x->brush_first)
        snprintf(text, sizeof text, "%" PRIu32 " of %" PRIu32 ", those of %.60s to %.60s", x->shown,
                 x->count, panel_ns(a, trace_hist_bucket_ns(x->brush_first)),
                 panel_ns(b, x->brush_last < TRACE_HIST_BUCKETS
                                 ? trace_hist_bucket_ns(x->brush_last)
                                 : INT64_MAX));
    else
        snprintf(text, sizeof text, "all %" PRIu32, x->count);
    *r = panel_title(u, *r, n || part == PANEL_NAMES ? text : "", keys);
}

void panel_latency_frame(struct panel_latency *x, struct panel_context *c, struct ui *u,
                         struct rect r, struct panel_goal *goal)
{
    // A third each, of which a narrow window shows the last ones first.
    int least = 40 * font_width(u->font, "0", 1), parts = r.w / least < 3 ? r.w / least : 3;
    parts = parts < 1 ? 1 : parts;
    panel_latency_keys(x, c, u);
    int x0 = r.x, left = r.w;
    for (int i = 0; i < PANEL_LATENCY_PARTS; i++) {
        bool is_seen = parts == 3 || (parts == 2 ? i != PANEL_NAMES : i == c->part % 3);
        if (parts == 2 && c->part == PANEL_NAMES)
            is_seen = i != PANEL_HISTOGRAM;
        if (!is_seen)
            continue;
        int wide = i == PANEL_SPANS || parts == 1 ? left
                   : parts == 2                   ? r.w / 2
                   : i == PANEL_NAMES             ? r.w / 5
                                                  : r.w / 3;
        struct rect at = {x0, r.y, wide, r.h};
        if (i == PANEL_SPANS || parts == 1 ? 0 : 1)
            draw_rect(u->list, rect_make(at.x + at.w - 1, at.y, 1, at.h), u->theme.border);
        at.w -= wide < left;
        panel_take_part(c, u, at, (uint8_t)i);
        draw_head(x, c, u, &at, (enum panel_latency_part)i);
        bool keys = c->has_keys && c->part == i;
        if (i == PANEL_NAMES)
            panel_names_frame(x, c, u, at, keys);
        else if (i == PANEL_HISTOGRAM)
            panel_histogram_frame(x, c, u, at, keys);
        else
            panel_spans_frame(x, c, u, at, keys, goal);
        x0 += wide;
        left -= wide;
    }
}
