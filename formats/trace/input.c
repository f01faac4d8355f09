// SPDX-License-Identifier: MIT

#include "formats/trace/input.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void input_finish(struct trace_input *in)
{
    free(in->window);
    in->window = NULL;
    if (in->owns_fd)
        close(in->fd);
    in->owns_fd = false;
}

int64_t input_read_at(const struct trace_input *in, uint64_t offset, void *to, size_t n)
{
    size_t got = 0;
    while (got < n) {
        uint64_t at = in->base + offset + got;
        if (at > INT64_MAX)
            return -EOVERFLOW;
        ssize_t k = pread(in->fd, (char *)to + got, n - got, (off_t)at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -errno;
        if (k == 0)
            break;
        got += (size_t)k;
    }
    return (int64_t)got;
}

// What the stream gives next, at least one byte: their number, 0 at the end, -errno.
static int64_t stream_some(struct trace_input *in, void *to, size_t n)
{
    for (;;) {
        int64_t k = in->read ? in->read(in->context, to, n) : read(in->fd, to, n);
        if (k < 0 && !in->read)
            k = -errno;
        if (k == -EINTR)
            continue;
        return k > (int64_t)n ? -EIO : k;
    }
}

static int64_t stream_all(struct trace_input *in, void *to, size_t n)
{
    size_t got = 0;
    while (got < n && !in->at_end) {
        int64_t k = stream_some(in, (char *)to + got, n - got);
        if (k < 0)
            return k;
        in->at_end = k == 0;
        got += (size_t)k;
    }
    return (int64_t)got;
}

// Brings the window to begin at offset and to hold n bytes, if there are as many.
static int window_fill(struct trace_input *in, size_t n)
{
    if (!in->window) {
        in->window = malloc(INPUT_WINDOW_BYTES);
        if (!in->window)
            return -ENOMEM;
    }
    uint64_t into = in->offset - in->window_offset;
    size_t kept = into < in->window_size ? in->window_size - (size_t)into : 0;
    if (kept >= n)
        return 0;
    if (kept)
        memmove(in->window, in->window + into, kept);
    in->window_offset = in->offset;
    in->window_size = kept;
    // A stream gives what it has, so that a live one is not waited for longer than needed.
    while (in->window_size < n && !in->at_end) {
        size_t room = INPUT_WINDOW_BYTES - in->window_size;
        void *to = in->window + in->window_size;
        int64_t k = in->kind == INPUT_FILE
                        ? input_read_at(in, in->offset + in->window_size, to, room)
                        : stream_some(in, to, room);
        if (k < 0)
            return (int)k;
        if (k == 0) {
            in->at_end = in->kind == INPUT_STREAM;
            break;
        }
        in->window_size += (size_t)k;
    }
    return 0;
}

int input_peek(struct trace_input *in, size_t n, const unsigned char **bytes)
{
    if (in->kind == INPUT_MEMORY) {
        *bytes = in->data + in->offset;
        size_t left = in->size_bytes - (size_t)in->offset;
        return (int)(left < n ? left : n);
    }
    int rc = window_fill(in, n);
    if (rc)
        return rc;
    uint64_t into = in->offset - in->window_offset;
    size_t left = into < in->window_size ? in->window_size - (size_t)into : 0;
    *bytes = in->window + into;
    return (int)(left < n ? left : n);
}

// Whether there is a byte at an offset of a file: 1, 0, or -errno. The window begins there then, as
// what comes next is the header behind it; behind a large batch mostly another large one.
static int window_move(struct trace_input *in, uint64_t offset, uint64_t skipped)
{
    if (!in->window)
        in->window = malloc(INPUT_WINDOW_BYTES);
    if (!in->window)
        return -ENOMEM;
    size_t n = skipped < INPUT_WINDOW_BYTES ? INPUT_WINDOW_BYTES : INPUT_PEEK_MAX;
    int64_t k = input_read_at(in, offset, in->window, n);
    in->window_offset = offset;
    in->window_size = k > 0 ? (size_t)k : 0;
    return k > 0 ? 1 : (int)k;
}

int input_has(struct trace_input *in, uint64_t n)
{
    if (in->kind == INPUT_STREAM)
        return 1;
    if (in->kind == INPUT_MEMORY)
        return n <= in->size_bytes - in->offset;
    uint64_t into = in->offset - in->window_offset;
    if (n == 0 || (into < in->window_size && n <= in->window_size - into))
        return 1;
    return window_move(in, in->offset + n - 1, n);
}

uint64_t input_end(const struct trace_input *in)
{
    struct stat st;
    if (in->kind == INPUT_MEMORY)
        return in->size_bytes;
    if (in->kind == INPUT_FILE && !fstat(in->fd, &st) && (uint64_t)st.st_size >= in->base)
        return (uint64_t)st.st_size - in->base;
    uint64_t end = in->window_offset + in->window_size;
    return end > in->offset ? end : in->offset;
}

int64_t input_read(struct trace_input *in, void *to, size_t n)
{
    if (in->kind == INPUT_MEMORY) {
        size_t left = in->size_bytes - (size_t)in->offset;
        n = n < left ? n : left;
        memcpy(to, in->data + in->offset, n);
        in->offset += n;
        return (int64_t)n;
    }
    uint64_t into = in->offset - in->window_offset;
    size_t kept = into < in->window_size ? in->window_size - (size_t)into : 0;
    kept = kept < n ? kept : n;
    if (kept)
        memcpy(to, in->window + into, kept);
    char *rest = (char *)to + kept;
    int64_t k = in->kind == INPUT_FILE ? input_read_at(in, in->offset + kept, rest, n - kept)
                                       : stream_all(in, rest, n - kept);
    if (k < 0)
        return k;
    in->offset += kept + (uint64_t)k;
    return (int64_t)kept + k;
}

static int spool_open(void)
{
    const char *dir = getenv("TMPDIR");
    if (!dir || !*dir)
        dir = "/tmp";
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return fd >= 0 ? fd : -errno;
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/fiberscope.XXXXXX", dir) >= sizeof path)
        return -ENAMETOOLONG;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    unlink(path);
    return fd;
}

int input_spool(struct trace_input *in)
{
    int fd = spool_open();
    if (fd < 0)
        return fd;
    int rc = -ENOMEM;
    unsigned char *piece = malloc(TRACE_BATCH_BYTES_MAX);
    if (!piece)
        goto fail;
    int64_t n;
    while ((n = input_read(in, piece, TRACE_BATCH_BYTES_MAX)) > 0) {
        rc = file_write_all(fd, piece, (size_t)n);
        if (rc)
            goto fail;
    }
    if (n < 0) {
        rc = (int)n;
        goto fail;
    }
    free(piece);
    input_finish(in);
    *in = (struct trace_input){.kind = INPUT_FILE, .fd = fd, .owns_fd = true};
    return 0;

fail:
    free(piece);
    close(fd);
    return rc;
}
