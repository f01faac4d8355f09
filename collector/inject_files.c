// SPDX-License-Identifier: MIT
//
// Where the target does not see the agent's files (a container's root, a folder that its user may not enter): the borrowed
// thread makes memory files, we fill them through /proc, and it loads these. Between its calls it would go home by itself:
// at worst two descriptors stay, close-on-exec.

#include "collector/inject_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AGENT_NAME "libfiberscope.so"
#define CORE_NAME  "libfiberscope-core.so." FSCOPE_SOVERSION

static uint64_t address_of(const struct inject_detour *d, size_t offset)
{
    return d->area + INJECT_BLOCK_AT + offset;
}

static int copy(int from, int to)
{
    struct stat st;
    if (fstat(from, &st))
        return -errno;
    for (off_t left = st.st_size; left > 0;) {
        ssize_t n = sendfile(to, from, NULL, (size_t)left);
        if (n <= 0)
            return n ? -errno : -EIO;
        left -= n;
    }
    return 0;
}

// Ours at `path` into the target's descriptor.
static int fill(const struct inject_detour *d, const char *path, int64_t fd)
{
    char theirs[64];
    snprintf(theirs, sizeof theirs, "/proc/%u/fd/%lld", d->pid, (long long)fd);
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int rc = from < 0 ? -errno : 0;
    int to = rc ? -1 : open(theirs, O_WRONLY | O_CLOEXEC);
    if (!rc && to < 0)
        rc = -errno;
    if (!rc)
        rc = copy(from, to);
    if (to >= 0)
        close(to);
    if (from >= 0)
        close(from);
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
    if (rc)
        return rc;
    rc = fill(d, path, *fd);
    if (!rc)
        return 0;
    close_made(d);
    return error_set(err, rc, 0, "process %u: %s cannot be sent to it: %s", d->pid, path,
                     strerror(-rc));
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
