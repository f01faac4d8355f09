// SPDX-License-Identifier: MIT
//
// Where an object is loaded, of all the places where its file is mapped. A program may map its libraries as plain files
// besides (for symbols, as libbacktrace and breakpad do), lower or higher than they are loaded, or load one twice (dlmopen).
//
// A place is judged by the file's segments: how many of them lie where that place says, code where code belongs. Input is
// hostile: maps are the target's, and so may the file be.

#ifndef FIBERSCOPE_COLLECTOR_LOADED_H
#define FIBERSCOPE_COLLECTOR_LOADED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOADED_MAPS_MAX = 512 }; // of one file; more are not looked at

struct loaded_map { // of the one file, sorted by address
    uint64_t start, end, offset;
    bool is_code;
};

struct loaded {
    uint64_t bias;       // to be added to link-time addresses, modulo 2^64
    uint64_t start, end; // all that it covers, zero-initialized data too
};

// fd: of the file. pid: where two places are as good, the one in its dynamic linker's list is taken; 0: the lower one.
// -ENOENT: it is loaded nowhere. -ENOEXEC: no ELF file.
int loaded_find(struct loaded *out, const struct loaded_map *maps, size_t count, int fd,
                uint32_t pid);

// Whether the dynamic linker of this process has an object with this bias in its first list. False also where that cannot be
// read.
bool loaded_is_linked(uint32_t pid, uint64_t bias);

#endif
