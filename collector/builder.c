// SPDX-License-Identifier: MIT
//
// See builder.h. Everything is interned bytes: locations {address, file}, user and kernel stacks
// (arrays of location ids), label sets and whole samples; a sample's values stand beside its id.

#include "collector/builder_internal.h"

#include <string.h>
#include <unistd.h>

int builder_new(struct builder **out, const struct builder_options *opts)
{
    size_t value_count = values_stored(opts->kind);
    if (!value_count)
        return -EINVAL;
    struct builder *b = calloc(1, sizeof *b);
    if (!b)
        return -ENOMEM;
    b->kind = opts->kind;
    b->value_count = value_count;
    b->period_ns = opts->period_ns;
    b->rate_bytes = opts->rate_bytes;
    b->is_outside = opts->is_outside;
    b->real_ns = opts->real_ns;
    // Id 0 is the empty string, the empty stack, the empty label set.
    if (intern_string(&b->strings, "") != 0 || intern_put(&b->stacks, NULL, 0) != 0 ||
        intern_put(&b->label_sets, NULL, 0) != 0) {
        builder_free(b);
        return -ENOMEM;
    }
    *out = b;
    return 0;
}

void builder_free(struct builder *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->process_count; i++) {
        free(b->processes[i]->modules);
        intern_finish(&b->processes[i]->stack_keys);
        free(b->processes[i]->stack_ids);
        free(b->processes[i]);
    }
    free(b->processes);
    for (size_t i = 0; i < b->file_keys.count; i++)
        if (b->files[i].fd >= 0)
            close(b->files[i].fd);
    free(b->files);
    free(b->values);
    free(b->lock_infos);
    free(b->thread_names);
    free(b->comments);
    free(b->mapping_files);
    free(b->scratch);
    intern_finish(&b->strings);
    intern_finish(&b->file_keys);
    intern_finish(&b->locations);
    intern_finish(&b->stacks);
    intern_finish(&b->label_sets);
    intern_finish(&b->samples);
    intern_finish(&b->threads);
    intern_finish(&b->locks);
    intern_finish(&b->parts);
    free(b);
}

struct builder_process *builder_process(struct builder *b, uint32_t pid, uint64_t start,
                                        const char *name)
{
    struct builder_process *p = NULL;
    for (size_t i = b->process_count; i > 0 && !p; i--)
        if (b->processes[i - 1]->pid == pid && b->processes[i - 1]->start == start)
            p = b->processes[i - 1];
    uint32_t name_id = intern_string(&b->strings, name);
    if (name_id == INTERN_NONE)
        return NULL;
    if (p) {
        if (name)
            p->name = name_id;
        return p;
    }
    if (RESERVE(b->processes, b->process_capacity, b->process_count))
        return NULL;
    p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->builder = b;
    p->index = (uint32_t)b->process_count;
    p->pid = pid;
    p->start = start;
    p->name = name_id;
    b->processes[b->process_count++] = p;
    return p;
}

// The file of a mapping, made if it is not there. Takes fd if it makes use of it, and then sets it
// to -1. NO_FILE when memory is exhausted.
static uint32_t put_file(struct builder_process *p, const struct builder_module *m, int *fd)
{
    struct builder *b = p->builder;
    bool is_shared = m->path && (m->path[0] == '/' || strcmp(m->path, "[vdso]") == 0) &&
                     strncmp(m->path, "//", 2) != 0;
    struct file_key key = {
        .size = m->end - m->start,
        .offset = m->offset,
        .device = m->device,
        .inode = m->inode,
        .path = intern_string(&b->strings, m->path),
        .build_id = intern_string(&b->strings, m->build_id),
        .process = is_shared ? 0 : p->index + UINT64_C(1),
    };
    if (key.path == INTERN_NONE || key.build_id == INTERN_NONE)
        return NO_FILE;
    // Memory without a file has no identity but its place.
    if (!is_shared)
        key.inode = m->start;
    uint32_t before = b->file_keys.count;
    if (RESERVE(b->files, b->file_capacity, before))
        return NO_FILE;
    uint32_t id = intern_put(&b->file_keys, &key, sizeof key);
    if (id == INTERN_NONE)
        return NO_FILE;
    struct file *f = &b->files[id];
    if (id == before)
        *f = (struct file){.key = key, .start = m->start, .pid = p->pid, .fd = -1};
    if (f->fd < 0 && *fd >= 0) {
        f->fd = *fd;
        f->pid = p->pid;
        *fd = -1;
    }
    return id;
}

