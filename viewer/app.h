// SPDX-License-Identifier: MIT
//
// The program without its window: documents, their views, the bar above, help and palette over all.
//
// app_frame makes a frame of the state and an event; a window shows it, --png and --svg write it.
// Nothing here needs a display. What only a window can do (clipboard, full screen) is asked of it by
// the fields of `wants`.

#ifndef FIBERSCOPE_VIEWER_APP_H
#define FIBERSCOPE_VIEWER_APP_H

#include "viewer/document.h"
#include "viewer/palette.h"
#include "viewer/ui/font.h"

enum { APP_SCALE_MIN = 50, APP_SCALE_MAX = 400, APP_FILES_MAX = 16, APP_PATH_MAX = 1024 };

struct app_options {
    const char *font;        // a file; "builtin"; NULL: the system's
    const char *sample_type; // of a profile; NULL: its own choice
    const char *view;        // id; NULL: the first that shows the file
    const char *search;      // of a profile; NULL
    const char *region;      // of a trace: what latencies are of; NULL
    const char *task;        // the same
    const char *function;    // of a profile, to be chosen; NULL
    const char *diff_base;   // a profile to compare with; NULL
    const char *source_path; // folders with source, by ':'; NULL: the working folder
    const char *refine[4];   // of a profile, by refine_kind (views/refine.h)
    struct document_range shown;
    int scale;   // percent
    int part_ms; // as in load.h
    bool light, inverted;

    // As in load.h: calls for a frame while a file is read.
    void (*wake)(void *context);
    void *context;
};

struct app {
    struct app_options o; // as they were at the beginning
    struct ui ui;
    struct atlas atlas;
    struct font *font, *mono;
    int scale, font_scale; // percent; of the letters: with the screen's ratio
    double ratio;          // of pixels to the screen's units
    struct draw_list list;
    struct document *documents[APP_FILES_MAX];
    int count, at;
    struct palette palette;
    struct {
        bool open;
        char path[APP_PATH_MAX];
    } prompt;
    char note[APP_PATH_MAX]; // said below, until the next key
    bool help, quit, frame_time;
    uint16_t next; // command that the next frame has, beside its event; 0
    struct {
        char *copy; // malloc'd text for the clipboard
        bool full_screen;
    } wants;
    double frame_ms[2]; // of the last frame: made, drawn
    double lod_ms;      // of that, levels of detail
};

// The font and no document. 0 or -errno with err; app_close in any case.
int app_init(struct app *a, const struct app_options *o, struct fscope_error *err);
void app_close(struct app *a);

// Opens a file: in a thread if there is `wake`, else at once. 0 or -errno with err; in a window
// what goes wrong while reading is shown in the document's place.
int app_add(struct app *a, const char *path, struct fscope_error *err);

// The same of a trace with a kernel trace beside it; kernel NULL: the one of its name, if there is one.
int app_add_pair(struct app *a, const char *path, const char *kernel, struct fscope_error *err);

// Several files: a kernel trace among them stands beside its trace, whichever comes first.
int app_add_all(struct app *a, char *const *files, int count, struct fscope_error *err);

// A frame of that size into a->list. event may be NULL. While a->ui.again, call it once more,
// without an event: what was drawn is how it was before. While a->ui.moves, soon.
void app_frame(struct app *a, int width, int height, const struct ui_event *event);

// Shows that view of the document at hand; NULL: the first that it has. 0; -ENOENT with err.
int app_show(struct app *a, const char *id, struct fscope_error *err);

// Pixels for each unit of the screen: letters grow with it.
void app_set_ratio(struct app *a, double ratio);

// The last frame into a file.
int app_write_png(struct app *a, const char *path, struct fscope_error *err);
int app_write_svg(struct app *a, const char *path, struct fscope_error *err);
int app_write_text(struct app *a, const char *path, struct fscope_error *err);

#endif
