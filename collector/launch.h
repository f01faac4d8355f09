// SPDX-License-Identifier: MIT
//
// Starting a command so that it records: what kind of program it is, where the agent's library is,
// and a fork that can be held before its exec.
//
// Invariant: what the user set in LD_PRELOAD stays; descriptors, signal dispositions and the signal
// mask of the command are those that we were started with.

#ifndef FIBERSCOPE_COLLECTOR_LAUNCH_H
#define FIBERSCOPE_COLLECTOR_LAUNCH_H

#include "base/error.h"

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum launch_way {
    LAUNCH_AGENT,   // dynamically linked against glibc: the agent is preloaded
    LAUNCH_OUTSIDE, // the agent cannot go in, the perf ring can watch: static, musl
};

struct launch_program {
    char path[PATH_MAX];  // what is executed
    char image[PATH_MAX]; // the ELF file: path itself, or the interpreter of a script
    enum launch_way way;
    char reason[160]; // why not the agent; "" if it can
};

// Looks argv0 up as execvp does and follows #! lines. 0; or, with what to do in err: -ENOENT (not
// found), -EACCES (not executable), -ENOEXEC (neither ELF nor script, or not x86-64), -EPERM
// (setuid, setgid or file capabilities that this exec would gain: no profiler may look into it).
int launch_look(struct launch_program *out, const char *argv0, struct fscope_error *err);

// The path of libfiberscope.so: $FIBERSCOPE_LIBDIR, beside the running executable (build tree or
// installation), or where it was configured to be installed. -ENOENT says where it was looked for;
// -EINVAL: its path has a space or colon, which LD_PRELOAD cannot carry.
int launch_find_agent(char *path, size_t size, struct fscope_error *err);

struct launch_options {
    size_t size;             // sizeof(struct launch_options)
    const char *path;        // launch_program.path
    char *const *argv;       // NULL-terminated
    const char *preload;     // the agent, or NULL
    const char *settings;    // value of FIBERSCOPE, or NULL
    bool hold;               // wait before exec for launch_go
    const sigset_t *sigmask; // the command's signal mask
    const sigset_t *ignored; // what it is to ignore beside what we do; may be NULL
};

struct launch {
    pid_t pid;    // 0: none
    int pidfd;    // readable when it has ended
    int go_fd;    // held: one byte written lets it exec
    int fault_fd; // exec failed: one int errno; end of file: exec succeeded
};

// Forks and executes. 0 or -errno. The caller owns *out: launch_close.
int launch_start(struct launch *out, const struct launch_options *opts, struct fscope_error *err);

// Lets a held child exec (nothing to do for others) and waits until it has: 0 or -errno of execve.
int launch_go(struct launch *l, const char *path, struct fscope_error *err);

void launch_close(struct launch *l); // closes descriptors; the child goes on

#endif
