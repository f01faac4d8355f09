// SPDX-License-Identifier: MIT
//
// What the walk of the own stack keeps between walks, and what one walk knows.
//
// Invariant: depth > 0 only after a walk that reached the root; then [1, depth) of the previous stack
// are the frames that the words named by their kinds, and by the extras, lead to.

#ifndef FIBERSCOPE_UNWIND_WALK_H
#define FIBERSCOPE_UNWIND_WALK_H

#include "unwind/unwind.h"

#include <stdatomic.h>

enum {
    ROWS = 4096,
    FP_ROWS = 2048,
    DEPTH_MAX = UNWIND_DEPTH_MAX,
    NEW_EXTRAS_MAX = 128,
    WORDS_MAX = 2 * DEPTH_MAX
};

// Rows are looked up by "return address": the leaf's and an interrupted pc, which are exact, plus 1.
enum fast_kind { FAST_NONE, FAST_RSP, FAST_RSP_SAVED, FAST_RBP_SAVED, FAST_END, FAST_FP };

struct fast_rule {
    int32_t cfa_offset;
    int16_t rbp_offset; // from the CFA
    uint8_t kind;       // enum fast_kind; in the table never FAST_FP or FAST_NONE
};

// rbp and the return address stand together because they do on the stack, so that one vector does
// for both.
struct pair {
    uint64_t rbp, ra;
};

// Where a frame's pair was loaded from. ra was always at rsp - 8.
enum frame_kind {
    FRAME_SINGLE,  // rbp is the callee's, or an extra tells where it came from
    FRAME_PAIR,    // rbp was at rsp - 16
    FRAME_CHAINED, // so, and rsp - 16 is the callee's rbp; its rsp is not stored
};

// Arrays apart rather than of structs, so that the loops over them move by powers of two. The return
// addresses are there twice: pcs is what the caller gets, and it costs nothing if nothing changed.
struct stack {
    _Alignas(16) struct pair pairs[DEPTH_MAX];
    uint64_t pcs[DEPTH_MAX];
    uint64_t rsps[DEPTH_MAX];
    uint8_t kinds[DEPTH_MAX + 8]; // some are written ahead
};

// A saved rbp that was loaded from elsewhere. from_root tells its frame: the outermost has 1.
struct extra {
    uint64_t at, value;
    uint32_t from_root;
};

// A word of the stack, and where it is.
struct word {
    uint64_t at, value;
};

struct unwind_thread {
    uint64_t changes; // first: see unwind_changes
    _Atomic uint32_t busy;
    uint32_t generation;
    uint64_t low, high;
    uint64_t first_rsp,
        last_rsp; // of frames 1 and depth - 1 of the previous stack; UINT64_MAX: none
    uint32_t depth, extra_count;  // of the previous stack; depth 0: none
    uint32_t chained, word_count; // see words; chained 0: not yet made
    struct stack *old;            // the previous stack, one of stacks
    // Return addresses into frames left by CFA = rbp + 16: nothing more needs to be known about them.
    uint64_t fp_keys[FP_ROWS];
    uint64_t row_keys[ROWS]; // of all others
    struct fast_rule row_rules[ROWS];
    struct stack stacks[2]; // not on the stack: that may be a signal's small one
    struct extra extras[DEPTH_MAX];
    struct extra new_extras[NEW_EXTRAS_MAX];
    // What the previous stack was made from above frame 1: frames [2, chained) are chained, and these
    // are the words of all others.
    struct word words[WORDS_MAX];
};

// One walk: the frame it stands at, and how it got there.
struct walk {
    struct unwind_thread *t;
    uint64_t rip, rbp, rsp;
    uint64_t meet_rsp;    // no earlier than here can the stack join the previous one
    uint32_t n, k;        // frames below this one; candidate in the previous stack
    uint32_t extra_count; // new ones, in new_extras
    uint8_t kind;         // enum frame_kind
};

// The one to be written.
static inline struct stack *new_stack(struct unwind_thread *t)
{
    return t->old == &t->stacks[0] ? &t->stacks[1] : &t->stacks[0];
}

static inline uint64_t rsp_of(const struct stack *s, uint32_t k)
{
    return s->kinds[k] == FRAME_CHAINED ? s->pairs[k - 1].rbp + 16 : s->rsps[k];
}

static inline void forget_stack(struct unwind_thread *t)
{
    t->depth = 0;
    t->first_rsp = t->last_rsp = UINT64_MAX;
}

// Looks the row for key up in the tables and caches it. FAST_NONE: not one of the fast forms.
struct fast_rule walk_fill_row(struct unwind_thread *t, uint64_t key);

// Keeps this walk's frames [0, n) in front of the last `kept` ones of the previous stack: DEPTH_MAX in
// all at most. If it cannot, no stack is kept and the pcs are new_stack's.
void walk_keep(const struct walk *w, uint32_t n, uint32_t kept);

// Forgets what a dlclose may have made untrue.
void walk_forget_rows(struct unwind_thread *t, uint32_t now);

// The general walk from w's frame on; regs are the leaf's.
uint32_t walk_careful(const struct walk *w, const struct unwind_registers *regs, bool is_own_stack,
                      uint64_t *pcs, uint32_t max, enum unwind_end *end);

// Counts unwind_invalidate's calls.
extern _Atomic uint32_t walk_generation;

#endif
