// SPDX-License-Identifier: MIT
//
// See processes.h. Everything is read from /proc; the segment through the descriptor that the agent keeps for calls, or where it
// is mapped.

#include "collector/processes.h"

#include "segment/layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DESCRIPTORS_MAX = 4096, COMMAND_BYTES = 8192 };

static int add(struct processes *p, const struct process *one)
{
    struct process *grown = reallocarray(p->list, p->count + 1, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    p->list = grown;
    p->list[p->count++] = *one;
    return 0;
}

static bool read_status(struct process *one)
{
    char path[64], line[256];
    unsigned long long caught = 0;
    snprintf(path, sizeof path, "/proc/%u/status", one->pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "Uid: %u", &one->uid) == 1 ||
            sscanf(line, "Threads: %u", &one->threads) == 1)
            continue;
        if (!strncmp(line, "Name:\t", 6))
            snprintf(one->program, sizeof one->program, "%.63s", line + 6);
        sscanf(line, "SigCgt: %llx", &caught);
    }
    fclose(f);
    if (one->agent == PROCESS_AGENT_IDLE && !(caught >> 26 & 1)) // SIGPROF
        one->agent = PROCESS_AGENT_DEAF;
    return true;
}

// Which of our libraries are mapped. 0, or -errno when its maps may not be read.
static int read_maps(struct process *one)
{
    char path[64], *line = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "/proc/%u/maps", one->pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    errno = 0;
    while (getline(&line, &size, f) > 0) {
        const char *slash = strrchr(line, '/');
        const char *access = strchr(line, ' ');
        if (!slash || !access || access[3] != 'x') // a file alone is no agent
            continue;
        if (!strncmp(slash + 1, "libfiberscope.so", 16))
            one->agent = PROCESS_AGENT_IDLE;
        one->has_runtime |= !strncmp(slash + 1, "libfiberscope-rt.so", 19);
    }
    int rc = errno == EACCES || errno == EPERM ? -errno : 0;
    free(line);
    fclose(f);
    return rc;
}

// Of what lies at the start of an area, which an older build may not have.
static bool read_area(int fd, const struct seg_area *a, void *out, size_t size)
{
    return a->size >= size && a->offset <= INT64_MAX - size &&
           pread(fd, out, size, (off_t)a->offset) == (ssize_t)size;
}

static void tell_records(struct process *one, const struct seg_header *h, int fd)
{
    const struct seg_control *c = &h->control;
    struct seg_trace trace;
    struct seg_order order;
    bool is_traced =
        read_area(fd, &h->areas[SEG_AREA_TRACE], &trace, sizeof trace) && trace.generation;
    bool is_ordered =
        read_area(fd, &h->areas[SEG_AREA_ORDER], &order, sizeof order) && order.wanted;
    const struct {
        const char *name;
        uint64_t word;
    } kinds[] = {{"cpu", c->cpu_period_ns},
                 {"wall", c->wall_period_ns},
                 {"heap", c->heap_off ? 0 : c->heap_rate_bytes},
                 {"block", c->block_rate_ns},
                 {"mutex", c->mutex_fraction},
                 {"order", is_ordered},
                 {"trace", is_traced}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].word)
            n += (size_t)snprintf(one->records + n, sizeof one->records - n, "%s%s", n ? " " : "",
                                  kinds[i].name);
    if (n)
        one->agent = PROCESS_AGENT_RECORDING;
}

// Whether a write lock is on the rings: somebody consumes. Only the header's own words say who. False: it is no segment of
// this process.
static bool read_segment(struct process *one, const char *path)
{
    struct seg_header h;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool is_one = pread(fd, &h, sizeof h, 0) == (ssize_t)sizeof h && h.magic == SEG_MAGIC &&
                  h.version == SEG_VERSION && h.header_bytes == sizeof h;
    if (is_one) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 2};
        tell_records(one, &h, fd);
        if (fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
            one->collector = (uint32_t)h.control.consumer_pid;
    }
    close(fd);
    return is_one;
}

// The path is the process's choice, and to open a device may do something: only what is a file is opened. flags: O_NOFOLLOW,
// but for the links that /proc makes.
static bool read_file(struct process *one, const char *path, int flags)
{
    char again[48];
    struct stat st;
    int fd = open(path, O_PATH | O_CLOEXEC | flags);
    if (fd < 0)
        return false;
    snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
    bool is_read = !fstat(fd, &st) && S_ISREG(st.st_mode) && read_segment(one, again);
    close(fd);
    return is_read;
}

// One that a recorder made and the process has no descriptor of (needs CAP_CHECKPOINT_RESTORE), or a black box: a file that is
// mapped whole, shared and writable.
static void find_mapped(struct process *one)
{
    char path[64], *line = NULL;
    size_t size = 0;
    bool is_found = false;
    snprintf(path, sizeof path, "/proc/%u/maps", one->pid);
    FILE *f = fopen(path, "re");
    while (f && !is_found && getline(&line, &size, f) > 0) {
        char access[5], *file = strchr(line, '/'), there[PATH_MAX + 32];
        unsigned long offset, start, end;
        if (!file || sscanf(line, "%lx-%lx %4s %lx", &start, &end, access, &offset) != 4 ||
            offset || strcmp(access, "rw-s"))
            continue;
        if (!strncmp(file, "/memfd:fiberscope", 17)) {
            snprintf(there, sizeof there, "/proc/%u/map_files/%lx-%lx", one->pid, start, end);
            is_found = read_file(one, there, 0);
            continue;
        }
        if (!strncmp(file, "/memfd:", 7) || !strncmp(file, "/dev/", 5))
            continue;
        file[strcspn(file, "\n")] = '\0';
        int n = snprintf(there, sizeof there, "/proc/%u/root%s", one->pid, file);
        is_found = n > 0 && (size_t)n < sizeof there && read_file(one, there, O_NOFOLLOW);
    }
    free(line);
    if (f)
        fclose(f);
}

