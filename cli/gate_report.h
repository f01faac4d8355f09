// SPDX-License-Identifier: MIT
//
// The gate's result in the forms that people and machines read: text, Markdown with a picture,
// GitHub annotations, JSON.
//
// Invariant: names and paths of a profile are hostile; each form escapes them for where it puts
// them.

#ifndef FIBERSCOPE_CLI_GATE_REPORT_H
#define FIBERSCOPE_CLI_GATE_REPORT_H

#include "analysis/gate.h"

#include <stdio.h>

enum { GATE_WARNINGS_MAX = 32, GATE_WARNING_BYTES = 400, GATE_SHOWN_MAX = 10 };

struct gate_report {
    const struct gate_result *result;
    double alpha;
    char warnings[GATE_WARNINGS_MAX][GATE_WARNING_BYTES];
    size_t warning_count;
    const char *root;     // folder that is taken off file names; "" for none
    const char *svg_file; // the picture's file, NULL: inline
};

void gate_text_write(FILE *out, const struct gate_report *r);
void gate_markdown_write(FILE *out, const struct gate_report *r);
void gate_github_write(FILE *out, const struct gate_report *r);
void gate_json_write(FILE *out, const struct gate_report *r);

// A bar per regressing path. Writes nothing and returns false where there is none.
bool gate_svg_write(FILE *out, const struct gate_report *r);

// file without the root; "" stays "".
const char *gate_report_file(const struct gate_report *r, const char *file);

// "+1000 (+1 alloc/op)". Returns buf.
const char *gate_report_growth(char *buf, size_t size, const struct gate_finding *f,
                               const struct gate_offender *o);

#endif
