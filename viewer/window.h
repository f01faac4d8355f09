// SPDX-License-Identifier: MIT
//
// The window: SDL's events to frames, frames to the screen. It sleeps while nothing changes.

#ifndef FIBERSCOPE_VIEWER_WINDOW_H
#define FIBERSCOPE_VIEWER_WINDOW_H

#include "viewer/app.h"

// Until the user closes it. 0 or a negative errno with err: -ENODEV without a display.
int window_run(struct app *a, int width, int height, struct fscope_error *err);

#endif
