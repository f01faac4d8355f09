// SPDX-License-Identifier: MIT
//
// The collector's side of agent/call.h: finds out whether the agent in a running process answers, and asks it for its
// segment.
//
// What always holds
//   - Nothing is sent to a process that would not survive it: the agent's library is mapped there and says that it
//     answers, and SIGPROF is caught. A signal goes to the process that was looked at, never to one that has
//     its number now (pidfd).
//   - The socket lies in the target's network namespace, where abstract names live.
//
// Nothing here prints. Any thread.

#ifndef FIBERSCOPE_COLLECTOR_CALL_H
#define FIBERSCOPE_COLLECTOR_CALL_H

#include "agent/protocol.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define CALL_NO_SEGMENT                                                                            \
    "its segment has no descriptor: `fiberscope record` has started it, or it closes all "         \
    "descriptors that it finds"

struct call {
    uint32_t pid;
    int pidfd;        // readable when it has ended
    uint64_t value;   // of our signals, without flags: names the socket
    int listen_fd;    // -1: not yet
    bool is_injected; // no signal for waits that began before it came: agent/inject.h
};

// 0; -ENOENT: there is no agent; -EOPNOTSUPP: there is one, but it does not answer (another version, SIGPROF is not
// caught); -ESRCH, -EPERM. err says what to do. The caller owns *out: call_close.
int call_open(struct call *out, uint32_t pid, struct fscope_error *err);
void call_close(struct call *c); // accepts a zeroed one and one that failed to open

// Makes the socket. 0 or -errno.
int call_listen(struct call *c, struct fscope_error *err);

// Sends one, to the thread that it disturbs least. flags: enum call_flag. 0, -ESRCH, -EPERM.
int call_send(const struct call *c, unsigned flags);

// The segment, without staying: listens, calls until the agent has come. *segment is the caller's. -ETIMEDOUT (all its
// threads block SIGPROF, or it is stopped), -ENODATA (its descriptor is gone: somebody recorded it from its
// start, or the program closed it).
int call_fetch(struct call *c, int *segment, struct agent_hello *hello, struct fscope_error *err);

struct seg_reader;

struct call_wish { // what belongs to it: the words of that name in seg_control
    uint32_t what; // enum seg_asked
    uint32_t hold; // 1 << enum seg_held: held by the reader from now on
    uint32_t let_go;
    uint64_t heap_bytes, block_ns, mutex_fraction, cpu_period_ns, wall_period_ns;
    uint32_t cpu_source, cpu_flags;
};

// Has the target do it, after it has switched off what no collector holds any more, and waits for it. Of `hold` those are
// held that a collector has switched on, this one or another; not what is the program's own. 0, its own -errno, -ETIMEDOUT, -ESRCH.
int call_ask(const struct call *c, struct seg_reader *reader, const struct call_wish *wish,
             struct fscope_error *err);

#endif
