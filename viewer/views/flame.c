// SPDX-License-Identifier: MIT
//
// See flame.h.

#include "viewer/views/flame.h"

#include "analysis/units.h"
#include "viewer/bindings.h"
#include "viewer/ui/font.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NARROW = 2 }; // pixels below which a frame has no box of its own

int flame_init_of(struct flame *f, const struct profile_model *m, const struct stacks *s,
                  const int64_t *left)
{
    *f = (struct flame){.model = m, .stacks = s, .left = left};
    f->found = calloc(s->count, 1);
    return f->found ? 0 : -ENOMEM;
}

int flame_init(struct flame *f, const struct profile_model *m)
{
    return flame_init_of(f, m, &m->stacks, m->left);
}

void flame_finish(struct flame *f)
{
    free(f->found);
    *f = (struct flame){0};
}

void flame_find(struct flame *f, const char *text)
{
    const struct stacks *s = f->stacks;
    snprintf(f->search, sizeof f->search, "%s", text);
    f->found_total = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        bool below = i && f->found[s->nodes[i].parent];
        bool is = i && *text && strcasestr(s->nodes[i].name, text);
        f->found[i] = is ? 1 : below && *text ? 2 : 0;
        if (is && !below) // recursion counts once
            f->found_total += s->nodes[i].total;
    }
}

void flame_choose(struct flame *f, const char *label)
{
    const struct stacks_node *nodes = f->stacks->nodes;
    f->chosen = 0;
    for (uint32_t i = 1; label && i < f->stacks->count; i++)
        if (!strcmp(nodes[i].name, label) &&
            (!f->chosen || nodes[i].total > nodes[f->chosen].total))
            f->chosen = i;
}

// Two may stand in one window, one of them upward.
static uint64_t id_of(const struct flame *f, const char *name)
{
    return ui_id(name, f->upward);
}

static void show(struct flame *f, uint32_t node)
{
    if (node == f->top)
        return;
    if (f->undo_count == FLAME_UNDO) {
        memmove(f->undo, f->undo + 1, sizeof f->undo - sizeof f->undo[0]);
        f->undo_count--;
    }
    f->undo[f->undo_count++] = f->top;
    f->top = node;
    f->scroll = 0;
}

// --- Drawing.

// Pixels of a node, [x, right), while it is below or is the top. What lies side by side shares its
// edge.
static void pixels(const struct flame *f, uint32_t node, int *x, int *right)
{
    const struct stacks_node *n = &f->stacks->nodes[node];
    const struct stacks_node *top = &f->stacks->nodes[f->top];
    double scale = f->body.w / (double)top->total;
    int64_t left = f->left[node] - f->left[f->top];
    *x = f->body.x + (int)((double)left * scale + 0.5);
    *right = f->body.x + (int)((double)(left + n->total) * scale + 0.5);
}

static struct rect row_rect(const struct flame *f, uint32_t depth, int x, int right)
{
    int at = ((int)depth - f->hide_root) * f->row - f->scroll;
    int y = f->upward ? f->body.y + f->body.h - f->row - at : f->body.y + at;
    return rect_make(x, y, right - x, f->row);
}

// What only the base has.
static void hatch(struct ui *u, struct rect r)
{
    uint32_t color = theme_mix(u->theme.ground, theme_change(&u->theme, -4), 0.6);
    if (r.w < 4)
        return;
    draw_clip_push(u->list, r);
    struct rect seen = draw_clip(u->list);
    for (int x = seen.x - r.h - (seen.x - r.x) % 8; x < seen.x + seen.w; x += 8)
        draw_line(u->list, x, r.y + r.h, x + r.h, r.y, 2, color);
    draw_clip_pop(u->list);
}

static uint32_t color_of(const struct flame *f, const struct theme *t, uint32_t node)
{
    const struct stacks_node *n = &f->stacks->nodes[node];
    if (f->stacks->values == STACKS_COMPARED)
        return theme_change(t, (int)stacks_step(n) - STACKS_SAME);
    return *n->name ? theme_frame(t, n->name, strcmp(n->module, f->model->module) ? n->module : "")
                    : t->others;
}

