// SPDX-License-Identifier: MIT
//
// Flame graphs of a range: of the samples of the CPU, of the time that fibers were blocked, of all
// their time (wall.h), by stack.

#ifndef FIBERSCOPE_VIEWER_PANELS_PANEL_FLAME_H
#define FIBERSCOPE_VIEWER_PANELS_PANEL_FLAME_H

#include "viewer/panels/panel.h"
#include "viewer/views/flame.h"

enum panel_flame_kind { PANEL_FLAME_CPU, PANEL_FLAME_BLOCKED, PANEL_FLAME_ALL, PANEL_FLAME_KINDS };

struct panel_flame {
    uint8_t kind; // panel_flame_kind
    // Facts.
    bool has;
    uint8_t of; // kind
    int64_t begin_ns, end_ns;
    struct profile_model *profile; // NULL: there is nothing
    struct flame flame;
};

void panel_flame_init(struct panel_flame *x, const struct trace_model *m);
void panel_flame_finish(struct panel_flame *x);
bool panel_flame_due(const struct panel_flame *x, const struct panel_context *c);
int panel_flame_work(struct panel_flame *x, const struct panel_context *c); // 0 or -ENOMEM
void panel_flame_frame(struct panel_flame *x, const struct panel_context *c, struct ui *u,
                       struct rect r);

#endif