static struct module *find_module(const struct builder_process *p, uint64_t start, uint64_t end,
                                  uint64_t offset, uint64_t from)
{
    for (size_t i = 0; i < p->module_count; i++) {
        struct module *m = &p->modules[i];
        if (m->start == start && m->end == end && m->offset == offset && m->from == from)
            return m;
    }
    return NULL;
}

bool builder_has_module(const struct builder_process *p, uint64_t start, uint64_t end,
                        uint64_t offset, uint64_t from)
{
    return find_module(p, start, end, offset, from) != NULL;
}

int builder_module(struct builder_process *p, const struct builder_module *m)
{
    int fd = m->fd;
    int rc = -EINVAL;
    if (m->start >= m->end)
        goto out;
    struct module *known = find_module(p, m->start, m->end, m->offset, m->from);
    if (known) {
        known->until = m->until;
        rc = 0;
        goto out;
    }
    rc = RESERVE(p->modules, p->module_capacity, p->module_count);
    if (rc)
        goto out;
    rc = -ENOMEM;
    uint32_t file = put_file(p, m, &fd);
    if (file == NO_FILE)
        goto out;
    p->modules[p->module_count++] = (struct module){
        .start = m->start,
        .end = m->end,
        .offset = m->offset,
        .from = m->from,
        .until = m->until,
        .file = file,
    };
    memset(p->cache, 0, sizeof p->cache); // an older mapping may be hidden now
    rc = 0;
out:
    if (fd >= 0)
        close(fd);
    return rc;
}

static bool module_holds(const struct module *m, uint64_t pc, uint64_t when)
{
    return pc >= m->start && pc < m->end && m->from <= when && (m->until == 0 || when < m->until);
}

static const struct module *lookup(struct builder_process *p, uint64_t pc, uint64_t when)
{
    uint32_t *cached = &p->cache[(pc >> 12) % LOOKUP_CACHE];
    if (*cached && module_holds(&p->modules[*cached - 1], pc, when)) {
        // Only the newest mapping of an address is cached, so no later one can hide it.
        return &p->modules[*cached - 1];
    }
    const struct module *best = NULL, *newest = NULL;
    for (size_t i = 0; i < p->module_count; i++) {
        const struct module *m = &p->modules[i];
        if (pc < m->start || pc >= m->end)
            continue;
        if (!newest || m->from >= newest->from)
            newest = m;
        if (module_holds(m, pc, when) && (!best || m->from >= best->from))
            best = m;
    }
    if (best && best == newest)
        *cached = (uint32_t)(best - p->modules) + 1;
    return best;
}

static uint32_t put_location(struct builder_process *p, uint64_t pc, uint64_t when, bool is_leaf,
                             bool *mapped)
{
    if (!is_leaf && pc)
        pc--;
    const struct module *m = lookup(p, pc, when);
    *mapped = m != NULL;
    struct location_key key = {.address = pc, .file = NO_FILE};
    if (m) {
        key.file = m->file;
        key.address = pc - m->start + p->builder->files[m->file].start;
    }
    return intern_put(&p->builder->locations, &key, sizeof key);
}

static uint32_t put_kernel_location(struct builder_process *p, uint64_t pc, bool is_leaf)
{
    struct builder *b = p->builder;
    struct file_key key = {.path = intern_string(&b->strings, BUILDER_KERNEL_FILE)};
    uint32_t before = b->file_keys.count;
    if (key.path == INTERN_NONE || RESERVE(b->files, b->file_capacity, before))
        return INTERN_NONE;
    uint32_t file = intern_put(&b->file_keys, &key, sizeof key);
    if (file == INTERN_NONE)
        return INTERN_NONE;
    if (file == before)
        b->files[file] = (struct file){.key = key, .start = BUILDER_KERNEL_START, .fd = -1};
    struct location_key location = {.address = is_leaf ? pc : pc - 1, .file = file};
    return intern_put(&b->locations, &location, sizeof location);
}

