// SPDX-License-Identifier: MIT
//
// What /debug/requests knows of the program's tasks (include/fiberscope/trace.h): families by name, how long they took,
// and the last few of each latency with what was logged of them, as golang.org/x/net/trace shows it. Fed with execution
// traces, one after the other: what a flight recorder holds, or what was recorded for the page.
//
// What always holds
//   - Each task is counted once, however often its events are seen: of a trace, what is not later than the last event of
//     the one before is passed over.
//   - A task is active if its begin was seen, and since then everything. Where there is a gap between two traces, those
//     that were active are forgotten, for nobody knows whether they ended.
//   - Memory is bounded: families, recent ones, active ones, events of each, bytes of each event.
//   - The trace is the target's: any file is taken, and costs what the reader's limits permit.

#ifndef FIBERSCOPE_COLLECTOR_SERVE_REQUESTS_H
#define FIBERSCOPE_COLLECTOR_SERVE_REQUESTS_H

#include "collector/serve/internal.h"

struct trace_reader;

enum {
    REQUESTS_FAMILIES = 48, // and one for all others, the first
    REQUESTS_BUCKETS = 7,
    REQUESTS_ERRORS = REQUESTS_BUCKETS, // the list of those with an error
    REQUESTS_RECENT = 10,
    REQUESTS_ACTIVE = 2048,
    REQUESTS_EVENTS = 24,
    REQUESTS_TEXT = 160,
    REQUESTS_NAME = 96,
};

extern const uint64_t requests_bounds_ns[REQUESTS_BUCKETS]; // a bucket's least

enum task_event_kind { TASK_LOG, TASK_REGION, TASK_ERROR };

struct task_event {
    int64_t at_ns, took_ns; // CLOCK_MONOTONIC; of a region, -1: it has not ended
    uint8_t kind;
    char text[REQUESTS_TEXT]; // terminated, cut; any bytes
};

struct task {
    uint64_t id, parent; // 0: none
    int64_t begin_ns, end_ns;
    uint32_t family;
    uint32_t owners; // lists that it is in
    uint32_t event_count, events_lost;
    bool has_error;
    struct task_event *events;
};

struct task_list { // the newest last
    struct task *tasks[REQUESTS_RECENT];
    uint32_t count;
};

struct task_family {
    char name[REQUESTS_NAME]; // "": others
    uint64_t count, errors, active;
    uint64_t buckets[REQUESTS_BUCKETS];
    uint64_t powers[SESSION_BUCKETS]; // of two of ns, for quantiles
    struct task_list recent[REQUESTS_BUCKETS + 1];
};

struct requests {
    pthread_mutex_t lock;
    uint64_t image;                 // of the program that it is about
    int64_t seen_until;             // time of the last event seen; 0: none
    int64_t seen_from;              // and since when without a gap
    uint64_t unfollowed, forgotten; // active ones for which there was no room; those at gaps
    uint64_t taken_ns;              // when the last trace was taken
    bool is_taking;
    uint32_t family_count;
    struct task_family families[REQUESTS_FAMILIES + 1];
    struct task *active[REQUESTS_ACTIVE]; // by id, probed; NULL: free
    uint32_t active_count;
};

struct requests *requests_new(void);
void requests_clear(struct requests *q);

// Takes all events of the trace that are new. 0, or the reader's error: then what came before counts. [q->lock held]
int requests_read(struct requests *q, struct trace_reader *reader);

// A fraction q of the family's tasks took at most so long.
uint64_t requests_quantile_ns(const struct task_family *f, double fraction);

// [q->lock held]
void requests_put_html(struct request *r, FILE *out, const struct requests *q, const char *why);
void requests_put_json(struct request *r, FILE *out, const struct requests *q, const char *why);

// What the query selects: a family, and a list of it (-1: the active ones). False: none.
bool requests_selected(const struct request *r, const struct requests *q, uint32_t *family,
                       int *bucket);

#endif
