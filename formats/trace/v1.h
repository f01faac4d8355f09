// SPDX-License-Identifier: MIT
//
// Traces of Go 1.11 to 1.21 (format v1): read whole, ordered, checked, and turned into the events
// of trace.h one by one, as Go's own reader does it.
//
// v1 cannot be read as a stream. Batches belong to Ps, times of different Ps may contradict the
// order that sequence numbers give, strings and stacks may come last, and what a system call was is
// only said later. So v1_run reads all of it before it gives the first event:
//
//   v1.c          the bytes of the file; who there is
//   v1_parse.c    bytes to batches; a batch to events, strings and stacks, when its turn comes
//   v1_order.c    the batches of all Ps to one order
//   v1_check.c    what may follow what
//   v1_convert.c  events of v1 to those of trace.h, with the words of v1_text.c
//
// Memory: the bytes of the file (if it is not in memory already), 68 bytes for each event, and
// tables of Ps, batches, Goroutines, tasks, strings and stacks, each entry of which has bytes of
// its own in the file. All of it together is at most generation_bytes_max, and each thing that is
// allocated stands for at least two bytes read. Beyond: -EFBIG. Nothing here takes more than
// n log n steps of n bytes.
//
// Invariant: an index into events, samples or procs is valid for as long as the reader lives;
// pointers to Goroutines and tasks are not, their tables grow.

#ifndef FIBERSCOPE_FORMATS_TRACE_V1_H
#define FIBERSCOPE_FORMATS_TRACE_V1_H

#include "formats/trace/reader.h"

enum v1_type { // the numbers of the format
    V1_BATCH = 1,
    V1_FREQUENCY,
    V1_STACK,
    V1_GOMAXPROCS,
    V1_PROC_START,
    V1_PROC_STOP,
    V1_GC_START,
    V1_GC_DONE,
    V1_STW_START,
    V1_STW_DONE,
    V1_SWEEP_START,
    V1_SWEEP_DONE,
    V1_GO_CREATE,
    V1_GO_START,
    V1_GO_END,
    V1_GO_STOP,
    V1_GO_SCHED,
    V1_GO_PREEMPT,
    V1_GO_SLEEP,
    V1_GO_BLOCK,
    V1_GO_UNBLOCK,
    V1_GO_BLOCK_SEND,
    V1_GO_BLOCK_RECV,
    V1_GO_BLOCK_SELECT,
    V1_GO_BLOCK_SYNC,
    V1_GO_BLOCK_COND,
    V1_GO_BLOCK_NET,
    V1_GO_SYSCALL,
    V1_GO_SYS_EXIT,
    V1_GO_SYS_BLOCK,
    V1_GO_WAITING,
    V1_GO_IN_SYSCALL,
    V1_HEAP_ALLOC,
    V1_HEAP_GOAL,
    V1_TIMER_GOROUTINE,
    V1_FUTILE_WAKEUP,
    V1_STRING,
    V1_GO_START_LOCAL,
    V1_GO_UNBLOCK_LOCAL,
    V1_GO_SYS_EXIT_LOCAL,
    V1_GO_START_LABEL,
    V1_GO_BLOCK_GC,
    V1_ASSIST_START,
    V1_ASSIST_DONE,
    V1_TASK_CREATE,
    V1_TASK_END,
    V1_REGION,
    V1_LOG,
    V1_CPU_SAMPLE, // since 1.19
    V1_END,
};

enum { // numbers of Ps that are none, as Go's reader gives them out
    V1_PROC_TIMER = 1000001,
    V1_PROC_NETWORK,
    V1_PROC_SYSCALL,
    V1_PROC_GC,
};

enum v1_text { // what this reader says itself
    V1_TEXT_FOREVER,
    V1_TEXT_PREEMPTED,
    V1_TEXT_GOSCHED,
    V1_TEXT_SLEEP,
    V1_TEXT_SEND,
    V1_TEXT_RECEIVE,
    V1_TEXT_NETWORK,
    V1_TEXT_SYNC,
    V1_TEXT_COND,
    V1_TEXT_SELECT,
    V1_TEXT_ASSIST,
    V1_TEXT_STW, // and the kinds of stops
    V1_TEXT_STW_MARK,
    V1_TEXT_STW_SWEEP,
    V1_TEXT_COUNT = V1_TEXT_STW + 17,
    V1_TEXT_EMPTY = V1_TEXT_STW,
};

enum v1_state { V1_DEAD, V1_RUNNABLE, V1_RUNNING, V1_WAITING };

enum {
    V1_ARGS_MAX = 5,
    V1_LIST_BYTES_MAX = 2048,
    V1_LOG_SIZE_BITS = 20, // of args[2] of a log: the place of the message above, its size below
};

struct v1_event {
    int64_t time;     // ticks, later ns
    uint64_t g;       // 0: none
    uint64_t args[3]; // without time and stack
    uint64_t offset;  // in the file
    uint32_t stack;
    int32_t p; // -1: none
    uint32_t batch;
    uint8_t type;
    bool blocks; // a system call: its P is taken away in it
};

struct v1_batch {
    uint64_t begin, end; // of its events, in data
    int64_t time;
    int32_t pid;
    uint32_t proc;
};

