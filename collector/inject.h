// SPDX-License-Identifier: MIT
//
// Putting the agent into a process that runs already, and taking it out of service again. Linux, x86-64, glibc 2.35 or
// later. Only where the user asked for it.
//
// A thread of the target is borrowed: stopped by ptrace at a safe point, made to run a few lines of ours (dlopen and one
// function of the agent), and sent back by rt_sigreturn with a signal frame that we laid on its stack. All work is
// done by a helper process in a session of its own, with all signals blocked.
//
// What always holds
//   - Whatever is killed at whatever moment, the target runs on. A thread's registers are changed in one system
//     call (PTRACE_SETREGS), and only when everything that leads back from the new ones already lies in its memory:
//     each detour ends in rt_sigreturn by itself, without us. No instruction of the target is overwritten, no
//     breakpoint is used, no PTRACE_O_EXITKILL.
//   - A detour begins only at a safe point: the stack can be walked to its root; no frame is in the dynamic
//     linker, in a library that has a malloc, or in libc but for its known waits; none was interrupted by a signal;
//     the thread is in no restartable sequence; and if it is in a system call, in one that can be begun anew.
//   - One thread is stopped at a time, the others run. It is off its way while the library is loaded: milliseconds.
//   - Every wait of ours is bounded. If the loader's lock is held, and is not given free in LOCK_LIMIT_MS, the thread is
//     sent back before anything has been changed.
//
// The order, and what is restored when
//   1. look       Refusals; where mmap, mprotect, munmap, dlopen, dlerror, __errno_location and rt_sigreturn's stub lie in
//                 libc; the agent's entry. The process is not touched.
//   2. stop       PTRACE_SEIZE, PTRACE_INTERRUPT. Killed here: the kernel lets it go.
//   3. judge      Registers, stack, call. Not safe: PTRACE_DETACH, and another thread or moment is tried.
//   4. frame      A signal frame with all of its state (xstate, signal mask; errno by the stub) is written below its red zone.
//                 Nothing that the program uses has changed yet.
//   5. mmap       PTRACE_SETREGS into libc's mmap, whose return address is rt_sigreturn's stub, above which the frame
//                 lies. Then all signals are blocked in the thread (the frame has the mask as it was). Killed
//                 here: it maps, returns into rt_sigreturn, and is where it was; 280 KiB stay mapped.
//   6. mprotect   At the end of the call the same with mprotect, for the page with the code.
//   7. stub       Code, its data and a stack are written there; PTRACE_SETREGS to the stub. Killed here: it loads the
//                 agent, restores errno, unmaps what 5 mapped (by a jump into munmap, whose return address is again
//                 rt_sigreturn's stub), and is where it was.
//   8. result     Read when the stub calls munmap. PTRACE_DETACH at the end of rt_sigreturn, so that all is as it was when
//                 the caller goes on; killed here, it goes there by itself.
//
// Nothing here prints. One thread; the caller must not be waiting for children in another one.

#ifndef FIBERSCOPE_COLLECTOR_INJECT_H
#define FIBERSCOPE_COLLECTOR_INJECT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inject_options {
    size_t size; // sizeof(struct inject_options)
    uint32_t pid;
    const char *agent_path; // libfiberscope.so; NULL: looked for
    bool with_seccomp;      // although a seccomp filter is in force, whose opinion cannot be known
};

struct inject_result {
    uint32_t tid;        // of the thread that was borrowed; 0: none, the agent is in and at work
    uint64_t stopped_ns; // for how long it was off its way
    bool was_inside;     // the agent was there already
};

// Puts the agent in, or back to work where it was put in and taken out before; it records nothing until it is
// asked. 0; or with reason and remedy in err: -ESRCH, -EPERM, -EBUSY (another tracer), -EOPNOTSUPP (cannot carry the
// agent), -EAGAIN (no safe point came in time), -ETIMEDOUT (it is still loading), -ENOEXEC (the dynamic linker refused),
// -ENOENT (no agent to put in).
int inject_attach(const struct inject_options *o, struct inject_result *out,
                  struct fscope_error *err);

// Whether inject_attach would be refused, and why; nothing is touched.
int inject_check(const struct inject_options *o, struct fscope_error *err);

// Stops all that the agent does, gives the program its slots and its SIGPROF back; the library stays mapped, idle.
// -EBUSY: somebody records. -ENOENT: there is no agent. -EPERM: the program was started with it.
int inject_detach(const struct inject_options *o, struct inject_result *out,
                  struct fscope_error *err);

// A call (agent/call.h) to an agent that is in. 0 or -errno.
int inject_call(uint32_t pid, uint64_t value, struct fscope_error *err);

#endif
