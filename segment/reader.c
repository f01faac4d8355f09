// SPDX-License-Identifier: MIT
//
// Opening and validating a segment; access to its bytes.

#include "segment/reader_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    CONSUMER_PID = offsetof(struct seg_header, control) + offsetof(struct seg_control, consumer_pid)
};

#define TOTAL_MAX (UINT64_C(1) << 38) // 256 GiB of address space is more than any segment wants

int reader_get(const struct seg_reader *r, uint64_t offset, void *out, uint64_t n)
{
    if (offset > r->bytes || n > r->bytes - offset)
        return -EINVAL;
    if (r->base) {
        memcpy(out, r->base + offset, n);
        return 0;
    }
    if (r->read)
        return r->read(r->read_arg, offset, out, n);
    char *p = out;
    while (n) {
        ssize_t got = pread(r->fd, p, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        p += got;
        offset += (uint64_t)got;
        n -= (uint64_t)got;
    }
    return 0;
}

static bool is_pow2(uint64_t n)
{
    return n && (n & (n - 1)) == 0;
}

static int bad(struct fscope_error *err, uint64_t offset, const char *what, const char *why)
{
    return error_set(err, -EINVAL, offset, "%s: damaged segment header: %s", what, why);
}

static int validate_areas(const struct seg_header *h, uint64_t bytes, const char *what,
                          struct fscope_error *err)
{
    for (int i = 0; i < SEG_AREA_COUNT; i++) {
        const struct seg_area *a = &h->areas[i];
        if (a->size && (a->offset % 4096 || a->offset < sizeof *h || a->offset > bytes ||
                        a->size > bytes - a->offset))
            return error_set(err, -EINVAL, offsetof(struct seg_header, areas),
                             "%s: damaged segment header: area %d lies outside the segment", what,
                             i);
    }
    if (h->areas[SEG_AREA_THREADS].size / sizeof(struct seg_thread) < h->thread_count)
        return bad(err, offsetof(struct seg_header, thread_count), what, "too many threads");
    if (h->areas[SEG_AREA_MODULES].size / sizeof(struct seg_module) < h->module_count)
        return bad(err, offsetof(struct seg_header, module_count), what, "too many modules");
    if (h->areas[SEG_AREA_STATE].size / sizeof(struct seg_state) < h->state_count)
        return bad(err, offsetof(struct seg_header, state_count), what, "too many state entries");
    if (h->areas[SEG_AREA_SITES].size &&
        h->areas[SEG_AREA_SITES].size / sizeof(struct seg_site) < h->state_count)
        return bad(err, offsetof(struct seg_header, state_count), what, "too few sites");
    if (!is_pow2(h->ring_bytes) || h->ring_bytes < sizeof(struct seg_ring) + SEG_RECORD_BYTES ||
        h->areas[SEG_AREA_RINGS].size / h->ring_bytes / SEG_CONTEXT_COUNT < h->thread_count)
        return bad(err, offsetof(struct seg_header, ring_bytes), what, "rings do not fit");
    return 0;
}

static int validate_table(struct seg_reader *r, enum seg_area_kind kind, struct seg_table *t,
                          const char *what, struct fscope_error *err)
{
    const struct seg_area *a = &r->header.areas[kind];
    if (a->size < sizeof *t || reader_get(r, a->offset, t, sizeof *t))
        return bad(err, a->offset, what, "a table is missing");
    uint64_t slots_end = sizeof *t + (uint64_t)t->slot_count * sizeof(struct seg_slot);
    if (!is_pow2(t->slot_count) || slots_end > a->size || t->arena_offset < slots_end ||
        t->arena_offset > a->size || t->arena_size > a->size - t->arena_offset)
        return bad(err, a->offset, what, "a table does not fit its area");
    return 0;
}

int reader_validate(struct seg_reader *r, const char *what, struct fscope_error *err)
{
    struct seg_header *h = &r->header;
    if (reader_get(r, 0, h, sizeof *h))
        return error_set(err, -EINVAL, 0, "%s: too short for a segment", what);
    if (h->magic != SEG_MAGIC)
        return error_set(err, -EINVAL, 0, "%s: not a Fiberscope segment", what);
    if (h->version != SEG_VERSION || h->header_bytes != sizeof *h)
        return error_set(err, -EPROTO, offsetof(struct seg_header, version),
                         "%s: segment version %u (header of %u bytes), this fiberscope reads "
                         "version %u; use the fiberscope that goes with the agent",
                         what, h->version, h->header_bytes, SEG_VERSION);
    // acquire: pairs with the release at the end of seg_create
    if (!atomic_load_explicit(&h->ready, memory_order_acquire))
        return error_set(err, -EAGAIN, offsetof(struct seg_header, ready),
                         "%s: its creator has not finished it", what);
    if (h->total_bytes > r->bytes)
        return error_set(err, -EINVAL, offsetof(struct seg_header, total_bytes),
                         "%s: says it has %llu bytes, but only %llu are there", what,
                         (unsigned long long)h->total_bytes, (unsigned long long)r->bytes);
    r->bytes = h->total_bytes;
    h->program[sizeof h->program - 1] = '\0';
    int rc = validate_areas(h, r->bytes, what, err);
    if (!rc)
        rc = validate_table(r, SEG_AREA_STACKS, &r->stacks, what, err);
    if (!rc)
        rc = validate_table(r, SEG_AREA_BLOBS, &r->blobs, what, err);
    return rc;
}

// A descriptor that came over a socket or by fork shares its open file with the target, and so would
// its locks: they would exclude nobody and outlive us. A file of our own has locks of our own. By our rights it is opened only
// for what its sender may do itself: root writes into no file that a hostile target can merely read.
static int reopen(int fd)
{
    char path[40];
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    bool may_write = flags >= 0 && (flags & (O_ACCMODE | O_PATH)) == O_RDWR && !fstat(fd, &st) &&
                     S_ISREG(st.st_mode);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int own = may_write ? open(path, O_RDWR | O_CLOEXEC) : -1;
    int rc = !may_write ? -EPERM : own < 0 ? -errno : 0;
    close(fd);
    return rc ? rc : own;
}

// Byte i of the file stands for part 1 << i.
static int take_lock(int fd, unsigned part, struct fscope_error *err)
{
    uint64_t holder = 0;
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = part == SEG_READER_TRACE ? SEG_LOCK_TRACE : SEG_LOCK_RINGS,
                         .l_len = 1};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    if (errno != EAGAIN && errno != EACCES)
        return error_set(err, -errno, 0, "segment: cannot lock it: %s", strerror(errno));
    if (pread(fd, &holder, sizeof holder, CONSUMER_PID) != (ssize_t)sizeof holder)
        holder = 0;
    if (!holder)
        return error_set(err, -EBUSY, 0,
                         "segment: another collector is reading this process; stop that one first");
    return error_set(
        err, -EBUSY, 0,
        "segment: another collector (pid %llu) is reading this process; stop that one first",
        (unsigned long long)holder);
}