static int reserve_scratch(struct builder *b, size_t depth)
{
    if (depth <= b->scratch_capacity)
        return 0;
    uint32_t *scratch = reallocarray(b->scratch, depth, sizeof *scratch);
    if (!scratch)
        return -ENOMEM;
    b->scratch = scratch;
    b->scratch_capacity = depth;
    return 0;
}

static uint32_t put_kernel_stack(struct builder_process *p, const struct builder_sample *s)
{
    struct builder *b = p->builder;
    if (reserve_scratch(b, s->kernel_depth))
        return INTERN_NONE;
    for (uint32_t i = 0; i < s->kernel_depth; i++) {
        b->scratch[i] = put_kernel_location(p, s->kernel[i], i == 0);
        if (b->scratch[i] == INTERN_NONE)
            return INTERN_NONE;
    }
    return intern_put(&b->stacks, b->scratch, s->kernel_depth * sizeof *b->scratch);
}

static uint32_t put_user_stack(struct builder_process *p, const struct builder_sample *s)
{
    struct builder *b = p->builder;
    if (reserve_scratch(b, s->user_depth))
        return INTERN_NONE;
    for (uint32_t i = 0; i < s->user_depth; i++) {
        bool mapped;
        b->scratch[i] = put_location(p, s->user[i], s->when, i == 0, &mapped);
        if (b->scratch[i] == INTERN_NONE)
            return INTERN_NONE;
    }
    return intern_put(&b->stacks, b->scratch, s->user_depth * sizeof *b->scratch);
}

// The same through the caller's key. A key that cannot be remembered is resolved each time.
static uint32_t put_keyed_stack(struct builder_process *p, const struct builder_sample *s)
{
    if (!s->stack_key)
        return put_user_stack(p, s);
    uint32_t known = intern_find(&p->stack_keys, &s->stack_key, sizeof s->stack_key);
    if (known != INTERN_NONE)
        return p->stack_ids[known];
    uint32_t stack = put_user_stack(p, s);
    if (stack == INTERN_NONE || RESERVE(p->stack_ids, p->stack_id_capacity, p->stack_keys.count))
        return stack;
    uint32_t id = intern_put(&p->stack_keys, &s->stack_key, sizeof s->stack_key);
    if (id != INTERN_NONE)
        p->stack_ids[id] = stack;
    return stack;
}

static uint32_t put_labels(struct builder *b, const struct builder_sample *s)
{
    enum { LABELS_MAX = 64 };
    struct label_key keys[LABELS_MAX];
    uint32_t n = s->label_count < LABELS_MAX ? s->label_count : LABELS_MAX;
    for (uint32_t i = 0; i < n; i++) {
        const struct builder_label *l = &s->labels[i];
        keys[i] = (struct label_key){
            .key = intern_string(&b->strings, l->key),
            .value = l->value ? intern_string(&b->strings, l->value) : INTERN_NONE,
            .number = l->value ? 0 : l->number,
            .unit = intern_string(&b->strings, l->value ? NULL : l->unit),
        };
        if (keys[i].key == INTERN_NONE || keys[i].unit == INTERN_NONE ||
            (l->value && keys[i].value == INTERN_NONE))
            return INTERN_NONE;
    }
    return intern_put(&b->label_sets, keys, n * sizeof *keys);
}

static void count_sample(struct builder_process *p, const struct builder_sample *s, uint32_t user)
{
    struct builder *b = p->builder;
    struct builder_stats *t = &b->stats;
    uint64_t count = s->heap     ? s->heap->alloc_objects
                     : s->growth ? s->growth->faults + s->growth->maps
                                 : s->count;
    if (s->part && b->kind == SEG_KIND_HEAP)
        return; // the same allocations once more
    t->samples += count;
    t->ns += s->ns;
    t->runnable_ns += s->runnable_ns;
    t->truncated += s->flags & SEG_FLAG_TRUNCATED ? count : 0;
    t->broken += s->flags & SEG_FLAG_BROKEN ? count : 0;
    t->no_stack += s->user_depth == 0 && s->kernel_depth == 0 ? count : 0;
    if (s->user_depth) {
        const uint32_t *ids = b->stacks.entries[user].data;
        const struct location_key *leaf = b->locations.entries[ids[0]].data;
        t->unmapped += leaf->file == NO_FILE ? count : 0;
    }
    if (!p->has_samples)
        t->processes++;
    p->has_samples = true;
}

