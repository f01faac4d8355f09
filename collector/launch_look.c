// SPDX-License-Identifier: MIT
//
// What kind of program a command is; see launch.h. The file may be hostile: headers are copied and
// every offset in them is checked by pread itself.

#include "collector/launch.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { SCRIPT_DEPTH_MAX = 4, SEGMENTS_MAX = 64 };

// The path that execvp would take; its errors are the caller's to explain.
static int find_in_path(char *out, size_t size, const char *name)
{
    if (strchr(name, '/')) {
        if (strlen(name) >= size)
            return -ENAMETOOLONG;
        strcpy(out, name);
        return access(out, F_OK) ? -errno : access(out, X_OK) ? -errno : 0;
    }
    const char *dirs = getenv("PATH");
    if (!dirs)
        dirs = "/usr/local/bin:/bin:/usr/bin";
    int rc = -ENOENT;
    for (const char *dir = dirs;;) {
        size_t n = strcspn(dir, ":");
        if (n + strlen(name) + 2 < size) {
            memcpy(out, n ? dir : ".", n ? n : 1);
            out[n ? n : 1] = '/';
            strcpy(out + (n ? n : 1) + 1, name);
            struct stat st;
            if (stat(out, &st) == 0 && S_ISREG(st.st_mode)) {
                if (access(out, X_OK) == 0)
                    return 0;
                rc = -EACCES;
            }
        }
        if (!dir[n])
            return rc;
        dir += n + 1;
    }
}

// Whether this exec would gain rights, so that the loader drops LD_PRELOAD and perf is refused.
static bool gains_rights(int fd)
{
    struct stat st;
    if (fstat(fd, &st))
        return false;
    if ((st.st_mode & S_ISUID) && st.st_uid != geteuid())
        return true;
    if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getegid())
        return true;
    return geteuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

// The interpreter of a "#!" line. 0 or -ENOEXEC.
static int script_interpreter(const char *head, size_t n, char *out, size_t size)
{
    size_t i = 2;
    while (i < n && (head[i] == ' ' || head[i] == '\t'))
        i++;
    size_t start = i;
    while (i < n && head[i] && !strchr(" \t\n", head[i]))
        i++;
    if (i == start || i - start >= size)
        return -ENOEXEC;
    memcpy(out, head + start, i - start);
    out[i - start] = '\0';
    return 0;
}

// `#!/usr/bin/env python3`: env looks the program up, so what is profiled is python3.
static void follow_env(const char *head, size_t n, char *image, size_t size)
{
    const char *base = strrchr(image, '/');
    if (!base || strcmp(base, "/env") != 0)
        return;
    const char *line_end = memchr(head, '\n', n);
    const char *end = line_end ? line_end : head + n;
    const char *word = memchr(head, ' ', (size_t)(end - head));
    char name[256], found[PATH_MAX];
    while (word && word < end) {
        while (word < end && *word == ' ')
            word++;
        const char *next = word;
        while (next < end && *next != ' ')
            next++;
        size_t length = (size_t)(next - word);
        // "#! /usr/bin/env": the word may be env itself; options and settings come before the name.
        bool is_name = length && length < sizeof name && *word != '-' && *word != '/' &&
                       !memchr(word, '=', length);
        if (is_name) {
            memcpy(name, word, length);
            name[length] = '\0';
            if (find_in_path(found, sizeof found, name) == 0 && strlen(found) < size)
                strcpy(image, found);
            return;
        }
        word = next;
    }
}

