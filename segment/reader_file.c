// SPDX-License-Identifier: MIT
//
// Opening what a dead process left: a black box, a dump, or a core file. The bytes are copied into
// an anonymous mapping of the segment's size, sparse like the segment was, so the file may change
// or shrink meanwhile and memory is spent on data alone.

#include "segment/reader_internal.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOTAL_MAX (UINT64_C(1) << 38)

enum { PHDRS_MAX = 1 << 16 };

// Reads exactly n bytes; 0, -ENODATA at the end of the file, or -errno.
static int read_at(int fd, void *out, uint64_t n, uint64_t offset)
{
    char *p = out;
    while (n) {
        ssize_t got = pread(fd, p, n < (1u << 30) ? n : 1u << 30, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -ENODATA;
        p += got;
        offset += (uint64_t)got;
        n -= (uint64_t)got;
    }
    return 0;
}

static int make_copy(struct seg_reader *r, uint64_t total, const char *path,
                     struct fscope_error *err)
{
    if (total < sizeof(struct seg_header) || total > TOTAL_MAX)
        return error_set(err, -EINVAL, 0, "%s: a segment of %llu bytes cannot be", path,
                         (unsigned long long)total);
    void *p = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED)
        return error_set(err, -errno, 0, "%s: cannot reserve %llu bytes: %s", path,
                         (unsigned long long)total, strerror(errno));
    r->base = p;
    r->bytes = total;
    r->mapped_bytes = total;
    return 0;
}

