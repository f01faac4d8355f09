// SPDX-License-Identifier: MIT
//
// What the parts of the timeline share.

#ifndef FIBERSCOPE_VIEWER_VIEWS_TIMELINE_INTERNAL_H
#define FIBERSCOPE_VIEWER_VIEWS_TIMELINE_INTERNAL_H

#include "viewer/views/timeline.h"

enum { TIMELINE_NS_MAX = 32 };

// "1.23ms", as the reports have it.
const char *timeline_ns(char *buf, double ns);

// A moment that long after the beginning, with the digits that a step of step_ns needs.
const char *timeline_at(char *buf, double ns, double step_ns);

// What sums and shares are of: the chosen range, else what is shown.
struct timeline_window timeline_told(const struct timeline *t);

uint32_t timeline_color(const struct ui *u, int class);

// The whole pixel at which a moment is, kept near the lanes.
int timeline_x(const struct timeline *t, double ns);
double timeline_time(const struct timeline *t, int x);

void timeline_axis(struct timeline *t, struct ui *u, struct rect r); // with the grid below it
void timeline_detail(struct timeline *t, struct ui *u, struct rect r);
void timeline_tip(const struct timeline *t, struct ui *u, uint32_t lane, uint32_t span);
void timeline_input(struct timeline *t, struct ui *u, uint32_t hot_lane, uint32_t hot_span);

#endif
