// SPDX-License-Identifier: MIT
//
// CPU profiles that a program takes of itself. Link with -lfiberscope; no LD_PRELOAD is needed.
//
//     fscope_cpu_start(NULL);
//     work();
//     fscope_cpu_stop();
//     fscope_cpu_save("work.fscope");    // then: fiberscope finish work.fscope
//
// The program only records; names, lines and the pprof format are made by the fiberscope command.
// Samples are kept in memory of a fixed size: where single samples no longer fit, their stacks and
// times are still added up. All threads are sampled, also those that exist already.
//
// All functions return 0 or a negative errno, and set no errno.

#ifndef FIBERSCOPE_PROFILE_H
#define FIBERSCOPE_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fscope_cpu_options {
    size_t size;      // sizeof(struct fscope_cpu_options)
    uint32_t cpu_hz;  // samples per second of CPU time and thread, at most 10000; 0: 99
    uint32_t wall_hz; // samples per second of wall time and thread; 0: none
};

// Starts sampling; options may be NULL. -EALREADY: sampling is on (perhaps by FIBERSCOPE in the
// environment). -EINVAL: a rate out of range. -EAGAIN: too many timers (RLIMIT_SIGPENDING). Else
// what mmap or memfd_create says. [any thread] [not async-signal-safe]
int fscope_cpu_start(const struct fscope_cpu_options *options);

// Stops sampling; what was recorded is kept, and start continues it. -EINVAL: it is not on.
// [any thread] [not async-signal-safe]
int fscope_cpu_stop(void);

// Writes everything recorded since the program began to record to fd, in the raw form that
// `fiberscope finish` reads. -ENODATA: nothing was ever started. Sampling may go on meanwhile.
// [any thread] [async-signal-safe]
int fscope_cpu_write(int fd);

// The same to a file, which appears whole or not at all and is replaced if it exists.
// [any thread] [not async-signal-safe]
int fscope_cpu_save(const char *path);

#ifdef __cplusplus
}
#endif

#endif
