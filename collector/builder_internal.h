// SPDX-License-Identifier: MIT
//
// What a builder is made of, shared by builder.c (samples in) and builder_profile.c (profile out).
//
// Invariant: id 0 of strings, stacks and label sets is the empty one; files[i] belongs to file_keys
// id i and values[i] to samples id i.

#ifndef FIBERSCOPE_COLLECTOR_BUILDER_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_BUILDER_INTERNAL_H

#include "base/array.h"
#include "collector/builder.h"
#include "collector/intern.h"

#include <errno.h>
#include <stdlib.h>

enum { LOOKUP_CACHE = 512 }; // direct-mapped, by page

#define NO_FILE UINT32_MAX // a location outside every known mapping

struct file_key { // what makes two mappings the same pprof mapping; hashed as bytes, so no padding
    uint64_t size, offset, device, inode;
    uint32_t path, build_id;
    uint64_t process; // index + 1 where files of different processes are never the same, else 0
};

struct file {
    struct file_key key;
    uint64_t start; // of its first mapping: where all its addresses are moved to
    uint32_t pid;
    int fd;
};

struct module {
    uint64_t start, end, offset, from, until;
    uint32_t file;
};

struct builder_process {
    struct builder *builder;
    uint32_t index, pid;
    uint64_t start;
    uint32_t name; // string id
    struct module *modules;
    size_t module_count, module_capacity;
    uint32_t cache[LOOKUP_CACHE]; // module index + 1
    struct intern stack_keys;     // caller's keys ...
    uint32_t *stack_ids;          // ... and the stacks they mean
    size_t stack_id_capacity;
    bool has_samples;
    uint64_t rate_bytes; // 0: the builder's
};

struct location_key {
    uint64_t address;
    uint32_t file, zero;
};

struct label_key {
    uint32_t key, value; // string ids; value INTERN_NONE: numeric
    uint32_t unit, zero; // string id, 0: none
    int64_t number;
};

struct sample_key { // hashed as bytes, so no padding
    uint32_t process, tid;
    uint32_t kernel, user;
    uint32_t labels;
    uint32_t part;   // string id
    uint64_t object; // HEAP: the size class; BLOCK, MUTEX: lock id + 1
};

struct thread_key {
    uint32_t process, tid;
};

struct lock_key {
    uint64_t object;
    uint32_t process, zero;
};

struct lock {
    enum seg_lock_type type;
    struct {
        uint32_t stack;         // id, 0: unknown
        uint64_t offset;        // in the allocation of that stack
    } made[BUILDER_MAKERS_MAX]; // the known ones first
    uint32_t name;              // string id, 0: none yet
};

enum { VALUES_MAX = 7 }; // of one sample, see builder_values.c

struct builder {
    unsigned kind; // enum seg_kind or builder_kind
    bool is_outside;
    uint64_t period_ns, rate_bytes, real_ns;
    uint64_t ops; // of benchmarks
    struct intern strings, file_keys, locations, stacks, label_sets, samples, threads, locks, parts;
    struct file *files; // [file_keys.count]
    size_t file_capacity;
    uint64_t *values;        // [samples.count][value_count]
    size_t value_count;      // of one sample
    size_t value_capacity;   // samples
    struct lock *lock_infos; // [locks.count]
    size_t lock_capacity;
    uint64_t peak_bytes, peak_ns;
    uint32_t *thread_names; // [threads.count]: string ids, the last name that was heard
    size_t thread_capacity;
    struct builder_process **processes;
    size_t process_count, process_capacity;
    uint32_t *comments;
    size_t comment_count, comment_capacity;
    uint32_t *mapping_files; // after finish: the file of each pprof mapping
    size_t mapping_count;
    uint32_t *scratch; // location ids of one stack
    size_t scratch_capacity;
    struct builder_stats stats;
};

// --- builder_values.c: what the numbers of each kind mean.

struct sample_view { // of one sample, as the profile has it
    int64_t values[VALUES_MAX];
    int64_t mean_bytes; // of sampled allocations, else 0
    bool is_negative;   // more was taken away than added: clamped
    bool is_empty;      // of no interest: nothing is left of it
};

size_t values_stored(unsigned kind);                                             // per sample
void values_add(struct builder *b, uint32_t id, const struct builder_sample *s); // saturating
void values_view(const struct builder *b, uint32_t id, bool is_main, struct sample_view *out);

// Sample types, period and default of a part. 0 or -ENOMEM.
int values_header(const struct builder *b, const char *part, struct pprof_profile *p);

#define RESERVE(array, capacity, count)                                                            \
    array_reserve((void **)&(array), &(capacity), (count), sizeof *(array))

#endif
