// SPDX-License-Identifier: MIT
//
// Temporary files that a signal must not leave behind. See file.h.
//
// The names stand in fixed places, not in memory that is freed, as the handler may run at any time and in
// any thread. A place is used when its length is not 0, which is written last.

#include "base/file.h"

#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { PLACES = 64 };

static struct {
    atomic_size_t length;
    char path[PATH_MAX];
} places[PLACES];

#define BEING_WRITTEN SIZE_MAX

static bool is_used(int i) // acquire: what file_temporary wrote
{
    size_t length = atomic_load_explicit(&places[i].length, memory_order_acquire);
    return length && length != BEING_WRITTEN;
}

static _Atomic pid_t owner; // a child that has not called exec removes nothing

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGXCPU};
enum { SIGNALS = sizeof signals / sizeof signals[0] };

void file_remove_temporaries(void)
{
    if (atomic_load(&owner) != getpid())
        return;
    for (int i = 0; i < PLACES; i++)
        if (is_used(i))
            unlink(places[i].path);
}

static void on_end(int signo)
{
    file_remove_temporaries();
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigemptyset(&by_default.sa_mask);
    sigaction(signo, &by_default, NULL);
    raise(signo); // blocked until the handler returns
}

void file_guard_temporaries(void)
{
    struct sigaction sa = {.sa_handler = on_end, .sa_flags = SA_RESTART}, old;
    bool any = false;
    for (int i = 0; i < PLACES; i++)
        any |= atomic_load(&places[i].length) != 0;
    if (!any)
        return;
    sigemptyset(&sa.sa_mask);
    for (int i = 0; i < SIGNALS; i++)
        sigaddset(&sa.sa_mask, signals[i]);
    for (int i = 0; i < SIGNALS; i++)
        if (!sigaction(signals[i], NULL, &old) && !(old.sa_flags & SA_SIGINFO) &&
            old.sa_handler == SIG_DFL)
            sigaction(signals[i], &sa, NULL);
}

void file_signals_hold(sigset_t *users)
{
    sigset_t held;
    sigemptyset(&held);
    for (int i = 0; i < SIGNALS; i++)
        sigaddset(&held, signals[i]);
    pthread_sigmask(SIG_BLOCK, &held, users);
}

void file_signals_release(const sigset_t *users)
{
    pthread_sigmask(SIG_SETMASK, users, NULL);
}

void file_temporary(const char *path)
{
    size_t length = strlen(path);
    if (!length || length >= PATH_MAX)
        return;
    for (int i = 0; i < PLACES; i++) {
        size_t none = 0;
        if (!atomic_compare_exchange_strong(&places[i].length, &none, BEING_WRITTEN))
            continue;
        memcpy(places[i].path, path, length + 1);
        atomic_store(&owner, getpid());
        atomic_store_explicit(&places[i].length, length, memory_order_release); // for the handler
        break;
    }
    file_guard_temporaries();
}

void file_temporary_gone(const char *path)
{
    for (int i = 0; i < PLACES; i++) {
        if (is_used(i) && !strcmp(places[i].path, path)) {
            atomic_store(&places[i].length, 0);
            return;
        }
    }
}
