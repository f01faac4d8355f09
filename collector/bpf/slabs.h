// SPDX-License-Identifier: MIT
//
// The pages of the BPF programs' tables: maps of BPF_SLAB_PAGES pages each, made when they are needed and given back when
// none of their pages is in use. programs.c alone uses this.
//
// Invariant: a run's pages are [first, first + pages), which may reach over several slabs; page 0 is nobody's.

#ifndef FIBERSCOPE_COLLECTOR_BPF_SLABS_H
#define FIBERSCOPE_COLLECTOR_BPF_SLABS_H

#include <stdint.h>

struct bpf_slabs;

// map_fd: the array of maps, which stays the caller's. 0 or -ENOMEM. The caller owns *out.
int bpf_slabs_new(struct bpf_slabs **out, int map_fd);
void bpf_slabs_free(struct bpf_slabs *s); // accepts NULL; the slabs live as long as the map

// Copies the words into a run of pages; *first is where it begins, and is written last. 0, -ENOSPC, -errno.
int bpf_slabs_put(struct bpf_slabs *s, const uint32_t *words, uint32_t pages, uint32_t *first);
void bpf_slabs_drop(struct bpf_slabs *s, uint32_t first);

#endif
