// SPDX-License-Identifier: MIT
//
// A program linked with -lfiberscope that profiles itself: a thread from before the start is sampled,
// stop stops, start continues, and the dump goes to the file it names.

#include <fiberscope/profile.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic int stop;
static volatile unsigned long sink;

static void *work(void *arg)
{
    while (!stop)
        sink = sink + 1;
    return arg;
}

static double used(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    pthread_t t;
    struct timespec pause = {0, 300000000};
    struct fscope_cpu_options o = {sizeof o, 999, 0}, wrong = {sizeof o, 20000, 0};
    double recorded = 0;
    if (argc != 2 || pthread_create(&t, NULL, work, NULL))
        return 2;
    if (fscope_cpu_stop() != -EINVAL || fscope_cpu_write(1) != -ENODATA ||
        fscope_cpu_start(&wrong) != -EINVAL)
        return 3;
    for (int i = 0; i < 2; i++) {
        double before = used();
        if (fscope_cpu_start(&o) || fscope_cpu_start(NULL) != -EALREADY)
            return 4;
        nanosleep(&pause, NULL);
        if (fscope_cpu_stop())
            return 5;
        recorded += used() - before;
        nanosleep(&pause, NULL); // not recorded
    }
    if (fscope_cpu_save(argv[1]))
        return 6;
    stop = 1;
    pthread_join(t, NULL);
    printf("cpu 0 %.0f\nok\n", recorded);
    return 0;
}
