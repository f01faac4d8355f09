// SPDX-License-Identifier: MIT
//
// See fibers.h.

#include "collector/fibers_internal.h"

#include "collector/arch/x86_64.h"
#include "collector/record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    GS_MAX = 1 << 28,
    SLAB_BYTES_MAX = 64 << 20,
    TRIES = 4,
    LABEL_SET_MAX = 65536,
};
#define STACK_MAX   (UINT64_C(1) << 30)
#define OWNER_FLAGS (UINT64_C(7) << 60)

// Text of a hostile target: cut at its end, and nothing that could confuse a terminal.
static void copy_text(char out[FIBERS_TEXT], const char *from, size_t size)
{
    size_t n = strnlen(from, size < FIBERS_TEXT ? size : FIBERS_TEXT - 1);
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)from[i] < ' ' || from[i] == 127 ? '?' : from[i];
    out[n] = '\0';
}

// --- The descriptor.

static bool is_sound(const struct fib_descriptor *d)
{
    const uint32_t of_g[] = {d->g_labels,  d->g_id,   d->g_live, d->g_fn,
                             d->g_creator, d->g_site, d->g_name};
    const uint32_t of_live[] = {d->live_sp,         d->live_g,       d->live_wait_reason,
                                d->live_low,        d->live_high,    d->live_wait_since,
                                d->live_switches,   d->live_bound_m, d->live_wait_object,
                                d->live_wait_owner, d->live_last_m,  d->live_futex};
    bool ok = d->g_size && d->g_size <= OBJECT_BYTES_MAX && d->live_size &&
              d->live_size <= OBJECT_BYTES_MAX && d->slab_gs &&
              d->slab_gs <= SLAB_BYTES_MAX / d->g_size && d->label_size &&
              d->label_size <= LABEL_SET_MAX && d->label_set_size <= LABEL_SET_MAX &&
              d->label_pairs <= d->label_set_size / (2 * d->label_size);
    for (size_t i = 0; i < sizeof of_g / sizeof *of_g; i++)
        ok = ok && fits(of_g[i], 8, d->g_size);
    for (size_t i = 0; i < sizeof of_live / sizeof *of_live; i++)
        ok = ok && fits(of_live[i], 8, d->live_size);
    return ok && fits(d->g_status, 1, d->g_size) && fits(d->g_flags, 1, d->g_size) &&
           fits(d->live_name, FIBERS_TEXT, d->live_size) && fibers_counters_are_sound(d);
}

static int read_descriptor(struct fibers *f, struct fscope_error *err)
{
    uint64_t at = 0;
    const char *what = target_name(f->t);
    if (target_find_variable(f->t, "libfiberscope-rt", "fib_descriptor", &at))
        return error_set(err, -ENOENT, 0, "%s has no fiber runtime (libfiberscope-rt)", what);
    int rc = target_read(f->t, at, &f->d, sizeof f->d);
    if (rc)
        return error_set(err, rc, 0, "%s: its fibers' descriptor cannot be read: %s", what,
                         strerror(-rc));
    if (memcmp(f->d.magic, "FIBRT", 6) != 0 || f->d.version != DESCRIPTOR_VERSION ||
        f->d.size < sizeof f->d)
        return error_set(err, -ENOTSUP, 0, "%s: its fiber runtime is of another version", what);
    if (!f->d.is_ready)
        return error_set(err, -ENOENT, 0, "%s has not started its fiber runtime", what);
    if (!is_sound(&f->d))
        return error_set(err, -ENOTSUP, 0, "%s: its fibers' descriptor is damaged", what);
    return 0;
}