static void hatch_gone(struct flame *f, struct ui *u, uint32_t node, struct rect box)
{
    const struct stacks_node *n = &f->stacks->nodes[node];
    if (f->stacks->values != STACKS_COMPARED)
        return;
    int64_t gone = stacks_step(n) == STACKS_GONE ? n->total : stacks_gone(n);
    int w = (int)((double)box.w * (double)gone / (double)n->total + 0.5);
    if (w > 0)
        hatch(u, rect_make(box.x + box.w - w, box.y, w, box.h));
}

static void draw_node(struct flame *f, struct ui *u, uint32_t node, struct rect r, bool above)
{
    const struct stacks_node *n = &f->stacks->nodes[node];
    const struct theme *t = &u->theme;
    uint32_t color = color_of(f, t, node);
    bool searching = *f->search;
    uint32_t ink = t->ink;
    if (above || (searching && !f->found[node])) {
        color = theme_mix(t->ground, color, t->dark ? 0.30 : 0.35);
        ink = t->dark ? t->text : t->ink;
    }
    struct rect box = {r.x, r.y, r.w > 2 ? r.w - 1 : r.w, r.h - 1};
    if (ui_inside(u, r)) {
        f->hot = node;
        color = theme_mix(color, t->dark ? 0xffffffff : 0xff000000, 0.18);
    }
    draw_rect(u->list, box, color);
    hatch_gone(f, u, node, box);
    if (f->found[node] == 1)
        draw_rect(u->list, rect_make(box.x, box.y + box.h - 2, box.w, 2), t->accent);
    if (node && node == f->chosen)
        draw_frame(u->list, box, 2, t->text);
    if (box.w > 2 * u->pad)
        ui_name(u, rect_make(box.x + u->pad - 1, box.y, box.w - u->pad - 1, box.h), ink,
                *n->name ? n->name : "everything");
}

// Frames without boxes of their own, from x to right.
static void draw_narrow(struct flame *f, struct ui *u, uint32_t depth, int x, int right)
{
    struct rect r = row_rect(f, depth, x, right);
    if (right > x)
        draw_rect(u->list, rect_make(r.x, r.y, r.w, r.h - 1),
                  theme_mix(u->theme.ground, u->theme.others, 0.45));
}

static bool row_is_seen(const struct flame *f, uint32_t depth)
{
    struct rect r = row_rect(f, depth, 0, 1);
    return r.y < f->body.y + f->body.h && r.y + r.h > f->body.y;
}

// Depth is counted from the window's first row. How many rows there are.
static uint32_t draw_below(struct flame *f, struct ui *u, uint32_t above)
{
    const struct stacks_node *nodes = f->stacks->nodes;
    uint32_t deepest = above, node = f->top;
    for (;;) {
        uint32_t depth = above + nodes[node].depth - nodes[f->top].depth;
        int x, right, narrow = -1, narrow_end = -1;
        uint32_t wide = 0; // the first child to go down to
        pixels(f, node, &x, &right);
        deepest = depth > deepest ? depth : deepest;
        if (row_is_seen(f, depth))
            draw_node(f, u, node, row_rect(f, depth, x, right), false);
        for (uint32_t c = nodes[node].first_child; c; c = nodes[c].next) {
            pixels(f, c, &x, &right);
            if (right - x >= NARROW) {
                wide = wide ? wide : c;
                continue;
            }
            if (x > narrow_end) { // not beside the last one
                draw_narrow(f, u, depth + 1, narrow, narrow_end);
                narrow = x;
            }
            narrow_end = right;
        }
        draw_narrow(f, u, depth + 1, narrow, narrow_end);
        // Down, else to the next sibling that is wide enough, of the nearest ancestor that has one.
        while (!wide && node != f->top) {
            for (wide = nodes[node].next; wide; wide = nodes[wide].next) {
                pixels(f, wide, &x, &right);
                if (right - x >= NARROW)
                    break;
            }
            node = nodes[node].parent;
        }
        if (!wide)
            return deepest + 1;
        node = wide;
    }
}

