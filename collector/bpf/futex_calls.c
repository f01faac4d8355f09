// SPDX-License-Identifier: MIT
//
// See futex_calls.h. Where in an object its word lies: glibc 2.25 to 2.41, nptl/ (struct __pthread_rwlock_arch_t,
// __pthread_cond_s, pthread_barrier).
//
// Some of these functions end in a jump to one that has no name (pthread_mutex_unlock to __pthread_mutex_unlock_usercnt,
// sem_wait to its slow part), which then stands in their place in the stack. So what their code jumps to, and is a function's
// start by the unwind tables, is taken for them.

#include "collector/bpf/futex_calls.h"

#include "collector/perf_elf.h"
#include "symbols/functions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct name {
    const char *name;
    enum seg_lock_type type;
} names[] = {
    {"pthread_mutex_lock", SEG_LOCK_MUTEX},
    {"pthread_mutex_timedlock", SEG_LOCK_MUTEX},
    {"pthread_mutex_clocklock", SEG_LOCK_MUTEX},
    {"pthread_mutex_unlock", SEG_LOCK_MUTEX},
    {"mtx_lock", SEG_LOCK_MUTEX},
    {"mtx_timedlock", SEG_LOCK_MUTEX},
    {"mtx_unlock", SEG_LOCK_MUTEX},
    {"pthread_rwlock_rdlock", SEG_LOCK_RWLOCK},
    {"pthread_rwlock_wrlock", SEG_LOCK_RWLOCK},
    {"pthread_rwlock_timedrdlock", SEG_LOCK_RWLOCK},
    {"pthread_rwlock_timedwrlock", SEG_LOCK_RWLOCK},
    {"pthread_rwlock_clockrdlock", SEG_LOCK_RWLOCK},
    {"pthread_rwlock_clockwrlock", SEG_LOCK_RWLOCK},
    {"pthread_rwlock_unlock", SEG_LOCK_RWLOCK},
    {"pthread_cond_wait", SEG_LOCK_COND},
    {"pthread_cond_timedwait", SEG_LOCK_COND},
    {"pthread_cond_clockwait", SEG_LOCK_COND},
    {"pthread_cond_signal", SEG_LOCK_COND},
    {"pthread_cond_broadcast", SEG_LOCK_COND},
    {"cnd_wait", SEG_LOCK_COND},
    {"cnd_timedwait", SEG_LOCK_COND},
    {"cnd_signal", SEG_LOCK_COND},
    {"cnd_broadcast", SEG_LOCK_COND},
    {"sem_wait", SEG_LOCK_SEM},
    {"sem_timedwait", SEG_LOCK_SEM},
    {"sem_clockwait", SEG_LOCK_SEM},
    {"sem_post", SEG_LOCK_SEM},
    {"pthread_barrier_wait", SEG_LOCK_BARRIER},
    {"pthread_join", SEG_LOCK_JOIN},
    {"pthread_timedjoin_np", SEG_LOCK_JOIN},
    {"pthread_clockjoin_np", SEG_LOCK_JOIN},
    {"thrd_join", SEG_LOCK_JOIN},
};

enum { NAMES = sizeof names / sizeof *names, JUMPS_MAX = 128, CODE_BYTES_MAX = 8192 };

struct library { // a file; of one that is no C library, there are no functions
    struct library *next;
    const struct code_file *file;
    bool is_glibc, is_c;
    size_t count;
    struct {
        uint64_t start, end; // link-time
        enum seg_lock_type type;
    } functions[NAMES];
    size_t jump_count;
    struct {
        uint64_t to; // start of a function
        enum seg_lock_type type;
    } jumps[JUMPS_MAX];
};

struct futex_calls {
    struct library *libraries;
};

int futex_calls_new(struct futex_calls **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : -ENOMEM;
}

void futex_calls_free(struct futex_calls *c)
{
    if (!c)
        return;
    for (struct library *l = c->libraries, *next; l; l = next) {
        next = l->next;
        free(l);
    }
    free(c);
}

// --- Libraries.