static int look_at_elf(struct launch_program *p, int fd, struct fscope_error *err)
{
    Elf64_Ehdr eh;
    if (pread(fd, &eh, sizeof eh, 0) != (ssize_t)sizeof eh)
        return error_set(err, -ENOEXEC, 0, "%s: too short for a program", p->image);
    if (eh.e_ident[EI_CLASS] == ELFCLASS32)
        return error_set(
            err, -ENOEXEC, 0,
            "%s is a 32-bit program; Fiberscope profiles x86-64 ones: build it with -m64",
            p->image);
    if (eh.e_machine != EM_X86_64)
        return error_set(err, -ENOEXEC, 0, "%s is not an x86-64 program (ELF machine %u)", p->image,
                         eh.e_machine);
    if (eh.e_phentsize != sizeof(Elf64_Phdr))
        return error_set(err, -ENOEXEC, 0, "%s: broken program headers", p->image);
    p->way = LAUNCH_OUTSIDE;
    strcpy(p->reason, "it is statically linked");
    for (unsigned i = 0; i < eh.e_phnum && i < SEGMENTS_MAX; i++) {
        Elf64_Phdr ph;
        char interp[256] = "";
        if (pread(fd, &ph, sizeof ph, (off_t)(eh.e_phoff + i * sizeof ph)) != (ssize_t)sizeof ph)
            break;
        if (ph.p_type != PT_INTERP)
            continue;
        size_t n = ph.p_filesz < sizeof interp ? ph.p_filesz : sizeof interp - 1;
        if (pread(fd, interp, n, (off_t)ph.p_offset) < 0)
            break;
        if (strstr(interp, "musl")) {
            strcpy(p->reason, "it is linked against musl, and the agent needs glibc");
        } else {
            p->way = LAUNCH_AGENT;
            p->reason[0] = '\0';
        }
        break;
    }
    return 0;
}

// One file on the way: 1 if it was a script and p->image is now its interpreter.
static int look_at_file(struct launch_program *p, struct fscope_error *err)
{
    int fd = open(p->image, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == EACCES) {
        // Executable but not readable: it can run, and nobody may look at it, perf included.
        return error_set(err, -EPERM, 0, "%s: not readable for this user, so it cannot be profiled",
                         p->image);
    }
    if (fd < 0 && strcmp(p->image, p->path) != 0)
        return error_set(err, -errno, 0, "%s: its #! line names %s: %s", p->path, p->image,
                         strerror(errno));
    if (fd < 0)
        return error_set(err, -errno, 0, "%s: %s", p->image, strerror(errno));
    char head[256] = "";
    ssize_t n = pread(fd, head, sizeof head - 1, 0);
    int rc = 0;
    if (n >= 4 && memcmp(head, ELFMAG, SELFMAG) == 0) {
        if (gains_rights(fd))
            rc = error_set(
                err, -EPERM, 0,
                "%s gains rights when executed (setuid, setgid or file capabilities), and "
                "then nothing of this user may look into it: run as root, or profile a copy "
                "without that bit",
                p->image);
        else
            rc = look_at_elf(p, fd, err);
    } else if (n >= 2 && head[0] == '#' && head[1] == '!') {
        rc = script_interpreter(head, (size_t)n, p->image, sizeof p->image);
        if (rc)
            error_set(err, rc, 0, "%s: broken #! line", p->path);
        else
            follow_env(head, (size_t)n, p->image, sizeof p->image);
        rc = rc ? rc : 1;
    } else {
        rc = error_set(err, -ENOEXEC, 0,
                       "%s: neither a program nor a script with a #! line; for a shell script: "
                       "fiberscope record sh %s",
                       p->image, p->image);
    }
    close(fd);
    return rc;
}

int launch_look(struct launch_program *out, const char *argv0, struct fscope_error *err)
{
    *out = (struct launch_program){.way = LAUNCH_AGENT};
    int rc = find_in_path(out->path, sizeof out->path, argv0);
    struct stat st;
    if (!rc && stat(out->path, &st) == 0 && S_ISDIR(st.st_mode))
        return error_set(err, -EACCES, 0, "%s: is a folder, not a program", out->path);
    if (rc == -ENOENT && !strchr(argv0, '/') && access(argv0, F_OK) == 0)
        return error_set(err, rc, 0, "%s: command not found in $PATH; ./%s is in this folder",
                         argv0, argv0);
    if (rc == -ENOENT)
        return error_set(err, rc, 0, "%s: command not found%s", argv0,
                         strchr(argv0, '/') ? "" : " in $PATH");
    if (rc == -EACCES)
        return error_set(err, rc, 0, "%s: not executable; chmod +x it, or name its interpreter",
                         out->path[0] ? out->path : argv0);
    if (rc)
        return error_set(err, rc, 0, "%s: %s", argv0, strerror(-rc));
    strcpy(out->image, out->path);
    for (int depth = 0; depth < SCRIPT_DEPTH_MAX; depth++) {
        rc = look_at_file(out, err);
        if (rc <= 0)
            return rc;
    }
    return error_set(err, -ELOOP, 0, "%s: its #! lines go more than %d deep", argv0,
                     SCRIPT_DEPTH_MAX);
}
