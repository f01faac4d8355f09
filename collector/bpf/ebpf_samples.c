// SPDX-License-Identifier: MIT
//
// Records of the BPF programs into samples of the builder. See ebpf_internal.h.
//
// A record is the kernel's, but what it carries of stacks and labels is the target's: lengths are checked, texts cut.

#include "collector/bpf/ebpf_internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TELL_AGAIN_NS UINT64_C(1000000000)
// A record of the sideband is complete on its own CPU long before that.
#define SETTLED_US 1000

// --- The queue.

int ebpf_on_record(void *arg, const struct bpf_head *head)
{
    struct ebpf *e = arg;
    size_t room = (head->size + 7u) & ~(size_t)7;
    if (head->size < sizeof *head) {
        e->damaged++;
        return 0;
    }
    if (e->queued + room > e->queue_capacity) {
        size_t capacity = 2 * e->queue_capacity + room + 65536;
        uint8_t *grown = realloc(e->queue, capacity);
        if (!grown) {
            e->lost++;
            return 0;
        }
        e->queue = grown;
        e->queue_capacity = capacity;
    }
    memcpy(e->queue + e->queued, head, head->size);
    e->queued += room;
    return 0;
}

// --- Fibers.

// The runtime's own frame, the caller of start functions, is no part of the program.
static uint32_t strip_root(const struct ebpf_fibers *f, const uint64_t *pcs, uint32_t depth)
{
    // The last is a return address: into the root frame it lies behind its first instruction.
    if (f->is_there && depth > 1 && pcs[depth - 1] > f->root && pcs[depth - 1] <= f->root_end)
        return depth - 1;
    return depth;
}

static bool take_text(char *out, const char *from, uint32_t size)
{
    memcpy(out, from, size);
    out[size] = '\0';
    return out[0] != '\0';
}

// As the agent has them: those of the set, then the fiber's number (feed.c).
static void fill_labels(struct ebpf *e, struct builder_sample *s, const struct ebpf_fibers *f,
                        const struct bpf_fiber *fiber, uint32_t kind, const char *set)
{
    uint32_t size = f->label_size, n = 0;
    for (uint32_t i = 0; set && f->is_there && i < f->label_pairs && n < EBPF_LABELS_MAX - 1; i++) {
        const char *pair = set + (size_t)i * 2 * size;
        if ((uint64_t)(i + 1) * 2 * size > fiber->label_bytes)
            break;
        char(*text)[256] = e->label_text[n];
        if (!take_text(text[0], pair, size))
            break;
        take_text(text[1], pair + size, size);
        e->labels[n++] = (struct builder_label){.key = text[0], .value = text[1]};
    }
    if (fiber->id && fiber->id <= INT64_MAX && kind < BPF_SAMPLE_BLOCK)
        e->labels[n++] = (struct builder_label){.key = "fiber", .number = (int64_t)fiber->id};
    s->labels = e->labels;
    s->label_count = n;
}

// Who was woken.
static void fill_peer(struct ebpf *e, struct builder_sample *s, const struct bpf_peer *peer)
{
    uint32_t n = s->label_count;
    if (!peer->tid)
        return;
    take_text(e->label_text[n][1], peer->comm, sizeof peer->comm);
    e->labels[n] = (struct builder_label){.key = "woken", .value = e->label_text[n][1]};
    e->labels[n + 1] = (struct builder_label){.key = "woken_tid", .number = peer->tid};
    s->label_count = n + 2;
}

// --- Samples.

static uint32_t flags_of(uint32_t end, uint32_t user_depth)
{
    if (end == BPF_END_DEPTH)
        return SEG_FLAG_TRUNCATED;
    return end != BPF_END_ROOT && user_depth ? SEG_FLAG_BROKEN : 0;
}

static void take_comm(const char from[16], char out[17])
{
    memcpy(out, from, 16);
    out[16] = '\0';
}

