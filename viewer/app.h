// SPDX-License-Identifier: MIT
//
// The program without its window: one file, its view, the bar above, the help over all.
//
// app_frame makes a frame of the state and an event; a window shows it, --png and --svg write it.
// Nothing here needs a display.

#ifndef FIBERSCOPE_VIEWER_APP_H
#define FIBERSCOPE_VIEWER_APP_H

#include "viewer/ui/font.h"
#include "viewer/views/profiles.h"
#include "viewer/views/timeline.h"

struct app_options {
    const char *path;
    const char *font;        // a file; "builtin"; NULL: the system's
    const char *sample_type; // of a profile; NULL: its own choice
    const char *diff_base;   // a profile to compare with; may be NULL
    const char *source_path; // folders with source, by ':'; NULL: the working folder
    int scale;               // percent
    bool light, inverted, upward;
};

struct app {
    struct ui ui;
    struct atlas atlas;
    struct font *font, *mono; // mono: for source; may be font
    struct draw_list list;
    char title[300];
    struct trace_model *trace; // one of these two
    struct timeline timeline;
    struct profiles profiles; // model: NULL if it is none
    bool help, quit;
};

enum { APP_SCALE_MIN = 50, APP_SCALE_MAX = 400 };

// Reads the file and the font. 0 or -errno with err; app_close in any case.
int app_open(struct app *a, const struct app_options *o, struct fscope_error *err);
void app_close(struct app *a);

// A frame of that size into a->list. event may be NULL. While a->ui.again, call it once more,
// without an event: what was drawn is how it was before.
void app_frame(struct app *a, int width, int height, const struct ui_event *event);

// The keys as the help shows them: rows of group, keys, what they do; NULL behind the last.
struct app_key {
    const char *group, *keys, *does;
};
extern const struct app_key app_keys[];

#endif
