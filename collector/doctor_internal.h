// SPDX-License-Identifier: MIT
//
// Shared by doctor.c (the report, events, tracing) and doctor_system.c (the machine around them).

#ifndef FIBERSCOPE_COLLECTOR_DOCTOR_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_DOCTOR_INTERNAL_H

#include "base/error.h"
#include "collector/doctor.h"

#include <stdbool.h>

// A new row, or the last one again when there is no room (it is then overwritten).
struct doctor_row *doctor_add(struct doctor_report *r, const char *topic, enum doctor_state state);
void doctor_found(struct doctor_row *row, const char *fmt, ...) FSCOPE_PRINTF(2, 3);
void doctor_cost(struct doctor_row *row, const char *fmt, ...) FSCOPE_PRINTF(2, 3);
void doctor_change(struct doctor_row *row, const char *fmt, ...) FSCOPE_PRINTF(2, 3);

// The first line of a file without its newline; false if it cannot be read.
bool doctor_line(const char *path, char *text, size_t size);
bool doctor_number(const char *path, long long *value);
// The value behind "KEY:" in /proc/self/status.
bool doctor_status(const char *key, char *text, size_t size);
bool doctor_capability(unsigned bit);

void doctor_system_rows(struct doctor_report *r);

#endif
