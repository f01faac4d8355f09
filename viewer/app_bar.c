// SPDX-License-Identifier: MIT
//
// What stands around a view: tabs, progress, what is missing, notes, the path to open.

#include "viewer/app_internal.h"

#include "viewer/ui/font.h"

#include <stdio.h>
#include <string.h>

// --- Tabs.

static void draw_ground(struct ui *u, struct rect r)
{
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), u->theme.border);
}

static const char *short_name(const struct document *d)
{
    const char *slash = strrchr(d->path, '/');
    return slash && slash[1] ? slash + 1 : d->path;
}

static void draw_files(struct app *a, struct rect r)
{
    struct ui *u = &a->ui;
    draw_ground(u, r);
    int x = r.x, most = a->count ? r.w / a->count : r.w;
    for (int i = 0; i < a->count; i++) {
        int w = ui_button_width(u, short_name(a->documents[i]));
        w = w < most ? w : most;
        if (ui_button(u, ui_id("file", (uint64_t)i), rect_make(x, r.y, w, r.h - 1),
                      short_name(a->documents[i]), i == a->at)) {
            a->at = i;
            u->again = true;
        }
        x += w;
    }
}

static int draw_views(struct app *a, struct document *d, struct rect r)
{
    struct ui *u = &a->ui;
    int x = r.x, count = 0;
    for (int i = 0; views[i]; i++)
        count += views[i]->shows & document_kind(d) && views[i]->name;
    for (int i = 0; views[i] && count > 1; i++) { // one alone is no choice
        if (!(views[i]->shows & document_kind(d)) || !views[i]->name)
            continue;
        // A view without a tab is another shape of the one that has its frame.
        bool on =
            i == d->view || (!views[d->view]->name && views[d->view]->frame == views[i]->frame);
        int w = ui_button_width(u, views[i]->name);
        if (ui_button(u, ui_id("tab", (uint64_t)i), rect_make(x, r.y, w, r.h), views[i]->name,
                      on)) {
            document_show(d, i);
            u->again = true;
        }
        x += w;
    }
    return x - r.x;
}

static struct rect below(struct rect r, int height)
{
    height = height < r.h ? height : r.h;
    return rect_make(r.x, r.y + height, r.w, r.h - height);
}

// What of the file is not there, over its view. How high it is.
static int draw_missing(struct app *a, const struct document *d, struct rect r)
{
    struct ui *u = &a->ui;
    const char *text = d->missing;
    if (!*text)
        return 0;
    r = rect_cut(rect_make(r.x, r.y, r.w, u->line + 2), r);
    draw_rect(u->list, r, u->theme.raised);
    draw_rect(u->list, rect_make(r.x, r.y, 4, r.h), u->theme.bad);
    ui_label(u, rect_make(r.x + 2 * u->pad, r.y, r.w - 4 * u->pad, r.h), u->theme.bad, text);
    if (ui_inside(u, r))
        ui_tip(u, text); // where it does not fit
    return r.h;
}

static void draw_progress(struct ui *u, struct rect r, const struct load_progress *p);

// At the right of the bar, while the view has a part of the file. How wide it is.
static int draw_part(struct ui *u, const struct document *d, struct rect in)
{
    struct load_progress p;
    char text[64] = "loading";
    int w = 12 * font_width(u->font, "n", 1);
    if (!d || !d->loading || !document_kind(d))
        return 0;
    load_look(d->loading, &p);
    if (p.part >= 0)
        snprintf(text, sizeof text, "loading %.0f %%", p.part * 100);
    draw_progress(u, rect_make(in.x + in.w - w, in.y + in.h / 3, w, in.h / 3), &p);
    in.w -= w + u->pad;
    ui_label_right(u, in, u->theme.accent, text);
    return w + 2 * u->pad + font_width(u->font, text, SIZE_MAX);
}

struct rect bar_draw(struct app *a, struct rect r)
{
    struct ui *u = &a->ui;
    struct document *d = a->count ? a->documents[a->at] : NULL;
    int height = u->line + 4, tabs = 0;
    if (a->count > 1) {
        draw_files(a, rect_cut(rect_make(r.x, r.y, r.w, height), r));
        r = below(r, height);
    }
    struct rect bar = rect_cut(rect_make(r.x, r.y, r.w, height), r);
    draw_ground(u, bar);
    int w = ui_button_width(u, "? keys");
    if (ui_button(u, ui_id("help", 0), rect_make(r.x + r.w - w, r.y, w, bar.h - 1),
                  a->help ? "close" : "? keys", false)) {
        a->help = !a->help;
        u->again = true;
    }
    if (d)
        tabs = draw_views(a, d, rect_make(r.x, r.y, r.w - w, bar.h - 1));
    struct rect in = {r.x + tabs + 2 * u->pad, r.y, r.w - tabs - w - 4 * u->pad, bar.h - 1};
    in.w -= draw_part(u, d, in);
    if (a->frame_time) {
        char text[96];
        snprintf(text, sizeof text, "%.1f ms (%.1f of it levels of detail) + %.1f ms",
                 a->frame_ms[0], a->lod_ms, a->frame_ms[1]);
        ui_label_right(u, in, u->theme.dim, text);
        in.w -= font_width(u->font, text, SIZE_MAX) + u->pad;
    }
    ui_label(u, in, u->theme.text, d ? d->title : "Fiberscope");
    r = below(r, height);
    return d && r.h > 0 ? below(r, draw_missing(a, d, r)) : r;
}

