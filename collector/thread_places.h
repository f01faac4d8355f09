// SPDX-License-Identifier: MIT
//
// Where the threads of a process are, for a trace that begins: each is named by the outermost function of its stack.

#ifndef FIBERSCOPE_COLLECTOR_THREAD_PLACES_H
#define FIBERSCOPE_COLLECTOR_THREAD_PLACES_H

#include <stdint.h>

// Calls fn with the stack of each thread (thread_stacks.h; at most 512 of them), its leaf first and
// exact. tid: as the process sees it. 0 or the first error of fn's; one that cannot be looked at has no threads.
int thread_places_each(uint32_t pid,
                       int (*fn)(void *arg, uint32_t tid, const uint64_t *pcs, uint32_t depth),
                       void *arg);

#endif
