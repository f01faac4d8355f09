// SPDX-License-Identifier: MIT
//
// Whose contention and allocations are told by USDT sites (sites.bpf.h): of these processes the same is not counted by their
// futexes and page faults as well. Part of profile.bpf.c.
//
// Who is known to be told is set by the collector; whose site fires has told so itself. A process' entry goes with its image,
// and a child begins without one: where sites are of one process alone, they are not in its children.

#ifndef FIBERSCOPE_COLLECTOR_BPF_TOLD_BPF_H
#define FIBERSCOPE_COLLECTOR_BPF_TOLD_BPF_H

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1); // programs.c
    __type(key, uint32_t);  // thread group id
    __type(value, uint32_t);
} told SEC(".maps"); // enum bpf_told

static __always_inline uint32_t told_by_sites(const struct task_struct *task)
{
    uint32_t pid = (uint32_t)task->tgid;
    uint32_t *what = config.has_sites ? bpf_map_lookup_elem(&told, &pid) : 0;
    return what ? *what : 0;
}

static __always_inline void told_now(const struct task_struct *task, uint32_t what)
{
    uint32_t pid = (uint32_t)task->tgid;
    uint32_t *known = bpf_map_lookup_elem(&told, &pid);
    if (!known)
        bpf_map_update_elem(&told, &pid, &what, BPF_NOEXIST_);
    else if (what & ~*known)
        __sync_fetch_and_or(known, what);
}

static __always_inline void told_no_longer(uint32_t pid)
{
    if (config.has_sites)
        bpf_map_delete_elem(&told, &pid);
}

static __always_inline void told_executes(uint32_t pid)
{
    uint32_t *known = config.has_sites ? bpf_map_lookup_elem(&told, &pid) : 0;
    if (!known)
        return;
    if (*known & BPF_TOLD_AFTER_EXEC)
        __sync_fetch_and_and(known, ~(uint32_t)BPF_TOLD_AFTER_EXEC);
    else
        bpf_map_delete_elem(&told, &pid);
}

#endif
