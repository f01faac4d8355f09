// SPDX-License-Identifier: MIT
//
// How many processors this process may use: its affinity, and the CPU quota of its control groups,
// each group's and its ancestors' (cgroup v2: cpu.max; v1: cpu.cfs_quota_us), as Go does since 1.25.

#include "runtime/os/os.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssize_t read_file(const char *path, char *to, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, to, size - 1);
    close(fd);
    if (n >= 0)
        to[n] = 0;
    return n;
}

// The smallest quota in CPUs from dir upwards to root; limit if there is none.
static double quota_upwards(const char *root, char *dir, bool is_v2, double limit)
{
    char path[4400], text[128], period[64];
    for (;;) {
        double quota = 0, per = 0;
        snprintf(path, sizeof path, "%s%s/%s", root, dir, is_v2 ? "cpu.max" : "cpu.cfs_quota_us");
        if (read_file(path, text, sizeof text) > 0) {
            if (is_v2) {
                if (sscanf(text, "%lf %lf", &quota, &per) != 2)
                    quota = 0; // "max"
            } else {
                snprintf(path, sizeof path, "%s%s/cpu.cfs_period_us", root, dir);
                quota = atof(text);
                per = read_file(path, period, sizeof period) > 0 ? atof(period) : 0;
            }
            if (quota > 0 && per > 0 && quota / per < limit)
                limit = quota / per;
        }
        char *slash = strrchr(dir, '/');
        if (!slash || !*dir)
            return limit;
        *slash = 0;
    }
}

uint32_t os_cpus(void)
{
    cpu_set_t set;
    double cpus = 1;
    if (!sched_getaffinity(0, sizeof set, &set))
        cpus = CPU_COUNT(&set);
    else if (sysconf(_SC_NPROCESSORS_ONLN) > 0)
        cpus = (double)sysconf(_SC_NPROCESSORS_ONLN); // more than 1024: a set does not hold them

    static char text[8192];
    if (read_file("/proc/self/cgroup", text, sizeof text) > 0) {
        char *save = NULL;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
            char *names = strchr(line, ':');
            char *dir = names ? strchr(names + 1, ':') : NULL;
            if (!dir)
                continue;
            *dir++ = 0;
            if (!names[1])
                cpus = quota_upwards("/sys/fs/cgroup", dir, true, cpus);
            else if (strstr(names + 1, "cpu") && !strstr(names + 1, "cpuset"))
                cpus = quota_upwards("/sys/fs/cgroup/cpu", dir, false, cpus);
        }
    }
    uint32_t whole = (uint32_t)cpus;
    whole += (double)whole < cpus;
    return whole ? whole : 1;
}
