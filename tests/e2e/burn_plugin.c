// SPDX-License-Identifier: MIT
//
// A plugin of burn.c; FUNCTION is its own name for the code that burns. Built twice, so that two
// libraries of the same size come to lie at the same address in turns. With CALLS it only calls that
// function of a library that it needs, which is unmapped with it.

#include <stdint.h>
#include <time.h>

#ifndef RUN
#define RUN run
#endif
void RUN(uint64_t ns);

#ifdef CALLS
void CALLS(uint64_t ns);

static volatile int after;

__attribute__((visibility("default"))) void RUN(uint64_t ns)
{
    CALLS(ns);
    after++;
}
#else
static volatile uint64_t sink;

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

__attribute__((noinline)) static void FUNCTION(uint64_t end)
{
    while (cpu_ns() < end)
        for (int i = 0; i < 20000; i++)
            sink = sink * 31 + (uint64_t)i;
}

__attribute__((visibility("default"))) void RUN(uint64_t ns)
{
    FUNCTION(cpu_ns() + ns);
    sink++;
}
#endif
