// SPDX-License-Identifier: MIT
//
// Forks in the midst of a hook; see fork.h. Called by fork in whatever context that was: system calls alone.

#include "agent/fork.h"

#include "agent/arch/x86_64.h"
#include "agent/heap.h"
#include "emit/emit.h"

#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, RANGES = 4 };

struct range {
    void *at;
    uint64_t bytes;
};

static void find_ranges(struct range r[RANGES])
{
    uint64_t threads = heap.is_exact ? agent.slot_count * sizeof(struct agent_heap_thread) : 0;
    r[0] = (struct range){agent.space, sizeof *agent.space};
    r[1] = (struct range){agent.slots, (uint64_t)agent.slot_stride * agent.slot_count};
    r[2] = (struct range){heap.shared, heap.is_mapped ? PAGE + threads : 0};
    r[3] = (struct range){heap.live_memory, heap.is_mapped ? heap.live_bytes : 0};
    for (int i = 0; i < RANGES; i++)
        r[i].bytes = (r[i].bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static void advise(int advice)
{
    struct range r[RANGES];
    find_ranges(r);
    for (int i = 0; i < RANGES; i++)
        if (r[i].bytes)
            sys3(SYS_madvise, r[i].at, r[i].bytes, advice);
}

static bool is_within(void)
{
    return (agent_tls.capturing || emit_self_is_inside()) && agent_live();
}

void fork_prepare(void)
{
    if (!is_within())
        return;
    advise(MADV_KEEPONFORK);
    sys3(SYS_madvise, agent.space->seg.header, agent.space->seg.bytes, MADV_DOFORK);
}

void fork_parent(void)
{
    if (!is_within())
        return;
    advise(MADV_WIPEONFORK);
    sys3(SYS_madvise, agent.space->seg.header, agent.space->seg.bytes, MADV_DONTFORK);
}

static char *map_private(uint64_t bytes)
{
    long at = sys6(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1, 0);
    return at < 0 && at > -PAGE ? NULL : (char *)at;
}

// The pages that exist, to the same addresses. What fails leaves the child with zeroes, or in the worst case
// with the parent's, where it then counts one thing too many.
static void copy_segment(const struct seg *seg)
{
    uint64_t pages = (seg->bytes + PAGE - 1) / PAGE;
    const char *from = (const char *)seg->header;
    char *to = map_private(pages * PAGE), *is_there = map_private(pages);
    if (to && is_there && !sys3(SYS_mincore, from, pages * PAGE, is_there))
        for (uint64_t i = 0; i < pages; i++)
            if (is_there[i] & 1)
                memcpy(to + i * PAGE, from + i * PAGE, PAGE);
    if (is_there)
        sys2(SYS_munmap, is_there, pages);
    if (to)
        sys5(SYS_mremap, to, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, from);
}

bool fork_child(void)
{
    if (!is_within())
        return false;
    agent.is_ghost = true;
    copy_segment(&agent.space->seg);
    return true;
}

void fork_ghost_ends(void)
{
    sys2(SYS_munmap, agent.space->seg.header, agent.space->seg.bytes);
    advise(MADV_DONTNEED); // private memory: zeroes
    advise(MADV_WIPEONFORK);
}

void fork_try_end(void)
{
    if (agent.is_ghost && !is_within())
        agent_forget_parent();
}
