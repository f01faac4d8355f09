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
    if (!o->font && !font_system(&a->font, &a->atlas, "sans", size, NULL))
        return 0;
    rc = font_builtin(&a->font, &a->atlas, o->scale < 150 ? 1 : o->scale / 100);
    return rc ? error_set(err, rc, 0, "out of memory") : 0;
}

static int open_file(struct document *d, const struct app_options *o, struct fscope_error *err)
{
    const char *slash = strrchr(o->path, '/');
    d->fiber = UINT32_MAX;
    d->sample_type = o->sample_type;
    d->inverted = o->inverted;
    if (is_trace(o->path)) {
        snprintf(d->title, sizeof d->title, "%.280s", slash && slash[1] ? slash + 1 : o->path);
        return trace_model_open(&d->trace, o->path, err);
    }
    int rc = profile_model_open(&d->profile, o->path, o->sample_type, o->inverted, err);
    if (!rc)
        snprintf(d->title, sizeof d->title, "%.280s", d->profile->title);
    return rc;
}

// --- Views of a document.

static unsigned kind_of(const struct document *d)
{
    return d->trace ? VIEW_TRACE : d->profile ? VIEW_PROFILE : 0;
}

// Bits of the digits of the views that a document has.
static unsigned digits_of(const struct document *d)
{
    unsigned digits = 0;
    for (int i = 0; views[i]; i++)
        if (views[i]->shows & kind_of(d) && views[i]->digit)
            digits |= 1u << views[i]->digit;
    return digits;
}

static int show(struct document *d, int view)
{
    if (view < 0 || !(views[view]->shows & kind_of(d)))
        return -ENOENT;
    int rc = d->states[view] ? 0 : views[view]->open(&d->states[view], d);
    if (!rc)
        d->view = view;
    return rc;
}

int app_show(struct app *a, const char *id, struct fscope_error *err)
{
    struct document *d = &a->document;
    char names[256] = "";
    int rc = -ENOENT;
    if (id)
        rc = show(d, view_find(id));
    for (int i = 0; !id && views[i] && rc == -ENOENT; i++)
        rc = show(d, i);
    if (rc != -ENOENT)
        return rc ? error_set(err, rc, 0, "%s", strerror(-rc)) : 0;
    for (int i = 0; views[i]; i++)
        if (views[i]->shows & kind_of(d))
            snprintf(names + strlen(names), sizeof names - strlen(names), " %s", views[i]->id);
    return error_set(err, rc, 0, "a %s has no view %s; it has%s", d->trace ? "trace" : "profile",
                     id ? id : "", names);
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
    a->ui.font = a->ui.mono = a->font;
    theme_init(&a->ui.theme, !o->light);
    return open_file(&a->document, o, err);
}

void app_close(struct app *a)
{
    struct document *d = &a->document;
    for (int i = 0; views[i]; i++)
        views[i]->close(d->states[i]);
    trace_model_free(d->trace);
    profile_model_free(d->profile);
    draw_finish(&a->list);
    font_close(a->font);
    atlas_finish(&a->atlas);
    *a = (struct app){0};
}

// The digit of a view is one of its tab's, else of the view that has its place.
static void draw_tabs(struct app *a, struct rect r, int *width)
{
    struct ui *u = &a->ui;
    struct document *d = &a->document;
    int x = r.x;
    for (int i = 0; views[i]; i++) {
        if (!(views[i]->shows & kind_of(d)) || !views[i]->name)
            continue;
        int w = ui_button_width(u, views[i]->name);
        if (ui_button(u, ui_id("tab", (uint64_t)i), rect_make(x, r.y, w, r.h), views[i]->name,
                      i == d->view)) {
            show(d, i);
            u->again = true;
        }
        x += w;
    }
    *width = x - r.x;
}

static void draw_bar(struct app *a, struct rect r)
{
    struct ui *u = &a->ui;
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), u->theme.border);
    int w = ui_button_width(u, "? keys"), tabs;
    if (ui_button(u, ui_id("help", 0), rect_make(r.x + r.w - w, r.y, w, r.h - 1),
                  a->help ? "close" : "? keys", false)) {
        a->help = !a->help;
        u->again = true;
    }
    draw_tabs(a, rect_make(r.x, r.y, r.w - w, r.h - 1), &tabs);
    ui_label(u, rect_make(r.x + tabs + 2 * u->pad, r.y, r.w - tabs - w - 4 * u->pad, r.h),
             u->theme.text, a->document.title);
}

// What is missing of a damaged file, over its view. How high it is.
static int draw_damage(struct app *a, struct rect r)
{
    char text[512];
    if (!a->document.trace || !a->document.trace->damage[0])
        return 0;
    snprintf(text, sizeof text, "Only what stands before the damage is shown. %s",
             a->document.trace->damage);
    r.h = a->ui.line + 2;
    draw_rect(a->ui.list, r, a->ui.theme.raised);
    draw_rect(a->ui.list, rect_make(r.x, r.y, 4, r.h), a->ui.theme.bad);
    ui_label(&a->ui, rect_make(r.x + 2 * a->ui.pad, r.y, r.w - 4 * a->ui.pad, r.h), a->ui.theme.bad,
             text);
    return r.h;
}

// What the whole program understands, before the view.
static void keys(struct app *a)
{
    struct ui *u = &a->ui;
    struct document *d = &a->document;
    if (command_given(u, COMMAND_HELP) || (a->help && command_given(u, COMMAND_CANCEL))) {
        a->help = !a->help;
        u->again = true;
    }
    if (command_given(u, COMMAND_PALETTE)) {
        a->palette = (struct palette){.open = true};
        u->again = true;
    }
    if (command_given(u, COMMAND_THEME)) {
        theme_init(&u->theme, !u->theme.dark);
        u->again = true;
    }
    if (command_given(u, COMMAND_QUIT))
        a->quit = true;
    for (int i = 0; views[i]; i++)
        if (views[i]->shows & kind_of(d) && views[i]->digit &&
            command_given(u, COMMAND_VIEW_1 + views[i]->digit - 1u)) {
            show(d, i);
            u->again = true;
        }
}

// Palette and help lie over the view, which then sees no event.
static void draw_view(struct app *a, struct rect r, struct rect all)
{
    struct ui *u = &a->ui;
    struct document *d = &a->document;
    struct ui_event event = u->event;
    bool inside = u->inside, covered = a->help || a->palette.open;
    unsigned contexts = views[d->view]->contexts;
    if (covered) {
        u->event.kind = UI_NONE;
        u->inside = false;
    }
    if (r.h > 0)
        views[d->view]->frame(d->states[d->view], d, u, r);
    if (covered) {
        u->event = event;
        u->inside = inside;
    }
    enum command_id given = COMMAND_NONE;
    if (a->palette.open)
        given = palette_frame(&a->palette, u, all, contexts, digits_of(d));
    if (a->help)
        palette_help(u, all, contexts, digits_of(d));
    if (d->wanted) {
        show(d, view_find(d->wanted));
        d->wanted = NULL;
        u->again = true;
    }
    ui_end(u);
    if (given) { // the next frame takes it
        u->command = (uint16_t)given;
        u->again = true;
    }
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
    struct rect all = r;
    if (r.h > 0) {
        int damage = draw_damage(a, r);
        r.y += damage;
        r.h -= damage;
    }
    draw_view(a, r, all);
}
