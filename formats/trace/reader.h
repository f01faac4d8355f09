// SPDX-License-Identifier: MIT
//
// The inside of a reader: which part knows what.
//
// input.c gives bytes, generation.c and tables.c make one generation of them, order*.c decides
// which thread goes on and what an event means (Go's orderer), state.c holds what is known about
// resources, reader.c drives it all. Traces in format v1 have their own inside, v1.h.

#ifndef FIBERSCOPE_FORMATS_TRACE_READER_H
#define FIBERSCOPE_FORMATS_TRACE_READER_H

#include "formats/trace/cursor.h"
#include "formats/trace/generation.h"
#include "formats/trace/input.h"
#include "formats/trace/intern.h"
#include "formats/trace/state.h"

enum {
    TRACE_HEADER_BYTES = 16,
    RING_EVENTS = 128,
    EVENTS_PER_STEP = 3, // at most, of one event in the file
};

struct frontier_item {
    int64_t time_ns;
    struct cursor *cursor;
};

// Threads that are put aside until what they wait for is so, order_parked.c.
struct order_parked {
    struct parked_wait *waits; // [capacity], by cursor
    uint32_t *buckets;         // [capacity], 1 + the first of the cursors there
    uint32_t *heap;            // [count] cursors, by time
    uint32_t count, capacity;
};

enum gc_state { GC_UNDETERMINED, GC_NOT_RUNNING, GC_RUNNING };

struct trace_v1;

struct trace_reader {
    struct trace_event ring[RING_EVENTS];
    uint32_t ring_count, ring_at;

    int64_t last_ns;
    int64_t sample_ns; // of the next CPU sample, INT64_MAX: none
    uint32_t sample_at;
    uint32_t frontier_count;
    struct frontier_item *frontier; // a heap by time, in exactly the shape that Go's has
    struct order_parked parked;
    uint64_t tries; // what was looked at because a head could not go on
    struct cursor *cursors;
    uint32_t cursor_count, cursor_capacity;

    uint64_t generation_first;
    uint64_t gc_seq;
    enum gc_state gc;

    struct trace_generation gen;
    struct trace_state state;
    struct trace_intern intern;
    bool permits[256]; // wire events that may stand in an event batch

    struct trace_v1 *v1; // of a trace in format v1, once it is read

    struct trace_input input;
    uint32_t version;
    uint32_t batch_next;             // number of the next batch in the file
    uint32_t sync_count, sync_limit; // salvage: the last sync; 0: no limit
    uint32_t whole_count;            // generations whose events were all given
    bool has_rest;                   // and the events of one that ends too early
    bool has_read, is_over, lenient;
    bool gives_rest;     // of go 1.26, too, whatever it lacks
    bool is_explained;   // the error, once
    bool is_careful;     // for tests: nothing is left to order_fast
    uint64_t fast_count; // for tests: what order_fast did
    uint64_t generation_bytes_max;

    struct trace_note *notes; // [note_count]; NULL: none
    uint32_t note_count;

    struct trace_error where;               // what is being read, for errors
    struct trace_error error, late, damage; // late: to come after this generation. code 0: none
};

// Sets the reader's error from r->where. Returns code.
int reader_fail(struct trace_reader *r, int code, enum trace_rule rule, const char *fmt, ...)
    FSCOPE_PRINTF(4, 5);

// The same for the pending event of a cursor.
int cursor_fail(struct trace_reader *r, const struct cursor *c, int code, enum trace_rule rule,
                const char *fmt, ...) FSCOPE_PRINTF(5, 6);

// A Sync of the generation, and the one behind everything: of the end, or of an error that comes.
void reader_sync(struct trace_reader *r, int64_t time_ns);
void reader_sync_last(struct trace_reader *r);

// The notes of the generation that was read, if it has (next to) no events. 0 or -ENOMEM, error set.
int notes_collect(struct trace_reader *r);

// Makes the next event pending. 1, 0: there is none, -errno, error set.
int cursor_next(struct trace_reader *r, struct cursor *c);

// Whether what an event names may have been lost with the end of its generation.
static inline bool reader_may_lack(const struct trace_reader *r)
{
    return r->gives_rest && r->late.code;
}

static inline bool order_is_over(const struct trace_reader *r)
{
    return r->frontier_count == 0 && r->parked.count == 0 && r->sample_at >= r->gen.sample_count;
}

void order_parked_finish(struct order_parked *p);

// Fills the ring with events of the generation, while there are some. 0, or -errno with the error
// set; there may be events even then.
int order_run(struct trace_reader *r);

// The next CPU sample into the ring. 1, or -errno with the error set.
int sample_emit(struct trace_reader *r);

// The heap over cursors.
// Puts item where the root was, and from there as far down as it has to go.
static inline void frontier_sink(struct frontier_item *heap, uint32_t count,
                                 struct frontier_item item)
{
    uint32_t i = 0;
    for (uint32_t child = 1; child < count; child = 2 * i + 1) {
        if (child + 1 < count)
            child += heap[child + 1].time_ns < heap[child].time_ns;
        if (heap[child].time_ns >= item.time_ns)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = item;
}

void frontier_insert(struct trace_reader *r, struct cursor *c);
void frontier_update(struct trace_reader *r, uint32_t i); // item i's time has changed
void frontier_remove(struct trace_reader *r, uint32_t i);
bool frontier_sort(struct trace_reader *r, uint64_t limit); // false: r->tries has reached it

#endif
