// SPDX-License-Identifier: MIT
//
// See call.h.

#include "collector/call.h"

#include "agent/call.h"
#include "agent/inject.h"
#include "collector/inject.h"
#include "collector/loaded.h"
#include "collector/mapped_file.h"
#include "collector/message.h"
#include "collector/perf_target.h"
#include "collector/permission.h"
#include "segment/consumer.h"
#include "symbols/data_symbols.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 3000,
    AGAIN_MS = 50, // until the first further call: signals that meet become one
    AGAIN_MS_MAX = 500,
    BACKLOG = 128,
    THREADS_LOOKED_MAX = 512,
};

// --- Whether there is one.

// A file of the agent's name, and where it is mapped.
struct library {
    char path[4096];
    unsigned long long inode;
    uint64_t map_start, map_end; // of its code
    struct loaded_map maps[LOADED_MAPS_MAX];
    size_t count;
    int fd; // -errno: cannot be had
    struct loaded place;
};

static bool read_line(char *line, struct loaded_map *m, unsigned long long *inode, char **path)
{
    unsigned long long start, end, offset;
    unsigned major, minor;
    char access[5];
    int at = 0;
    line[strcspn(line, "\n")] = '\0';
    if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu %n", &start, &end, access, &offset, &major,
               &minor, inode, &at) < 7 ||
        !at)
        return false;
    *path = line + at;
    *m = (struct loaded_map){start, end, offset, access[2] == 'x'};
    const char *slash = strrchr(*path, '/'), *base = slash ? slash + 1 : "";
    if (strncmp(*path, "/memfd:", 7) == 0) // sent by inject_files.c
        base += 6;
    return strncmp(base, "libfiberscope.so", 16) == 0;
}

