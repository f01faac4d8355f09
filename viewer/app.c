// SPDX-License-Identifier: MIT
//
// See app.h.

#include "viewer/app.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FONT_SIZE = 13, ATLAS_SIZE = 1024 };

const struct app_key app_keys[] = {
    {"Timeline", "W S, Up Down, + -", "zoom in and out, at the mouse"},
    {"Timeline", "A D, Left Right", "move earlier and later"},
    {"Timeline", "Shift, Ctrl with these", "four times as far, a quarter"},
    {"Timeline", "wheel, Ctrl+wheel, Shift+wheel", "scroll lanes, zoom, move"},
    {"Timeline", "drag, right drag", "choose a range, move"},
    {"Timeline", "click, double click", "choose a span, zoom to it"},
    {"Timeline", "F, 0", "zoom to what is chosen, to everything"},
    {"Timeline", "comma, dot", "the span before, after, on its lane"},
    {"Flame graph", "click, Enter, F", "make a frame as wide as the window"},
    {"Flame graph", "arrows", "walk: heaviest child, parent, neighbours"},
    {"Flame graph", "U, 0", "zoom out to the parent, to everything"},
    {"Flame graph", "I", "root at the top or at the bottom"},
    {"Flame graph", "/", "search; Esc ends it"},
    {"Profiles", "2 3 4 5 6", "flame graph, sandwich, top, call tree, source"},
    {"Profiles", "T, Shift+T", "the next, the last sample type"},
    {"Profiles", "V", "leaves first, roots first"},
    {"Profiles", "R", "write a refinement: focus=, ignore=, hide=, show=REGEX"},
    {"Profiles", "Shift+F I H O", "focus on, ignore, hide, show only the chosen function"},
    {"Profiles", "Ctrl+Z, Ctrl+Y", "take a refinement back, do it again"},
    {"Profiles", "Tab", "sandwich: to the callers, to the callees"},
    {"Tables", "arrows, Home End, Shift+Up Down", "walk; a page"},
    {"Tables", "S, Shift+S", "sort by the next column, the other way round"},
    {"Tables", "Left Right Enter, L", "call tree: close, open; the heaviest path"},
    {"Tables", "Enter", "top: focus on the function; source: go to what was inlined"},
    {"Everywhere", "Ctrl+Z, Backspace", "undo zooming"},
    {"Everywhere", "Esc", "choose nothing"},
    {"Everywhere", "F2", "dark, light"},
    {"Everywhere", "?", "this help"},
    {"Everywhere", "Ctrl+Q", "quit"},
    {NULL, NULL, NULL},
};

static bool is_trace(const char *path)
{
    char begin[5];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? 0 : pread(fd, begin, sizeof begin, 0);
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)sizeof begin && !memcmp(begin, "go 1.", sizeof begin);
}

static int open_font(struct app *a, const struct app_options *o, struct fscope_error *err)
{
    int size = FONT_SIZE * o->scale / 100, rc;
    if (o->font && strcmp(o->font, "builtin") != 0)
        return font_open(&a->font, &a->atlas, o->font, 0, size, err);
    if (!o->font && !font_system(&a->font, &a->atlas, "sans", size, NULL)) {
        if (font_system(&a->mono, &a->atlas, "monospace", size, NULL))
            a->mono = NULL;
        return 0;
    }
    rc = font_builtin(&a->font, &a->atlas, o->scale < 150 ? 1 : o->scale / 100);
    return rc ? error_set(err, rc, 0, "out of memory") : 0;
}

static int open_file(struct app *a, const struct app_options *o, struct fscope_error *err)
{
    int rc;
    const char *slash = strrchr(o->path, '/');
    if (is_trace(o->path)) {
        rc = trace_model_open(&a->trace, o->path, err);
        if (rc)
            return rc;
        timeline_init(&a->timeline, a->trace);
        snprintf(a->title, sizeof a->title, "%.280s", slash && slash[1] ? slash + 1 : o->path);
        return 0;
    }
    struct profile_file *file;
    rc = profile_file_open(&file, o->path, o->diff_base, err);
    if (!rc)
        rc = profiles_init(&a->profiles, file, o->sample_type, o->inverted,
                           o->source_path ? o->source_path : ".", err);
    if (rc)
        return rc;
    a->profiles.upward = a->profiles.flame.upward = o->upward;
    snprintf(a->title, sizeof a->title, "%.280s", a->profiles.model->title);
    return 0;
}

int app_open(struct app *a, const struct app_options *o, struct fscope_error *err)
{
    *a = (struct app){0};
    draw_init(&a->list, 0, 0);
    if (o->scale < APP_SCALE_MIN || o->scale > APP_SCALE_MAX)
        return error_set(err, -EINVAL, 0, "the scale goes from %d to %d percent", APP_SCALE_MIN,
                         APP_SCALE_MAX);
    if (atlas_init(&a->atlas, ATLAS_SIZE, ATLAS_SIZE))
        return error_set(err, -ENOMEM, 0, "out of memory");
    int rc = open_font(a, o, err);
    if (rc)
        return rc;
    a->ui.font = a->font;
    a->ui.mono = a->mono ? a->mono : a->font;
    theme_init(&a->ui.theme, !o->light);
    return open_file(a, o, err);
}

