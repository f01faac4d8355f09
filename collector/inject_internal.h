// SPDX-License-Identifier: MIT
//
// Shared by the files behind inject.h: inject.c (the order, the helper process), inject_look.c (refusals, addresses),
// inject_point.c (a thread at a safe point), inject_run.c (the detour), inject_files.c (files that the target does not see).

#ifndef FIBERSCOPE_COLLECTOR_INJECT_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_INJECT_INTERNAL_H

#include "agent/inject.h"
#include "collector/arch/inject_x86_64.h"
#include "collector/inject.h"
#include "collector/target.h"

enum { INJECT_RANGES_MAX = 64, INJECT_EXPECTED_MAX = 16 };

struct inject_range {
    uint64_t start, end;
};

struct inject_ranges {
    struct inject_range at[INJECT_RANGES_MAX];
    size_t count;
};

struct inject_expected { // code of a file, as memory is to have it
    uint64_t address;
    uint8_t bytes[9]; // as many as rt_sigreturn's stub has
};

// Where things are in the target.
struct inject_places {
    uint64_t mmap, mprotect, munmap, dlopen, dlerror, errno_location, restore; // in its libc
    uint64_t memfd_create, close, ftruncate;
    uint64_t entry;               // the agent's: an address if it is in, else from where it will be
    bool is_inside;               // the agent's library is mapped
    bool is_calling;              // and answers calls
    bool has_own_malloc;          // the executable exports one
    bool is_hidden;               // the target cannot open its file: it is sent (inject_files.c)
    char path[INJECT_PATH_BYTES]; // the agent's, here; and there, unless it is hidden
    struct inject_range libc, core;
    struct inject_range agent;   // core, agent: none is {0, 0}
    struct inject_ranges waits;  // functions of libc in which a thread may wait
    struct inject_ranges calls;  // that call the program back, with nothing held
    struct inject_ranges closed; // files in which no frame may be
    struct inject_expected expected[INJECT_EXPECTED_MAX]; // at all addresses above
    size_t expected_count;
};

// Whether it can be done at all; the addresses. 0 or -errno, err says what to do.
int inject_look(struct inject_places *out, const struct inject_options *o,
                struct fscope_error *err);

// False: certainly not.
bool inject_has_agent(uint32_t pid);

// A thread that is stopped by us, with what leads back.
struct inject_point {
    uint32_t tid;
    uint64_t since_ns; // CLOCK_MONOTONIC
    struct inject_state state;
};

// Stops one at a safe point. -EAGAIN: none was found in time; -EPERM, -EBUSY, -ESRCH. What was stopped
// otherwise runs again.
int inject_find_point(struct inject_point *out, const struct inject_places *p, uint32_t pid,
                      struct fscope_error *err);

// For its next stop: 0 and *status; -ETIMEDOUT; -ESRCH: it has ended. Signals are blocked.
int inject_wait_stop(uint32_t tid, int *status, uint32_t limit_ms);

// The detour from that point; the thread runs on by itself afterwards, in any case. *result: what the agent's entry said.
// 0 or -errno.
int inject_run(struct inject_point *point, const struct inject_places *p, uint32_t pid,
               uint64_t what, int32_t *result, struct fscope_error *err);

// The detour, as far as it has come.
struct inject_detour {
    struct inject_point *point;
    const struct inject_places *p;
    uint32_t pid, tid;
    uint64_t area;
    struct inject_frame frame;
    struct inject_block block;
    uint32_t calls; // system calls of the stub so far
};

// It is stopped at the end of a call; it makes another one of libc's on its own stack, and is stopped at the end of that.
// 0 and its result. -errno: it was sent home, or goes there by itself.
int inject_call_libc(struct inject_detour *d, uint64_t function, const uint64_t args[6],
                     uint64_t number, int64_t *result, struct fscope_error *err);
int inject_write(const struct inject_detour *d, uint64_t address, const void *from, size_t size);
void inject_send_home(const struct inject_detour *d);

// The agent's files, into memory files of the target that d->block then names. 0; -errno: it was sent home.
int inject_send_files(struct inject_detour *d, struct fscope_error *err);

// Of the block in the area.
enum { INJECT_BLOCK_AT = 4096 };

uint64_t inject_now_ns(void);

#endif