int builder_thread(struct builder_process *p, uint32_t tid, const char *name)
{
    struct builder *b = p->builder;
    if (RESERVE(b->thread_names, b->thread_capacity, b->threads.count))
        return -ENOMEM;
    struct thread_key key = {p->index, tid};
    uint32_t before = b->threads.count;
    uint32_t id = intern_put(&b->threads, &key, sizeof key);
    if (id == INTERN_NONE)
        return -ENOMEM;
    if (id == before)
        b->thread_names[id] = 0;
    uint32_t name_id = name && *name ? intern_string(&b->strings, name) : INTERN_NONE;
    if (name_id != INTERN_NONE)
        b->thread_names[id] = name_id;
    return 0;
}

// The lock at this address in this process; its id or INTERN_NONE.
static uint32_t put_lock(struct builder_process *p, uint64_t object)
{
    struct builder *b = p->builder;
    struct lock_key key = {.object = object, .process = p->index};
    if (RESERVE(b->lock_infos, b->lock_capacity, b->locks.count))
        return INTERN_NONE;
    uint32_t before = b->locks.count;
    uint32_t id = intern_put(&b->locks, &key, sizeof key);
    if (id == before)
        b->lock_infos[id] = (struct lock){0};
    return id;
}

int builder_lock(struct builder_process *p, const struct builder_lock *lock)
{
    struct builder *b = p->builder;
    struct lock_key key = {.object = lock->object, .process = p->index};
    uint32_t id = intern_find(&b->locks, &key, sizeof key);
    if (id == INTERN_NONE)
        return 0;
    struct lock *known = &b->lock_infos[id];
    if (known->type == SEG_LOCK_UNKNOWN && lock->type <= SEG_LOCK_FUTEX)
        known->type = lock->type;
    if (!lock->made_depth)
        return 0;
    const struct builder_sample stack = {
        .user = lock->made, .user_depth = lock->made_depth, .when = lock->when};
    uint32_t made = put_user_stack(p, &stack);
    if (made == INTERN_NONE)
        return -ENOMEM;
    for (size_t i = 0; i < BUILDER_MAKERS_MAX; i++) {
        bool is_free = !known->made[i].stack;
        if (is_free) {
            known->made[i].stack = made;
            known->made[i].offset = lock->made_offset;
        }
        if (is_free || known->made[i].stack == made)
            break;
    }
    return 0;
}

// The object's place in a sample's key; false: out of memory.
static bool put_object(struct builder_process *p, const struct builder_sample *s, uint64_t *out)
{
    enum seg_kind kind = p->builder->kind;
    *out = kind == SEG_KIND_HEAP ? s->object : 0;
    if (!s->object || (kind != SEG_KIND_BLOCK && kind != SEG_KIND_MUTEX))
        return true;
    uint32_t id = put_lock(p, s->object);
    *out = id + UINT64_C(1);
    return id != INTERN_NONE;
}

static uint32_t put_part(struct builder *b, const char *part)
{
    uint32_t id = intern_string(&b->strings, part);
    if (id == 0 || id == INTERN_NONE)
        return id;
    return intern_put(&b->parts, &id, sizeof id) == INTERN_NONE ? INTERN_NONE : id;
}

int builder_add(struct builder_process *p, const struct builder_sample *s)
{
    struct builder *b = p->builder;
    struct sample_key key = {
        .process = p->index,
        .tid = s->tid,
        .kernel = s->kernel_depth ? put_kernel_stack(p, s) : 0,
        .user = s->user_depth ? put_keyed_stack(p, s) : 0,
        .labels = s->label_count ? put_labels(b, s) : 0,
        .part = s->part ? put_part(b, s->part) : 0,
    };
    if (!put_object(p, s, &key.object) || key.part == INTERN_NONE ||
        (s->tid && s->thread && builder_thread(p, s->tid, s->thread)) ||
        key.kernel == INTERN_NONE || key.user == INTERN_NONE || key.labels == INTERN_NONE ||
        array_reserve((void **)&b->values, &b->value_capacity, b->samples.count,
                      b->value_count * sizeof *b->values))
        goto lost;
    uint32_t before = b->samples.count;
    uint32_t id = intern_put(&b->samples, &key, sizeof key);
    if (id == INTERN_NONE)
        goto lost;
    if (id == before)
        memset(&b->values[id * b->value_count], 0, b->value_count * sizeof *b->values);
    values_add(b, id, s);
    count_sample(p, s, key.user);
    return 0;
lost:
    b->stats.lost += s->heap ? s->heap->alloc_objects : s->count;
    return -ENOMEM;
}

