// SPDX-License-Identifier: MIT
//
// Drawing one row of the timeline. See timeline.h.

#include "viewer/views/timeline_internal.h"

#include "viewer/state_color.h"
#include "viewer/ui/font.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    AIR = 3,          // above and below a lane
    SUMMED_MOST = 96, // fibers in a frame, for strips of heads
};

uint32_t timeline_color(const struct ui *u, int class)
{
    if (class == TRACE_MODEL_SYSCALL)
        return u->theme.syscall;
    return class < TRACE_MODEL_NAMED ? u->theme.series[class] : u->theme.others;
}

// The chosen span wherever it is: on its fiber's, its Proc's, its thread's lane.
static void draw_chosen(struct timeline *t, struct ui *u, uint32_t lane, const struct lod *l,
                        struct rect r)
{
    const struct trace_spans *s = t->model->spans;
    if (t->span == TRACE_NO_SPAN || (lane != t->links.proc && lane != t->links.thread &&
                                     trace_spans_lane_kind(s, lane) != TRACE_RESOURCE_GOROUTINE))
        return;
    uint32_t at = lanes_index(s, lane, t->span);
    if (at == UINT32_MAX)
        return;
    struct rect box = timeline_span_rect(t, l, at, r);
    bool here = lane == t->lane;    // where comma and dot step
    if (box.w < TIMELINE_BOX_LEAST) // too narrow for a frame: a post
        draw_rect(u->list, rect_make(box.x - 1, r.y - AIR, 3, r.h + 2 * AIR), u->theme.text);
    else
        draw_frame(u->list, box, 2, here ? u->theme.text : u->theme.accent);
}

// Under the mouse is what its pixel shows: the longest span that touches it.
static void find_under(struct timeline *t, const struct ui *u, uint32_t lane, const struct lod *l,
                       struct rect r)
{
    if (!ui_inside(u, r))
        return;
    uint32_t at = timeline_longest_at(t, l, u->mouse_x - r.x);
    if (at != UINT32_MAX) {
        t->under_lane = lane;
        t->under_span = lanes_span(t->model->spans, lane, at);
    }
}

static void draw_lane(struct timeline *t, struct ui *u, uint32_t lane, bool is_fiber, struct rect r)
{
    const struct lod *l = lanes_lod(&t->rows, lane);
    struct rect in = {r.x, r.y + AIR, r.w, r.h - 2 * AIR};
    if (!l) {
        t->failed = true;
        return;
    }
    find_under(t, u, lane, l, r);
    if (t->is_unseen) // half of what a key costs
        return;
    draw_clip_push(u->list, r);
    timeline_lane(t, u, lane, l, is_fiber, in);
    draw_chosen(t, u, lane, l, in);
    timeline_piece_mark(t, u, lane, in);
    draw_clip_pop(u->list);
}

// How long the fibers of a group ran in each pixel. Of a group that is a class Procs say so; of
// another its fibers do, as long as a frame has the time.
static bool sum_group(struct timeline *t, const struct trace_model_group *g, int width)
{
    const struct trace_model *m = t->model;
    for (uint32_t k = 0; g->name && k < m->named_count; k++) {
        if (m->named[k] != g->name)
            continue;
        for (int i = 0; i < width; i++)
            t->busy_ns[i] = t->class_ns[i][k];
        return true;
    }
    t->summed += g->count;
    if (t->summed > SUMMED_MOST)
        return false;
    memset(t->busy_ns, 0, (size_t)width * sizeof *t->busy_ns);
    for (uint32_t i = g->first; i < g->first + g->count; i++) {
        const struct lod *l = lanes_lod(&t->rows, m->fibers[i]);
        if (!l)
            return false;
        timeline_columns(t, l);
        for (int x = 0; x < width; x++)
            t->busy_ns[x] += t->columns[x].first_ns;
    }
    return true;
}

// How many of a group's fibers ran, as a part of the Procs.
static void draw_group_work(struct timeline *t, struct ui *u, const struct trace_model_group *g,
                            struct rect r)
{
    const struct trace_model *m = t->model;
    double whole = (t->shown.end - t->shown.begin) / r.w * m->lane_count;
    int k = 0;
    if (whole <= 0 || !sum_group(t, g, r.w))
        return;
    while (k < (int)m->named_count && m->named[k] != g->name)
        k++;
    k = k < (int)m->named_count && g->name ? k : TRACE_MODEL_OTHERS;
    uint32_t color = theme_mix(u->theme.panel, timeline_color(u, k), 0.55);
    uint32_t *colors;
    uint8_t *heights;
    if (!draw_strip_room(u->list, r, &colors, &heights))
        return;
    for (int i = 0; i < r.w; i++)
        timeline_put_column(&colors[i], &heights[i], color, (double)t->busy_ns[i] / whole);
}

