// SPDX-License-Identifier: MIT
//
// See view_events.h.

#include "view_events.h"

#include "viewer/ui/raster.h"

#include <stdlib.h>
#include <unistd.h>

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION // by clang, where many short runs find more than few long ones
enum { LARGE_MOST = 1, AGAIN_MAX = 1 };
#else
enum { LARGE_MOST = 300, AGAIN_MAX = 4 };
#endif
enum { PIXELS_MAX = 200 * 150 };

void view_leave_folder(void)
{
    char folder[] = "/tmp/fiberscope-fuzz-XXXXXX";
    if (!mkdtemp(folder) || chdir(folder) || rmdir(folder))
        abort();
}

static void pick_text(struct ui_event *ev, const uint8_t *in)
{
    // Letters of commands mostly, so that the palette and searches find things; bytes at times.
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz 0123456789:/?.";
    ev->kind = UI_TEXT;
    ev->text[0] = in[1] & 0x80 ? (char)in[2] : letters[in[2] % (sizeof letters - 1)];
}

static void pick_key(struct ui_event *ev, const uint8_t *in)
{
    static const char keys[] = "wasdfrmghotxvickuqnpzbjl0123456789+-=,.[]/?:'";
    ev->kind = UI_KEY;
    ev->mods = in[1] & 7;
    ev->key = in[2] & 0x80 ? UI_KEY_LEFT + (in[2] & 0x7fu) % (UI_KEY_F1 + 12u - UI_KEY_LEFT)
                           : (unsigned char)keys[in[2] % (sizeof keys - 1)];
}

// One event; false: a new size instead.
static bool pick(struct ui_event *ev, const uint8_t *in, int *width, int *height)
{
    *ev = (struct ui_event){.x = (int)(in[3] * 256 + in[4]) % (*width + 20) - 10,
                            .y = (int)(in[5] * 256 + in[6]) % (*height + 20) - 10};
    bool large;
    switch (in[0] % 10) {
    case 0:
    case 1:
    case 2: pick_key(ev, in); return true;
    case 3: pick_text(ev, in); return true;
    case 4: ev->kind = UI_MOVE; return true;
    case 5:
    case 6:
        ev->kind = in[0] % 10 == 5 ? UI_PRESS : UI_RELEASE;
        ev->button = in[1] % 4; // one more than there are
        ev->clicks = (uint8_t)(in[1] / 4 % 3);
        ev->mods = in[2] & 7;
        return true;
    case 7:
        ev->kind = UI_WHEEL;
        ev->dx = (int8_t)in[1] * 16;
        ev->dy = (int8_t)in[2] * 16;
        ev->mods = in[1] & 7;
        return true;
    case 8: ev->kind = UI_LEAVE; return true;
    default:
        // 8K one time in 256, 1x1 in 32.
        large = in[5] == 1;
        *width = large ? 7680 : in[5] % 32 == 2 ? 1 : 1 + (in[1] * 256 + in[2]) % 400;
        *height = large ? 4320 : in[5] % 32 == 2 ? 1 : 1 + (in[3] * 256 + in[4]) % 300;
        return false;
    }
}

static void draw(struct app *a)
{
    struct raster r;
    if ((int64_t)a->list.width * a->list.height > PIXELS_MAX ||
        raster_init(&r, a->list.width, a->list.height))
        return;
    raster_clear(&r, a->ui.theme.ground);
    raster_draw(&r, &a->list, &a->atlas);
    raster_finish(&r);
}

void view_frames(struct app *a, int width, int height, const struct ui_event *ev)
{
    app_frame(a, width, height, ev);
    for (int k = 0; k < AGAIN_MAX && a->ui.again; k++)
        app_frame(a, width, height, NULL);
    a->quit = false;
}

void view_events(struct app *a, const uint8_t *data, size_t size, size_t most)
{
    int width = 320, height = 200, large = 0;
    for (size_t i = 0; i < most && size >= VIEW_EVENT_BYTES; i++) {
        struct ui_event ev;
        a->ui.now_ms += data[1] & 1 ? data[2] : 0;
        bool has = pick(&ev, data, &width, &height);
        large += width > 4000;
        if (large > LARGE_MOST) // a frame of it costs a hundred small ones
            width = 320, height = 200;
        view_frames(a, width, height, has ? &ev : NULL);
        data += VIEW_EVENT_BYTES;
        size -= VIEW_EVENT_BYTES;
    }
    draw(a);
}