static int add_stack(struct ebpf *e, const struct bpf_stack *r, struct ebpf_sink *to,
                     const struct ebpf_fibers *f, const struct bpf_sum *sum, bool is_freed)
{
    char comm[17];
    struct ebpf_values values;
    struct ebpf_fibers now = f->is_there ? *f : ebpf_fibers(e, r->head.pid);
    f = &now;
    take_comm(r->comm, comm);
    struct builder_sample s = {
        .tid = r->head.tid,
        .thread = comm,
        .user = r->pcs,
        .user_depth = strip_root(f, r->pcs, r->user_depth),
        .kernel = r->pcs + r->user_depth,
        .kernel_depth = r->kernel_depth,
        .when = r->head.time_ns,
        .object = r->kind == BPF_SAMPLE_WAKEUP ? 0 : r->object,
        .flags = flags_of(r->end, r->user_depth),
    };
    fill_labels(e, &s, f, &r->fiber, r->kind,
                (const char *)(r->pcs + r->user_depth + r->kernel_depth));
    fill_peer(e, &s, &r->peer);
    ebpf_probes_strip(e, to->in[0], f, r, &s);
    ebpf_probes_fill(e, r, sum, is_freed, to->in[0], &s, &values);
    bpf_code_touch(e->code, r->head.pid);
    return ebpf_add(e, to, &s, sum);
}

static bool is_whole_stack(const struct ebpf *e, const struct bpf_stack *r)
{
    return r->head.size >= sizeof *r && ebpf_kind_is_meant(e, r->kind) &&
           r->user_depth <= BPF_DEPTH_MAX && r->kernel_depth <= BPF_KERNEL_DEPTH_MAX &&
           r->fiber.label_bytes <= BPF_LABEL_BYTES_MAX &&
           sizeof *r + (uint64_t)(r->user_depth + r->kernel_depth) * 8 + r->fiber.label_bytes <=
               r->head.size;
}

static struct ebpf_key *find_key(struct ebpf *e, uint64_t key)
{
    struct ebpf_key *k = e->keys[key % EBPF_KEY_BUCKETS];
    while (k && k->key != key)
        k = k->next;
    return k;
}

static int remember(struct ebpf *e, const struct bpf_stack *r, const struct ebpf_sink *to,
                    const struct ebpf_fibers *f)
{
    struct ebpf_key *k = find_key(e, r->key);
    if (k) {
        k->round = e->round; // the same, sent again as its sum was taken
        return 0;
    }
    k = malloc(sizeof *k);
    struct bpf_stack *copy = malloc(r->head.size);
    if (!k || !copy) {
        free(k);
        free(copy);
        return -ENOMEM;
    }
    memcpy(copy, r, r->head.size);
    *k = (struct ebpf_key){
        .next = e->keys[r->key % EBPF_KEY_BUCKETS],
        .key = r->key,
        .round = e->round,
        .sink = *to,
        .fibers = *f,
        .stack = copy,
    };
    e->keys[r->key % EBPF_KEY_BUCKETS] = k;
    e->new_keys++;
    return 0;
}

static bool is_held(const struct ebpf *e, uint32_t pid)
{
    return pid && pid == e->held_pid;
}

// A stack that was walked, whether in the kernel or here.
static int on_walked(struct ebpf *e, const struct bpf_stack *r, struct perf_process *p)
{
    struct ebpf_fibers fibers = ebpf_fibers(e, r->head.pid);
    struct ebpf_sink to = {.kind = ebpf_kind(r->kind)};
    // What a command does that has not been executed yet is counted, and kept from the profile.
    if (!is_held(e, r->head.pid) && ebpf_sink(e, r, p, &to))
        return -ENOMEM;
    return r->key ? remember(e, r, &to, &fibers) : add_stack(e, r, &to, &fibers, &r->sum, false);
}

static int on_stack(struct ebpf *e, const struct bpf_stack *r)
{
    struct ebpf_process *known = ebpf_process_put(e, r->head.pid);
    struct perf_process *p = perf_code_process(e->processes, r->head.pid, r->head.time_ns);
    if (!known || !p)
        return -ENOMEM;
    if (!known->is_told && r->user_depth)
        known->is_dirty = true; // it was walked by its parent's tables
    return on_walked(e, r, p);
}

