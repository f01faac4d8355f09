// SPDX-License-Identifier: MIT
//
// Frames, events and who gets them. See ui.h.

#include "viewer/ui/ui.h"

#include "viewer/ui/font.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

int64_t ui_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void ui_begin(struct ui *u, struct draw_list *list, const struct ui_event *event)
{
    u->list = list;
    u->event = event ? *event : (struct ui_event){0};
    u->line = font_height(u->font) * 3 / 2;
    u->pad = font_height(u->font) / 2;
    u->tip[0] = 0;
    u->again = u->moves = false;
    switch (u->event.kind) {
    case UI_PRESS:
    case UI_MOVE:
    case UI_RELEASE:
    case UI_WHEEL:
        u->mouse_x = u->event.x;
        u->mouse_y = u->event.y;
        u->inside = true;
        break;
    case UI_LEAVE: u->inside = false; break;
    default: break;
    }
    if (u->event.kind == UI_PRESS) {
        u->press_x = u->event.x;
        u->press_y = u->event.y;
    }
    if (u->event.kind == UI_PRESS && u->event.button < UI_BUTTONS)
        u->down |= (uint8_t)(1u << u->event.button);
    if (u->event.kind == UI_RELEASE && u->event.button < UI_BUTTONS)
        u->down &= (uint8_t) ~(1u << u->event.button);
}

static void draw_tip(struct ui *u)
{
    struct draw_list *d = u->list;
    int width = 0, rows = 0, height = font_height(u->font);
    for (const char *p = u->tip; *p; rows++) {
        size_t n = strcspn(p, "\n");
        int w = font_width(u->font, p, n);
        width = w > width ? w : width;
        p += n + (p[n] == '\n');
    }
    int most = d->width - 4 * u->pad;
    width = width < most ? width : most;
    struct rect r = {u->mouse_x + 14, u->mouse_y + 18, width + 2 * u->pad,
                     rows * height + 2 * u->pad};
    // Beside the mouse, not under it, where the window ends.
    if (r.x + r.w > d->width - u->pad)
        r.x = d->width - u->pad - r.w;
    if (r.y + r.h > d->height - u->pad)
        r.y = u->mouse_y - 8 - r.h;
    r.x = r.x < 0 ? 0 : r.x;
    r.y = r.y < 0 ? 0 : r.y;
    draw_rect(d, rect_make(r.x + 2, r.y + 3, r.w, r.h), 0x40000000);
    draw_rect(d, r, u->theme.raised);
    draw_frame(d, r, 1, u->theme.border);
    int y = r.y + u->pad + font_ascent(u->font), row = 0;
    for (char *p = u->tip; *p; y += height, row++) {
        size_t n = strcspn(p, "\n");
        bool more = p[n] == '\n';
        p[n] = 0;
        draw_text_fit(d, u->font, r.x + u->pad, y, width, row ? u->theme.dim : u->theme.text, p);
        p += n + more;
    }
}

void ui_end(struct ui *u)
{
    if (u->event.kind == UI_PRESS && u->event.button == UI_LEFT && !u->active)
        u->focus = 0; // a click on nothing
    if (!(u->down & 1u << UI_LEFT))
        u->active = 0;
    u->command = 0; // nobody knows it
    if (u->tip[0] && u->inside)
        draw_tip(u);
}

uint64_t ui_id(const char *name, uint64_t number)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    h = (h ^ number) * 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
    return h ? h : 1; // 0 is nobody
}

bool ui_inside(const struct ui *u, struct rect r)
{
    return u->inside && rect_has(rect_cut(r, draw_clip(u->list)), u->mouse_x, u->mouse_y);
}

unsigned ui_hit(struct ui *u, uint64_t id, struct rect r)
{
    unsigned what = 0;
    bool in = ui_inside(u, r);
    if (in && (!u->active || u->active == id))
        what |= UI_HOT;
    if (in && u->event.kind == UI_PRESS && u->event.button == UI_LEFT && !u->active) {
        what |= UI_PRESSED | (u->event.clicks > 1 ? UI_DOUBLE : 0);
        u->active = id;
        u->focus = 0;
        u->event.kind = UI_NONE;
    }
    if (u->active != id)
        return what;
    if (u->event.kind == UI_RELEASE && u->event.button == UI_LEFT) {
        what |= in ? UI_CLICKED : 0;
        u->event.kind = UI_NONE;
        u->active = 0;
    } else {
        what |= UI_HELD;
    }
    return what;
}

bool ui_key(struct ui *u, uint32_t key, unsigned mods)
{
    unsigned had = u->event.mods;
    if (u->event.kind != UI_KEY || u->focus || u->event.key != key)
        return false;
    bool letter = (key >= 'a' && key <= 'z') || key > 0x10ffff;
    if (!letter) // '?' or '+' need it on some keyboards, not on others
        had &= ~(unsigned)UI_SHIFT, mods &= ~(unsigned)UI_SHIFT;
    if (had != mods)
        return false;
    u->event.kind = UI_NONE;
    return true;
}

void ui_tip(struct ui *u, const char *text)
{
    snprintf(u->tip, sizeof u->tip, "%s", text);
}
