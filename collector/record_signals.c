// SPDX-License-Identifier: MIT
//
// See record_signals.h. They are blocked but while we wait, so no library call sees EINTR.

#include "collector/record_signals.h"

#include "base/file.h"

#include <stddef.h>
#include <unistd.h>

volatile int record_stop_count;
volatile int record_stop_signal;
volatile int record_snapshot_count;

static volatile int forward_pid;

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static sigset_t were_ignored; // and are not any more
enum { ASKED_SIGNALS = 2 };   // the first of them
enum { PATIENCE = 4 };
enum { STOP_SIGNALS = sizeof stop_signals / sizeof *stop_signals };

static void on_stop(int signo, siginfo_t *info, void *context)
{
    (void)context;
    record_stop_signal = signo;
    record_stop_count = record_stop_count + 1;
    if (record_stop_count > PATIENCE) {
        file_remove_temporaries();
        _exit(128 + signo); // symbols that will not come: the user has had enough
    }
    // SI_KERNEL: from the terminal, whose whole foreground group has it, the command too.
    if (forward_pid > 0 && info->si_code != SI_KERNEL)
        kill(forward_pid, signo);
}

void record_signals_take(struct record_signals *s)
{
    struct sigaction on = {.sa_sigaction = on_stop, .sa_flags = SA_SIGINFO};
    sigset_t block;
    sigemptyset(&block);
    sigemptyset(&on.sa_mask);
    for (int i = 0; i < STOP_SIGNALS; i++) {
        sigaddset(&block, stop_signals[i]);
        sigaction(stop_signals[i], NULL, &s->old[i]);
        bool is_ignored = s->old[i].sa_handler == SIG_IGN, is_asked = i < ASKED_SIGNALS;
        // As nohup has it, that stays so. But shells ignore SIGINT for whatever a script starts with `&`, where `kill -INT`
        // is meant.
        if (!is_ignored || is_asked)
            sigaction(stop_signals[i], &on, NULL);
        if (is_ignored && is_asked)
            sigaddset(&were_ignored, stop_signals[i]);
    }
    sigprocmask(SIG_BLOCK, &block, &s->users);
    s->waiting = s->users;
    for (int i = 0; i < STOP_SIGNALS; i++)
        sigdelset(&s->waiting, stop_signals[i]);
}

const sigset_t *record_signals_ignored(void)
{
    return &were_ignored;
}

static void on_snapshot(int signo)
{
    (void)signo;
    record_snapshot_count = record_snapshot_count + 1;
}

void record_signals_snapshots(struct record_signals *s)
{
    struct sigaction on = {.sa_handler = on_snapshot};
    sigset_t block;
    sigemptyset(&block);
    sigemptyset(&on.sa_mask);
    sigaddset(&block, SIGUSR2);
    sigaction(SIGUSR2, &on, &s->old_snapshot);
    sigprocmask(SIG_BLOCK, &block, NULL);
    sigdelset(&s->waiting, SIGUSR2);
    s->takes_snapshots = true;
}

void record_signals_forward(int pid)
{
    forward_pid = pid;
}

void record_signals_restore(const struct record_signals *s)
{
    for (int i = 0; i < STOP_SIGNALS; i++)
        sigaction(stop_signals[i], &s->old[i], NULL);
    if (s->takes_snapshots)
        sigaction(SIGUSR2, &s->old_snapshot, NULL);
    file_guard_temporaries(); // of what is still being written
    sigprocmask(SIG_SETMASK, &s->users, NULL);
}