// What a lane ran of what sums are told of.
static int64_t ran_ns(struct timeline *t, uint32_t lane, bool is_fiber)
{
    const struct lod *l = lanes_lod(&t->rows, lane);
    struct timeline_window w = timeline_told(t);
    int64_t from[LOD_CLASSES] = {0}, to[LOD_CLASSES] = {0}, base = t->model->begin_ns, ns = 0;
    if (!l || !l->count || t->is_unseen)
        return 0; // nobody sees it
    lod_until(l, base + llround(w.begin), from);
    lod_until(l, base + llround(w.end), to);
    for (int k = 0; k < (is_fiber ? 1 : TRACE_MODEL_SYSCALL); k++)
        ns += to[k] - from[k];
    return ns;
}

// The class of a group among those that Procs' lanes are told by; -1: it is one of the others.
static int class_of(const struct trace_model *m, const struct trace_model_group *g)
{
    for (uint32_t k = 0; g->name && k < m->named_count; k++)
        if (m->named[k] == g->name)
            return (int)k;
    return -1;
}

// What the group's fibers that match ran of what the percentages are of. -1: they are too many to be
// added up in a frame.
static int64_t group_ran_ns(struct timeline *t, uint32_t group)
{
    const struct trace_model *m = t->model;
    const struct trace_model_group *g = &m->groups[group];
    struct timeline_window w = timeline_told(t);
    bool is_all = w.begin <= 0 && w.end >= (double)(m->end_ns - m->begin_ns);
    int64_t ns = 0, sums[LOD_CLASSES];
    if (is_all && !t->rows.made)
        return g->ran_ns;
    if (!t->rows.made && class_of(m, g) >= 0) {
        trace_model_sums(m, m->begin_ns + llround(w.begin), m->begin_ns + llround(w.end), sums);
        return sums[class_of(m, g)];
    }
    t->told += is_all ? 0 : t->rows.group_matching[group];
    if (t->told > SUMMED_MOST)
        return -1;
    for (uint32_t i = g->first; i < g->first + g->count; i++) {
        uint32_t lane = m->fibers[i];
        if (lanes_match(&t->rows, lane))
            ns += is_all ? m->ran_ns[lane] : ran_ns(t, lane, true);
    }
    return ns;
}

// "3 of 8 fibers, ran 1.2ms"
static void group_text(struct timeline *t, uint32_t group, char *text, size_t size)
{
    const struct trace_model_group *g = &t->model->groups[group];
    char ns[TIMELINE_NS_MAX], of[32] = "", ran[TIMELINE_NS_MAX + 8] = "";
    int64_t ran_for = group_ran_ns(t, group);
    if (t->rows.group_matching[group] != g->count)
        snprintf(of, sizeof of, "%u of ", t->rows.group_matching[group]);
    if (ran_for >= 0)
        snprintf(ran, sizeof ran, ", ran %s", timeline_ns(ns, (double)ran_for));
    snprintf(text, size, "%s%u fiber%s%s", of, g->count, g->count == 1 ? "" : "s", ran);
}

// "3 of 8 match, found 12 times (n, N)"; once they are walked, which of them it is.
static void found_text(const struct timeline *t, char *text, size_t size)
{
    uint32_t fibers = t->model->spans->kind_first[TRACE_RESOURCE_PROC];
    uint64_t all = lanes_found_count(&t->rows);
    int n = snprintf(text, size, "%u of %u match", t->rows.matching, fibers);
    if (t->hit_at)
        snprintf(text + n, size - (size_t)n, ", found %" PRIu64 " of %" PRIu64 " (n, N)", t->hit_at,
                 all);
    else if (all)
        snprintf(text + n, size - (size_t)n, ", found %" PRIu64 " time%s (n, N)", all,
                 all == 1 ? "" : "s");
}

