// SPDX-License-Identifier: MIT
//
// What a stop by ptrace does to the system call that a thread is in. Source: signal(7) on what is not restarted.

#ifndef FIBERSCOPE_COLLECTOR_STOP_CALL_H
#define FIBERSCOPE_COLLECTOR_STOP_CALL_H

#include "collector/target.h"

// Ends with EINTR when the thread is stopped, though there is no signal, or with a time limit of the socket's.
bool stop_call_is_cut(int64_t number);

// Whether it may be stopped there: the call goes on as if nothing had been. What is not known may not.
bool stop_call_may(const struct target_call *c);

#endif
