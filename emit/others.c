// SPDX-License-Identifier: MIT
//
// Plain threads that were there before a session began. A thread tells itself when it first has something to tell; one
// that waits may never have. So who begins a session tells for all threads of the process what they do then, as the
// kernel says it (/proc/self/task/TID/syscall): running, in a system call, or waiting, with the reason that the call
// implies. It is a look at one moment each, in which the thread may just be on its way: it is believed until it speaks.
//
// What always holds
//   - A stream that was told ahead is its thread's from the moment at which that finds it: by its tid, under `naming`,
//     so that no thread has two.
//   - A reason has its place in an event alone. So a thread with a known one is told as running at first, and to block
//     at once; where there are many, which would take a buffer each, they are told as waiting.
//   - In a signal handler nobody is waited for but who holds a stream for one event.

#include "emit/waits.h"
#include "segment/decimal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { THREADS_MAX = 4096, SPINS = 300, TRIES = 1300, BUFFERS_PART = 8 };

enum doing { DOING_RUN, DOING_CALL, DOING_WAIT, DOING_NOTHING };

struct state {
    enum doing doing;
    enum emit_reason reason; // of a wait; EMIT_REASON_UNSPECIFIED: not known
};

static _Atomic uint32_t naming; // somebody looks for a thread's stream, or gives it one
static uint32_t orphans;        // streams that are, within that

// Of a thread that was interrupted by a handler of ours. Two may be at a time, each in its own.
static __thread int own_call __attribute__((tls_model("initial-exec"))) = EMIT_DOING_NOTHING_KNOWN;
static __thread const void *own_context __attribute__((tls_model("initial-exec")));

