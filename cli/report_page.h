// SPDX-License-Identifier: MIT
//
// The page of `fiberscope report`: one HTML file that works from disk.
//
// Invariant: nothing outside the file is referred to, and no name can become markup or script: names are
// text, escaped (flame_svg_escape), and the script gives them to the page as text. Without scripts all but
// the call tree and the order of tables is there.

#ifndef FIBERSCOPE_CLI_REPORT_PAGE_H
#define FIBERSCOPE_CLI_REPORT_PAGE_H

#include "cli/profile_args.h"

struct report_args {
    struct profile_args profile; // first: its rows' offsets count from here
    const char *title, *source_path;
};

// The parts of a page, in this order: open, tab for each tab, section and /section for each in the same
// order, close. ids are ours; the first tab is the one that is shown.
void report_page_open(FILE *out, const char *title, const char *subtitle);
void report_page_tab(FILE *out, const char *id, const char *label, bool is_first);
void report_page_section(FILE *out, const char *id, bool is_first);
void report_page_section_end(FILE *out);
void report_page_close(FILE *out);

// Writes the page of the profiles. Exit status after a message.
int report_profile(struct report_args *a, int argc, char **argv);

// The lines that cost something, by file, with the source around them where it is to be had. Takes p apart.
int report_source(FILE *out, const struct report_args *a, struct pprof_profile *p,
                  struct fscope_error *err);

// Writes the page of one trace. Exit status after a message.
int report_trace(struct report_args *a, const char *path);

#endif