// Copies n bytes of the file, hole by hole, to to_offset of the copy.
static int copy_sparse(struct seg_reader *r, int fd, uint64_t file_offset, uint64_t n,
                       uint64_t to_offset)
{
    uint64_t at = 0;
    while (at < n) {
        off_t data = lseek(fd, (off_t)(file_offset + at), SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno; // nothing but a hole up to the end
        off_t hole = lseek(fd, data, SEEK_HOLE);
        uint64_t from = (uint64_t)data - file_offset;
        uint64_t to = hole < 0 ? n : (uint64_t)hole - file_offset;
        if (to > n)
            to = n;
        if (from >= to)
            return 0;
        int rc = read_at(fd, r->base + to_offset + from, to - from, file_offset + from);
        if (rc && rc != -ENODATA)
            return rc;
        at = to;
    }
    return 0;
}

static int open_box(struct seg_reader *r, int fd, uint64_t size, const char *path,
                    struct fscope_error *err)
{
    int rc = make_copy(r, size, path, err);
    if (rc)
        return rc;
    rc = copy_sparse(r, fd, 0, size, 0);
    return rc ? error_set(err, rc, 0, "%s: %s", path, strerror(-rc)) : 0;
}

static int open_dump(struct seg_reader *r, int fd, const char *path, struct fscope_error *err)
{
    struct seg_dump_header head;
    struct seg_dump_chunk chunk;
    uint64_t at = sizeof head;
    int rc = read_at(fd, &head, sizeof head, 0);
    if (rc)
        return error_set(err, rc, 0, "%s: cut inside the dump's header", path);
    if (head.version != SEG_VERSION)
        return error_set(err, -EPROTO, offsetof(struct seg_dump_header, version),
                         "%s: dump version %u, this fiberscope reads version %u", path,
                         head.version, SEG_VERSION);
    rc = make_copy(r, head.total_bytes, path, err);
    if (rc)
        return rc;
    // A cut dump gives what it has: the header comes first, and every entry carries its own check.
    while (!read_at(fd, &chunk, sizeof chunk, at) && chunk.offset != UINT64_MAX) {
        at += sizeof chunk;
        if (chunk.offset > r->bytes || chunk.size > r->bytes - chunk.offset)
            return error_set(err, -EINVAL, at - sizeof chunk,
                             "%s: a chunk at byte %llu lies outside the segment", path,
                             (unsigned long long)(at - sizeof chunk));
        rc = read_at(fd, r->base + chunk.offset, chunk.size, at);
        if (rc && rc != -ENODATA)
            return error_set(err, rc, at, "%s: %s", path, strerror(-rc));
        if (rc)
            break;
        at += chunk.size;
    }
    return 0;
}

// The ELF header and how many program headers to look at.
static int core_header(int fd, Elf64_Ehdr *eh, uint64_t *count)
{
    if (read_at(fd, eh, sizeof *eh, 0) || eh->e_phentsize != sizeof(Elf64_Phdr) ||
        eh->e_ident[EI_CLASS] != ELFCLASS64)
        return -EINVAL;
    *count = eh->e_phnum;
    if (*count == PN_XNUM) {
        Elf64_Shdr sh;
        if (read_at(fd, &sh, sizeof sh, eh->e_shoff))
            return -EINVAL;
        *count = sh.sh_info;
    }
    if (*count > PHDRS_MAX)
        *count = PHDRS_MAX;
    return 0;
}

// Finds the program header whose memory is a segment; of several (a forked child still has its
// parent's) the youngest is the process' own.
static int find_in_core(int fd, Elf64_Phdr *found, struct seg_header *header)
{
    Elf64_Ehdr eh;
    uint64_t count;
    bool any = false;
    int rc = core_header(fd, &eh, &count);
    if (rc)
        return rc;
    for (uint64_t i = 0; i < count; i++) {
        Elf64_Phdr ph;
        struct seg_header h;
        if (read_at(fd, &ph, sizeof ph, eh.e_phoff + i * sizeof ph))
            break;
        if (ph.p_type != PT_LOAD || ph.p_filesz < sizeof h ||
            read_at(fd, &h, sizeof h, ph.p_offset))
            continue;
        if (h.magic == SEG_MAGIC && (!any || h.mono_ns > header->mono_ns)) {
            *found = ph;
            *header = h;
            any = true;
        }
    }
    return any ? 0 : -ENOENT;
}

// Copies every part of the core that lies in the segment's addresses: a mapping may be split into
// several program headers.
static int copy_from_core(struct seg_reader *r, int fd, uint64_t start)
{
    Elf64_Ehdr eh;
    uint64_t count;
    int rc = core_header(fd, &eh, &count);
    for (uint64_t i = 0; !rc && i < count; i++) {
        Elf64_Phdr ph;
        if (read_at(fd, &ph, sizeof ph, eh.e_phoff + i * sizeof ph))
            break;
        if (ph.p_type != PT_LOAD || ph.p_vaddr < start || ph.p_vaddr - start >= r->bytes)
            continue;
        uint64_t to = ph.p_vaddr - start, room = r->bytes - to;
        if (ph.p_offset > INT64_MAX - room)
            continue;
        rc = copy_sparse(r, fd, ph.p_offset, ph.p_filesz < room ? ph.p_filesz : room, to);
    }
    return rc;
}

static int open_core(struct seg_reader *r, int fd, const char *path, struct fscope_error *err)
{
    Elf64_Phdr ph = {0};
    struct seg_header h;
    int rc = find_in_core(fd, &ph, &h);
    if (rc)
        return error_set(err, -EINVAL, 0,
                         "%s: no Fiberscope segment in this ELF file (a core of a program that "
                         "recorded has one, unless coredump_filter leaves out shared memory, or "
                         "it is a file of its own, by FIBERSCOPE_SEGMENT: that has it)",
                         path);
    rc = make_copy(r, h.total_bytes, path, err);
    if (rc)
        return rc;
    rc = copy_from_core(r, fd, ph.p_vaddr);
    return rc ? error_set(err, rc, ph.p_offset, "%s: %s", path, strerror(-rc)) : 0;
}

static int open_by_content(struct seg_reader *r, int fd, const char *path, struct fscope_error *err)
{
    struct stat st;
    uint64_t magic = 0;
    if (fstat(fd, &st))
        return error_set(err, -errno, 0, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return error_set(err, -EINVAL, 0, "%s: not a regular file", path);
    if (read_at(fd, &magic, sizeof magic, 0))
        return error_set(err, -EINVAL, 0, "%s: too short for a black box, a dump or a core file",
                         path);
    if (magic == SEG_MAGIC)
        return open_box(r, fd, (uint64_t)st.st_size, path, err);
    if (magic == SEG_DUMP_MAGIC)
        return open_dump(r, fd, path, err);
    if (memcmp(&magic, ELFMAG, SELFMAG) == 0)
        return open_core(r, fd, path, err);
    return error_set(err, -EINVAL, 0,
                     "%s: neither a black box, nor a dump, nor a core file of Fiberscope", path);
}

int seg_reader_open_file(struct seg_reader **out, const char *path, struct fscope_error *err)
{
    *out = NULL;
    struct seg_reader *r = calloc(1, sizeof *r);
    if (!r)
        return error_set(err, -ENOMEM, 0, "%s: out of memory", path);
    r->fd = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? error_set(err, -errno, 0, "%s: %s", path, strerror(errno))
                    : open_by_content(r, fd, path, err);
    if (fd >= 0)
        close(fd);
    if (!rc)
        rc = reader_validate(r, path, err);
    if (rc) {
        seg_reader_close(r);
        return rc;
    }
    *out = r;
    return 0;
}
