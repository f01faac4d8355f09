// SPDX-License-Identifier: MIT
//
// What bench_bpf.c compares with: a sampler as most are written, bpf_get_stackid and a count for each stack.

#include "collector/bpf/kernel_types.h"

#include <bpf/bpf_helpers.h>

const volatile unsigned target; // thread group id

struct {
    __uint(type, BPF_MAP_TYPE_STACK_TRACE);
    __uint(max_entries, 16384);
    __uint(key_size, 4);
    __uint(value_size, 127 * 8);
} stacks SEC(".maps");

struct key {
    unsigned pid, tid;
    int user, kernel;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, struct key);
    __type(value, unsigned long);
} counts SEC(".maps");

SEC("perf_event")
int sample_stackid(struct bpf_perf_event_data *ctx)
{
    unsigned long id = bpf_get_current_pid_tgid(), one = 1;
    struct key key = {.pid = (unsigned)(id >> 32), .tid = (unsigned)id};
    if (key.pid != target)
        return 0;
    key.user = (int)bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
    key.kernel = (int)bpf_get_stackid(ctx, &stacks, 0);
    unsigned long *count = bpf_map_lookup_elem(&counts, &key);
    if (count)
        __sync_fetch_and_add(count, 1);
    else
        bpf_map_update_elem(&counts, &key, &one, 0);
    return 0;
}

// The stack alone, without which thread it is of or a count.
SEC("perf_event")
int sample_stackid_alone(struct bpf_perf_event_data *ctx)
{
    if (bpf_get_current_pid_tgid() >> 32 == target)
        bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
    return 0;
}

char program_license[] SEC("license") = "Dual MIT/GPL";
