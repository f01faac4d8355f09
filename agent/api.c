// SPDX-License-Identifier: MIT
//
// fscope_*_start, stop, write and save: the recording in the program's own hands; see
// include/fiberscope/profile.h.
//
// `running` says that the recording exists; what is recorded is what the control words say, and for
// forked children, whose segments are made anew, what agent.env says: both are kept alike.

#include "agent/api.h"

#include "fiberscope/profile.h"

#include "agent/agent.h"
#include "agent/futex.h"
#include "agent/heap.h"
#include "agent/held.h"
#include "agent/hooks.h"
#include "agent/lock_order.h"
#include "agent/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    CPU_HZ_DEFAULT = 99,
    BLOCK_NS_DEFAULT = 10000,
    BEGINNING_MS_MAX = 1000, // that another thread may take to begin a forked child's recording
};

static struct seg_control *control(void)
{
    return &agent.space->seg.header->control;
}

static uint64_t word(const _Atomic uint64_t *w)
{
    return atomic_load_explicit(w, memory_order_relaxed);
}

static void set(_Atomic uint64_t *w, uint64_t value)
{
    atomic_store_explicit(w, value, memory_order_relaxed);
}

// A forked child goes on with what its parent records. One of its hooks may be beginning it just now.
static int begin_child(void)
{
    for (int ms = 0; ms < BEGINNING_MS_MAX; ms++) {
        const struct timespec pause = {0, 1000000};
        if (agent_here())
            return 0;
        sys2(SYS_nanosleep, &pause, NULL);
    }
    return -EBUSY;
}

static int begin_locked(void)
{
    agent_load_locked(); // another library's constructor, or a thread of its own, may come before ours
    int rc = agent_prepare();
    if (rc)
        return rc;
    if (agent_live())
        return 0;
    if (agent.configured && agent.is_child)
        return begin_child();
    rc = agent_begin(AGENT_WHY_START, false);
    if (rc) // the next call may fare better
        atomic_store_explicit(&agent.space->beginning, 0, memory_order_relaxed);
    agent.configured = !rc;
    return rc;
}

int api_begin(void)
{
    if (agent_live())
        return 0;
    futex_lock(&agent.api_lock);
    int rc = begin_locked();
    futex_unlock(&agent.api_lock);
    return rc;
}

// --- CPU and wall time.

static bool is_sampling(void)
{
    return word(&control()->cpu_period_ns) || word(&control()->wall_period_ns);
}

static void set_rates(uint32_t cpu_hz, uint32_t wall_hz)
{
    agent.env.cpu_hz = cpu_hz;
    agent.env.wall_hz = wall_hz;
    source_choose(&agent, cpu_hz != 0);
    agent.child_period_ns = word(&control()->cpu_period_ns);
}

static int cpu_start_locked(uint32_t cpu_hz, uint32_t wall_hz)
{
    int rc = begin_locked();
    if (rc)
        return rc;
    if (is_sampling())
        return -EALREADY;
    set_rates(cpu_hz, wall_hz);
    rc = agent_arm_all();
    if (rc) {
        set_rates(0, 0);
        agent_disarm_all();
    } else {
        held_own(1u << SEG_HELD_SAMPLES);
    }
    return rc;
}

EXPORTED int fscope_cpu_start(const struct fscope_cpu_options *options)
{
    struct fscope_cpu_options o = {0};
    if (options) // a caller of an older build has a shorter struct
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    if (o.cpu_hz > AGENT_HZ_MAX || o.wall_hz > AGENT_HZ_MAX)
        return -EINVAL;
    futex_lock(&agent.api_lock);
    int rc = cpu_start_locked(o.cpu_hz ? o.cpu_hz : CPU_HZ_DEFAULT, o.wall_hz);
    futex_unlock(&agent.api_lock);
    return rc;
}

EXPORTED int fscope_cpu_stop(void)
{
    int rc = -EINVAL;
    futex_lock(&agent.api_lock);
    if (agent_here() && is_sampling()) {
        source_say_rate();
        set_rates(0, 0); // first: a thread that is just arming finds out at its first signal
        agent_disarm_all();
        held_own(1u << SEG_HELD_SAMPLES);
        rc = 0;
    }
    futex_unlock(&agent.api_lock);
    return rc;
}

static _Atomic uint32_t blind_looked; // 1: it can be seen; 2: not

const char *api_blind(void)
{
    static const char *_Atomic why;
    // acquire: pairs with the release below
    uint32_t is = atomic_load_explicit(&blind_looked, memory_order_acquire);
    if (!is) {
        if (!hooks_ready())
            hooks_resolve();
        const char *refusal = heap_refusal();
        atomic_store_explicit(&why, refusal, memory_order_relaxed);
        is = refusal ? 2 : 1;
        // release: pairs with the acquire above; two threads find the same
        atomic_store_explicit(&blind_looked, is, memory_order_release);
    }
    return is == 2 ? atomic_load_explicit(&why, memory_order_relaxed) : NULL;
}

