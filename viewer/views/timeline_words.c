// SPDX-License-Identifier: MIT
//
// The timeline's axis, and what it says about spans and ranges.

#include "viewer/views/timeline_internal.h"

#include "analysis/units.h"
#include "viewer/ui/font.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const char *timeline_ns(char *buf, double ns)
{
    return units_label(buf, TIMELINE_NS_MAX, llround(ns), "nanoseconds", "auto");
}

const char *timeline_at(char *buf, double ns, double step_ns)
{
    static const struct {
        double ns;
        const char *name;
    } units[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}};
    int i = 0;
    if (ns == 0)
        return strcpy(buf, "0s");
    while (i < 3 && fabs(ns) < units[i].ns && step_ns < units[i].ns)
        i++;
    int digits = (int)ceil(log10(units[i].ns / step_ns) - 1e-9);
    snprintf(buf, TIMELINE_NS_MAX, "%.*f%s",
             digits < 0   ? 0
             : digits > 9 ? 9
                          : digits,
             ns / units[i].ns, units[i].name);
    return buf;
}

// 1, 2 or 5 times a power of ten, such that marks have room for their labels.
static double step_of(double length_ns, int width, int room)
{
    double least = length_ns * room / (width > 0 ? width : 1);
    double power = pow(10, floor(log10(least)));
    double times = least / power;
    double step = power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
    return step < 1 ? 1 : step;
}

void timeline_axis(struct timeline *t, struct ui *u, struct rect r)
{
    char text[TIMELINE_NS_MAX];
    double length = t->shown.end - t->shown.begin;
    double step = step_of(length, t->lanes.w, font_width(u->font, "000.000000ms", SIZE_MAX));
    draw_rect(u->list, rect_make(r.x, r.y, r.w, u->line), u->theme.panel);
    draw_clip_push(u->list, rect_make(t->lanes.x, r.y, t->lanes.w, r.h));
    double first = ceil(t->shown.begin / step);
    int marks = (int)fmin(floor(t->shown.end / step) - first + 1, t->lanes.w);
    for (int i = 0; i < marks; i++) {
        double at = (first + i) * step;
        int x = timeline_x(t, at);
        draw_rect(u->list, rect_make(x, r.y + u->line, 1, r.h - u->line), u->theme.grid);
        draw_rect(u->list, rect_make(x, r.y + u->line - 4, 1, 4), u->theme.border);
        timeline_at(text, at, step);
        if (x + 4 + font_width(u->font, text, SIZE_MAX) <= t->lanes.x + t->lanes.w)
            ui_label(u, rect_make(x + 4, r.y, t->lanes.w, u->line), u->theme.dim, text);
    }
    draw_clip_pop(u->list);
}

const char *timeline_state(const struct trace_spans *s, uint32_t span)
{
    static const char *const names[] = {"unknown", "not there", "runnable",
                                        "running", "waiting",   "in a system call"};
    const char *reason = trace_names_text(&s->names, trace_span_reason(s, span));
    uint8_t state = trace_span_state(s, span);
    return state == TRACE_GO_WAITING && *reason ? reason : state < 6 ? names[state] : names[0];
}

void timeline_fiber_name(const struct timeline *t, uint32_t lane, char *buf, size_t size)
{
    const struct trace_spans *s = t->model->spans;
    const char *name = trace_names_text(&s->names, s->lanes[lane].name);
    uint32_t label = t->model->labels ? t->model->labels[lane] : 0;
    snprintf(buf, size, "%.180s  fiber %" PRId64 "%s%.60s", *name ? name : "(unknown)",
             s->lanes[lane].id, label ? "  " : "", label ? trace_names_text(&s->names, label) : "");
}

// On which Proc or thread, for a span that was on one.
static void where_of(const struct timeline *t, uint32_t lane, uint32_t span, char where[48])
{
    const struct trace_spans *s = t->model->spans;
    uint8_t kind = trace_spans_lane_kind(s, lane), state = trace_span_state(s, span);
    where[0] = 0;
    if (kind == TRACE_RESOURCE_GOROUTINE) {
        lane = s->peer[span];
        if ((state != TRACE_GO_RUNNING && state != TRACE_GO_SYSCALL) || lane == TRACE_NO_LANE)
            return;
        kind = trace_spans_lane_kind(s, lane);
    }
    snprintf(where, 48, " on %s%" PRId64, kind == TRACE_RESOURCE_PROC ? "P" : "M",
             s->lanes[lane].id);
}

