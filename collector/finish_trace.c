// SPDX-License-Identifier: MIT
//
// A trace whose recorder was killed: what it had written lies beside the name that it was to get, as base/file.h
// makes temporary files (".NAME.0123456789ab.tmp"). Whole generations of it become a file of their own.

#include "collector/finish.h"

#include "base/file.h"
#include "collector/record_internal.h"
#include "formats/trace/spec.h"
#include "formats/trace/trace.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_BYTES = 16, BATCH_HEAD_MAX = 64, RANDOM_DIGITS = 12, PIECE_BYTES = 1 << 16 };
static const char begin[] = "go 1.", ending[] = ".tmp";

// Which part of the base name is that of the finished file. False: this is no temporary file's name.
static bool find_name(const char *base, size_t *size)
{
    size_t n = strlen(base), more = 1 + RANDOM_DIGITS + sizeof ending - 1;
    if (*base != '.' || n < 2 + more || strcmp(base + n - (sizeof ending - 1), ending) != 0 ||
        base[n - more] != '.')
        return false;
    for (size_t i = n - more + 1; i < n - (sizeof ending - 1); i++)
        if (!isxdigit((unsigned char)base[i]))
            return false;
    *size = n - more - 1;
    return true;
}

bool finish_is_unfinished(const char *path)
{
    char head[sizeof begin - 1];
    size_t size;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof head, 0);
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)sizeof head && !memcmp(head, begin, sizeof head) &&
           find_name(file_base_name(path), &size);
}

// --- How much of it is whole.

