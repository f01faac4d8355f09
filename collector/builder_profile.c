// SPDX-License-Identifier: MIT
//
// The way out of a builder: interned ids become pprof's tables. Only files that a sample names
// become mappings, the program's own first, because readers take mapping 1 for the main binary.

#include "collector/builder_internal.h"

#include <stdio.h>
#include <inttypes.h>
#include <string.h>

struct output {
    struct builder *b;
    struct pprof_profile *p;
    struct pprof_mapping **mappings;   // by file id; NULL: not named yet
    struct pprof_location **locations; // by location id; NULL: not made yet
    struct pprof_location **stack;     // scratch
    size_t stack_capacity;
    uint32_t only_pid;              // 0: all
    uint32_t part;                  // string id
    struct pprof_location *unknown; // stands for a stack that was lost
};

static struct pprof_mapping *mapping_of(struct output *o, uint32_t file)
{
    if (file == NO_FILE)
        return NULL;
    if (o->mappings[file])
        return o->mappings[file];
    const struct builder *b = o->b;
    const struct file *f = &b->files[file];
    bool is_kernel = f->start == BUILDER_KERNEL_START;
    struct pprof_mapping *m = pprof_add_mapping(
        o->p, f->start, is_kernel ? UINT64_MAX : f->start + f->key.size, f->key.offset,
        intern_text(&b->strings, f->key.path), intern_text(&b->strings, f->key.build_id));
    if (!m)
        return NULL;
    o->mappings[file] = m;
    o->b->mapping_files[o->b->mapping_count++] = file;
    return m;
}

static struct pprof_location *location_of(struct output *o, uint32_t id)
{
    if (!o->locations[id]) {
        const struct location_key *key = o->b->locations.entries[id].data;
        struct pprof_mapping *m = mapping_of(o, key->file);
        if (!m && key->file != NO_FILE)
            return NULL;
        o->locations[id] = pprof_intern_location(o->p, m, key->address, NULL, 0);
    }
    return o->locations[id];
}

static struct pprof_location *unknown_location(struct output *o)
{
    if (!o->unknown) {
        struct pprof_line line = {
            .function = pprof_intern_function(o->p, "[stack lost]", "[stack lost]", NULL, 0)};
        if (line.function)
            o->unknown = pprof_intern_location(o->p, NULL, 0, &line, 1);
    }
    return o->unknown;
}

// Kernel frames are nearer to the leaf than user frames.
static int fill_stack(struct output *o, uint32_t kernel, uint32_t user, uint32_t *depth)
{
    const struct intern_entry *parts[2] = {&o->b->stacks.entries[kernel],
                                           &o->b->stacks.entries[user]};
    size_t n = (parts[0]->size + parts[1]->size) / sizeof(uint32_t);
    if (n + 1 > o->stack_capacity) {
        struct pprof_location **grown = reallocarray(o->stack, n + 1, sizeof(void *));
        if (!grown)
            return -ENOMEM;
        o->stack = grown;
        o->stack_capacity = n + 1;
    }
    *depth = 0;
    for (int part = 0; part < 2; part++) {
        const uint32_t *ids = parts[part]->data;
        for (size_t i = 0; i < parts[part]->size / sizeof *ids; i++) {
            struct pprof_location *l = location_of(o, ids[i]);
            if (!l)
                return -ENOMEM;
            o->stack[(*depth)++] = l;
        }
    }
    if (*depth == 0) {
        o->stack[0] = unknown_location(o);
        *depth = 1;
    }
    return o->stack[0] ? 0 : -ENOMEM;
}

static const char *thread_name(const struct builder *b, const struct sample_key *sample)
{
    struct thread_key key = {sample->process, sample->tid};
    uint32_t id = intern_find(&b->threads, &key, sizeof key);
    return id == INTERN_NONE ? "" : intern_text(&b->strings, b->thread_names[id]);
}

enum { OWN_LABELS = 8, LABELS = 64 + OWN_LABELS };

static void put_text(struct pprof_label *labels, uint32_t *n, const char *key, const char *text)
{
    if (*text)
        labels[(*n)++] = (struct pprof_label){.key = key, .str = text};
}