// Ticks are the TSC's, or ns where that is not invariant: then there are 2^32 of 2^-32 ns in each.
static void read_clock(struct fibers *f)
{
    struct timespec now;
    if (target_is_core(f->t) || read64(f, f->d.ns_per_tick, &f->ns_per_tick_32))
        return;
    bool is_ns =
        f->ns_per_tick_32 > UINT32_MAX - 65536u && f->ns_per_tick_32 < UINT64_C(0x100010000);
    clock_gettime(CLOCK_MONOTONIC, &now);
    f->now_ticks = is_ns ? (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec : arch_tsc();
}

int fibers_open(struct fibers **out, struct target *t, struct fscope_error *err)
{
    *out = NULL;
    struct fibers *f = calloc(1, sizeof *f);
    if (!f)
        return error_set(err, -ENOMEM, 0, "out of memory");
    f->t = t;
    int rc = read_descriptor(f, err);
    if (!rc) {
        f->slab = malloc((size_t)f->d.slab_gs * f->d.g_size);
        f->live = malloc(f->d.live_size);
        f->labels = malloc(f->d.label_set_size + 1);
        if (!f->slab || !f->live || !f->labels)
            rc = error_set(err, -ENOMEM, 0, "out of memory");
    }
    if (rc) {
        fibers_close(f);
        return rc;
    }
    read_clock(f);
    *out = f;
    return 0;
}

void fibers_close(struct fibers *f)
{
    if (!f)
        return;
    free(f->slab);
    free(f->live);
    free(f->labels);
    free(f);
}

// --- Stacks.

// Registers where switch.S left them.
static bool saved_registers(const struct fibers *f, uint64_t sp, struct unwind_registers *r)
{
    uint64_t words[DESCRIPTOR_REGISTERS];
    *r = (struct unwind_registers){.rsp = sp + sizeof words};
    if (target_read(f->t, sp, words, sizeof words))
        return false;
    for (int i = 0; i < DESCRIPTOR_REGISTERS; i++) {
        uint8_t number = f->d.saved[i];
        if (number == 16)
            r->rip = words[i];
        else if (number == 6)
            r->rbp = words[i];
        if (number < 16) {
            r->other[number] = words[i];
            r->valid |= 1u << number;
        }
    }
    return true;
}

// The M that runs this G; 0: none.
static uint64_t m_of(const struct fibers *f, uint64_t g)
{
    uint64_t m = 0, cur;
    if (read64(f, f->d.all_ms, &m))
        return 0;
    for (int i = 0; m && i < MS_MAX; i++) {
        if (read64(f, m + f->d.m_cur, &cur))
            return 0;
        if (cur == g)
            return m;
        if (read64(f, m + f->d.m_all_link, &m))
            return 0;
    }
    return 0;
}

// Of a core file: where its thread stood.
static bool thread_registers(const struct fibers *f, uint64_t g, struct unwind_registers *r)
{
    const struct target_thread *threads;
    size_t n = target_threads(f->t, &threads);
    uint64_t m = n ? m_of(f, g) : 0;
    uint32_t tid;
    if (!m || target_read(f->t, m + f->d.m_tid, &tid, sizeof tid))
        return false;
    for (size_t i = 0; i < n; i++)
        if (threads[i].tid == tid) {
            *r = threads[i].registers;
            return true;
        }
    return false;
}

// The thread's signal handler waits; what it interrupted is in its context.
static bool preempted_registers(const struct fibers *f, const uint8_t *live,
                                struct unwind_registers *r)
{
    uint64_t m = get64(live + f->d.live_bound_m), context = 0, gregs[ARCH_REGISTERS];
    if (!m || read64(f, m + f->d.m_context, &context) || !context ||
        target_read(f->t, context + f->d.context_registers, gregs, sizeof gregs))
        return false;
    arch_from_context(r, gregs);
    return true;
}

static bool registers_of(const struct fibers *f, uint64_t g, uint8_t status, const uint8_t *live,
                         struct unwind_registers *r, bool *is_exact)
{
    *is_exact = false;
    if (status == DESCRIPTOR_WAITING || status == DESCRIPTOR_RUNNABLE)
        return saved_registers(f, get64(live + f->d.live_sp), r);
    *is_exact = true;
    if (status == DESCRIPTOR_PREEMPTED)
        return preempted_registers(f, live, r);
    return target_is_core(f->t) && thread_registers(f, g, r);
}

// Without the runtime's root frame, and without its frames at the leaf but the one that was called.
static void trim(struct fibers *f, struct fiber *out)
{
    uint64_t start, end, root = f->d.root, root_end = f->d.root_end;
    uint32_t skip = 0;
    if (out->depth > 1 && out->pcs[out->depth - 1] > root && out->pcs[out->depth - 1] <= root_end)
        out->depth--;
    if (!target_file_range(f->t, root, "libfiberscope-rt", &start, &end))
        return;
    while (skip + 1 < out->depth && out->pcs[skip + 1] > start && out->pcs[skip + 1] <= end)
        skip++;
    out->pcs += skip;
    out->depth -= skip;
    if (skip)
        f->pcs[skip]--; // inside of the call: a leaf's is exact
}

// False: it moved meanwhile.
static bool walk(struct fibers *f, uint64_t g, uint8_t status, struct fiber *out)
{
    struct unwind_registers r;
    bool is_exact;
    enum unwind_end end = UNWIND_END_ROOT;
    uint64_t low = get64(f->live + f->d.live_low), high = get64(f->live + f->d.live_high);
    if (!registers_of(f, g, status, f->live, &r, &is_exact))
        return false;
    bool is_on_stack = r.rsp >= low && r.rsp < high && high - low <= STACK_MAX;
    if (!is_on_stack && !target_is_core(f->t))
        return false;
    uint32_t n =
        target_walk(f->t, &r, is_exact, is_on_stack ? high : 0, f->pcs, SEG_STACK_DEPTH_MAX, &end);
    if (!n)
        return false;
    out->pcs = f->pcs;
    out->depth = n;
    out->flags = end == UNWIND_END_ROOT    ? 0
                 : end == UNWIND_END_DEPTH ? SEG_FLAG_TRUNCATED
                                           : SEG_FLAG_BROKEN;
    return true;
}

// --- One fiber.

static void fill_labels(struct fibers *f, int32_t set, struct fiber *out)
{
    const struct fib_descriptor *d = &f->d;
    if (set <= 0 || (uint32_t)set >= d->label_sets ||
        target_read(f->t, d->labels + (uint64_t)set * d->label_set_size, f->labels,
                    d->label_set_size))
        return;
    for (uint32_t i = 0; i < d->label_pairs && out->label_count < FIBERS_LABELS_MAX; i++) {
        char *key = f->labels + (size_t)i * 2 * d->label_size, *value = key + d->label_size;
        key[d->label_size - 1] = value[d->label_size - 1] = '\0';
        if (!*key)
            break;
        out->labels[out->label_count++] = (struct builder_label){.key = key, .value = value};
    }
}

static void fill_state(const struct fibers *f, uint8_t status, bool has_live, struct fiber *out)
{
    const struct fib_descriptor *d = &f->d;
    uint32_t reason = has_live ? get32(f->live + d->live_wait_reason) : 0;
    if (out->is_missing)
        copy_text(out->state, "not in the core file", FIBERS_TEXT);
    else if (status == DESCRIPTOR_WAITING && reason && reason < DESCRIPTOR_REASONS &&
             reason < d->reason_count)
        copy_text(out->state, d->reason_text[reason], DESCRIPTOR_TEXT);
    else if (status < DESCRIPTOR_STATUSES && status < d->status_count)
        copy_text(out->state, d->status_text[status], DESCRIPTOR_TEXT);
    else
        copy_text(out->state, "unknown", 8);
    uint64_t since = has_live ? get64(f->live + d->live_wait_since) : 0;
    if (status == DESCRIPTOR_WAITING && since && f->now_ticks > since)
        out->waiting_ns = fibers_ns(f, f->now_ticks - since);
}

static uint32_t tid_of(const struct fibers *f, uint64_t m)
{
    uint32_t tid = 0;
    return m && !target_read(f->t, m + f->d.m_tid, &tid, sizeof tid) ? tid : 0;
}

// The lock may be gone: what is there now names an owner, or nobody.
static void fill_wait(const struct fibers *f, uint64_t at, uint8_t status, const uint8_t *live,
                      struct fiber *out)
{
    const struct fib_descriptor *d = &f->d;
    uint64_t owner_at = get64(live + d->live_wait_owner), owner, m = 0;
    out->has_run = true;
    out->is_waiting = status == DESCRIPTOR_WAITING;
    out->switches = get64(live + d->live_switches);
    out->tid = tid_of(f, get64(live + d->live_bound_m));
    if (!out->is_waiting && status != DESCRIPTOR_RUNNABLE && status != DESCRIPTOR_PREEMPTED)
        m = m_of(f, at);
    if (!out->tid && m)
        out->tid = tid_of(f, m);
    fibers_fill_counters(f, live, m, out);
    if (!out->is_waiting)
        return;
    out->object = get64(live + d->live_wait_object);
    out->last_tid = tid_of(f, get64(live + d->live_last_m));
    out->is_join = strcmp(out->state, "join") == 0;
    if (owner_at && owner_at % 8 == 0 && !read64(f, owner_at, &owner))
        out->owner = owner & ~OWNER_FLAGS;
}

static void fill_name(const struct fibers *f, const uint8_t *g, bool has_live, struct fiber *out)
{
    char text[FIBERS_TEXT] = "";
    uint64_t at = get64(g + f->d.g_name);
    if (has_live)
        copy_text(out->name, (const char *)f->live + f->d.live_name, FIBERS_TEXT);
    if (!out->name[0] && at) {
        size_t n = target_read_some(f->t, at, text, sizeof text);
        copy_text(out->name, text, n);
    }
}

// g is a copy of the G at `at`. False: it has ended, or is none.
static bool look(struct fibers *f, uint64_t at, const uint8_t *g, struct fiber *out)
{
    const struct fib_descriptor *d = &f->d;
    uint8_t status = g[d->g_status];
    uint64_t live = get64(g + d->g_live), site = get64(g + d->g_site);
    static const struct fiber none;
    *out = none;
    out->id = get64(g + d->g_id);
    if (!out->id || status == DESCRIPTOR_DEAD ||
        g[d->g_flags] & (DESCRIPTOR_IS_SYSTEM | DESCRIPTOR_IS_THREAD))
        return false;
    out->creator = get64(g + d->g_creator);
    out->start = get64(g + d->g_fn);
    bool has_live =
        live && !target_read(f->t, live, f->live, d->live_size) && get64(f->live + d->live_g) == at;
    out->is_missing = live && !has_live && target_is_core(f->t);
    if (out->is_missing)
        target_note_gap(f->t);
    if (site)
        read64(f, site, &out->created_at);
    fill_state(f, status, has_live, out);
    fill_name(f, g, has_live, out);
    fill_labels(f, (int32_t)get32(g + d->g_labels), out);
    if (has_live)
        fill_wait(f, at, status, f->live, out);
    bool is_wanted = !f->wants_stack || f->wants_stack(f->wants_arg, out->id);
    out->has_stack = has_live && is_wanted && walk(f, at, status, out);
    if (out->has_stack) {
        trim(f, out);
    } else {
        f->pcs[0] = get64(g + d->g_fn);
        out->pcs = f->pcs;
        out->depth = 1;
    }
    return true;
}

// Whether it is as it was in the copy, and did not run since.
static bool is_same(const struct fibers *f, uint64_t at, const uint8_t *g)
{
    const struct fib_descriptor *d = &f->d;
    uint8_t now[OBJECT_BYTES_MAX];
    uint64_t switches, live = get64(g + d->g_live);
    if (target_is_core(f->t))
        return true;
    if (target_read(f->t, at, now, d->g_size) || get64(now + d->g_id) != get64(g + d->g_id) ||
        now[d->g_status] != g[d->g_status] || get64(now + d->g_live) != live)
        return false;
    return !live || (!read64(f, live + d->live_switches, &switches) &&
                     switches == get64(f->live + d->live_switches));
}

// The last try is taken as it is, without a stack that may be none.
static bool look_until_same(struct fibers *f, uint64_t at, uint8_t *g, struct fiber *out)
{
    for (int i = 0; i < TRIES; i++) {
        if (!look(f, at, g, out))
            return false;
        if (is_same(f, at, g))
            return true;
        if (target_read(f->t, at, g, f->d.g_size))
            return false;
    }
    if (!look(f, at, g, out))
        return false;
    f->pcs[0] = get64(g + f->d.g_fn);
    out->pcs = f->pcs;
    out->depth = 1;
    out->flags = 0;
    out->has_stack = false;
    return true;
}

int fibers_each(struct fibers *f, int (*fn)(void *arg, const struct fiber *fiber), void *arg)
{
    const struct fib_descriptor *d = &f->d;
    uint64_t slab = 0;
    uint32_t count = 0;
    int rc = target_read(f->t, d->g_count, &count, sizeof count);
    if (!rc && count > GS_MAX)
        rc = -ENOTSUP;
    for (uint32_t i = 0; !rc && i < count; i++) {
        uint32_t into = i % d->slab_gs, here = count - i < d->slab_gs ? count - i : d->slab_gs;
        if (into == 0 && (rc = read64(f, d->slabs + UINT64_C(8) * (i / d->slab_gs), &slab)))
            break;
        if (into == 0 && (!slab || target_read(f->t, slab, f->slab, (size_t)here * d->g_size))) {
            i += here - 1; // being made
            continue;
        }
        struct fiber fiber;
        if (look_until_same(f, slab + (uint64_t)into * d->g_size,
                            f->slab + (size_t)into * d->g_size, &fiber))
            rc = fn(arg, &fiber);
    }
    return rc;
}

void fibers_want_stacks(struct fibers *f, bool (*wants)(void *arg, uint64_t id), void *arg)
{
    f->wants_stack = wants;
    f->wants_arg = arg;
}

// --- Threads.

int fibers_each_worker(struct fibers *f, int (*fn)(void *arg, const struct fibers_worker *w),
                       void *arg)
{
    uint64_t m = 0, cur;
    int rc = read64(f, f->d.all_ms, &m);
    for (int i = 0; !rc && m && i < MS_MAX; i++) {
        struct fibers_worker w = {.tid = tid_of(f, m), .start = m, .end = m + f->d.m_size};
        if (!read64(f, m + f->d.m_cur, &cur) && cur && cur != m + f->d.m_g0)
            read64(f, cur + f->d.g_id, &w.fiber);
        if (w.tid)
            rc = fn(arg, &w);
        if (!rc && (rc = read64(f, m + f->d.m_all_link, &m)))
            break;
    }
    return rc;
}

bool fibers_thread_wait(struct fibers *f, uint64_t futex, struct fiber *out)
{
    const struct fib_descriptor *d = &f->d;
    static const struct fiber none;
    uint8_t *g = f->slab; // a slab holds one at least
    uint64_t live = futex - d->live_futex;
    *out = none;
    if (target_read(f->t, live, f->live, d->live_size))
        return false;
    uint64_t at = get64(f->live + d->live_g);
    if (!at || target_read(f->t, at, g, d->g_size) || get64(g + d->g_live) != live ||
        !(g[d->g_flags] & DESCRIPTOR_IS_THREAD) || g[d->g_status] != DESCRIPTOR_WAITING)
        return false;
    fill_state(f, DESCRIPTOR_WAITING, true, out);
    fill_wait(f, at, DESCRIPTOR_WAITING, f->live, out);
    return true;
}

// --- The profile.

struct filling {
    struct builder_process *process;
    int64_t count;
};

static int add_fiber(void *arg, const struct fiber *f)
{
    struct filling *w = arg;
    const struct builder_sample s = {
        .user = f->pcs,
        .user_depth = f->depth,
        .count = 1,
        .part = RECORD_FIBERS_PART,
        .labels = f->labels,
        .label_count = f->label_count,
        .flags = f->flags,
        .when = 1,
    };
    w->count++;
    return builder_add(w->process, &s);
}

int64_t fibers_profile(struct fibers *f, struct builder *b)
{
    struct filling w = {.process =
                            builder_process(b, target_pid(f->t), UINT64_MAX, target_name(f->t))};
    int rc = w.process ? target_tell_builder(f->t, w.process) : -ENOMEM;
    if (!rc)
        rc = fibers_each(f, add_fiber, &w);
    return rc ? rc : w.count;
}
