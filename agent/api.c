// SPDX-License-Identifier: MIT
//
// fscope_cpu_*: the sampler in the program's own hands; see include/fiberscope/profile.h.

#include "fiberscope/profile.h"

#include "agent/agent.h"
#include "agent/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

enum { CPU_HZ_DEFAULT = 99 };

static pthread_mutex_t api_lock =
    PTHREAD_MUTEX_INITIALIZER; // start and stop, never a sampling path

static int start_locked(uint32_t cpu_hz, uint32_t wall_hz)
{
    if (agent_live() && atomic_load_explicit(&agent.space->running, memory_order_relaxed))
        return -EALREADY;
    int rc = agent_prepare();
    if (rc)
        return rc;
    agent.env.cpu_hz = cpu_hz;
    agent.env.wall_hz = wall_hz;
    if (!agent_live()) {
        agent.configured = true;
        return agent_begin(AGENT_WHY_START, false);
    }
    source_choose(&agent, true);
    atomic_store_explicit(&agent.space->running, 1, memory_order_relaxed);
    agent_arm_all();
    return 0;
}

EXPORTED int fscope_cpu_start(const struct fscope_cpu_options *options)
{
    struct fscope_cpu_options o = {0};
    if (options) // a caller of an older build has a shorter struct
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    if (o.cpu_hz > AGENT_HZ_MAX || o.wall_hz > AGENT_HZ_MAX)
        return -EINVAL;
    pthread_mutex_lock(&api_lock);
    int rc = start_locked(o.cpu_hz ? o.cpu_hz : CPU_HZ_DEFAULT, o.wall_hz);
    pthread_mutex_unlock(&api_lock);
    return rc;
}

EXPORTED int fscope_cpu_stop(void)
{
    int rc = -EINVAL;
    pthread_mutex_lock(&api_lock);
    if (agent_live() && atomic_exchange_explicit(&agent.space->running, 0, memory_order_relaxed)) {
        agent_disarm_all();
        rc = 0;
    }
    pthread_mutex_unlock(&api_lock);
    return rc;
}

EXPORTED int fscope_cpu_write(int fd)
{
    return agent_live() ? seg_dump(&agent.space->seg, fd) : -ENODATA;
}

EXPORTED int fscope_cpu_save(const char *path)
{
    char part[AGENT_PATH_BYTES + 16];
    if (!agent_live())
        return -ENODATA;
    int n = snprintf(part, sizeof part, "%s.%u.part", path, agent.space->pid);
    if (n < 0 || (size_t)n >= sizeof part)
        return -ENAMETOOLONG;
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = fscope_cpu_write(fd);
    if (close(fd) && !rc)
        rc = -errno;
    if (!rc && rename(part, path))
        rc = -errno;
    if (rc)
        unlink(part);
    return rc;
}
