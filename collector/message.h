// SPDX-License-Identifier: MIT
//
// What agents say (agent/protocol.h): one message, and with it a descriptor.

#ifndef FIBERSCOPE_COLLECTOR_MESSAGE_H
#define FIBERSCOPE_COLLECTOR_MESSAGE_H

#include <stddef.h>
#include <sys/types.h>

// Receives without waiting: how many bytes there were, cut at `size`, or -errno. *descriptor: the first that came, close-on-exec and
// the caller's, or -1; further ones are closed.
ssize_t message_receive(int fd, void *out, size_t size, int *descriptor);

#endif