// --- Heap.

static int heap_start_locked(uint64_t rate)
{
    if (api_blind())
        return -ENOTSUP;
    uint64_t was = agent.env.heap_bytes;
    bool is_new = !agent_live();
    if (is_new)
        agent.env.heap_bytes = rate; // the segment is made with what counting everything needs
    int rc = begin_locked();
    if (!rc)
        rc = heap_start(rate);
    if (!rc)
        held_own(1u << SEG_HELD_HEAP);
    if (rc && is_new)
        agent.env.heap_bytes = was;
    return rc;
}

int api_heap_start_here(uint64_t rate_bytes)
{
    if (heap_is_on())
        return -EALREADY;
    switch (atomic_load_explicit(&blind_looked, memory_order_acquire)) {
    case 0: return -EINPROGRESS;
    case 1: return heap_start(rate_bytes);
    default: return -ENOTSUP;
    }
}

EXPORTED int fscope_heap_start(uint64_t rate_bytes)
{
    futex_lock(&agent.api_lock);
    int rc = heap_start_locked(rate_bytes ? rate_bytes : AGENT_HEAP_BYTES_DEFAULT);
    futex_unlock(&agent.api_lock);
    return rc;
}

// --- Locks, and what stops like them.

static int start_word(_Atomic uint64_t *(*which)(void), uint64_t *setting, uint64_t value,
                      enum seg_held kind)
{
    futex_lock(&agent.api_lock);
    int rc = begin_locked();
    if (!rc) {
        *setting = value;
        set(which(), value);
        held_own(1u << kind);
        lock_update();
    }
    futex_unlock(&agent.api_lock);
    return rc;
}

static int stop_word(_Atomic uint64_t *(*which)(void), uint64_t *setting, enum seg_held kind)
{
    int rc = -EINVAL;
    futex_lock(&agent.api_lock);
    if (agent_here() && word(which())) {
        *setting = 0;
        set(which(), 0);
        held_own(1u << kind);
        lock_update();
        rc = 0;
    }
    futex_unlock(&agent.api_lock);
    return rc;
}

static _Atomic uint64_t *block_word(void)
{
    return &control()->block_rate_ns;
}

static _Atomic uint64_t *mutex_word(void)
{
    return &control()->mutex_fraction;
}

EXPORTED int fscope_heap_stop(void)
{
    futex_lock(&agent.api_lock);
    int rc = agent_here() ? heap_stop() : -EINVAL;
    if (!rc)
        held_own(1u << SEG_HELD_HEAP);
    futex_unlock(&agent.api_lock);
    return rc;
}

EXPORTED int fscope_block_start(uint64_t rate_ns)
{
    return start_word(block_word, &agent.env.block_ns, rate_ns ? rate_ns : BLOCK_NS_DEFAULT,
                      SEG_HELD_BLOCK);
}

EXPORTED int fscope_block_stop(void)
{
    return stop_word(block_word, &agent.env.block_ns, SEG_HELD_BLOCK);
}

EXPORTED int fscope_mutex_start(uint64_t fraction)
{
    return start_word(mutex_word, &agent.env.mutex_fraction, fraction ? fraction : 1,
                      SEG_HELD_MUTEX);
}

EXPORTED int fscope_mutex_stop(void)
{
    return stop_word(mutex_word, &agent.env.mutex_fraction, SEG_HELD_MUTEX);
}

// The order of locks. What is on already goes on, with what is known.
static int order_start_locked(void)
{
    bool was = agent.env.order;
    agent.env.order = true; // a black box is made with room for it
    int rc = begin_locked();
    if (!rc && !lock_order_want(true))
        rc = -EBUSY;
    if (rc)
        agent.env.order = was;
    else
        lock_update();
    return rc;
}

EXPORTED int fscope_order_start(void)
{
    futex_lock(&agent.api_lock);
    int rc = order_start_locked();
    futex_unlock(&agent.api_lock);
    return rc;
}

EXPORTED int fscope_order_stop(void)
{
    int rc = -EINVAL;
    futex_lock(&agent.api_lock);
    if (agent_here() && lock_order_is_wanted()) {
        agent.env.order = false;
        lock_order_want(false);
        lock_update();
        rc = 0;
    }
    futex_unlock(&agent.api_lock);
    return rc;
}

// --- Writing.

EXPORTED int fscope_write(int fd)
{
    return agent_live() ? seg_dump(&agent.space->seg, fd) : -ENODATA;
}

EXPORTED int fscope_save(const char *path)
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
    int rc = fscope_write(fd);
    if (close(fd) && !rc)
        rc = -errno;
    if (!rc && rename(part, path))
        rc = -errno;
    if (rc)
        unlink(part);
    return rc;
}

EXPORTED int fscope_cpu_write(int fd)
{
    return fscope_write(fd);
}

EXPORTED int fscope_cpu_save(const char *path)
{
    return fscope_save(path);
}
