// SPDX-License-Identifier: MIT
//
// Waits once for a signal, which comes right behind one of ours: see pause_behind.c. Waited for in vain, it ends by SIGALRM.

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t got;

static void on_user(int number)
{
    (void)number;
    got++;
}

int main(int argc, char **argv)
{
    sigset_t mask, after;
    if (argc != 2)
        return 2;
    signal(SIGUSR1, on_user);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    alarm(5);
    if (!strcmp(argv[1], "pause"))
        pause();
    else
        sigsuspend(&mask);
    sigprocmask(SIG_SETMASK, NULL, &after);
    printf("%d signals, mask %s\n", (int)got, memcmp(&mask, &after, 8) ? "changed" : "as it was");
    return 0;
}
