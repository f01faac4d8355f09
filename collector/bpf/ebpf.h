// SPDX-License-Identifier: MIT
//
// record --method=ebpf: CPU profiles from outside, of a process and its children, of a control group or of all processes.
// The stacks are walked in the kernel (layout.h); what comes out is summed there.
//
// What always holds
//   - Nothing is put into a target, and nothing of it is stopped.
//   - Once sampling runs, privileges that are not needed further are gone (privileges.h).
//   - What is not in the profile is counted and told: losses, a rate below the asked one.

#ifndef FIBERSCOPE_COLLECTOR_BPF_EBPF_H
#define FIBERSCOPE_COLLECTOR_BPF_EBPF_H

#include "collector/record.h"

// As record_attach: of o->pid, or of the stopped child `child` with go_fd; or with o->whole_machine or o->cgroup of no single
// one (pid 0). Refusals (features.h) come before anything is started. 0 or -errno.
int record_ebpf(const struct record_options *o, int go_fd, const volatile int *stop,
                struct record_result *result, struct fscope_error *err);

// Whether that would be refused, before a command is started for it. 0 or -errno.
int record_ebpf_check(const struct record_options *o, struct fscope_error *err);

#endif
