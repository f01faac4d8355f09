// SPDX-License-Identifier: MIT
//
// Shared by session.c and session_stream.c.

#ifndef FIBERSCOPE_COLLECTOR_SESSION_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_SESSION_INTERNAL_H

#include "collector/call.h"
#include "collector/feed.h"
#include "collector/record_internal.h"
#include "collector/session.h"

#include <pthread.h>

struct session {
    uint32_t pid;
    int pidfd;
    char program[64];
    enum session_way way;
    struct fscope_error why, heap_why; // why not the agent; why not the heap
    char cpu_why[320];                 // why no CPU time from outside
    struct call call;                  // of the agent
    int segment;                       // -1: none
    struct seg_reader *reader;         // of words and counters
    struct session_options wished;
    uint64_t regions_asked_ns;       // when the agent was last asked to time regions; 0: never
    uint64_t image;                  // of the program that the rest is about: an exec changes it
    uint64_t changed_to, changed_ns; // the last change of it that was seen
    struct ebpf_watch *kernel;       // by eBPF; NULL: not
    pthread_mutex_t lock;            // of all that an exec changes: way, why, call, segment, reader
};

// session_threads.c: one sample for each thread, into the part of result's custom builder; with its stack where the
// process may be looked into, of which "threadcreate" has the part up to the function that the thread was given. 0 or
// -errno.
int session_threads(struct session *s, struct record_result *result, const char *part,
                    struct fscope_error *err);

// Of "threadcreate", with names: one sample for each function, wherever in it each thread stands, and no frames where it is not
// known, as Go has it.
void session_threads_unite(struct pprof_profile *p);

// session_kernel.c: what ebpf_watch.h gives, where s->kernel is. As the calls of session.h.
int session_kernel_open(struct session *s, struct fscope_error *err);
int session_kernel_begin(struct session *s, struct fscope_error *err);
void session_kernel_close(struct session *s);
int session_kernel_sample(struct session *s, const struct session_stream *how,
                          struct pprof_profile **out, struct fscope_error *err);
int session_kernel_state(struct session *s, int kind, struct pprof_profile **out,
                         struct fscope_error *err);
uint64_t session_kernel_count(struct session *s, int kind); // entries
void session_kernel_metrics(struct session *s, struct session_metrics *m);

// A descriptor on the segment, of the caller's own; after an exec the new image's. -errno.
int session_segment(struct session *s);

int session_open_module(void *session, const struct seg_module *m, const char *path,
                        const char *build_id);

#endif