static void fill_sample(const struct ebpf *e, struct perf_sample *out, const struct bpf_copy *r)
{
    *out = (struct perf_sample){
        .ip = r->rip,
        .abi = PERF_ABI_64,
        .registers = {.rip = r->rip, .rbp = r->rbp, .rsp = r->rsp, .valid = r->valid},
        .stack = (const uint8_t *)(r->pcs + r->kernel_depth),
        .stack_bytes = r->stack_bytes,
        .stack_asked = e->stack_bytes,
        .is_entry = r->kind == BPF_SAMPLE_ALLOCATED && !r->hint, // as is_at_entry of profile.bpf.c
    };
    memcpy(out->registers.other, r->registers, sizeof out->registers.other);
}

// Code that became executable by mprotect is in no record; what never is known must not cost more than now and then.
static void meet_unknown_code(struct ebpf *e, struct ebpf_process *p, uint64_t when)
{
    if (p->is_told && when < p->told_ns + TELL_AGAIN_NS)
        return;
    p->is_unsure = p->is_told;
    p->is_dirty = true;
    e->busy_since_ns = when;
}

// What the kernel would have sent, had it known the code.
static struct bpf_stack *walked(const struct perf_walk *walk, const struct bpf_copy *r)
{
    size_t size = sizeof(struct bpf_stack) + ((size_t)walk->depth + r->kernel_depth) * 8;
    struct bpf_stack *s = malloc(size);
    if (!s)
        return NULL;
    *s = (struct bpf_stack){
        .head = r->head,
        .key = r->key,
        .sum = r->sum,
        .object = r->object,
        .peer = r->peer,
        .kind = r->kind,
        .end = walk->flags & SEG_FLAG_TRUNCATED ? BPF_END_DEPTH
               : walk->flags & SEG_FLAG_BROKEN  ? BPF_END_NO_ROW
                                                : BPF_END_ROOT,
        .user_depth = walk->depth,
        .kernel_depth = r->kernel_depth,
        .fiber = r->fiber,
        .hint = r->hint,
    };
    s->head.size = (uint32_t)size;
    memcpy(s->comm, r->comm, sizeof s->comm);
    memcpy(s->pcs, walk->pcs, (size_t)walk->depth * 8);
    memcpy(s->pcs + walk->depth, r->pcs, (size_t)r->kernel_depth * 8);
    return s;
}

static int on_copy(struct ebpf *e, const struct bpf_copy *r)
{
    struct ebpf_process *known = ebpf_process_put(e, r->head.pid);
    struct perf_process *p = perf_code_process(e->processes, r->head.pid, r->head.time_ns);
    if (!known || !p)
        return -ENOMEM;
    // Of a process that only waits no tables are made.
    if (!is_held(e, r->head.pid) && r->head.type == BPF_RECORD_COPY)
        meet_unknown_code(e, known, r->head.time_ns);
    struct perf_sample sample;
    fill_sample(e, &sample, r);
    perf_code_walk(e->processes, p, &sample, &e->walk);
    e->copies++;
    e->cut += e->walk.wants_more;
    struct bpf_stack *stack = walked(&e->walk, r);
    int rc = stack ? on_walked(e, stack, p) : -ENOMEM;
    free(stack);
    return rc;
}

static bool is_whole_copy(const struct ebpf *e, const struct bpf_copy *r)
{
    return r->head.size >= sizeof *r && ebpf_kind_is_meant(e, r->kind) &&
           r->kernel_depth <= BPF_KERNEL_DEPTH_MAX && r->stack_bytes <= BPF_STACK_COPY_MAX &&
           r->fiber.label_bytes == 0 &&
           sizeof *r + (uint64_t)r->kernel_depth * 8 + r->stack_bytes <= r->head.size;
}

static int hand_on(struct ebpf *e, const struct bpf_head *head)
{
    const void *r = head;
    switch (head->type) {
    case BPF_RECORD_STACK:
        if (is_whole_stack(e, r))
            return on_stack(e, r);
        break;
    case BPF_RECORD_COPY:
    case BPF_RECORD_WAITING:
        if (is_whole_copy(e, r))
            return on_copy(e, r);
        break;
    default:
        if (head->size >= sizeof(struct bpf_task_event))
            return ebpf_on_task(e, r);
    }
    e->damaged++;
    return 0;
}

