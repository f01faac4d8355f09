// SPDX-License-Identifier: MIT
//
// See inject.h. What was recorded is parked, while the agent is out of service, in private memory at the same place: so
// pointers into it stay good, also those of a thread that is just leaving a hook, and no file is kept open.

#include "agent/inject.h"

#include "agent/agent.h"
#include "agent/api.h"
#include "agent/arch/x86_64.h"
#include "agent/call.h"
#include "agent/futex.h"
#include "agent/heap.h"
#include "agent/held.h"
#include "agent/hooks_got.h"
#include "emit/emit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PAGE = 4096, ENTRIES = 8192 }; // of pagemap: on the injector's stack, which has 256 KiB

static bool is_injected, is_parked, is_out; // under agent.api_lock

extern _Atomic uint32_t fscope_agent_injected;
EXPORTED _Atomic uint32_t fscope_agent_injected;

static bool failed(long at)
{
    return at < 0 && at > -PAGE;
}

// --- The segment's memory.

// What the file has of data, into private memory that then takes the mapping's place.
static int park(int fd)
{
    const struct seg *s = &agent.space->seg;
    uint64_t size = s->bytes;
    long copy = sys6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1, 0);
    if (failed(copy))
        return (int)copy;
    for (long from = 0; (uint64_t)from < size;) {
        long data = sys3(SYS_lseek, SYS_ARG(fd), from, SEEK_DATA);
        if (data < 0)
            break; // nothing but holes
        long hole = sys3(SYS_lseek, SYS_ARG(fd), data, SEEK_HOLE);
        if (hole <= data || (uint64_t)hole > size)
            hole = (long)size;
        for (from = data; from < hole;) {
            long n = sys4(SYS_pread64, SYS_ARG(fd), copy + from, hole - from, from);
            if (n <= 0) {
                sys2(SYS_munmap, copy, size);
                return n ? (int)n : -EIO;
            }
            from += n;
        }
    }
    sys3(SYS_madvise, copy, size, MADV_DONTFORK);
    long at = sys5(SYS_mremap, copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, s->header);
    if (failed(at)) {
        sys2(SYS_munmap, copy, size);
        return (int)at;
    }
    return 0;
}

static int copy_range(int to, uint64_t start, uint64_t from, uint64_t end)
{
    while (from < end) {
        long n = sys4(SYS_pwrite64, SYS_ARG(to), start + from, end - from, from);
        if (n <= 0)
            return n ? (int)n : -EIO;
        from += (uint64_t)n;
    }
    return 0;
}

