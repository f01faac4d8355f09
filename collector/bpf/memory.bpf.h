// SPDX-License-Identifier: MIT
//
// Where a process grows, from outside: memory that becomes resident, and address space that is mapped, by the stack that did
// it. Part of profile.bpf.c.
//
// Resident memory is what the kernel counts (kmem:rss_stat): what is not a file's, so anonymous and shared memory. The
// tracepoint says how much there is, not what came, and other threads add at the same time, so what was added is what
// exceeds the most that was told before. It falls by calls that give memory back, and, told elsewhere, when the kernel takes it away.

#ifndef FIBERSCOPE_COLLECTOR_BPF_MEMORY_BPF_H
#define FIBERSCOPE_COLLECTOR_BPF_MEMORY_BPF_H

enum { MEMORY_ANONYMOUS = 1, MEMORY_SHARED = 3 }; // members of the tracepoint
enum { MEMORY_TRIES = 4 };
enum { CALL_MMAP = 9, CALL_MUNMAP = 11, CALL_BRK = 12, CALL_MREMAP = 25, CALL_MADVISE = 28 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct trace_event_raw_rss_stat {
    unsigned int mm_id, curr;
    int member;
    long size;
};
#pragma clang attribute pop

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1);  // programs.c
    __type(key, uint64_t);   // address space and member
    __type(value, uint64_t); // bytes
} resident SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1);  // programs.c
    __type(key, uint32_t);   // thread group id
    __type(value, uint64_t); // end of the heap, as the last brk had it
} breaks SEC(".maps");

static __always_inline void count_memory(void *ctx, struct task_struct *task, uint32_t slot,
                                         uint32_t kind, uint64_t bytes)
{
    struct sample m = {.ctx = ctx, .task = task, .kind = kind, .sum = {.count = 1, .ns = bytes}};
    struct scratch *s = scratch_take();
    if (!s) {
        count_lost_bytes(kind, bytes);
        return;
    }
    take(s, &m, slot);
    scratch_give(s);
}

// How much more there is than ever before: the sum of all that is found so is what has come.
static __always_inline uint64_t resident_grows(uint64_t *known, uint64_t size)
{
    uint64_t was = *known;
    for (int i = 0; i < MEMORY_TRIES; i++) {
        if (size <= was)
            return 0;
        uint64_t found = __sync_val_compare_and_swap(known, was, size);
        if (found == was)
            return size - was;
        was = found;
    }
    return 0; // others add as well, and tell of more
}

static __always_inline bool gives_back(const struct pt_regs *regs)
{
    uint64_t call = regs->orig_ax; // all bits: a fault
    return call == CALL_MUNMAP || call == CALL_MADVISE || call == CALL_BRK || call == CALL_MREMAP ||
           call == CALL_MMAP;
}

SEC("tracepoint/kmem/rss_stat")
int resident_changes(struct trace_event_raw_rss_stat *t)
{
    struct task_struct *task = bpf_get_current_task_btf();
    uint64_t size = (uint64_t)t->size, key = (uint64_t)t->mm_id << 2 | (uint32_t)t->member;
    uint32_t slot;
    bool is_ours = t->curr;
    if (t->member != MEMORY_ANONYMOUS && t->member != MEMORY_SHARED)
        return 0;
    uint64_t *known = bpf_map_lookup_elem(&resident, &key);
    if (!is_ours) {
        if (known && *known > size)
            *known = size; // the kernel took it
        return 0;
    }
    if (!is_watched(task, &slot) || told_by_sites(task) & BPF_TOLD_HEAP)
        return 0;
    if (!known) {
        bpf_map_update_elem(&resident, &key, &size, BPF_NOEXIST_);
        return 0;
    }
    uint64_t more = resident_grows(known, size);
    if (more) {
        count_memory(t, task, slot, BPF_SAMPLE_RESIDENT, more);
        return 0;
    }
    uint64_t was = *known;
    if (size < was && gives_back((const struct pt_regs *)bpf_task_pt_regs(task)) &&
        __sync_val_compare_and_swap(known, was, size) == was)
        count_memory(t, task, slot, BPF_SAMPLE_RETURNED, was - size);
    return 0;
}

static __always_inline int64_t whole_pages(uint64_t bytes)
{
    return (int64_t)((bytes + UNWIND_PAGE_BYTES - 1) & ~(uint64_t)(UNWIND_PAGE_BYTES - 1));
}

// What a call added to the address space, below 0: took from it.
static __always_inline int64_t mapped_by(const struct task_struct *task, const struct pt_regs *regs,
                                         long result)
{
    uint32_t pid = (uint32_t)task->tgid;
    uint64_t now = (uint64_t)result;
    switch (regs->orig_ax) {
    case CALL_MMAP: return whole_pages(regs->si);
    case CALL_MUNMAP: return -whole_pages(regs->si);
    case CALL_MREMAP: return whole_pages(regs->dx) - whole_pages(regs->si);
    default: break;
    }
    uint64_t *known = bpf_map_lookup_elem(&breaks, &pid);
    int64_t more = known ? (int64_t)(now - *known) : 0;
    bpf_map_update_elem(&breaks, &pid, &now, 0);
    return more;
}

// A child's heap ends where its parent's does; an image's where its own first brk says.
static __always_inline void break_forks(uint32_t from, uint32_t to)
{
    uint64_t *known = bpf_map_lookup_elem(&breaks, &from), end;
    if (known) {
        end = *known;
        bpf_map_update_elem(&breaks, &to, &end, 0);
    } else {
        bpf_map_delete_elem(&breaks, &to); // an earlier one's of this number
    }
}

static __always_inline void break_ends(uint32_t pid)
{
    bpf_map_delete_elem(&breaks, &pid);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(mapping_ends, struct pt_regs *regs, long result)
{
    uint64_t call = regs->orig_ax;
    if (regs->cs != USER_CS) // calls of 32 bits have other numbers
        return 0;
    if (call != CALL_MMAP && call != CALL_MUNMAP && call != CALL_BRK && call != CALL_MREMAP)
        return 0;
    struct task_struct *task = bpf_get_current_task_btf();
    uint32_t slot;
    if (!is_watched(task, &slot) || (result < 0 && result > -4096) ||
        told_by_sites(task) & BPF_TOLD_HEAP)
        return 0;
    int64_t more = mapped_by(task, regs, result);
    if (more)
        count_memory(ctx, task, slot, more > 0 ? BPF_SAMPLE_MAPPED : BPF_SAMPLE_UNMAPPED,
                     (uint64_t)(more > 0 ? more : -more));
    return 0;
}

#endif
