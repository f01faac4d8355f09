// SPDX-License-Identifier: MIT
//
// The commands of the viewer and their keys: one table.
//
// Everything that keys do stands in `commands`: views ask command_given, and the help under `?`,
// the command palette and the man page are made of the table. A view never looks at a key itself;
// it adds rows here. Invariant, which unit.bindings checks: in no view two commands have one key.
//
// A command with `strides` is also given by its keys with Shift (four times as far) and Ctrl (a
// quarter); u->stride says which.

#ifndef FIBERSCOPE_VIEWER_BINDINGS_H
#define FIBERSCOPE_VIEWER_BINDINGS_H

#include "viewer/ui/ui.h"

enum { // where a command is understood: bits. A view has those that apply to it (view.h).
    CONTEXT_ANY = 1,
    CONTEXT_TIMELINE = 2,
    CONTEXT_FLAME = 4,
    CONTEXT_TABLE = 8, // rows: top, tree, fibers, ...
    CONTEXT_SOURCE = 16,
    CONTEXT_PROFILE = 32, // all views of profiles
    CONTEXT_PANEL = 64,   // panels beneath the timeline
    CONTEXT_COUNT = 7,
};

enum command_id {
    COMMAND_NONE,

    // The timeline.
    COMMAND_ZOOM_IN,
    COMMAND_ZOOM_OUT,
    COMMAND_PAN_LEFT,
    COMMAND_PAN_RIGHT,
    COMMAND_ZOOM_IN_MIDDLE,
    COMMAND_ZOOM_OUT_MIDDLE,
    COMMAND_FIT,
    COMMAND_WHOLE,
    COMMAND_SPAN_BEFORE,
    COMMAND_SPAN_AFTER,
    COMMAND_LANE_ABOVE,
    COMMAND_LANE_BELOW,
    COMMAND_LANE_JUMP,
    COMMAND_WAKER,
    COMMAND_WOKEN,
    COMMAND_WOKEN_NEXT,
    COMMAND_FOUND_NEXT,
    COMMAND_FOUND_BEFORE,
    COMMAND_TO_RANGE,
    COMMAND_MARK,
    COMMAND_MARK_NEXT,
    COMMAND_MARKS_CLEAR,
    COMMAND_FILTER,
    COMMAND_SORT,
    COMMAND_GROUPS,
    COMMAND_STACKS,
    COMMAND_KERNEL,
    COMMAND_DELAY_NEXT,
    COMMAND_DELAY_BEFORE,
    COMMAND_LANES_TOP,
    COMMAND_LANES_BOTTOM,

    // Panels beneath the timeline, in their order (panels.h).
    COMMAND_PANEL_FLAME,
    COMMAND_PANEL_LATENCY = COMMAND_PANEL_FLAME + 5,
    COMMAND_PANEL_NONE,
    COMMAND_PANEL_KEYS,

    // The flame graph.
    COMMAND_FLAME_IN,
    COMMAND_FLAME_PARENT,
    COMMAND_FLAME_WHOLE,
    COMMAND_FLAME_UP,
    COMMAND_FLAME_DOWN,
    COMMAND_FLAME_LEFT,
    COMMAND_FLAME_RIGHT,
    COMMAND_FLAME_FLIP,
    COMMAND_SANDWICH_SIDE,

    // Tables and source.
    COMMAND_TABLE_UP,
    COMMAND_TABLE_DOWN,
    COMMAND_TABLE_PAGE_UP,
    COMMAND_TABLE_PAGE_DOWN,
    COMMAND_TABLE_FIRST,
    COMMAND_TABLE_LAST,
    COMMAND_TABLE_ENTER,
    COMMAND_TABLE_SORT,
    COMMAND_TABLE_REVERSE,
    COMMAND_TREE_OPEN,
    COMMAND_TREE_CLOSE,
    COMMAND_TREE_PATH,
    COMMAND_SOURCE_FILE,

    // All views of a profile.
    COMMAND_TYPE_AFTER,
    COMMAND_TYPE_BEFORE,
    COMMAND_INVERT,
    COMMAND_REFINE,
    COMMAND_FOCUS,
    COMMAND_IGNORE,
    COMMAND_HIDE,
    COMMAND_SHOW,

    // All views.
    COMMAND_SEARCH,
    COMMAND_UNDO,
    COMMAND_REDO,
    COMMAND_CANCEL,

    // The program.
    COMMAND_VIEW_1, // and so on; view.h says which
    COMMAND_VIEW_9 = COMMAND_VIEW_1 + 8,
    COMMAND_PALETTE,
    COMMAND_HELP,
    COMMAND_OPEN,
    COMMAND_FILE_AFTER,
    COMMAND_FILE_BEFORE,
    COMMAND_FILE_CLOSE,
    COMMAND_EXPORT,
    COMMAND_COPY,
    COMMAND_LARGER,
    COMMAND_SMALLER,
    COMMAND_NORMAL_SIZE,
    COMMAND_THEME,
    COMMAND_FULL_SCREEN,
    COMMAND_FRAME_TIME,
    COMMAND_QUIT,
    COMMAND_COUNT,

    // Of the palette alone, in no table: to go to a mark of the timeline, and so on.
    COMMAND_TO_MARK_A = COMMAND_COUNT,
    COMMAND_TO_MARK_Z = COMMAND_TO_MARK_A + 25,
};

enum { COMMAND_KEYS = 3 };

struct command_key {
    uint32_t code; // as in struct ui_event; 0: none
    uint8_t mods;
};

struct command {
    uint16_t id;       // command_id; COMMAND_NONE: a row of help, about the mouse
    uint8_t contexts;  // bits
    bool strides;      // Shift and Ctrl change how far
    const char *mouse; // of the help, beside or in place of keys; NULL
    struct command_key keys[COMMAND_KEYS];
    const char *name; // for the palette: "Zoom in"; NULL: not there
    const char *help; // for the help and the man page
};

extern const struct command commands[]; // by context; the last has no help

// Whether this event (or the palette) gives the command; uses it up. False while a field has the
// focus, but for keys with Ctrl of CONTEXT_ANY. Sets u->stride: 1, 4 or 0.25.
bool command_given(struct ui *u, enum command_id id);

const struct command *command_of(enum command_id id); // NULL: there is no such row

// A group of the help for a command's context: "Timeline".
const char *command_group(const struct command *c);

// "W, Up", "Ctrl+Z, Backspace", with what the mouse does; cut to size.
enum { COMMAND_KEYS_TEXT = 96 };
const char *command_keys(const struct command *c, char buf[COMMAND_KEYS_TEXT]);

// The other way round: one key as the help has it, "Alt+6". False if it is none.
bool command_key_read(const char *text, struct command_key *k);

#endif
