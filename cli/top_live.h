// SPDX-License-Identifier: MIT
//
// `fiberscope top -p PID`: who feeds it (top_source.c), what is shown (top_table.c), how it looks (top_draw.c), and who
// reacts to what (top_live.c).
//
//   total    a profile as it is now: of a stream (cpu, wall) since we looked, of heap, block and mutex since these are
//            recorded, of fibers at this moment
//   window   that, less what it was at the refresh before

#ifndef FIBERSCOPE_CLI_TOP_LIVE_H
#define FIBERSCOPE_CLI_TOP_LIVE_H

#include "analysis/report.h"
#include "collector/session.h"

#include <stdint.h>
#include <stdio.h>

enum top_kind { TOP_CPU, TOP_WALL, TOP_HEAP, TOP_BLOCK, TOP_MUTEX, TOP_FIBERS, TOP_KINDS };
#define TOP_KIND_WORDS "cpu wall heap block mutex fibers"

const char *top_kind_name(enum top_kind kind);
// Whether total is the size of something that comes and goes, not a sum that grows.
bool top_kind_is_level(enum top_kind kind);

// --- The source: a thread that has the session of one kind.

struct top_source;

struct top_source_options {
    uint32_t pid, hz;
    enum session_method method;
    enum top_kind kind;
    uint64_t interval_ns;
};

struct top_update {
    struct pprof_profile *profile; // NULL: none yet, or nothing new; the caller's
    bool is_baseline;              // the first of a state: there is no window yet
    uint64_t elapsed_ns;           // since the source was started
    uint64_t lost;
    enum session_way way;
    char program[64];
    bool has_ended;          // the process
    struct fscope_error err; // code 0: all is well; else nothing more will come
};

int top_source_start(struct top_source **out, const struct top_source_options *o,
                     struct fscope_error *err);
int top_source_fd(const struct top_source *s); // readable when there is an update
// What is new; of several profiles the last one.
void top_source_take(struct top_source *s, struct top_update *out);
// Ends the recording; returns once what was switched on is off. Accepts NULL.
void top_source_stop(struct top_source *s);

// --- The table.

enum top_sort {
    TOP_BY_FLAT,
    TOP_BY_CUM,
    TOP_BY_TOTAL_FLAT,
    TOP_BY_TOTAL_CUM,
    TOP_BY_NAME,
};

struct top_row {
    char *label;
    int64_t flat, cum, total_flat, total_cum;
};

struct top_table {        // a zeroed one is an empty one
    struct top_row *rows; // [count], in order
    size_t count;
    int64_t window, total;   // what percentages are of
    char type[64], unit[64]; // of the values
};

// Makes *t of two copies; before NULL: there is no window yet if is_baseline, else all is of this window. 0 or -errno
// (a bad regular expression: -EINVAL); *t stays as it was after an error.
int top_table_make(struct top_table *t, struct pprof_profile *before, struct pprof_profile *now,
                   bool is_baseline, const struct report_options *o, struct fscope_error *err);
void top_table_sort(struct top_table *t, enum top_sort sort);
void top_table_free(struct top_table *t);

// --- Drawing.

struct top_view {
    const struct top_table *table;
    const char *program, *focus, *message; // message: an error, in place of the table if is_bad
    bool is_bad;
    uint32_t pid, hz;
    enum top_kind kind;
    enum top_sort sort;
    enum session_way way;
    uint64_t elapsed_ns, window_ns, lost;
    bool is_paused, is_helping, has_way;
    const char *typed; // a focus that is being typed; NULL: none is
    size_t first;      // row at the top
    int rows, columns;
    size_t row_max; // of lines; 0: all
};

// One screen, whole, from the top left corner, in rows x columns.
void top_draw_screen(FILE *out, const struct top_view *v);
// How many rows of the table that has.
size_t top_draw_rows(const struct top_view *v);
// As lines, for what is no terminal.
void top_draw_lines(FILE *out, const struct top_view *v);

// --- The command. The exit status.

struct top_live_options {
    struct top_source_options source;
    struct report_options report;
    bool is_cum;     // begins in the order of cum
    int64_t row_max; // of lines; <= 0: 20
    uint64_t count;  // tables, as lines; 0: until the process ends or somebody stops us
};
int top_live(const struct top_live_options *o);

#endif
