// SPDX-License-Identifier: MIT
//
// See window.h. Where there is a driver, it draws (geometry.h); else the CPU back end draws into a
// texture: the same pixels as in a picture.

#include "viewer/window.h"

#include "viewer/geometry.h"
#include "viewer/ui/raster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <SDL.h>

struct window {
    SDL_Window *window;
    SDL_Renderer *renderer;
    SDL_Texture *texture;
    struct raster raster;     // where the processor draws
    struct geometry geometry; // else
    float ratio;              // of pixels to the mouse's units
    uint32_t chord;           // the last key, if Ctrl or Alt was held with it; else 0
    uint8_t mods;             // that were held with it
    uint8_t held;             // that are held, as of the event at hand
    bool software, full_screen;
    char title[320];
};

enum { AGAIN_MAX = 4, MOVE_MS = 4 };

static uint32_t key_of(SDL_Keycode key)
{
    static const struct {
        SDL_Keycode from;
        uint32_t to;
    } keys[] = {{SDLK_LEFT, UI_KEY_LEFT},     {SDLK_RIGHT, UI_KEY_RIGHT},
                {SDLK_UP, UI_KEY_UP},         {SDLK_DOWN, UI_KEY_DOWN},
                {SDLK_HOME, UI_KEY_HOME},     {SDLK_END, UI_KEY_END},
                {SDLK_RETURN, UI_KEY_ENTER},  {SDLK_KP_ENTER, UI_KEY_ENTER},
                {SDLK_ESCAPE, UI_KEY_ESCAPE}, {SDLK_BACKSPACE, UI_KEY_BACKSPACE},
                {SDLK_DELETE, UI_KEY_DELETE}, {SDLK_TAB, UI_KEY_TAB},
                {SDLK_KP_PLUS, '+'},          {SDLK_KP_MINUS, '-'}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (keys[i].from == key)
            return keys[i].to;
    if (key >= SDLK_F1 && key <= SDLK_F12)
        return UI_KEY_F1 + (uint32_t)(key - SDLK_F1);
    return key > ' ' && key < 127 ? (uint32_t)key : 0;
}

static uint8_t mods_of(unsigned mod)
{
    return (uint8_t)((mod & KMOD_SHIFT ? UI_SHIFT : 0) | (mod & KMOD_CTRL ? UI_CTRL : 0) |
                     (mod & KMOD_ALT ? UI_ALT : 0));
}

static void place(const struct window *w, struct ui_event *ev, int x, int y)
{
    ev->x = (int)((float)x * w->ratio);
    ev->y = (int)((float)y * w->ratio);
}

static void button_of(const struct window *w, struct ui_event *ev, const SDL_MouseButtonEvent *b)
{
    bool press = b->type == SDL_MOUSEBUTTONDOWN;
    if (b->button < SDL_BUTTON_LEFT || b->button > SDL_BUTTON_RIGHT)
        return;
    ev->kind = press ? UI_PRESS : UI_RELEASE;
    ev->button = (uint8_t)(b->button - SDL_BUTTON_LEFT); // left, middle, right: our order
    ev->clicks = b->clicks;
    place(w, ev, b->x, b->y);
}

static void wheel_of(struct ui_event *ev, const SDL_MouseWheelEvent *wheel)
{
    float sign = wheel->direction == SDL_MOUSEWHEEL_FLIPPED ? -1 : 1;
    ev->kind = UI_WHEEL;
    ev->dx = (int)(wheel->preciseX * sign * 120);
    ev->dy = (int)(wheel->preciseY * sign * 120);
}

// A character key is in the text event, whatever the keyboard's layout; with Ctrl there is none.
static void key_event(struct window *w, struct ui_event *ev, const SDL_KeyboardEvent *k)
{
    uint32_t key = key_of(k->keysym.sym);
    w->mods = ev->mods;
    w->chord = ev->mods & (UI_CTRL | UI_ALT) ? key : 0;
    bool typed = key && key < UI_KEY_LEFT && !(ev->mods & (UI_CTRL | UI_ALT));
    if (!key || typed)
        return;
    ev->kind = UI_KEY;
    ev->key = key;
}

// As text for a field that has the focus, else as a key. Alt+6 is followed by the text "6", too,
// which is no second key; what AltGr makes of a key is another character.
static void text_event(const struct window *w, const struct ui *u, struct ui_event *ev,
                       const char *text)
{
    if (w->chord && (uint32_t)SDL_tolower(text[0]) == w->chord && !text[1])
        return;
    ev->mods = w->mods & UI_SHIFT; // then, not now
    if (u->focus) {
        ev->kind = UI_TEXT;
        SDL_strlcpy(ev->text, text, sizeof ev->text);
    } else if (text[0] > ' ' && !text[1]) {
        ev->kind = UI_KEY;
        ev->key = (uint32_t)SDL_tolower(text[0]);
    }
}

static struct ui_event translate(struct window *w, struct app *a, const SDL_Event *in)
{
    // SDL_GetModState is of the last event that came, and this one may have come before it.
    if (in->type == SDL_KEYDOWN || in->type == SDL_KEYUP)
        w->held = mods_of(in->key.keysym.mod);
    struct ui_event ev = {.mods = w->held, .x = a->ui.mouse_x, .y = a->ui.mouse_y};
    switch (in->type) {
    case SDL_QUIT: a->quit = true; break;
    case SDL_MOUSEMOTION:
        ev.kind = UI_MOVE;
        place(w, &ev, in->motion.x, in->motion.y);
        break;
    case SDL_MOUSEBUTTONDOWN:
    case SDL_MOUSEBUTTONUP: button_of(w, &ev, &in->button); break;
    case SDL_MOUSEWHEEL: wheel_of(&ev, &in->wheel); break;
    case SDL_KEYDOWN: key_event(w, &ev, &in->key); break;
    case SDL_TEXTINPUT: text_event(w, &a->ui, &ev, in->text.text); break;
    case SDL_WINDOWEVENT:
        if (in->window.event == SDL_WINDOWEVENT_LEAVE)
            ev.kind = UI_LEAVE;
        else if (in->window.event == SDL_WINDOWEVENT_FOCUS_GAINED)
            w->held = mods_of(SDL_GetModState());
        break;
    default: break;
    }
    return ev;
}

// --- Frames.

// The picture as large as the window; -errno if there is no memory for it.
static int resize(struct window *w, int width, int height)
{
    if (w->texture && w->raster.width == width && w->raster.height == height)
        return 0;
    raster_finish(&w->raster);
    if (w->texture)
        SDL_DestroyTexture(w->texture);
    w->texture = SDL_CreateTexture(w->renderer, SDL_PIXELFORMAT_ARGB8888,
                                   SDL_TEXTUREACCESS_STREAMING, width, height);
    return w->texture ? raster_init(&w->raster, width, height) : -ENOMEM;
}

static int draw_by_processor(struct window *w, struct app *a)
{
    int rc = resize(w, a->list.width, a->list.height);
    if (rc)
        return rc;
    raster_frame(&w->raster, &a->list, &a->atlas, a->ui.theme.ground);
    int pitch = (int)(w->raster.stride * sizeof *w->raster.pixels);
    if (SDL_UpdateTexture(w->texture, NULL, w->raster.pixels, pitch) ||
        SDL_RenderCopy(w->renderer, w->texture, NULL, NULL))
        return -EIO;
    return 0;
}

static double now_ms(void)
{
    return (double)SDL_GetPerformanceCounter() * 1e3 / (double)SDL_GetPerformanceFrequency();
}

static int show(struct window *w, struct app *a)
{
    double begin = now_ms();
    int rc = w->software ? draw_by_processor(w, a)
                         : geometry_draw(&w->geometry, &a->list, &a->atlas, a->ui.theme.ground);
    a->frame_ms[1] = now_ms() - begin;
    if (!rc)
        SDL_RenderPresent(w->renderer);
    return rc;
}

// Its size in pixels and the ratio to the mouse's units. False: it is minimized, nothing is shown.
static bool size_of(struct window *w, struct app *a, int *width, int *height)
{
    int units, other;
    if (SDL_GetWindowFlags(w->window) & (SDL_WINDOW_MINIMIZED | SDL_WINDOW_HIDDEN) ||
        SDL_GetRendererOutputSize(w->renderer, width, height))
        return false;
    SDL_GetWindowSize(w->window, &units, &other);
    w->ratio = units > 0 ? (float)*width / (float)units : 1;
    app_set_ratio(a, (double)w->ratio);
    *width = SDL_clamp(*width, 1, RASTER_SIZE_MAX);
    *height = SDL_clamp(*height, 1, RASTER_SIZE_MAX);
    return true;
}

// What only a window can do.
static void do_wants(struct window *w, struct app *a)
{
    const char *title = a->count ? a->documents[a->at]->title : "";
    char text[320];
    if (a->wants.copy) {
        SDL_SetClipboardText(a->wants.copy);
        free(a->wants.copy);
        a->wants.copy = NULL;
    }
    if (a->wants.full_screen != w->full_screen) {
        w->full_screen = a->wants.full_screen;
        SDL_SetWindowFullscreen(w->window, w->full_screen ? SDL_WINDOW_FULLSCREEN_DESKTOP : 0);
    }
    SDL_snprintf(text, sizeof text, "%s%sFiberscope", title, *title ? " - " : "");
    if (SDL_strcmp(text, w->title) != 0) {
        SDL_SetWindowTitle(w->window, text);
        SDL_strlcpy(w->title, text, sizeof w->title);
    }
}

static void frame(struct window *w, struct app *a, const SDL_Event *in)
{
    int width, height;
    struct ui_event ev = {0};
    a->ui.now_ms = (int64_t)SDL_GetTicks64() + 1; // 0 stands for no clock
    if (in && in->type == SDL_DROPFILE) {
        struct fscope_error err = {0};
        if (app_add(a, in->drop.file, &err))
            SDL_strlcpy(a->note, err.text, sizeof a->note);
        SDL_free(in->drop.file);
    }
    if (in)
        ev = translate(w, a, in);
    if (size_of(w, a, &width, &height))
        app_frame(a, width, height, in ? &ev : NULL);
    else
        a->ui.again = a->ui.moves = false;
}

// Waits for the first event, and no longer than a picture takes while something moves. All that has
// happened meanwhile becomes one picture.
static int loop(struct window *w, struct app *a)
{
    SDL_Event in;
    int rc = 0, width, height;
    bool has = false;
    while (!rc && !a->quit) {
        double begin = now_ms();
        int64_t lod_ns = a->ui.lod_ns;
        if (!has)
            frame(w, a, NULL);
        while (has && !a->quit) {
            frame(w, a, &in);
            has = SDL_PollEvent(&in);
        }
        for (int i = 0; i < AGAIN_MAX && a->ui.again; i++)
            frame(w, a, NULL);
        a->frame_ms[0] = now_ms() - begin;
        a->lod_ms = (double)(a->ui.lod_ns - lod_ns) / 1e6;
        do_wants(w, a);
        if (!a->quit && size_of(w, a, &width, &height))
            rc = show(w, a);
        if (rc || a->quit)
            break;
        has = a->ui.moves ? SDL_WaitEventTimeout(&in, MOVE_MS) : SDL_WaitEvent(&in);
        if (!has && !a->ui.moves)
            rc = -EIO;
    }
    return rc;
}

// --- The window.

static void wake(void *context)
{
    SDL_Event ev = {.type = *(const Uint32 *)context};
    SDL_PushEvent(&ev); // from any thread
}

static int open_window(struct window *w, const struct window_options *o)
{
    w->window =
        SDL_CreateWindow("Fiberscope", SDL_WINDOWPOS_UNDEFINED, SDL_WINDOWPOS_UNDEFINED, o->width,
                         o->height, SDL_WINDOW_RESIZABLE | SDL_WINDOW_ALLOW_HIGHDPI);
    if (!w->window)
        return -EIO;
    SDL_SetWindowMinimumSize(w->window, 1, 1);
    if (!o->software)
        w->renderer =
            SDL_CreateRenderer(w->window, -1, SDL_RENDERER_ACCELERATED | SDL_RENDERER_PRESENTVSYNC);
    if (!w->renderer)
        w->renderer = SDL_CreateRenderer(w->window, -1, SDL_RENDERER_SOFTWARE);
    SDL_RendererInfo info;
    if (!w->renderer || SDL_GetRendererInfo(w->renderer, &info))
        return -EIO;
    // SDL's own software renderer is slower than ours, by far for letters.
    w->software = o->software || !(info.flags & SDL_RENDERER_ACCELERATED);
    geometry_init(&w->geometry, w->renderer);
    return 0;
}

static void close_window(struct window *w)
{
    geometry_finish(&w->geometry);
    raster_finish(&w->raster);
    if (w->texture)
        SDL_DestroyTexture(w->texture);
    if (w->renderer)
        SDL_DestroyRenderer(w->renderer);
    if (w->window)
        SDL_DestroyWindow(w->window);
}

// Files that cannot be opened are said in the window, beside those that can.
static int open_files(struct app *a, const struct app_options *o, char *const *files, int count,
                      struct fscope_error *err)
{
    int rc = app_init(a, o, err);
    rc = rc ? rc : app_add_all(a, files, count, err);
    a->at = 0;
    return rc;
}

int window_run(struct app *a, const struct app_options *o, char *const *files, int count,
               const struct window_options *options, struct fscope_error *err)
{
    struct window w = {0};
    struct app_options with = *o;
    // Else SDL takes a driver that shows nothing. Who has a console says so by SDL_VIDEODRIVER.
    if (!getenv("DISPLAY") && !getenv("WAYLAND_DISPLAY") && !getenv("SDL_VIDEODRIVER"))
        return error_set(err, -ENODEV, 0,
                         "no display here; --png FILE and --svg FILE draw without one, and "
                         "`fiberscope report -o x.html FILE` writes a page for a browser");
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1"); // Ctrl+C ends it at once
    if (SDL_Init(SDL_INIT_VIDEO))
        return error_set(err, -ENODEV, 0,
                         "no display (%s); --png FILE and --svg FILE draw without one, and "
                         "`fiberscope report -o x.html FILE` writes a page for a browser",
                         SDL_GetError());
    static Uint32 woken; // threads may use it after this function's end
    woken = SDL_RegisterEvents(1);
    with.wake = wake;
    with.context = &woken;
    int rc = open_files(a, &with, files, count, err);
    if (!rc) {
        rc = open_window(&w, options);
        if (!rc) {
            SDL_StartTextInput();
            rc = loop(&w, a);
        }
        if (rc)
            error_set(err, rc, 0, "the window: %s",
                      rc == -ENOMEM ? "out of memory" : SDL_GetError());
    }
    app_close(a); // no thread wakes what is gone
    close_window(&w);
    SDL_Quit();
    return rc;
}
