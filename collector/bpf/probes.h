// SPDX-License-Identifier: MIT
//
// The BPF programs beyond CPU samples and waits (memory.bpf.h, heap.bpf.h, sites.bpf.h): which are loaded, and attaching them.
// Part of programs.c.
//
// What always holds
//   - A uprobe is put into one process (all its threads, and what it executes of the same files), or, with pid -1, into all that
//     map the file, now and later. Taking it out, also by our death, takes it out of all, and their semaphores down again.
//   - What is in no process costs nothing.

#ifndef FIBERSCOPE_COLLECTOR_BPF_PROBES_H
#define FIBERSCOPE_COLLECTOR_BPF_PROBES_H

#include "collector/bpf/programs.h"

struct profile_bpf;
struct bpf_link;

struct bpf_probes {
    struct bpf_link **links;
    size_t count, capacity;
};

// Before loading: what is not asked for is not loaded, and its maps are small. 0 or -errno.
int bpf_probes_configure(struct profile_bpf *k, const struct bpf_programs_options *o);

// 0 or -errno, with the reason in err; what libbpf says is the caller's to add. bpf_probes_detach in any case.
int bpf_probes_attach(struct bpf_probes *p, struct profile_bpf *k,
                      const struct bpf_programs_options *o, struct fscope_error *err);
void bpf_probes_detach(struct bpf_probes *p);

struct profile_bpf *bpf_programs_skeleton(const struct bpf_programs *p);

#endif
