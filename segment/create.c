// SPDX-License-Identifier: MIT
//
// Making a segment: sizes, file, mapping, seals. Not on any sampling path, but a forked child does it
// in its first signal's handler: so system calls alone, by syscall(2) and not by wrappers, which may be
// cancellation points, or replaced by another preload; no stdio, no allocation.

#include "segment/decimal.h"
#include "segment/producer.h"
#include "segment/table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    THREADS_DEFAULT = 1024,
    MODULES_DEFAULT = 4096,
    STATE_DEFAULT = 1 << 16,
    STACKS_DEFAULT = 1 << 16,
    RING_DEFAULT = 64 << 10,
    STACK_ARENA_DEFAULT = 64 << 20,
    BLOB_ARENA_DEFAULT = 4 << 20,
    // A named file has its blocks allocated: 39 MiB instead of 204.
    NAMED_THREADS_DEFAULT = 128,
    NAMED_STACK_ARENA_DEFAULT = 16 << 20,
    NAMED_BLOB_ARENA_DEFAULT = 1 << 20,
    RING_MIN = 4096,
    ARENA_MIN = 1 << 16,
    SLOTS_MIN = 64,
    TRACE_BUFFER_BYTES = 64 << 10, // one batch of the format
    ORDER_LOCKS = 4096,
    ORDER_EDGES = 8192,
};

// The options with defaults filled in; shrinks until the segment fits.
struct plan {
    uint32_t threads, modules, state, stacks, blobs;
    uint64_t ring_bytes, stack_arena, blob_arena;
    bool has_sites;
    uint32_t trace_buffers;
    bool is_trace_spare;
    bool has_order;
};

static uint64_t round_up_pow2(uint64_t n, uint64_t at_least)
{
    uint64_t p = at_least;
    while (p < n && p < UINT64_C(1) << 40)
        p <<= 1;
    return p;
}

static void plan_init(struct plan *p, const struct seg_options *asked, bool is_named)
{
    struct seg_options o = {0};
    if (asked) // a caller of an older build has a shorter struct
        memcpy(&o, asked, asked->size < sizeof o ? asked->size : sizeof o);
    p->threads = o.threads ? o.threads : is_named ? NAMED_THREADS_DEFAULT : THREADS_DEFAULT;
    p->modules = o.modules ? o.modules : MODULES_DEFAULT;
    p->state = (uint32_t)round_up_pow2(o.state ? o.state : STATE_DEFAULT, 16);
    p->stacks = (uint32_t)round_up_pow2(o.stacks ? o.stacks : STACKS_DEFAULT, 16);
    p->blobs = p->stacks / 4 > 16 ? p->stacks / 4 : 16;
    p->ring_bytes = round_up_pow2(o.ring_bytes ? o.ring_bytes : RING_DEFAULT, 512);
    uint64_t stacks = is_named ? NAMED_STACK_ARENA_DEFAULT : STACK_ARENA_DEFAULT;
    uint64_t blobs = is_named ? NAMED_BLOB_ARENA_DEFAULT : BLOB_ARENA_DEFAULT;
    p->has_sites = o.sites != 0;
    p->has_order = o.order != 0;
    p->trace_buffers = o.trace_buffers;
    p->is_trace_spare = o.is_trace_spare != 0;
    p->stack_arena = round_up_pow2(o.stack_arena_bytes ? o.stack_arena_bytes : stacks, 4096);
    p->blob_arena = round_up_pow2(o.blob_arena_bytes ? o.blob_arena_bytes : blobs, 4096);
}

static bool plan_shrink(struct plan *p)
{
    bool shrunk = false;
    if (p->is_trace_spare && p->trace_buffers) {
        p->trace_buffers = 0;
        return true;
    }
    if (p->stack_arena > ARENA_MIN)
        p->stack_arena /= 2, shrunk = true;
    if (p->blob_arena > ARENA_MIN)
        p->blob_arena /= 2, shrunk = true;
    if (p->ring_bytes > RING_MIN)
        p->ring_bytes /= 2, shrunk = true;
    if (p->threads > SLOTS_MIN)
        p->threads /= 2, shrunk = true;
    if (p->state > SLOTS_MIN)
        p->state /= 2, shrunk = true;
    if (p->trace_buffers > SLOTS_MIN)
        p->trace_buffers /= 2, shrunk = true;
    if (p->stacks > SLOTS_MIN)
        p->stacks /= 2, p->blobs = p->stacks / 4, shrunk = true;
    return shrunk;
}

