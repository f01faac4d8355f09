// SPDX-License-Identifier: MIT
//
// Contention by futex: what futex.bpf.h has in its maps. Included by layout.h.
//
// How it is found, in any program: a lock that is free is taken without the kernel; who finds it held waits in futex(2) for
// its address, and who releases it and knows of waiters wakes one there. So
//   block   a wait is charged to the stack that waited, when it is over (Go's and the agent's block profile)
//   mutex   a wake is charged with what all who wait there have waited since the last one (the agent's, agent/lock.h); the time
//           from the wake until the waiter runs again belongs to nobody
// A wait that is woken and finds the lock taken again goes on: it counts once.
//
// What is a lock and what is a condition, a semaphore, a barrier, the collector tells by the function of libc that waited
// or woke (futex_calls.h). BPF knows the word's value: one that is waited for while it is 0 is no lock's.

#ifndef FIBERSCOPE_COLLECTOR_BPF_FUTEX_LAYOUT_H
#define FIBERSCOPE_COLLECTOR_BPF_FUTEX_LAYOUT_H

enum {
    BPF_FUTEX_THREADS_MAX = 32768, // threads that have waited and live
    BPF_FUTEX_LOCKS_MAX = 16384,   // words that are waited for at a time, a power of two
    BPF_FUTEX_PROBES = 8,          // places in which a word is looked for
};

// The word has the protocol of a lock: 2 (glibc, Rust, Go), or a thread's number and a bit for waiters (robust mutexes,
// those with priority inheritance, musl).
enum bpf_futex_hint { BPF_FUTEX_IS_LOCK = 1 };

#endif