struct v1_stack {
    const unsigned char *frames; // count * 4 numbers
    uint32_t id, count;
};

struct v1_proc {
    int32_t pid;

    // Ordering.
    uint32_t batch_at, batch_end; // in by_proc: those not loaded yet
    uint32_t at, end;             // loaded and not merged: events, or places in sample_order
    uint32_t place;               // in the list of procs that have no event in the frontier
    bool is_candidate;            // what it waits for may have come
    uint64_t last_g;
    uint32_t next_waiter; // 1 + index, of those with the same hash
    uint64_t wait_g, wait_seq;
    uint8_t wait_state;

    // Checking.
    bool runs, sweeps;
    uint64_t g;

    // Conversion.
    bool is_seen, has_slot, has_thread;
    int64_t thread;
};

struct v1_go {
    uint64_t id;

    uint64_t seq; // ordering
    enum v1_state order_state;
    int64_t blocked; // ticks when its system call blocked, 0: never
    bool is_timer;

    enum v1_state state; // checking
    bool is_known, waits_for_network, assists;
    uint32_t regions;   // 1 + index of the innermost open one
    uint8_t next_type;  // of its next event, going backwards
    bool was_mentioned; // conversion: before the trace began, and not yet said to be anything
};

struct v1_region {
    uint64_t task, type;
    uint32_t outer; // 1 + index; also of the free list
};

struct v1_task {
    uint64_t id, parent;
    uint32_t type;         // string id for events
    bool is_open, is_told; // for checking, for conversion
};

// From an id to 1 + index in an array. At most half of the slots are taken.
struct v1_map {
    struct id_slot *slots;
    uint32_t count, capacity;
};

struct trace_v1 {
    const unsigned char *data; // behind the header
    uint64_t size_bytes;
    unsigned char *owned;
    uint64_t base; // offset of data in the file

    struct v1_batch *batches; // in the order of the file
    uint32_t batch_count, batch_capacity;
    uint32_t *by_proc;     // [batch_count] batches by P, then in the order of the file
    struct v1_proc *procs; // by number, and behind them one for the CPU samples
    uint32_t proc_count;   // without that one

    struct v1_event *samples;
    uint32_t sample_count, sample_capacity;
    uint32_t *sample_order;
    uint64_t timed_count; // what was counted in the index

    struct v1_event *events; // [timed_count] as they were loaded
    uint32_t event_count;
    uint32_t *order; // indexes: below event_capacity events, beyond samples
    uint32_t order_count;

    struct v1_stack *stacks;
    uint32_t stack_count, stack_capacity;
    int64_t frequency;  // 0: none yet
    bool has_frequency; // somewhere in the trace

    struct v1_go *gos;
    uint32_t go_count, go_capacity;
    struct v1_map go_map;
    struct v1_task *tasks;
    uint32_t task_count, task_capacity;
    struct v1_map task_map;
    struct v1_region *regions;
    uint32_t region_count, region_capacity, region_free;

    // Conversion.
    uint32_t at; // in order
    bool is_initialized;
    uint64_t *told; // Goroutines that were there and runnable, to be told next
    uint32_t told_count, told_at;
    uint32_t texts[V1_TEXT_COUNT]; // their ids, 0: not yet used
    uint32_t stw_reason;
};

// Fills the ring, as order_run does. Reads the trace first, if that was not done.
int v1_run(struct trace_reader *r);
void v1_finish(struct trace_v1 *v); // accepts NULL

// The steps. Each 0 or -errno with the error set.
int v1_index(struct trace_reader *r);                     // batches, Ps, samples
int v1_load_batch(struct trace_reader *r, uint32_t proc); // the next one of a P, if there is one
int v1_order(struct trace_reader *r);                     // v->order, in ticks
int v1_check(struct trace_reader *r);                     // v->order is valid, in ns
int v1_read(struct trace_reader *r);                      // all of these; v->order can be given

const char *v1_name(uint8_t type);

// The id of a text. 0 or -errno with the error set.
int v1_text(struct trace_reader *r, enum v1_text which, uint32_t *id);

static inline struct v1_event *v1_event_at(const struct trace_v1 *v, uint32_t index)
{
    return index < v->timed_count ? &v->events[index] : &v->samples[index - v->timed_count];
}

// What is known about a Goroutine or a task; makes it. NULL with the error set. v1_go_look: NULL if
// there is nothing.
struct v1_go *v1_go_of(struct trace_reader *r, uint64_t id);
struct v1_go *v1_go_look(const struct trace_reader *r, uint64_t id);
struct v1_task *v1_task_of(struct trace_reader *r, uint64_t id);

// NULL: no P of this number has a batch.
struct v1_proc *v1_proc_of(const struct trace_v1 *v, int32_t pid);

// Zeroed memory of the reader, counted. NULL with the error set. v1_free accepts NULL.
void *v1_alloc(struct trace_reader *r, uint64_t count, size_t item_bytes);
void v1_free(struct trace_reader *r, void *p, uint64_t count, size_t item_bytes);

int v1_fail(struct trace_reader *r, const struct v1_event *ev, enum trace_rule rule,
            const char *fmt, ...) FSCOPE_PRINTF(4, 5);

#endif
