// SPDX-License-Identifier: MIT
//
// What a kernel trace costs most: a program that does nothing but
//
//     kernel_load switches N   pass a byte to and fro between two threads on one processor, N times
//     kernel_load calls N      system calls (getppid), N times
//
// Prints how many ns each took: of the former, with two switches, wakeups, reads and writes.

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int there[2], back[2];

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void pass(int from, int to)
{
    char c;
    if (read(from, &c, 1) != 1 || write(to, &c, 1) != 1)
        abort();
}

static void *answer(void *arg)
{
    for (long n = *(long *)arg; n; n--)
        pass(there[0], back[1]);
    return NULL;
}

static void switches(long n)
{
    pthread_t other;
    if (pthread_create(&other, NULL, answer, &n) || write(there[1], "", 1) != 1)
        abort();
    for (long i = 1; i < n; i++)
        pass(back[0], there[1]);
    pthread_join(other, NULL);
}

int main(int argc, char **argv)
{
    long n = argc > 2 ? atol(argv[2]) : 100000;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    if (pipe(there) || pipe(back))
        return 1;
    uint64_t begin = now();
    if (argc > 1 && !strcmp(argv[1], "calls"))
        for (long i = 0; i < n; i++)
            syscall(SYS_getppid);
    else
        switches(n);
    printf("%.1f\n", (double)(now() - begin) / (double)n);
    return 0;
}
