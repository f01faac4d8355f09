// SPDX-License-Identifier: MIT
//
// See press.h.

#include "viewer/press.h"

#include "viewer/bindings.h"

#include <stdio.h>
#include <string.h>

enum { FRAMES_MAX = 16 }; // until nothing changes any more

static void settle(struct app *a, int width, int height, const struct ui_event *event)
{
    app_frame(a, width, height, event);
    for (int i = 0; i < FRAMES_MAX && a->ui.again; i++)
        app_frame(a, width, height, NULL);
}

static void give_key(struct app *a, const struct command_key *k, int width, int height)
{
    struct ui_event e = {.kind = UI_KEY, .key = k->code, .mods = (uint8_t)k->mods};
    if (a->ui.focus && k->code < 0x80 && !(k->mods & (UI_CTRL | UI_ALT))) {
        e.kind = UI_TEXT;
        e.text[0] = (char)k->code;
    }
    settle(a, width, height, &e);
}

static void give_drag(struct app *a, const int at[4], int width, int height)
{
    const struct ui_event events[] = {{.kind = UI_MOVE, .x = at[0], .y = at[1]},
                                      {.kind = UI_PRESS, .clicks = 1, .x = at[0], .y = at[1]},
                                      {.kind = UI_MOVE, .x = at[2], .y = at[3]},
                                      {.kind = UI_RELEASE, .x = at[2], .y = at[3]},
                                      {.kind = UI_LEAVE}};
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        settle(a, width, height, &events[i]);
}

static bool give(struct app *a, const char *word, int width, int height)
{
    struct command_key k;
    int at[4];
    char more;
    int n = sscanf(word, "%d,%d-%d,%d%c", &at[0], &at[1], &at[2], &at[3], &more);
    if (n == 2 && strspn(word, "0123456789,") == strlen(word)) {
        at[2] = at[0];
        at[3] = at[1];
        n = 4;
    }
    if (n == 4)
        give_drag(a, at, width, height);
    else if (command_key_read(word, &k))
        give_key(a, &k, width, height);
    else
        return false;
    return true;
}

const char *press(struct app *a, const char *words, int width, int height)
{
    settle(a, width, height, NULL);
    for (const char *p = words + strspn(words, " "); *p; p += strspn(p, " ")) {
        char word[64];
        size_t n = strcspn(p, " ");
        snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), p);
        if (!give(a, word, width, height))
            return p;
        p += n;
    }
    return NULL;
}
