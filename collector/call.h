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

// Has the target do `what` (enum seg_asked) and waits for it. 0, its own -errno, -ETIMEDOUT, -ESRCH.
int call_ask(const struct call *c, struct seg_reader *reader, uint32_t what, uint64_t heap_bytes,
             struct fscope_error *err);

#endif
