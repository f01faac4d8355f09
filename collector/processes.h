// SPDX-License-Identifier: MIT
//
// The processes that have something of ours in them: the agent, the fiber runtime, a sidecar that serves them.
//
// Invariant: nothing is sent to them or changed; what is told is of about now, and a process that ends meanwhile, or may
// not be looked into, is left out or told with what can be seen.

#ifndef FIBERSCOPE_COLLECTOR_PROCESSES_H
#define FIBERSCOPE_COLLECTOR_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum process_agent {
    PROCESS_NO_AGENT,
    PROCESS_AGENT_IDLE,      // there, and answers calls
    PROCESS_AGENT_RECORDING, // has a segment that records something (what: `records`)
    PROCESS_AGENT_DEAF,      // there, and answers no calls: taken out, or without SIGPROF
};

struct process {
    uint32_t pid;
    uint32_t uid;
    uint32_t threads;
    char program[64];
    enum process_agent agent;
    bool has_runtime;
    char records[64]; // "cpu heap block mutex order trace", "" if nothing or if it may not be seen
    char endpoint[160]; // of the sidecar that serves it: "127.0.0.1:6060"; "": none
    uint32_t collector; // pid of who consumes its segment; 0: nobody, or not to be seen
};

struct processes {
    struct process *list; // by pid
    size_t count;
    uint32_t hidden; // that could not be looked into: of other users
};

// 0 or -errno. The caller owns *out: processes_free.
int processes_find(struct processes *out);
void processes_free(struct processes *p);

#endif
