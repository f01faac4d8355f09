// SPDX-License-Identifier: MIT
//
// Files that are whole or not there: written beside their name, then renamed onto it.
//
// Invariant: until file_commit the path holds what it held before; after it, everything that was
// written. Where a rename makes no sense (standard output, a device, a pipe) bytes go out directly. A
// signal that ends the program (SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGXCPU, where their
// action is the default one) leaves no temporary file behind: it removes them and ends it all the same.

#ifndef FIBERSCOPE_BASE_FILE_H
#define FIBERSCOPE_BASE_FILE_H

#include "base/error.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

struct file_replace {
    int fd;     // write here; -1 when not open
    char *path; // where it will be; a symbolic link is followed
    char *temp; // where it is until then; NULL: written directly
};

const char *file_base_name(const char *path); // its last part; path itself where that is empty

// Opens a temporary file beside path ("-": standard output). It has the mode of the file that it
// will replace, else what the umask leaves of 0666. 0 or -errno; then f needs no abort.
int file_begin(struct file_replace *f, const char *path, struct fscope_error *err);

// The open file is an input of this program: from now on file_begin refuses to replace it, under
// whatever name. 0 or -ENOMEM. [one thread]
int file_keep(int fd);
int file_keep_path(const char *path); // the same; a path that is not there is not kept

// Flushes to the disk, closes and renames. 0 or -errno; on failure the temporary is gone and path
// untouched. Either way f is closed.
int file_commit(struct file_replace *f, struct fscope_error *err);

// Closes and removes the temporary. Accepts a zeroed or closed f.
void file_abort(struct file_replace *f);

// The same promise for other files that are only there for a while. path is copied; a longer one than
// PATH_MAX, or more than 64 at a time, are not removed. [one thread]
void file_temporary(const char *path);      // it has just been made, while signals are held back
void file_temporary_gone(const char *path); // removed or renamed

// Between these two no signal comes in this thread, so that none can fall between the making of a file
// and its registration.
void file_signals_hold(sigset_t *users);
void file_signals_release(const sigset_t *users);

// Takes the signals, if their action is the default one and there are temporary files: for who has
// had handlers of his own in the meantime. [one thread]
void file_guard_temporaries(void);

// Removes them now: for handlers that end the program. [async-signal-safe]
void file_remove_temporaries(void);

// Writes all n bytes to fd, going on after signals and short writes. 0 or -errno. A file larger
// than RLIMIT_FSIZE raises SIGXFSZ as write(2) does; a program that ignores it gets -EFBIG.
int file_write_all(int fd, const void *bytes, size_t n);

#endif
