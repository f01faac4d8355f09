// SPDX-License-Identifier: MIT
//
// The source of a function with what each line costs, as `go tool pprof -list` has it; beneath a
// line stand the calls that the compiler inlined there.
//
// Where the source is not to be had, the lines that cost something are shown without it, and a line
// above says which paths were looked for.

#ifndef FIBERSCOPE_VIEWER_VIEWS_SOURCE_H
#define FIBERSCOPE_VIEWER_VIEWS_SOURCE_H

#include "viewer/profile_model.h"
#include "viewer/views/table.h"

enum { SOURCE_FLAT, SOURCE_CUM, SOURCE_LINE, SOURCE_TEXT, SOURCE_COLUMNS };

struct source_row {
    uint32_t line;
    const struct report_node *node;    // what the line costs; NULL: nothing
    const struct report_edge *inlined; // the row is of this call
};

struct source {
    const struct profile_lines *lines;
    const char *search; // folders, by ':', in which ends of recorded paths are looked for
    struct table table;
    char *function;   // NULL: none yet
    const char *path; // as recorded
    int file, files;  // of those that the function has
    int64_t flat, cum;
    char **text; // [text_count] lines, into `content`
    char *content;
    uint32_t text_count;
    char missing[600]; // why there is no source; "" if there is
    struct source_row *rows;
    uint32_t row_count;
};

void source_init(struct source *s, const struct profile_lines *l, const char *search);
void source_finish(struct source *s); // accepts a zeroed one

// Shows that function, from its file number `file` of those that it has. 0 or -ENOMEM.
int source_set(struct source *s, const char *function, int file);

unsigned source_frame(struct source *s, struct ui *u, struct rect r);

// The function inlined in the chosen row, or NULL.
const char *source_chosen(const struct source *s);

#endif
