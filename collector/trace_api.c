// SPDX-License-Identifier: MIT
//
// See trace_api.h.

#include "collector/trace_api.h"

#include <stdlib.h>
#include <string.h>

// libc's functions that the agent defines (agent/agent.map), sorted. Not those of C++: they tell no events.
static const char *const interposed[] = {
    "_Exit",
    "__longjmp_chk",
    "__sigaction",
    "__sysv_signal",
    "_exit",
    "_longjmp",
    "accept",
    "accept4",
    "aligned_alloc",
    "calloc",
    "cfree",
    "clock_nanosleep",
    "cnd_broadcast",
    "cnd_signal",
    "cnd_timedwait",
    "cnd_wait",
    "connect",
    "dlclose",
    "epoll_pwait",
    "epoll_wait",
    "execl",
    "execle",
    "execlp",
    "execv",
    "execve",
    "execveat",
    "execvp",
    "execvpe",
    "fdatasync",
    "fexecve",
    "flock",
    "free",
    "free_aligned_sized",
    "free_sized",
    "fsync",
    "lockf",
    "lockf64",
    "longjmp",
    "malloc",
    "memalign",
    "mmap",
    "mmap64",
    "mremap",
    "mtx_destroy",
    "mtx_init",
    "mtx_lock",
    "mtx_timedlock",
    "mtx_trylock",
    "mtx_unlock",
    "munmap",
    "nanosleep",
    "open",
    "open64",
    "openat",
    "openat64",
    "pause",
    "pclose",
    "poll",
    "posix_memalign",
    "ppoll",
    "pthread_barrier_wait",
    "pthread_clockjoin_np",
    "pthread_cond_broadcast",
    "pthread_cond_clockwait",
    "pthread_cond_signal",
    "pthread_cond_timedwait",
    "pthread_cond_wait",
    "pthread_create",
    "pthread_join",
    "pthread_mutex_clocklock",
    "pthread_mutex_destroy",
    "pthread_mutex_init",
    "pthread_mutex_lock",
    "pthread_mutex_timedlock",
    "pthread_mutex_trylock",
    "pthread_mutex_unlock",
    "pthread_rwlock_clockrdlock",
    "pthread_rwlock_clockwrlock",
    "pthread_rwlock_destroy",
    "pthread_rwlock_init",
    "pthread_rwlock_rdlock",
    "pthread_rwlock_timedrdlock",
    "pthread_rwlock_timedwrlock",
    "pthread_rwlock_tryrdlock",
    "pthread_rwlock_trywrlock",
    "pthread_rwlock_unlock",
    "pthread_rwlock_wrlock",
    "pthread_timedjoin_np",
    "pvalloc",
    "read",
    "readv",
    "realloc",
    "reallocarray",
    "recv",
    "recvfrom",
    "recvmsg",
    "select",
    "sem_clockwait",
    "sem_post",
    "sem_timedwait",
    "sem_wait",
    "semop",
    "semtimedop",
    "send",
    "sendmsg",
    "sendto",
    "sigaction",
    "siglongjmp",
    "signal",
    "signalfd",
    "sigsuspend",
    "sigtimedwait",
    "sigwait",
    "sigwaitinfo",
    "sleep",
    "syscall",
    "system",
    "thrd_create",
    "thrd_join",
    "thrd_sleep",
    "usleep",
    "valloc",
    "wait",
    "wait3",
    "wait4",
    "waitid",
    "waitpid",
    "write",
    "writev",
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, *(const char *const *)b);
}

bool trace_api_name(const char *function, char out[TRACE_API_NAME_BYTES])
{
    static const char prefix[] = "runtime.";
    const size_t prefix_bytes = sizeof prefix - 1;
    if (strncmp(function, prefix, prefix_bytes) == 0)
        function += prefix_bytes;
    char *name = out + prefix_bytes;
    size_t n = strcspn(function, ".@");
    if (n == 0 || n >= TRACE_API_NAME_BYTES - prefix_bytes)
        return false;
    memcpy(name, function, n);
    name[n] = '\0';
    if (strncmp(name, "fib_", 4) == 0 || strncmp(name, "fscope_", 7) == 0) {
        if (name[n - 1] == '_')
            name[n - 1] = '\0';
        memcpy(out, prefix, prefix_bytes);
        return true;
    }
    if (!bsearch(name, interposed, sizeof interposed / sizeof *interposed, sizeof *interposed,
                 compare_names))
        return false;
    memmove(out, name, n + 1);
    return true;
}

// --- What they wait for.

