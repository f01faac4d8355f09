// SPDX-License-Identifier: MIT
//
// What the reader's files share. A reader has its bytes in one of four places:
//
//   live and sealed     a shared mapping: the file cannot shrink, so no access faults
//   live, a named file  behind pread and pwrite: its owner may truncate it, which would be SIGBUS
//                       in a mapping and is a short read here
//   another's memory    behind a function that reads it, where the file cannot be had
//   a dead one          an anonymous copy of what the dump, black box or core file had
//
// reader_get hides the difference. `header` and `tables` are copies, validated once; no size or
// offset is taken from anywhere else.

#ifndef FIBERSCOPE_SEGMENT_READER_INTERNAL_H
#define FIBERSCOPE_SEGMENT_READER_INTERNAL_H

#include "segment/consumer.h"

enum { READER_STRING_MAX = UINT16_MAX };

struct reader_trace { // where the trace's buffers are, as first read
    uint32_t buffer_count, buffer_bytes;
    uint64_t data_offset, units_per_second;
};

struct seg_reader {
    int fd;            // locked; -1 for dead ones
    bool is_live;      // else the tails are moved in the private copy only
    uint8_t *base;     // the mapping or the copy; NULL: go through fd
    seg_read_fn *read; // instead of both, if not NULL
    void *read_arg;
    uint64_t bytes;        // what may be read
    uint64_t mapped_bytes; // what munmap must be told; 0 without a mapping
    struct seg_header header;
    struct seg_table stacks, blobs;
    struct reader_trace trace; // buffer_count 0: not looked at yet, or there are none
    uint32_t holding;          // 1 << enum seg_held
    uint32_t held_until;       // hold.h; 0: nothing is
    struct seg_control shadow; // of a live named file, see seg_reader_control_commit
};

// Copies n bytes at offset of the segment; 0, or -EINVAL beyond its end, or -EIO.
int reader_get(const struct seg_reader *r, uint64_t offset, void *out, uint64_t n);

// An aligned word that a producer stores with release, loaded with acquire; 0 beyond the end.
uint64_t reader_word(const struct seg_reader *r, uint64_t offset);

// Copies and validates the header and the tables' heads. `what` names the source in errors.
int reader_validate(struct seg_reader *r, const char *what, struct fscope_error *err);

#endif