void builder_lost(struct builder *b, uint64_t count)
{
    b->stats.lost += count;
}

void builder_add_losses(struct builder *b, const struct builder_losses *losses)
{
    struct builder_losses *sum = &b->stats.losses;
    sum->folded += losses->folded;
    sum->stacks += losses->stacks;
    sum->states += losses->states;
    sum->threads += losses->threads;
    sum->modules += losses->modules;
    sum->untracked += losses->untracked;
    sum->unknown_frees += losses->unknown_frees;
    sum->series += losses->series;
    sum->collapsed += losses->collapsed;
}

void builder_set_period(struct builder *b, uint64_t period_ns)
{
    b->period_ns = period_ns;
}

void builder_set_rate(struct builder *b, uint64_t rate_bytes)
{
    b->rate_bytes = rate_bytes;
}

void builder_process_rate(struct builder_process *p, uint64_t rate_bytes)
{
    p->rate_bytes = rate_bytes;
}

void builder_heap_peak(struct builder *b, uint64_t bytes, uint64_t after_ns)
{
    if (bytes <= b->peak_bytes)
        return;
    b->peak_bytes = bytes;
    b->peak_ns = after_ns;
}

void builder_set_start(struct builder *b, uint64_t real_ns)
{
    b->real_ns = real_ns;
}

void builder_add_ops(struct builder *b, uint64_t ops)
{
    b->ops += ops;
}

int builder_comment(struct builder *b, const char *text)
{
    if (RESERVE(b->comments, b->comment_capacity, b->comment_count))
        return -ENOMEM;
    uint32_t id = intern_string(&b->strings, text);
    if (id == INTERN_NONE)
        return -ENOMEM;
    b->comments[b->comment_count++] = id;
    return 0;
}

bool builder_has_lock(const struct builder_process *p, uint64_t object)
{
    const struct lock_key key = {.object = object, .process = p->index};
    return intern_find(&p->builder->locks, &key, sizeof key) != INTERN_NONE;
}

uint32_t builder_process_lock_count(const struct builder_process *p)
{
    return builder_lock_count(p->builder);
}

uint32_t builder_lock_count(const struct builder *b)
{
    return b->locks.count;
}

void builder_get_lock(const struct builder *b, uint32_t index, struct builder_lock_view *out)
{
    const struct lock_key *key = b->locks.entries[index].data;
    const struct lock *lock = &b->lock_infos[index];
    *out = (struct builder_lock_view){
        .object = key->object,
        .type = lock->type,
        .process = b->processes[key->process],
        .name = intern_text(&b->strings, lock->name),
    };
}

int builder_name_lock(struct builder *b, uint32_t index, const char *name)
{
    uint32_t id = intern_string(&b->strings, name);
    if (id == INTERN_NONE)
        return -ENOMEM;
    b->lock_infos[index].name = id;
    return 0;
}

bool builder_get_module(const struct builder_process *p, size_t index, struct builder_module *out)
{
    if (index >= p->module_count)
        return false;
    const struct module *m = &p->modules[index];
    const struct builder *b = p->builder;
    const struct file *f = &b->files[m->file];
    *out = (struct builder_module){
        .start = m->start,
        .end = m->end,
        .offset = m->offset,
        .path = intern_text(&b->strings, f->key.path),
        .build_id = intern_text(&b->strings, f->key.build_id),
        .device = f->key.device,
        .inode = f->key.process ? 0 : f->key.inode,
        .from = m->from,
        .until = m->until,
        .fd = f->fd,
    };
    return true;
}

bool builder_file(const struct builder *b, size_t index, int *fd, uint32_t *pid, uint64_t *device,
                  uint64_t *inode)
{
    if (index >= b->mapping_count)
        return false;
    const struct file *f = &b->files[b->mapping_files[index]];
    *fd = f->fd;
    *pid = f->pid;
    *device = f->key.device;
    *inode = f->key.process ? 0 : f->key.inode;
    return true;
}
