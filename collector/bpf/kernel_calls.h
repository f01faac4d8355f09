// SPDX-License-Identifier: MIT
//
// System calls by their number: what they are called, and what a thread waits for that sleeps in one, in Go's words. [pure]

#ifndef FIBERSCOPE_COLLECTOR_BPF_KERNEL_CALLS_H
#define FIBERSCOPE_COLLECTOR_BPF_KERNEL_CALLS_H

#include <stdint.h>

const char *kernel_call_name(uint32_t number); // NULL: it has none here

// "sync", "sleep", "network" or "unspecified".
const char *kernel_call_reason(uint32_t number);

#endif
