// SPDX-License-Identifier: MIT
//
// From a file or bytes to the reader that understands them: decompression with a bound, then the
// format is told from the content.

#include "formats/pprof_internal.h"
#include "formats/trace/foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define INFLATED_MAX_DEFAULT (UINT64_C(4) << 30)

enum { READ_BYTES = 64 * 1024, GZIP_WINDOW = 15 + 16 };

// A buffer that grows to at most max bytes.
struct buffer {
    unsigned char *bytes;
    size_t size, capacity;
    uint64_t max;
};

struct gunzip {
    z_stream z;
    bool open;           // z needs inflateEnd
    bool in_member;      // between a header and its trailer
    bool salvage;        // what is damaged ends there
    bool is_damaged;     // and it did
    uint64_t taken;      // compressed bytes so far, for messages
    unsigned char spare; // z may still point here after a call
};

// Room for at least one more byte. 0, -EFBIG at the bound, -ENOMEM.
static int buffer_grow(struct buffer *b)
{
    if (b->size < b->capacity)
        return 0;
    if (b->capacity >= b->max)
        return -EFBIG;
    uint64_t more = b->capacity ? 2 * (uint64_t)b->capacity : 4 * READ_BYTES;
    if (more > b->max)
        more = b->max;
    if (more > SIZE_MAX / 2)
        return -ENOMEM;
    unsigned char *grown = realloc(b->bytes, (size_t)more);
    if (!grown)
        return -ENOMEM;
    b->bytes = grown;
    b->capacity = (size_t)more;
    return 0;
}

static int too_big(const struct buffer *b, int rc, uint64_t offset, struct fscope_error *err)
{
    if (rc == -EFBIG)
        return error_set(err, rc, offset,
                         "more than %" PRIu64 " bytes after decompression; raise the limit if you "
                         "trust the file",
                         b->max);
    return error_set(err, rc, offset, "out of memory at %zu bytes", b->size);
}

static int gunzip_problem(const struct gunzip *g, int z, struct fscope_error *err)
{
    uint64_t at = g->taken - g->z.avail_in;
    if (z == Z_MEM_ERROR)
        return error_set(err, -ENOMEM, at, "out of memory");
    return error_set(err, -EINVAL, at, "byte %" PRIu64 " of the compressed file: gzip: %s", at,
                     g->z.msg ? g->z.msg : "damaged stream");
}

// Inflates n more bytes of a file into b. A file may be several gzip members one after the other.
static int gunzip_some(struct gunzip *g, struct buffer *b, const unsigned char *bytes, size_t n,
                       struct fscope_error *err)
{
    if (g->is_damaged)
        return 0;
    g->z.next_in = (Bytef *)(uintptr_t)bytes; // zlib only reads it
    g->z.avail_in = (uInt)n;
    g->taken += n;
    for (;;) {
        int rc = buffer_grow(b);
        bool full = rc == -EFBIG;
        if (rc && !full)
            return too_big(b, rc, g->taken, err);
        size_t room = full ? 1 : b->capacity - b->size;
        uInt given = room > UINT_MAX ? UINT_MAX : (uInt)room;
        // At the bound one spare byte tells a file that ends there from one that goes on.
        g->z.next_out = full ? &g->spare : b->bytes + b->size;
        g->z.avail_out = given;
        if (!g->in_member && g->z.avail_in == 0)
            return 0;
        g->in_member = true;
        int z = inflate(&g->z, Z_NO_FLUSH);
        uInt made = given - g->z.avail_out;
        if (full && made)
            return too_big(b, -EFBIG, g->taken - g->z.avail_in, err);
        b->size += made;
        if (z == Z_STREAM_END) {
            g->in_member = false;
            inflateReset(&g->z);
        } else if (z == Z_BUF_ERROR || (z == Z_OK && g->z.avail_in == 0 && g->z.avail_out)) {
            return 0; // wants more input
        } else if (z == Z_DATA_ERROR && g->salvage) {
            g->is_damaged = true;
            return 0;
        } else if (z != Z_OK) {
            return gunzip_problem(g, z, err);
        }
    }
}

static int gunzip_end(const struct gunzip *g, struct pprof_input *in, struct fscope_error *err)
{
    if (!g->in_member)
        return 0;
    in->truncated = true;
    if (in->salvage)
        return 0;
    return error_set(err, -ENODATA, g->taken,
                     "byte %" PRIu64 " of the compressed file: gzip: the file is cut off "
                     "(--salvage keeps what is whole)",
                     g->taken);
}

