// SPDX-License-Identifier: MIT
//
// See stack_table.h. Each stack becomes a sample of a profile, with its number as a label: so the profile's
// symbolizer names them.

#include "collector/stack_table.h"

#include "collector/mapped_file.h"
#include "collector/record_internal.h"
#include "segment/consumer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LABEL "stack"

struct stack_table {
    uint32_t pid; // 0: of a dead process
    struct builder *builder;
    struct builder_process *process;
    struct pprof_profile *profile;
    const struct pprof_sample **samples; // by number - 1
    uint64_t count;
};

int stack_table_new(struct stack_table **out, struct target *t)
{
    const struct builder_options o = {.size = sizeof o, .kind = SEG_KIND_CUSTOM};
    struct stack_table *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return -ENOMEM;
    s->pid = target_is_core(t) ? 0 : target_pid(t);
    int rc = builder_new(&s->builder, &o);
    if (!rc) {
        s->process = builder_process(s->builder, target_pid(t), 0, target_name(t));
        rc = s->process ? target_tell_builder(t, s->process) : -ENOMEM;
    }
    if (rc) {
        stack_table_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void stack_table_free(struct stack_table *s)
{
    if (!s)
        return;
    free(s->samples);
    pprof_free(s->profile);
    builder_free(s->builder);
    free(s);
}

static int add_module(void *arg, const struct seg_module *m, const char *path)
{
    struct stack_table *s = arg;
    char build_id[MODULE_BUILD_ID_SIZE];
    mapped_module_build_id(m, build_id);
    const struct builder_module bm = {
        .start = m->start,
        .end = m->end,
        .offset = m->offset,
        .path = path,
        .build_id = build_id,
        .device = m->device,
        .inode = m->inode,
        .from = m->load_epoch,
        .until = atomic_load_explicit(&m->unload_epoch, memory_order_relaxed),
        .fd = mapped_module_open(s->pid, m, path, build_id),
    };
    return builder_module(s->process, &bm) == -ENOMEM ? -ENOMEM : 0;
}

int stack_table_new_recorded(struct stack_table **out, struct seg_reader *r, uint32_t pid)
{
    const struct builder_options o = {.size = sizeof o, .kind = SEG_KIND_CUSTOM};
    const struct seg_header *h = seg_reader_header(r);
    struct stack_table *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return -ENOMEM;
    s->pid = pid;
    int rc = builder_new(&s->builder, &o);
    if (!rc) {
        s->process = builder_process(s->builder, h->pid, h->mono_ns, h->program);
        rc = s->process ? 0 : -ENOMEM;
    }
    if (!rc) {
        int64_t n = seg_reader_modules(r, add_module, s);
        rc = n < 0 ? (int)n : 0;
    }
    if (rc) {
        stack_table_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

static int64_t add_at(struct stack_table *s, const uint64_t *pcs, uint32_t depth, uint64_t when)
{
    const struct builder_label label = {.key = LABEL, .number = (int64_t)s->count + 1};
    const struct builder_sample sample = {.user = pcs,
                                          .user_depth = depth,
                                          .count = 1,
                                          .when = when,
                                          .labels = &label,
                                          .label_count = 1};
    int rc = builder_add(s->process, &sample);
    return rc ? rc : (int64_t)++s->count;
}

int64_t stack_table_add(struct stack_table *s, const uint64_t *pcs, uint32_t depth)
{
    return add_at(s, pcs, depth, 1);
}

int64_t stack_table_add_recorded(struct stack_table *s, struct seg_reader *r, uint32_t id)
{
    uint64_t pcs[SEG_STACK_DEPTH_MAX];
    uint32_t kind = 0, epoch = 0;
    int depth = seg_reader_stack(r, id, pcs, SEG_STACK_DEPTH_MAX, &kind, &epoch, NULL);
    return depth > 0 && !kind ? add_at(s, pcs, (uint32_t)depth, epoch) : 0;
}

int stack_table_finish(struct stack_table *s, bool symbolize)
{
    char summary[512];
    int rc = builder_finish(s->builder, 0, &s->profile);
    s->samples = calloc(s->count + 1, sizeof *s->samples);
    if (rc || !s->samples)
        return rc ? rc : -ENOMEM;
    struct pprof_profile *p = s->profile;
    if (symbolize)
        record_symbolize(s->builder, p, s->pid, summary, sizeof summary);
    for (size_t i = 0; i < p->sample_count; i++)
        for (uint32_t j = 0; j < p->samples[i]->label_count; j++) {
            const struct pprof_label *l = &p->samples[i]->labels[j];
            if (strcmp(l->key, LABEL) == 0 && l->num >= 1 && (uint64_t)l->num <= s->count)
                s->samples[l->num - 1] = p->samples[i];
        }
    return 0;
}

const struct pprof_sample *stack_table_get(const struct stack_table *s, uint64_t number)
{
    return s->samples && number >= 1 && number <= s->count ? s->samples[number - 1] : NULL;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool stack_table_text(const struct pprof_location *l, uint32_t i, char *function, char *place,
                      size_t size)
{
    const struct pprof_line *line = i < l->line_count ? &l->lines[i] : NULL;
    if (i && !line)
        return false;
    if (line)
        snprintf(function, size, "%s", line->function->name);
    else
        snprintf(function, size, "0x%" PRIx64 "%s%s", l->address, l->mapping ? " in " : "",
                 l->mapping ? base_name(l->mapping->file) : "");
    if (line && line->function->filename[0] && line->line)
        snprintf(place, size, "%s:%" PRId64, line->function->filename, line->line);
    else if (l->mapping)
        snprintf(place, size, "%s +0x%" PRIx64, l->mapping->file,
                 l->address - l->mapping->start + l->mapping->offset);
    else
        snprintf(place, size, "0x%" PRIx64, l->address);
    return true;
}
