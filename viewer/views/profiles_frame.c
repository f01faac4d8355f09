// SPDX-License-Identifier: MIT
//
// The frame around the pages: tabs, sample types, chips, status. See profiles.h.

#include "viewer/views/profiles_internal.h"

#include "analysis/units.h"
#include "viewer/bindings.h"
#include "viewer/ui/font.h"

#include <stdlib.h>
#include <string.h>

static void push(struct profiles *p, const struct refine_state *s)
{
    struct fscope_error err = {0}; // its text becomes the message
    profiles_push(p, s, &err);
}

// --- Sample types.

static void choose_type(struct profiles *p, int type)
{
    const struct pprof_profile *now = p->file ? p->file->now : NULL;
    if (!now || !now->sample_type_count)
        return;
    struct refine_state next = *refine_now(&p->refine);
    int count = (int)now->sample_type_count;
    next.sample_type = now->sample_types[(type + count) % count].type;
    if (type != p->model->report.index)
        push(p, &next);
}

// At the right of r; how wide they are. Where they are too many the one in force is named.
static int draw_types(struct profiles *p, struct ui *u, struct rect r)
{
    const struct pprof_profile *now = p->file->now;
    int chosen = p->model->report.index, width = 0;
    for (size_t i = 0; i < now->sample_type_count; i++)
        width += ui_button_width(u, now->sample_types[i].type);
    if (width > r.w) {
        const char *type = now->sample_types[chosen].type;
        int w = ui_button_width(u, type);
        w = w < r.w ? w : r.w;
        struct rect one = {r.x + r.w - w, r.y, w, r.h};
        if (ui_button(u, ui_id("sample type", 0), one, type, true))
            choose_type(p, chosen + 1);
        return w;
    }
    int x = r.x + r.w - width;
    for (size_t i = 0; i < now->sample_type_count; i++) {
        const char *type = now->sample_types[i].type;
        int w = ui_button_width(u, type);
        if (ui_button(u, ui_id("sample type", i), rect_make(x, r.y, w, r.h), type,
                      (int)i == chosen)) {
            choose_type(p, (int)i);
            u->again = true;
        }
        x += w;
    }
    return width;
}

// --- Chips.

static uint32_t chip_color(const struct ui *u, int kind)
{
    static const uint8_t series[REFINE_KINDS] = {0, 5, 2, 3};
    return u->theme.series[series[kind]];
}

// Where the next one goes. A click takes it away.
static int draw_chip(struct profiles *p, struct ui *u, struct rect r, int i)
{
    const struct refine_chip *c = &refine_now(&p->refine)->chips[i];
    char text[200];
    snprintf(text, sizeof text, "%s %.150s  \xc3\x97", refine_names[c->kind], c->pattern);
    int w = font_width(u->font, text, SIZE_MAX) + 3 * u->pad;
    struct rect box = {r.x, r.y + 3, w < r.w ? w : r.w, r.h - 6};
    bool hot = ui_inside(u, box);
    draw_rect(u->list, box, hot ? u->theme.hover : u->theme.raised);
    draw_rect(u->list, rect_make(box.x, box.y, 3, box.h), chip_color(u, c->kind));
    ui_label(u, rect_make(box.x + u->pad + 3, box.y, box.w - u->pad - 3, box.h), u->theme.text,
             text);
    if (hot)
        ui_tip(u, "a click removes it");
    if (ui_hit(u, ui_id("chip", (uint64_t)i), box) & UI_CLICKED) {
        struct refine_state next = *refine_now(&p->refine);
        refine_remove(&next, i);
        push(p, &next);
        u->again = true;
    }
    return box.w + u->pad;
}

