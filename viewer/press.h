// SPDX-License-Identifier: MIT
//
// Keys and the mouse without a window: what --press has a picture be of.

#ifndef FIBERSCOPE_VIEWER_PRESS_H
#define FIBERSCOPE_VIEWER_PRESS_H

#include "viewer/app.h"

// Words with blanks between them, one after the other: a key as the help has it ("Alt+6", "F2", "["),
// which is a letter where a field has the focus; "X,Y" is a click, "X,Y-X,Y" a drag. The mouse leaves
// the window after each. NULL, or the word that is none of these; those before it were done.
const char *press(struct app *a, const char *words, int width, int height);

#endif
