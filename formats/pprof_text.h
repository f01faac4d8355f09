// SPDX-License-Identifier: MIT
//
// Profiles as the texts that Go serves with debug=1: for people first, but `go tool pprof` (and pprof_read_memory)
// read them back.
//
// Invariant: what is read back has the samples that the profile has: the same addresses and the same values, by stack.
// Three things follow, each a trap:
//   - A reader takes every address of a stack as a return address and subtracts 1, so each is written plus 1.
//   - A reader scales what a sampled profile says. A struct pprof_profile holds scaled values already, so the texts say
//     that they are not sampled: rate 1 (written as `heap/2`, for by tradition twice the rate stands there), sampling
//     period 1, and a cycle is a nanosecond.
//   - A heap whose totals of allocated and in-use memory are equal would be read as one with two columns instead of
//     four; the one in the heading is then a byte larger.
// What the formats cannot hold is left out: other sample types, labels (of counts they are shown, as a comment),
// samples with negative values, counts of 0; and objects without bytes, which readers take as none.

#ifndef FIBERSCOPE_FORMATS_PPROF_TEXT_H
#define FIBERSCOPE_FORMATS_PPROF_TEXT_H

#include "base/error.h"
#include "formats/pprof.h"

#include <stdio.h>

enum pprof_text_kind {
    PPROF_TEXT_COUNT, // goroutine, threadcreate, custom: one value
    PPROF_TEXT_HEAP,  // alloc_objects, alloc_space, inuse_objects, inuse_space, among others
    PPROF_TEXT_BLOCK, // contentions, delay
    PPROF_TEXT_MUTEX, // the same
};

struct pprof_text_stat { // of the process: a line "# KEY = VALUE"
    const char *key;
    uint64_t value;
};

struct pprof_text_options {
    size_t size;                         // sizeof(struct pprof_text_options)
    const char *name;                    // of counts: "goroutine"; NULL: the sample type
    const struct pprof_text_stat *stats; // [stat_count], after a heap
    size_t stat_count;
    // How far a location is from the start of its function; false: not known, and then the name stands alone. NULL:
    // never known.
    bool (*offset)(void *arg, const struct pprof_location *l, uint64_t *bytes);
    void *arg;
};

// Writes p on out. opts may be NULL. Counts come by falling count, heaps by bytes in use, locks by delay. 0, -ENOMEM,
// -EINVAL (a sample type is missing), -EIO (out failed).
int pprof_text_write(const struct pprof_profile *p, enum pprof_text_kind kind,
                     const struct pprof_text_options *opts, FILE *out, struct fscope_error *err);

#endif
