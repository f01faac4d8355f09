// SPDX-License-Identifier: MIT
//
// The way out of a builder: interned ids become pprof's tables. Only files that a sample names
// become mappings, the program's own first, because readers take mapping 1 for the main binary.

#include "collector/builder_internal.h"

#include <string.h>

struct output {
    struct builder *b;
    struct pprof_profile *p;
    struct pprof_mapping **mappings;   // by file id; NULL: not named yet
    struct pprof_location **locations; // by location id; NULL: not made yet
    struct pprof_location **stack;     // scratch
    size_t stack_capacity;
    uint32_t only_pid;              // 0: all
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
static int fill_stack(struct output *o, const struct sample_key *key, uint32_t *depth)
{
    const struct intern_entry *parts[2] = {&o->b->stacks.entries[key->kernel],
                                           &o->b->stacks.entries[key->user]};
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

static int add_sample(struct output *o, uint32_t id)
{
    enum { OWN_LABELS = 4, LABELS = 64 + OWN_LABELS };
    struct builder *b = o->b;
    const struct sample_key *key = b->samples.entries[id].data;
    const struct builder_process *process = b->processes[key->process];
    struct pprof_label labels[LABELS];
    uint32_t n = 0;
    if (o->only_pid && process->pid != o->only_pid)
        return 0;
    const char *thread = thread_name(b, key);
    if (*thread)
        labels[n++] = (struct pprof_label){.key = "thread", .str = thread};
    if (key->tid)
        labels[n++] = (struct pprof_label){.key = "tid", .str = "", .num = key->tid};
    if (b->stats.processes > 1 && !o->only_pid) {
        if (process->name)
            labels[n++] = (struct pprof_label){.key = "process",
                                               .str = intern_text(&b->strings, process->name)};
        labels[n++] = (struct pprof_label){.key = "pid", .str = "", .num = process->pid};
    }
    const struct intern_entry *set = &b->label_sets.entries[key->labels];
    const struct label_key *extra = set->data;
    for (size_t i = 0; i < set->size / sizeof *extra && n < LABELS; i++) {
        bool is_text = extra[i].value != INTERN_NONE;
        labels[n++] = (struct pprof_label){
            .key = intern_text(&b->strings, extra[i].key),
            .str = is_text ? intern_text(&b->strings, extra[i].value) : "",
            .num = extra[i].number,
        };
    }
    uint32_t depth;
    if (fill_stack(o, key, &depth))
        return -ENOMEM;
    int64_t values[2] = {(int64_t)b->values[id].count, (int64_t)b->values[id].ns};
    return pprof_add_sample(o->p, o->stack, depth, values, labels, n);
}

static int fill_header(const struct builder *b, struct pprof_profile *p, uint64_t duration_ns)
{
    const char *type = b->kind == SEG_KIND_WALL ? "wall" : "cpu";
    if (pprof_add_sample_type(p, "samples", "count") ||
        pprof_add_sample_type(p, type, "nanoseconds"))
        return -ENOMEM;
    p->period_type.type = pprof_string(p, type);
    p->period_type.unit = pprof_string(p, "nanoseconds");
    p->default_sample_type = pprof_string(p, type);
    if (!p->period_type.type || !p->period_type.unit || !p->default_sample_type)
        return -ENOMEM;
    p->period = (int64_t)b->period_ns;
    p->time_nanos = (int64_t)b->real_ns;
    p->duration_nanos = (int64_t)duration_ns;
    for (size_t i = 0; i < b->comment_count; i++)
        if (pprof_add_comment(p, intern_text(&b->strings, b->comments[i])))
            return -ENOMEM;
    return 0;
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

static int finish(struct builder *b, uint32_t only_pid, uint64_t duration_ns,
                  struct pprof_profile **out)
{
    int rc = -ENOMEM;
    struct output o = {
        .b = b,
        .only_pid = only_pid,
        .p = pprof_new(),
        .mappings = calloc(b->file_keys.count + 1, sizeof(void *)),
        .locations = calloc(b->locations.count + 1, sizeof(void *)),
    };
    free(b->mapping_files);
    b->mapping_files = calloc(b->file_keys.count + 1, sizeof *b->mapping_files);
    b->mapping_count = 0;
    if (!o.p || !o.mappings || !o.locations || !b->mapping_files)
        goto out;
    rc = fill_header(b, o.p, duration_ns);
    if (!rc)
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
    return finish(b, 0, duration_ns, out);
}

int builder_finish_pid(struct builder *b, uint32_t pid, uint64_t duration_ns,
                       struct pprof_profile **out)
{
    return finish(b, pid, duration_ns, out);
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
