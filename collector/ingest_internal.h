// SPDX-License-Identifier: MIT
//
// Shared by ingest.c (sockets) and ingest_target.c (one segment and the clocks on its threads).

#ifndef FIBERSCOPE_COLLECTOR_INGEST_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_INGEST_INTERNAL_H

#include "agent/protocol.h"
#include "collector/feed.h"
#include "collector/ingest.h"
#include "collector/perf_event.h"
#include "collector/record_trace.h"

enum { PENDING_MAX = 128 }; // connections that have not said anything yet

struct target {
    struct target *next;
    struct ingest *ingest;
    uint32_t pid;       // in our namespace
    uint32_t inner_pid; // as the target sees itself
    struct seg_reader *reader;
    struct feed feed;
    struct perf_clocks *clocks; // NULL: the agent has its own
    struct trace_build *trace;  // NULL: not wanted, or the segment has none
    struct record_trace_sink sink;
    uint64_t trace_events, trace_bytes; // as counted in the ingest's stats
    uint64_t records;
    uint64_t asked_ns;      // when the trace was asked to end; 0: not yet
    uint64_t ended_ns;      // when the process, or this image of it, was seen to end; 0: not yet
    int pidfd;              // in the ingest's epoll set until it ends; -1: not to be had
    uint32_t named_threads; // seen by the last look at their names
    bool is_late;           // it was called: others may look at it, too
    bool drains;            // the rings are ours
    bool is_over;           // ended, or replaced by exec; only drained once more
};

struct ingest {
    struct ingest_options o;
    char name[sizeof AGENT_SOCKET_PREFIX + AGENT_SOCKET_RANDOM_DIGITS];
    int listen_fd, epoll_fd;
    int pending[PENDING_MAX];
    uint32_t pending_count;
    pid_t root;
    uint64_t housekeeping_ns; // when the next one is due
    struct target *targets;
    struct ingest_stats stats;
    uint64_t most_records;
};

// Takes a segment (fd is taken): reads it, opens clocks, writes the control words, fills in config's
// answer. Damage is counted in g->stats. 0 or -errno.
int target_add(struct ingest *g, int fd, uint32_t pid, const struct agent_hello *hello,
               struct agent_config *config);

// A new thread: its clock. inner_tid is as the target sees it.
void target_thread(struct target *t, uint32_t inner_tid);

// Drains; with `housekeeping` also looks after threads that came and went.
int target_pump(struct target *t, bool housekeeping);

// The process has ended: its pidfd says so.
void target_ended(struct target *t);

// Asks its trace to end, which target_finish waits for.
void target_ask_to_stop(struct target *t);

// ingest_late.c: the same for one that was called. Only what is wanted is touched.
void target_start_late(struct target *t, struct agent_config *config);
void target_stop_late(struct target *t);
// Its clocks, where the kernel allows them; config says whether.
void target_open_clocks(struct target *t, struct agent_config *config);
bool target_is_alive(const struct target *t);

// Stops sampling and takes the rest. Then target_free.
int target_finish(struct target *t);
void target_free(struct target *t);

#endif
