// SPDX-License-Identifier: MIT
//
// See mapped_file.h. /proc/PID/map_files finds deleted and replaced files too but needs a capability
// (CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE); /proc/PID/root leads into the mount namespace of the
// target with nothing but the right to trace it.

#include "collector/mapped_file.h"

#include "symbols/symbols.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Whether fd is the file that was mapped. The device number alone does not refuse: overlayfs and
// btrfs show other ones in /proc/PID/maps than in stat(2).
static bool is_right(int fd, const struct mapped_file *m)
{
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        return false;
    if (m->inode && st.st_ino == m->inode && (!m->device || st.st_dev == m->device))
        return true;
    if (!m->build_id[0])
        return !m->inode || st.st_ino == m->inode;
    char hex[2 * 64 + 1];
    return symbols_build_id_of_fd(fd, hex, sizeof hex) > 0 && strcmp(hex, m->build_id) == 0;
}

static int open_checked(const char *path, const struct mapped_file *m)
{
    // Not blocking on a fifo that a hostile target has put there.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    if (is_right(fd, m))
        return fd;
    close(fd);
    return -ESTALE;
}

int mapped_file_open(const struct mapped_file *m)
{
    char path[PATH_MAX + 64];
    if (!m->path || m->path[0] != '/' || strncmp(m->path, "//", 2) == 0)
        return -ENOENT;
    int fd = -ENOENT;
    if (m->pid && m->start) {
        snprintf(path, sizeof path, "/proc/%u/map_files/%llx-%llx", m->pid,
                 (unsigned long long)m->start, (unsigned long long)m->end);
        fd = open_checked(path, m);
    }
    if (fd < 0 && m->pid) {
        int n = snprintf(path, sizeof path, "/proc/%u/root%s", m->pid, m->path);
        fd = n > 0 && (size_t)n < sizeof path ? open_checked(path, m) : -ENAMETOOLONG;
    }
    // The process may be gone already; in our own namespace the path is as good, when checked.
    if (fd < 0 && (m->inode || m->build_id[0]))
        fd = open_checked(m->path, m);
    return fd;
}

void mapped_module_build_id(const struct seg_module *m, char hex[MODULE_BUILD_ID_SIZE])
{
    uint32_t n = m->build_id_size <= SEG_BUILD_ID_BYTES ? m->build_id_size : 0;
    for (uint32_t i = 0; i < n; i++)
        sprintf(hex + (size_t)i * 2, "%02x", m->build_id[i]);
    hex[n * 2] = '\0';
}

int mapped_module_open(uint32_t pid, const struct seg_module *m, const char *path,
                       const char *build_id)
{
    const struct mapped_file file = {
        .pid = pid,
        .start = m->start,
        .end = m->end,
        .path = path,
        .build_id = build_id,
        .device = m->device,
        .inode = m->inode,
    };
    return mapped_file_open(&file);
}