static bool read_number(const unsigned char **at, const unsigned char *end, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        unsigned char byte = *(*at)++;
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

// The size of the batch at *at, or of the mark of an end, and its generation (0: of the mark). 0: there is none, or
// less than all of it; *generation is known all the same where its head is there.
static uint64_t batch_size(int fd, uint64_t at, uint64_t end, uint64_t *generation)
{
    unsigned char head[BATCH_HEAD_MAX];
    ssize_t n = pread(fd, head, sizeof head, (off_t)at);
    const unsigned char *p = head, *stop = head + (n > 0 ? n : 0);
    uint64_t unused, size;
    *generation = 0;
    if (n <= 0)
        return 0;
    if (*p == TRACE_EV_END_OF_GENERATION)
        return 1;
    p += 1 + (*p == TRACE_EV_EXPERIMENTAL_BATCH);
    bool is_head = read_number(&p, stop, generation) && read_number(&p, stop, &unused) &&
                   read_number(&p, stop, &unused) && read_number(&p, stop, &size);
    if (!is_head)
        *generation = 0;
    if (!is_head || size > end)
        return 0;
    size += (uint64_t)(p - head);
    return size <= end - at ? size : 0;
}

// Where its last generation begins, and, if that may be whole, where it ends; else both are its beginning. Of one that
// breaks off some threads' batches may be there and others' not: it is a hole, whatever readers say.
static void find_ends(int fd, uint64_t size, uint64_t ends[2])
{
    uint64_t at = HEADER_BYTES, generation, before = 0, n;
    ends[0] = HEADER_BYTES;
    while ((n = batch_size(fd, at, size, &generation)) > 0) {
        if (generation && generation != before) {
            ends[0] = at;
            before = generation;
        }
        at += n;
    }
    bool is_next = generation && generation != before; // which breaks off
    ends[1] = at == size || is_next ? at : ends[0];
}

struct prefix {
    int fd;
    uint64_t at, end;
};

static int64_t read_prefix(void *context, void *bytes, size_t n)
{
    struct prefix *p = context;
    n = n < p->end - p->at ? n : (size_t)(p->end - p->at);
    ssize_t got = pread(p->fd, bytes, n, (off_t)p->at);
    p->at += got > 0 ? (uint64_t)got : 0;
    return got < 0 ? -errno : got;
}

struct whole {
    uint64_t bytes, events;
    int64_t from_ns, to_ns;
};

// Whether our validator takes so many bytes of it.
static int check(int fd, uint64_t end, struct whole *w, struct fscope_error *err)
{
    struct prefix p = {.fd = fd, .end = end};
    struct trace_reader *r = NULL;
    const struct trace_event *events;
    int rc = trace_reader_open_callback(&r, read_prefix, &p, NULL, err);
    *w = (struct whole){.bytes = end};
    while (!rc && (rc = trace_reader_next_many(r, &events)) > 0) {
        w->from_ns = w->events ? w->from_ns : events[0].time_ns;
        w->to_ns = events[rc - 1].time_ns;
        w->events += (uint64_t)rc;
        rc = 0;
    }
    if (rc && r && trace_reader_error(r))
        trace_error_to(trace_reader_error(r), err);
    trace_reader_close(r);
    return rc;
}

// -EBUSY: its recorder lives, and would write on beside the name that we give away.
static int check_recorder(const char *path, int fd, struct fscope_error *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char who[32] = "another container";
    if (fcntl(fd, F_GETLK, &lock) || lock.l_type == F_UNLCK)
        return 0;
    if (lock.l_pid > 0)
        snprintf(who, sizeof who, "process %d", (int)lock.l_pid);
    return error_set(err, -EBUSY, 0,
                     "%s: is being recorded by %s: end that (Ctrl-C, or kill -INT), and it "
                     "writes the trace itself",
                     path, who);
}

static int find_whole(const char *path, int fd, struct whole *w, struct fscope_error *err)
{
    struct fscope_error why = {0};
    uint64_t ends[2];
    off_t size = lseek(fd, 0, SEEK_END);
    find_ends(fd, size > 0 ? (uint64_t)size : 0, ends);
    if (ends[1] <= HEADER_BYTES)
        return error_set(err, -ENODATA, 0,
                         "%s: no generation of the trace is whole: its recorder was killed within "
                         "the first second",
                         path);
    int rc = check(fd, ends[1], w, &why);
    if (rc && ends[0] != ends[1] && ends[0] > HEADER_BYTES)
        rc = check(fd, ends[0], w, &why);
    if (rc)
        return error_set(err, rc, 0, "%s: %.300s", path, why.text);
    return 0;
}

// --- Writing it.

static int name_output(const char *path, const char *output, char *out, size_t size,
                       struct fscope_error *err)
{
    const char *base = file_base_name(path), *folder = output ? output : path;
    size_t name, n = output ? strlen(output) : (size_t)(base - path);
    bool is_folder = !output || record_path_is_folder(output);
    if (!find_name(base, &name))
        return error_set(err, -EINVAL, 0, "%s: not a name of a temporary file", path);
    const char *slash = output && output[n - 1] != '/' ? "/" : "";
    int length = is_folder
                     ? snprintf(out, size, "%.*s%s%.*s", (int)n, folder, slash, (int)name, base + 1)
                     : snprintf(out, size, "%s", output);
    if (length < 0 || (size_t)length >= size)
        return error_set(err, -ENAMETOOLONG, 0, "%s: too long a path", path);
    // Who is recorded again has that name by now.
    if (!output && access(out, F_OK) == 0)
        return error_set(err, -EEXIST, 0, "%s: is there already; -o FILE writes elsewhere", out);
    return 0;
}

static int copy(int fd, uint64_t bytes, const char *to, struct fscope_error *err)
{
    static char piece[PIECE_BYTES];
    struct file_replace f;
    struct prefix p = {.fd = fd, .end = bytes};
    int64_t n = 0;
    int rc = file_begin(&f, to, err);
    if (rc)
        return rc;
    while (!rc && (n = read_prefix(&p, piece, sizeof piece)) > 0)
        rc = file_write_all(f.fd, piece, (size_t)n);
    rc = rc ? rc : n < 0 ? (int)n : 0;
    if (!rc)
        return file_commit(&f, err);
    file_abort(&f);
    return error_set(err, rc, 0, "%s: %s", to, strerror(-rc));
}

static void say(const struct record_options *o, const char *path, const char *to,
                const struct whole *w)
{
    fputs("fiberscope: trace: ", o->messages);
    record_say_count(o->messages, w->events);
    fprintf(o->messages, " event%s in %.2f s, ", w->events == 1 ? "" : "s",
            (double)(w->to_ns - w->from_ns) / 1e9);
    record_say_bytes(o->messages, w->bytes);
    fprintf(o->messages,
            "; wrote %s\n"
            "fiberscope: its recorder did not finish it: what came in its last second or so is "
            "missing; %s is not needed any more once that has ended\n"
            "fiberscope: next: fiberscope trace %s, or go tool trace %s\n",
            to, path, to, to);
}

int finish_unfinished(const char *path, const struct record_options *o, struct fscope_error *err)
{
    char to[PATH_MAX];
    struct whole w;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, -errno, 0, "%s: %s", path, strerror(errno));
    int rc = check_recorder(path, fd, err);
    if (!rc)
        rc = name_output(path, o->output, to, sizeof to, err);
    if (!rc)
        rc = find_whole(path, fd, &w, err);
    if (!rc)
        rc = copy(fd, w.bytes, to, err);
    close(fd);
    if (!rc && !o->quiet)
        say(o, path, to, &w);
    return rc;
}
