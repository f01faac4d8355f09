// SPDX-License-Identifier: MIT
//
// Stacks of a running process's threads, from outside, so that the process does not notice.
//
// In this order, for each thread
//   1. Blocked in a system call: the kernel tells where (/proc/PID/task/TID/syscall), the stack is copied, and if the
//      thread has not run meanwhile and the walk reaches the root without rbp, that is it. Nothing was stopped.
//   2. Else PTRACE_SEIZE, PTRACE_INTERRUPT, registers, a copy of the stack's top COPY_BYTES, PTRACE_DETACH; the walk
//      comes after. One thread at a time; the others run.
//   3. Blocked in a call that a stop would change (below): as far as the first way leads.
//
// What always holds
//   - No SIGSTOP, nothing is written but one register: a call that the kernel would end with EINTR though there
//     was no signal (epoll_wait, semop, sigtimedwait, io_getevents, io_uring_enter, a socket's with a time limit)
//     has its result made ERESTARTNOHAND, which restarts it unless a signal's handler runs.
//   - Not stopped: who writes or sends (the call would end early, with less written), who waits in such a call
//     with a time limit (that would begin anew), and who is in uninterruptible sleep.
//   - While a thread is stopped ours has real-time priority, or if that is not allowed the shortest slice that may be
//     asked for: what keeps the target stopped is the time that we wait for a processor.
//   - All tracing is done by a thread of its own that ends: whatever it left attached the kernel lets go then, as it
//     does when we are killed.

#ifndef FIBERSCOPE_COLLECTOR_THREAD_STACKS_H
#define FIBERSCOPE_COLLECTOR_THREAD_STACKS_H

#include "collector/thread_list.h"

enum thread_stack_how {
    THREAD_STACK_NONE,    // it has ended, or is traced by another and runs
    THREAD_STACK_BLOCKED, // the first way
    THREAD_STACK_STOPPED, // the second
    THREAD_STACK_PARTIAL, // the third: its inner frames
};

struct thread_stack {
    uint32_t tid;
    enum thread_stack_how how;
    enum unwind_end end;
    uint32_t depth;
    uint64_t *pcs;       // as target_walk's
    uint64_t stopped_ns; // from when its stop was seen to its release
};

struct thread_stacks {
    struct thread_stack *stacks; // in the list's order, as many as were wanted
    size_t count;
    uint64_t stopped_ns; // all stops together
};

// wanted: of each in the list whether; NULL: all. 0 or -ENOMEM, -EAGAIN; a thread whose stack cannot be had has
// none. The caller owns it: thread_stacks_free.
int thread_stacks_take(struct thread_stacks *out, struct target *t, const struct thread_list *list,
                       const bool *wanted);
void thread_stacks_free(struct thread_stacks *s);

#endif
