// SPDX-License-Identifier: MIT
//
// Differences of profiles: a base is negated and merged, so that equal stacks cancel out and every
// report on profiles is a report on differences. So google/pprof does.

#include "formats/pprof_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int pprof_set_label(struct pprof_profile *p, const char *key, const char *str)
{
    struct pprof_label label = {.key = pprof_string(p, key), .str = pprof_string(p, str)};
    label.num_unit = pprof_string(p, "");
    if (!label.key || !label.str || !label.num_unit)
        return -ENOMEM;
    for (size_t i = 0; i < p->sample_count; i++) {
        struct pprof_sample *s = p->samples[i];
        struct pprof_label *labels =
            arena_array(&p->arena, (size_t)s->label_count + 1, sizeof *labels);
        uint32_t n = 0;
        if (!labels)
            return -ENOMEM;
        for (uint32_t j = 0; j < s->label_count; j++) {
            // A number under the same key is another label.
            if (strcmp(s->labels[j].key, key) != 0 || !s->labels[j].str[0])
                labels[n++] = s->labels[j];
        }
        labels[n++] = label;
        s->labels = labels;
        s->label_count = n;
    }
    pprof_reindex(p); // what the samples are found by has changed
    return 0;
}

static double sum_of(const struct pprof_profile *p, size_t type)
{
    int64_t sum = 0;
    for (size_t i = 0; i < p->sample_count; i++)
        sum = (int64_t)((uint64_t)sum + (uint64_t)p->samples[i]->values[type]);
    return (double)sum;
}

// Makes the source's totals the base's, type by type. A type that the base has not is left alone:
// merging leaves it out.
static int normalize(struct pprof_profile *source, const struct pprof_profile *base)
{
    double *ratios = calloc(source->sample_type_count + 1, sizeof *ratios);
    if (!ratios)
        return -ENOMEM;
    for (size_t i = 0; i < source->sample_type_count; i++) {
        const struct pprof_value_type *t = &source->sample_types[i];
        size_t j = 0;
        while (j < base->sample_type_count && strcmp(base->sample_types[j].type, t->type) != 0)
            j++;
        if (j == base->sample_type_count) {
            ratios[i] = 1;
            continue;
        }
        double have = sum_of(source, i), want = sum_of(base, j);
        ratios[i] =
            have != 0 ? want * pprof_unit_ratio(base->sample_types[j].unit, t->unit) / have : 0;
    }
    pprof_scale(source, ratios);
    free(ratios);
    return 0;
}

static void negate(struct pprof_profile *p)
{
    for (size_t i = 0; i < p->sample_count; i++) {
        for (size_t j = 0; j < p->sample_type_count; j++) {
            int64_t v = p->samples[i]->values[j];
            p->samples[i]->values[j] = v == INT64_MIN ? INT64_MAX : -v;
        }
    }
}

int pprof_subtract(struct pprof_profile **out, struct pprof_profile *source,
                   struct pprof_profile *base, unsigned how, struct fscope_error *err)
{
    int rc = 0;
    *out = NULL;
    if (how & PPROF_LABEL_BASE)
        rc = pprof_set_label(base, PPROF_BASE_LABEL, "true");
    if (!rc && (how & PPROF_NORMALIZE))
        rc = normalize(source, base);
    if (rc)
        return error_set(err, rc, 0, "out of memory");
    negate(base);
    rc = pprof_merge(out, (struct pprof_profile *[]){source, base}, 2, err);
    if (rc)
        error_prefix(err, "the first is FILE, the second the base");
    return rc;
}
