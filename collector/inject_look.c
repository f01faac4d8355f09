// SPDX-License-Identifier: MIT
//
// Whether the agent can be put into a process, told before it is touched, and where things lie in it.

#include "collector/inject_internal.h"

#include "agent/call.h"
#include "collector/launch.h"
#include "collector/perf_target.h"
#include "collector/target_internal.h"
#include "symbols/functions.h"
#include "symbols/symbols.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FROM_OUTSIDE "CPU time can be had from outside: record, top or serve with --method=perf"

// --- What /proc/PID/status says.

struct status {
    char state;
    unsigned tracer, seccomp;
    bool has_shadow_stack;
};

static void read_status(uint32_t pid, struct status *out)
{
    char path[64], line[512];
    *out = (struct status){0};
    snprintf(path, sizeof path, "/proc/%u/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "State: %c", &out->state);
        sscanf(line, "TracerPid: %u", &out->tracer);
        sscanf(line, "Seccomp: %u", &out->seccomp);
        if (strncmp(line, "x86_Thread_features:", 20) == 0)
            out->has_shadow_stack = strstr(line, "shstk") != NULL;
    }
    if (f)
        fclose(f);
}

static int refuse_by_status(const struct inject_options *o, struct fscope_error *err)
{
    struct status s;
    uint32_t pid = o->pid;
    read_status(pid, &s);
    if (s.tracer)
        return error_set(
            err, -EBUSY, 0,
            "process %u is traced by process %u (a debugger, strace?), and can have one "
            "tracer only: end that first",
            pid, s.tracer);
    if (s.state == 'T')
        return error_set(err, -EBUSY, 0, "process %u is stopped: `kill -CONT %u` first", pid, pid);
    if (s.seccomp == 1)
        return error_set(
            err, -EOPNOTSUPP, 0,
            "process %u is in strict seccomp mode, which kills it for any system call but "
            "read and write, and so for all that an agent does; " FROM_OUTSIDE,
            pid);
    if (s.seccomp == 2 && !o->with_seccomp)
        return error_set(
            err, -EOPNOTSUPP, 0,
            "process %u has a seccomp filter, which might kill it for loading a library "
            "(openat, mmap, mprotect, memfd_create, ftruncate, rt_sigaction): if the filter allows "
            "these, as Docker's does, say so with `fiberscope attach --seccomp -p %u`; "
            "else start it with the agent",
            pid, pid);
    if (s.has_shadow_stack)
        return error_set(err, -EOPNOTSUPP, 0,
                         "process %u has a shadow stack, on which no return can be prepared from "
                         "outside: start it with the agent",
                         pid);
    return 0;
}

// --- Files and what they define.

static const char *base_of(const char *path)
{
    static const char memory[] = "/memfd:"; // as inject_files.c sends them
    const char *slash = strrchr(path, '/');
    if (strncmp(path, memory, sizeof memory - 1) == 0)
        return path + sizeof memory - 1;
    return slash ? slash + 1 : path;
}

static bool is_libc(const char *base)
{
    return strcmp(base, "libc.so.6") == 0 || strncmp(base, "libc-2.", 7) == 0;
}

static bool is_loader(const char *base)
{
    return strncmp(base, "ld-linux", 8) == 0 || strncmp(base, "ld-2.", 5) == 0 ||
           strcmp(base, "ld.so") == 0;
}

// Loader and libc are one file: in Alpine ld-musl-x86_64.so.1, in Debian x86_64-linux-musl/libc.so. (A libc.so of glibc's
// is a linker's script, which nobody maps.)
static bool is_musl(const char *path, const char *base)
{
    return strncmp(base, "ld-musl", 7) == 0 || strncmp(base, "libc.musl", 9) == 0 ||
           (strcmp(base, "libc.so") == 0 && strstr(path, "musl"));
}

static int add_range(struct inject_ranges *to, uint64_t start, uint64_t end)
{
    if (to->count == INJECT_RANGES_MAX)
        return -E2BIG;
    to->at[to->count++] = (struct inject_range){start, end};
    return 0;
}

