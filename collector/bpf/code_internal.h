// SPDX-License-Identifier: MIT
//
// What code.c (processes and slots), code_tables.c (tables of files) and code_fibers.c (the runtime's descriptor) share.
//
// What always holds
//   - A table's `users` are the slots whose list `tables` has it; one without users may be dropped.
//   - A slot with users has chunks of its own; the others are empty, wait in line, and are used again as late as can be:
//     a child that nobody knows of yet may still be walked by one.
//   - Chunk 0 has no mappings and no owner.

#ifndef FIBERSCOPE_COLLECTOR_BPF_CODE_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_BPF_CODE_INTERNAL_H

#include "collector/bpf/code.h"
#include "runtime/descriptor.h"
#include "symbols/unwind_table.h"

enum { CODE_BUCKETS = 1024, CODE_MAPPINGS_MAX = BPF_SLOT_CHUNKS * BPF_CHUNK_MAPPINGS };

struct code_table { // of the file with this number
    uint32_t index; // in the BPF programs' tables; 0: not there
    uint32_t pages; // also of one that was dropped; 0: not made yet
    uint32_t blocks;
    uint32_t users;
    uint64_t start; // link-time address of the first block
    uint64_t text_bytes;
    uint64_t used; // clock when a process that maps it was last told of or sampled
    bool is_none;  // the file gives no table
    bool has_looked, has_descriptor;
    uint64_t descriptor; // link-time address
};

struct code_slot {
    uint32_t users;      // processes
    uint32_t chunks;     // taken: chunk[0 .. chunks) of the BPF programs' slot
    uint64_t generation; // of the perf_process that it was written from; 0: to be written again
    uint32_t *tables;    // file numbers
    uint32_t table_count;
    uint64_t descriptor_at;            // run-time address; 0: no runtime
    struct fib_descriptor *descriptor; // as it was when it was ready; NULL: not yet
    uint32_t pid;                      // one of the users
};

struct code_process {
    struct code_process *next;
    uint32_t pid, slot;
};

struct bpf_code {
    struct bpf_programs *programs;
    struct unwind_rules *rules;
    uint64_t bytes_max, clock;
    uint32_t next_generation;
    struct code_process *processes[CODE_BUCKETS];
    struct code_slot slots[BPF_SLOTS_MAX];
    uint32_t free_slots[BPF_SLOTS_MAX], first_free, free_count; // a ring
    uint32_t free_chunks[BPF_CHUNKS], free_chunk_count;
    struct code_table *tables; // by file number
    uint32_t table_capacity;
    uint32_t owners[BPF_FILES_MAX]; // file number of each index; 0: free
    struct bpf_mapping *mappings;   // of the process at hand
    size_t mapping_capacity;
    struct bpf_code_stats stats;
    bool is_waiting; // a slot waits for its runtime
};

// --- code.c

void code_slot_lock(struct bpf_code *c, uint32_t slot);   // the BPF programs see that it is written
void code_slot_unlock(struct bpf_code *c, uint32_t slot); // with a new generation

// --- code_tables.c

// The table of the file, made if it is not there; *out NULL: there is none, or no room for it. 0 or -ENOMEM.
int code_table(struct bpf_code *c, const struct code_file *f, struct code_table **out);
int code_table_grow(struct bpf_code *c,
                    uint32_t number); // that there is one of this number. 0 or -ENOMEM

// --- code_fibers.c

// Where the process has the runtime's descriptor; 0: nowhere. Of a file for which there is a table entry.
uint64_t code_find_descriptor(struct bpf_code *c, const struct perf_process *p);

// Reads the descriptor of a slot that waits for it.
void code_look_for_fibers(struct bpf_code *c, uint32_t slot);

#endif