// The pages that have ever been written: those in memory, and those on swap.
static int copy_pages(int to, uint64_t start, uint64_t size)
{
    uint64_t entries[ENTRIES], from = 0, end = 0; // [from, end): to be written
    int rc = 0;
    int map = (int)sys4(SYS_openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
    if (map < 0)
        return map;
    for (uint64_t at = 0; at < size && !rc;) {
        long n = sys4(SYS_pread64, SYS_ARG(map), entries, sizeof entries, (start + at) / PAGE * 8);
        rc = n < 8 ? (n < 0 ? (int)n : -EIO) : 0;
        for (long i = 0; i < n / 8 && at < size && !rc; i++, at += PAGE) {
            if (!(entries[i] >> 62))
                continue;
            if (at != end) {
                rc = copy_range(to, start, from, end);
                from = at;
            }
            end = at + PAGE;
        }
    }
    if (!rc)
        rc = copy_range(to, start, from, end);
    sys1(SYS_close, SYS_ARG(map));
    return rc;
}

// Into a new file, for the next collector.
static int unpark(void)
{
    const struct seg *s = &agent.space->seg;
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    sys2(SYS_getrlimit, RLIMIT_FSIZE, &limit);
    if (limit.rlim_cur < s->bytes)
        return -EFBIG; // the kernel would send SIGXFSZ
    int fd = (int)sys2(SYS_memfd_create, "fiberscope", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return fd;
    long rc = sys2(SYS_ftruncate, SYS_ARG(fd), s->bytes);
    if (!rc)
        rc = copy_pages(fd, (uint64_t)s->header, s->bytes);
    if (!rc)
        rc = sys3(SYS_fcntl, SYS_ARG(fd), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    if (!rc) {
        long at = sys6(SYS_mmap, SYS_ARG(s->header), s->bytes, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, SYS_ARG(fd), 0);
        rc = failed(at) ? at : 0;
    }
    if (rc) {
        sys1(SYS_close, SYS_ARG(fd));
        return (int)rc;
    }
    sys3(SYS_madvise, s->header, s->bytes, MADV_DONTFORK);
    agent_keep_segment(fd);
    return 0;
}

// --- Into service, and out of it.

static int attach(void)
{
    if (!agent.space) // its memory could not be had as it was loaded
        return -ENOMEM;
    if (!hooks_came_late)
        return 0; // it was there from the start
    if (is_parked) {
        int rc = unpark();
        if (rc)
            return rc;
        is_parked = false;
    }
    if (is_out) {
        signals_give_back(); // where a detach was not ended
        int rc = sample_install();
        if (rc)
            return rc;
        is_out = false;
    }
    agent.configured = agent_live();
    hooks_got_begin();
    call_ready();
    is_injected = true;
    atomic_store_explicit(&fscope_agent_injected, 1, memory_order_relaxed);
    return 0;
}

static bool has_consumer(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = agent_segment_fd();
    return fd >= 0 && !sys3(SYS_fcntl, SYS_ARG(fd), F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK;
}

static void stop_all(void)
{
    struct seg_control *c = &agent.space->seg.header->control;
    agent.env.cpu_hz = agent.env.wall_hz = 0;
    agent.env.heap_bytes = agent.env.block_ns = agent.env.mutex_fraction = 0;
    agent.env.order = false;
    agent.env.socket[0] = '\0';
    held_own(~0u);
    held_watch(true);
    agent.child_period_ns = 0;
    agent.configured = false; // nor do children record
    agent_disarm_all();
    heap_stop();
    atomic_store_explicit(&c->block_rate_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&c->mutex_fraction, 0, memory_order_relaxed);
    atomic_store_explicit(&c->region_times, 0, memory_order_relaxed);
    region_times_update();
    if (emit_is_wanted())
        emit_stop();
    lock_order_want(false);
    lock_update();
}

static int detach_begin(void)
{
    if (!is_injected)
        return -EPERM;
    if (agent_live() && has_consumer())
        return -EBUSY;
    call_unready();
    if (agent_live())
        stop_all();
    // Before the slots: from there on waits pass by our hooks, and a signal of ours would end them.
    int rc = signals_ignore();
    if (rc)
        return rc;
    is_out = true;
    return hooks_got_end() ? 0 : -EAGAIN; // it is called again
}

static int detach_end(void)
{
    if (!is_out)
        return -EPERM;
    int rc = signals_give_back(), fd = agent_segment_fd();
    if (fd < 0 || is_parked)
        return rc;
    int parked = agent_live() ? park(fd) : 0;
    if (parked)
        return parked; // it keeps its file: no harm
    is_parked = agent_live();
    sys1(SYS_close, SYS_ARG(fd));
    agent.segment_fd = -1;
    return rc;
}

EXPORTED int32_t fscope_agent_inject(uint64_t what)
{
    if (call_is_one(what)) {
        call_take(what, true);
        return 0;
    }
    if (!futex_try(&agent.api_lock))
        return -EAGAIN;
    int rc = what == INJECT_ATTACH         ? attach()
             : what == INJECT_DETACH_BEGIN ? detach_begin()
             : what == INJECT_DETACH_END   ? detach_end()
                                           : -EINVAL;
    futex_unlock(&agent.api_lock);
    return rc;
}
