// SPDX-License-Identifier: MIT
//
// Starting and stopping: the constructor that reads FIBERSCOPE, the beginning of an address space's
// recording (at start, or in a forked child at its first signal), and its end.

#include "agent/agent.h"
#include "agent/futex.h"

#include "agent/api.h"
#include "agent/arch/x86_64.h"
#include "agent/call.h"
#include "agent/capture.h"
#include "agent/fibers.h"
#include "agent/custom.h"
#include "agent/fork.h"
#include "emit/emit.h"
#include "fiberscope/profile.h"
#include "agent/heap.h"
#include "agent/held.h"
#include "agent/hooks_got.h"
#include "agent/protocol.h"
#include "agent/say.h"
#include "agent/trace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct agent agent = {.segment_fd = -1, .keeper = -1};

enum { DESCRIPTOR_FLOOR = 512 };

bool agent_owns(void)
{
    return agent_live() && (uint32_t)sys0(SYS_getpid) == agent.space->pid;
}

static int begin_child(bool waits);

bool agent_here(void)
{
    return agent_live() || (agent.configured && agent.is_child && !begin_child(false));
}

bool agent_here_answered(void)
{
    return agent_live() || (agent.configured && agent.is_child && !begin_child(true));
}

// Destructors of other keys may allocate after ours: it comes round again, up to the last round that
// libc gives.
static void on_thread_exit(void *value)
{
    struct agent_slot *s = agent_tls.slot;
    if (!agent_live())
        return;
    if (s && s == value && ++s->exit_rounds < PTHREAD_DESTRUCTOR_ITERATIONS &&
        !pthread_setspecific(agent.key, s))
        return;
    slot_leave();
}

static void on_quick_exit(void)
{
    if (agent_owns())
        agent_leave();
}

static int map_space(void)
{
    size_t size = (sizeof(struct agent_space) + 4095) & ~(size_t)4095;
    long at = sys6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                   (uint64_t)-1, 0);
    if (at < 0 && at > -4096)
        return (int)at;
    sys3(SYS_madvise, at, size, MADV_WIPEONFORK);
    agent.space = (struct agent_space *)at;
    return slot_map(&agent);
}

// In the child of a fork: no HELLO, no segment yet. A timer on this thread brings the first signal,
// if the child ever uses CPU time worth a sample; one that execs at once pays two system calls.
static void on_fork_child(void)
{
    uint32_t was_alive = agent.configured;
    agent.parent = (pid_t)sys0(SYS_getppid);
    agent.is_child = true;
    agent.forks++;
    agent.pid = (uint32_t)sys0(SYS_getpid);
    trace_fork_child();
    emit_forget();
    agent_tls.labels = 0; // an id of the parent's segment
    if (agent_segment_fd() >= 0)
        sys1(SYS_close, SYS_ARG(agent.segment_fd));
    agent.segment_fd = -1;
    atomic_store_explicit(&agent.api_lock, 0, memory_order_relaxed);
    custom_fork_child();
    hooks_got_fork_child();
    if (!agent.env.inherit)
        agent.configured = false;
    held_fork_child();
    heap_fork_child();
    if (agent.space && was_alive && !fork_child())
        agent_forget_parent();
}

void agent_forget_parent(void)
{
    // Wiped already, unless the kernel is older than that, or another thread was forking within a hook.
    if (agent_live())
        fork_ghost_ends();
    agent.is_ghost = false;
    agent_tls.slot = NULL;
    atomic_store_explicit(&agent.space->alive, 0, memory_order_relaxed);
    atomic_store_explicit(&agent.space->beginning, 0, memory_order_relaxed);
    atomic_store_explicit(&agent.space->slots_used, 0, memory_order_relaxed);
    atomic_store_explicit(&agent.space->modules_used, 0, memory_order_relaxed);
    atomic_store_explicit(&agent.space->modules_lock, 0, memory_order_relaxed);
    if (fibers_exist()) // else they are zero, and stay untouched
        fibers_forget_labels();
    if (agent.env.inherit)
        source_arm_first(agent.child_period_ns || !trace_is_due() ? agent.child_period_ns
                                                                  : TRACE_CHILD_PERIOD_NS);
}

