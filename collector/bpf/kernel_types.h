// SPDX-License-Identifier: MIT
//
// The few kernel types that the BPF programs read, with the few fields that they read: CO-RE finds each by its name in
// the running kernel's BTF, so order and offsets here say nothing. Included by BPF programs alone.

#ifndef FIBERSCOPE_COLLECTOR_BPF_KERNEL_TYPES_H
#define FIBERSCOPE_COLLECTOR_BPF_KERNEL_TYPES_H

#include <linux/bpf.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct thread_struct {
    unsigned long fsbase;
};

struct mm_struct;

struct task_struct {
    int pid;  // a thread's id, as user space says tid
    int tgid; // a process' id, as user space says pid
    unsigned int flags;
    struct mm_struct *mm; // NULL: a kernel thread, or one that has ended
    struct task_struct *group_leader;
    struct thread_struct thread;
    char comm[16];
    unsigned int __state; // since 5.14
};

struct pt_regs {
    unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs,
        flags, sp, ss;
};

#pragma clang attribute pop

#endif