static uint64_t table_bytes(uint32_t slots, uint64_t arena)
{
    return sizeof(struct seg_table) + (uint64_t)slots * sizeof(struct seg_slot) + arena;
}

static uint64_t trace_data_offset(uint32_t buffers)
{
    uint64_t bytes = sizeof(struct seg_trace) + buffers * sizeof(struct seg_trace_buffer);
    return (bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static uint64_t trace_bytes(uint32_t buffers)
{
    return buffers ? trace_data_offset(buffers) + (uint64_t)buffers * TRACE_BUFFER_BYTES : 0;
}

static uint64_t order_bytes(void)
{
    return sizeof(struct seg_order) + ORDER_LOCKS * sizeof(struct seg_order_lock) +
           ORDER_EDGES * sizeof(struct seg_order_edge);
}

// Lays the areas out behind the header; the total size.
static uint64_t plan_areas(const struct plan *p, struct seg_area areas[SEG_AREA_COUNT])
{
    const uint64_t sizes[SEG_AREA_COUNT] = {
        [SEG_AREA_THREADS] = (uint64_t)p->threads * sizeof(struct seg_thread),
        [SEG_AREA_RINGS] = (uint64_t)p->threads * SEG_CONTEXT_COUNT * p->ring_bytes,
        [SEG_AREA_STACKS] = table_bytes(p->stacks, p->stack_arena),
        [SEG_AREA_BLOBS] = table_bytes(p->blobs, p->blob_arena),
        [SEG_AREA_STATE] = (uint64_t)p->state * sizeof(struct seg_state),
        [SEG_AREA_MODULES] = (uint64_t)p->modules * sizeof(struct seg_module),
        [SEG_AREA_TRACE] = trace_bytes(p->trace_buffers),
        [SEG_AREA_SITES] = p->has_sites ? (uint64_t)p->state * sizeof(struct seg_site) : 0,
        [SEG_AREA_ORDER] = p->has_order ? order_bytes() : 0,
    };
    uint64_t at = (sizeof(struct seg_header) + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    for (int i = 0; i < SEG_AREA_COUNT; i++) {
        uint64_t size = (sizes[i] + PAGE - 1) & ~(uint64_t)(PAGE - 1);
        areas[i] = (struct seg_area){size ? at : 0, size};
        at += size;
    }
    return at;
}

static int open_file(const char *path, int flags)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

static void close_file(int fd)
{
    syscall(SYS_close, fd);
}

// Field 22 of /proc/PID/stat, 0 if it cannot be read. The name in field 2 may hold anything, so
// counting starts behind its last parenthesis.
static uint64_t start_ticks(const char *stat_path)
{
    char text[1024];
    int fd = open_file(stat_path, O_RDONLY);
    if (fd < 0)
        return 0;
    long n = syscall(SYS_read, fd, text, sizeof text - 1);
    close_file(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *p = strrchr(text, ')');
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    uint64_t ticks = 0;
    for (p = p ? p + 1 : ""; *p >= '0' && *p <= '9'; p++)
        ticks = ticks * 10 + (uint64_t)(*p - '0');
    return ticks;
}

bool seg_owner_is_alive(const struct seg_header *h)
{
    char path[32] = "/proc/";
    memcpy(decimal_put(path + 6, h->pid), "/stat", 6);
    uint64_t ticks = start_ticks(path);
    return ticks && ticks == h->boot_ticks;
}

// Moves a dead process' black box out of the way, to PATH.PID; whatever else is there stays, and
// -EEXIST says so.
static int set_old_aside(const char *path)
{
    struct seg_header h;
    int fd = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK); // it may be a fifo
    if (fd < 0)
        return errno == ELOOP || errno == ENXIO ? -EEXIST : -errno;
    long n = syscall(SYS_pread64, fd, &h, sizeof h, 0L);
    close_file(fd);
    if (n != (long)sizeof h || h.magic != SEG_MAGIC || seg_owner_is_alive(&h))
        return -EEXIST;
    char aside[4096];
    size_t length = strlen(path);
    if (length + 12 > sizeof aside) // a dot, ten digits, NUL
        return -ENAMETOOLONG;
    memcpy(aside, path, length);
    aside[length] = '.';
    *decimal_put(aside + length + 1, h.pid) = '\0';
    if (syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, aside, RENAME_NOREPLACE))
        return -errno;
    return 0;
}

static int open_named(const char *path)
{
    int fd = open_file(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
    if (fd >= 0)
        return fd;
    if (errno != EEXIST)
        return -errno;
    int rc = set_old_aside(path);
    if (rc)
        return rc;
    fd = open_file(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
    return fd >= 0 ? fd : -errno;
}

static int open_memfd(void)
{
    int fd = (int)syscall(SYS_memfd_create, "fiberscope", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd >= 0 ? fd : -errno;
}

// Sizes the file and maps it, with smaller areas if limits ask for them.
static int size_and_map(struct seg *s, struct plan *p, struct seg_area areas[SEG_AREA_COUNT],
                        bool is_named)
{
    int full = -ENOMEM;
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    syscall(SYS_prlimit64, 0L, RLIMIT_FSIZE, NULL,
            &limit); // growing a file past it raises SIGXFSZ: never try
    do {
        uint64_t total = plan_areas(p, areas);
        if (total > limit.rlim_cur)
            continue;
        if (syscall(SYS_ftruncate, s->fd, total))
            return -errno;
        // On a disk that fills up later, a store into a hole would be a SIGBUS in the target.
        if (is_named && syscall(SYS_fallocate, s->fd, 0, 0L, total) && errno != EOPNOTSUPP) {
            if (errno == EINTR)
                return -EINTR;
            if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG)
                return -errno;
            full = -errno;
            continue;
        }
        // Offsets are written long: an int leaves half of its stack slot to chance, and the kernel
        // reads all of it.
        long at = syscall(SYS_mmap, NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                          s->fd, 0L);
        if (at != -1) {
            s->header = (struct seg_header *)at;
            s->bytes = total;
            return 0;
        }
        if (errno != ENOMEM && errno != EAGAIN) // EAGAIN: mlockall and RLIMIT_MEMLOCK
            return -errno;
    } while (plan_shrink(p));
    return plan_areas(p, areas) > limit.rlim_cur ? -EFBIG : full;
}

static void table_init(struct seg *s, enum seg_area_kind kind, uint32_t slots, uint64_t arena)
{
    struct seg_table *t = (struct seg_table *)((char *)s->header + s->header->areas[kind].offset);
    t->slot_count = slots;
    t->arena_offset = table_bytes(slots, 0);
    t->arena_size = arena;
}

static void trace_init(struct seg *s, uint32_t buffers)
{
    if (!buffers)
        return;
    struct seg_trace *t =
        (struct seg_trace *)((char *)s->header + s->header->areas[SEG_AREA_TRACE].offset);
    t->buffer_count = buffers;
    t->buffer_bytes = TRACE_BUFFER_BYTES;
    t->units_per_second = UINT64_C(1000000000) / 64; // as Go's
    t->data_offset = trace_data_offset(buffers);
}

static void order_init(struct seg *s)
{
    const struct seg_area *a = &s->header->areas[SEG_AREA_ORDER];
    if (!a->size)
        return;
    struct seg_order *o = (struct seg_order *)((char *)s->header + a->offset);
    o->lock_count = ORDER_LOCKS;
    o->edge_count = ORDER_EDGES;
}

// Unused rings and arenas stay out of core files until they are used.
static void leave_out_of_core(const struct seg *s)
{
    const struct seg_area *rings = &s->header->areas[SEG_AREA_RINGS];
    const struct seg_area *stacks = &s->header->areas[SEG_AREA_STACKS];
    const char *base = (const char *)s->header;
    const struct seg_table *t = (const struct seg_table *)(base + stacks->offset);
    seg_keep_in_core(base + rings->offset, rings->size, false);
    const struct seg_area *trace = &s->header->areas[SEG_AREA_TRACE];
    if (trace->size) { // a buffer is kept from when it is first claimed
        uint64_t at = ((const struct seg_trace *)(base + trace->offset))->data_offset;
        seg_keep_in_core(base + trace->offset + at, trace->size - at, false);
    }
    if (t->arena_size > SEG_CORE_CHUNK)
        seg_keep_in_core(base + stacks->offset + t->arena_offset + SEG_CORE_CHUNK,
                         t->arena_size - SEG_CORE_CHUNK, false);
}

static void overflow_init(struct seg *s)
{
    atomic_store_explicit(&s->states_used, SEG_KIND_COUNT, memory_order_relaxed);
    struct seg_state *e =
        (struct seg_state *)((char *)s->header + s->header->areas[SEG_AREA_STATE].offset);
    for (uint32_t kind = 0; kind < SEG_KIND_COUNT; kind++) {
        e[kind].kind = kind;
        // A hash of 0 is no key's, so that no one else finds it.
        atomic_store_explicit(&e[kind].key, SEG_SLOT_READY, memory_order_relaxed);
    }
}

static void program_name(char *out, size_t size)
{
    char path[4096];
    long n = syscall(SYS_readlink, "/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t length = strnlen(base, size - 1);
    memcpy(out, base, length);
    out[length] = '\0';
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts = {0};
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static void header_init(struct seg *s, const struct plan *p, const struct seg_area *areas,
                        uint32_t parent)
{
    struct seg_header *h = s->header;
    h->magic = SEG_MAGIC;
    h->version = SEG_VERSION;
    h->header_bytes = sizeof *h;
    h->total_bytes = s->bytes;
    h->pid = (uint32_t)getpid();
    h->parent = parent;
    h->mono_ns = clock_ns(CLOCK_MONOTONIC);
    h->real_ns = clock_ns(CLOCK_REALTIME);
    h->boot_ticks = start_ticks("/proc/self/stat");
    h->thread_count = p->threads;
    h->module_count = p->modules;
    h->state_count = p->state;
    h->ring_bytes = p->ring_bytes;
    memcpy(h->areas, areas, sizeof h->areas);
    program_name(h->program, sizeof h->program);
    table_init(s, SEG_AREA_STACKS, p->stacks, p->stack_arena);
    table_init(s, SEG_AREA_BLOBS, p->blobs, p->blob_arena);
    trace_init(s, p->trace_buffers);
    order_init(s);
    overflow_init(s);
    leave_out_of_core(s);
    // release: pairs with the acquire in the reader's open
    atomic_store_explicit(&h->ready, 1, memory_order_release);
}

int seg_create(struct seg *s, const struct seg_options *opts)
{
    *s = (struct seg){.fd = -1};
    const char *path = opts && opts->size >= offsetof(struct seg_options, path) + sizeof(char *)
                           ? opts->path
                           : NULL;
    struct plan plan;
    struct seg_area areas[SEG_AREA_COUNT];
    plan_init(&plan, opts, path != NULL);

    int rc = path ? open_named(path) : open_memfd();
    if (rc < 0)
        return rc;
    s->fd = rc;
    rc = size_and_map(s, &plan, areas, path != NULL);
    if (rc)
        goto fail;
    if (!path &&
        syscall(SYS_fcntl, s->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
        rc = -errno;
        goto fail;
    }
    header_init(s, &plan, areas, opts && opts->size >= sizeof *opts ? opts->parent : 0);
    return 0;

fail:
    if (path)
        syscall(SYS_unlink, path); // ours: it was made with O_EXCL a moment ago
    seg_close(s);
    return rc;
}

void seg_close(struct seg *s)
{
    if (s->header)
        syscall(SYS_munmap, s->header, s->bytes);
    if (s->fd >= 0)
        close_file(s->fd);
    *s = (struct seg){.fd = -1};
}
