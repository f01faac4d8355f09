// SPDX-License-Identifier: MIT
//
// Panels beneath a timeline: what is between the two.

#ifndef FIBERSCOPE_VIEWER_PANELS_PANELS_TIMELINE_H
#define FIBERSCOPE_VIEWER_PANELS_PANELS_TIMELINE_H

#include "viewer/panels/panels.h"
#include "viewer/views/timeline.h"

// The frame of the panels, with what they have to compute if there is no event, and where they send
// the timeline. What is left of r is the timeline's, whose frame comes after: keys that a panel has
// are not seen by it.
struct rect panels_beneath(struct panels *p, struct timeline *t, struct ui *u, struct rect r);

#endif