// All maps of the file whose code comes first. 0, -ENOENT, -errno.
static int read_library(struct library *out, uint32_t pid)
{
    char path[64], *line = NULL, *name;
    size_t capacity = 0;
    struct loaded_map m;
    unsigned long long inode;
    snprintf(path, sizeof path, "/proc/%u/maps", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? -ESRCH : -errno;
    while (!out->map_end && getline(&line, &capacity, f) > 0)
        if (read_line(line, &m, &inode, &name) && m.is_code) {
            snprintf(out->path, sizeof out->path, "%s", name);
            out->inode = inode;
            out->map_start = m.start;
            out->map_end = m.end;
        }
    rewind(f);
    while (out->map_end && out->count < LOADED_MAPS_MAX && getline(&line, &capacity, f) > 0)
        if (read_line(line, &m, &inode, &name) && inode == out->inode &&
            strcmp(name, out->path) == 0)
            out->maps[out->count++] = m;
    free(line);
    fclose(f);
    return out->map_end ? 0 : -ENOENT;
}

static int find_library(struct library *out, uint32_t pid)
{
    *out = (struct library){.fd = -ENOENT};
    int rc = read_library(out, pid);
    if (rc)
        return rc;
    const struct mapped_file m = {.pid = pid,
                                  .start = out->map_start,
                                  .end = out->map_end,
                                  .path = out->path,
                                  .build_id = ""};
    out->fd = mapped_file_open(&m);
    if (out->fd >= 0 && loaded_find(&out->place, out->maps, out->count, out->fd, pid)) {
        close(out->fd);
        out->fd = -ENOENT;
    }
    return 0;
}

// Where one of its variables lies. 0, -ENOENT: this library has none of that name.
static int find_word(const struct library *l, const char *name, uint64_t *address)
{
    struct data_symbols *d = NULL;
    uint64_t at;
    int rc = l->fd < 0 ? l->fd : data_symbols_open(&d, l->fd, l->path, NULL);
    if (!rc)
        rc = data_symbols_address(d, name, &at);
    data_symbols_close(d);
    if (!rc)
        *address = at + l->place.bias;
    return rc;
}

static bool catches_sigprof(uint32_t pid)
{
    char path[64], line[256];
    unsigned long long mask = 0;
    snprintf(path, sizeof path, "/proc/%u/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "SigCgt: %llx", &mask) == 1)
            break;
    if (f)
        fclose(f);
    return mask >> (SIGPROF - 1) & 1;
}

static bool read_word(uint32_t pid, uint64_t address, uint32_t *word)
{
    struct iovec here = {word, sizeof *word}, there = {(void *)(uintptr_t)address, sizeof *word};
    return process_vm_readv((pid_t)pid, &here, 1, &there, 1, 0) == (ssize_t)sizeof *word;
}

static const char *why_silent(bool is_read, uint32_t version, bool is_injected)
{
    if (!is_read)
        return "its agent does not answer: it is just starting, or the program has taken SIGPROF "
               "from it, or it was taken out of service (`fiberscope attach` brings it back)";
    if (version == CALL_VERSION)
        return "its agent does not answer: the program has taken SIGPROF from it";
    if (version)
        return "its agent is of another version: restart it with the library that goes with this "
               "fiberscope";
    return is_injected ? "its agent was taken out of service: `fiberscope attach` brings it back"
                       : "its agent does not answer: it is just starting";
}

static int look_at(struct call *c, const struct library *l, int rc, struct fscope_error *err)
{
    uint32_t pid = c->pid;
    uint64_t address;
    uint32_t version = 0, injected = 0;
    if (rc == -ENOENT)
        return error_set(err, rc, 0,
                         "process %u has no agent: it was not started with libfiberscope.so (by "
                         "LD_PRELOAD, or by linking it)",
                         pid);
    if (rc == -EACCES || rc == -EPERM) {
        char why[256];
        permission_explain(pid, PERMISSION_READ, why, sizeof why);
        return error_set(err, rc, 0, "process %u: its mappings may not be read: %s", pid, why);
    }
    if (rc)
        return error_set(err, rc, 0, "process %u: %s", pid, strerror(-rc));
    rc = find_word(l, CALL_SYMBOL, &address);
    if (rc)
        return error_set(
            err, -EOPNOTSUPP, 0,
            "process %u: its %s is of another version, which answers no calls: restart "
            "it with the library that goes with this fiberscope",
            pid, l->path);
    // Where memory may not be read (ptrace_scope) the signal's disposition has to do.
    bool is_read = read_word(pid, address, &version);
    if (!find_word(l, INJECT_WORD, &address) && read_word(pid, address, &injected))
        c->is_injected = injected != 0;
    if ((is_read && version != CALL_VERSION) || !catches_sigprof(pid))
        return error_set(err, -EOPNOTSUPP, 0, "process %u: %s", pid,
                         why_silent(is_read, version, c->is_injected));
    return 0;
}

static int look(struct call *c, struct fscope_error *err)
{
    struct library *l = malloc(sizeof *l);
    if (!l)
        return error_set(err, -ENOMEM, 0, "out of memory");
    int rc = look_at(c, l, find_library(l, c->pid), err);
    if (l->fd >= 0)
        close(l->fd);
    free(l);
    return rc;
}

int call_open(struct call *out, uint32_t pid, struct fscope_error *err)
{
    struct perf_target who;
    uint64_t random;
    *out = (struct call){.pid = pid, .pidfd = -1, .listen_fd = -1};
    out->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    int rc = perf_target_look(&who, pid, err);
    if (!rc && out->pidfd < 0)
        rc = error_set(err, -errno, 0, "process %u: %s", pid, strerror(errno));
    if (!rc)
        rc = look(out, err);
    if (!rc && getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        rc = error_set(err, -errno, 0, "getrandom: %s", strerror(errno));
    if (rc) {
        call_close(out);
        return rc;
    }
    out->value = CALL_MAGIC << 48 | (random & CALL_RANDOM_MASK);
    return 0;
}

void call_close(struct call *c)
{
    if (c->pid && c->pidfd >= 0)
        close(c->pidfd);
    if (c->pid && c->listen_fd >= 0)
        close(c->listen_fd);
    c->pidfd = c->listen_fd = -1;
}

// --- The socket.

static int make_socket(const struct call *c)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char name[CALL_SOCKET_BYTES];
    call_socket_name(c->value, name);
    size_t n = strlen(name);
    memcpy(at.sun_path + 1, name, n);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)&at,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)) ||
        listen(fd, BACKLOG)) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

