// SPDX-License-Identifier: MIT
//
// A view on a stage without a window: frames, events, and what is drawn as text.

#ifndef FIBERSCOPE_TESTS_UNIT_SHOWN_H
#define FIBERSCOPE_TESTS_UNIT_SHOWN_H

#include "viewer/ui/font.h"
#include "viewer/ui/raster.h"
#include "viewer/ui/ui.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct shown {
    struct atlas atlas;
    struct font *font;
    struct draw_list list;
    struct ui ui;
    char *text;
    int width, height;
    void (*frame)(void *view, struct ui *u, struct rect r);
    void *view;
    uint64_t seed;
};

static inline void shown_init(struct shown *s, int width, int height)
{
    *s = (struct shown){.width = width, .height = height, .seed = 1};
    draw_init(&s->list, width, height);
    assert_int_equal(atlas_init(&s->atlas, 512, 512), 0);
    assert_int_equal(font_builtin(&s->font, &s->atlas, 1), 0);
    s->ui.font = s->ui.mono = s->font;
    theme_init(&s->ui.theme, true);
}

static inline void shown_finish(struct shown *s)
{
    font_close(s->font);
    atlas_finish(&s->atlas);
    draw_finish(&s->list);
    free(s->text);
}

static inline void shown_once(struct shown *s, const struct ui_event *ev)
{
    draw_reset(&s->list, s->width, s->height);
    ui_begin(&s->ui, &s->list, ev);
    s->frame(s->view, &s->ui, rect_make(0, 0, s->width, s->height));
    ui_end(&s->ui);
    assert_false(s->list.failed);
    assert_int_equal(s->list.depth, 0); // clips are balanced
}

// An event, then the frame that shows what became of it.
static inline void shown_event(struct shown *s, struct ui_event ev)
{
    shown_once(s, &ev);
    shown_once(s, NULL);
}

static inline void shown_key(struct shown *s, uint32_t key, unsigned mods)
{
    shown_event(s, (struct ui_event){.kind = UI_KEY, .key = key, .mods = (uint8_t)mods});
}

static inline void shown_mouse(struct shown *s, enum ui_event_kind kind, int x, int y)
{
    shown_event(s, (struct ui_event){.kind = (uint8_t)kind, .x = x, .y = y, .clicks = 1});
}

static inline void shown_click(struct shown *s, int x, int y)
{
    shown_mouse(s, UI_PRESS, x, y);
    shown_mouse(s, UI_RELEASE, x, y);
}

static inline const char *shown_text(struct shown *s)
{
    size_t n;
    free(s->text);
    s->text = NULL;
    FILE *out = open_memstream(&s->text, &n);
    assert_non_null(out);
    draw_dump(&s->list, out);
    fclose(out);
    return s->text;
}

// Whether this is drawn as text, all of it.
static inline bool shown_says(const struct shown *s, const char *text)
{
    for (uint32_t i = 0; i < s->list.count; i++)
        if (s->list.items[i].op == DRAW_TEXT && !strcmp(s->list.items[i].text, text))
            return true;
    return false;
}

// The last item of the colour; NULL if there is none.
static inline const struct draw_item *shown_color(const struct shown *s, uint32_t color)
{
    for (uint32_t i = s->list.count; i-- > 0;)
        if (s->list.items[i].op == DRAW_RECT && s->list.items[i].color == color)
            return &s->list.items[i];
    return NULL;
}

static inline uint32_t shown_draw(struct shown *s, uint32_t n)
{
    s->seed = s->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(s->seed >> 33) % n;
}

// Any event at any place, in windows of any size, drawn now and then.
static inline void shown_fuzz(struct shown *s, int events, void (*check)(struct shown *))
{
    static const char keys[] = "wasdf0,.+-/iuz?xq1234567vjk[]mcor'nyt";
    for (int i = 0; i < events; i++) {
        struct ui_event ev = {.kind = (uint8_t)shown_draw(s, UI_LEAVE + 1),
                              .button = (uint8_t)shown_draw(s, 4),
                              .clicks = (uint8_t)(1 + shown_draw(s, 2)),
                              .mods = (uint8_t)(shown_draw(s, 3) ? 0 : shown_draw(s, 8)),
                              .x = (int)shown_draw(s, (uint32_t)s->width + 40) - 20,
                              .y = (int)shown_draw(s, (uint32_t)s->height + 40) - 20,
                              .dx = (int)shown_draw(s, 500) - 250,
                              .dy = (int)shown_draw(s, 500) - 250};
        ev.key = shown_draw(s, 2) ? (uint32_t)keys[shown_draw(s, sizeof keys - 1)]
                                  : UI_KEY_LEFT + shown_draw(s, 14);
        ev.text[0] = (char)shown_draw(s, 256);
        ev.text[1] = (char)shown_draw(s, 256);
        if (!shown_draw(s, 50)) {
            s->width = 1 + (int)shown_draw(s, shown_draw(s, 4) ? 1500 : 8192);
            s->height = 1 + (int)shown_draw(s, shown_draw(s, 4) ? 900 : 60);
        }
        shown_once(s, &ev);
        check(s);
        if (i % 64 == 0 && s->width * s->height < 600000) {
            struct raster r;
            assert_int_equal(raster_init(&r, s->width, s->height), 0);
            raster_draw(&r, &s->list, &s->atlas);
            raster_finish(&r);
        }
    }
}

#endif
