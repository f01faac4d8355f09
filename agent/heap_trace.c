// SPDX-License-Identifier: MIT
//
// FIBERSCOPE=heaptrace=MS; see docs/agent.md.

#include "agent/heap.h"

void heap_trace_begin(void)
{
}
void heap_trace_look(void)
{
}
void heap_trace_sampled(_Atomic uint64_t *total, uint64_t size)
{
    (void)total;
    (void)size;
}
