// SPDX-License-Identifier: MIT
//
// FIBERSCOPE, the one environment variable: a `key=value` list separated by commas. In a value, \,
// is a comma and \\ a backslash. The text is a stranger's: every key is bounded, and what is not
// understood is reported and ignored, so that a typing mistake never keeps a program from running.
//
// Pure: no system calls, no allocation.

#ifndef FIBERSCOPE_AGENT_ENV_H
#define FIBERSCOPE_AGENT_ENV_H

#include <stdbool.h>
#include <stdint.h>

enum {
    AGENT_HZ_MAX = 10000,
    AGENT_PATH_BYTES = 1024,
    AGENT_SOCKET_BYTES = 96,
};

#define AGENT_HEAP_BYTES_DEFAULT UINT64_C(524288) // Go's MemProfileRate
// Room for events of an execution trace. A collector empties it five times a second or oftener; without one
// this is what a black box or a dump can hold.
#define AGENT_TRACE_BYTES_DEFAULT (UINT64_C(64) << 20)
#define AGENT_TRACE_BYTES_MIN     (UINT64_C(1) << 20)
#define AGENT_TRACE_BYTES_MAX     (UINT64_C(64) << 30)

enum agent_source_wish { AGENT_SOURCE_AUTO, AGENT_SOURCE_PERF, AGENT_SOURCE_TIMER };

struct agent_env {
    uint32_t cpu_hz;         // 0: off
    uint32_t wall_hz;        // 0: off
    uint64_t heap_bytes;     // mean bytes per sampled allocation; 1: every one; 0: off
    uint64_t block_ns;       // waits this long are kept, shorter ones by chance; 0: off
    uint64_t mutex_fraction; // 1 in so many contended unlocks; 0: off
    bool order;              // the order in which locks are taken
    uint32_t heaptrace_ms;   // one line on stderr per period; 0: off
    bool mmaps;              // mmap and munmap count as allocations too
    bool trace_on;           // an execution trace from the start
    // What is longer asks for a copy of the flight recorder, by enum emit_slow; ns, 0: no limit. Each implies flight.
    uint64_t trace_slow_ns[4];
    bool trace_flight;               // ... of which the newest events are kept; implies trace_on
    uint64_t trace_bytes;            // room for its events
    char out[AGENT_PATH_BYTES];      // pattern of the raw dump written at exit; "": none
    char segment[AGENT_PATH_BYTES];  // pattern of the black box; "": a memfd
    char socket[AGENT_SOCKET_BYTES]; // abstract name without its leading NUL; "": no collector
    bool inherit;                    // follow fork and exec (default)
    bool unblock; // let SIGPROF through in threads born with it blocked (default)
    bool quiet;   // say nothing on stderr
    bool got;     // overwrite the slots of loaded modules too (hooks_got.h)
    enum agent_source_wish source;
};

// Whether there is anything to record.
bool agent_env_wants_anything(const struct agent_env *env);

// Called for each item that is not understood: its text (not NUL-terminated) and why.
typedef void agent_env_complain_fn(void *arg, const char *item, int length, const char *why);

// Fills *env with defaults.
void agent_env_defaults(struct agent_env *env);

// Reads text (NULL: nothing) into *env, which holds defaults or earlier settings. The number of
// items not understood; each is reported through fn, which may be NULL. [async-signal-safe]
int agent_env_parse(struct agent_env *env, const char *text, agent_env_complain_fn *fn, void *arg);

// Expands %p (pid), %e (program) and %% of pattern into path of size bytes; other % stay. A '/' in
// program becomes '_'. 0, or -ENAMETOOLONG. [async-signal-safe]
int agent_env_expand(char *path, uint32_t size, const char *pattern, uint32_t pid,
                     const char *program);

#endif