// Those that lead to the top, each as wide as the window. How many.
static uint32_t draw_above(struct flame *f, struct ui *u)
{
    const struct stacks_node *nodes = f->stacks->nodes;
    uint32_t depth = nodes[f->top].depth;
    for (uint32_t i = depth, node = f->top; i-- > 0;) {
        node = nodes[node].parent;
        if (row_is_seen(f, i))
            draw_node(f, u, node, row_rect(f, i, f->body.x, f->body.x + f->body.w), true);
    }
    return depth;
}

static const char *value(const struct flame *f, char *buf, int64_t v)
{
    return units_label(buf, UNITS_LABEL_MAX, v, f->model->report.from_unit, "auto");
}

// "base 1.2s -> 1.8s (+50.0%)\n" of a difference, else nothing.
static void tip_change(const struct flame *f, const struct stacks_node *n, char *buf, size_t size)
{
    char base[UNITS_LABEL_MAX], now[UNITS_LABEL_MAX], by[32] = "new";
    *buf = 0;
    if (f->stacks->values != STACKS_COMPARED)
        return;
    if (n->base.total)
        snprintf(by, sizeof by, "%+.1f%%",
                 100 * (double)(n->now.total - n->base.total) / (double)n->base.total);
    snprintf(buf, size, "base %.60s \xe2\x86\x92 %.60s, %s\n", value(f, base, n->base.total),
             value(f, now, n->now.total), by);
}

static void tip(const struct flame *f, struct ui *u)
{
    const struct stacks_node *n = &f->stacks->nodes[f->hot];
    char total[UNITS_LABEL_MAX], self[UNITS_LABEL_MAX], all[16], of_top[16], text[1024];
    char change[200];
    tip_change(f, n, change, sizeof change);
    units_percent(all, sizeof all, n->total, f->model->stacks.nodes[0].total);
    units_percent(of_top, sizeof of_top, n->total, f->stacks->nodes[f->top].total);
    snprintf(text, sizeof text,
             "%.400s\n%s%.60s, %s of everything%s%s%s\n%.60s of its own%s%s%.200s",
             *n->name ? n->name : "everything", change, value(f, total, n->total),
             all + strspn(all, " "), f->top ? ", " : "", f->top ? of_top + strspn(of_top, " ") : "",
             f->top ? " of what is shown" : "", value(f, self, n->self),
             n->is_inline ? ", inlined into its caller" : "", *n->file || *n->module ? "\n" : "",
             *n->file ? n->file : n->module);
    ui_tip(u, text);
}

// --- Input.

// By arrows: to the parent, the heaviest child, the neighbours.
static void move(struct flame *f, struct ui *u)
{
    const struct stacks_node *nodes = f->stacks->nodes;
    uint32_t at = f->chosen ? f->chosen : f->top, to = 0;
    bool up = command_given(u, COMMAND_FLAME_UP), down = command_given(u, COMMAND_FLAME_DOWN);
    if (f->upward ? down : up) {
        to = nodes[at].parent;
    } else if (up || down) {
        for (uint32_t c = nodes[at].first_child; c; c = nodes[c].next)
            to = !to || nodes[c].total > nodes[to].total ? c : to;
    } else if (command_given(u, COMMAND_FLAME_RIGHT)) {
        to = nodes[at].next;
    } else if (command_given(u, COMMAND_FLAME_LEFT)) {
        for (uint32_t c = nodes[nodes[at].parent].first_child; c && c != at; c = nodes[c].next)
            to = c;
    } else {
        return;
    }
    f->chosen = to ? to : f->chosen;
}

