// SPDX-License-Identifier: MIT
//
// The widgets of ui.h.

#include "viewer/ui/ui.h"

#include "viewer/ui/font.h"

#include <string.h>

static int baseline(const struct ui *u, struct rect r)
{
    return r.y + (r.h - font_height(u->font)) / 2 + font_ascent(u->font);
}

void ui_label(struct ui *u, struct rect r, uint32_t color, const char *text)
{
    draw_text_fit(u->list, u->font, r.x, baseline(u, r), r.w, color, text);
}

void ui_name(struct ui *u, struct rect r, uint32_t color, const char *text)
{
    size_t n = strlen(text), fits = font_fit(u->font, text, n, r.w);
    if (fits == n || fits >= 4)
        ui_label(u, r, color, text);
}

void ui_label_right(struct ui *u, struct rect r, uint32_t color, const char *text)
{
    int width = font_width(u->font, text, SIZE_MAX);
    int room = r.w > width ? r.w - width : 0;
    ui_label(u, rect_make(r.x + room, r.y, r.w - room, r.h), color, text);
}

int ui_button_width(const struct ui *u, const char *text)
{
    return font_width(u->font, text, SIZE_MAX) + 3 * u->pad;
}

bool ui_button(struct ui *u, uint64_t id, struct rect r, const char *text, bool on)
{
    unsigned hit = ui_hit(u, id, r);
    const struct theme *t = &u->theme;
    bool shown = hit & (UI_HOT | UI_HELD);
    if (on || shown)
        draw_rect(u->list, r, shown ? t->hover : t->raised);
    if (on)
        draw_rect(u->list, rect_make(r.x, r.y + r.h - 2, r.w, 2), t->accent);
    int width = font_width(u->font, text, SIZE_MAX);
    int x = r.x + (r.w > width ? (r.w - width) / 2 : 0);
    draw_text_fit(u->list, u->font, x, baseline(u, r), r.w, on || shown ? t->text : t->dim, text);
    return hit & UI_CLICKED;
}

int ui_tabs(struct ui *u, uint64_t id, struct rect r, const char *const *names, int count,
            int chosen, int *width)
{
    int x = r.x, now = chosen;
    for (int i = 0; i < count; i++) {
        int w = ui_button_width(u, names[i]);
        if (ui_button(u, id + (uint64_t)i, rect_make(x, r.y, w, r.h), names[i], i == chosen))
            now = i;
        x += w;
    }
    *width = x - r.x;
    return now;
}

struct rect ui_scroll(struct ui *u, uint64_t id, struct rect r, int content, int *offset)
{
    int most = content > r.h ? content - r.h : 0;
    if (u->event.kind == UI_WHEEL && !u->event.mods && u->event.dy && ui_inside(u, r) && most) {
        *offset -= u->event.dy * 3 * u->line / 120;
        u->event.kind = UI_NONE;
    }
    struct rect rest = r;
    if (most && r.h > 0) {
        int wide = u->pad + 2;
        struct rect bar = {r.x + r.w - wide, r.y, wide, r.h};
        int thumb = (int)((int64_t)r.h * r.h / content), least = 2 * u->pad;
        thumb = thumb < least ? least < r.h ? least : r.h : thumb;
        int way = r.h - thumb;
        unsigned hit = ui_hit(u, id, bar);
        if (hit & UI_HELD && way) // the middle of the thumb follows the mouse
            *offset = (int)((int64_t)(u->mouse_y - r.y - thumb / 2) * most / way);
        *offset = *offset < 0 ? 0 : *offset > most ? most : *offset;
        int at = way ? (int)((int64_t)*offset * way / most) : 0;
        draw_rect(u->list, bar, u->theme.panel);
        draw_rect(u->list, rect_make(bar.x + 2, r.y + at, wide - 4, thumb),
                  hit & (UI_HOT | UI_HELD) ? u->theme.dim : u->theme.hover);
        rest.w -= wide;
    }
    *offset = *offset < 0 ? 0 : *offset > most ? most : *offset;
    return rest;
}

static bool is_tail(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

// Takes [from, to) out.
static void cut(char *text, size_t from, size_t to)
{
    memmove(text + from, text + to, strlen(text + to) + 1);
}

static bool edit_key(struct ui *u, char *text)
{
    size_t n = strlen(text), at = u->caret, to = at;
    switch (u->event.key) {
    case UI_KEY_LEFT:
        while (to && is_tail(text[--to]))
            ;
        break;
    case UI_KEY_RIGHT:
        to += to < n;
        while (to < n && is_tail(text[to]))
            to++;
        break;
    case UI_KEY_HOME: to = 0; break;
    case UI_KEY_END: to = n; break;
    case UI_KEY_BACKSPACE:
        while (to && is_tail(text[--to]))
            ;
        cut(text, to, at);
        break;
    case UI_KEY_DELETE: {
        size_t end = at + (at < n);
        while (end < n && is_tail(text[end]))
            end++;
        cut(text, at, end);
        break;
    }
    case UI_KEY_ENTER:
    case UI_KEY_ESCAPE: u->focus = 0; return false; // the caller's
    default: break;
    }
    u->caret = (uint32_t)to;
    u->event.kind = UI_NONE;
    return strlen(text) != n;
}

static bool edit(struct ui *u, char *text, size_t size)
{
    size_t n = strlen(text);
    u->caret = u->caret > n ? (uint32_t)n : u->caret;
    if (u->event.kind == UI_KEY)
        return edit_key(u, text);
    if (u->event.kind != UI_TEXT)
        return false;
    u->event.kind = UI_NONE;
    size_t more = strnlen(u->event.text, sizeof u->event.text);
    if (!more || n + more >= size)
        return false;
    memmove(text + u->caret + more, text + u->caret, n - u->caret + 1);
    memcpy(text + u->caret, u->event.text, more);
    u->caret += (uint32_t)more;
    return true;
}

bool ui_field(struct ui *u, uint64_t id, struct rect r, char *text, size_t size, const char *hint)
{
    const struct theme *t = &u->theme;
    if (ui_hit(u, id, r) & UI_PRESSED) {
        u->focus = id;
        u->caret = UINT32_MAX;
    }
    bool has = u->focus == id, changed = has && edit(u, text, size);
    has = u->focus == id;
    draw_rect(u->list, r, t->ground);
    draw_frame(u->list, r, 1, has ? t->accent : t->border);
    struct rect in = {r.x + u->pad, r.y, r.w - 2 * u->pad, r.h};
    draw_clip_push(u->list, in);
    int caret = has ? font_width(u->font, text, u->caret) : 0;
    int shift = caret > in.w - 2 ? caret - in.w + 2 : 0; // the caret stays in sight
    if (!*text)
        ui_label(u, in, t->dim, hint);
    else
        draw_text(u->list, u->font, in.x - shift, baseline(u, r), t->text, text, SIZE_MAX);
    if (has)
        draw_rect(u->list, rect_make(in.x + caret - shift, r.y + 3, 1, r.h - 6), t->accent);
    draw_clip_pop(u->list);
    return changed;
}
