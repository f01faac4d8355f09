// SPDX-License-Identifier: MIT
//
// What stands on and below lanes: regions, samples, logs, and what counters were.

#include "viewer/views/timeline_internal.h"

#include "analysis/units.h"
#include "viewer/ui/font.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEEP = 8, TICK = 4 };

// --- Regions.

void timeline_named_box(const struct timeline *t, struct ui *u, struct rect box, const char *type)
{
    uint32_t color = theme_mix(u->theme.ground, theme_frame(&u->theme, type, type), 0.55);
    draw_rect(u->list, box, color);
    draw_rect(u->list, rect_make(box.x, box.y, 1, box.h), theme_mix(u->theme.ground, color, 0.45));
    struct rect seen = rect_cut(box, t->lanes);
    if (seen.w > 2 * u->pad)
        ui_name(u, rect_make(seen.x + u->pad, box.y, seen.w - u->pad - 3, box.h), u->theme.text,
                type);
}

// Quieter than regions and than any state: half a flame graph's colour, half grey, little of both.
void timeline_frame_box(const struct timeline *t, struct ui *u, struct rect box, const char *name,
                        const char *text, bool hot)
{
    uint32_t color = theme_mix(theme_frame(&u->theme, name, ""), u->theme.others, 0.5);
    color = theme_mix(u->theme.ground, color, hot ? 0.6 : 0.35);
    draw_rect(u->list, box, color);
    if (box.w > 2) // an edge, by which neighbours are told apart
        draw_rect(u->list, rect_make(box.x, box.y, 1, box.h), u->theme.ground);
    struct rect seen = rect_cut(box, t->lanes);
    if (seen.w > 2 * u->pad)
        ui_name(u, rect_make(seen.x + u->pad, box.y, seen.w - u->pad - 3, box.h), u->theme.text,
                text);
}

static void draw_region(struct timeline *t, struct ui *u, const struct trace_region_span *g,
                        struct rect r)
{
    int x = timeline_x_of(t, g->begin_ns), right = timeline_x_of(t, g->end_ns);
    struct rect box = {x, r.y + 1, right > x ? right - x : 1, r.h - 3};
    if (!rect_cut(box, t->lanes).w)
        return;
    const char *type = trace_names_text(&t->model->spans->names, g->type);
    timeline_named_box(t, u, box, type);
    if (!ui_inside(u, box))
        return;
    char text[400], ns[TIMELINE_NS_MAX], at[TIMELINE_NS_MAX], task[64] = "";
    if (g->task)
        snprintf(task, sizeof task, ", task %" PRIu64, g->task);
    snprintf(text, sizeof text, "%.200s\nregion of %s%s, at %s%s", type,
             timeline_ns(ns, (double)(g->end_ns - g->begin_ns)),
             g->begins && g->ends ? "" : " or more",
             timeline_at(at, (double)(g->begin_ns - t->model->begin_ns), 1000), task);
    ui_tip(u, text);
}

// Of crowds of narrow ones, one a pixel: they are in order of their beginnings.
static void draw_regions(struct timeline *t, struct ui *u, uint32_t lane, struct rect r)
{
    const struct trace_spans *s = t->model->spans;
    int64_t ends[DEEP];
    int last[DEEP], depth = 0, height = t->rows.sizes.region;
    uint32_t count, first = trace_spans_regions(s, lane, &count);
    for (int i = 0; i < DEEP; i++)
        last[i] = INT32_MIN;
    for (uint32_t i = first; i < first + count; i++) {
        const struct trace_region_span *g = &s->regions[i];
        while (depth && ends[depth - 1] <= g->begin_ns)
            depth--;
        int row = depth;
        if (depth < DEEP)
            ends[depth++] = g->end_ns;
        int x = timeline_x_of(t, g->begin_ns), right = timeline_x_of(t, g->end_ns);
        if (x >= t->lanes.x + t->lanes.w)
            break;
        if (row >= DEEP || right < t->lanes.x || (right - x < 2 && x == last[row]))
            continue;
        last[row] = x;
        struct rect at = {r.x, r.y + row * height, r.w, height};
        if (at.y + at.h <= r.y + r.h)
            draw_region(t, u, g, at);
    }
}

// --- Samples and logs.

static void draw_samples(struct timeline *t, struct ui *u, uint32_t lane, struct rect r)
{
    const struct trace_spans *s = t->model->spans;
    int64_t base = t->model->begin_ns;
    uint32_t count, first = trace_spans_samples(s, lane, base + llround(t->shown.begin),
                                                base + llround(t->shown.end) + 1, &count);
    int last = INT32_MIN;
    for (uint32_t i = first; i < first + count; i++) {
        int x = timeline_x_of(t, s->samples[i].time_ns);
        if (x == last)
            continue; // one tick a pixel
        last = x;
        struct rect tick = {x, r.y + r.h - TICK - 1, 1, TICK};
        draw_rect(u->list, tick, u->theme.text);
        if (!ui_inside(u, rect_make(x - 1, tick.y - 1, 3, TICK + 2)))
            continue;
        const struct trace_stack *stack = trace_stacks_get(&s->stacks, s->samples[i].stack);
        char text[400], at[TIMELINE_NS_MAX];
        snprintf(text, sizeof text, "CPU sample in %.200s\nat %s",
                 stack->count ? trace_names_text(&s->names, stack->frames[0].function) : "?",
                 timeline_at(at, (double)(s->samples[i].time_ns - base), 1000));
        ui_tip(u, text);
    }
}