// What a head says about what stands below it.
static void draw_head_info(struct timeline *t, struct ui *u, const struct lanes_row *row,
                           struct rect r)
{
    const struct trace_model *m = t->model;
    char text[160];
    uint32_t fibers = m->spans->kind_first[TRACE_RESOURCE_PROC];
    struct rect in = {r.x + u->pad, r.y, r.w - 2 * u->pad, r.h};
    draw_rect(u->list, r, u->theme.panel);
    if (row->kind == LANES_GROUP) {
        const struct trace_model_group *g = &m->groups[row->what];
        draw_group_work(t, u, g, rect_make(r.x, r.y + 2, r.w, r.h - 4));
        group_text(t, row->what, text, sizeof text);
    } else if (row->kind == LANES_TASKS) {
        snprintf(text, sizeof text, "%u task%s, up to %u at a time", m->spans->task_count,
                 m->spans->task_count == 1 ? "" : "s", t->rows.task_rows);
    } else if (row->kind == LANES_THREADS) {
        uint32_t threads = m->spans->lane_count - m->spans->kind_first[TRACE_RESOURCE_THREAD];
        snprintf(text, sizeof text, "%u thread%s", threads, threads == 1 ? "" : "s");
    } else if (t->rows.made) {
        found_text(t, text, sizeof text);
    } else {
        snprintf(text, sizeof text, "%u in %u group%s", fibers, m->group_count,
                 m->group_count == 1 ? "" : "s");
    }
    int width = font_width(u->font, text, SIZE_MAX) + 2 * u->pad;
    draw_rect(u->list, rect_make(r.x, r.y, width < r.w ? width : r.w, r.h),
              (u->theme.panel & 0xffffff) | 0xb0000000); // the strip shines through
    ui_label(u, in, u->theme.dim, text);
    if (row->kind != LANES_FIBERS)
        return;
    snprintf(text, sizeof text, "sort by: %s", lanes_sort_name(t->rows.sort));
    int w = ui_button_width(u, text);
    if (ui_button(u, ui_id("timeline sort", 0), rect_make(r.x + r.w - w, r.y, w, r.h - 1), text,
                  false)) {
        timeline_sort(t);
        u->again = true;
    }
}

void timeline_row(struct timeline *t, struct ui *u, const struct lanes_row *row, struct rect r)
{
    uint32_t lane = lanes_of_row(&t->rows, row);
    bool is_fiber = row->kind == LANES_FIBER;
    int frames = row->frames * t->rows.sizes.frame, strip = lanes_strip(&t->rows, row);
    struct rect states = {r.x, r.y, r.w, r.h - frames - row->depth * t->rows.sizes.region};
    switch (row->kind) {
    case LANES_COUNTER: timeline_counter(t, u, row->what, r); break;
    case LANES_TASK: timeline_tasks(t, u, row->what, r); break;
    case LANES_PROC:
    case LANES_THREAD:
        draw_lane(t, u, lane, false, rect_make(r.x, r.y, r.w, r.h - strip));
        if (strip)
            timeline_strip(t, u, lane, rect_make(r.x, r.y + r.h - strip, r.w, strip));
        break;
    case LANES_FIBER:
        draw_lane(t, u, lane, true, states);
        if (frames)
            timeline_stacks(t, u, lane, rect_make(r.x, r.y + r.h - frames - 1, r.w, frames));
        timeline_extras(t, u, row, rect_make(r.x, r.y, r.w, r.h - frames), states);
        break;
    default: draw_head_info(t, u, row, r); break;
    }
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1),
              is_fiber || row->kind == LANES_PROC ? u->theme.grid : u->theme.border);
}

// --- The gutter.

static double share_of(const struct timeline *t, int64_t ns)
{
    struct timeline_window w = timeline_told(t);
    return 100 * (double)ns / (w.end - w.begin);
}

// Left a name, in the middle another, right the share of the time that the lane ran.
static void draw_label(struct timeline *t, struct ui *u, struct rect r, const char *label,
                       const char *name, int64_t ran_ns)
{
    char share[16];
    struct rect in = {r.x + u->pad, r.y, r.w - 2 * u->pad, r.h};
    snprintf(share, sizeof share, "%.1f%%", share_of(t, ran_ns));
    ui_label(u, in, u->theme.text, label);
    ui_label_right(u, in, u->theme.dim, share);
    int left = font_width(u->font, label, SIZE_MAX) + u->pad;
    int room = in.w - left - font_width(u->font, share, SIZE_MAX) - u->pad;
    if (*name)
        ui_label(u, rect_make(in.x + left, in.y, room, in.h), u->theme.dim, name);
}