// Two lines about a span: who, and what.
static void describe(const struct timeline *t, uint32_t lane, uint32_t span, char who[300],
                     char what[256])
{
    const struct trace_spans *s = t->model->spans;
    uint32_t fiber = trace_spans_fiber(s, span), next = span + 1;
    int64_t begin_ns = trace_span_begin_ns(s, span);
    double begin = (double)(begin_ns - t->model->begin_ns);
    double length = (double)(trace_span_end_ns(s, fiber, span) - begin_ns);
    char a[TIMELINE_NS_MAX], b[TIMELINE_NS_MAX], then[80] = "", where[48];
    if (next < s->lanes[fiber].first + s->lanes[fiber].count)
        snprintf(then, sizeof then, ", then %.60s", timeline_state(s, next));
    timeline_fiber_name(t, fiber, who, 300);
    where_of(t, lane, span, where);
    snprintf(what, 256, "%.80s %s%s, at %s%s", timeline_state(s, span), timeline_ns(a, length),
             where, timeline_at(b, begin, 1000), then);
}

// Who woke it, in which function; false: nobody is known.
static bool describe_wake(const struct timeline *t, uint32_t span, char text[400])
{
    const struct trace_spans *s = t->model->spans;
    struct timeline_wake w;
    char who[300], at[TIMELINE_NS_MAX];
    if (!timeline_woken_by(s, span, &w))
        return false;
    bool woken = s->kinds[s->kind[w.woken]].woken; // else its stack is where the new one starts
    const struct trace_stack *stack = trace_stacks_get(&s->stacks, s->stack[w.woken]);
    const char *in =
        woken && stack->count ? trace_names_text(&s->names, stack->frames[0].function) : "";
    double ns = (double)(trace_span_begin_ns(s, w.woken) - t->model->begin_ns);
    timeline_fiber_name(t, w.lane, who, sizeof who);
    snprintf(text, 400, "%s by %.180s%s%.80s, at %s", woken ? "woken" : "made", who,
             *in ? " in " : "", in, timeline_at(at, ns, 1000));
    return true;
}

void timeline_tip(const struct timeline *t, struct ui *u, uint32_t lane, uint32_t span)
{
    char who[300], what[256], by[400] = "", all[1000];
    const struct trace_spans *s = t->model->spans;
    describe(t, lane, span, who, what);
    describe_wake(t, span, by);
    uint32_t id = trace_span_stack(s, span);
    if (trace_span_state(s, span) == TRACE_GO_RUNNING)
        id = 0; // where it began to run says nothing
    const struct trace_stack *stack = trace_stacks_get(&s->stacks, id);
    int n = snprintf(all, sizeof all, "%s\n%s%s%s", who, what, *by ? "\n" : "", by);
    for (uint32_t i = 0; i < stack->count && i < 3 && n < 900; i++)
        n += snprintf(all + n, sizeof all - (size_t)n, "\n  %.60s",
                      trace_names_text(&s->names, stack->frames[i].function));
    ui_tip(u, all);
}

// The stack of the chosen span: of one that waits its own, else where it ended: where the fiber
// blocked, yielded or ended.
static void detail_stack(struct timeline *t, struct ui *u, struct rect r)
{
    const struct trace_spans *s = t->model->spans;
    uint32_t fiber = trace_spans_fiber(s, t->span);
    bool worked = trace_span_state(s, t->span) == TRACE_GO_RUNNING;
    uint32_t id = worked ? trace_span_end_stack(s, fiber, t->span) : trace_span_stack(s, t->span);
    if (trace_span_state(s, t->span) == TRACE_GO_RUNNABLE && t->span > s->lanes[fiber].first)
        id = trace_span_stack(s, t->span - 1); // where it waited
    const struct trace_stack *stack = id ? trace_stacks_get(&s->stacks, id) : NULL;
    int height = font_height(u->font) + 2, rows = r.h / height;
    if (!stack || !stack->count) {
        ui_label(u, rect_make(r.x, r.y, r.w, height), u->theme.dim,
                 worked ? "no stack where it ends" : "no stack");
        return;
    }
    for (uint32_t i = 0; i < stack->count && (int)i < rows; i++) {
        char text[512];
        const struct trace_frame *f = &stack->frames[i];
        const char *file = trace_names_text(&s->names, f->file), *slash = strrchr(file, '/');
        snprintf(text, sizeof text, *file ? "%.300s  %.100s:%" PRIu64 : "%.300s",
                 trace_names_text(&s->names, f->function), slash ? slash + 1 : file, f->line);
        ui_label(u, rect_make(r.x, r.y + (int)i * height, r.w, height),
                 i ? u->theme.dim : u->theme.text, text);
    }
}

