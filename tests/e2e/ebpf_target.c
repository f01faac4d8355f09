// SPDX-License-Identifier: MIT
//
// Short processes, each of which burns in a function of its own name. Usage: ebpf_target COUNT AT_ONCE MS [NAME]
// Starts COUNT processes, AT_ONCE at a time, each this program again, which burns MS of CPU time in burn_NAME, sleeps as
// long, and ends.
// Prints "want PID burn_NAME" for each, and how many seconds it took: "seconds S".

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long sink;

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#define BURN(name)                                                                                 \
    __attribute__((noinline)) static void burn_##name(double until)                                \
    {                                                                                              \
        while (seconds(CLOCK_PROCESS_CPUTIME_ID) < until)                                          \
            for (int i = 0; i < 10000; i++)                                                        \
                sink = sink * 31 + (unsigned long)i;                                               \
        sink++;                                                                                    \
    }
BURN(a)
BURN(b)
BURN(c)
BURN(d)
BURN(e)
BURN(f)
BURN(g)
BURN(h)

static const struct {
    const char *name;
    void (*burn)(double until);
} kinds[] = {{"a", burn_a}, {"b", burn_b}, {"c", burn_c}, {"d", burn_d},
             {"e", burn_e}, {"f", burn_f}, {"g", burn_g}, {"h", burn_h}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void start(const char *self, int kind, const char *ms)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl(self, "short", "1", "1", ms, kinds[kind].name, (char *)NULL);
        _exit(127);
    }
    printf("want %d burn_%s\n", (int)pid, kinds[kind].name);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    for (int i = 0; argc > 4 && i < KINDS; i++)
        if (!strcmp(argv[4], kinds[i].name)) {
            kinds[i].burn(seconds(CLOCK_PROCESS_CPUTIME_ID) + atof(argv[3]) / 1000);
            usleep((useconds_t)(atof(argv[3]) * 1000));
            return 0;
        }
    int count = atoi(argv[1]), at_once = atoi(argv[2]);
    double begin = seconds(CLOCK_MONOTONIC);
    for (int i = 0; i < count; i++) {
        if (i >= at_once)
            wait(NULL);
        start("/proc/self/exe", i % KINDS, argv[3]);
    }
    while (wait(NULL) > 0)
        ;
    printf("seconds %.3f\n", seconds(CLOCK_MONOTONIC) - begin);
    return 0;
}
