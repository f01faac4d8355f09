// SPDX-License-Identifier: MIT
//
// What a kernel trace adds to the timeline: CPUs under all lanes, where they stay in sight, and a strip below each thread.
//
// Both are drawn as other lanes are: columns of a pixel, and boxes where they are wide enough. Time in which somebody is kept
// from working is the first class (kernel_model.h), and is drawn over the rest as high as its part, so that it is seen at any zoom.

#include "viewer/views/timeline_internal.h"

#include "viewer/ui/font.h"
#include "viewer/views/kernel_color.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { AIR = 3, STRIP_AIR = 2, ROWS_LEAST = 2 };

void timeline_set_kernel(struct timeline *t, const struct kernel_model *k)
{
    t->kernel.model = k;
    lanes_set_kernel(&t->rows, k);
}

uint32_t kernel_color(const struct ui *u, int class)
{
    switch (class) {
    case KERNEL_DELAYED: return u->theme.runnable;
    case KERNEL_RUNNING: return u->theme.running;
    case KERNEL_IN_CALL: return u->theme.syscall;
    case KERNEL_IN_FAULT: return u->theme.fault;
    case KERNEL_PROGRAM:
        return theme_mix(u->theme.ground, u->theme.running, u->theme.dark ? 0.5 : 0.45);
    default: return u->theme.waiting;
    }
}

// States differ in height, too: what works most stands highest.
static int eighths(int class)
{
    static const uint8_t heights[KERNEL_CLASSES] = {
        [KERNEL_DELAYED] = 8,  [KERNEL_RUNNING] = 8, [KERNEL_IN_CALL] = TIMELINE_CALL_EIGHTHS,
        [KERNEL_IN_FAULT] = 4, [KERNEL_ASLEEP] = 2,  [KERNEL_PROGRAM] = 8};
    return class < KERNEL_CLASSES ? heights[class] : 8;
}

// --- Pixels.

static void draw_columns(struct timeline *t, struct ui *u, const struct lod_column *columns,
                         struct rect r)
{
    double pixel_ns = (t->shown.end - t->shown.begin) / r.w;
    uint32_t of_class[LOD_CLASSES] = {0}, *colors;
    uint8_t *heights;
    bool delays = false;
    if (pixel_ns <= 0 || !draw_strip_room(u->list, r, &colors, &heights))
        return;
    for (int k = 0; k < KERNEL_CLASSES; k++)
        of_class[k] = kernel_color(u, k);
    for (int i = 0; i < r.w; i++) {
        const struct lod_column *c = &columns[i];
        double part = (double)c->busy_ns / pixel_ns * eighths(c->class) / 8;
        timeline_put_column(&colors[i], &heights[i], of_class[c->class], c->busy_ns ? part : 0);
        delays |= c->first_ns > 0 && c->class != KERNEL_DELAYED;
    }
    if (!delays || !draw_strip_room(u->list, r, &colors, &heights))
        return;
    for (int i = 0; i < r.w; i++)
        timeline_put_column(&colors[i], &heights[i], u->theme.runnable,
                            (double)columns[i].first_ns / pixel_ns);
}

// What no file tells of is no idle time.
static void draw_unknown(struct timeline *t, struct ui *u, struct rect r)
{
    const struct kernel_model *k = t->kernel.model;
    uint32_t color = theme_mix(u->theme.ground, u->theme.raised, 0.75);
    int x = r.x;
    for (uint32_t i = 0; i <= k->part_count; i++) {
        bool is_last = i == k->part_count;
        int right = is_last ? r.x + r.w : timeline_x_of(t, k->parts[i]->begin_ns);
        if (right > x)
            draw_rect(u->list, rect_make(x, r.y, right - x, r.h), color);
        x = is_last ? x : timeline_x_of(t, k->parts[i]->end_ns);
    }
}

// --- Boxes.