int ebpf_run_queue(struct ebpf *e, uint64_t horizon_ns)
{
    size_t at = 0;
    int64_t rc = 0;
    while (at < e->queued && rc >= 0) {
        const struct bpf_head *head = (const void *)(e->queue + at);
        if (head->time_ns > horizon_ns)
            break;
        rc = sideband_drain(e->sideband, head->time_ns, ebpf_on_sideband, e);
        if (rc >= 0)
            rc = hand_on(e, head);
        at += (head->size + 7u) & ~(size_t)7;
    }
    if (at)
        memmove(e->queue, e->queue + at, e->queued - at);
    e->queued -= at;
    if (rc >= 0)
        rc = sideband_drain(e->sideband, horizon_ns, ebpf_on_sideband, e);
    if (rc >= 0 && e->rescan) {
        e->rescan = false;
        rc = perf_code_rescan(e->processes, record_now_ns(CLOCK_MONOTONIC));
    }
    return rc < 0 ? (int)rc : 0;
}

// --- Sums.

static int push(struct ebpf *e, struct ebpf_sums *sums, uint64_t key, const struct bpf_sum *sum)
{
    if (sums->count == sums->capacity) {
        size_t capacity = 2 * sums->capacity + 1024;
        struct ebpf_sum *grown = reallocarray(sums->items, capacity, sizeof *grown);
        if (!grown) {
            e->lost += sum->count;
            return 0;
        }
        sums->items = grown;
        sums->capacity = capacity;
    }
    sums->items[sums->count++] = (struct ebpf_sum){key, *sum, e->round};
    return 0;
}

static int on_sum(void *arg, uint64_t key, const struct bpf_sum *sum)
{
    struct ebpf *e = arg;
    return push(e, &e->sums, key, sum);
}

static int on_unended(void *arg, uint64_t key, const struct bpf_sum *sum)
{
    struct ebpf *e = arg;
    return push(e, &e->unended, key, sum);
}

// Adds those whose keys have come; a key that has not come by the next time was lost with the ring's record.
static int match_sums(struct ebpf *e, bool is_last)
{
    size_t kept = 0;
    int rc = 0;
    for (size_t i = 0; i < e->sums.count; i++) {
        const struct ebpf_sum *s = &e->sums.items[i];
        bool is_freed = false;
        struct ebpf_key *k = find_key(e, s->key);
        if (!k && (k = find_key(e, s->key ^ BPF_KEY_FREED)))
            is_freed = true;
        if (k && !rc)
            rc = add_stack(e, k->stack, &k->sink, &k->fibers, &s->sum, is_freed);
        else if (!is_last && s->round == e->round)
            e->sums.items[kept++] = *s;
        else
            e->lost += s->sum.count;
        // The next wait may have begun meanwhile, and is not told of again, as its sum was there.
        if (k && k->sink.kind->is_wait)
            k->round = e->round;
    }
    e->sums.count = kept;
    return rc;
}

// A wait that has not ended: its sum comes later.
static int on_waiting(void *arg, uint64_t key, const struct bpf_sum *sum)
{
    struct ebpf *e = arg;
    struct ebpf_key *k = find_key(e, key);
    (void)sum;
    if (k)
        k->round = e->round;
    return 0;
}

// Of a process that has ended nothing more comes, once what it did as it ended has been summed.
static bool is_over(struct ebpf *e, struct ebpf_key *k)
{
    bool is_kept = k->sink.kind->is_kept;
    if (is_kept && ebpf_process(e, k->stack->head.pid))
        k->round = e->round;
    return k->round + is_kept < e->round;
}

static void drop_keys(struct ebpf *e, bool all)
{
    for (size_t i = 0; i < EBPF_KEY_BUCKETS; i++) {
        for (struct ebpf_key **at = &e->keys[i], *k; (k = *at);) {
            if (!all && !is_over(e, k)) {
                at = &k->next;
                continue;
            }
            *at = k->next;
            free(k->stack);
            free(k);
        }
    }
}

