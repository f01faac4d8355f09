// SPDX-License-Identifier: MIT
//
// Channels with Go's semantics: typed by size, buffered or not, select over any number of them.
//
//     struct fib_chan *c = fib_chan_new(sizeof(int), 0);
//     fib_chan_send(c, &value);         // waits for a receiver
//     while (fib_chan_recv(c, &value))  // false: closed and drained
//         ...
//
// What always holds
//   - Values are copied: from the sender straight to a waiting receiver, else through the buffer.
//   - Those who wait are served first come, first served, but for select, which takes any ready case with the
//     same probability.
//   - A NULL channel is never ready: sending and receiving wait forever, as on Go's nil channel.
//   - Sending on a closed channel, closing twice and closing NULL abort, with the stack of the caller and
//     the place that closed it.
//
// All functions may be called in fibers and plain threads.

#ifndef FIBERSCOPE_CHAN_H
#define FIBERSCOPE_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fib_chan;

// A channel of elements of elem_bytes (0 is allowed) with room for `capacity` of them. NULL: out of memory, or
// elem_bytes above 64 KiB, or the product above 2^40. The caller owns it.
struct fib_chan *fib_chan_new(size_t elem_bytes, size_t capacity);

// Frees it; NULL is allowed. Nobody may wait on it or use it any more: waiting ones abort. Elements still in it are
// forgotten.
void fib_chan_free(struct fib_chan *c);

// Sends a copy of *elem; waits while there is neither a receiver nor room.
void fib_chan_send(struct fib_chan *c, const void *elem);

// Receives into *elem (NULL: dropped); waits for a sender. False: it is closed and empty, and *elem is zeroed.
bool fib_chan_recv(struct fib_chan *c, void *elem);

// The same with a limit: 0; -ETIMEDOUT; for recv -EPIPE: closed and empty. timeout_ns 0: never waits.
int fib_chan_send_for(struct fib_chan *c, const void *elem, int64_t timeout_ns);
int fib_chan_recv_for(struct fib_chan *c, void *elem, int64_t timeout_ns);

// No more sends; wakes all who wait. What is in the buffer can still be received.
void fib_chan_close(struct fib_chan *c);

size_t fib_chan_len(const struct fib_chan *c); // elements in the buffer
size_t fib_chan_cap(const struct fib_chan *c);

// --- Select.

struct fib_case {
    struct fib_chan *chan; // NULL: never ready
    const void *send;      // sends *send; NULL with is_send: an element of 0 bytes
    void *recv;            // receives into *recv; NULL: dropped
    bool is_send;
    bool ok; // out, for receive: false: closed and empty
};
#define FIB_SEND(c, p)                                                                             \
    {                                                                                              \
        (c), (p), NULL, true, false                                                                \
    }
#define FIB_RECV(c, p)                                                                             \
    {                                                                                              \
        (c), NULL, (p), false, false                                                               \
    }

enum { FIB_SELECT_MAX = 65536, FIB_SELECT_NONE = -1 };

// Waits until one case can go on, does it, and returns its index; of several ready ones any with the same
// probability. timeout_ns 0 is a select with default, and negative waits without end; FIB_SELECT_NONE:
// the time is over (with 0: none was ready). count 0 without a limit waits forever. The same channel may be in several cases.
int fib_select_for(struct fib_case *cases, size_t count, int64_t timeout_ns);
static inline int fib_select(struct fib_case *cases, size_t count)
{
    return fib_select_for(cases, count, -1);
}

#ifdef __cplusplus
} // extern "C"
#endif

#endif