// Code of a file that is loaded once more (dlmopen), or lies there as nobody knows.
static int close_others(struct inject_ranges *to, const struct target *t,
                        const struct target_file *file, const struct inject_range *known)
{
    int rc = 0;
    for (size_t i = 0; i < t->map_count && !rc; i++) {
        const struct target_map *m = &t->maps[i];
        if (m->file == file && m->is_code && (m->end <= known->start || m->start >= known->end))
            rc = add_range(to, m->start, m->end);
    }
    return rc;
}

struct libc {
    struct functions *functions;
    uint64_t bias;
};

// What is to be in memory where a thread will be sent: as much of the file's code as is compared.
static int expect(struct inject_places *p, const struct functions *f, uint64_t address,
                  uint64_t bias)
{
    struct inject_expected *e = &p->expected[p->expected_count];
    if (p->expected_count == INJECT_EXPECTED_MAX)
        return -E2BIG;
    int rc = functions_read(f, address, e->bytes, sizeof e->bytes);
    if (!rc) {
        e->address = address + bias;
        p->expected_count++;
    }
    return rc;
}

// Of glibc 2.35; in the dynamic linker or in libc.
static bool has_find_object(const struct functions *f)
{
    uint64_t address;
    return !functions_find(f, "_dl_find_object", &address, NULL);
}

// Waits that hold nothing of libc's, and functions that call back with nothing held.
static const char *const wait_names[] = {
    "poll",
    "ppoll",
    "__poll",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "select",
    "pselect",
    "nanosleep",
    "clock_nanosleep",
    "usleep",
    "sleep",
    "read",
    "recv",
    "recvfrom",
    "recvmsg",
    "accept",
    "accept4",
    "wait",
    "wait3",
    "wait4",
    "waitpid",
    "waitid",
    "pause",
    "sigsuspend",
    "sigwait",
    "sigwaitinfo",
    "sigtimedwait",
    "pthread_cond_wait",
    "pthread_cond_timedwait",
    "pthread_cond_clockwait",
    "pthread_mutex_lock",
    "pthread_mutex_timedlock",
    "pthread_rwlock_rdlock",
    "pthread_rwlock_wrlock",
    "sem_wait",
    "sem_timedwait",
    "sem_clockwait",
    "pthread_join",
    "pthread_timedjoin_np",
    "pthread_barrier_wait",
    "syscall",
    "flock",
    "msgrcv",
    "semop",
    "semtimedop",
};
static const char *const call_names[] = {"qsort", "qsort_r", "bsearch", "pthread_once"};

static int add_functions(struct inject_ranges *to, const struct libc *c, const char *const *names,
                         size_t count)
{
    uint64_t address, size;
    int rc = 0;
    for (size_t i = 0; i < count && !rc; i++)
        if (!functions_find(c->functions, names[i], &address, &size) && size)
            rc = add_range(to, address + c->bias, address + c->bias + size);
    return rc;
}

static int look_at_libc(struct inject_places *p, const struct libc *c, uint32_t pid,
                        struct fscope_error *err)
{
    const struct {
        const char *name;
        uint64_t *at;
    } wanted[] = {
        {"memfd_create", &p->memfd_create},
        {"close", &p->close},
        {"mmap", &p->mmap},
        {"mprotect", &p->mprotect},
        {"munmap", &p->munmap},
        {"ftruncate", &p->ftruncate},
        {"dlopen", &p->dlopen},
        {"dlerror", &p->dlerror},
        {"__errno_location", &p->errno_location},
    };
    size_t size;
    const void *restore = inject_restore_code(&size);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (functions_find(c->functions, wanted[i].name, wanted[i].at, NULL))
            return error_set(err, -EOPNOTSUPP, 0,
                             "process %u: its libc has no %s: the agent needs glibc 2.35 or later",
                             pid, wanted[i].name);
        if (expect(p, c->functions, *wanted[i].at, c->bias))
            return error_set(err, -EOPNOTSUPP, 0, "process %u: its libc's %s cannot be read", pid,
                             wanted[i].name);
        *wanted[i].at += c->bias;
    }
    if (functions_find_code(c->functions, restore, size, &p->restore) ||
        expect(p, c->functions, p->restore, c->bias))
        return error_set(
            err, -EOPNOTSUPP, 0,
            "process %u: no return from signals is found in its libc, which is not one "
            "that is known here",
            pid);
    p->restore += c->bias;
    int rc = add_functions(&p->waits, c, wait_names, sizeof wait_names / sizeof *wait_names);
    if (!rc)
        rc = add_functions(&p->calls, c, call_names, sizeof call_names / sizeof *call_names);
    return rc ? error_set(err, rc, 0, "out of room for libc's functions") : 0;
}