int ebpf_settle(struct ebpf *e)
{
    usleep(SETTLED_US);
    return ebpf_run_queue(e, UINT64_MAX);
}

// What has been taken is added. rc: of taking it.
static int end_round(struct ebpf *e, bool is_last, int64_t rc)
{
    if (rc >= 0)
        rc = ebpf_settle(e);
    if (e->ended_rounds && !is_last) {
        e->ended_rounds--;
        ebpf_probes_forget(e);
    }
    int rc2 = match_sums(e, is_last);
    // What came during this round may have been counted once more after its sum was taken.
    drop_keys(e, false);
    e->round++;
    e->new_keys = 0;
    return rc < 0 ? (int)rc : rc2;
}

int ebpf_take_sums(struct ebpf *e, bool is_last)
{
    // Before the sums: what begins later is told of in this round.
    int64_t rc = is_last ? 0 : bpf_programs_waits(e->programs, on_waiting, e);
    int64_t rc2 = bpf_programs_sums(e->programs, ebpf_on_record, on_sum, e);
    if (is_last && rc2 >= 0)
        rc2 = bpf_programs_waits(e->programs, on_sum, e);
    return end_round(e, is_last, rc < 0 ? rc : rc2);
}

// --- Profiles of waits that begin and end while others go on.

int ebpf_cut(struct ebpf *e, uint64_t *when)
{
    int64_t rc = bpf_programs_waits(e->programs, on_waiting, e);
    e->unended.count = 0;
    int64_t rc2 = bpf_programs_cut(e->programs, on_unended, ebpf_on_record, on_sum, e, when);
    return end_round(e, false, rc < 0 ? rc : rc2);
}

static size_t index_of(const struct ebpf_kind *kind, int record_kind)
{
    size_t i = 0;
    while (i < EBPF_INTO_MAX && kind->into[i] != record_kind)
        i++;
    return i;
}

void ebpf_waits_begin(struct ebpf *e, int kind)
{
    for (size_t i = 0; i < EBPF_KEY_BUCKETS; i++)
        for (struct ebpf_key *k = e->keys[i]; k; k = k->next) {
            size_t at = index_of(k->sink.kind, kind);
            if (at < EBPF_INTO_MAX)
                k->sink.cut[at] = (struct bpf_sum){0};
        }
    for (size_t i = 0; i < e->unended.count; i++) {
        struct ebpf_key *k = find_key(e, e->unended.items[i].key);
        size_t at = k ? index_of(k->sink.kind, kind) : EBPF_INTO_MAX;
        if (at < EBPF_INTO_MAX)
            k->sink.cut[at] = e->unended.items[i].sum;
    }
}

int ebpf_waits_end(struct ebpf *e, int kind)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < e->unended.count; i++) {
        const struct ebpf_key *k = find_key(e, e->unended.items[i].key);
        if (!k)
            continue; // its record was lost
        struct ebpf_sink only = k->sink;
        for (size_t j = 0; j < EBPF_INTO_MAX; j++)
            if (only.kind->into[j] != kind)
                only.in[j] = NULL;
        rc = add_stack(e, k->stack, &only, &k->fibers, &e->unended.items[i].sum, false);
    }
    return rc;
}

void ebpf_keys_again(struct ebpf *e)
{
    for (size_t i = 0; i < EBPF_KEY_BUCKETS; i++)
        for (struct ebpf_key *k = e->keys[i]; k; k = k->next) {
            const struct bpf_head *h = &k->stack->head;
            struct perf_process *p = perf_code_process(e->processes, h->pid, h->time_ns);
            struct ebpf_sink old = k->sink;
            k->sink = (struct ebpf_sink){.kind = old.kind};
            if (!p || ebpf_sink(e, k->stack, p, &k->sink))
                e->lost++; // no memory
            k->sink.rest_ns = old.rest_ns;
            memcpy(k->sink.cut, old.cut, sizeof old.cut);
        }
}

void ebpf_samples_free(struct ebpf *e)
{
    drop_keys(e, true);
    free(e->queue);
    free(e->sums.items);
    free(e->unended.items);
}
