// SPDX-License-Identifier: MIT
//
// The files of a program that uprobes go into: those with our USDT sites (docs/usdt.md), and the one whose malloc it uses.
//
// Of a running process these are the files that it has mapped as code. Of a command that has not begun they are its program,
// and the libraries that this one names, where the dynamic linker looks for them first: what it loads by dlopen later, or
// finds by its cache alone, is not known.
//
// Input is hostile: a file belongs to the target. What is read of it says only where probes go, and in it alone.

#ifndef FIBERSCOPE_COLLECTOR_BPF_PROBE_FILES_H
#define FIBERSCOPE_COLLECTOR_BPF_PROBE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum probe_function {
    PROBE_MALLOC,
    PROBE_CALLOC,
    PROBE_REALLOC,
    PROBE_FREE,
    PROBE_ALIGNED_ALLOC,
    PROBE_MEMALIGN,
    PROBE_POSIX_MEMALIGN,
    PROBE_VALLOC,
    PROBE_PVALLOC,
    PROBE_FUNCTIONS,
};

enum { PROBE_SITES_MAX = 32, PROBE_FILES_MAX = 1024 };

struct probe_file {
    char *path; // as we can open it
    uint64_t device, inode;
    uint64_t functions
        [PROBE_FUNCTIONS]; // offset in the file; 0: not there, or the same as an earlier one
    uint32_t sites;        // which of the names it has; bit i: names[i]
};

struct probe_files {
    struct probe_file files
        [PROBE_FILES_MAX]; // in the order in which the dynamic linker searches, as far as it is known
    size_t count;
};

// names: of probes of the provider "fiberscope", at most PROBE_SITES_MAX, ended by NULL. 0 or -errno of the process' maps.
int probe_files_of_process(struct probe_files *out, uint32_t pid, const char *const *names);
void probe_files_of_command(struct probe_files *out, const char *program, const char *const *names);
void probe_files_free(struct probe_files *p); // accepts a zeroed one

// Whose malloc and free the program uses; NULL: none of them has both.
const struct probe_file *probe_files_malloc(const struct probe_files *p);

const char *probe_function_name(enum probe_function f);

#endif
