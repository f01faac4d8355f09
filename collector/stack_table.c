// SPDX-License-Identifier: MIT
//
// See stack_table.h. Each stack becomes a sample of a profile, with its number as a label: so the profile's
// symbolizer names them.

#include "collector/stack_table.h"

#include "collector/record_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LABEL "stack"

struct stack_table {
    struct target *target;
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
    s->target = t;
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

int64_t stack_table_add(struct stack_table *s, const uint64_t *pcs, uint32_t depth)
{
    const struct builder_label label = {.key = LABEL, .number = (int64_t)s->count + 1};
    const struct builder_sample sample = {.user = pcs,
                                          .user_depth = depth,
                                          .count = 1,
                                          .when = 1,
                                          .labels = &label,
                                          .label_count = 1};
    int rc = builder_add(s->process, &sample);
    return rc ? rc : (int64_t)++s->count;
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
        record_symbolize(s->builder, p, target_is_core(s->target) ? 0 : target_pid(s->target),
                         summary, sizeof summary);
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