// Under the mouse, or what that is linked to: the same stretch elsewhere, who ran instead.
static bool is_hot(const struct timeline *t, uint32_t lane, uint32_t index, int64_t begin_ns,
                   int64_t end_ns)
{
    const struct timeline_kernel *k = &t->kernel;
    if (k->hot_lane == KERNEL_NO_LANE || lane == k->hot_lane)
        return lane == k->hot_lane && index == k->hot_index;
    if (lane < k->model->cpu_count)
        return k->model->lanes[lane].id == k->hot.cpu && begin_ns <= k->hot.begin_ns &&
               k->hot.begin_ns < end_ns;
    return k->hot_lane < k->model->cpu_count && lane == k->hot.thread &&
           begin_ns >= k->hot.begin_ns && begin_ns < k->hot.end_ns;
}

static void name_box(const struct timeline *t, struct ui *u, uint32_t lane, uint32_t index,
                     bool hot, struct rect box)
{
    const struct kernel_model *k = t->kernel.model;
    struct rect seen = rect_cut(box, t->kernel.cpus);
    struct kernel_piece p;
    char text[120];
    if (seen.w <= 2 * u->pad)
        return;
    kernel_piece_get(k, lane, index, &p);
    bool is_ours = p.thread != KERNEL_NO_LANE && k->lanes[p.thread].trace_lane != TRACE_NO_LANE;
    snprintf(text, sizeof text, is_ours ? "M%" PRId64 " %.80s" : "%.0" PRId64 "%.80s",
             is_ours ? k->lanes[p.thread].id : 0, p.name);
    ui_name(u, rect_make(seen.x + u->pad, box.y, seen.w - u->pad - 3, box.h),
            p.class == KERNEL_PROGRAM && !hot ? u->theme.text : u->theme.ink, text);
}

static void draw_piece(struct timeline *t, struct ui *u, uint32_t lane, uint32_t index,
                       struct rect r)
{
    const struct lod *l = &t->kernel.model->lanes[lane].lod;
    struct rect box = timeline_span_rect(t, l, index, r);
    int class = lod_class(l, index);
    if (box.w < TIMELINE_BOX_LEAST)
        return;
    bool hot = is_hot(t, lane, index, lod_begin_ns(l, index), lod_end_ns(l, index));
    uint32_t color = kernel_color(u, class);
    color = hot ? theme_mix(color, 0xffffffff, 0.35) : color;
    draw_rect(u->list, box, u->theme.ground); // the columns below it
    box.h = r.h * eighths(class) / 8;
    box.y = r.y + r.h - box.h;
    draw_rect(u->list, box, color);
    draw_rect(u->list, rect_make(box.x, box.y, 1, box.h), theme_mix(u->theme.ground, color, 0.45));
    if (lane < t->kernel.model->cpu_count)
        name_box(t, u, lane, index, hot, box);
}

static void draw_boxes(struct timeline *t, struct ui *u, uint32_t lane,
                       const struct lod_column *columns, struct rect r)
{
    uint32_t looked = UINT32_MAX;
    for (int i = 0; i < r.w; i++) {
        uint32_t longest = columns[i].longest;
        if (longest == UINT32_MAX || longest == looked)
            continue;
        looked = longest;
        draw_piece(t, u, lane, longest, r);
    }
}

// The chosen piece where it is, and on the CPU and the thread that it is about.
static void draw_chosen(struct timeline *t, struct ui *u, uint32_t lane, struct rect r)
{
    const struct timeline_kernel *k = &t->kernel;
    if (k->lane == KERNEL_NO_LANE)
        return;
    bool here = lane == k->lane, is_cpu = lane < k->model->cpu_count;
    if (!here && (is_cpu ? k->model->lanes[lane].id != k->chosen.cpu : lane != k->chosen.thread))
        return;
    int x = timeline_x_of(t, k->chosen.begin_ns), right = timeline_x_of(t, k->chosen.end_ns);
    uint32_t color = here ? u->theme.text : u->theme.accent;
    if (right - x < TIMELINE_BOX_LEAST)
        draw_rect(u->list, rect_make(x - 1, r.y - 2, 3, r.h + 4), color);
    else
        draw_frame(u->list, rect_make(x, r.y, right - x, r.h), is_cpu ? 2 : 1, color);
}