static const struct {
    const char *name;           // "NAME_": each that begins so
    const char *reason, *other; // a part of it; "": it is a system call
} waits[] = {
    {"accept", "network", NULL},
    {"accept4", "network", NULL},
    {"clock_nanosleep", "sleep", NULL},
    {"cnd_", "sync", NULL},
    {"connect", "network", NULL},
    {"epoll_", "network", NULL},
    {"fdatasync", "", NULL},
    {"fsync", "", NULL},
    {"mtx_", "sync", NULL},
    {"nanosleep", "sleep", NULL},
    {"poll", "network", "sleep"},
    {"ppoll", "network", "sleep"},
    {"pthread_", "sync", NULL},
    {"read", "", NULL},
    {"readv", "", NULL},
    {"recv", "network", NULL},
    {"recvfrom", "network", NULL},
    {"recvmsg", "network", NULL},
    {"select", "network", "sleep"},
    {"sem_", "sync", NULL},
    {"send", "network", NULL},
    {"sendmsg", "network", NULL},
    {"sendto", "network", NULL},
    {"sleep", "sleep", NULL},
    {"thrd_join", "sync", NULL},
    {"thrd_sleep", "sleep", NULL},
    {"usleep", "sleep", NULL},
    {"wait", "", NULL},
    {"wait3", "", NULL},
    {"wait4", "", NULL},
    {"waitpid", "", NULL},
    {"write", "", NULL},
    {"writev", "", NULL},
};

static bool is_called(const char *leaf, size_t size, const char *name)
{
    size_t n = strlen(name);
    return size >= n && memcmp(leaf, name, n) == 0 && (size == n || name[n - 1] == '_');
}

bool trace_api_fits(const char *leaf, size_t size, const char *reason)
{
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        if (!is_called(leaf, size, waits[i].name))
            continue;
        if (!reason || !*reason || !*waits[i].reason)
            return reason && !*reason && !*waits[i].reason;
        return strstr(reason, waits[i].reason) ||
               (waits[i].other && strstr(reason, waits[i].other));
    }
    return true;
}

// --- Code.

static size_t read_image(void *arg, uint64_t address, void *out, size_t size)
{
    return symbols_read(arg, address, out, size);
}

static const char *function_of_image(void *arg, uint64_t address)
{
    struct symbols_frame f[SYMBOLS_FRAMES_MAX];
    int n = symbols_lookup(arg, address, f, SYMBOLS_FRAMES_MAX);
    return n > 0 && *f[n - 1].system_name ? f[n - 1].system_name : NULL;
}

static const char *slot_of_image(void *arg, uint64_t address)
{
    return symbols_slot_function(arg, address);
}

struct trace_api_code trace_api_code_of(struct symbols_image *im)
{
    return (struct trace_api_code){im, read_image, function_of_image, slot_of_image};
}

static uint64_t displacement(const uint8_t *p)
{
    uint32_t n = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return (uint64_t)(int64_t)(int32_t)n;
}

static bool is_named(const char *function, char out[TRACE_API_NAME_BYTES])
{
    return function && trace_api_name(function, out);
}

// `call rel32`, `call *disp32(%rip)`: name of what it calls, and for the first where that is.
static bool direct_call(const struct trace_api_code *c, uint64_t after,
                        char out[TRACE_API_NAME_BYTES])
{
    uint8_t b[6];
    if (after < sizeof b || c->read(c->arg, after - sizeof b, b, sizeof b) != sizeof b)
        return false;
    uint64_t to = after + displacement(b + 2);
    return (b[1] == 0xe8 && is_named(c->function(c->arg, to), out)) ||
           (b[0] == 0xff && b[1] == 0x15 && is_named(c->slot(c->arg, to), out));
}

// Which register `call *%reg` calls by; -1: it is no such call. *size: of the instruction.
static int called_register(const struct trace_api_code *c, uint64_t after, unsigned *size)
{
    uint8_t b[3];
    if (after < sizeof b || c->read(c->arg, after - sizeof b, b, sizeof b) != sizeof b ||
        b[1] != 0xff || (b[2] & 0xf8) != 0xd0)
        return -1;
    *size = b[0] == 0x41 ? 3 : 2;
    return (b[2] & 7) + (b[0] == 0x41 ? 8 : 0);
}

// Whether both lie in the same function.
static bool is_same_function(const struct trace_api_code *c, uint64_t a, uint64_t b)
{
    const char *x = c->function(c->arg, a), *y = x ? c->function(c->arg, b) : NULL;
    return y && (x == y || strcmp(x, y) == 0);
}