static void find_segment(struct process *one)
{
    char path[96], link[64];
    int looked = 0;
    bool is_found = false;
    snprintf(path, sizeof path, "/proc/%u/fd", one->pid);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && looked < DESCRIPTORS_MAX && (e = readdir(dir)); looked++) {
        snprintf(path, sizeof path, "/proc/%u/fd/%.20s", one->pid, e->d_name);
        ssize_t n = readlink(path, link, sizeof link - 1);
        link[n > 0 ? n : 0] = '\0';
        if (strncmp(link, "/memfd:fiberscope", 17))
            continue;
        is_found = read_file(one, path, 0);
        break;
    }
    if (dir)
        closedir(dir);
    if (!is_found)
        find_mapped(one);
}

// --- Sidecars: `fiberscope serve -p PID --listen ADDRESS`, as their command lines say.

static bool is_ours(uint32_t pid)
{
    char path[64], exe[512];
    snprintf(path, sizeof path, "/proc/%u/exe", pid);
    ssize_t n = readlink(path, exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(exe, '/');
    return slash && !strcmp(slash + 1, "fiberscope");
}

static uint32_t child_of(uint32_t pid)
{
    char path[96];
    unsigned child = 0;
    snprintf(path, sizeof path, "/proc/%u/task/%u/children", pid, pid);
    FILE *f = fopen(path, "re");
    if (f && fscanf(f, "%u", &child) != 1)
        child = 0;
    if (f)
        fclose(f);
    return child;
}

// The value of an option, given as two arguments or with a '='; NULL: not given.
static const char *option(char **argv, size_t argc, const char *name, char letter)
{
    for (size_t i = 0; i < argc; i++) {
        const char *a = argv[i], *word = a + strspn(a, "-");
        size_t n = strlen(name);
        bool is_long = word > a && !strncmp(word, name, n) && (!word[n] || word[n] == '=');
        bool is_short = word == a + 1 && word[0] == letter && !word[1];
        if (is_long && word[n] == '=')
            return word + n + 1;
        if ((is_long || is_short) && i + 1 < argc)
            return argv[i + 1];
    }
    return NULL;
}

static void read_sidecar(struct processes *p, uint32_t pid)
{
    char path[64], text[COMMAND_BYTES], *argv[64];
    size_t argc = 0;
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return;
    text[n] = '\0';
    for (char *at = text; at < text + n && argc < 64; at += strlen(at) + 1)
        argv[argc++] = at;
    if (argc < 2 || strcmp(argv[1], "serve"))
        return;
    const char *whom = option(argv, argc, "pid", 'p');
    const char *where = option(argv, argc, "listen", 'l');
    uint32_t target = whom ? (uint32_t)strtoul(whom, NULL, 10) : child_of(pid);
    for (size_t i = 0; i < p->count; i++)
        if (p->list[i].pid == target)
            snprintf(p->list[i].endpoint, sizeof p->list[i].endpoint, "%s",
                     where ? where : "127.0.0.1:6060");
}

static int compare(const void *a, const void *b)
{
    const struct process *x = a, *y = b;
    return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static int look_at(struct processes *p, uint32_t pid)
{
    struct process one = {.pid = pid};
    char path[64];
    struct stat st;
    int rc = read_maps(&one);
    if (rc == -EACCES || rc == -EPERM) {
        snprintf(path, sizeof path, "/proc/%u", pid);
        p->hidden += !stat(path, &st) && st.st_uid != geteuid();
        return 0;
    }
    if (rc || (!one.agent && !one.has_runtime) || !read_status(&one))
        return 0;
    if (one.agent)
        find_segment(&one);
    return add(p, &one);
}

static int each_process(struct processes *p, int (*fn)(struct processes *p, uint32_t pid))
{
    int rc = 0;
    DIR *dir = opendir("/proc");
    if (!dir)
        return -errno;
    for (struct dirent *e; !rc && (e = readdir(dir));) {
        uint32_t pid = (uint32_t)strtoul(e->d_name, NULL, 10);
        if (pid)
            rc = fn(p, pid);
    }
    closedir(dir);
    return rc;
}

static int see_sidecar(struct processes *p, uint32_t pid)
{
    if (is_ours(pid))
        read_sidecar(p, pid);
    return 0;
}

int processes_find(struct processes *out)
{
    *out = (struct processes){0};
    int rc = each_process(out, look_at);
    if (!rc)
        rc = each_process(out, see_sidecar);
    if (rc)
        processes_free(out);
    else if (out->count)
        qsort(out->list, out->count, sizeof *out->list, compare);
    return rc;
}

void processes_free(struct processes *p)
{
    free(p->list);
    *p = (struct processes){0};
}