static void input(struct flame *f, struct ui *u)
{
    unsigned hit = ui_hit(u, id_of(f, "flame"), f->body);
    if (hit & UI_CLICKED && f->hot != UINT32_MAX) {
        show(f, f->hot);
        f->chosen = f->hot;
        u->again = true;
    }
    if ((u->event.kind != UI_KEY && !u->command) || f->keyless)
        return;
    u->again = true;
    move(f, u);
    if (command_given(u, COMMAND_FLAME_IN))
        show(f, f->chosen);
    if (f->undo_count && command_given(u, COMMAND_UNDO))
        f->top = f->undo[--f->undo_count];
    if (command_given(u, COMMAND_FLAME_PARENT))
        show(f, f->stacks->nodes[f->top].parent);
    if (command_given(u, COMMAND_FLAME_FLIP))
        f->upward = !f->upward;
    if (command_given(u, COMMAND_FLAME_WHOLE))
        show(f, 0);
    if (command_given(u, COMMAND_SEARCH))
        u->focus = ui_id("flame search", 0);
    if (command_given(u, COMMAND_CANCEL)) {
        if (*f->search)
            flame_find(f, "");
        else
            show(f, 0);
        f->chosen = 0;
    }
}

// The axis of the colours at the right of r. How wide it is.
static int legend(struct ui *u, struct rect r)
{
    static const char *const ends[] = {"shrank", "grew"};
    enum { SWATCH = 14 };
    int left = font_width(u->font, ends[0], SIZE_MAX),
        right = font_width(u->font, ends[1], SIZE_MAX);
    int w = left + right + 9 * SWATCH + 2 * u->pad;
    if (w > r.w / 2)
        return 0;
    int x = r.x + r.w - w;
    ui_label(u, rect_make(x, r.y, left, r.h), u->theme.dim, ends[0]);
    x += left + u->pad;
    for (int step = -4; step <= 4; step++, x += SWATCH)
        draw_rect(u->list, rect_make(x, r.y + r.h / 2 - 5, SWATCH - 1, 10),
                  theme_change(&u->theme, step));
    ui_label(u, rect_make(x + u->pad, r.y, right, r.h), u->theme.dim, ends[1]);
    return w + 2 * u->pad;
}

static void head(struct flame *f, struct ui *u, struct rect r)
{
    const struct profile_model *m = f->model;
    char text[512];
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), u->theme.border);
    int field = r.w / 4;
    struct rect box = {r.x + r.w - field - u->pad, r.y + 3, field, r.h - 7};
    char search[sizeof f->search];
    memcpy(search, f->search, sizeof search);
    if (ui_field(u, ui_id("flame search", 0), box, search, sizeof search, "search: /"))
        flame_find(f, search);
    struct rect in = {r.x + 2 * u->pad, r.y, r.w - field - 6 * u->pad, r.h};
    if (*f->search) {
        char found[UNITS_LABEL_MAX], share[16];
        units_label(found, sizeof found, f->found_total, m->report.from_unit, "auto");
        units_percent(share, sizeof share, f->found_total, f->stacks->nodes[0].total);
        snprintf(text, sizeof text, "\"%s\": %.60s, %s of everything", f->search, found,
                 share + strspn(share, " "));
        ui_label_right(u, in, u->theme.accent, text);
        in.w -= font_width(u->font, text, SIZE_MAX) + 2 * u->pad;
    }
    if (f->stacks->values == STACKS_COMPARED)
        in.w -= legend(u, in);
    ui_label(u, in, u->theme.dim, m->width_is);
}

void flame_frame(struct flame *f, struct ui *u, struct rect r)
{
    int height = u->line + 4;
    struct rect top = {r.x, r.y, r.w, height < r.h ? height : r.h};
    head(f, u, top);
    flame_body(f, u, rect_make(r.x, r.y + top.h, r.w, r.h - top.h));
}

void flame_body(struct flame *f, struct ui *u, struct rect r)
{
    f->row = font_height(u->font) + 6;
    f->hot = UINT32_MAX;
    int content = ((int)f->stacks->depth + 2 - f->hide_root - f->tight) * f->row;
    f->body = ui_scroll(u, id_of(f, "flame scroll"), r, content, &f->scroll);
    if (f->body.w < 1 || f->body.h < 1)
        return;
    draw_clip_push(u->list, f->body);
    draw_below(f, u, draw_above(f, u));
    draw_clip_pop(u->list);
    if (f->hot != UINT32_MAX)
        tip(f, u);
    input(f, u);
}