static void find_main_stack(void)
{
    extern void *__libc_stack_end; // of ld.so: where the kernel put argc
    struct rlimit limit;
    uint64_t size = UINT64_C(8) << 20;
    if (!sys2(SYS_getrlimit, RLIMIT_STACK, &limit) && limit.rlim_cur != RLIM_INFINITY)
        size = limit.rlim_cur;
    agent.main_stack_high = (uint64_t)__libc_stack_end + 64;
    agent.main_stack_low = agent.main_stack_high > size ? agent.main_stack_high - size : 0;
    agent.thread_stack_bytes = size;
}

static void find_program(void)
{
    char path[4096];
    long n = sys3(SYS_readlink, "/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t size = strlen(base);
    if (size >= sizeof agent.program)
        size = sizeof agent.program - 1;
    memcpy(agent.program, base, size);
}

int agent_prepare(void)
{
    if (agent.space)
        return 0;
    struct timespec tick = {0, 4000000};
    agent_real();
    agent.pid = (uint32_t)sys0(SYS_getpid);
    find_main_stack();
    find_program();
    // The coarse clock advances once a tick: CONFIG_HZ, which nothing else tells.
    clock_getres(CLOCK_REALTIME_COARSE, &tick);
    agent.tick_ns = tick.tv_nsec > 0 ? (uint64_t)tick.tv_nsec : 4000000;
    int rc = unwind_init();
    if (!rc)
        rc = map_space();
    if (rc)
        return rc;
    agent.has_key = !pthread_key_create(&agent.key, on_thread_exit);
    pthread_atfork(fork_prepare, fork_parent, on_fork_child);
    at_quick_exit(on_quick_exit);
    return sample_install();
}

// Creates the segment where the settings want it. A name that is taken becomes NAME.PID.
static int create_segment(struct agent_space *space)
{
    char path[AGENT_PATH_BYTES];
    struct seg_options options = {.size = sizeof options,
                                  .parent = agent.is_child ? (uint32_t)agent.parent : 0};
    int rc = 0;
    if (agent.env.heap_bytes == 1) {
        options.sites = 1;
        if (!agent.env.segment[0]) { // sparse: costs what is used
            options.state = options.stacks = AGENT_EXACT_STATES;
            options.stack_arena_bytes = AGENT_EXACT_STACK_BYTES;
        }
    }
    options.is_trace_spare = !agent.env.trace_on;
    // Sparse, too: a trace may be asked for later. A black box has blocks for all that it may hold.
    if (agent.env.trace_on || !agent.env.segment[0])
        options.trace_buffers = (uint32_t)(agent.env.trace_bytes / AGENT_TRACE_BUFFER_BYTES);
    options.order = agent.env.order || !agent.env.segment[0];
    if (agent.env.segment[0]) {
        rc = agent_env_expand(path, sizeof path - 12, agent.env.segment, space->pid, agent.program);
        options.path = path;
    }
    if (!rc)
        rc = seg_create(&space->seg, &options);
    if (rc == -EEXIST && options.path) {
        static const char digits[] = "0123456789";
        char suffix[12], *p = suffix + sizeof suffix;
        *--p = '\0';
        for (uint32_t n = space->pid; n; n /= 10)
            *--p = digits[n % 10];
        *--p = '.';
        memcpy(path + strlen(path), p, strlen(p) + 1);
        rc = seg_create(&space->seg, &options);
    }
    return rc;
}

void agent_keep_segment(int fd)
{
    struct stat st = {0};
    if (!sys2(SYS_fstat, SYS_ARG(fd), &st)) {
        struct rlimit limit = {.rlim_cur = DESCRIPTOR_FLOOR};
        sys2(SYS_getrlimit, RLIMIT_NOFILE, &limit);
        uint64_t floor = limit.rlim_cur > DESCRIPTOR_FLOOR ? DESCRIPTOR_FLOOR : limit.rlim_cur / 2;
        agent.segment_fd = (int)sys3(SYS_fcntl, SYS_ARG(fd), F_DUPFD_CLOEXEC, floor);
        agent.segment_device = st.st_dev;
        agent.segment_inode = st.st_ino;
    }
    sys1(SYS_close, SYS_ARG(fd));
}

// Went to the collector that started us by message, it is dropped: none stays in the target, where close loops and dup2
// would meet it. Else it waits for a call.
static void keep_descriptor(struct agent_space *space)
{
    int fd = space->seg.fd;
    space->seg.fd = -1;
    agent.segment_fd = -1;
    if (fd >= 0 && (!space->told || agent.is_socket_called) && !agent.env.segment[0])
        agent_keep_segment(fd);
    else if (fd >= 0)
        sys1(SYS_close, SYS_ARG(fd));
    // A child must not see its parent's segment: what it wrote there would be the parent's.
    sys3(SYS_madvise, space->seg.header, space->seg.bytes, MADV_DONTFORK);
}

// What is counted rather than sampled in time is the environment's to say.
static void set_states(struct seg_control *c)
{
    atomic_store_explicit(&c->heap_rate_bytes, agent.env.heap_bytes, memory_order_relaxed);
    atomic_store_explicit(&c->heap_off, heap.is_stopped,
                          memory_order_relaxed); // of a forked child's parent
    atomic_store_explicit(&c->block_rate_ns, agent.env.block_ns, memory_order_relaxed);
    atomic_store_explicit(&c->mutex_fraction, agent.env.mutex_fraction, memory_order_relaxed);
}

int agent_segment_fd(void)
{
    struct stat st;
    if (agent.env.segment[0]) // a black box lies where it can be opened
        return -1;
    bool is_ours = agent.segment_fd >= 0 && !sys2(SYS_fstat, SYS_ARG(agent.segment_fd), &st) &&
                   st.st_ino == agent.segment_inode && st.st_dev == agent.segment_device;
    return is_ours ? agent.segment_fd : -1;
}

// --- A forked child that finds the collector's backlog full tries again, at its next occasions: after 1 ms, 2, 4 and so on,
// 4 s in all. It waits for none of them but the first.

enum { HELLO_TRIES = 12 };

static uint64_t clock_ns(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static bool is_hello_due(const struct agent_space *space)
{
    uint64_t again = atomic_load_explicit(&space->hello_again_ns, memory_order_relaxed);
    return !again || clock_ns() >= again;
}

// False: it was the last time.
static bool try_hello_later(struct agent_space *space)
{
    uint32_t n = atomic_fetch_add_explicit(&space->hello_tries, 1, memory_order_relaxed);
    if (n >= HELLO_TRIES)
        return false;
    atomic_store_explicit(&space->hello_again_ns, clock_ns() + (UINT64_C(1000000) << n),
                          memory_order_relaxed);
    return true;
}

// Nobody will ever read it.
static void give_up_segment(struct agent_space *space, uint32_t why, int rc)
{
    bool is_later = rc == -EAGAIN && why == AGENT_WHY_FORK && try_hello_later(space);
    seg_close(&space->seg);
    if (!is_later)
        source_disarm_first();
    // release: who begins next sees the segment closed
    atomic_store_explicit(&space->beginning, is_later ? 0 : AGENT_FAILED, memory_order_release);
}

// waits: for the collector's answer.
static int begin(uint32_t why, bool in_handler, bool waits)
{
    struct agent_space *space = agent.space;
    uint32_t no = 0;
    if (why == AGENT_WHY_FORK && !is_hello_due(space))
        return -EAGAIN;
    if (!atomic_compare_exchange_strong_explicit(&space->beginning, &no, 1, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return -EBUSY;
    space->pid = (uint32_t)sys0(SYS_getpid);
    space->seg.fd = -1;
    int rc = create_segment(space);
    if (rc) {
        atomic_store_explicit(&space->beginning, AGENT_FAILED, memory_order_relaxed);
        return rc;
    }
    if (agent.env.socket[0] && why != AGENT_WHY_CALL) {
        // The answer says that the control words are set; without one the target goes on alone.
        rc = hello_send(&agent, why, waits, (uint32_t)sys0(SYS_gettid));
        if (rc == -ETIMEDOUT && why == AGENT_WHY_FORK) { // it finds the message when it goes on
            waits = false;
            rc = 0;
        }
        space->told = !rc;
        if (rc && !agent.env.out[0] && !agent.env.segment[0]) {
            give_up_segment(space, why, rc);
            return rc;
        }
    }
    struct seg_control *c = &space->seg.header->control;
    set_states(c);
    lock_order_want(agent.env.order);
    held_add(agent.held); // a child's: of its parent's collector, which follows
    heap_begin();
    bool answered = agent.env.socket[0] && !rc && waits;
    if (!answered)
        source_choose(&agent, why != AGENT_WHY_FORK);
    else if (atomic_load_explicit(&c->cpu_source, memory_order_relaxed) == SEG_CPU_NONE)
        source_choose(&agent, true);
    agent.child_period_ns = atomic_load_explicit(&c->cpu_period_ns, memory_order_relaxed);
    keep_descriptor(space);
    modules_scan_all();
    atomic_store_explicit(&space->running, 1, memory_order_relaxed);
    lock_update();
    // release: pairs with the acquire in agent_live
    atomic_store_explicit(&space->alive, 1, memory_order_release);
    held_watch(false);
    if (in_handler) {
        struct agent_slot *s = slot_self();
        source_disarm_first();
        if (s)
            source_arm(s);
        if (why == AGENT_WHY_FORK)
            trace_begin_child();
    } else {
        agent_arm_all();
        if (agent.env.trace_on)
            trace_begin(agent.env.trace_flight, 0);
        // Last: a thread that finds nothing recorded does not look again for a while.
        if (hooks_came_late || agent.env.got)
            hooks_got_begin();
    }
    return 0;
}

int agent_begin(uint32_t why, bool in_handler)
{
    return begin(why, in_handler, !in_handler);
}

// A forked child's own segment is made here, where nothing can be cancelled.
static int begin_child(bool waits)
{
    int state;
    if (!agent.configured)
        return -ENOENT;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    int rc = begin(AGENT_WHY_FORK, true, waits);
    pthread_setcancelstate(state, NULL);
    return rc;
}

int agent_begin_child(void)
{
    return begin_child(false);
}

// Calls fn for each thread of this process. getdents by hand: opendir allocates.
static int each_thread(int (*fn)(uint32_t tid))
{
    int rc = 0;
    char buffer[4096] __attribute__((aligned(8)));
    int fd =
        (int)sys4(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return fn((uint32_t)sys0(SYS_gettid));
    for (;;) {
        long n = sys3(SYS_getdents64, fd, buffer, sizeof buffer);
        if (n <= 0)
            break;
        for (long at = 0; at < n;) {
            const struct dirent64 *d = (const struct dirent64 *)(const void *)(buffer + at);
            uint32_t tid = 0;
            for (const char *p = d->d_name; *p >= '0' && *p <= '9'; p++)
                tid = tid * 10 + (uint32_t)(*p - '0');
            int one = tid ? fn(tid) : 0;
            rc = rc ? rc : one;
            at += d->d_reclen;
        }
    }
    sys1(SYS_close, fd);
    return rc;
}

static int arm_one(uint32_t tid)
{
    struct agent_slot *s = slot_for(tid);
    int rc = s ? source_arm(s) : 0;
    return rc == -ESRCH || rc == -EINVAL ? 0 : rc; // a thread that has just left
}

int agent_arm_all(void)
{
    return each_thread(arm_one);
}

void agent_disarm_all(void)
{
    uint32_t used = atomic_load_explicit(&agent.space->slots_used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++)
        if (atomic_load_explicit(&slot_at(i)->tid, memory_order_relaxed))
            source_disarm(slot_at(i));
}

void agent_save(void)
{
    struct agent_space *space = agent.space;
    if (atomic_exchange_explicit(&space->saved, 1, memory_order_relaxed))
        return;
    if (agent.env.out[0] && !space->told)
        output_dump(&agent, agent.env.out);
}

void agent_leave(void)
{
    if (agent.configured)
        source_say_rate();
    heap_leave();
    emit_halt();
    agent_save();
    struct seg_control *control = &agent.space->seg.header->control;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    atomic_store_explicit(&control->end_ns,
                          (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
                          memory_order_relaxed);
    atomic_store_explicit(&control->target_exited, 1, memory_order_relaxed);
}

static void complain(void *unused, const char *item, int length, const char *why)
{
    struct say line;
    (void)unused;
    say_bytes(say_text(say_begin(&line), "FIBERSCOPE: "), item, (uint32_t)length);
    say_text(say_text(&line, ": "), why);
    say_end(say_text(&line, "; ignored (keys: docs/agent.md)"));
}

// Takes us out of the environment that children get.
static void strip_environment(void)
{
    unsetenv(AGENT_ENV);
    unsetenv(AGENT_ENV_SEGMENT);
    char *list = getenv("LD_PRELOAD");
    if (!list)
        return;
    char *out = list;
    for (char *p = list; *p;) {
        size_t n = strcspn(p, ": ");
        bool ours = memmem(p, n, "libfiberscope.so", 16) != NULL;
        if (!ours) {
            if (out != list)
                *out++ = ':';
            memmove(out, p, n);
            out += n;
        }
        p += n;
        if (*p)
            p++;
    }
    *out = '\0';
    if (out == list)
        unsetenv("LD_PRELOAD");
}

static void say_failure(int rc)
{
    struct say line;
    say_errno(say_text(say_begin(&line), "cannot record: "), rc);
    say_end(say_text(&line, "; the program runs on without"));
}

// What the settings ask for from the start. False: nothing.
static bool record_from_start(void)
{
    if (!agent_env_wants_anything(&agent.env))
        return false;
    // A line now and then is no recording that wants a file.
    bool is_trace_alone = agent.env.heaptrace_ms && !agent.env.heap_bytes && !agent.env.cpu_hz &&
                          !agent.env.wall_hz && !agent.env.block_ns && !agent.env.mutex_fraction &&
                          !agent.env.order;
    if (agent.env.heaptrace_ms && !agent.env.heap_bytes)
        agent.env.heap_bytes = AGENT_HEAP_BYTES_DEFAULT;
    if (!agent.env.socket[0] && !agent.env.segment[0] && !agent.env.out[0] && !is_trace_alone)
        memcpy(agent.env.out, "%e.%p.fscope", 13);
    struct sigaction was;
    bool is_exec = !signals_real_action(NULL, &was) && was.sa_handler == SIG_IGN;
    int rc = agent_prepare();
    if (!rc) {
        agent.configured = true;
        rc = agent_begin(is_exec ? AGENT_WHY_EXEC : AGENT_WHY_START, false);
    }
    // A collector that is gone is no error of this program: a daemon may outlive its recording.
    if (rc && !agent.env.quiet && !agent.env.socket[0])
        say_failure(rc);
    if (rc)
        agent.configured = false;
    return !rc;
}

// FIBERSCOPE_SERVE. Children and later images serve as well where they have addresses of their own; else the first
// process has the port, and what it executes is served by the same sidecar.
static void serve_from_start(const char *address)
{
    char text[AGENT_PATH_BYTES];
    size_t n = strlen(address);
    if (!n || n >= sizeof text)
        return;
    memcpy(text, address, n + 1);
    if (!strstr(text, "%p"))
        unsetenv(AGENT_ENV_SERVE);
    int rc = fscope_serve(text);
    if (!rc || agent.env.quiet)
        return;
    struct say line;
    say_text(say_text(say_begin(&line), AGENT_ENV_SERVE "="), text);
    if (rc == -ENOENT)
        say_text(&line, ": the fiberscope command is neither beside the agent nor in PATH");
    else
        say_errno(say_text(&line, ": cannot be started: "), rc);
    say_end(say_text(&line, "; the program runs on without"));
}

static void load(void)
{
    const char *text = getenv(AGENT_ENV), *segment = getenv(AGENT_ENV_SEGMENT);
    agent_real();
    agent_env_defaults(&agent.env);
    agent_env_parse(&agent.env, text, complain, NULL);
    if (segment && !agent.env.segment[0] && strlen(segment) < sizeof agent.env.segment)
        memcpy(agent.env.segment, segment, strlen(segment) + 1);
    if (!agent.env.inherit)
        strip_environment();
    if (!record_from_start() && !agent.configured && agent_prepare())
        return;
    api_blind(); // a handler could not find it out
    call_ready();
}

void agent_load_locked(void)
{
    if (agent.is_loaded)
        return;
    agent.is_loaded = true;
    load();
}

__attribute__((constructor)) static void agent_load(void)
{
    futex_lock(&agent.api_lock);
    agent_load_locked();
    futex_unlock(&agent.api_lock);
    const char *serve = getenv(AGENT_ENV_SERVE);
    if (serve)
        serve_from_start(serve);
}

__attribute__((destructor)) static void agent_unload(void)
{
    if (agent_owns())
        agent_leave();
}
