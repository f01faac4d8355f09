// SPDX-License-Identifier: MIT
//
// See sideband.h.

#include "collector/bpf/sideband.h"

#include "collector/perf_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CPUS_MAX = 4096 };
// A process that starts writes some 4 KiB; these are 256 of them between two looks.
#define RING_BYTES_MAX   (UINT64_C(1) << 20)
#define RING_BYTES_MIN   (UINT64_C(16) << 10)
#define RING_BYTES_TOTAL (UINT64_C(64) << 20)

struct sideband {
    struct perf_event_attr attr;
    struct perf_ring *rings;
    struct pollfd *polls; // [count + 1]
    size_t count;
};

static void fill_attr(struct perf_event_attr *attr, uint64_t ring_bytes)
{
    perf_format_processes(attr, PERF_COUNT_SW_DUMMY, ring_bytes);
    attr->sample_period = 1;
    attr->exclude_kernel = 1;
    perf_format_fill(attr, false, 0);
    perf_format_no_copies(attr);
}

static void close_rings(struct sideband *s)
{
    for (size_t i = 0; i < s->count; i++) {
        perf_ring_close(&s->rings[i]);
        close(s->polls[i].fd);
    }
    s->count = 0;
}

static int open_one(struct sideband *s, int cpu, uint64_t ring_bytes)
{
    int fd = perf_event_open_raw(&s->attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd == -ENODEV)
        return 0; // offline
    if (fd < 0)
        return fd;
    int rc = perf_ring_open(&s->rings[s->count], fd, ring_bytes);
    if (rc) {
        close(fd);
        return rc == -EPERM ? -ENOMEM : rc; // over perf_event_mlock_kb, not a filter
    }
    s->polls[s->count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    return 0;
}

static int open_rings(struct sideband *s, int cpus, uint64_t ring_bytes)
{
    int rc = 0;
    fill_attr(&s->attr, ring_bytes);
    for (int cpu = 0; cpu < cpus && !rc; cpu++)
        rc = open_one(s, cpu, ring_bytes);
    if (rc)
        close_rings(s);
    return rc;
}

int sideband_open(struct sideband **out, struct fscope_error *err)
{
    char why[320];
    long cpus = sysconf(_SC_NPROCESSORS_CONF);
    cpus = cpus < 1 ? 1 : cpus > CPUS_MAX ? CPUS_MAX : cpus;
    struct sideband *s = calloc(1, sizeof *s);
    int rc = -ENOMEM;
    if (s) {
        s->rings = calloc((size_t)cpus, sizeof *s->rings);
        s->polls = calloc((size_t)cpus + 1, sizeof *s->polls);
    }
    if (!s || !s->rings || !s->polls) {
        sideband_close(s);
        return error_set(err, rc, 0, "out of memory");
    }
    uint64_t bytes = RING_BYTES_MAX;
    while (bytes > RING_BYTES_MIN && bytes * (uint64_t)cpus > RING_BYTES_TOTAL)
        bytes /= 2;
    while ((rc = open_rings(s, (int)cpus, bytes)) == -ENOMEM && bytes > RING_BYTES_MIN)
        bytes /= 2;
    if (rc) {
        perf_event_explain(perf_event_classify(-rc, 0), -rc, 0, why, sizeof why);
        sideband_close(s);
        return error_set(err, rc, 0, "%s", why);
    }
    *out = s;
    return 0;
}

void sideband_close(struct sideband *s)
{
    if (!s)
        return;
    if (s->rings && s->polls)
        close_rings(s);
    free(s->rings);
    free(s->polls);
    free(s);
}

int64_t sideband_drain(struct sideband *s, uint64_t horizon_ns, perf_record_fn *fn, void *arg)
{
    return perf_rings_drain(s->rings, s->count, &s->attr, horizon_ns, fn, arg);
}

int sideband_wait(struct sideband *s, int extra_fd, int timeout_ms)
{
    struct pollfd *extra = &s->polls[s->count];
    *extra = (struct pollfd){.fd = extra_fd, .events = POLLIN};
    if (poll(s->polls, s->count + 1, timeout_ms) < 0)
        return -errno;
    return extra->revents != 0;
}

uint64_t sideband_damaged(const struct sideband *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        n += s->rings[i].damaged;
    return n;
}
