// SPDX-License-Identifier: MIT
//
// Giving up, once the BPF programs run, what was needed to start them.
//
// Kept is what reading from targets and writing the result takes, and only if it was there:
//   CAP_SYS_PTRACE          /proc/PID/maps, root and memory of other users' processes
//   CAP_DAC_READ_SEARCH     their mapped files, by path
//   CAP_CHECKPOINT_RESTORE  their mapped files by mapping, also deleted ones
//   CAP_SYSLOG              addresses in /proc/kallsyms
//   CAP_KILL                of who has started a command (more): passing signals on to it once it has changed its user
//   CAP_DAC_OVERRIDE        where the output cannot be written without it
//   CAP_BPF                 only permitted: in effect while the map of another file's table is made, which takes it
//                           (kernel.unprivileged_bpf_disabled). Without CAP_PERFMON it loads nothing that traces or reads
//                           memory. CAP_SYS_ADMIN, where that was there and CAP_BPF was not
// All else is gone for good: from the permitted, inheritable, ambient sets; no program that is executed gains any.
//
// Of the calling thread; threads that it starts later have no more.

#ifndef FIBERSCOPE_COLLECTOR_BPF_PRIVILEGES_H
#define FIBERSCOPE_COLLECTOR_BPF_PRIVILEGES_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

// may_write(arg): whether the output can be written, as things are now. more: what else is kept, capabilities as bits.
// 0 or -errno.
int privileges_drop(bool (*may_write)(void *arg), void *arg, uint64_t more,
                    struct fscope_error *err);

// Between these CAP_BPF is in effect, if it is permitted. What was in effect before; to be handed back.
uint64_t privileges_take_bpf(void);
void privileges_return(uint64_t effective);

// The capabilities that a process of these permitted ones keeps.
uint64_t privileges_kept(uint64_t permitted, bool may_write); // CAP_BPF apart

#endif
