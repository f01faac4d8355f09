// SPDX-License-Identifier: MIT
//
// Execution traces, written: bytes that Go's tools and formats/trace/trace.h read.
//
// Two levels over one writer. The upper (trace_writer_put) takes the events of a reader and leaves
// out what it is told to: it invents statuses, sequence numbers and tables so that the result is
// valid. The lower is for those who know the format: the collector, which has sealed batches and
// adds the tables, and tests, which also write traces that are wrong on purpose.
//
// Invariant of both: sizes of batches, strings and stacks are what the format permits; a generation
// has what its version demands (clock, end mark). Nothing else is checked on the lower level.
//
// Memory: one generation of the result at most (its tables), and one batch per thread. One owner.

#ifndef FIBERSCOPE_FORMATS_TRACE_WRITE_H
#define FIBERSCOPE_FORMATS_TRACE_WRITE_H

#include "formats/trace/notes.h"
#include "formats/trace/trace.h"

struct trace_writer_options {
    size_t size;               // sizeof(struct trace_writer_options)
    uint32_t version;          // 23 (widest tool base) or 26 (wall clock, streamable); 0: 23.
                               // 22 and 25 too, for tests
    uint64_t frequency;        // clock units per second; 0: 1e9
    uint64_t generation_bytes; // trace_writer_put: as it says there; 0: 16 MiB

    // For trace_writer_put: whether goroutine id is in the result; asked once in its life. NULL:
    // all are. With it, GC mark phases are left out, as others' goroutines bracket them.
    bool (*keeps_goroutine)(void *context, int64_t id);
    void *context;

    // For trace_writer_put: the range of the reader's time that is in the result, ends included. 0:
    // from the reader's first event, to its last.
    int64_t from_ns, to_ns;

    // For trace_writer_put: what the result says of itself, behind the reader's own notes. With any it ends with a
    // generation for them, which may make it longer by 2 ns.
    const struct trace_note *notes; // [note_count], until trace_writer_close
    uint32_t note_count;
};

typedef int trace_write_fn(void *context, const void *bytes, size_t n); // all of it: 0 or -errno

struct trace_writer;

// Writes the header. 0 or -errno (-EINVAL: a version that does not exist). opts may be NULL.
int trace_writer_open_fd(struct trace_writer **out, int fd,
                         const struct trace_writer_options *opts);
int trace_writer_open_callback(struct trace_writer **out, trace_write_fn *write, void *context,
                               const struct trace_writer_options *opts);

// Ends an open generation and frees. 0 or the first error there was: every verb fails after one,
// with the same code.
int trace_writer_close(struct trace_writer *w); // accepts NULL

uint64_t trace_writer_bytes(const struct trace_writer *w); // written so far, without open batches

// --- The upper level.

// The next event of a reader, in its order and without gaps, from its first on: what comes before
// from_ns is followed, as it makes things what they are, and of what comes after to_ns what is first
// heard of then, and so was there all along. So go on to the first Sync after to_ns; more does no
// harm. The reader must stay until trace_writer_close.
//
// The result begins at from_ns and is over at to_ns (where the reader is over, if that is earlier or
// to_ns 0), also if nothing happens there; only an event at to_ns itself makes it longer, by 1 ns. A
// range behind the reader's end gives no generation. A generation announces everything as it is when
// it begins; another one begins where one of the reader does and generation_bytes are written. Times
// stay what they are, unless there is no room for announcements between them.
//
// Left out silently is what the result cannot have: what goroutines do that keeps_goroutine refuses
// (but not what they do to others), the end of what never began, experiments, the number of Procs
// of a range in which no goroutine runs, and why something waits that waited before the range.
//
// 0 or -errno; -ENOTSUP for a trace in format v1, which does not say on which thread a system call
// ends, as v2 has to.
int trace_writer_put(struct trace_writer *w, const struct trace_reader *r,
                     const struct trace_event *ev);

// --- The lower level. Begin, then anything in any order, then end.

// 23: number must be one more than the last. 0 or -EINVAL.
int trace_writer_begin(struct trace_writer *w, uint64_t number);

// Ids in this generation's tables, equal things once. Longer than the format permits: the string is
// cut at a whole UTF-8 character, the stack loses its root frames. Frames that share a pc with
// another function, file or line get a pc of their own, as readers tell frames apart by it.
struct trace_writer_frame {
    uint64_t pc;
    struct trace_text function, file;
    uint64_t line;
};
int trace_writer_string(struct trace_writer *w, const char *bytes, size_t n, uint64_t *id);
int trace_writer_stack(struct trace_writer *w, const struct trace_writer_frame *frames,
                       uint32_t count, uint64_t *id);

// One event on a thread's stream (TRACE_NONE: no thread). time is in clock units and does not go
// back within one thread. args: as trace_spec_of(wire) says, arg_count of them. -EINVAL otherwise.
int trace_writer_event(struct trace_writer *w, int64_t thread, uint8_t wire, uint64_t time,
                       const uint64_t *args);
int trace_writer_cpu_sample(struct trace_writer *w, uint64_t time, int64_t thread, int64_t proc,
                            int64_t goroutine, uint64_t stack);

// A sealed batch as it is: events of one thread, the first dt relative to time. Strings and stacks
// that it names must be added by trace_writer_string_as and trace_writer_stack_as under its ids;
// mixing these with the calls that choose ids themselves is the caller's risk.
int trace_writer_batch(struct trace_writer *w, int64_t thread, uint64_t time, const void *data,
                       size_t size_bytes);
int trace_writer_experimental(struct trace_writer *w, uint8_t experiment, int64_t thread,
                              uint64_t time, const void *data, size_t size_bytes);
int trace_writer_string_as(struct trace_writer *w, uint64_t id, const char *bytes, size_t n);
int trace_writer_stack_as(struct trace_writer *w, uint64_t id,
                          const struct trace_writer_frame *frames, uint32_t count);

// Flushes threads and tables, and gives the generation its clock: units per second, and for 26 a
// snapshot (NULL: the end of the generation in its own units, wall clock 0).
struct trace_writer_clock {
    uint64_t time; // clock units
    uint64_t mono_ns;
    int64_t wall_s, wall_ns;
};
int trace_writer_end(struct trace_writer *w, const struct trace_writer_clock *clock);

#endif