static void draw_lane(struct timeline *t, struct ui *u, uint32_t lane, struct rect r)
{
    const struct lod *l = &t->kernel.model->lanes[lane].lod;
    if (ui_inside(u, r)) {
        uint32_t index = timeline_longest_at(t, l, u->mouse_x - r.x);
        t->kernel.under_lane = index == UINT32_MAX ? KERNEL_NO_LANE : lane;
        t->kernel.under_index = index;
    }
    if (t->is_unseen)
        return;
    const struct lod_column *columns = timeline_columns(t, l);
    draw_clip_push(u->list, rect_make(r.x, r.y - AIR, r.w, r.h + 2 * AIR));
    draw_unknown(t, u, r);
    draw_columns(t, u, columns, r);
    draw_boxes(t, u, lane, columns, r);
    draw_chosen(t, u, lane, r);
    draw_clip_pop(u->list);
}

void timeline_strip(struct timeline *t, struct ui *u, uint32_t trace_lane, struct rect r)
{
    uint32_t lane = kernel_lane_of(t->kernel.model, trace_lane);
    if (lane != KERNEL_NO_LANE)
        draw_lane(t, u, lane, rect_make(r.x, r.y, r.w, r.h - STRIP_AIR));
}

// Over a lane that had the thread of the chosen piece: its time.
void timeline_piece_mark(struct timeline *t, struct ui *u, uint32_t lane, struct rect r)
{
    const struct timeline_kernel *k = &t->kernel;
    if (k->lane == KERNEL_NO_LANE || t->span == TRACE_NO_SPAN ||
        (lane != t->links.proc && lane != t->links.thread &&
         lane != trace_spans_fiber(t->model->spans, t->span)))
        return;
    int x = timeline_x_of(t, k->chosen.begin_ns), right = timeline_x_of(t, k->chosen.end_ns);
    if (right - x < TIMELINE_BOX_LEAST)
        draw_rect(u->list, rect_make(x - 1, r.y, 3, r.h), u->theme.accent);
    else
        draw_frame(u->list, rect_make(x, r.y, right - x, r.h), 2, u->theme.accent);
}

// --- CPUs.

static int row_height(const struct timeline *t)
{
    return t->rows.sizes.lane;
}

int timeline_cpus_height(const struct timeline *t, int height)
{
    const struct kernel_model *k = t->kernel.model;
    int head = t->rows.sizes.head, row = row_height(t), most = height * 2 / 5;
    if (!k || !t->rows.strips || height < head + ROWS_LEAST * row + 3 * row)
        return 0;
    int all = head + (t->kernel.is_closed ? 0 : (int)k->cpu_count * row);
    return all < most ? all : most > head + ROWS_LEAST * row ? most : head + ROWS_LEAST * row;
}

// The part of a time that the program's threads had a CPU.
static double share_of(const struct timeline *t, uint32_t cpu)
{
    struct timeline_window w = timeline_told(t);
    int64_t from[LOD_CLASSES] = {0}, to[LOD_CLASSES] = {0}, base = t->model->begin_ns, ns = 0;
    const struct lod *l = &t->kernel.model->lanes[cpu].lod;
    if (!l->count || t->is_unseen)
        return 0;
    lod_until(l, base + llround(w.begin), from);
    lod_until(l, base + llround(w.end), to);
    for (int i = KERNEL_RUNNING; i < KERNEL_CLASSES; i++)
        ns += to[i] - from[i];
    return 100 * (double)ns / (w.end - w.begin);
}

static void draw_cpu(struct timeline *t, struct ui *u, uint32_t cpu, struct rect gutter,
                     struct rect r)
{
    char label[32], share[16];
    struct rect in = {gutter.x + u->pad, gutter.y, gutter.w - 2 * u->pad, gutter.h};
    draw_rect(u->list, gutter, u->theme.panel);
    snprintf(label, sizeof label, "CPU%" PRId64, t->kernel.model->lanes[cpu].id);
    snprintf(share, sizeof share, "%.1f%%", share_of(t, cpu));
    ui_label(u, in, u->theme.text, label);
    ui_label_right(u, in, u->theme.dim, share);
    draw_lane(t, u, cpu, rect_make(r.x, r.y + AIR, r.w, r.h - 2 * AIR));
    draw_rect(u->list, rect_make(gutter.x, r.y + r.h - 1, gutter.w + r.w, 1), u->theme.grid);
}

