// SPDX-License-Identifier: MIT
//
// What a stack in futex(2) waits for or wakes: told by the function of the C library that the program called, which libc
// exports under its name. So profiles of contention read as the agent's do, which stands before these functions.
//
// What always holds
//   - Of a function that is known, the library's own frames are no part of the stack: it begins at the caller.
//   - An address that is not one of libc's objects, or whose function is not known, is the lock's as the kernel has it.

#ifndef FIBERSCOPE_COLLECTOR_BPF_FUTEX_CALLS_H
#define FIBERSCOPE_COLLECTOR_BPF_FUTEX_CALLS_H

#include "collector/bpf/layout.h"
#include "collector/perf_code.h"

struct futex_calls;

struct futex_call {
    uint32_t skip;           // frames of the library
    enum seg_lock_type type; // SEG_LOCK_FUTEX: the function is not known
    uint64_t object;         // address of the pthread object; 0: none (a thread that is joined)
    bool is_lock;            // a mutex or a read-write lock, by its function or its word
    bool is_relock;          // the mutex of a condition, taken again
};

int futex_calls_new(struct futex_calls **out); // 0 or -ENOMEM
void futex_calls_free(struct futex_calls *c);  // accepts NULL

// r: of kind BPF_SAMPLE_BLOCK or _MUTEX, in p. p's code outlives c.
void futex_calls_look(struct futex_calls *c, const struct perf_process *p,
                      const struct bpf_stack *r, struct futex_call *out);

#endif
