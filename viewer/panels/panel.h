// SPDX-License-Identifier: MIT
//
// What the panels of a trace share.
//
// A panel has state, and facts that it computes from the model and what it is asked about. Nothing
// heavy happens in a frame: panel_X_due says whether the facts are those of another question,
// panel_X_work makes them, panel_X_frame draws what there is and does what the event says. Work
// reads the model and writes the panel's facts, nothing else, so it may be done by another thread
// while no frame of this panel is drawn.

#ifndef FIBERSCOPE_VIEWER_PANELS_PANEL_H
#define FIBERSCOPE_VIEWER_PANELS_PANEL_H

#include "analysis/trace/critical.h"
#include "viewer/panels/panel_table.h"
#include "viewer/kernel_model.h"

struct panel_context {
    const struct trace_model *model;
    const struct kernel_model *kernel; // beside it; NULL: none
    int64_t begin_ns, end_ns;          // what figures are of; of the trace's clock
    bool is_chosen;                    // a chosen range, not just what is shown
    bool has_keys;
    uint8_t part; // of a panel with several: which has the keys
};

struct panel_goal { // where the timeline is to go
    bool wanted;
    int64_t begin_ns, end_ns; // becomes the chosen range
    uint32_t lane;            // the fiber that it is about
};

// "1.234567s" since the trace began, with the digits of a microsecond. Returns text.
const char *panel_at(char *text, const struct trace_model *m, int64_t ns);

// "12.3%", as the reports have it; "-" of nothing. Returns text.
const char *panel_share(char *text, double part, double whole);

// "worker 17". Returns text.
const char *panel_fiber(char *text, const struct trace_model *m, uint32_t lane);

const char *panel_function(const struct trace_model *m, uint32_t name); // "(unknown)" of none

// A click on a part of a panel gives it the keys. Before its widgets, which use the click up.
void panel_take_part(struct panel_context *c, const struct ui *u, struct rect r, uint8_t part);

// A line of text that heads a part; bright where the part has the keys.
struct rect panel_title(struct ui *u, struct rect r, const char *title, bool has_keys);

// Colours of what a fiber does.
enum panel_state { PANEL_RUNNING, PANEL_RUNNABLE, PANEL_SYSCALL, PANEL_BLOCKED, PANEL_STATES };
uint32_t panel_state_color(const struct ui *u, enum panel_state state);
uint32_t panel_part_color(const struct ui *u, enum trace_part part);

// A bar of parts of `whole`, from the left; what is left over stays empty.
struct panel_bar {
    struct rect all;
    int64_t whole, used;
    int x; // where the next part begins
};
struct panel_bar panel_bar_begin(struct ui *u, struct rect r, int64_t whole);
void panel_bar_part(struct panel_bar *b, struct ui *u, uint32_t color, int64_t ns);

// The frames of a stack from `first` on, as many as fit; how many pixels high.
int panel_stack(struct ui *u, const struct trace_model *m, struct rect r, uint32_t stack,
                uint32_t first);

#endif
