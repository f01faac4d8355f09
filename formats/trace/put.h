// SPDX-License-Identifier: MIT
//
// What the upper level of a writer knows about the trace that it follows.
//
// Invariant: tables are indexed by the reader's slots; state 0 is what does not exist; a thing
// whose stamp is that of the generation is announced in it.

#ifndef FIBERSCOPE_FORMATS_TRACE_PUT_H
#define FIBERSCOPE_FORMATS_TRACE_PUT_H

#include "formats/trace/write_internal.h"

struct put_go {
    int64_t id;
    uint64_t seq, stamp;
    uint32_t thread; // slot, of one that runs or is in a system call
    uint32_t stack;  // the last that is known, to tell what it is
    uint8_t state;   // enum trace_go_state
    bool is_kept, assists, stops;
};

struct put_proc {
    int64_t id;
    uint64_t seq, stamp;
    uint32_t thread;
    uint8_t state; // enum trace_proc_state
    bool in_syscall, is_lost, sweeps;
};

struct put_thread {
    int64_t id;
    uint32_t proc, go;
};

struct put_ids { // stable ids of the reader to those of this generation
    struct put_id {
        uint64_t stamp, id;
    } * items;
    uint32_t capacity;
};

struct put_state {
    const struct trace_reader *reader;
    struct put_go *gos;
    struct put_proc *procs;
    struct put_thread *threads;
    uint32_t go_count, proc_count, thread_count; // all of them zeroed, threads without Proc
    struct put_ids strings, stacks;
    uint64_t stamp; // of the generation being written, 0 before the first
    // In clock units; last and gap as a reader will see them, to whom no two events have one time.
    uint64_t now, begin, none_time;
    uint64_t last; // of what the generation has, its beginning counted
    uint64_t gap_after,
        gap_size; // the longest stretch in which nothing has been said since none_time
    uint64_t end; // of the result; 0: where its last event is
    uint64_t mark_seq, procs_value, goal_value;
    bool is_marking, has_procs, has_goal, owes_procs, owes_goal, has_clock, is_over;
    struct trace_writer_clock clock;
};

// Makes room for every slot that an event names. 0 or -errno.
int put_prepare(struct trace_writer *w, const struct trace_reader *r, const struct trace_event *ev);

// NULL if there is no such slot.
struct put_go *put_go_at(struct trace_writer *w, uint32_t slot);
struct put_proc *put_proc_at(struct trace_writer *w, uint32_t slot);

// Ids in the open generation of what the reader calls id.
uint64_t put_string(struct trace_writer *w, const struct trace_reader *r, uint32_t id);
uint64_t put_stack(struct trace_writer *w, const struct trace_reader *r, uint32_t id);

uint64_t put_ticks(const struct trace_writer *w, int64_t ns);

// Writes an event now. Time does not go back, except for announcements that belong to no thread.
void put_say(struct trace_writer *w, int64_t thread, uint8_t wire, const uint64_t *args);
#define SAY(w, thread, wire, ...) put_say(w, thread, wire, (const uint64_t[]){__VA_ARGS__})

// Writes what has been true for a while where there is room before now, so that no reader has to
// move an event behind it.
void put_say_early(struct trace_writer *w, int64_t thread, uint8_t wire, const uint64_t *args);
#define SAY_EARLY(w, thread, wire, ...)                                                            \
    put_say_early(w, thread, wire, (const uint64_t[]){__VA_ARGS__})

// Unless the generation knows it: what something is. What a thread has must be known before it does
// anything.
void put_announce_proc(struct trace_writer *w, struct put_proc *p);
void put_announce_go(struct trace_writer *w, struct put_go *g);
void put_announce_thread(struct trace_writer *w, uint32_t slot);

bool put_is_status(const struct trace_event *ev);

// --- put_generations.c

// Something is said at a time.
void put_note_time(struct put_state *s, uint64_t time);

void put_note_clock(struct trace_writer *w);
void put_begin(struct trace_writer *w, uint64_t time); // a generation

// A Sync: the writer's generation ends if it is large enough, the result if it is over.
void put_sync(struct trace_writer *w, const struct trace_event *ev, bool is_late);

// --- put_marks.c

// What a generation should say early and can only say where a Goroutine runs: on this thread.
void put_pay(struct trace_writer *w, int64_t thread);
void put_debts(struct trace_writer *w, const struct trace_event *ev);
void put_range(struct trace_writer *w, const struct trace_event *ev, bool writes);
void put_metric(struct trace_writer *w, const struct trace_event *ev, bool writes);
void put_annotation(struct trace_writer *w, const struct trace_event *ev);
void put_sample(struct trace_writer *w, const struct trace_event *ev);

#endif
