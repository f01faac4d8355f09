// SPDX-License-Identifier: MIT
//
// What functions are at addresses of a process, inlined ones included: each address becomes a sample of a profile, with
// a number that says which one it is, so that the profile's symbolizer names it.

#include "collector/serve/internal.h"

#include "collector/record_internal.h"
#include "collector/target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int add_all(struct builder_process *process, const uint64_t *addresses, size_t count)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < count; i++) {
        const struct builder_label label = {.key = "address", .number = (int64_t)i + 1};
        const struct builder_sample s = {.user = &addresses[i],
                                         .user_depth = 1,
                                         .count = 1,
                                         .when = 1,
                                         .labels = &label,
                                         .label_count = 1};
        rc = builder_add(process, &s);
    }
    return rc;
}

static const char *name_of(const struct pprof_sample *s)
{
    if (!s || !s->location_count || !s->locations[0]->line_count)
        return NULL;
    const char *name = s->locations[0]->lines[0].function->name;
    return *name ? name : NULL;
}

// The samples in the order of the addresses.
static int tell_all(const struct pprof_profile *p, const uint64_t *addresses, size_t count,
                    void (*fn)(void *arg, uint64_t address, const char *name), void *arg)
{
    const struct pprof_sample **by_index = calloc(count + 1, sizeof(struct pprof_sample *));
    if (!by_index)
        return -ENOMEM;
    for (size_t i = 0; i < p->sample_count; i++)
        for (uint32_t j = 0; j < p->samples[i]->label_count; j++) {
            const struct pprof_label *l = &p->samples[i]->labels[j];
            if (strcmp(l->key, "address") == 0 && l->num >= 1 && (uint64_t)l->num <= count)
                by_index[l->num - 1] = p->samples[i];
        }
    for (size_t i = 0; i < count; i++) {
        const char *name = name_of(by_index[i]);
        if (name)
            fn(arg, addresses[i], name);
    }
    free(by_index);
    return 0;
}

int names_find(uint32_t pid, const uint64_t *addresses, size_t count,
               void (*fn)(void *arg, uint64_t address, const char *name), void *arg)
{
    const struct builder_options bo = {.size = sizeof bo, .kind = SEG_KIND_CUSTOM};
    struct builder *b = NULL;
    struct target *t = NULL;
    struct pprof_profile *p = NULL;
    char summary[512];
    int rc = target_open_pid(&t, pid, NULL);
    if (!rc)
        rc = builder_new(&b, &bo);
    struct builder_process *process = rc ? NULL : builder_process(b, pid, 0, target_name(t));
    if (!rc)
        rc = process ? target_tell_builder(t, process) : -ENOMEM;
    if (!rc)
        rc = add_all(process, addresses, count);
    if (!rc)
        rc = builder_finish(b, 0, &p);
    if (!rc) {
        record_symbolize(b, p, pid, summary, sizeof summary);
        rc = tell_all(p, addresses, count, fn, arg);
    }
    pprof_free(p);
    builder_free(b);
    target_close(t);
    return rc;
}
