// SPDX-License-Identifier: MIT
//
// See app.h.

#include "viewer/app_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FONT_SIZE = 13, ATLAS_SIZE = 1024, SCALE_STEPS = 10, FRAMES_MOST = 4 };

// --- Fonts.

static int open_one(struct app *a, const char *family, int percent, struct font **out,
                    struct fscope_error *err)
{
    const char *font = a->o.font;
    int size = FONT_SIZE * percent / 100;
    if (font && strcmp(font, "builtin") != 0)
        return font_open(out, &a->atlas, font, 0, size, err);
    if (!font && !font_system(out, &a->atlas, family, size, NULL))
        return 0;
    int rc = font_builtin(out, &a->atlas, percent < 150 ? 1 : percent / 100);
    return rc ? error_set(err, rc, 0, "out of memory") : 0;
}

// The fonts at scale and ratio; those that are there stay if that fails.
static int open_fonts(struct app *a, struct fscope_error *err)
{
    struct font *font = NULL, *mono = NULL;
    int percent = (int)(a->scale * a->ratio);
    percent = percent < APP_SCALE_MIN   ? APP_SCALE_MIN
              : percent > APP_SCALE_MAX ? APP_SCALE_MAX
                                        : percent;
    if (percent == a->font_scale)
        return 0;
    int rc = open_one(a, "sans", percent, &font, err);
    if (!rc)
        rc = open_one(a, "monospace", percent, &mono, err);
    if (rc) {
        font_close(font);
        return rc;
    }
    draw_reset(&a->list, 0, 0); // the last frame has the old ones
    font_close(a->font);
    font_close(a->mono);
    a->ui.font = a->font = font;
    a->ui.mono = a->mono = mono;
    a->font_scale = percent;
    return 0;
}

static void set_scale(struct app *a, int scale)
{
    int was = a->scale;
    a->scale = scale < APP_SCALE_MIN   ? APP_SCALE_MIN
               : scale > APP_SCALE_MAX ? APP_SCALE_MAX
                                       : scale;
    if (open_fonts(a, NULL))
        a->scale = was;
}

void app_set_ratio(struct app *a, double ratio)
{
    double was = a->ratio;
    a->ratio = ratio > 0.25 && ratio < 8 ? ratio : 1;
    if (open_fonts(a, NULL))
        a->ratio = was;
}

int app_init(struct app *a, const struct app_options *o, struct fscope_error *err)
{
    *a = (struct app){.o = *o, .scale = o->scale, .ratio = 1};
    draw_init(&a->list, 0, 0);
    if (o->scale < APP_SCALE_MIN || o->scale > APP_SCALE_MAX)
        return error_set(err, -EINVAL, 0, "the scale goes from %d to %d percent", APP_SCALE_MIN,
                         APP_SCALE_MAX);
    if (atlas_init(&a->atlas, ATLAS_SIZE, ATLAS_SIZE))
        return error_set(err, -ENOMEM, 0, "out of memory");
    theme_init(&a->ui.theme, !o->light);
    return open_fonts(a, err);
}

void app_close(struct app *a)
{
    for (int i = 0; i < a->count; i++)
        document_close(a->documents[i]);
    free(a->wants.copy);
    draw_finish(&a->list);
    font_close(a->font);
    font_close(a->mono);
    atlas_finish(&a->atlas);
    *a = (struct app){0};
}

// --- Documents.

int app_add_pair(struct app *a, const char *path, const char *kernel, struct fscope_error *err)
{
    if (a->count == APP_FILES_MAX)
        return error_set(err, -EMFILE, 0, "%s: %d files are open, close one first", path,
                         APP_FILES_MAX);
    int rc = document_open(&a->documents[a->count], &a->o, path, kernel, err);
    if (!rc)
        a->at = a->count++;
    return rc;
}

int app_add(struct app *a, const char *path, struct fscope_error *err)
{
    return app_add_pair(a, path, NULL, err);
}

static void close_at(struct app *a)
{
    if (!a->count)
        return;
    document_close(a->documents[a->at]);
    a->count--;
    for (int i = a->at; i < a->count; i++)
        a->documents[i] = a->documents[i + 1];
    a->at = a->at < a->count ? a->at : a->count ? a->count - 1 : 0;
}

int app_show(struct app *a, const char *id, struct fscope_error *err)
{
    struct document *d = a->documents[a->at];
    char names[256] = "";
    int rc = -ENOENT;
    if (id)
        rc = document_show(d, view_find(id));
    for (int i = 0; !id && views[i] && rc == -ENOENT; i++)
        rc = document_show(d, i);
    if (rc != -ENOENT)
        return rc ? error_set(err, rc, 0, "%s", *d->error ? d->error : strerror(-rc)) : 0;
    for (int i = 0; views[i]; i++)
        if (views[i]->shows & document_kind(d))
            snprintf(names + strlen(names), sizeof names - strlen(names), " %s", views[i]->id);
    return error_set(err, rc, 0, "a %s has no view %s; it has%s", d->trace ? "trace" : "profile",
                     id ? id : "", names);
}

// --- Commands of the program.

static void file_commands(struct app *a)
{
    struct ui *u = &a->ui;
    int count = a->count;
    if (command_given(u, COMMAND_OPEN)) {
        a->prompt.open = true;
        a->prompt.path[0] = 0;
        u->caret = 0;
    }
    if (count && command_given(u, COMMAND_FILE_AFTER))
        a->at = (a->at + 1) % count;
    if (count && command_given(u, COMMAND_FILE_BEFORE))
        a->at = (a->at + count - 1) % count;
    if (command_given(u, COMMAND_FILE_CLOSE))
        close_at(a);
}

