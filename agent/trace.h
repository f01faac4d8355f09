// SPDX-License-Identifier: MIT
//
// The agent's part in execution traces: starting the recorder (emit/), and the program's own events.

#ifndef FIBERSCOPE_AGENT_TRACE_H
#define FIBERSCOPE_AGENT_TRACE_H

#include <stdbool.h>
#include <stdint.h>

// Into the segment of this address space, which has begun. 0 or -errno.
int trace_begin(bool is_flight, uint64_t flight_ns);

#endif