static bool begins_with(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

// The start of the function that covers an address, by .eh_frame_hdr (LSB 5.0, 10.6.2); 0: unknown.
static uint64_t start_of(const struct unwind_tables *t, uint64_t address)
{
    const uint8_t *header = t->eh_frame_hdr.data;
    int32_t entry[2]; // start, FDE; from the header on
    uint32_t count;
    if (t->eh_frame_hdr.size < 12 || header[0] != 1 || header[2] != 0x03 || header[3] != 0x3b)
        return 0;
    memcpy(&count, header + 8, sizeof count);
    size_t low = 0, high = count;
    if ((t->eh_frame_hdr.size - 12) / sizeof entry < count)
        return 0;
    while (low < high) {
        size_t at = low + (high - low) / 2;
        memcpy(entry, header + 12 + at * sizeof entry, sizeof entry);
        if (t->eh_frame_hdr.address + (uint64_t)(int64_t)entry[0] <= address)
            low = at + 1;
        else
            high = at;
    }
    if (!low)
        return 0;
    memcpy(entry, header + 12 + (low - 1) * sizeof entry, sizeof entry);
    return t->eh_frame_hdr.address + (uint64_t)(int64_t)entry[0];
}

static void add_jump(struct library *l, uint64_t to, enum seg_lock_type type)
{
    const struct unwind_tables *t = &perf_file_elf(l->file)->tables;
    if (start_of(t, to) != to)
        return;
    for (size_t i = 0; i < l->jump_count; i++)
        if (l->jumps[i].to == to) {
            if (l->jumps[i].type != type) // it is nobody's
                l->jumps[i].type = SEG_LOCK_FUTEX;
            return;
        }
    if (l->jump_count == JUMPS_MAX)
        return;
    l->jumps[l->jump_count].to = to;
    l->jumps[l->jump_count++].type = type;
}

// jmp rel32 and jcc rel32. What just looks like one, in the middle of another instruction, leads to no function's start.
static void find_jumps(struct library *l, const struct functions *f, uint64_t address,
                       uint64_t size, enum seg_lock_type type)
{
    uint8_t code[CODE_BYTES_MAX];
    int32_t distance;
    if (size > sizeof code || functions_read(f, address, code, size))
        return;
    for (uint64_t i = 0; i + 1 + sizeof distance <= size; i++) {
        bool is_if = code[i] == 0x0f && (code[i + 1] & 0xf0) == 0x80;
        uint64_t end = i + 1 + is_if + sizeof distance;
        if ((code[i] != 0xe9 && !is_if) || end > size)
            continue;
        memcpy(&distance, code + end - sizeof distance, sizeof distance);
        if ((uint64_t)((int64_t)end + distance) >= size) // else it stays in the function
            add_jump(l, address + end + (uint64_t)(int64_t)distance, type);
    }
}

static void find_functions(struct library *l)
{
    struct functions *f = NULL;
    uint64_t address, size;
    if (perf_file_fd(l->file) < 0 ||
        functions_open(&f, perf_file_fd(l->file), perf_file_path(l->file), NULL))
        return;
    for (size_t i = 0; i < NAMES; i++) {
        if (functions_find(f, names[i].name, &address, &size) || address + size < address)
            continue;
        l->functions[l->count].start = address;
        l->functions[l->count].end = address + size;
        l->functions[l->count++].type = names[i].type;
        find_jumps(l, f, address, size, names[i].type);
    }
    functions_close(f);
}

static const struct library *library_of(struct futex_calls *c, const struct code_file *file)
{
    struct library *l = c->libraries;
    while (l && l->file != file)
        l = l->next;
    if (l || !(l = calloc(1, sizeof *l)))
        return l;
    const char *path = perf_file_path(file), *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    l->file = file;
    l->is_glibc = begins_with(base, "libc.so.6") || begins_with(base, "libc-2.") ||
                  begins_with(base, "libpthread");
    l->is_c = l->is_glibc || begins_with(base, "ld-musl-") || begins_with(base, "libc.musl-");
    if (l->is_c)
        find_functions(l);
    l->next = c->libraries;
    return c->libraries = l;
}

static bool map_of(const struct perf_process *p, uint64_t pc, struct perf_map *out)
{
    size_t low = 0, high = perf_process_map_count(p);
    while (low < high) {
        size_t at = low + (high - low) / 2;
        perf_process_map(p, at, out);
        if (pc < out->start)
            high = at;
        else if (pc >= out->end)
            low = at + 1;
        else
            return out->file != NULL;
    }
    return false;
}

static enum seg_lock_type type_at(const struct library *l, uint64_t address)
{
    for (size_t i = 0; i < l->count; i++)
        if (address - l->functions[i].start < l->functions[i].end - l->functions[i].start)
            return l->functions[i].type;
    uint64_t start = start_of(&perf_file_elf(l->file)->tables, address);
    for (size_t i = 0; i < l->jump_count; i++)
        if (l->jumps[i].to == start)
            return l->jumps[i].type;
    return SEG_LOCK_FUTEX;
}

// --- Objects.

// The object whose word it is.
static uint64_t object_of(enum seg_lock_type type, uint64_t word)
{
    switch (type) {
    case SEG_LOCK_RWLOCK: return word % 8 ? word - 12 : word - 8; // writers, the phase
    case SEG_LOCK_COND: return (word & ~UINT64_C(7)) - 40;        // signals of both groups
    case SEG_LOCK_BARRIER: return word & ~UINT64_C(7);            // the round
    case SEG_LOCK_JOIN: return 0;
    default: return word;
    }
}

void futex_calls_look(struct futex_calls *c, const struct perf_process *p,
                      const struct bpf_stack *r, struct futex_call *out)
{
    bool is_glibc = false, has_lock_word = r->hint & BPF_FUTEX_IS_LOCK;
    *out = (struct futex_call){.type = SEG_LOCK_FUTEX, .object = r->object};
    // Up to the last frame of the library: the function that the program called.
    for (uint32_t i = 0; i < r->user_depth; i++) {
        struct perf_map map;
        uint64_t pc = r->pcs[i] - (i > 0); // a return address is behind its call
        const struct library *l = map_of(p, pc, &map) ? library_of(c, map.file) : NULL;
        if (!l || !l->is_c)
            break;
        out->skip = i + 1;
        out->type = type_at(l, pc - map.bias);
        is_glibc = l->is_glibc;
    }
    if (out->type == SEG_LOCK_FUTEX)
        out->skip = 0;
    out->is_relock = out->type == SEG_LOCK_COND && has_lock_word;
    out->is_lock = out->type == SEG_LOCK_MUTEX || out->type == SEG_LOCK_RWLOCK ||
                   (has_lock_word && (out->type == SEG_LOCK_FUTEX || out->type == SEG_LOCK_COND));
    if (out->is_relock)
        out->type = SEG_LOCK_MUTEX;
    else if (is_glibc)
        out->object = object_of(out->type, r->object);
}
