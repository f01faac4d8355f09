// SPDX-License-Identifier: MIT
//
// The views of the program: one table.
//
// A view is a state made for a document and a frame function, which draws into its rectangle and
// does what the event says (ui.h). A new view is a file in views/ with one `struct view`, a row in
// views/registry.c, and its commands in bindings.h.

#ifndef FIBERSCOPE_VIEWER_VIEW_H
#define FIBERSCOPE_VIEWER_VIEW_H

#include "viewer/ui/ui.h"

struct document;

enum { VIEW_TRACE = 1, VIEW_PROFILE = 2 };
enum { VIEWS_MAX = 16 };

struct palette_entry; // palette.h

struct view {
    const char *id;   // of --render: "timeline"
    const char *name; // of its tab; NULL: it has none (another shape of a view that has one)
    uint8_t digit;    // 1 to 9: the key that shows it; 0: none
    uint8_t shows;    // bits: of a trace, of a profile
    uint8_t contexts; // of bindings.h, beside CONTEXT_ANY
    int (*open)(void **state, struct document *d); // 0 or -errno
    void (*frame)(void *state, struct document *d, struct ui *u, struct rect r);
    void (*close)(void *state); // accepts NULL

    // The document has more of its file than when `from` was opened: what the user did there, into a state that was just
    // opened. NULL: nothing.
    void (*carry)(void *to, void *from);

    // What the palette has beside commands, such as marks; at most so many. NULL: nothing.
    int (*entries)(const void *state, struct palette_entry *out, int most);
};

extern const struct view *const views[]; // in the order of their tabs; NULL behind the last

int view_find(const char *id); // in views; -1: none

#endif
