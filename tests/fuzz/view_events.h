// SPDX-License-Identifier: MIT
//
// What bytes at random do to the viewer without its window: keys, text, the mouse, sizes from 1x1 to 8K.

#ifndef FIBERSCOPE_FUZZ_VIEW_EVENTS_H
#define FIBERSCOPE_FUZZ_VIEW_EVENTS_H

#include "viewer/app.h"

#include <stddef.h>
#include <stdint.h>

enum { VIEW_EVENT_BYTES = 7 };

// Leaves for a folder that is gone: what the viewer would write goes nowhere.
void view_leave_folder(void);

// At most `most` events of that many bytes each, then a picture of the last frame, if it is small.
void view_events(struct app *a, const uint8_t *data, size_t size, size_t most);

// A frame of that size and those that it asks for.
void view_frames(struct app *a, int width, int height, const struct ui_event *ev);

#endif
