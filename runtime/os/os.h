// SPDX-License-Identifier: MIT
//
// The kernel, as the runtime needs it. Nothing here takes a lock of libc's.

#ifndef FIBERSCOPE_RUNTIME_OS_H
#define FIBERSCOPE_RUNTIME_OS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { OS_PAGE = 4096 };

void *os_pages(size_t bytes); // zeroed; NULL
void os_pages_free(void *p, size_t bytes);
void *os_reserve(size_t bytes, size_t align); // without a promise of memory (MAP_NORESERVE); NULL
void os_forget(void *p, size_t bytes);        // its content and memory; stays mapped
bool os_guard(void *p, size_t bytes);         // accesses fault from now on; false: no mappings left
uint32_t os_resident(const void *p, size_t bytes,
                     uint8_t *pages); // mincore; the number of pages in memory

// Sleeps while *word == value, at most timeout_ns (< 0: no limit). 0, or -errno: -ETIMEDOUT, -EINTR, -EAGAIN.
int os_futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t timeout_ns);
void os_futex_wake(_Atomic uint32_t *word, uint32_t count);

int64_t os_clock_ns(void); // CLOCK_MONOTONIC
pid_t os_tid(void);
int os_signal_thread(pid_t tid, int signal);
uint64_t os_thread_interrupted(void); // times that this thread lost its processor to others
void os_yield(void);
void os_sleep(int64_t ns);
uint64_t os_thread_cpu_ns(pid_t tid); // CPU time of a thread of this process; 0: none
// Whether it sleeps in the kernel, and does not just wait for a processor. Some microseconds.
bool os_thread_sleeps(pid_t tid);
// A memory barrier in all threads of the process that run now.
void os_membarrier(void);

uint32_t os_cpus(void); // affinity, cgroup quota (rounded up); at least 1

#endif
