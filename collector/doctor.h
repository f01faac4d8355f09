// SPDX-License-Identifier: MIT
//
// What this machine permits to this user, what a restriction costs, and how to change it.
//
// Invariant: nothing is concluded from a setting where it can be tried instead: events are opened,
// signals counted, rings mapped, a child traced. Nothing on the machine is changed.

#ifndef FIBERSCOPE_COLLECTOR_DOCTOR_H
#define FIBERSCOPE_COLLECTOR_DOCTOR_H

#include <stddef.h>

enum doctor_state {
    DOCTOR_OK,
    DOCTOR_INFO,    // neither good nor bad
    DOCTOR_LIMITED, // works, with a cost
    DOCTOR_NO,      // does not work
};

struct doctor_row {
    const char *topic; // "perf events"
    enum doctor_state state;
    char found[256];
    char cost[256];   // "" for OK and INFO
    char change[320]; // "" where nothing can be done or need be
};

enum { DOCTOR_ROWS_MAX = 32 };

struct doctor_report {
    struct doctor_row rows[DOCTOR_ROWS_MAX];
    size_t count;
};

// Examines; takes about half a second of CPU time (rates are measured). Takes over SIGPROF of the
// calling thread and starts one child meanwhile. [one thread]
void doctor_examine(struct doctor_report *out);

// "ok", "info", "limited", "no".
const char *doctor_state_name(enum doctor_state state);

#endif