static void show_commands(struct app *a)
{
    struct ui *u = &a->ui;
    if (command_given(u, COMMAND_HELP) || (a->help && command_given(u, COMMAND_CANCEL)))
        a->help = !a->help;
    if (command_given(u, COMMAND_PALETTE)) {
        a->palette = (struct palette){.open = true};
        a->help = false;
        u->caret = 0;
    }
    if (command_given(u, COMMAND_THEME))
        theme_init(&u->theme, !u->theme.dark);
    if (command_given(u, COMMAND_LARGER))
        set_scale(a, a->scale + SCALE_STEPS);
    if (command_given(u, COMMAND_SMALLER))
        set_scale(a, a->scale - SCALE_STEPS);
    if (command_given(u, COMMAND_NORMAL_SIZE))
        set_scale(a, a->o.scale);
    if (command_given(u, COMMAND_FULL_SCREEN))
        a->wants.full_screen = !a->wants.full_screen;
    if (command_given(u, COMMAND_FRAME_TIME))
        a->frame_time = !a->frame_time;
    if (command_given(u, COMMAND_QUIT))
        a->quit = true;
}

static void view_commands(struct app *a)
{
    struct document *d = a->count ? a->documents[a->at] : NULL;
    for (int i = 0; d && views[i]; i++)
        if (views[i]->shows & document_kind(d) && views[i]->digit && i != d->view &&
            command_given(&a->ui, COMMAND_VIEW_1 + views[i]->digit - 1u))
            document_show(d, i);
}

// What is exported or copied is the last frame; one that was only for an event, or is on its way, is not whole.
static void make_whole(struct app *a, int width, int height)
{
    a->ui.at_once = true;
    for (int i = 0; i < FRAMES_MOST && (!i || a->ui.again); i++)
        app_frame(a, width, height, NULL);
    a->ui.at_once = false;
}

// Before the list is emptied: these are about what was shown.
static void last_frame_commands(struct app *a, bool is_whole, int width, int height)
{
    struct ui *u = &a->ui;
    bool saves = command_given(u, COMMAND_EXPORT), copies = command_given(u, COMMAND_COPY);
    if ((saves || copies) && !is_whole)
        make_whole(a, width, height);
    if (saves)
        export_picture(a);
    if (copies)
        export_words(a);
}

// --- A frame.

static void draw_document(struct app *a, struct document *d, struct rect r)
{
    struct ui *u = &a->ui;
    // Before the view: what is chosen in it stays. In a field Esc is the field's.
    if (d && d->loading && document_kind(d) && !u->focus && command_given(u, COMMAND_CANCEL)) {
        document_cancel(d);
        u->again = true;
    }
    if (!d)
        bar_nothing(a, r);
    else if (!document_kind(d))
        bar_loading(a, d, r);
    else
        views[d->view]->frame(d->states[d->view], d, u, r);
    if (d && d->wanted) {
        document_show(d, view_find(d->wanted));
        d->wanted = NULL;
        u->again = true;
    }
}

// What lies over the view, which then sees no event.
static void draw_over(struct app *a, const struct document *d, struct rect r)
{
    struct ui *u = &a->ui;
    unsigned contexts = d ? views[d->view]->contexts : 0, digits = d ? document_digits(d) : 0;
    if (a->palette.open) {
        struct palette_entry more[PALETTE_ENTRIES];
        const struct view *v = d ? views[d->view] : NULL;
        int n = v && v->entries && d->states[d->view]
                    ? v->entries(d->states[d->view], more, PALETTE_ENTRIES)
                    : 0;
        enum command_id given = palette_frame(&a->palette, u, r, contexts, digits, more, n);
        a->next = given ? (uint16_t)given : a->next;
    }
    if (a->prompt.open)
        bar_prompt(a, r);
    if (a->help)
        palette_help(u, r, contexts, digits);
    bar_note(a, r);
}

void app_frame(struct app *a, int width, int height, const struct ui_event *event)
{
    struct ui *u = &a->ui;
    // Without a clock it is the caller who has drawn it again.
    bool is_whole = a->list.width == width && a->list.height == height &&
                    (!u->now_ms || (!u->again && !u->moves));
    for (int i = 0; i < a->count; i++)
        document_poll(a->documents[i], &a->o);
    if (event && (event->kind == UI_KEY || event->kind == UI_PRESS))
        a->note[0] = 0;
    ui_begin(u, &a->list, event);
    u->command = a->next;
    a->next = COMMAND_NONE;
    bool asked = u->event.kind == UI_KEY || u->command;
    last_frame_commands(a, is_whole, width, height);
    draw_reset(&a->list, width, height);
    file_commands(a);
    show_commands(a);
    view_commands(a);
    struct document *d = a->count ? a->documents[a->at] : NULL;
    bool covered = a->help || a->palette.open || a->prompt.open, inside = u->inside;
    struct ui_event kept = {0};
    struct rect r = bar_draw(a, rect_make(0, 0, width, height));
    if (covered) {
        kept = u->event;
        u->event.kind = UI_NONE;
        u->inside = false;
    }
    if (r.h > 0)
        draw_document(a, d, r);
    if (covered) {
        u->event = kept;
        u->inside = inside;
    }
    draw_over(a, a->count ? a->documents[a->at] : NULL, r);
    u->again |= asked || a->next; // keys and commands change what stands above
    ui_end(u);
}
