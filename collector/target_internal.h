// SPDX-License-Identifier: MIT
//
// Shared by target.c (what both kinds have) and target_core.c.

#ifndef FIBERSCOPE_COLLECTOR_TARGET_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_TARGET_INTERNAL_H

#include "collector/loaded.h"
#include "collector/perf_elf.h"
#include "collector/target.h"
#include "symbols/data_symbols.h"

#include <sys/types.h>

struct target_file { // one per path and inode
    struct target_file *next;
    char *path;
    uint64_t device, inode;
    char build_id[2 * 64 + 1]; // "": unknown
    int fd;                    // -1: cannot be had
    bool is_loaded;            // elf was tried
    struct perf_elf elf;
    bool is_named;                // symbols was tried
    struct data_symbols *symbols; // of its variables; NULL: none
    bool is_placed;               // target_loaded was asked
    int place_rc;                 // what it says
    struct loaded place;
};

struct target_map {
    uint64_t start, end, offset;
    bool is_code;
    struct target_file *file; // NULL: no file
};

struct target_load { // of a core file
    uint64_t start, end, offset, file_bytes;
    bool is_code;
};

struct target {
    uint32_t pid;
    uint32_t reader; // the thread by whose number its memory is read: the first one may have ended
    char name[64];
    struct target_map *maps;
    size_t map_count, map_capacity;
    struct target_file *files;
    uint64_t segment; // where the agent's is mapped; 0: not looked for
    // A core file's.
    int core_fd;   // -1: a process
    bool is_cut;   // the file ends before its last segment
    bool has_gaps; // target_note_gap
    struct target_load *loads;
    size_t load_count;
    struct target_thread *threads;
    size_t thread_count;
    struct target_end end; // signal 0: none
};

// The map's file is found among the others, or made with fd -1. 0 or -ENOMEM.
int target_add_map(struct target *t, const struct target_map *m, const char *path, uint64_t device,
                   uint64_t inode);
void target_sort_maps(struct target *t);
// Where the file is loaded (loaded.h). 0 or -errno.
int target_loaded(const struct target *t, struct target_file *f, struct loaded *out);
const struct data_symbols *target_file_symbols(struct target_file *f); // NULL: it has none
const struct target_map *target_map_at(const struct target *t, uint64_t address);
size_t target_read_core(const struct target *t, uint64_t address, void *out, size_t size);

#endif
