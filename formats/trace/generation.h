// SPDX-License-Identifier: MIT
//
// One generation: where its batches are and what its tables say.
//
// Invariant: between generation_read and the next one all tables are whole, and every id in a stack
// or a string table entry is one that trace.h promises. Batches of one thread are linked in the
// order of the file.

#ifndef FIBERSCOPE_FORMATS_TRACE_GENERATION_H
#define FIBERSCOPE_FORMATS_TRACE_GENERATION_H

#include "formats/trace/trace.h"

struct trace_batch {
    const unsigned char *data; // NULL: still in the file
    uint64_t offset;           // of data in the trace
    uint64_t time;
    uint32_t size_bytes;
    uint32_t number; // in the file
    uint32_t next;   // of the same thread, 1 + index in batches; 0: none
};

struct batch_list { // of one thread
    struct state_thread *thread;
    uint32_t first, last; // 1 + index
};

// From the ids in a file to values that are not 0: an array if the ids are dense, else hashed.
struct id_slot {
    uint64_t id;
    uint32_t value; // 0: free
};

struct id_index {
    uint32_t *dense; // [dense_count]
    uint32_t dense_count, dense_capacity;
    uint64_t seed; // of the hash: ids are the file's
    struct id_slot *slots;
    uint32_t slot_count, slot_capacity; // a power of two, at most half taken; 0: dense
};

struct generation_string {
    uint64_t file_id;
    const char *bytes;
    uint32_t size_bytes;
    uint32_t id; // 0: nobody asked for one yet
};

struct generation_stack {
    uint64_t file_id;
    uint32_t id;
};

struct transient_stack {
    const struct trace_frame *frames;
    uint32_t count;
};

struct generation_frame { // by pc, in a hash table
    struct trace_frame frame;
    uint64_t stamp; // of the generation it belongs to, else free
};

struct generation_sample {
    int64_t time_ns, thread, proc, goroutine;
    uint64_t offset;
    uint64_t stack; // id in the file
    uint32_t batch;
};

// Memory of a generation that is used again for the next one.
struct generation_pool {
    unsigned char **chunks;
    uint32_t chunk_count, chunk_capacity, chunk_at;
    size_t used; // of the chunk at chunk_at
};

struct trace_generation {
    uint64_t number;
    uint64_t offset;     // of its first batch
    uint64_t time_min;   // clock units, 0: none yet
    double ns_per_tick;  // 0: none yet
    uint64_t ns_integer; // the same if it is a whole number below 2^20, else 0
    uint64_t clock_ticks;
    struct trace_clock clock;

    struct trace_batch *batches;
    uint32_t batch_count, batch_capacity;
    struct batch_list *lists; // in the order in which the threads appear
    uint32_t list_count, list_capacity;

    struct generation_string *strings;
    uint32_t string_count, string_capacity;
    struct id_index string_index;      // to place + 1
    struct trace_batch *stack_batches; // decoded when all strings are known
    uint32_t stack_batch_count, stack_batch_capacity;
    struct generation_stack *stacks;
    uint32_t stack_count, stack_capacity;
    struct id_index stack_index; // to stack ids
    struct transient_stack *transient;
    uint32_t transient_count, transient_capacity;
    struct generation_frame *frames;
    uint32_t frame_count, frame_capacity;
    struct generation_sample *samples;
    uint32_t sample_count, sample_capacity;
    struct trace_experimental_batch *experimental;
    uint32_t experimental_count, experimental_capacity;

    struct generation_pool pool;
    uint64_t bytes_used; // memory held, also what is kept from earlier generations
    uint64_t stamp;      // rises with every generation read
    bool is_last;        // what follows it cannot be read, or there is nothing
};

struct trace_reader;

// Reads the next generation. 1, 0 at the end of the trace, -errno with the reader's error set.
int generation_read(struct trace_reader *r);

// Once the reader has failed: says instead that the trace ends too early, if that is why or may be.
void generation_explain(struct trace_reader *r);
void generation_finish(struct trace_generation *g);

// Counts memory as the generation's. 0, or -EFBIG with the reader's error set.
int generation_charge(struct trace_reader *r, uint64_t bytes);

// Memory that lasts until the next generation. NULL with the reader's error set.
void *generation_alloc(struct trace_reader *r, size_t size_bytes);

// An array of count items, full or not, with room for one more. NULL with the reader's error set.
void *generation_room(struct trace_reader *r, void *items, uint32_t count, uint32_t *capacity,
                      size_t item_bytes);

// Structural batches, by what their first byte says; data is theirs. 0 or -errno, error set.
int tables_add(struct trace_reader *r, const struct trace_batch *b);
bool tables_has_kind(const struct trace_reader *r, uint8_t first_byte);
const char *tables_kind_word(uint8_t first_byte); // "stacks"; of other bytes "events"

// Decodes stacks, checks what a generation must have, builds the indexes. 0 or -errno, error set.
int tables_complete(struct trace_reader *r);

// The same for a trace of v1, whose strings are in gen.strings and whose stacks are in v1->stacks.
// A later stack of a number is the one that holds. One that names a string which is not there is
// indexed as TRACE_ID_MISSING: it is an error only where an event names it.
#define TRACE_ID_MISSING UINT32_MAX
int tables_complete_v1(struct trace_reader *r);

// The value of a file's id, 0 if there is none.
uint32_t id_find_hashed(const struct id_index *x, uint64_t id);
static inline uint32_t id_find(const struct id_index *x, uint64_t id)
{
    if (__builtin_expect(id < x->dense_count, 1))
        return x->dense[id];
    return x->slot_count ? id_find_hashed(x, id) : 0;
}

// The id for events of the string at a place. 0 with the reader's error set on -ENOMEM; empty
// strings are 0 too.
uint32_t generation_string_id(struct trace_reader *r, struct generation_string *s);

// The same for a text that is not in the file's tables.
int generation_add_text(struct trace_reader *r, const char *bytes, uint32_t n, uint32_t *id);

// Ticks of the trace clock to ns, exactly as Go does on amd64.
static inline int64_t ticks_to_ns(double ns_per_tick, uint64_t ticks)
{
    double ns = (double)ticks * ns_per_tick;
    if (__builtin_expect(ns < 9223372036854775808.0, 1)) // false for NaN; never negative
        return (int64_t)ns;
    return INT64_MIN;
}

#endif