// A class: its colour, name, time, and a start function's share of all that ran.
static void detail_class(struct timeline *t, struct ui *u, struct rect r, int class, int64_t ns,
                         double whole_ns)
{
    char time[TIMELINE_NS_MAX], share[16];
    int box = font_ascent(u->font) - 2, digits = font_width(u->font, "0000.00ms 100.0%", SIZE_MAX);
    draw_rect(u->list, rect_make(r.x, r.y + (r.h - box) / 2, box, box), timeline_color(u, class));
    int x = r.x + box + u->pad, room = r.w - box - 2 * u->pad - digits;
    ui_label(u, rect_make(x, r.y, room, r.h), u->theme.text,
             trace_model_class_name(t->model, class));
    snprintf(share, sizeof share, "%.1f%%", whole_ns > 0 ? 100 * (double)ns / whole_ns : 0);
    if (class == TRACE_MODEL_SYSCALL)
        share[0] = 0;
    int column = font_width(u->font, "100.0%", SIZE_MAX);
    ui_label_right(u, rect_make(x, r.y, r.w - box - u->pad, r.h), u->theme.text, share);
    ui_label_right(u, rect_make(x, r.y, r.w - box - 2 * u->pad - column, r.h), u->theme.dim,
                   timeline_ns(time, (double)ns));
}

struct timeline_window timeline_told(const struct timeline *t)
{
    return t->range.end > t->range.begin ? t->range : t->shown;
}

// The classes that have a time. Where they are more than `room`, the functions that find none are
// added to the others. How many.
static int classes_of(int64_t sums[LOD_CLASSES], int room, int classes[LOD_CLASSES])
{
    int n = 0, last = 0;
    for (int i = 0; i < LOD_CLASSES; i++)
        last += i >= TRACE_MODEL_OTHERS && sums[i];
    int count = last;
    for (int i = 0; i < TRACE_MODEL_OTHERS; i++)
        count += sums[i] != 0;
    if (count > room && !sums[TRACE_MODEL_OTHERS])
        last++; // there will be others
    for (int i = 0; i < TRACE_MODEL_OTHERS; i++) {
        if (sums[i] && (count <= room || n + last < room))
            classes[n++] = i;
        else
            sums[TRACE_MODEL_OTHERS] += sums[i];
    }
    for (int i = TRACE_MODEL_OTHERS; i < LOD_CLASSES && n < room; i++)
        if (sums[i])
            classes[n++] = i;
    return n;
}

// In one line which colour is what, as many as fit.
static void detail_legend(const struct timeline *t, struct ui *u, struct rect r,
                          int64_t sums[LOD_CLASSES])
{
    int box = font_ascent(u->font) - 2, x = r.x, classes[LOD_CLASSES];
    int count = classes_of(sums, LOD_CLASSES, classes);
    for (int i = 0; i < count; i++) {
        const char *name = trace_model_class_name(t->model, classes[i]);
        int width = box + u->pad / 2 + font_width(u->font, name, SIZE_MAX);
        if (x + width > r.x + r.w)
            break;
        draw_rect(u->list, rect_make(x, r.y + (r.h - box) / 2, box, box),
                  timeline_color(u, classes[i]));
        ui_label(u, rect_make(x + box + u->pad / 2, r.y, width, r.h), u->theme.dim, name);
        x += width + 2 * u->pad;
    }
}

// As many as there is room for, and no more than it takes: names want the width.
static int cells_across(const struct ui *u, int width, int count, int rows)
{
    int digit = font_width(u->font, "0", 1), most = width / (72 * digit);
    int need = rows > 0 ? (count + rows - 1) / rows : 1;
    most = most < 1 ? width > 60 * digit ? 2 : 1 : most < 2 ? 2 : most > 4 ? 4 : most;
    return need < 1 ? 1 : need < most ? need : most;
}

