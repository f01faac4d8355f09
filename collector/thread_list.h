// SPDX-License-Identifier: MIT
//
// The threads of a process or core file, and the system call that each is blocked in, without stopping any:
// /proc/PID/task/*/status and /syscall; of a core file its registers.
//
// What always holds
//   - A thread that has not run between two looks has the same `switches` in both; so whatever it did between
//     them, it did not do.
//   - own_tid is what words in the target's memory hold (owners of mutexes): its number in the target's own pid
//     namespace.

#ifndef FIBERSCOPE_COLLECTOR_THREAD_LIST_H
#define FIBERSCOPE_COLLECTOR_THREAD_LIST_H

#include "collector/target.h"

enum { THREAD_NAME_BYTES = 64 };

struct thread_state {
    uint32_t tid, own_tid;
    char name[THREAD_NAME_BYTES]; // "": unknown, as in core files
    char state;                   // 'R', 'S', 'D', 'T', 't'; 0: unknown
    uint64_t switches;            // voluntary and other ones; of a core file 0
    struct target_call call;      // if it is blocked in one
    uint64_t sp, pc;              // then; else 0
};

struct thread_list {
    struct thread_state *threads; // by own_tid
    size_t count;
};

// -ESRCH: the process has ended. -EACCES: its threads' calls may not be read. The caller owns it:
// thread_list_free.
int thread_list_read(struct thread_list *out, const struct target *t, struct fscope_error *err);
void thread_list_free(struct thread_list *l);

// NULL: there is none.
const struct thread_state *thread_list_find(const struct thread_list *l, uint32_t own_tid);

// One of them as it is now: 0, -ESRCH or -EACCES.
int thread_list_look(struct thread_state *out, uint32_t pid, uint32_t tid);

// Whether it has not run between the two, and is blocked in the same call.
bool thread_list_is_same(const struct thread_state *a, const struct thread_state *b);

// "epoll_wait", "system call 500"; of a call that the kernel is to go on with (restart_syscall) "system call".
// *takes_fd: its first argument is a descriptor.
const char *thread_list_call_name(int64_t number, char *buf, size_t size, bool *takes_fd);

#endif
