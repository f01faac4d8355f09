// SPDX-License-Identifier: MIT
//
// The program without its window: a document, its views, the bar above, help and palette over all.
//
// app_frame makes a frame of the state and an event; a window shows it, --png and --svg write it.
// Nothing here needs a display.

#ifndef FIBERSCOPE_VIEWER_APP_H
#define FIBERSCOPE_VIEWER_APP_H

#include "viewer/document.h"
#include "viewer/palette.h"
#include "viewer/ui/font.h"

struct app_options {
    const char *path;
    const char *font;        // a file; "builtin"; NULL: the system's
    const char *sample_type; // of a profile; NULL: its own choice
    int scale;               // percent
    bool light, inverted;
};

struct app {
    struct ui ui;
    struct atlas atlas;
    struct font *font;
    struct draw_list list;
    struct document document;
    struct palette palette;
    bool help, quit;
};

enum { APP_SCALE_MIN = 50, APP_SCALE_MAX = 400 };

// Reads the file and the font; app_show comes before the first frame. 0 or -errno with err;
// app_close in any case.
int app_open(struct app *a, const struct app_options *o, struct fscope_error *err);
void app_close(struct app *a);

// A frame of that size into a->list. event may be NULL. While a->ui.again, call it once more,
// without an event: what was drawn is how it was before.
void app_frame(struct app *a, int width, int height, const struct ui_event *event);

// Shows that view of the document; NULL: the first that it has. 0; -ENOENT with err: it has no such view.
int app_show(struct app *a, const char *id, struct fscope_error *err);

#endif