struct elsewhere {
    const struct call *call;
    int netns, result;
    bool entered;
};

// A namespace is a thread's: this one enters it, makes the socket and goes.
static void *make_there(void *arg)
{
    struct elsewhere *e = arg;
    e->entered = setns(e->netns, CLONE_NEWNET) == 0;
    e->result = e->entered ? make_socket(e->call) : -errno;
    return NULL;
}

static bool is_other_namespace(uint32_t pid, int *netns)
{
    char path[64];
    struct stat theirs, ours;
    snprintf(path, sizeof path, "/proc/%u/ns/net", pid);
    *netns = -1;
    if (stat(path, &theirs) || stat("/proc/self/ns/net", &ours) || theirs.st_ino == ours.st_ino)
        return false;
    *netns = open(path, O_RDONLY | O_CLOEXEC);
    return true;
}

int call_listen(struct call *c, struct fscope_error *err)
{
    struct elsewhere e = {.call = c, .result = -EPERM};
    pthread_t thread;
    if (c->listen_fd >= 0)
        return 0;
    if (!is_other_namespace(c->pid, &e.netns)) {
        c->listen_fd = make_socket(c);
        return c->listen_fd >= 0
                   ? 0
                   : error_set(err, c->listen_fd, 0, "a socket: %s", strerror(-c->listen_fd));
    }
    if (e.netns >= 0 && !pthread_create(&thread, NULL, make_there, &e))
        pthread_join(thread, NULL);
    if (e.netns >= 0)
        close(e.netns);
    if (e.result < 0)
        return error_set(err, e.result, 0,
                         "process %u is in another network namespace, which we may not enter (%s): "
                         "run as root (CAP_SYS_ADMIN), inside its container, or in one that shares "
                         "its network",
                         c->pid, strerror(-e.result));
    c->listen_fd = e.result;
    return 0;
}

// --- Calling.

// Waits that a signal would end, whoever looks: nobody is called in them.
static bool is_fragile(unsigned long number)
{
    return number == SYS_pause || number == SYS_rt_sigsuspend || number == SYS_rt_sigtimedwait ||
           number == SYS_semtimedop || number == SYS_semop || number == SYS_msgrcv ||
           number == SYS_io_getevents;
}

// Waits that go on by themselves after a handler (SA_RESTART), and those that the agent makes go on: by_hooks.
static bool restarts(unsigned long number, const unsigned long arg[4], bool by_hooks)
{
    switch (number) {
    case SYS_futex: return (arg[1] & 127) != 1 && !arg[3]; // no timeout
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_accept:
    case SYS_accept4:
    case SYS_wait4:
    case SYS_waitid: return true;
    case SYS_poll:
    case SYS_ppoll:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_nanosleep:
    case SYS_clock_nanosleep: return by_hooks;
    default: return false;
    }
}

// How little a signal would disturb this thread: 3 it runs, 2 its wait goes on, 1 unknown, 0 it blocks SIGPROF or its wait
// would end.
static int rate_thread(uint32_t pid, uint32_t tid, bool by_hooks)
{
    char path[96], line[256], state = '?';
    unsigned long long blocked = 0;
    snprintf(path, sizeof path, "/proc/%u/task/%u/status", pid, tid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "State: %c", &state) != 1 && sscanf(line, "SigBlk: %llx", &blocked) == 1)
            break;
    if (f)
        fclose(f);
    if (!f || blocked >> (SIGPROF - 1) & 1)
        return 0;
    if (state == 'R') // one that came back from being borrowed is about to wait by no hook
        return by_hooks ? 3 : 0;
    snprintf(path, sizeof path, "/proc/%u/task/%u/syscall", pid, tid);
    f = fopen(path, "re");
    unsigned long number, arg[4];
    bool is_known =
        f && fscanf(f, "%lu %lx %lx %lx %lx", &number, &arg[0], &arg[1], &arg[2], &arg[3]) == 5;
    if (f)
        fclose(f);
    if (is_known && is_fragile(number))
        return 0;
    return is_known && restarts(number, arg, by_hooks) ? 2 : by_hooks;
}

