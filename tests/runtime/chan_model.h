// SPDX-License-Identifier: MIT
//
// Random programs of channel operations, what happened when one ran, and the model that says whether it may.
//
// The runner logs two things in the deterministic scheduler, where nothing comes between an operation and
// its entry in the log: that an operation waits (at the moment it does, with the channels' locks), and that one
// has ended. The log is thus in the order in which things took effect.

#ifndef FIBERSCOPE_TESTS_RUNTIME_CHAN_MODEL_H
#define FIBERSCOPE_TESTS_RUNTIME_CHAN_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHANS_MAX = 6, ACTORS_MAX = 9, OPS_MAX = 16, CASES_MAX = 10, EVENTS_MAX = 1024 };

enum op_kind { OP_SEND, OP_RECV, OP_SELECT, OP_CLOSE, OP_LEN, OP_YIELD, OP_SLEEP, OP_KINDS };

struct model_case {
    int8_t chan; // -1: NULL
    bool is_send;
};

struct model_op {
    uint8_t kind;
    uint8_t count; // of cases; send, receive, close and len have one
    struct model_case cases[CASES_MAX];
    int64_t timeout_ns;
};

struct model_chan {
    uint32_t elem_bytes, capacity;
    // Closed by the last of its senders as that one ends, or, if it has none, by an operation.
    bool is_closable;
};

struct program {
    uint32_t chans, actors;
    struct model_chan chan[CHANS_MAX];
    struct {
        uint32_t count;
        struct model_op ops[OPS_MAX];
        bool sends_on[CHANS_MAX];
    } actor[ACTORS_MAX];
};

enum event_kind { EV_WAITS, EV_ENDED, EV_CLOSED_AT_END, EV_LEFT, EV_FINAL_LEN };

struct event {
    uint8_t kind;
    uint8_t actor; // final: channel
    uint8_t op;
    bool ok;        // of a receive
    int32_t chosen; // case; -1: none
    uint64_t value; // received: hash of the bytes; len: the length
    int64_t now_ns;
};

struct run_log {
    uint32_t count;
    bool is_over;
    struct event events[EVENTS_MAX];
};

void program_make(struct program *p, uint64_t seed);

// The bytes that an actor's operation sends on a channel, and hashes of elements.
void value_fill(void *p, size_t bytes, uint32_t id);
uint64_t value_hash(const void *p, size_t bytes);
static inline uint32_t value_id(uint32_t actor, uint32_t op, uint32_t chan)
{
    return (actor + 1) << 16 | op << 8 | chan;
}

// NULL: the log is what the program may do; else why not, and *at is the event.
const char *model_check(const struct program *p, const struct run_log *log, uint32_t *at);

#endif
