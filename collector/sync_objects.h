// SPDX-License-Identifier: MIT
//
// What a thread waits for, told from the futex that it is blocked in and from the memory around that: glibc's
// pthread_mutex_t, rwlock, condition, semaphore, barrier, the lock of a FILE, the end of another thread.
//
// A futex is an address and nothing more, so each kind is recognized by what must hold in it while somebody waits:
// the value waited for, counters of waiters above zero, owners that are threads, padding that is zero. What fits
// none of them is a futex.
//
// Layouts: glibc 2.36, sysdeps/x86/nptl/bits and nptl/pthreadP.h; those of mutex, rwlock and semaphore are part of
// its ABI.

#ifndef FIBERSCOPE_COLLECTOR_SYNC_OBJECTS_H
#define FIBERSCOPE_COLLECTOR_SYNC_OBJECTS_H

#include "collector/thread_list.h"

enum sync_kind {
    SYNC_NONE, // does not wait in a futex
    SYNC_MUTEX,
    SYNC_RWLOCK_READ,
    SYNC_RWLOCK_WRITE,
    SYNC_FILE, // flockfile, and what stdio does inside
    SYNC_JOIN,
    SYNC_COND,
    SYNC_SEMAPHORE,
    SYNC_BARRIER,
    SYNC_FUTEX,
};

struct sync_wait {
    enum sync_kind kind;
    uint64_t object;  // its address; JOIN: 0
    uint64_t futex;   // the word
    uint32_t owner;   // own_tid of who holds it, or of whom to join; 0: none, or it is not recorded
    uint32_t readers; // of a rwlock held for reading: how many
    bool has_limit;   // the wait ends by itself
    bool is_shared;   // between processes: the owner may be in another
    const char *detail; // of a mutex: "", "recursive", "error-checking", ..
};

// What th waits for. list: the threads of the process, th's among them.
void sync_recognize(struct sync_wait *out, const struct target *t, const struct thread_list *list,
                    const struct thread_state *th);

const char *sync_kind_text(enum sync_kind k); // "mutex", "rwlock to read"

#endif
