// SPDX-License-Identifier: MIT
//
// Files that are whole or not there: written beside their name, then renamed onto it.
//
// Invariant: until file_commit the path holds what it held before; after it, everything that was
// written. Where a rename makes no sense (standard output, a device, a pipe) bytes go out directly.

#ifndef FIBERSCOPE_BASE_FILE_H
#define FIBERSCOPE_BASE_FILE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct file_replace {
    int fd;     // write here; -1 when not open
    char *path; // where it will be; a symbolic link is followed
    char *temp; // where it is until then; NULL: written directly
};

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

// Writes all n bytes to fd, going on after signals and short writes. 0 or -errno. A file larger
// than RLIMIT_FSIZE raises SIGXFSZ as write(2) does; a program that ignores it gets -EFBIG.
int file_write_all(int fd, const void *bytes, size_t n);

#endif
