// SPDX-License-Identifier: MIT
//
// The colour of what a fiber does (TRACE_STATE_ of trace_model.h): on its lane, and wherever a panel
// speaks of it.

#ifndef FIBERSCOPE_VIEWER_STATE_COLOR_H
#define FIBERSCOPE_VIEWER_STATE_COLOR_H

#include "viewer/ui/theme.h"

// Waits recede: nothing happens in them. What they are for is a tint.
uint32_t state_color(const struct theme *t, int state);

#endif
