// SPDX-License-Identifier: MIT
//
// Answers kept between runs, one file per build id: CACHE_DIR/symbols/BUILD_ID.
//
//   offset  size  field
//        0     8  magic "FSSYM\0\1\n"
//        8     8  identity: hash of size and time of the file and of its debug file
//       16     4  entry count       20  4  frame count      24  4  string bytes   28  4  crc32 of the rest
//       32  16*n  entries, addresses rising: u64 address, u32 first frame, u32 frame count
//       ..  28*n  frames: u32 name, system name, file (string offsets), line, column, start line, inlined
//       ..     n  strings, each ended by NUL
//
// Invariant: nothing of a file is used before all of it was validated: checksum, counts, rising
// addresses, every index and offset, the last NUL. A file that fails is as one that is not there.

#ifndef FIBERSCOPE_SYMBOLS_CACHE_H
#define FIBERSCOPE_SYMBOLS_CACHE_H

#include "symbols/symbols.h"

struct symbols_cache;

// Never fails: without a directory or a valid file it starts empty. NULL: out of memory.
struct symbols_cache *symbols_cache_open(const char *dir, const char *build_id, uint64_t identity);

// As symbols_lookup, or -ENOENT: not known. Strings stay valid until symbols_cache_close.
int symbols_cache_find(const struct symbols_cache *c, uint64_t address,
                       struct symbols_frame *frames, uint32_t max);

// Remembers an answer; frames' strings must live until symbols_cache_close.
void symbols_cache_add(struct symbols_cache *c, uint64_t address,
                       const struct symbols_frame *frames, uint32_t count);

// Writes what is new, if anything, and frees. Accepts NULL.
void symbols_cache_close(struct symbols_cache *c);

#endif
