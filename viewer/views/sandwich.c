// SPDX-License-Identifier: MIT
//
// See sandwich.h.

#include "viewer/views/sandwich.h"

#include "analysis/units.h"
#include "viewer/bindings.h"
#include "viewer/ui/font.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sandwich_init(struct sandwich *s, const struct profile_model *m)
{
    *s = (struct sandwich){.model = m, .side = SANDWICH_CALLEES};
}

static void forget(struct sandwich *s)
{
    for (int i = 0; i < SANDWICH_SIDES; i++) {
        flame_finish(&s->flames[i]);
        sandwich_edges_forget(&s->edges[i]);
        stacks_finish(&s->stacks[i]);
        free(s->left[i]);
        s->left[i] = NULL;
    }
    s->function = NULL;
}

void sandwich_finish(struct sandwich *s)
{
    forget(s);
    *s = (struct sandwich){0};
}

static int set_side(struct sandwich *s, int side, const char *label, struct fscope_error *err)
{
    int rc = stacks_around(&s->stacks[side], &s->model->report, s->model->stacks.values, label,
                           side == SANDWICH_CALLERS, err);
    if (rc)
        return rc;
    s->left[side] = profile_lay_out(&s->stacks[side]);
    if (!s->left[side] || sandwich_edges_set(s, side) ||
        flame_init_of(&s->flames[side], s->model, &s->stacks[side], s->left[side]))
        return error_set(err, -ENOMEM, 0, "out of memory");
    s->flames[side].upward = side == SANDWICH_CALLERS;
    s->flames[side].tight = true;
    s->flames[side].hide_root = side == SANDWICH_CALLEES; // it stands once, between the two
    return 0;
}

int sandwich_set(struct sandwich *s, const char *label, struct fscope_error *err)
{
    const struct report_node *n = profile_function(s->model, label);
    forget(s);
    if (!n)
        return 0;
    int rc = 0;
    for (int side = 0; side < SANDWICH_SIDES && !rc; side++)
        rc = set_side(s, side, n->label, err);
    if (rc || s->stacks[0].nodes[0].total <= 0) {
        forget(s);
        return rc;
    }
    s->function = n->label;
    return 0;
}

const char *sandwich_chosen(const struct sandwich *s)
{
    const struct flame *f = &s->flames[s->side];
    return s->function && f->chosen ? f->stacks->nodes[f->chosen].name : s->function;
}

static void head(const struct sandwich *s, struct ui *u, struct rect r)
{
    const struct report *rep = &s->model->report;
    const struct report_node *n = profile_function(s->model, s->function);
    char text[1000], flat[UNITS_LABEL_MAX], cum[UNITS_LABEL_MAX], share[32];
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), u->theme.border);
    struct rect in = {r.x + 2 * u->pad, r.y, r.w - 4 * u->pad, r.h};
    if (!n) {
        ui_label(u, in, u->theme.dim, "Choose a function in another view, then come back: 3.");
        return;
    }
    units_percent(share, sizeof share, report_cum(n), rep->total);
    snprintf(text, sizeof text, "flat %.60s, cum %.60s, %s of everything",
             report_label(rep, flat, sizeof flat, report_flat(n)),
             report_label(rep, cum, sizeof cum, report_cum(n)), share + strspn(share, " "));
    ui_label_right(u, in, u->theme.text, text);
    in.w -= font_width(u->font, text, SIZE_MAX) + 2 * u->pad;
    snprintf(text, sizeof text, "callers above, callees beneath: %.600s", s->function);
    ui_label(u, in, u->theme.text, text);
}

// How much of the height the callers get: what they need, if the callees have enough.
static int split_at(const struct sandwich *s, const struct ui *u, int height)
{
    int row = font_height(u->font) + 6;
    int above = ((int)s->stacks[SANDWICH_CALLERS].depth + 1) * row;
    int beneath = ((int)s->stacks[SANDWICH_CALLEES].depth + 1) * row;
    int half = height / 2;
    if (above <= half)
        return above;
    return beneath < half ? height - beneath < above ? height - beneath : above : half;
}

void sandwich_frame(struct sandwich *s, struct ui *u, struct rect r)
{
    struct rect top = {r.x, r.y, r.w, u->line + 4};
    head(s, u, rect_cut(top, r));
    r.y += top.h;
    r.h -= top.h;
    if (!s->function || r.h < 4)
        return;
    if (command_given(u, COMMAND_SANDWICH_SIDE)) {
        s->side = !s->side;
        u->again = true;
    }
    int row = font_height(u->font) + 6, bar = u->pad + 2;
    int rows = (int)(s->stacks[SANDWICH_CALLERS].depth + s->stacks[SANDWICH_CALLEES].depth) + 1;
    int edges = sandwich_edges_height(s, u, r.h - (rows + 1) * row);
    if (edges)
        r.h = (rows + 1) * row; // with a row between
    int above = split_at(s, u, r.h);
    // One scale: where one of them has a scroll bar, the other stays clear of it.
    bool scrolls[SANDWICH_SIDES] = {
        ((int)s->stacks[SANDWICH_CALLERS].depth + 1) * row > above,
        (int)s->stacks[SANDWICH_CALLEES].depth * row > r.h - above,
    };
    struct rect parts[SANDWICH_SIDES] = {{r.x, r.y, r.w, above},
                                         {r.x, r.y + above, r.w, r.h - above}};
    for (int i = 0; i < SANDWICH_SIDES; i++) {
        uint32_t was = s->flames[i].chosen;
        s->flames[i].keyless = s->side != i;
        parts[i].w -= scrolls[!i] && !scrolls[i] && parts[i].w > bar ? bar : 0;
        flame_body(&s->flames[i], u, parts[i]);
        if (s->flames[i].chosen != was)
            s->side = i;
    }
    if (edges)
        sandwich_edges_frame(s, u, rect_make(r.x, r.y + r.h, r.w, edges));
    draw_rect(u->list, rect_make(r.x, r.y + above - row - 1, r.w, 1), u->theme.accent);
    draw_rect(u->list, rect_make(r.x, r.y + above - 1, r.w, 1), u->theme.accent);
    for (int i = 0; i < SANDWICH_SIDES; i++)
        if (i != s->side)
            s->flames[i].chosen = 0;
}
