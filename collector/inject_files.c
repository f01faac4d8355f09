// SPDX-License-Identifier: MIT
//
// Where the target does not see the agent's files (a container's root, a folder that its user may not enter): the borrowed
// thread makes memory files and maps them, we write into these maps, and it loads them. Between its calls it would go home by
// itself: at worst two descriptors stay, close-on-exec, and a map.
//
// No descriptor of the target's is opened here: another thread of its may have put any file in its place by then, and what we
// could write is not what it could. Through its maps we write what it may write itself, and nothing else.

#include "collector/inject_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AGENT_NAME "libfiberscope.so"
#define CORE_NAME  "libfiberscope-core.so." FSCOPE_SOVERSION

static uint64_t address_of(const struct inject_detour *d, size_t offset)
{
    return d->area + INJECT_BLOCK_AT + offset;
}

static int cannot_send(struct inject_detour *d, const char *path, int rc, struct fscope_error *err)
{
    return error_set(err, rc, 0, "process %u: %s cannot be sent to it: %s", d->pid, path,
                     strerror(-rc));
}

// Of ours. 0 or -errno; the caller unmaps *bytes.
static int map_file(const char *path, void **bytes, size_t *size)
{
    struct stat st = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 || fstat(fd, &st) ? -errno : st.st_size <= 0 ? -ENOEXEC : 0;
    if (!rc) {
        *size = (size_t)st.st_size;
        *bytes = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
        rc = *bytes == MAP_FAILED ? -errno : 0;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

static void close_made(struct inject_detour *d);

// One call in its name. 0 and *result >= 0 (or an address); else it is on its way home.
static int call(struct inject_detour *d, uint64_t function, const uint64_t args[6], uint64_t number,
                const char *path, int64_t *result, struct fscope_error *err)
{
    int rc = inject_call_libc(d, function, args, number, result, err);
    if (rc || *result >= 0 || *result < -4095)
        return rc;
    rc = (int)*result;
    close_made(d);
    return cannot_send(d, path, rc, err);
}

// Ours at `path` into the memory file that it has made. 0; else it is on its way home.
static int fill(struct inject_detour *d, const char *path, int64_t fd, struct fscope_error *err)
{
    void *bytes = NULL;
    size_t size = 0;
    int64_t at = 0, unused;
    int rc = map_file(path, &bytes, &size);
    if (rc) {
        close_made(d);
        return cannot_send(d, path, rc, err);
    }
    const uint64_t length[6] = {(uint64_t)fd, size};
    const uint64_t map[6] = {0, size, PROT_READ | PROT_WRITE, MAP_SHARED, (uint64_t)fd, 0};
    rc = call(d, d->p->ftruncate, length, SYS_ftruncate, path, &unused, err);
    if (!rc)
        rc = call(d, d->p->mmap, map, SYS_mmap, path, &at, err);
    if (!rc) {
        int written = inject_write(d, (uint64_t)at, bytes, size);
        const uint64_t unmap[6] = {(uint64_t)at, size};
        rc = call(d, d->p->munmap, unmap, SYS_munmap, path, &unused, err);
        if (!rc && written) {
            close_made(d);
            rc = cannot_send(d, path, written, err);
        }
    }
    munmap(bytes, size);
    return rc;
}

static int make(struct inject_detour *d, const char *name, int64_t *fd, struct fscope_error *err)
{
    uint64_t at = address_of(d, offsetof(struct inject_block, path_bytes));
    const uint64_t args[6] = {at, MFD_CLOEXEC};
    int rc = inject_write(d, at, name, strlen(name) + 1);
    if (rc) {
        inject_send_home(d);
        return error_set(err, rc, 0, "process %u: its memory: %s", d->pid, strerror(-rc));
    }
    rc = inject_call_libc(d, d->p->memfd_create, args, SYS_memfd_create, fd, err);
    if (rc || *fd >= 0)
        return rc;
    inject_send_home(d);
    return error_set(
        err, (int)*fd, 0,
        "process %u does not see the agent's files, and may have no memory files (%s): copy "
        "%s and %s to where it sees them under the same path",
        d->pid, strerror((int)-*fd), d->p->path, CORE_NAME);
}

static void close_made(struct inject_detour *d)
{
    for (int i = 0; i < 2; i++) {
        const uint64_t args[6] = {(uint64_t)d->block.fds[i]};
        int64_t unused;
        if (d->block.fds[i] >= 0 &&
            inject_call_libc(d, d->p->close, args, SYS_close, &unused, NULL))
            return; // it is on its way home
    }
    inject_send_home(d);
}

static int send_one(struct inject_detour *d, const char *name, const char *path, int64_t *fd,
                    struct fscope_error *err)
{
    int rc = make(d, name, fd, err);
    return rc ? rc : fill(d, path, *fd, err);
}

int inject_send_files(struct inject_detour *d, struct fscope_error *err)
{
    char core[INJECT_PATH_BYTES];
    struct inject_block *b = &d->block;
    const char *slash = strrchr(d->p->path, '/');
    int n = snprintf(core, sizeof core, "%.*s/" CORE_NAME, slash ? (int)(slash - d->p->path) : 0,
                     d->p->path);
    if (n < 0 || (size_t)n >= sizeof core) {
        inject_send_home(d);
        return error_set(err, -ENAMETOOLONG, 0, "%s: too long a path", d->p->path);
    }
    int rc = send_one(d, AGENT_NAME, d->p->path, &b->fds[0], err);
    if (!rc && !d->p->core.start) // by its SONAME the agent finds the one that is there
        rc = send_one(d, CORE_NAME, core, &b->fds[1], err);
    if (rc)
        return rc;
    snprintf(b->path_bytes, sizeof b->path_bytes, "/proc/self/fd/%lld", (long long)b->fds[0]);
    b->path = address_of(d, offsetof(struct inject_block, path_bytes));
    if (b->fds[1] >= 0) {
        snprintf(b->first_bytes, sizeof b->first_bytes, "/proc/self/fd/%lld", (long long)b->fds[1]);
        b->first_path = address_of(d, offsetof(struct inject_block, first_bytes));
    }
    return 0;
}