// --- One file of the target after the other.

struct look {
    struct inject_places *p;
    const struct target *t;
    const char *program;
    bool is_new_enough, has_musl; // of its glibc
};

static int look_at_agent(struct look *l, const struct functions *f, uint64_t bias,
                         struct fscope_error *err)
{
    l->p->is_inside = true;
    if (functions_find(f, INJECT_SYMBOL, &l->p->entry, NULL) || expect(l->p, f, l->p->entry, bias))
        return error_set(
            err, -EOPNOTSUPP, 0,
            "process %u: the agent in it is of another version: restart it with the one "
            "that goes with this fiberscope",
            l->t->pid);
    l->p->entry += bias;
    return 0;
}

static int look_at_file(struct look *l, struct target_file *file, struct fscope_error *err)
{
    const char *base = base_of(file->path);
    struct functions *f = NULL;
    struct loaded place;
    uint64_t address;
    int rc = 0;
    if (file->fd < 0 || functions_open(&f, file->fd, file->path, NULL) ||
        target_loaded(l->t, file, &place)) {
        functions_close(f);
        l->has_musl |= file->fd < 0 && is_musl(file->path, base);
        return is_libc(base) && !l->p->libc.start
                   ? error_set(err, -EOPNOTSUPP, 0, "process %u: its %s cannot be read", l->t->pid,
                               file->path)
                   : 0;
    }
    const struct inject_range r = {place.start, place.end};
    uint64_t bias = place.bias;
    l->has_musl |= is_musl(file->path, base);
    if (is_loader(base)) {
        l->is_new_enough |= has_find_object(f);
        rc = add_range(&l->p->closed, r.start, r.end);
    } else if (is_libc(base) && l->p->libc.start && !loaded_is_linked(l->t->reader, bias)) {
        rc = add_range(&l->p->closed, r.start, r.end); // another one, of another namespace
    } else if (is_libc(base)) {
        const struct libc c = {f, bias};
        l->p->libc = r;
        l->is_new_enough |= has_find_object(f);
        rc = look_at_libc(l->p, &c, l->t->pid, err);
    } else if (strncmp(base, "libfiberscope.so", 16) == 0) {
        l->p->agent = r;
        rc = look_at_agent(l, f, bias, err);
    } else if (strncmp(base, "libfiberscope-core.so", 21) == 0) {
        l->p->core = r;
    } else if (!functions_find(f, "malloc", &address, NULL)) {
        if (strcmp(file->path, l->program) == 0)
            l->p->has_own_malloc = true;
        else
            rc = add_range(&l->p->closed, r.start, r.end);
    }
    if (!rc && (is_libc(base) || is_loader(base)))
        rc = close_others(&l->p->closed, l->t, file, &r);
    functions_close(f);
    return rc;
}

static int look_at_files(struct look *l, struct fscope_error *err)
{
    int rc = 0;
    for (struct target_file *f = l->t->files; f && !rc; f = f->next) {
        bool has_code = false;
        for (size_t i = 0; i < l->t->map_count; i++)
            has_code |= l->t->maps[i].file == f && l->t->maps[i].is_code;
        if (has_code && f->path[0] == '/')
            rc = look_at_file(l, f, err);
    }
    if (rc)
        return rc;
    if (l->has_musl)
        return error_set(err, -EOPNOTSUPP, 0,
                         "process %u (%s) runs on musl, and the agent needs glibc; " FROM_OUTSIDE,
                         l->t->pid, l->t->name);
    if (!l->p->libc.start)
        return error_set(
            err, -EOPNOTSUPP, 0,
            "process %u (%s) is statically linked, or has no glibc: it cannot load the "
            "agent; " FROM_OUTSIDE,
            l->t->pid, l->t->name);
    if (!l->is_new_enough)
        return error_set(
            err, -EOPNOTSUPP, 0,
            "process %u (%s): its glibc is older than 2.35, which the agent needs; " FROM_OUTSIDE,
            l->t->pid, l->t->name);
    return 0;
}

