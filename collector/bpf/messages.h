// SPDX-License-Identifier: MIT
//
// What libbpf says while it loads and attaches: kept as the reason of a failure, instead of printed.
//
// libbpf has one printer in a process; what it says is kept for the thread that it says it on.

#ifndef FIBERSCOPE_COLLECTOR_BPF_MESSAGES_H
#define FIBERSCOPE_COLLECTOR_BPF_MESSAGES_H

#include <stdbool.h>

// From here to bpf_messages_end. One thread at a time, and not within one another.
void bpf_messages_begin(void);
void bpf_messages_end(void);

// The reason, of what this thread has been told since the last bpf_messages_begin: the verifier's last line, else the
// last warning; "" if there was none. Valid until the next begin.
const char *bpf_messages_reason(void);
bool bpf_messages_are_verifiers(void); // it is the verifier's

#endif
