// SPDX-License-Identifier: MIT
//
// Interning byte strings in a table of the segment. Producer side, async-signal-safe.
//
// Protocol of a slot: 0 -> CLAIMED|hash by compare-and-swap; the claimant writes bytes and fields;
// then READY|hash is released. A claimed slot may stay claimed for ever (its owner was killed, or is
// the code that this signal handler interrupted), so nobody waits on one: a probe passes it by, and
// equal bytes may end up in two slots.

#ifndef FIBERSCOPE_SEGMENT_TABLE_H
#define FIBERSCOPE_SEGMENT_TABLE_H

#include "segment/layout.h"

#include <stdbool.h>

// What makes two entries equal, besides their bytes.
struct seg_table_key {
    uint32_t epoch, kind, flags;
};

// The id (slot index + 1) of these bytes, interned if need be; 0 if the table is full.
uint32_t seg_table_intern(struct seg_table *t, const void *bytes, uint32_t size,
                          struct seg_table_key key);

// Whether a core file shall have these bytes: the kernel writes out, and so allocates, every page of
// a shared mapping that it is not told to leave out. Whole pages: more are kept, fewer left out.
void seg_keep_in_core(const void *start, uint64_t bytes, bool keep);

// The part of a table's arena that is in core files from the start; the rest follows as it fills.
#define SEG_CORE_CHUNK (UINT64_C(1) << 20)

// A 62-bit hash of words; used for state keys too. Never 0.
uint64_t seg_hash(const void *bytes, uint32_t size, uint64_t seed);

#endif