// --- The agent's library, from the target's side.

static bool is_same_file(const char *a, const char *b)
{
    struct stat x, y;
    if (stat(a, &x) || stat(b, &y))
        return false;
    if (x.st_dev == y.st_dev && x.st_ino == y.st_ino)
        return true;
    char ids[2][2 * 64 + 1] = {"", ""};
    const char *paths[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        int fd = open(paths[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 || symbols_build_id_of_fd(fd, ids[i], sizeof ids[i]) < 0)
            ids[i][0] = '\0';
        if (fd >= 0)
            close(fd);
    }
    return ids[0][0] && strcmp(ids[0], ids[1]) == 0;
}

static int find_agent(struct inject_places *p, const struct inject_options *o,
                      struct fscope_error *err)
{
    char found[PATH_MAX], theirs[PATH_MAX + 64];
    struct functions *f = NULL;
    int rc = 0;
    if (!o->agent_path)
        rc = launch_find_agent(found, sizeof found, err);
    else
        snprintf(found, sizeof found, "%s", o->agent_path);
    if (rc)
        return rc;
    char *real = realpath(found, NULL);
    if (!real || strlen(real) >= sizeof p->path) {
        free(real);
        return error_set(err, -ENOENT, 0, "%s: %s", found, strerror(errno));
    }
    strcpy(p->path, real);
    free(real);
    snprintf(theirs, sizeof theirs, "/proc/%u/root%s", o->pid, p->path);
    p->is_hidden = !is_same_file(p->path, theirs);
    int fd = open(p->path, O_RDONLY | O_CLOEXEC);
    rc = fd < 0 ? -errno : functions_open(&f, fd, p->path, err);
    if (!rc)
        rc = functions_find(f, INJECT_SYMBOL, &p->entry, NULL);
    functions_close(f);
    if (fd >= 0)
        close(fd);
    return rc ? error_set(err, rc, 0, "%s: is not the agent of this fiberscope", p->path) : 0;
}

static void read_program(uint32_t pid, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%u/exe", pid);
    ssize_t n = readlink(path, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
}

// Whether calls are answered: the word that says so.
static void look_at_calls(struct inject_places *p, struct target *t)
{
    uint64_t address;
    uint32_t version = 0;
    if (p->is_inside && !target_find_variable(t, "libfiberscope.so", CALL_SYMBOL, &address))
        target_read(t, address, &version, sizeof version);
    p->is_calling = version == CALL_VERSION;
}

bool inject_has_agent(uint32_t pid)
{
    struct target *t = NULL;
    bool has = false;
    if (target_open_pid(&t, pid, NULL))
        return true; // as far as anybody knows
    for (size_t i = 0; i < t->map_count && !has; i++) {
        const struct target_map *m = &t->maps[i];
        has = m->is_code && m->file && strncmp(base_of(m->file->path), "libfiberscope.so", 16) == 0;
    }
    target_close(t);
    return has;
}

int inject_look(struct inject_places *out, const struct inject_options *o, struct fscope_error *err)
{
    char program[PATH_MAX];
    struct target *t = NULL;
    struct perf_target who;
    *out = (struct inject_places){0};
    int rc = perf_target_look(&who, o->pid, err);
    if (!rc)
        rc = refuse_by_status(o, err);
    if (!rc)
        rc = target_open_pid(&t, o->pid, err);
    if (rc)
        return rc;
    read_program(o->pid, program, sizeof program);
    struct look l = {.p = out, .t = t, .program = program};
    rc = look_at_files(&l, err);
    if (!rc && !out->is_inside)
        rc = find_agent(out, o, err);
    if (!rc)
        look_at_calls(out, t);
    target_close(t);
    return rc;
}
