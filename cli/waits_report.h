// SPDX-License-Identifier: MIT
//
// What fiberscope waits prints.

#ifndef FIBERSCOPE_CLI_WAITS_REPORT_H
#define FIBERSCOPE_CLI_WAITS_REPORT_H

#include "collector/waits.h"

#include <stdio.h>

struct waits_report {
    const struct waits *waits;
    const struct target *target;
    const char *operand; // of the command line
    bool all;            // each fiber, and each stack
};

void waits_print_text(const struct waits_report *r, FILE *out);
void waits_print_json(const struct waits_report *r, FILE *out);

#endif