void app_close(struct app *a)
{
    timeline_finish(&a->timeline);
    profiles_finish(&a->profiles);
    trace_model_free(a->trace);
    draw_finish(&a->list);
    font_close(a->font);
    font_close(a->mono);
    atlas_finish(&a->atlas);
    *a = (struct app){0};
}

static void draw_help(struct app *a, struct rect r)
{
    struct ui *u = &a->ui;
    const struct theme *t = &u->theme;
    int wide = 0, keys = 0, rows = 1;
    for (const struct app_key *k = app_keys; k->group; k++) {
        int w = font_width(u->font, k->keys, SIZE_MAX), d = font_width(u->font, k->does, SIZE_MAX);
        keys = w > keys ? w : keys;
        wide = d > wide ? d : wide;
        rows += 1 + (k == app_keys || strcmp(k->group, k[-1].group) != 0);
    }
    int row = font_height(u->font) + 4;
    struct rect box = {0, 0, keys + wide + 10 * u->pad, rows * row + 4 * u->pad};
    box.x = r.x + (r.w > box.w ? (r.w - box.w) / 2 : 0);
    box.y = r.y + (r.h > box.h ? (r.h - box.h) / 2 : 0);
    draw_rect(u->list, r, 0x90000000);
    draw_rect(u->list, box, t->raised);
    draw_frame(u->list, box, 1, t->border);
    int y = box.y + 2 * u->pad;
    for (const struct app_key *k = app_keys; k->group; k++, y += row) {
        if (k == app_keys || strcmp(k->group, k[-1].group) != 0) {
            ui_label(u, rect_make(box.x + 2 * u->pad, y, box.w, row), t->accent, k->group);
            y += row;
        }
        ui_label(u, rect_make(box.x + 4 * u->pad, y, keys, row), t->text, k->keys);
        ui_label(u, rect_make(box.x + 6 * u->pad + keys, y, wide, row), t->dim, k->does);
    }
}

static void draw_bar(struct app *a, struct rect r)
{
    struct ui *u = &a->ui;
    char text[64];
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), u->theme.border);
    snprintf(text, sizeof text, "%s", a->help ? "close" : "? keys");
    int w = ui_button_width(u, "? keys");
    if (ui_button(u, ui_id("help", 0), rect_make(r.x + r.w - w, r.y, w, r.h - 1), text, false)) {
        a->help = !a->help;
        u->again = true;
    }
    ui_label(u, rect_make(r.x + 2 * u->pad, r.y, r.w - w - 4 * u->pad, r.h), u->theme.text,
             a->title);
}

// What is missing of a damaged file, over its view. How high it is.
static int draw_damage(struct app *a, struct rect r)
{
    char text[512];
    if (!a->trace || !a->trace->damage[0])
        return 0;
    snprintf(text, sizeof text, "Only what stands before the damage is shown. %s",
             a->trace->damage);
    r.h = a->ui.line + 2;
    draw_rect(a->ui.list, r, a->ui.theme.raised);
    draw_rect(a->ui.list, rect_make(r.x, r.y, 4, r.h), a->ui.theme.bad);
    ui_label(&a->ui, rect_make(r.x + 2 * a->ui.pad, r.y, r.w - 4 * a->ui.pad, r.h), a->ui.theme.bad,
             text);
    return r.h;
}

static void keys(struct app *a)
{
    struct ui *u = &a->ui;
    if (ui_key(u, '?', 0) || (a->help && ui_key(u, UI_KEY_ESCAPE, 0))) {
        a->help = !a->help;
        u->again = true;
    }
    if (ui_key(u, UI_KEY_F1 + 1, 0)) {
        theme_init(&u->theme, !u->theme.dark);
        u->again = true;
    }
    if (ui_key(u, 'q', UI_CTRL))
        a->quit = true;
}

void app_frame(struct app *a, int width, int height, const struct ui_event *event)
{
    struct ui *u = &a->ui;
    struct rect r = {0, 0, width, height};
    draw_reset(&a->list, width, height);
    ui_begin(u, &a->list, event);
    keys(a);
    struct rect bar = {0, 0, width, u->line + 4};
    draw_bar(a, rect_cut(bar, r));
    r.y += bar.h;
    r.h -= bar.h;
    if (r.h > 0) {
        int damage = draw_damage(a, r);
        r.y += damage;
        r.h -= damage;
    }
    // The help lies over the view, which then sees no event.
    bool inside = u->inside;
    if (a->help) {
        u->event.kind = UI_NONE;
        u->inside = false;
    }
    if (r.h > 0 && a->trace)
        timeline_frame(&a->timeline, u, r);
    else if (r.h > 0 && a->profiles.model)
        profiles_frame(&a->profiles, u, r);
    u->inside = inside;
    if (a->help)
        draw_help(a, rect_make(0, bar.h, width, height - bar.h));
    ui_end(u);
}