// The first of those at one pixel stands for all.
static void draw_logs(struct timeline *t, struct ui *u, uint32_t lane, struct rect r)
{
    const struct trace_spans *s = t->model->spans;
    int64_t base = t->model->begin_ns, end = base + llround(t->shown.end);
    int64_t from = base + llround(t->shown.begin);
    for (;;) {
        uint32_t i = trace_spans_log_from(s, lane, from);
        if (i == s->log_count || s->logs[i].lane != lane || s->logs[i].time_ns > end)
            return;
        const struct trace_log_mark *l = &s->logs[i];
        int x = timeline_x_of(t, l->time_ns);
        int64_t next = base + (int64_t)ceil(timeline_time(t, x + 1));
        from = next > l->time_ns ? next : l->time_ns + 1;
        draw_triangle(u->list, x - 4, r.y, x + 5, r.y, x, r.y + 7, u->theme.accent);
        if (!ui_inside(u, rect_make(x - 4, r.y, 9, 8)))
            continue;
        char text[600], at[TIMELINE_NS_MAX];
        const char *category = trace_names_text(&s->names, l->category);
        snprintf(text, sizeof text, "%.300s\nlog%s%.100s at %s", l->message, *category ? ", " : "",
                 category, timeline_at(at, (double)(l->time_ns - base), 1000));
        ui_tip(u, text);
    }
}

void timeline_extras(struct timeline *t, struct ui *u, const struct lanes_row *row, struct rect r,
                     struct rect states)
{
    draw_clip_push(u->list, r);
    draw_samples(t, u, row->what, states);
    draw_logs(t, u, row->what, states);
    if (row->depth)
        draw_regions(t, u, row->what, rect_make(r.x, states.y + states.h - 1, r.w, r.h - states.h));
    draw_clip_pop(u->list);
}

// --- Counters.

static const char *amount(char *buf, uint32_t which, int64_t value)
{
    if (which == TRACE_COUNTER_FIBERS)
        snprintf(buf, UNITS_LABEL_MAX, "%" PRId64, value);
    else
        units_label(buf, UNITS_LABEL_MAX, value, "bytes", "auto");
    return buf;
}

// From each pixel's most downwards; what was less in that pixel is lighter, so that a peak is seen.
static void plot(struct timeline *t, struct ui *u, const struct trace_counter *c, int64_t most,
                 uint32_t color, struct rect r)
{
    int64_t base = t->model->begin_ns;
    double pixel_ns = (t->shown.end - t->shown.begin) / r.w;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < r.w; i++) {
            int64_t low, high, begin = base + llround(t->shown.begin + i * pixel_ns);
            int64_t end = base + llround(t->shown.begin + (i + 1) * pixel_ns);
            trace_counter_bounds(c, begin, end > begin ? end : begin + 1, &low, &high);
            double part = (double)(pass ? low : high) / (double)most;
            t->colors[i] = part > 0 ? color : 0;
            t->heights[i] = (uint8_t)lround(255 * (part > 0 ? part < 1 ? part : 1 : 0));
        }
        draw_strip(u->list, r, t->colors, t->heights);
        color = theme_mix(color, u->theme.text, 0.25);
    }
}

// The goal over the heap: a line.
static void draw_goal(struct timeline *t, struct ui *u, int64_t most, struct rect r)
{
    const struct trace_counter *c = &t->model->counters[TRACE_COUNTER_GOAL];
    int before = INT32_MIN;
    for (int x = 0; c->count && x < r.w; x++) {
        int64_t at = t->model->begin_ns + llround(timeline_time(t, r.x + x));
        int64_t value = trace_counter_at(c, at);
        if (!value)
            continue;
        int y = r.y + r.h - (int)((double)r.h * (double)value / (double)most);
        if (before != INT32_MIN && before != y)
            draw_rect(u->list, rect_make(r.x + x, y < before ? y : before, 1, abs(y - before)),
                      u->theme.bad);
        draw_rect(u->list, rect_make(r.x + x, y, 1, 1), u->theme.bad);
        before = y;
    }
}

void timeline_counter(struct timeline *t, struct ui *u, uint32_t which, struct rect r)
{
    const struct trace_counter *c = &t->model->counters[which];
    const struct trace_counter *goal = &t->model->counters[TRACE_COUNTER_GOAL];
    int64_t most = c->most;
    char text[160], value[UNITS_LABEL_MAX], at[TIMELINE_NS_MAX];
    if (which == TRACE_COUNTER_HEAP && goal->most > most)
        most = goal->most;
    struct rect in = {r.x, r.y + 3, r.w, r.h - 4};
    draw_clip_push(u->list, r);
    plot(t, u, c, most, theme_mix(u->theme.ground, u->theme.accent, 0.45), in);
    if (which == TRACE_COUNTER_HEAP)
        draw_goal(t, u, most, in);
    draw_clip_pop(u->list);
    // In the gutter beside its name the counter's own most; the row may be as high as the goal's.
    struct rect label = {r.x - 30 * u->pad, r.y, 30 * u->pad - u->pad - 2, u->line};
    snprintf(text, sizeof text, "max %.100s", amount(value, which, c->most));
    ui_label_right(u, label, u->theme.dim, text);
    label.y += u->line;
    if (which == TRACE_COUNTER_HEAP && goal->most && label.y + u->line <= r.y + r.h) {
        snprintf(text, sizeof text, "goal %.100s", amount(value, which, goal->most));
        ui_label_right(u, label, u->theme.bad, text);
    }
    if (!ui_inside(u, r))
        return;
    double ns = timeline_time(t, u->mouse_x);
    int64_t now = trace_counter_at(c, t->model->begin_ns + llround(ns));
    snprintf(text, sizeof text, "%.100s%s\nat %s", amount(value, which, now),
             which == TRACE_COUNTER_FIBERS ? now == 1 ? " fiber" : " fibers" : " of heap",
             timeline_at(at, ns, (t->shown.end - t->shown.begin) / r.w));
    ui_tip(u, text);
}
