// SPDX-License-Identifier: MIT
//
// The least that a tracer does at a USDT site: it reads an argument and counts.

#define __TARGET_ARCH_x86

#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>
#include <bpf/usdt.bpf.h>

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, unsigned);
    __type(value, unsigned long);
} counts SEC(".maps");

SEC("usdt")
int count_hits(struct pt_regs *registers)
{
    unsigned key = 0;
    long id;
    unsigned long *n = bpf_map_lookup_elem(&counts, &key);
    if (n && !bpf_usdt_arg(registers, 0, &id) && id)
        ++*n;
    return 0;
}

char program_license[] SEC("license") = "Dual MIT/GPL";
