// SPDX-License-Identifier: MIT
//
// What perf_code.c (processes and maps) and perf_walk.c (files and walking) share.
//
// Invariant: a process' maps are sorted and do not overlap. Rows cached under a generation are those
// of one set of maps: each change of a process' maps gives it a new generation.

#ifndef FIBERSCOPE_COLLECTOR_PERF_CODE_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_PERF_CODE_INTERNAL_H

#include "collector/perf_code.h"
#include "collector/perf_elf.h"

enum { PROCESS_BUCKETS = 1024, ROW_CACHE = 16384, PERF_BUILD_ID_MAX = 20 };

struct mapping { // one that has just been seen
    uint64_t start, end, offset;
    uint64_t device, inode;
    const uint8_t *build_id; // NULL: unknown
    uint32_t build_id_size;
    const char *path;
    uint64_t when;
};

struct code_file {
    struct code_file *next;
    uint64_t device, inode;
    uint8_t build_id[PERF_BUILD_ID_MAX];
    uint32_t build_id_size;
    uint32_t number; // from 1 on
    uint32_t owner;  // uid
    bool is_owners;  // opened, and nobody but its owner may write it
    bool is_vdso;
    char *path;
    int fd;      // until the tables are read; -1: none
    bool loaded; // elf is filled in, or will never be
    struct perf_elf elf;
};

struct code_map {
    uint64_t start, end, offset;
    uint64_t when;          // moment since which it holds
    struct code_file *file; // NULL: no file, or one that cannot be opened
};

struct perf_process {
    struct perf_process *next;
    uint32_t pid;
    uint64_t generation;
    struct perf_code *code;
    uint64_t start; // moment
    // By builder. NULL: it has not been told yet (is_lazy, or not the first one)
    struct builder_process *out[PERF_BUILDERS_MAX];
    struct code_map *maps;
    size_t map_count, map_capacity;
    bool has_ended;
    uint64_t ended_ns;
    char name[64];
};

struct code_row {
    uint64_t pc, generation;
    int status; // enum unwind_status
    struct unwind_row row;
};

struct perf_code {
    struct builder *builders[PERF_BUILDERS_MAX];
    size_t builder_count;
    bool is_lazy;
    struct code_file *files;
    uint32_t file_count;
    uint64_t table_bytes, table_bytes_max; // of all files' unwind tables
    uint32_t no_room;                      // files whose tables were not read for that
    uint64_t next_generation;
    uint64_t forgot_ns; // when those that had ended were forgotten
    struct perf_process *processes[PROCESS_BUCKETS];
    struct code_row rows[ROW_CACHE];
};

const struct code_map *code_find_map(const struct perf_process *p, uint64_t pc);
int code_add_map(struct perf_code *c, struct perf_process *p, const struct mapping *m);
int code_scan(struct perf_code *c, struct perf_process *p, uint64_t when);

// The file of a mapping, opened if it is new. NULL with errno: ENOMEM, else there is none.
struct code_file *code_file(struct perf_code *c, const struct perf_process *p,
                            const struct mapping *m);
void code_files_free(struct perf_code *c);

// Tells a process of a builder of a mapping, with its own descriptor on the file. 0 or -ENOMEM. Both do nothing where out
// is NULL: the builder has not been told of the process.
int code_tell_builder(struct builder_process *out, const struct mapping *m,
                      const struct code_file *f);
int code_tell_builder_again(struct builder_process *out, const struct code_map *m, uint64_t when);

#endif