// --- In place of a view.

static struct rect draw_box(struct ui *u, struct rect r, int width, int height)
{
    width = width < r.w - 2 * u->pad ? width : r.w - 2 * u->pad;
    height = height < r.h ? height : r.h;
    struct rect box = {r.x + (r.w - width) / 2, r.y + (r.h - height) / 3, width, height};
    draw_rect(u->list, box, u->theme.panel);
    draw_frame(u->list, box, 1, u->theme.border);
    return rect_make(box.x + 2 * u->pad, box.y + u->pad, box.w - 4 * u->pad, box.h - 2 * u->pad);
}

static void draw_progress(struct ui *u, struct rect r, const struct load_progress *p)
{
    draw_rect(u->list, r, u->theme.ground);
    if (p->part >= 0)
        draw_rect(u->list, rect_make(r.x, r.y, (int)(p->part * r.w), r.h), u->theme.accent);
    else // nobody knows how much there is
        draw_rect(u->list, r, theme_mix(u->theme.ground, u->theme.accent, 0.35));
    draw_frame(u->list, r, 1, u->theme.border);
}

static void say_progress(char *text, size_t size, const struct load_progress *p)
{
    const double mb = 1e6;
    if (p->part >= 0)
        snprintf(text, size, "%s: %.0f%%, %.1f of %.1f MB", p->what, p->part * 100,
                 (double)p->done_bytes / mb, (double)p->total_bytes / mb);
    else if (p->done_bytes)
        snprintf(text, size, "%s, %.1f MB", p->what, (double)p->done_bytes / mb);
    else
        snprintf(text, size, "%s", p->what);
}

static void close_document(struct app *a, struct document *d)
{
    for (int i = 0; i < a->count; i++)
        if (a->documents[i] == d)
            a->at = i;
    a->next = COMMAND_FILE_CLOSE;
    a->ui.again = true;
}

void bar_loading(struct app *a, struct document *d, struct rect r)
{
    struct ui *u = &a->ui;
    struct load_progress p;
    char text[128];
    bool failed = !d->loading;
    struct rect in = draw_box(u, r, 60 * font_width(u->font, "n", 1), 5 * u->line);
    if (in.w < 1 || in.h < 1)
        return;
    struct rect row = {in.x, in.y, in.w, u->line};
    ui_label(u, row, failed ? u->theme.bad : u->theme.text, failed ? "Not opened" : d->title);
    row.y += u->line;
    if (failed) {
        ui_label(u, row, u->theme.dim, d->error);
        if (ui_inside(u, row))
            ui_tip(u, d->error);
    } else {
        load_look(d->loading, &p);
        say_progress(text, sizeof text, &p);
        ui_label(u, row, u->theme.dim, text);
        draw_progress(u, rect_make(in.x, row.y + u->line + u->line / 3, in.w, u->line / 3), &p);
    }
    row.y += 2 * u->line;
    const char *label = failed ? "close (Esc)" : "cancel (Esc)";
    int w = ui_button_width(u, label);
    row = rect_make(in.x + in.w - w, row.y, w, u->line);
    if (ui_button(u, ui_id("cancel", 0), row, label, true) || command_given(u, COMMAND_CANCEL))
        close_document(a, d);
}

void bar_nothing(struct app *a, struct rect r)
{
    struct ui *u = &a->ui;
    struct rect in = draw_box(u, r, 60 * font_width(u->font, "n", 1), 4 * u->line);
    ui_label(u, rect_make(in.x, in.y, in.w, u->line), u->theme.text, "No file is open.");
    ui_label(u, rect_make(in.x, in.y + u->line, in.w, u->line), u->theme.dim,
             "Ctrl+O opens a trace, a profile or an http:// address; or drop a file here.");
}

// --- Over all.

void bar_prompt(struct app *a, struct rect r)
{
    struct ui *u = &a->ui;
    uint64_t id = ui_id("path", 0);
    u->focus = id;
    if (u->event.kind == UI_KEY &&
        (u->event.key == UI_KEY_ENTER || u->event.key == UI_KEY_ESCAPE)) {
        struct fscope_error err = {0};
        if (u->event.key == UI_KEY_ENTER && a->prompt.path[0] && app_add(a, a->prompt.path, &err))
            snprintf(a->note, sizeof a->note, "%s", err.text);
        a->prompt.open = false;
        u->event.kind = UI_NONE;
        u->focus = 0;
        u->again = true;
        return;
    }
    struct rect in = draw_box(u, r, 80 * font_width(u->font, "n", 1), 2 * u->line + 2 * u->pad);
    ui_field(u, id, rect_make(in.x, in.y, in.w, u->line + u->pad / 2), a->prompt.path,
             sizeof a->prompt.path, "a file or http:// address; Enter opens it");
    u->focus = id;
}

void bar_note(struct app *a, struct rect r)
{
    struct ui *u = &a->ui;
    if (!a->note[0])
        return;
    int w = font_width(u->font, a->note, SIZE_MAX) + 4 * u->pad, h = u->line + u->pad;
    w = w < r.w ? w : r.w;
    struct rect box = {r.x + (r.w - w) / 2, r.y + r.h - 2 * h, w, h};
    draw_rect(u->list, box, u->theme.raised);
    draw_frame(u->list, box, 1, u->theme.accent);
    ui_label(u, rect_make(box.x + 2 * u->pad, box.y, box.w - 4 * u->pad, box.h), u->theme.text,
             a->note);
}