// The code that ends there, as much as there is up to size; the number of bytes, which end with b[number - 1].
static size_t read_before(const struct trace_api_code *c, uint64_t end, uint8_t *b, size_t size)
{
    size_t low = 0, high = (uint64_t)size < end ? size : (size_t)end;
    while (low < high) { // what lies before the segment cannot be read
        size_t n = high - (high - low) / 2;
        if (c->read(c->arg, end - n, b, n) == n)
            low = n;
        else
            high = n - 1;
    }
    return low && c->read(c->arg, end - low, b, low) == low ? low : 0;
}

// A function that calls another one several times loads its address once: `mov disp32(%rip), %reg`, which linkers make
// `lea` of where they can; the last one before the call.
static bool register_call(const struct trace_api_code *c, uint64_t after,
                          char out[TRACE_API_NAME_BYTES])
{
    enum { MOV_BYTES = 7, BACK_BYTES = 4096 };
    uint8_t b[BACK_BYTES];
    unsigned size;
    int reg = called_register(c, after, &size);
    if (reg < 0)
        return false;
    size_t n = read_before(c, after, b, BACK_BYTES);
    if (n < MOV_BYTES + size)
        return false;
    for (size_t i = n - size - MOV_BYTES + 1; i-- > 0;) {
        uint64_t at = after - n + i;
        bool is_lea = b[i + 1] == 0x8d;
        if (b[i] != (reg < 8 ? 0x48 : 0x4c) || (b[i + 1] != 0x8b && !is_lea) ||
            b[i + 2] != (0x05 | (reg & 7) << 3))
            continue;
        uint64_t to = at + MOV_BYTES + displacement(b + i + 3);
        const char *called = is_lea ? c->function(c->arg, to) : c->slot(c->arg, to);
        if (called)
            return is_same_function(c, at, after - 1) && trace_api_name(called, out);
    }
    return false;
}

// Where the jump at p leads, with n bytes of code from there on: `jmp rel32`, `jmp *disp32(%rip)`. NULL: nowhere that
// is known.
static const char *jump_target(const struct trace_api_code *c, uint64_t at, const uint8_t *p,
                               size_t n)
{
    if (n >= 5 && p[0] == 0xe9)
        return c->function(c->arg, at + 5 + displacement(p + 1));
    if (n >= 6 && p[0] == 0xff && p[1] == 0x25)
        return c->slot(c->arg, at + 6 + displacement(p + 2));
    return NULL;
}

// The program's function that was called has gone by a tail call, so by one of its jumps out: by which, is known if it
// has but one to a public function. is_sure: and none elsewhere.
static bool tail_call(const struct trace_api_code *c, uint64_t after, bool is_sure,
                      char out[TRACE_API_NAME_BYTES])
{
    enum { FUNCTION_BYTES = 1024, JUMPS_MAX = 64 };
    uint8_t b[FUNCTION_BYTES];
    char name[TRACE_API_NAME_BYTES], self[256];
    if (after < 5 || c->read(c->arg, after - 5, b, 5) != 5 || b[0] != 0xe8)
        return false;
    uint64_t begin = after + displacement(b + 1);
    const char *function = c->function(c->arg, begin), *target;
    if (!function || strlen(function) >= sizeof self)
        return false;
    strcpy(self, function);
    size_t n = c->read(c->arg, begin, b, sizeof b);
    bool is_found = false;
    unsigned jumps = 0;
    for (size_t i = 0; i < n && jumps < JUMPS_MAX; i++) {
        if (b[i] != 0xe9 && (b[i] != 0xff || i + 1 >= n || b[i + 1] != 0x25))
            continue;
        jumps++;
        target = jump_target(c, begin + i, b + i, n - i);
        if (!target || strcmp(target, self) == 0)
            continue;
        bool is_public = trace_api_name(target, name);
        if ((!is_public && !is_sure) || !is_same_function(c, begin, begin + i))
            continue;
        if (!is_public || (is_found && strcmp(name, out) != 0))
            return false;
        memcpy(out, name, sizeof name);
        is_found = true;
    }
    return is_found;
}

bool trace_api_called(const struct trace_api_leaf *leaf, char out[TRACE_API_NAME_BYTES])
{
    const struct trace_api_code *c = leaf->is_inlined ? NULL : leaf->code;
    uint64_t after = leaf->after;
    return (c && (direct_call(c, after, out) || register_call(c, after, out) ||
                  tail_call(c, after, true, out))) ||
           trace_api_name(leaf->function, out) || (c && tail_call(c, after, false, out));
}