static void put_number(struct pprof_label *labels, uint32_t *n, const char *key, int64_t number)
{
    if (number)
        labels[(*n)++] = (struct pprof_label){.key = key, .str = "", .num = number};
}

static void put_lock_labels(const struct builder *b, uint64_t object, struct pprof_label *labels,
                            uint32_t *n)
{
    if (!object || b->kind == SEG_KIND_HEAP)
        return;
    struct builder_lock_view lock;
    builder_get_lock(b, (uint32_t)(object - 1), &lock);
    put_text(labels, n, "lock", lock.name);
    put_number(labels, n, "lock_address", (int64_t)lock.object);
}

static uint32_t fill_labels(const struct output *o, const struct sample_key *key,
                            const struct sample_view *view, struct pprof_label *labels)
{
    const struct builder *b = o->b;
    const struct builder_process *process = b->processes[key->process];
    uint32_t n = 0;
    put_text(labels, &n, "thread", thread_name(b, key));
    put_number(labels, &n, "tid", key->tid);
    if (b->stats.processes > 1 && !o->only_pid) {
        put_text(labels, &n, "process", intern_text(&b->strings, process->name));
        labels[n++] = (struct pprof_label){.key = "pid", .str = "", .num = process->pid};
    }
    put_lock_labels(b, key->object, labels, &n);
    put_number(labels, &n, "bytes", view->mean_bytes);
    const struct intern_entry *set = &b->label_sets.entries[key->labels];
    const struct label_key *extra = set->data;
    for (size_t i = 0; i < set->size / sizeof *extra && n < LABELS; i++) {
        bool is_text = extra[i].value != INTERN_NONE;
        labels[n++] = (struct pprof_label){
            .key = intern_text(&b->strings, extra[i].key),
            .str = is_text ? intern_text(&b->strings, extra[i].value) : "",
            .num = extra[i].number,
            .num_unit = extra[i].unit ? intern_text(&b->strings, extra[i].unit) : NULL,
        };
    }
    return n;
}

static int add_sample(struct output *o, uint32_t id)
{
    struct builder *b = o->b;
    const struct sample_key *key = b->samples.entries[id].data;
    struct pprof_label labels[LABELS];
    struct sample_view view;
    uint32_t depth;
    if ((o->only_pid && b->processes[key->process]->pid != o->only_pid) || key->part != o->part)
        return 0;
    values_view(b, id, key->part == 0, &view);
    if (view.is_empty)
        return 0;
    uint32_t n = fill_labels(o, key, &view, labels);
    if (fill_stack(o, key->kernel, key->user, &depth))
        return -ENOMEM;
    return pprof_add_sample(o->p, o->stack, depth, view.values, labels, n);
}

static int fill_header(const struct output *o, uint64_t duration_ns)
{
    const struct builder *b = o->b;
    struct pprof_profile *p = o->p;
    char text[48] = "";
    if (values_header(b, intern_text(&b->strings, o->part), p))
        return -ENOMEM;
    p->time_nanos = (int64_t)b->real_ns;
    p->duration_nanos = (int64_t)duration_ns;
    for (size_t i = 0; i < b->comment_count; i++)
        if (pprof_add_comment(p, intern_text(&b->strings, b->comments[i])))
            return -ENOMEM;
    // Block and mutex profiles have the same types in Go's form, and nothing else that tells them apart.
    if (b->kind == SEG_KIND_BLOCK || b->kind == SEG_KIND_MUTEX)
        snprintf(text, sizeof text, "kind: %s", b->kind == SEG_KIND_BLOCK ? "block" : "mutex");
    if (text[0] && pprof_add_comment(p, text))
        return -ENOMEM;
    snprintf(text, sizeof text, "ops=%" PRIu64, b->ops);
    return b->ops ? pprof_add_comment(p, text) : 0;
}

