// SPDX-License-Identifier: MIT
//
// The inside of a writer.

#ifndef FIBERSCOPE_FORMATS_TRACE_WRITE_INTERNAL_H
#define FIBERSCOPE_FORMATS_TRACE_WRITE_INTERNAL_H

#include "base/arena.h"
#include "formats/ptrtab.h"
#include "formats/trace/write.h"

enum writer_table { WRITER_STRINGS, WRITER_STACKS, WRITER_SAMPLES, WRITER_TABLES };

struct writer_batch {
    struct writer_batch *next;
    uint32_t used;
    unsigned char data[TRACE_BATCH_BYTES_MAX];
};

struct writer_thread {
    int64_t id;
    uint64_t batch_time, time; // of the open batch, and of its last event
    size_t place;
    uint32_t used;
    unsigned char data[TRACE_BATCH_BYTES_MAX];
};

struct put_state;

struct trace_writer {
    struct trace_writer_options options;
    trace_write_fn *write;
    void *context;
    int fd;
    int error; // the first one; everything fails after it
    uint64_t bytes;

    uint64_t generation, last; // 0: none is open
    uint64_t generation_start; // bytes before it
    uint64_t time_last;        // the latest of the generation

    struct writer_thread **threads;
    size_t thread_count, thread_capacity;
    struct writer_thread *thread_last; // used last
    struct ptrtab thread_tab;

    struct arena arena; // of the generation: entries of these tables
    struct ptrtab strings, stacks, frames, pcs;
    uint64_t string_next, stack_next, pc_next;
    struct writer_batch *tables[WRITER_TABLES]; // newest first

    struct put_state *put;
};

// When the last event on a thread's stream was; 0: there is none.
uint64_t writer_thread_time(struct trace_writer *w, int64_t thread);

// The upper level's part in closing: what it still has to say, its memory.
int put_finish(struct trace_writer *w);
void put_free(struct trace_writer *w);

#endif
