// SPDX-License-Identifier: MIT
//
// The kernel trace of a recording: what the scheduler did with a process tree's threads, into files in Go's format
// (kernel_build.h) while it runs. A thread of our own takes the records.
//
// What always holds
//   - Nothing is done to the processes; nothing runs in the kernel once kernel_trace_stop has returned or we have died.
//   - Needs what features.h names to start. The thread that takes the records then gives up what it does not need
//     (privileges.h); what the one that has started it gives up is its own matter.
//   - Callbacks come on that thread, which takes no signals; the last of them before kernel_trace_stop returns.

#ifndef FIBERSCOPE_COLLECTOR_BPF_KERNEL_TRACE_H
#define FIBERSCOPE_COLLECTOR_BPF_KERNEL_TRACE_H

#include "collector/bpf/kernel_build.h"

#include <sys/types.h>

struct kernel_trace;

struct kernel_trace_options {
    size_t size;         // sizeof(struct kernel_trace_options)
    pid_t pid;           // whom: it and its children, those that are there and those to come
    bool no_inherit;     // it alone
    uint32_t version;    // as kernel_build_options
    uint64_t ring_bytes; // a power of two; 0: 32 MiB
    int (*open_file)(void *arg, uint32_t number, struct fscope_error *err);
    void (*close_file)(void *arg, const struct kernel_build_file *f, int rc);
    bool (*may_write)(void *arg); // as privileges_drop
    void *arg;
};

// Loads, attaches, and records from then on. 0 or -errno: -EPERM (not allowed), -ENOTSUP (the kernel, or this build,
// cannot). The caller owns *out: kernel_trace_free.
int kernel_trace_start(struct kernel_trace **out, const struct kernel_trace_options *o,
                       struct fscope_error *err);

// What this kernel does not say is the end of a wait: "sockets (tracepoint sk_data_ready)"; "" if nothing is missing.
const char *kernel_trace_lacks(const struct kernel_trace *t);

// Ends it: files are complete. 0 or the first error there was. Call once.
int kernel_trace_stop(struct kernel_trace *t);

void kernel_trace_free(struct kernel_trace *t); // accepts NULL; stops

#endif