// 0: none takes it.
static uint32_t choose_thread(const struct call *c)
{
    uint32_t pid = c->pid;
    char path[64];
    uint32_t best = 0;
    int best_rate = 0, looked = 0;
    snprintf(path, sizeof path, "/proc/%u/task", pid);
    DIR *dir = opendir(path);
    for (struct dirent *e;
         dir && best_rate < 3 && looked < THREADS_LOOKED_MAX && (e = readdir(dir));) {
        uint32_t tid = (uint32_t)strtoul(e->d_name, NULL, 10);
        int rate = tid ? rate_thread(pid, tid, !c->is_injected) : 0;
        looked++;
        if (rate > best_rate) {
            best_rate = rate;
            best = tid;
        }
    }
    if (dir)
        closedir(dir);
    return best;
}

int call_send(const struct call *c, unsigned flags)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGPROF;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    uint64_t value = c->value | (uint64_t)flags << CALL_RANDOM_BITS;
    memcpy(&info.si_value, &value, sizeof value);
    if (!catches_sigprof(c->pid)) // an exec, or its end
        return -ESRCH;
    struct pollfd ended = {.fd = c->pidfd, .events = POLLIN};
    uint32_t tid = choose_thread(c);
    if (poll(&ended, 1, 0) > 0)
        return -ESRCH;
    if (!tid && c->is_injected) {
        int rc = inject_call(c->pid, value, NULL);
        return rc == -EAGAIN || rc == -ETIMEDOUT || rc == -EBUSY ? 0 : rc; // it is called again
    }
    if (!tid) // to the process it would stay pending, for whoever waits for signals
        return 0;
    if (!syscall(SYS_rt_tgsigqueueinfo, c->pid, tid, SIGPROF, &info))
        return 0;
    // The thread may have ended since it was chosen, and the process live on: it is called again.
    return errno == ESRCH && poll(&ended, 1, 0) <= 0 ? 0 : -errno;
}

// One message of whoever has connected. True: it is a HELLO of our process.
static bool receive(const struct call *c, int *segment, struct agent_hello *hello)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    *segment = -1;
    int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return false;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    ssize_t n = -1;
    if (poll(&ready, 1, AGAIN_MS) == 1)
        n = message_receive(fd, hello, sizeof *hello, segment);
    bool is_his =
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (uint32_t)peer.pid == c->pid;
    close(fd);
    bool is_hello = n >= (ssize_t)sizeof *hello && hello->header.magic == AGENT_PROTOCOL_MAGIC &&
                    hello->header.message == AGENT_HELLO && is_his;
    if (!is_hello && *segment >= 0) {
        close(*segment);
        *segment = -1;
    }
    return is_hello;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int not_sent(const struct call *c, int rc, struct fscope_error *err)
{
    if (rc == -EPERM)
        return error_set(err, rc, 0,
                         "process %u may not be sent SIGPROF, by which its agent is called: run as "
                         "its user, or with CAP_KILL",
                         c->pid);
    return error_set(err, rc, 0, "process %u: %s", c->pid,
                     rc == -ESRCH ? "it has ended, or executes another program" : strerror(-rc));
}

static int not_answered(const struct call *c, struct fscope_error *err)
{
    struct pollfd ended = {.fd = c->pidfd, .events = POLLIN};
    if (poll(&ended, 1, 0) > 0)
        return error_set(err, -ESRCH, 0, "process %u has ended", c->pid);
    return error_set(err, -ETIMEDOUT, 0,
                     "process %u: its agent has not answered for %d s: all of its threads block "
                     "SIGPROF or wait in what a signal would end, or it is stopped",
                     c->pid, PATIENCE_MS / 1000);
}

