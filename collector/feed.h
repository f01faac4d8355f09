// SPDX-License-Identifier: MIT
//
// Carries what a segment holds (live, dump, black box or core) into builders.
//
// Invariant: modules are read after the records that were drained and before these are added, so each
// sample's mappings are known when it is resolved: a producer publishes a module before the epoch
// that its samples carry. What is state (heap, locks, custom profiles) is read once, at the end: it is
// in the segment whatever became of the process.

#ifndef FIBERSCOPE_COLLECTOR_FEED_H
#define FIBERSCOPE_COLLECTOR_FEED_H

#include "collector/builder.h"
#include "collector/record.h"
#include "collector/series.h"
#include "segment/consumer.h"

#include <stdbool.h>

// Opens the file of a module that has just appeared; the descriptor or a negative number.
typedef int feed_open_fn(void *arg, const struct seg_module *m, const char *path,
                         const char *build_id);

struct feed_module; // what we know of a module already
struct feed_thread; // ... and of a thread
struct feed_memory; // what the pointers of a builder_sample point to

struct feed {
    struct seg_reader *reader; // borrowed
    // NULL: that kind is not wanted. Custom profiles: made once there is one.
    struct builder_process *processes[RECORD_KIND_COUNT];
    struct builder *builders[RECORD_KIND_COUNT];
    struct series *series; // of the heap; NULL: not wanted. To be set after feed_init
    uint32_t pid;
    // Sees each CPU sample as it comes, for who wants them beside the profile; NULL: nobody. To be set after
    // feed_init.
    void (*see_cpu)(void *arg, const struct seg_record *r);
    void *see_arg;
    feed_open_fn *open_file;
    void *open_arg;
    struct feed_module *modules;
    size_t module_count, module_capacity, module_seen;
    struct feed_thread *threads;
    size_t thread_count, thread_capacity, thread_seen;
    struct seg_record *records;
    size_t record_count, record_capacity;
    struct feed_memory *memory;
    struct seg_heap heap; // as of feed_finish
    uint64_t damaged;     // records and entries that made no sense
    uint64_t oom;         // -ENOMEM of a builder, once is enough to tell
    uint64_t last_ns;     // the newest record's time, CLOCK_MONOTONIC
};

// Puts the segment's process into each builder that is not NULL. pid is the one that the profile
// shows. 0 or -ENOMEM.
int feed_init(struct feed *f, struct seg_reader *reader, struct builder *const *builders,
              uint32_t pid, feed_open_fn *open_file, void *open_arg);

// Takes what the rings hold now. The number of records, or -errno.
int64_t feed_pump(struct feed *f);

// At the end: all state, stream records that were folded into it because a ring was full, and losses.
// 0 or -errno. Call once.
int feed_finish(struct feed *f);

// The kind that a record or entry belongs to; -1: none.
int feed_kind_of(unsigned seg_kind);

void feed_free(struct feed *f); // accepts a zeroed one; the reader stays the caller's

#endif