static void draw_fiber_label(struct timeline *t, struct ui *u, uint32_t lane, struct rect r)
{
    const struct trace_model *m = t->model;
    const struct trace_spans *s = m->spans;
    char id[32];
    const char *name = ""; // its function's is above
    if (m->labels && m->labels[lane])
        name = trace_names_text(&s->names, m->labels[lane]);
    snprintf(id, sizeof id, "%" PRId64, s->lanes[lane].id);
    r.h = t->rows.sizes.lane; // its states; regions stand below
    struct rect in = {r.x + 2 * u->pad, r.y, r.w - 2 * u->pad, r.h};
    draw_label(t, u, in, id, name, ran_ns(t, lane, true));
}

bool timeline_head(struct timeline *t, struct ui *u, uint64_t id, struct rect r, bool open,
                   const char *text)
{
    struct rect all = {r.x, r.y, r.w + t->lanes.w, r.h};
    unsigned hit = ui_hit(u, id, rect_make(r.x, r.y, r.w, r.h));
    int size = font_ascent(u->font) / 2 + 1, x = r.x + u->pad, y = r.y + r.h / 2;
    draw_rect(u->list, all, hit & UI_HOT ? u->theme.raised : u->theme.panel);
    if (open)
        draw_triangle(u->list, x, y - size / 2, x + 2 * (size / 2) + 1, y - size / 2, x + size / 2,
                      y + size / 2 + 1, u->theme.dim);
    else
        draw_triangle(u->list, x, y - size / 2, x + size / 2 + 1, y, x, y + size / 2 + 1,
                      u->theme.dim);
    ui_label(u, rect_make(x + size + u->pad, r.y, r.w - size - 3 * u->pad, r.h), u->theme.text,
             text);
    return hit & UI_CLICKED;
}

static void draw_group_head(struct timeline *t, struct ui *u, uint32_t group, struct rect r)
{
    const struct trace_model_group *g = &t->model->groups[group];
    const char *name = trace_names_text(&t->model->spans->names, g->name);
    char text[300];
    snprintf(text, sizeof text, "%.250s", *name ? name : "(unknown)");
    if (timeline_head(t, u, ui_id("timeline group", group), r, t->rows.unfolded[group], text)) {
        lanes_toggle(&t->rows, group);
        u->again = true;
    }
}

void timeline_gutter(struct timeline *t, struct ui *u, const struct lanes_row *row, struct rect r)
{
    const struct trace_model *m = t->model;
    char text[64];
    struct rect name = {r.x, r.y, r.w, r.h - lanes_strip(&t->rows, row)};
    draw_rect(u->list, r, u->theme.panel);
    switch (row->kind) {
    case LANES_PROC: {
        const struct trace_model_lane *l = &m->lanes[row->what];
        draw_label(t, u, name, l->label, trace_names_text(&m->spans->names, l->name),
                   ran_ns(t, l->lane, false));
        break;
    }
    case LANES_THREAD:
        snprintf(text, sizeof text, "M%" PRId64, m->spans->lanes[row->what].id);
        draw_label(t, u, name, text, "", ran_ns(t, row->what, false));
        break;
    case LANES_FIBER: draw_fiber_label(t, u, row->what, r); break;
    case LANES_COUNTER:
        ui_label(u, rect_make(r.x + u->pad, r.y, r.w - 2 * u->pad, u->line), u->theme.dim,
                 row->what == TRACE_COUNTER_FIBERS ? "fibers" : "heap");
        break;
    case LANES_TASKS:
        if (timeline_head(t, u, ui_id("timeline tasks", 0), r, t->rows.tasks_open, "Tasks")) {
            t->rows.tasks_open = !t->rows.tasks_open;
            t->rows.is_stale = u->again = true;
        }
        break;
    case LANES_THREADS:
        if (timeline_head(t, u, ui_id("timeline threads", 0), r, t->rows.threads_open, "Threads")) {
            t->rows.threads_open = !t->rows.threads_open;
            t->rows.is_stale = u->again = true;
        }
        break;
    case LANES_FIBERS: {
        if (timeline_head(t, u, ui_id("timeline fibers", 0), r, lanes_any_open(&t->rows),
                          "Fibers")) {
            lanes_toggle_all(&t->rows);
            u->again = true;
        }
        break;
    }
    case LANES_GROUP: draw_group_head(t, u, row->what, r); break;
    default: break;
    }
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), u->theme.grid);
}