int call_fetch(struct call *c, int *segment, struct agent_hello *hello, struct fscope_error *err)
{
    int rc = call_listen(c, err);
    int64_t start = now_ms(), again = start, step = AGAIN_MS;
    *segment = -1;
    while (!rc && now_ms() - start < PATIENCE_MS) {
        if (now_ms() >= again) {
            rc = call_send(c, CALL_HELLO);
            if (rc)
                return not_sent(c, rc, err);
            again = now_ms() + step;
            step = step * 2 < AGAIN_MS_MAX ? step * 2 : AGAIN_MS_MAX;
        }
        struct pollfd fds[2] = {{.fd = c->listen_fd, .events = POLLIN},
                                {.fd = c->pidfd, .events = POLLIN}};
        poll(fds, 2, (int)(again > now_ms() ? again - now_ms() : 0));
        if (fds[0].revents && receive(c, segment, hello)) {
            if (*segment >= 0)
                return 0;
            return error_set(err, -ENODATA, 0, "process %u: %s", c->pid, CALL_NO_SEGMENT);
        }
        if (fds[1].revents)
            break;
    }
    return rc ? rc : not_answered(c, err);
}

static void write_wish(struct seg_control *c, const struct call_wish *w, uint32_t off)
{
    const struct {
        _Atomic uint64_t *word;
        uint64_t value;
    } words[] = {{&c->asked_heap_bytes, w->heap_bytes},
                 {&c->asked_block_ns, w->block_ns},
                 {&c->asked_mutex_fraction, w->mutex_fraction},
                 {&c->asked_cpu_period_ns, w->cpu_period_ns},
                 {&c->asked_wall_period_ns, w->wall_period_ns}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        atomic_store_explicit(words[i].word, words[i].value, memory_order_relaxed);
    atomic_store_explicit(&c->asked_cpu_source, w->cpu_source, memory_order_relaxed);
    atomic_store_explicit(&c->asked_cpu_flags, w->cpu_flags, memory_order_relaxed);
    atomic_store_explicit(&c->asked_off, off, memory_order_relaxed);
    atomic_store_explicit(&c->asked_what, w->what, memory_order_relaxed);
}

static void unwrite_wish(struct seg_control *c)
{
    atomic_store_explicit(&c->asked_off, 0, memory_order_relaxed);
    atomic_store_explicit(&c->asked_what, 0, memory_order_release);
}

// It has been written.
static int ask(const struct call *c, struct seg_control *control, struct fscope_error *err)
{
    int64_t start = now_ms(), again = start, step = AGAIN_MS;
    // release: who sees the number sees the wish
    uint32_t number = atomic_fetch_add_explicit(&control->asked, 1, memory_order_release) + 1;
    while (now_ms() - start < PATIENCE_MS) {
        if (atomic_load_explicit(&control->answered, memory_order_acquire) == number)
            return atomic_load_explicit(&control->answer, memory_order_relaxed);
        if (now_ms() >= again) {
            int rc = call_send(c, 0);
            if (rc)
                return not_sent(c, rc, err);
            again = now_ms() + step;
            step = step * 2 < AGAIN_MS_MAX ? step * 2 : AGAIN_MS_MAX;
        }
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    // Nobody waits for it any more: a call that comes late finds nothing to do.
    unwrite_wish(control);
    return not_answered(c, err);
}

int call_ask(const struct call *c, struct seg_reader *reader, const struct call_wish *wish,
             struct fscope_error *err)
{
    struct seg_control *control = seg_reader_control(reader);
    if (!control)
        return error_set(err, -EINVAL, 0, "process %u: not a live segment", c->pid);
    int rc = seg_reader_lock_wishes(reader, true);
    if (rc)
        return error_set(err, rc, 0, "segment: cannot lock it: %s", strerror(-rc));
    seg_reader_let_go(reader, wish->let_go);
    // Before ours: what a killed one has left goes off, and comes on again as we want it.
    uint32_t off = seg_reader_unheld(reader);
    rc = seg_reader_hold(reader, wish->hold);
    if (rc)
        error_set(err, rc, 0, "segment: cannot lock it: %s", strerror(-rc));
    if (!rc) {
        write_wish(control, wish, off);
        rc = ask(c, control, err);
    }
    // What it has not switched on, or is the program's own, stays on or off without us.
    uint32_t held = atomic_load_explicit(&control->held, memory_order_relaxed);
    seg_reader_let_go(reader, wish->hold & ~held);
    seg_reader_lock_wishes(reader, false);
    return rc;
}