static void draw_field(struct profiles *p, struct ui *u, struct rect r)
{
    uint64_t id = ui_id("refinement", 0);
    bool had = u->focus == id;
    uint32_t key = u->event.kind == UI_KEY ? u->event.key : 0;
    struct rect box = {r.x, r.y + 3, r.w, r.h - 6};
    ui_field(u, id, box, p->edit, sizeof p->edit, "REGEX, or focus=, ignore=, hide=, show=REGEX");
    if (!had || (key != UI_KEY_ENTER && key != UI_KEY_ESCAPE))
        return;
    struct fscope_error err = {0};
    u->event.kind = UI_NONE;
    u->again = true;
    if (key == UI_KEY_ENTER && *p->edit && profiles_refine(p, p->edit, &err)) {
        u->focus = id; // to be mended
        return;
    }
    p->edit[0] = 0;
    p->editing = false;
}

// Chips and the field at the left, sample types at the right.
static void draw_controls(struct profiles *p, struct ui *u, struct rect r)
{
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), u->theme.border);
    struct rect in = {r.x + u->pad, r.y, r.w - 2 * u->pad, r.h - 1};
    if (in.w <= 0)
        return;
    int end = in.x + in.w;
    if (p->file)
        end -= draw_types(p, u, rect_make(in.x + in.w / 2, in.y, in.w - in.w / 2, in.h)) + u->pad;
    int most = refine_now(&p->refine)->count;
    for (int i = 0; i < most && i < refine_now(&p->refine)->count && in.x < end; i++) {
        in.w = end - in.x;
        in.x += draw_chip(p, u, in, i);
    }
    in.w = end - in.x;
    const char *name = most ? "+ R" : "refine: R";
    int w = ui_button_width(u, name);
    if (p->editing && in.w > 4 * u->pad) {
        in.w = in.w / 2 > 300 ? in.w / 2 : in.w;
        draw_field(p, u, in);
    } else if (p->file && w <= in.w &&
               ui_button(u, ui_id("refine", 0), rect_make(in.x, in.y, w, in.h), name, false)) {
        p->editing = true;
        u->focus = ui_id("refinement", 0);
        u->again = true;
    }
}

// --- Status.

static void draw_status(const struct profiles *p, struct ui *u, struct rect r)
{
    const struct report *rep = &p->model->report;
    char total[UNITS_LABEL_MAX], flat[UNITS_LABEL_MAX], share[32], text[1000];
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y, r.w, 1), u->theme.border);
    struct rect in = {r.x + 2 * u->pad, r.y, r.w - 4 * u->pad, r.h};
    const struct report_node *n =
        p->model->has_functions ? profile_function(p->model, p->function) : NULL;
    if (*p->message) {
        ui_label_right(u, in, u->theme.bad, p->message);
        in.w /= 2;
    } else if (n) {
        units_percent(share, sizeof share, report_cum(n), rep->total);
        snprintf(text, sizeof text, "%.600s: %.60s, %s; of its own %.60s", n->label,
                 report_label(rep, total, sizeof total, report_cum(n)), share + strspn(share, " "),
                 report_label(rep, flat, sizeof flat, report_flat(n)));
        ui_label_right(u, in, u->theme.text, text);
        in.w -= font_width(u->font, text, SIZE_MAX) + 2 * u->pad;
    }
    const struct stacks_node *root = &p->model->stacks.nodes[0];
    bool compared = p->model->stacks.values == STACKS_COMPARED;
    int64_t shown = compared ? root->now.total - root->base.total : root->total;
    const char *unit = p->model->has_functions ? rep->unit : "auto";
    units_percent(share, sizeof share, shown, rep->total);
    snprintf(text, sizeof text, "%.60s: %s %.60s, %s of %s%.60s", rep->type,
             compared ? "difference" : "shown",
             units_label(flat, sizeof flat, shown, rep->from_unit, unit),
             share + strspn(share, " "), compared ? "the base's " : "",
             units_label(total, sizeof total, rep->total, rep->from_unit, unit));
    if (in.w > 0)
        ui_label(u, in, u->theme.dim, text);
}

// --- Keys.