static void detail_sums(struct timeline *t, struct ui *u, struct rect r)
{
    bool has_range = t->range.end > t->range.begin;
    struct timeline_window w = timeline_told(t);
    int64_t sums[LOD_CLASSES], busy = 0;
    char text[256], a[TIMELINE_NS_MAX], b[TIMELINE_NS_MAX], c[TIMELINE_NS_MAX], d[TIMELINE_NS_MAX];
    int64_t base = t->model->begin_ns;
    trace_model_sums(t->model, base + llround(w.begin), base + llround(w.end), sums);
    for (int i = 0; i < TRACE_MODEL_SYSCALL; i++)
        busy += sums[i];
    double step = (w.end - w.begin) / 1000, whole = (double)busy;
    snprintf(text, sizeof text,
             "%s %s \xe2\x80\x93 %s (%s): %u %s%s ran fibers for %s, %.2f at a time",
             has_range ? "Range" : "Shown", timeline_at(a, w.begin, step),
             timeline_at(b, w.end, step), timeline_ns(c, w.end - w.begin), t->model->lane_count,
             t->model->are_threads ? "thread" : "Proc", t->model->lane_count == 1 ? "" : "s",
             timeline_ns(d, whole), whole / (w.end - w.begin));
    ui_label(u, rect_make(r.x, r.y, r.w, u->line), has_range ? u->theme.accent : u->theme.text,
             text);
    if (r.h < 2 * u->line) {
        int used = font_width(u->font, text, SIZE_MAX) + 3 * u->pad;
        detail_legend(t, u, rect_make(r.x + used, r.y, r.w - used, u->line), sums);
        return;
    }
    int row = font_height(u->font) + 4, rows = (r.h - u->line) / row;
    int digit = font_width(u->font, "0", 1), classes[LOD_CLASSES];
    int columns = cells_across(u, r.w, classes_of(sums, LOD_CLASSES, classes), rows);
    int width = (r.w - (columns - 1) * 4 * u->pad) / columns;
    width = width < 60 * digit ? width : 60 * digit; // figures stay near their names
    int count = rows > 0 ? classes_of(sums, rows * columns, classes) : 0;
    for (int i = 0; i < count; i++) {
        struct rect cell = {r.x + i / rows * (width + 4 * u->pad), r.y + u->line + i % rows * row,
                            width, row};
        detail_class(t, u, cell, classes[i], sums[classes[i]], whole);
    }
}

static void detail_span(struct timeline *t, struct ui *u, struct rect r)
{
    char who[300], what[256], by[400];
    describe(t, t->lane, t->span, who, what);
    ui_label(u, rect_make(r.x, r.y, r.w, u->line), u->theme.text, who);
    ui_label(u, rect_make(r.x, r.y + u->line, r.w, u->line), u->theme.dim, what);
    int used = 2 * u->line;
    if (timeline_lost_line(t, by)) {
        ui_label(u, rect_make(r.x, r.y + used, r.w, u->line), u->theme.accent, by);
        used += u->line;
    }
    if (describe_wake(t, t->span, by)) {
        ui_label(u, rect_make(r.x, r.y + used, r.w, u->line), u->theme.accent, by);
        used += u->line;
    }
    used += u->pad / 2;
    detail_stack(t, u, rect_make(r.x, r.y + used, r.w, r.h - used));
}

// A piece of the kernel trace. How high.
static int detail_piece(struct timeline *t, struct ui *u, struct rect r)
{
    char who[256], what[256], why[256];
    timeline_piece_lines(t, t->kernel.lane, t->kernel.index, who, what, why);
    ui_label(u, rect_make(r.x, r.y, r.w, u->line), u->theme.text, who);
    ui_label(u, rect_make(r.x, r.y + u->line, r.w, u->line), u->theme.dim, what);
    if (!*why)
        return 2 * u->line + u->pad;
    ui_label(u, rect_make(r.x, r.y + 2 * u->line, r.w, u->line), u->theme.accent, why);
    return 3 * u->line + u->pad;
}

void timeline_detail(struct timeline *t, struct ui *u, struct rect r)
{
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y, r.w, 1), u->theme.border);
    int air = r.h < 2 * u->line + u->pad ? u->pad / 2 : u->pad;
    struct rect in = {r.x + 2 * u->pad, r.y + air, r.w - 4 * u->pad, r.h - 2 * air};
    draw_clip_push(u->list, in);
    bool is_piece = t->kernel.lane != KERNEL_NO_LANE;
    if (t->span != TRACE_NO_SPAN || is_piece) {
        int half = in.w / 2 - 2 * u->pad, used = 0;
        if (is_piece)
            used = detail_piece(t, u, rect_make(in.x, in.y, half, in.h));
        if (t->span != TRACE_NO_SPAN)
            detail_span(t, u, rect_make(in.x, in.y + used, half, in.h - used));
        in = rect_make(in.x + half + 4 * u->pad, in.y, in.w - half - 4 * u->pad, in.h);
    }
    detail_sums(t, u, in);
    draw_clip_pop(u->list);
}
