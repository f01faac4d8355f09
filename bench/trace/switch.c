// SPDX-License-Identifier: MIT
//
// Preloaded beside the agent: each SIGUSR1 starts a flight recording of the program, or stops it, so that requests with and
// without can be compared within one process (bench/trace.py, part shorten_within).

#include "fiberscope/trace.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#pragma weak fscope_trace_start
#pragma weak fscope_trace_stop

static void *obey(void *arg)
{
    const struct fscope_trace_options o = {.size = sizeof o, .is_flight = 1};
    sigset_t user;
    int number, ons = 0;
    sigemptyset(&user);
    sigaddset(&user, SIGUSR1);
    for (bool is_on = false; !sigwait(&user, &number); is_on = !is_on) {
        if (is_on ? fscope_trace_stop() : fscope_trace_start(&o))
            abort();
        ons += !is_on;
        fprintf(stderr, "trace %s, %d\n", is_on ? "off" : "on", ons);
    }
    return arg;
}

__attribute__((constructor)) static void begin(void)
{
    sigset_t user;
    pthread_t t;
    sigemptyset(&user);
    sigaddset(&user, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &user, NULL); // of all threads that come
    if (pthread_create(&t, NULL, obey, NULL))
        abort();
}