static int fill_lock(struct output *o, uint32_t id)
{
    const struct lock *lock = &o->b->lock_infos[id];
    int rc = 0;
    for (size_t i = 0; !rc && i < BUILDER_MAKERS_MAX && lock->made[i].stack; i++) {
        uint32_t depth;
        const struct pprof_label labels[] = {
            {.key = "lock", .str = "", .num = id + INT64_C(1)},
            {.key = "offset", .str = "", .num = (int64_t)lock->made[i].offset},
        };
        const int64_t one = 1;
        rc = fill_stack(o, 0, lock->made[i].stack, &depth);
        if (!rc)
            rc =
                pprof_add_sample(o->p, o->stack, depth, &one, labels, lock->made[i].offset ? 2 : 1);
    }
    return rc;
}

static int fill_locks(struct output *o)
{
    int rc = pprof_add_sample_type(o->p, "locks", "count");
    for (uint32_t id = 0; !rc && id < o->b->locks.count; id++)
        rc = fill_lock(o, id);
    return rc;
}

static int fill_samples(struct output *o)
{
    struct builder *b = o->b;
    // The first mapping of the first process is its executable: it was mapped before all others.
    for (size_t i = 0; i < b->process_count; i++) {
        const struct builder_process *p = b->processes[i];
        if (p->module_count == 0 || (o->only_pid && (p->pid != o->only_pid || !p->has_samples)))
            continue;
        if (!mapping_of(o, p->modules[0].file))
            return -ENOMEM;
        break;
    }
    for (uint32_t id = 0; id < b->samples.count; id++) {
        int rc = add_sample(o, id);
        if (rc)
            return rc;
    }
    return 0;
}

// view NULL: the locks.
static int finish(struct builder *b, const struct builder_view *view, uint64_t duration_ns,
                  struct pprof_profile **out)
{
    int rc = -ENOMEM;
    struct output o = {
        .b = b,
        .only_pid = view ? view->pid : 0,
        .part = intern_string(&b->strings, view ? view->part : NULL),
        .p = pprof_new(),
        .mappings = calloc(b->file_keys.count + 1, sizeof(void *)),
        .locations = calloc(b->locations.count + 1, sizeof(void *)),
    };
    free(b->mapping_files);
    b->mapping_files = calloc(b->file_keys.count + 1, sizeof *b->mapping_files);
    b->mapping_count = 0;
    if (!o.p || !o.mappings || !o.locations || !b->mapping_files || o.part == INTERN_NONE)
        goto out;
    rc = view ? fill_header(&o, duration_ns) : fill_locks(&o);
    if (!rc && view)
        rc = fill_samples(&o);
    if (!rc) {
        *out = o.p;
        o.p = NULL;
    }
out:
    pprof_free(o.p);
    free(o.mappings);
    free(o.locations);
    free(o.stack);
    return rc;
}

int builder_finish(struct builder *b, uint64_t duration_ns, struct pprof_profile **out)
{
    return finish(b, &(struct builder_view){0}, duration_ns, out);
}

int builder_finish_view(struct builder *b, const struct builder_view *view, uint64_t duration_ns,
                        struct pprof_profile **out)
{
    return finish(b, view, duration_ns, out);
}

int builder_finish_locks(struct builder *b, struct pprof_profile **out)
{
    return finish(b, NULL, 0, out);
}

int builder_each_part(const struct builder *b, int (*fn)(void *arg, const char *part), void *arg)
{
    for (uint32_t i = 0; i < b->parts.count; i++) {
        const uint32_t *id = b->parts.entries[i].data;
        int rc = fn(arg, intern_text(&b->strings, *id));
        if (rc)
            return rc;
    }
    return 0;
}

int builder_each_pid(const struct builder *b, int (*fn)(void *arg, uint32_t pid, const char *name),
                     void *arg)
{
    for (size_t i = 0; i < b->process_count; i++) {
        const struct builder_process *p = b->processes[i];
        bool is_last = p->has_samples;
        for (size_t j = i + 1; j < b->process_count && is_last; j++)
            is_last = b->processes[j]->pid != p->pid || !b->processes[j]->has_samples;
        int rc = is_last ? fn(arg, p->pid, intern_text(&b->strings, p->name)) : 0;
        if (rc)
            return rc;
    }
    return 0;
}