static void refine_by(struct profiles *p, int kind)
{
    struct refine_state next = *refine_now(&p->refine);
    char *pattern = p->function ? refine_quote(p->function) : NULL;
    const char *wrong =
        pattern ? refine_add(&p->refine, &next, kind, pattern) : "choose a function to refine by";
    free(pattern);
    if (wrong)
        snprintf(p->message, sizeof p->message, "%s", wrong);
    else
        push(p, &next);
}

static void keys(struct profiles *p, struct ui *u)
{
    static const uint16_t by[REFINE_KINDS] = {COMMAND_FOCUS, COMMAND_IGNORE, COMMAND_HIDE,
                                              COMMAND_SHOW};
    if ((u->event.kind != UI_KEY || u->focus) && !u->command)
        return;
    for (int i = 0; i < REFINE_KINDS; i++)
        if (command_given(u, by[i]))
            refine_by(p, i);
    if (command_given(u, COMMAND_TYPE_AFTER))
        choose_type(p, p->model->report.index + 1);
    if (command_given(u, COMMAND_TYPE_BEFORE))
        choose_type(p, p->model->report.index - 1);
    if (command_given(u, COMMAND_INVERT)) {
        struct refine_state next = *refine_now(&p->refine);
        next.inverted = !next.inverted;
        push(p, &next);
    }
    if (command_given(u, COMMAND_REFINE)) {
        p->editing = p->file != NULL;
        u->focus = p->editing ? ui_id("refinement", 0) : 0;
        u->caret = UINT32_MAX;
    }
    bool zoomed = p->page == PROFILES_FLAME && p->flame.undo_count;
    if (!zoomed && command_given(u, COMMAND_UNDO))
        profiles_undo(p, -1);
    if (command_given(u, COMMAND_REDO))
        profiles_undo(p, 1);
    u->again |= u->event.kind == UI_NONE;
}

// --- Pages.

static void draw_page(struct profiles *p, struct ui *u, struct rect r)
{
    unsigned did = 0;
    const char *chosen = NULL;
    switch (p->page) {
    case PROFILES_FLAME:
        flame_frame(&p->flame, u, r);
        p->upward = p->flame.upward;
        chosen = p->flame.chosen ? p->model->stacks.nodes[p->flame.chosen].name : NULL;
        break;
    case PROFILES_SANDWICH:
        sandwich_frame(&p->sandwich, u, r);
        chosen = sandwich_chosen(&p->sandwich);
        break;
    case PROFILES_TOP:
        did = top_frame(&p->top, u, r);
        chosen = did ? top_chosen(&p->top) : NULL;
        p->sort = p->top.table.sort;
        p->reversed = p->top.table.reversed;
        break;
    case PROFILES_TREE:
        did = tree_frame(&p->tree, u, r);
        chosen = did ? tree_chosen(&p->tree) : NULL;
        break;
    default:
        did = source_frame(&p->source, u, r);
        if (did & TABLE_OPENED && source_chosen(&p->source) &&
            profiles_choose(p, source_chosen(&p->source)))
            u->again = true;
    }
    profiles_set_function(p, chosen);
    if (p->page == PROFILES_TOP && did & TABLE_OPENED) {
        refine_by(p, REFINE_FOCUS);
        u->again = true;
    }
}

void profiles_frame(struct profiles *p, struct ui *u, struct rect r)
{
    int line = u->line + 4;
    if (u->event.kind == UI_KEY || u->event.kind == UI_PRESS)
        p->message[0] = 0;
    keys(p, u);
    draw_controls(p, u, rect_cut(rect_make(r.x, r.y, r.w, line), r));
    r.y += line;
    r.h -= line;
    if (r.h > 2 * line) {
        draw_status(p, u, rect_make(r.x, r.y + r.h - line, r.w, line));
        r.h -= line;
    }
    if (r.h > 0 && !p->failed)
        draw_page(p, u, r);
}
