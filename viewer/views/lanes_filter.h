// SPDX-License-Identifier: MIT
//
// The words of a filter, made ready: what a word means is looked up once, for names, kinds of spans
// and stacks, so that a fiber costs a few loads. See lanes.h for what words there are.
//
// Lives in struct lanes; lanes_filter.c makes it and decides, lanes_found.c walks what was found.

#ifndef FIBERSCOPE_VIEWER_VIEWS_LANES_FILTER_H
#define FIBERSCOPE_VIEWER_VIEWS_LANES_FILTER_H

#include "viewer/views/lanes.h"

enum lanes_word_kind { LANES_TEXT, LANES_NAME, LANES_STATE, LANES_RAN, LANES_THERE };

struct lanes_word {
    uint8_t kind;
    const char *text;
    double ns;       // RAN, THERE: more than this; below 0: not said yet, all have it
    uint32_t lane;   // the fiber of this number; TRACE_NO_LANE
    uint8_t *names;  // [names.count]: has the text
    uint8_t *kinds;  // STATE: [kind_count]
    uint8_t *stacks; // TEXT: [stacks.count]: a function has the text, but for the outermost, whose
                     // name is the fiber's
    uint8_t *logs;   // TEXT: [log_count]
    uint8_t *marked; // TEXT: [fibers]: has such a region, task or log
    uint8_t
        *threads; // TEXT, with a kernel trace: [its lanes]: another program's thread of such a name
};

enum { LANES_WORDS = 16 };

struct lanes_filter {
    char text[LANES_FILTER_MAX], cut[LANES_FILTER_MAX]; // as it is, and cut into words
    int64_t at_ns;                                      // of state:
    struct lanes_word words[LANES_WORDS];
    int count;
    uint8_t *match;  // [fibers]
    uint32_t next;   // the lane to be looked at next; all are done: that of the first Proc
    uint64_t found;  // hits, see lanes_found
    char error[120]; // a word that means nothing; "": none
};

// How often threads of other programs that have a word ran on a CPU.
uint64_t lanes_found_on_cpus(const struct lanes *l, const struct lanes_filter *f);

// Whether the fiber's name, label or number has the word.
bool lanes_word_names(const struct lanes *l, const struct lanes_word *w, uint32_t lane);

#endif
