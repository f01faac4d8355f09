// SPDX-License-Identifier: MIT
//
// Delays of known kind and size, for trying out what is to find them: `shorten --delay=KIND:EVERY:DURATION` slows down
// every EVERYth redirect (GET /CODE) in one way. And an account of it by the service's own clock, which knows nothing
// of traces: `--account=FILE`.
//
// What always holds: a column of the account is how long the request was in fact held up by that kind, from the
// readings of the clock at both ends, also where it was not meant but happened to need the same lock, or a processor
// while the neighbours had all of them.

#ifndef SHORTEN_DELAY_H
#define SHORTEN_DELAY_H

#include <fiberscope/sync.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum delay_kind {
    DELAY_LOCK,     // another fiber sleeps while it holds the lock that the request needs
    DELAY_SYSCALL,  // the request sleeps in the kernel
    DELAY_BLOCK,    // the same, but the runtime is not told
    DELAY_BUSY,     // other fibers keep all processors, one each, while the request is runnable
    DELAY_FUNCTION, // the request runs a function that uses the processor
    DELAY_CHANNEL,  // the request receives what another fiber sends late
    DELAY_IO,       // the request reads from a pipe what another fiber writes late
    DELAY_SLEEP,    // the request sleeps as fibers do
    DELAY_KINDS,
};

extern const char *const delay_names[DELAY_KINDS];

struct delay_record { // a request, on its own stack
    int64_t begin_ns, end_ns;
    int64_t ns[DELAY_KINDS];
    int64_t lock_from_ns;
};

// Adds what "KIND:EVERY:DURATION" says, say "lock:100:20ms". 0, -EINVAL, or -ENOSPC: more than 8.
int delay_add(const char *text);

// Requests are accounted for from now on, up to DELAY_REQUESTS_MAX. 0 or -ENOMEM.
enum { DELAY_REQUESTS_MAX = 1 << 18 };
int delay_account(void);

// The account as a table, a line for each request. 0, or -EIO: file cannot be written.
int delay_account_write(FILE *file);

void delay_begin(struct delay_record *r);
void delay_end(struct delay_record *r);

// Delays the request if it is its turn. It needs this lock next, and says when it had it.
void delay_redirect(struct delay_record *r, struct fib_mutex *lock);
void delay_had_lock(struct delay_record *r);

#endif
