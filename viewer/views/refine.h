// SPDX-License-Identifier: MIT
//
// What a user has narrowed a profile to: its sample type and refinements, with a way back.
//
// Refinements are those of `fiberscope top`. Several of one kind stand for one expression in which
// any of them may match (A|B), as in pprof's web page.
//
// Invariant: at < count; states[at] is in force, those behind it were undone.

#ifndef FIBERSCOPE_VIEWER_VIEWS_REFINE_H
#define FIBERSCOPE_VIEWER_VIEWS_REFINE_H

#include "base/arena.h"
#include "viewer/profile_model.h"

enum refine_kind { REFINE_FOCUS, REFINE_IGNORE, REFINE_HIDE, REFINE_SHOW, REFINE_KINDS };
enum { REFINE_CHIPS = 12, REFINE_STATES = 64 };

extern const char *const refine_names[REFINE_KINDS]; // "focus", ...

struct refine_chip {
    uint8_t kind;
    const char *pattern;
};

struct refine_state {
    struct refine_chip chips[REFINE_CHIPS];
    int count;
    const char *sample_type; // NULL: the profile's own choice
    bool inverted;
};

struct refine {
    struct arena arena; // patterns
    struct refine_state states[REFINE_STATES];
    int at, count;
};

void refine_init(struct refine *r, const char *sample_type, bool inverted);
void refine_finish(struct refine *r);
const struct refine_state *refine_now(const struct refine *r);

// A new state after the one in force; those that were undone are gone. From REFINE_STATES on the
// oldest is forgotten.
void refine_push(struct refine *r, const struct refine_state *s);
// Takes back the newest push, as if it had not been.
void refine_drop(struct refine *r);
bool refine_move(struct refine *r, int by); // undo -1, redo 1; false: there is none

// s with one more chip, from "focus=REGEX" or a pattern alone (focus). NULL, or why not.
const char *refine_parse(struct refine *r, struct refine_state *s, const char *text);
const char *refine_add(struct refine *r, struct refine_state *s, int kind, const char *pattern);
void refine_remove(struct refine_state *s, int chip);

// ^name$ with the characters quoted that mean something; to be freed. NULL: no memory.
char *refine_quote(const char *name);

// The state as options; the strings are in `into`. 0 or -ENOMEM.
int refine_look(const struct refine_state *s, struct arena *into, struct profile_look *out);

#endif
