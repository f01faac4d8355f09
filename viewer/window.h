// SPDX-License-Identifier: MIT
//
// The window: SDL's events to frames, frames to the screen. It sleeps while nothing changes.

#ifndef FIBERSCOPE_VIEWER_WINDOW_H
#define FIBERSCOPE_VIEWER_WINDOW_H

#include "viewer/app.h"

struct window_options {
    int width, height;
    bool software; // draw by raster.h, not by the screen's driver
};

// Opens the files and shows them until the user quits. The app is zeroed; it is initialised here,
// since reading wakes the window; app_close is the caller's. 0 or a negative errno with err: -ENODEV
// without a display.
int window_run(struct app *a, const struct app_options *o, char *const *files, int count,
               const struct window_options *w, struct fscope_error *err);

#endif