static bool is_gzip(const unsigned char *bytes, size_t n)
{
    return n >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

static int gunzip_open(struct gunzip *g, struct fscope_error *err)
{
    g->open = inflateInit2(&g->z, GZIP_WINDOW) == Z_OK;
    return g->open ? 0 : error_set(err, -ENOMEM, 0, "out of memory");
}

static int buffer_append(struct buffer *b, const unsigned char *bytes, size_t n,
                         struct fscope_error *err)
{
    while (n) {
        int rc = buffer_grow(b);
        if (rc)
            return too_big(b, rc, b->size, err);
        size_t part = b->capacity - b->size < n ? b->capacity - b->size : n;
        memcpy(b->bytes + b->size, bytes, part);
        b->size += part;
        bytes += part;
        n -= part;
    }
    return 0;
}

// read(2) until n bytes or the end: a gzip header must not be missed because a pipe gave one byte.
static ssize_t read_full(int fd, unsigned char *bytes, size_t n)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = read(fd, bytes + got, n - got);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

static int load_fd(struct buffer *b, int fd, struct pprof_input *in, struct fscope_error *err)
{
    struct gunzip g = {.salvage = in->salvage};
    int rc = -ENOMEM;
    unsigned char *chunk = malloc(READ_BYTES);
    if (!chunk)
        return error_set(err, rc, 0, "out of memory");
    bool first = true;
    for (;;) {
        ssize_t n = read_full(fd, chunk, READ_BYTES);
        rc = (int)(n < 0 ? n : 0);
        if (rc) {
            error_set(err, rc, b->size, "cannot read: %s%s", strerror(-rc),
                      rc == -EISDIR ? "; name a profile in it" : "");
            break;
        }
        if (n == 0)
            break;
        if (first && is_gzip(chunk, (size_t)n))
            rc = gunzip_open(&g, err);
        first = false;
        if (!rc)
            rc = g.open ? gunzip_some(&g, b, chunk, (size_t)n, err)
                        : buffer_append(b, chunk, (size_t)n, err);
        if (rc)
            break;
    }
    if (!rc && g.open)
        rc = gunzip_end(&g, in, err);
    if (g.open)
        inflateEnd(&g.z);
    free(chunk);
    return rc;
}

static int load_memory(struct buffer *b, const unsigned char *bytes, size_t size,
                       struct pprof_input *in, struct fscope_error *err)
{
    struct gunzip g = {.salvage = in->salvage};
    int rc = gunzip_open(&g, err);
    for (size_t at = 0; !rc && at < size; at += READ_BYTES) {
        size_t n = size - at < READ_BYTES ? size - at : READ_BYTES;
        rc = gunzip_some(&g, b, bytes + at, n, err);
    }
    if (!rc)
        rc = gunzip_end(&g, in, err);
    if (g.open)
        inflateEnd(&g.z);
    return rc;
}

// --- What it is

static bool looks_like_text(const struct pprof_input *in)
{
    size_t n = in->size < 512 ? in->size : 512;
    for (size_t i = 0; i < n; i++)
        if (in->data[i] < ' ' && !memchr("\t\n\r", in->data[i], 3))
            return false;
    return true;
}

// What the bytes are instead of a profile. Field numbers and wire types would puzzle somebody who gave us a log file.
static void explain(const struct pprof_input *in, int rc, struct fscope_error *err)
{
    size_t n = in->size < FOREIGN_BYTES ? in->size : FOREIGN_BYTES;
    // What begins with a newline may well be a profile that is damaged.
    const char *what = in->data[0] == '\n' ? NULL : foreign_word(in->data, n);
    if (n >= 5 && !memcmp(in->data, "go 1.", 5))
        what = "an execution trace; if the file is compressed, `gunzip FILE` first";
    if (what)
        error_set(err, rc, 0, "no profile but %s", what);
    else if (rc == -EINVAL && looks_like_text(in))
        error_set(err, rc, 0,
                  "byte 0: profile: this is text, but of no format that is known (gperftools, "
                  "jemalloc, Go debug=1, perf script), nor a trace");
}

static int parse(struct pprof_profile **out, struct pprof_input *in, struct fscope_error *err)
{
    if (in->size == 0)
        return error_set(err, -ENODATA, 0, "byte 0: profile: the file is empty");
    struct pprof_profile *p = pprof_new();
    if (!p)
        return error_set(err, -ENOMEM, 0, "out of memory");
    // The older formats have headings that no protobuf message has.
    int rc = pprof_read_legacy(p, in, err);
    if (rc == PPROF_NOT_LEGACY)
        rc = pprof_decode(p, in, err);
    if (rc == -EINVAL || rc == -ENODATA)
        explain(in, rc, err);
    if (rc) {
        pprof_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

// Options of an older, shorter struct have zeros behind its end.
static struct pprof_read_options options_of(const struct pprof_read_options *given)
{
    struct pprof_read_options o = {0};
    if (given)
        memcpy(&o, given, given->size < sizeof o ? given->size : sizeof o);
    if (!o.inflated_max)
        o.inflated_max = INFLATED_MAX_DEFAULT;
    return o;
}

static int parse_with(struct pprof_profile **out, struct pprof_input *in,
                      const struct pprof_read_options *o, struct fscope_error *err)
{
    int rc = parse(out, in, err);
    if (o->salvaged_samples)
        *o->salvaged_samples = rc ? 0 : in->salvaged_samples;
    if (o->format)
        *o->format = rc ? NULL : in->format;
    return rc;
}

int pprof_read_memory(struct pprof_profile **out, const void *data, size_t size,
                      const struct pprof_read_options *opts, struct fscope_error *err)
{
    struct pprof_read_options o = options_of(opts);
    struct pprof_input in = {.data = data, .size = size, .salvage = o.salvage};
    struct buffer b = {.max = o.inflated_max};
    int rc = 0;
    *out = NULL;
    if (size && is_gzip(data, size)) {
        rc = load_memory(&b, data, size, &in, err);
        in.data = b.bytes;
        in.size = b.size;
    }
    if (!rc)
        rc = parse_with(out, &in, &o, err);
    free(b.bytes);
    return rc;
}

int pprof_read_file(struct pprof_profile **out, const char *path,
                    const struct pprof_read_options *opts, struct fscope_error *err)
{
    struct pprof_read_options o = options_of(opts);
    struct pprof_input in = {.salvage = o.salvage};
    struct buffer b = {.max = o.inflated_max};
    bool is_stdin = strcmp(path, "-") == 0;
    *out = NULL;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int code = -errno;
        return error_set(err, code, 0, "%s: %s", path, strerror(-code));
    }
    int rc = load_fd(&b, fd, &in, err);
    if (!is_stdin)
        close(fd);
    in.data = b.bytes;
    in.size = b.size;
    if (!rc)
        rc = parse_with(out, &in, &o, err);
    if (rc)
        error_prefix(err, "%s", is_stdin ? "standard input" : path);
    free(b.bytes);
    return rc;
}
