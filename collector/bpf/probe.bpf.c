// SPDX-License-Identifier: MIT
//
// What the kernel must be able to do for us, in small: features.c loads it and names what is refused.

#include "collector/bpf/kernel_types.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} ring SEC(".maps");

SEC("perf_event")
int probe_sample(void *ctx)
{
    return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(probe_switch, _Bool preempt, struct task_struct *prev, struct task_struct *next)
{
    return 0;
}

char program_license[] SEC("license") = "Dual MIT/GPL";