// By somebody whose signals are blocked, so that it is held for a moment, but for who gets no processor.
static bool lock_names(void)
{
    uint32_t no = 0;
    for (int i = 0; i < TRIES; i++, no = 0) {
        if (atomic_compare_exchange_weak_explicit(&naming, &no, 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
        if (i < SPINS)
            __builtin_ia32_pause();
        else
            emit_pause();
    }
    return false;
}

static void unlock_names(void)
{
    atomic_store_explicit(&naming, 0, memory_order_release);
}

static bool is_its(struct emit_thread *t, uint32_t tid)
{
    return atomic_load_explicit(&t->is_used, memory_order_relaxed) == EMIT_USED && t->tid == tid;
}

static struct emit_thread *find(uint32_t tid)
{
    struct emit_thread *t = emit_plain_of(tid);
    if (t)
        return t;
    t = atomic_load_explicit(&emit.threads, memory_order_acquire);
    while (t && !is_its(t, tid))
        t = t->next;
    return t;
}

// Within `naming`: the stream that is told for that thread, which is its from now on.
static struct emit_thread *find_orphan(uint32_t tid)
{
    struct emit_thread *t =
        orphans ? atomic_load_explicit(&emit.threads, memory_order_acquire) : NULL;
    while (t && (!t->is_orphan || t->tid != tid))
        t = t->next;
    if (!t)
        return NULL;
    t->is_orphan = false;
    orphans--;
    return t;
}

struct emit_thread *emit_others_find(uint32_t tid)
{
    bool is_locked = lock_names();
    struct emit_thread *t = is_locked ? find_orphan(tid) : NULL;
    if (is_locked)
        unlock_names();
    return t;
}

// Within `naming` until its tid is its own: else who begins a session in between finds a thread without a stream.
bool emit_others_begin(struct emit_thread *t, struct emit_thread *before, uint32_t tid)
{
    if (!lock_names())
        return false;
    if (before)
        emit_plain_end(before);
    struct emit_thread *ahead = find_orphan(tid);
    if (ahead)
        emit_plain_end(ahead);
    emit_plain_set_tid(t, tid);
    unlock_names();
    return true;
}

struct emit_thread *emit_others_adopt(uint32_t tid)
{
    if (!lock_names()) // who has it may be about to tell for this very thread: the next event tries again
        return NULL;
    struct emit_thread *t = find_orphan(tid);
    if (!t) {
        t = emit_plain_take(tid);
        if (t)
            emit_plain_name(t);
    }
    unlock_names();
    return t;
}

void emit_others_forget(void)
{
    atomic_store_explicit(&naming, 0, memory_order_relaxed);
    orphans = 0;
}

void emit_others_go_on(struct emit_thread *t, uint64_t ticks)
{
    struct emit_thing g = t->g, p = t->p;
    if (t->g_state == EMIT_G_SYSCALL)
        emit_syscall_end(t, ticks);
    if (t->g_state)
        return;
    if (!emit_waits_woken(t))
        emit_go_unblock(t, ticks, g, EMIT_NO_STACK);
    emit_proc_start(t, ticks, p);
    emit_go_start(t, ticks, g);
}

void emit_self_doing(int call, const void *ucontext)
{
    own_call = call;
    own_context = ucontext;
}

uint32_t emit_count_cpus(void)
{
    uint64_t mask[128];
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    uint32_t n = 0;
    for (long i = 0; i < bytes / (long)sizeof *mask; i++)
        n += (uint32_t)__builtin_popcountll(mask[i]);
    return n ? n : 1;
}

// --- What a thread does.

// System calls that are waits, in the words of the hooks (agent/io_hooks.c, lock_hooks.c).
static struct state state_of_call(long call)
{
    switch (call) {
    case SYS_futex: return (struct state){DOING_WAIT, EMIT_REASON_SYNC};
    case SYS_nanosleep:
    case SYS_clock_nanosleep: return (struct state){DOING_WAIT, EMIT_REASON_SLEEP};
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg: return (struct state){DOING_WAIT, EMIT_REASON_NETWORK};
    case SYS_read:
    case SYS_write:
    case SYS_readv:
    case SYS_writev:
    case SYS_fsync:
    case SYS_fdatasync:
    case SYS_wait4: return (struct state){DOING_CALL, EMIT_REASON_UNSPECIFIED};
    default: return (struct state){DOING_WAIT, EMIT_REASON_UNSPECIFIED};
    }
}

static struct state own_state(void)
{
    if (own_call == EMIT_DOING_RUN)
        return (struct state){DOING_RUN, EMIT_REASON_UNSPECIFIED};
    return state_of_call(own_call == EMIT_DOING_UNKNOWN_CALL ? -1 : own_call);
}

static char *put_text(char *at, const char *text)
{
    while (*text)
        *at++ = *text++;
    return at;
}

// The beginning of /proc/self/task/TID/NAME; its length.
static long read_of(uint32_t tid, const char *name, char text[64])
{
    char path[64];
    *put_text(decimal_put(put_text(path, "/proc/self/task/"), tid), name) = '\0';
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    long n = fd < 0 ? -1 : syscall(SYS_read, fd, text, 63L);
    if (fd >= 0)
        syscall(SYS_close, fd);
    text[n > 0 ? n : 0] = '\0';
    return n;
}

static bool contains(const char *text, const char *part)
{
    for (; *text; text++) {
        size_t i = 0;
        while (part[i] && text[i] == part[i])
            i++;
        if (!part[i])
            return true;
    }
    return false;
}

// A call that was interrupted, and that the kernel goes on with, has lost its number. There are three of that kind; a
// sleep's own functions are not always among those that the kernel names.
static long call_restarted(uint32_t tid)
{
    char where[64];
    long n = read_of(tid, "/wchan", where);
    return n <= 0 || where[0] == '0'  ? SYS_restart_syscall
           : contains(where, "futex") ? SYS_futex
           : contains(where, "poll")  ? SYS_poll
                                      : SYS_clock_nanosleep;
}

// A poll or select of no descriptors, which is a way to sleep; of what stands behind the call's number.
static bool is_of_nothing(long call, const char *args)
{
    bool is_select = call == SYS_select || call == SYS_pselect6;
    const char *none = is_select ? " 0x0 0x0 0x0 " : " 0x0 "; // behind the first
    if (!is_select && call != SYS_poll && call != SYS_ppoll)
        return false;
    do
        args += *args != '\0';
    while (*args && *args != ' ');
    while (*none && *none == *args)
        none++, args++;
    return !*none;
}

// "running", or the call's number (-1: none, it was stopped in another way) and its arguments.
static struct state state_of(uint32_t tid)
{
    char text[64];
    long n = read_of(tid, "/syscall", text);
    if (n <= 0) // gone, or not to be had
        return (struct state){DOING_NOTHING, EMIT_REASON_UNSPECIFIED};
    if (text[0] < '0' || text[0] > '9')
        return (struct state){DOING_RUN, EMIT_REASON_UNSPECIFIED};
    long call = 0, at = 0;
    for (; at < n && text[at] >= '0' && text[at] <= '9'; at++)
        call = call * 10 + (text[at] - '0');
    if (call == SYS_restart_syscall) // with the arguments that it had
        call = call_restarted(tid);
    return state_of_call(is_of_nothing(call, text + at) ? SYS_nanosleep : call);
}

// --- Telling it.

// Where it is: known of one that the hooks have seen block, and of who was interrupted. Others are looked at from outside.
static emit_number place_of(struct emit_thread *t, bool is_own)
{
    const emit_number unknown = {0};
    const void *context = own_context;
    if (atomic_load_explicit(&t->wait_object, memory_order_relaxed))
        return t->wait_stack;
    if (!is_own || !context)
        return unknown;
    uint64_t low = 0, high = 0;
    if (emit.bounds)
        emit.bounds(&low, &high);
    return emit_stack_from(t, context, low, high);
}

// t is held, and of no session that is still recorded.
static void tell(struct emit_thread *t, struct state s, bool is_own, bool has_room)
{
    bool is_reason = s.doing == DOING_WAIT && s.reason != EMIT_REASON_UNSPECIFIED && has_room;
    t->session = emit_session();
    t->order = t->units = t->generation = 0;
    t->buffer = NULL;
    t->region = 0;
    t->is_told = EMIT_TOLD_AHEAD;
    t->is_made = false;
    t->g_state = t->p_state = EMIT_NONE;
    atomic_store_explicit(&t->own_g, 0, memory_order_relaxed);
    atomic_store_explicit(&t->own_p, 0, memory_order_relaxed);
    t->ahead_stack = place_of(t, is_own);
    if (s.doing == DOING_WAIT && !is_reason) {
        emit_g_status(emit.announcer, emit_ticks(), t->g, EMIT_G_WAITING, t->tid);
        return;
    }
    t->g_state = s.doing == DOING_CALL ? EMIT_G_SYSCALL : EMIT_G_RUNNING;
    t->p_state = s.doing == DOING_CALL ? EMIT_P_SYSCALL : EMIT_P_RUNNING;
    emit_tell(t, emit_ticks());
    if (is_reason) {
        emit_go_block(t, emit_ticks(), s.reason,
                      t->ahead_stack.bits ? t->ahead_stack : EMIT_NO_STACK);
        emit_proc_stop(t, emit_ticks());
    }
}

static void tell_thread(uint32_t tid, uint32_t own_tid, bool has_room)
{
    if (!lock_names())
        return;
    struct emit_thread *t = find(tid);
    bool is_new = !t;
    struct state s = {DOING_NOTHING, EMIT_REASON_UNSPECIFIED};
    if (is_new && (t = emit_plain_take(tid))) {
        emit_plain_name(t);
        t->is_told = 0;
        t->is_orphan = true;
        orphans++;
    }
    // One that is within an event tells itself.
    bool is_ours = t && emit_busy_lock(t, EMIT_OTHER_NS);
    unlock_names();
    if (!is_ours)
        return;
    // One that was created in this session, and has told nothing yet, begins by itself.
    bool is_created = t->is_made && t->session_made == emit_session(), is_waiting;
    if (is_new || (is_its(t, tid) && t->session != emit_session() && !is_created))
        s = tid == own_tid ? own_state() : state_of(tid);
    // What it waits for is not to end while that is told; where it just does, it goes on and tells itself.
    if (s.doing != DOING_NOTHING && emit_waits_keep(t, &is_waiting)) {
        tell(t, s, tid == own_tid, has_room);
        emit_waits_let_go(t, is_waiting);
    }
    emit_busy_unlock(t);
}

// t's thread has gone. Within `naming`: one that gets its tid is not to begin before that is told.
static void end_orphan(struct emit_thread *t)
{
    if (!lock_names())
        return;
    if (t->is_orphan) {
        t->is_orphan = false;
        orphans--;
        emit_plain_end(t);
    }
    unlock_names();
}

void emit_others_end(void)
{
    long pid = syscall(SYS_getpid);
    int saved = errno;
    for (struct emit_thread *t = atomic_load_explicit(&emit.threads, memory_order_acquire); t;
         t = t->next)
        if (t->is_orphan && !emit.runtime && syscall(SYS_tgkill, pid, t->tid, 0) && errno == ESRCH)
            end_orphan(t);
    errno = saved;
}

// Of an earlier session: whose threads have gone.
static void drop_orphans(void)
{
    for (struct emit_thread *t = atomic_load_explicit(&emit.threads, memory_order_acquire); t;
         t = t->next) {
        if (!t->is_orphan || t->session == emit_session() || !lock_names())
            continue;
        bool is_gone = t->is_orphan;
        t->is_orphan = false;
        orphans -= is_gone;
        if (is_gone)
            emit_plain_give(t);
        unlock_names();
    }
}

static uint32_t number_of(const char *p)
{
    uint32_t n = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        n = n * 10 + (uint32_t)(*p - '0');
    return n;
}

// Threads that run fibers are told by the runtime, and its others are its own.
void emit_others_tell(void)
{
    char entries[2048] __attribute__((aligned(8)));
    uint32_t own_tid = (uint32_t)syscall(SYS_gettid), seen = 0;
    // Outside of a handler it tells itself.
    bool is_own_told = own_call != EMIT_DOING_NOTHING_KNOWN;
    if (emit.runtime || !emit.announcer)
        return;
    int saved = errno;
    long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long n;
    while (fd >= 0 && seen < THREADS_MAX &&
           (n = syscall(SYS_getdents64, fd, entries, sizeof entries)) > 0)
        // Should a runtime have begun meanwhile, its threads may be among those that were just read.
        for (long at = 0;
             at < n && emit_is_on() && !__atomic_load_n(&emit.runtime, __ATOMIC_ACQUIRE);) {
            const struct dirent64 *d = (const struct dirent64 *)(const void *)(entries + at);
            uint32_t tid = number_of(d->d_name);
            at += d->d_reclen;
            if (tid && (tid != own_tid || is_own_told))
                tell_thread(tid, own_tid, seen++ < emit.trace->buffer_count / BUFFERS_PART);
        }
    if (fd >= 0)
        syscall(SYS_close, fd);
    drop_orphans();
    errno = saved;
}
