// SPDX-License-Identifier: MIT
//
// What fiberscope waits prints.

#ifndef FIBERSCOPE_CLI_WAITS_REPORT_H
#define FIBERSCOPE_CLI_WAITS_REPORT_H

#include "cli/json.h"
#include "collector/order.h"
#include "collector/waits.h"

#include <stdio.h>

struct waits_report {
    const struct waits *waits;
    const struct order *order; // NULL: not recorded
    const struct target *target;
    const char *operand; // of the command line
    bool all;            // each fiber, and each stack
};

void waits_print_text(const struct waits_report *r, FILE *out);
void waits_print_json(const struct waits_report *r, FILE *out);

// waits_order.c. all: what is no inversion for some reason, too. The count is what is said at the end.
void waits_print_order(const struct order *o, bool all, FILE *out);
void waits_print_order_count(const struct order *o, bool all, FILE *out);
void waits_write_order(struct json *j, const struct order *o); // as "lock_order"

// Shared by the parts.
void waits_print_title(const char *text, FILE *out);
void waits_print_frames(const struct pprof_sample *s, FILE *out);
void waits_write_frames(struct json *j, const char *key, const struct pprof_sample *s);

#endif
