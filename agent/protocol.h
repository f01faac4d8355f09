// SPDX-License-Identifier: MIT
//
// What the agent inside a target and the collector outside say to each other. Two channels:
//
//   FIBERSCOPE     one environment variable, a `key=value` list separated by commas. The keys are
//                  in docs/agent.md; the collector sets socket=NAME and the rates it wants.
//   the socket     an abstract AF_UNIX name "fiberscope-<32 hex digits>" (128 random bits: it works
//                  after setuid and in other mount namespaces, and nobody can guess it), of type
//                  SOCK_SEQPACKET, on which the collector listens.
//
// Each message is an exchange of its own: the target makes a CLOEXEC socket, connects, sends one
// message, perhaps reads one answer, closes. No descriptor stays in the target, and a collector
// that died shows as ECONNREFUSED at the next message and as nothing else.
//
//   HELLO   target -> collector, with the segment's descriptor by SCM_RIGHTS. Sent when an address
//           space first records: at start, after exec, and by a forked child at its first sample.
//   CONFIG  collector -> target, the answer to HELLO. The order on the collector's side: take the
//           descriptor, open CPU events on all threads in /proc/PID/task, write the segment's
//           control words (cpu_period_ns, wall_period_ns, cpu_source; relaxed), then answer. So
//           the control words are what counts, and CONFIG says that they are valid; a target that
//           did not wait (AGENT_NO_ANSWER), or a forked child that has waited for
//           AGENT_CHILD_TIMEOUT_MS, reads the same words later. Where the collector cannot
//           open events it leaves cpu_source at SEG_CPU_NONE and the agent chooses its own.
//   THREAD  target -> collector, from a new thread; no answer. Only sent while cpu_source is
//           SEG_CPU_COLLECTOR_PERF. The collector opens an event on that thread.
//
// Who sent a message is what SO_PEERCRED says; pid and tid below are as the target sees them, in
// its own pid namespace (NSpid in /proc/PID/task/TID/status translates).
//
// The CPU events that the collector opens on a thread, so that the agent's handler knows them:
// PERF_COUNT_SW_TASK_CLOCK, sample_period = cpu_period_ns, remove_on_exec, not inherited, CLOEXEC;
// F_SETOWN_EX {F_OWNER_TID}, F_SETSIG SIGPROF, O_ASYNC, then PERF_EVENT_IOC_ENABLE (never
// IOC_REFRESH: it hangs kernels 6.16 and 6.17). The signal then has si_code POLL_IN. The agent
// weighs each sample by the thread's CPU clock, so a signal that comes twice, late or not at all
// does not change the sum.
//
// All integers are of the machine's own byte order: both ends are on one machine.

#ifndef FIBERSCOPE_AGENT_PROTOCOL_H
#define FIBERSCOPE_AGENT_PROTOCOL_H

#include <stdint.h>

#define AGENT_PROTOCOL_MAGIC UINT32_C(0x31525046) // "FPR1"
#define AGENT_SOCKET_PREFIX  "fiberscope-"
#define AGENT_ENV            "FIBERSCOPE"
#define AGENT_ENV_SEGMENT    "FIBERSCOPE_SEGMENT"
#define AGENT_ENV_SERVE      "FIBERSCOPE_SERVE"

enum {
    AGENT_PROTOCOL_VERSION = 1,
    AGENT_SOCKET_RANDOM_DIGITS = 32,
    AGENT_ANSWER_TIMEOUT_MS = 2000, // the target goes on alone after that
    AGENT_CHILD_TIMEOUT_MS = 100,   // a forked child, which may be in the midst of a request
};

enum agent_message { AGENT_HELLO = 1, AGENT_CONFIG, AGENT_THREAD };

enum agent_why { AGENT_WHY_START = 1, AGENT_WHY_FORK, AGENT_WHY_EXEC, AGENT_WHY_CALL };

enum agent_hello_flag {
    AGENT_NO_ANSWER = 1,    // sent from a signal handler: the sender does not wait for CONFIG
    AGENT_FROM_API = 2,     // fscope_cpu_start, not the environment
    AGENT_BLACK_BOX = 4,    // the segment is a named file
    AGENT_SIGPROF_USED = 8, // the target has a SIGPROF handler of its own
    AGENT_NO_SEGMENT =
        16, // AGENT_WHY_CALL: its descriptor was given away, or closed by the program
};

enum agent_config_flag {
    AGENT_KERNEL_EXCLUDED = 1, // the events cannot count kernel time (perf_event_paranoid)
};

// Starts every message. A message shorter than its size or of another magic is ignored; a longer
// one is of a newer version, and its known part counts.
struct agent_header {
    uint32_t magic;
    uint16_t version;
    uint16_t message; // enum agent_message
    uint32_t size;    // bytes of the whole message
    uint32_t flags;
};

struct agent_hello {
    struct agent_header header;
    uint32_t pid, tid;
    uint32_t parent;        // after fork: the parent's pid, else 0
    uint32_t why;           // enum agent_why
    uint64_t start_ticks;   // field 22 of /proc/self/stat; 0: could not be read
    uint64_t cpu_period_ns; // what the environment or the API asked for, 0: off
    uint64_t wall_period_ns;
    char program[64]; // base name, NUL-terminated
};

struct agent_config {
    struct agent_header header;
    uint64_t cpu_period_ns; // the same as in the control words
    uint64_t wall_period_ns;
    uint32_t cpu_source; // enum seg_cpu_source
    int32_t why_not;     // errno of the event that could not be opened, 0: all opened
};

struct agent_thread {
    struct agent_header header;
    uint32_t pid, tid;
};

_Static_assert(sizeof(struct agent_header) == 16, "wire format");
_Static_assert(sizeof(struct agent_hello) == 120, "wire format");
_Static_assert(sizeof(struct agent_config) == 40, "wire format");
_Static_assert(sizeof(struct agent_thread) == 24, "wire format");

#endif
