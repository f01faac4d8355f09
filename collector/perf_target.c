// SPDX-License-Identifier: MIT
//
// Looking at a process through /proc: see perf_target.h.

#include "collector/perf_target.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PF_EXITING = 0x00000004, PF_KTHREAD = 0x00200000 }; // linux/sched.h: flags of /proc/PID/stat

struct process_stat {
    char name[64];
    char state;
    int parent;
    unsigned flags;
    int threads; // that have not been collected
};

static int read_stat(uint32_t pid, struct process_stat *out)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return -ESRCH;
    text[n] = '\0';
    // The name may hold anything, also parentheses: its end is the last one.
    char *open_mark = strchr(text, '('), *close_mark = strrchr(text, ')');
    if (!open_mark || !close_mark || close_mark < open_mark)
        return -ESRCH;
    snprintf(out->name, sizeof out->name, "%.*s", (int)(close_mark - open_mark - 1), open_mark + 1);
    if (sscanf(close_mark + 1,
               " %c %d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d", &out->state,
               &out->parent, &out->flags, &out->threads) != 4)
        return -ESRCH;
    return 0;
}

static uint32_t thread_group(uint32_t pid)
{
    char path[64], line[128];
    uint32_t group = pid;
    snprintf(path, sizeof path, "/proc/%u/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Tgid: %u", &group) == 1)
            break;
    if (f)
        fclose(f);
    return group;
}

// Whether its program is known to be something else than a 64-bit x86-64 one.
static bool is_foreign(uint32_t pid)
{
    char path[64];
    Elf64_Ehdr h;
    snprintf(path, sizeof path, "/proc/%u/exe", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false; // not ours to see: perf_event_open will say why
    bool is_read = read(fd, &h, sizeof h) == (ssize_t)sizeof h;
    close(fd);
    return is_read && memcmp(h.e_ident, ELFMAG, SELFMAG) == 0 &&
           (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_machine != EM_X86_64);
}

static void name_of(struct perf_target *out, uint32_t pid, const char *comm)
{
    // comm is cut at 15 characters; the link is not, but may be unreadable.
    char path[64], exe[4096];
    snprintf(path, sizeof path, "/proc/%u/exe", pid);
    ssize_t n = readlink(path, exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    const char *base = strrchr(exe, '/');
    if (base && strncmp(base + 1, comm, strlen(comm)) == 0 && !strstr(base, " (deleted)"))
        snprintf(out->name, sizeof out->name, "%.*s", (int)sizeof out->name - 1, base + 1);
    else
        snprintf(out->name, sizeof out->name, "%s", comm);
    for (char *c = out->name; *c; c++) // it becomes a file name
        if (*c == '/' || (unsigned char)*c < ' ')
            *c = '_';
}

int perf_target_look(struct perf_target *out, uint32_t pid, struct fscope_error *err)
{
    struct process_stat st;
    *out = (struct perf_target){0};
    if (pid == (uint32_t)getpid())
        return error_set(err, -EINVAL, 0, "process %u is fiberscope itself", pid);
    int rc = read_stat(pid, &st);
    if (rc == -EACCES || rc == -EPERM)
        return error_set(err, rc, 0,
                         "process %u cannot be seen by this user (hidepid): run as root", pid);
    if (rc)
        return error_set(
            err, -ESRCH, 0,
            "no process %u here: see `pgrep -l NAME` (a container has its own numbers)", pid);
    uint32_t group = thread_group(pid);
    if (group != pid)
        return error_set(err, -ESRCH, 0, "%u is a thread of process %u: use -p %u", pid, group,
                         group);
    if (st.flags & PF_KTHREAD)
        return error_set(err, -EINVAL, 0,
                         "process %u (%s) is a kernel thread: it has no user code to profile; "
                         "use `perf record -g -p %u`",
                         pid, st.name, pid);
    if (st.state == 'Z' || st.state == 'X')
        return error_set(err, -ESRCH, 0,
                         "process %u (%s) has ended; it is kept until its parent %d collects it",
                         pid, st.name, st.parent);
    if (is_foreign(pid))
        return error_set(err, -ENOEXEC, 0,
                         "process %u (%s) is not a 64-bit x86-64 program: use perf for it", pid,
                         st.name);
    name_of(out, pid, st.name);
    return 0;
}

bool perf_target_has_ended(uint32_t pid)
{
    struct process_stat st;
    int rc = read_stat(pid, &st);
    if (rc)
        return rc == -ENOENT || rc == -ESRCH;
    // State and flags are the first thread's, which others may outlive.
    return st.threads <= 1 && (st.state == 'Z' || st.state == 'X' || (st.flags & PF_EXITING) != 0);
}

uint64_t perf_target_bytes_above(uint32_t pid, uint64_t address)
{
    char path[64], *line = NULL;
    size_t size = 0;
    unsigned long long start, end;
    uint64_t above = 0;
    snprintf(path, sizeof path, "/proc/%u/maps", pid);
    FILE *f = fopen(path, "re");
    while (f && !above && getline(&line, &size, f) > 0)
        if (sscanf(line, "%llx-%llx", &start, &end) == 2 && start <= address && address < end)
            above = end - address;
    free(line);
    if (f)
        fclose(f);
    return above;
}