static int take_locks(int fd, unsigned parts, struct fscope_error *err)
{
    int rc = parts & SEG_READER_RINGS ? take_lock(fd, SEG_READER_RINGS, err) : 0;
    return rc || !(parts & SEG_READER_TRACE) ? rc : take_lock(fd, SEG_READER_TRACE, err);
}

int seg_reader_open(struct seg_reader **out, int fd, struct fscope_error *err)
{
    return seg_reader_open_parts(out, fd, SEG_READER_RINGS | SEG_READER_TRACE, err);
}

int seg_reader_open_parts(struct seg_reader **out, int fd, unsigned parts, struct fscope_error *err)
{
    *out = NULL;
    struct stat st;
    struct seg_reader *r = calloc(1, sizeof *r);
    if (!r) {
        close(fd);
        return error_set(err, -ENOMEM, 0, "segment: out of memory");
    }
    r->fd = fd = reopen(fd);
    r->is_live = true;
    if (fd < 0) {
        error_set(err, fd, 0,
                  "segment: cannot open it anew: %s (is /proc mounted, and is the process ours?)",
                  strerror(-fd));
        seg_reader_close(r);
        return fd;
    }
    int rc = fstat(fd, &st) ? -errno : 0;
    if (rc || !S_ISREG(st.st_mode) || (uint64_t)st.st_size > TOTAL_MAX) {
        rc = error_set(err, rc ? rc : -EINVAL, 0, "segment: not a file of a sane size");
        goto fail;
    }
    r->bytes = (uint64_t)st.st_size;
    rc = take_locks(fd, parts, err);
    if (rc)
        goto fail;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals >= 0 && (seals & F_SEAL_SHRINK) && r->bytes) {
        void *p = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            rc = error_set(err, -errno, 0, "segment: cannot map it: %s", strerror(errno));
            goto fail;
        }
        r->base = p;
        r->mapped_bytes = r->bytes;
    }
    rc = reader_validate(r, "segment", err);
    if (rc)
        goto fail;
    uint64_t self = (uint64_t)getpid();
    // Only a hint for messages: the lock decides.
    if (parts && pwrite(r->fd, &self, sizeof self, CONSUMER_PID) == (ssize_t)sizeof self)
        atomic_store_explicit(&r->header.control.consumer_pid, self, memory_order_relaxed);
    r->shadow = r->header.control;
    *out = r;
    return 0;

fail:
    seg_reader_close(r);
    return rc;
}

int seg_reader_open_memory(struct seg_reader **out, seg_read_fn *fn, void *arg, uint64_t bytes,
                           struct fscope_error *err)
{
    *out = NULL;
    struct seg_reader *r = calloc(1, sizeof *r);
    if (!r)
        return error_set(err, -ENOMEM, 0, "segment: out of memory");
    *r = (struct seg_reader){.fd = -1, .read = fn, .read_arg = arg, .bytes = bytes};
    int rc = bytes > TOTAL_MAX ? error_set(err, -EINVAL, 0, "segment: not of a sane size")
                               : reader_validate(r, "segment", err);
    if (rc)
        seg_reader_close(r);
    else
        *out = r;
    return rc;
}

void seg_reader_close(struct seg_reader *r)
{
    if (!r)
        return;
    if (r->base)
        munmap(r->base, r->mapped_bytes);
    if (r->fd >= 0)
        close(r->fd); // the lock goes with it
    free(r);
}

const struct seg_header *seg_reader_header(const struct seg_reader *r)
{
    return &r->header;
}

void seg_reader_losses(struct seg_reader *r, struct seg_losses *out)
{
    if (reader_get(r, offsetof(struct seg_header, losses), out, sizeof *out))
        memset(out, 0, sizeof *out);
}

struct seg_control *seg_reader_control(struct seg_reader *r)
{
    if (!r->is_live)
        return NULL;
    return r->base ? &((struct seg_header *)(void *)r->base)->control : &r->shadow;
}

int seg_reader_control_commit(struct seg_reader *r)
{
    if (!r->is_live || r->base)
        return 0;
    ssize_t n = pwrite(r->fd, &r->shadow, sizeof r->shadow, offsetof(struct seg_header, control));
    return n == (ssize_t)sizeof r->shadow ? 0 : n < 0 ? -errno : -EIO;
}
