// SPDX-License-Identifier: MIT
//
// What this kernel and this user can do with BPF, and if something is refused, by what and what to do.
//
// Wanted: Linux 5.19 (bpf_loop is of 5.17; before 5.19 maps cannot be used once privileges are given up), BTF of the kernel, CAP_BPF and CAP_PERFMON of the first user namespace (CAP_SYS_ADMIN is
// both), the first pid namespace (the kernel's samples have its numbers), and bpf(2) and perf_event_open(2) let through.
//
// Invariant: nothing is concluded from a setting where it can be tried instead: maps are made, programs loaded, events
// opened. Settings are read only to say why a trial failed.
//
// Any thread; nothing here prints, and nothing stays.

#ifndef FIBERSCOPE_COLLECTOR_BPF_FEATURES_H
#define FIBERSCOPE_COLLECTOR_BPF_FEATURES_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define BPF_KERNEL_MIN "5.19"

enum bpf_refusal {
    BPF_ALLOWED,
    BPF_REFUSED_BUILD,          // made without libbpf
    BPF_REFUSED_NO_BPF,         // a kernel without bpf(2)
    BPF_REFUSED_CAPABILITY,     // CAP_BPF or CAP_PERFMON is missing
    BPF_REFUSED_USER_NAMESPACE, // there are capabilities, and they do not count
    BPF_REFUSED_FILTER,         // seccomp
    BPF_REFUSED_LOCKDOWN,       // the kernel's
    BPF_REFUSED_POLICY,         // a security module, by elimination
    BPF_REFUSED_PID_NAMESPACE,
    BPF_REFUSED_KERNEL, // too old: lacks something
    BPF_REFUSED_BTF,    // the kernel does not describe its types
    BPF_REFUSED_MEMORY,
    BPF_REFUSED_PERF,  // no event on a whole CPU
    BPF_REFUSED_OTHER, // a program that should load does not
};

// What the trials said: errno of each, 0 where it went well, and of the settings what explains a refusal.
struct bpf_facts {
    bool is_built;
    int map_error, program_error, event_error, btf_error, tracing_error;
    const char *lacks; // "bpf_loop": the first thing that this kernel does not know; NULL: nothing
    bool has_bpf, has_perfmon;                // capabilities; CAP_SYS_ADMIN counts as both
    bool is_user_namespace, is_pid_namespace; // not the first one
    bool has_filter, has_no_filter;           // seccomp; neither: unknown
    bool is_locked_down;                      // confidentiality
    bool is_kernel_hidden;                    // no program may read the kernel's memory
    char release[65];
    char event_text[320]; // why no event, and what to do
};

struct bpf_verdict {
    enum bpf_refusal why;
    int error;        // errno of the trial that failed, 0
    char cause[320];  // "CAP_BPF is missing"
    char remedy[320]; // "run as root, or ..."
};

void bpf_facts_find(struct bpf_facts *out);
void bpf_facts_judge(const struct bpf_facts *f, struct bpf_verdict *out); // looks at nothing but f

// Both: 0, or -EPERM, -ENOTSUP, -ENOMEM with cause and remedy in err.
int bpf_features_check(struct fscope_error *err);

// "none", "CAP_BPF", "CAP_BPF and CAP_PERFMON": which of the two are missing.
const char *bpf_facts_missing(const struct bpf_facts *f);

#endif
