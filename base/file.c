// SPDX-License-Identifier: MIT

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

int file_write_all(int fd, const void *bytes, size_t n)
{
    const char *b = bytes;
    while (n) {
        ssize_t done = write(fd, b, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        // write(2) never promises progress; without it this would spin.
        if (done == 0)
            return -EIO;
        b += done;
        n -= (size_t)done;
    }
    return 0;
}

// Files that must not be replaced; of the process, as what opens an input and what names an output
// know nothing of each other.
static struct kept {
    dev_t dev;
    ino_t ino;
} * kept;
static size_t kept_count;

static bool is_kept(const struct stat *st)
{
    for (size_t i = 0; i < kept_count; i++)
        if (kept[i].dev == st->st_dev && kept[i].ino == st->st_ino)
            return true;
    return false;
}

static int keep(const struct stat *st)
{
    if (!S_ISREG(st->st_mode) || is_kept(st))
        return 0;
    struct kept *more = realloc(kept, (kept_count + 1) * sizeof *more);
    if (!more)
        return -ENOMEM;
    kept = more;
    kept[kept_count++] = (struct kept){st->st_dev, st->st_ino};
    return 0;
}

int file_keep(int fd)
{
    struct stat st;
    return fstat(fd, &st) ? 0 : keep(&st);
}

int file_keep_path(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : keep(&st);
}

static int fail(struct file_replace *f, struct fscope_error *err, int rc, const char *path,
                const char *doing)
{
    error_set(err, rc, 0, "%s: %s: %s", path, doing, strerror(-rc));
    file_abort(f);
    return rc;
}

static int create(struct file_replace *f)
{
    sigset_t users;
    file_signals_hold(&users);
    f->fd = open(f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    int rc = f->fd < 0 ? -errno : 0;
    if (!rc)
        file_temporary(f->temp);
    file_signals_release(&users);
    return rc;
}

// A name nobody else uses, in the same folder, for rename works only within a file system.
static int open_temp(struct file_replace *f)
{
    const char *slash = strrchr(f->path, '/');
    const char *base = slash ? slash + 1 : f->path;
    int dir_len = (int)(base - f->path), rc = -EEXIST;
    for (int attempt = 0; attempt < 16; attempt++) {
        uint64_t random = 0;
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            random = (uint64_t)getpid() << 8 | (uint64_t)attempt;
        free(f->temp);
        f->temp = NULL;
        // 64 bytes of the name tell whose it is; all of a long one would be too long with ours.
        if (asprintf(&f->temp, "%.*s.%.64s.%012llx.tmp", dir_len, f->path, base,
                     (unsigned long long)(random & UINT64_C(0xffffffffffff))) < 0) {
            f->temp = NULL;
            return -ENOMEM;
        }
        rc = create(f);
        if (rc != -EEXIST)
            break;
    }
    if (!rc)
        return 0;
    free(f->temp); // not ours
    f->temp = NULL;
    return rc;
}

int file_begin(struct file_replace *f, const char *path, struct fscope_error *err)
{
    *f = (struct file_replace){.fd = -1};
    if (strcmp(path, "-") == 0) {
        f->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        f->path = strdup("standard output");
        return f->fd >= 0 && f->path ? 0 : fail(f, err, -errno, "standard output", "cannot open");
    }
    struct stat st;
    bool exists = stat(path, &st) == 0;
    f->path = exists ? realpath(path, NULL) : strdup(path);
    if (!f->path)
        return fail(f, err, -errno, path, "cannot resolve");
    if (exists && S_ISDIR(st.st_mode))
        return fail(f, err, -EISDIR, path, "cannot write");
    if (exists && is_kept(&st)) {
        error_set(err, -EEXIST, 0,
                  "%s: is read by this command and would be lost: give -o another name", path);
        file_abort(f);
        return -EEXIST;
    }
    if (exists && !S_ISREG(st.st_mode)) {
        f->fd = open(f->path, O_WRONLY | O_CLOEXEC);
        return f->fd >= 0 ? 0 : fail(f, err, -errno, path, "cannot open for writing");
    }
    int rc = open_temp(f);
    if (rc == -ENOENT)
        return fail(f, err, rc, path, "cannot be written, its folder is not there");
    if (rc)
        return fail(f, err, rc, path, "cannot create a file beside it");
    if (exists && fchmod(f->fd, st.st_mode & 07777) < 0)
        return fail(f, err, -errno, path, "cannot set the mode");
    return 0;
}

int file_commit(struct file_replace *f, struct fscope_error *err)
{
    // A pipe or terminal has nothing to flush: EINVAL or EROFS.
    if (f->temp && fsync(f->fd) < 0)
        return fail(f, err, -errno, f->path, "cannot flush to the disk");
    int fd = f->fd;
    f->fd = -1;
    // After EINTR Linux has closed it all the same.
    if (close(fd) < 0 && errno != EINTR)
        return fail(f, err, -errno, f->path, "cannot close");
    if (f->temp && rename(f->temp, f->path) < 0)
        return fail(f, err, -errno, f->path, "cannot rename onto it");
    if (f->temp)
        file_temporary_gone(f->temp);
    free(f->temp); // renamed: nothing for the abort to remove
    f->temp = NULL;
    file_abort(f);
    return 0;
}

void file_abort(struct file_replace *f)
{
    // A zeroed struct has fd 0, which is never ours.
    if (f->fd > 0)
        close(f->fd);
    if (f->temp) {
        unlink(f->temp);
        file_temporary_gone(f->temp);
    }
    free(f->temp);
    free(f->path);
    *f = (struct file_replace){.fd = -1};
}

const char *file_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}
