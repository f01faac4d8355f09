// SPDX-License-Identifier: MIT
//
// A collector that comes while the program runs. It knows that there is an agent that answers (agent_calls below, in
// the library's symbol table, and SIGPROF caught), listens on a socket of ours, and queues a SIGPROF with a value
// (sigqueue(3), SI_QUEUE) that only such calls have:
//
//   bits 63..48  CALL_MAGIC
//   bits 47..44  enum call_flag
//   bits 43..0   random: the socket is the abstract name CALL_SOCKET_PREFIX and these in 11 hexadecimal digits
//
// The handler makes the segment if there is none, says HELLO (protocol.h) there without waiting for an answer, and does
// what the control words ask for (seg_control.asked). What it switches on is on for as long as a collector holds it
// (held.h).
//
// What always holds
//   - Whoever may send us a signal is asked no further: by default that signal would have ended the program.
//   - Only what is safe in a handler is done in it. What is not is left to the next hook or to the runtime's sysmon.
//   - A call that finds another, a start or a stop at work changes nothing: the collector calls again. Two that meet
//     as pending signals become one, as do a call and a sample: it calls again then, too.
//   - The segment's descriptor stays open for the next call, close-on-exec, above those that programs meet. One that
//     was closed by the program is noticed (another file has its number): then HELLO comes without it and
//     with AGENT_NO_SEGMENT.

#ifndef FIBERSCOPE_AGENT_CALL_H
#define FIBERSCOPE_AGENT_CALL_H

#include <stdbool.h>
#include <stdint.h>

#define CALL_MAGIC         UINT64_C(0xf15c)
#define CALL_RANDOM_BITS   44
#define CALL_RANDOM_MASK   ((UINT64_C(1) << CALL_RANDOM_BITS) - 1)
#define CALL_SOCKET_PREFIX "fiberscope-call-"
#define CALL_SYMBOL        "fscope_agent_calls"

enum {
    CALL_VERSION = 2, // what fscope_agent_calls holds once calls are answered
    CALL_SOCKET_DIGITS = 11,
    CALL_SOCKET_BYTES = sizeof CALL_SOCKET_PREFIX + CALL_SOCKET_DIGITS, // with the NUL
};

enum call_flag { // none: look at the control words alone
    CALL_HELLO = 1,
    CALL_STAY = 2, // new threads and forked children are told there, too, from now on
};

static inline int call_is_one(uint64_t value)
{
    return value >> 48 == CALL_MAGIC;
}

// The socket's name, without the leading NUL, terminated.
static inline void call_socket_name(uint64_t value, char name[CALL_SOCKET_BYTES])
{
    static const char prefix[] = CALL_SOCKET_PREFIX, digits[] = "0123456789abcdef";
    char *p = name;
    for (const char *q = prefix; *q; q++)
        *p++ = *q;
    for (int shift = CALL_RANDOM_BITS - 4; shift >= 0; shift -= 4)
        *p++ = digits[value >> shift & 15];
    *p = '\0';
}

// In the handler. [async-signal-safe]
void call_take(uint64_t value, bool is_borrowed); // is_borrowed: the thread is, by an injector

// From now on calls are answered: the handler is in place.
void call_ready(void);
// Nor are they answered any more.
void call_unready(void);

#endif
