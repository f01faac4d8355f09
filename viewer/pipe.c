// SPDX-License-Identifier: MIT
//
// See pipe.h.

#include "viewer/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SLICE_MS = 50, FIRST = 1 << 20 };

bool pipe_is(const char *path)
{
    struct stat st;
    if (!strcmp(path, "-"))
        return true;
    return !stat(path, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

// Some bytes, at least one: how many; 0 at the end, -errno.
static ssize_t some(int fd, void *to, size_t n, bool (*go_on)(void *, uint64_t), void *context,
                    uint64_t done)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (;;) {
        // Of a FIFO nothing happens, no end either, before there was a writer.
        int ready = poll(&p, 1, SLICE_MS);
        if (!go_on(context, done))
            return -ECANCELED;
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (ready <= 0)
            continue;
        ssize_t got = read(fd, to, n);
        if (got >= 0)
            return got;
        if (errno != EINTR && errno != EAGAIN)
            return -errno;
    }
}

int pipe_read(const char *path, uint64_t bytes_max, bool (*go_on)(void *context, uint64_t done),
              void *context, char **bytes, size_t *size)
{
    size_t n = 0, room = 0;
    ssize_t got = 1;
    char *all = NULL;
    bool is_stdin = !strcmp(path, "-");
    // Not to stand in open, where nobody could cancel it.
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    while (got > 0) {
        if (n == room) {
            room = room ? 2 * room : FIRST;
            char *more = room > bytes_max ? NULL : realloc(all, room);
            got = more ? got : room > bytes_max ? -EFBIG : -ENOMEM;
            all = more ? more : all;
        }
        if (got > 0)
            got = some(fd, all + n, room - n, go_on, context, n);
        n += got > 0 ? (size_t)got : 0;
    }
    if (!is_stdin)
        close(fd);
    if (got < 0) {
        free(all);
        return (int)got;
    }
    *bytes = all;
    *size = n;
    return 0;
}
