// SPDX-License-Identifier: MIT
//
// Signals while recording: the first asks to stop, each goes to the command unless the terminal has
// already sent it there. The fifth exits at once.
//
// Invariant: handlers are in place from record_signals_take to record_signals_restore; one recording
// per process at a time.

#ifndef FIBERSCOPE_COLLECTOR_RECORD_SIGNALS_H
#define FIBERSCOPE_COLLECTOR_RECORD_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

struct record_signals {
    struct sigaction old[4], old_snapshot;
    bool takes_snapshots;
    sigset_t waiting; // the mask to wait with (ppoll): the signals arrive only there
    sigset_t users;   // the mask before: what a command inherits
};

// How many signals have asked to stop, and the last one.
extern volatile int record_stop_count;
extern volatile int record_stop_signal;

// How many SIGUSR2 have asked for a snapshot, once record_signals_snapshots was called after _take.
extern volatile int record_snapshot_count;
void record_signals_snapshots(struct record_signals *s);

void record_signals_take(struct record_signals *s);

// Which of them were ignored before: for a command they still are.
const sigset_t *record_signals_ignored(void);

// Whom signals are passed on to; 0: nobody.
void record_signals_forward(int pid);

void record_signals_restore(const struct record_signals *s);

#endif
