// SPDX-License-Identifier: MIT
//
// What the files of the fscope_ API share: api.c (starting, stopping, writing), labels.c, custom.c,
// forbid.c, bench.c; see include/fiberscope/profile.h.

#ifndef FIBERSCOPE_AGENT_API_H
#define FIBERSCOPE_AGENT_API_H

#include <stdint.h>

#define EXPORTED __attribute__((visibility("default")))

// Makes this address space have a recording, which may record nothing yet. 0 or -errno.
// [any thread] [not async-signal-safe]
int api_begin(void);

// Why the program's allocations cannot be seen; NULL: they can. Found out at the first call.
// [any thread] [not async-signal-safe at first]
const char *api_blind(void);

// fscope_heap_start for a call: live, the lock held. -EINPROGRESS: it is not yet known whether the heap can be seen.
// -EALREADY: it is recorded.
// [async-signal-safe]
int api_heap_start_here(uint64_t rate_bytes);

#endif