// Which colour is what, from the right, as many as there is room for.
static void draw_legend(struct ui *u, struct rect r)
{
    static const struct {
        const char *name;
        uint8_t class;
    } items[] = {{"asleep", KERNEL_ASLEEP},
                 {"page fault", KERNEL_IN_FAULT},
                 {"system call", KERNEL_IN_CALL},
                 {"its other threads", KERNEL_PROGRAM},
                 {"off the CPU / other programs", KERNEL_DELAYED},
                 {"running", KERNEL_RUNNING}};
    int box = font_ascent(u->font) - 2, right = r.x + r.w - u->pad;
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        int width = font_width(u->font, items[i].name, SIZE_MAX),
            x = right - width - box - u->pad / 2;
        if (x < r.x)
            return;
        int h = items[i].class == KERNEL_PROGRAM ? box : box * eighths(items[i].class) / 8;
        draw_rect(u->list, rect_make(x, r.y + (r.h + box) / 2 - h, box, h),
                  kernel_color(u, items[i].class));
        ui_label(u, rect_make(x + box + u->pad / 2, r.y, width + 1, r.h), u->theme.dim,
                 items[i].name);
        right = x - 2 * u->pad;
    }
}

static void draw_head(struct timeline *t, struct ui *u, struct rect r, int gutter)
{
    const struct kernel_model *k = t->kernel.model;
    struct rect info = {r.x + gutter, r.y, r.w - gutter, r.h};
    const struct trace_spans *s = t->model->spans;
    uint32_t threads = s->lane_count - s->kind_first[TRACE_RESOURCE_THREAD];
    char text[160];
    if (timeline_head(t, u, ui_id("timeline cpus", 0), rect_make(r.x, r.y, gutter, r.h),
                      !t->kernel.is_closed, "CPUs")) {
        t->kernel.is_closed = !t->kernel.is_closed;
        u->again = true;
    }
    snprintf(text, sizeof text, "%u CPU%s, %u of %u thread%s in the kernel trace", k->cpu_count,
             k->cpu_count == 1 ? "" : "s", k->known, threads, threads == 1 ? "" : "s");
    int used = font_width(u->font, text, SIZE_MAX) + 4 * u->pad;
    ui_label(u, rect_make(info.x + u->pad, info.y, info.w - u->pad, info.h), u->theme.dim, text);
    draw_legend(u, rect_make(info.x + used, info.y, t->lanes.w - used - u->pad, info.h));
    draw_rect(u->list, rect_make(r.x, r.y, r.w, 1), u->theme.border);
}

// Begins the frame's look for what is under the mouse.
void timeline_kernel_begin(struct timeline *t)
{
    t->kernel.under_lane = KERNEL_NO_LANE;
    t->kernel.cpus = (struct rect){0};
}

void timeline_cpus(struct timeline *t, struct ui *u, struct rect r, int gutter)
{
    int head = t->rows.sizes.head, row = row_height(t);
    if (r.h < head)
        return;
    struct rect body = {r.x, r.y + head, t->lanes.x + t->lanes.w - r.x, r.h - head};
    if (body.h > 0) // the bar beside it lies where that of the lanes does, or over their right end
        body = ui_scroll(u, ui_id("timeline cpus scroll", 0), body,
                         (int)t->kernel.model->cpu_count * row, &t->kernel.scroll);
    t->kernel.cpus = rect_make(t->lanes.x, body.y, body.x + body.w - t->lanes.x, body.h);
    draw_clip_push(u->list, body);
    for (uint32_t i = 0; body.h > 0 && i < t->kernel.model->cpu_count; i++) {
        int y = body.y + (int)i * row - t->kernel.scroll;
        if (y + row > body.y && y < body.y + body.h)
            draw_cpu(t, u, i, rect_make(r.x, y, gutter, row),
                     rect_make(t->lanes.x, y, t->lanes.w, row));
    }
    draw_clip_pop(u->list);
    draw_head(t, u, rect_make(r.x, r.y, r.w, head), gutter);
}
