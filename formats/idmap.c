// SPDX-License-Identifier: MIT

#include "formats/idmap.h"

#include <errno.h>
#include <stdlib.h>

int idmap_init(struct idmap *m, size_t count_max)
{
    *m = (struct idmap){.dense_count = count_max + 1, .entry_max = count_max};
    m->dense = calloc(m->dense_count, sizeof *m->dense);
    return m->dense ? 0 : -ENOMEM;
}

void idmap_finish(struct idmap *m)
{
    free(m->dense);
    free(m->entries);
    ptrtab_finish(&m->sparse);
    *m = (struct idmap){0};
}

static bool entry_has_id(const void *item, const void *key)
{
    return ((const struct idmap_entry *)item)->id == *(const uint64_t *)key;
}

static const struct idmap_entry *find_entry(const struct idmap *m, uint64_t id)
{
    return ptrtab_find(&m->sparse, ptrtab_mix(ptrtab_seed(), id), entry_has_id, &id);
}

void *idmap_find_sparse(const struct idmap *m, uint64_t id)
{
    const struct idmap_entry *e = find_entry(m, id);
    return e ? e->item : NULL;
}

int idmap_add(struct idmap *m, uint64_t id, void *item)
{
    if (id == 0)
        return -EINVAL;
    if (idmap_find(m, id))
        return -EEXIST;
    if (id < m->dense_count) {
        m->dense[id] = item;
        return 0;
    }
    if (!m->entries) {
        m->entries = calloc(m->entry_max, sizeof *m->entries);
        if (!m->entries)
            return -ENOMEM;
    }
    struct idmap_entry *e = &m->entries[m->entry_count++];
    *e = (struct idmap_entry){.id = id, .item = item};
    return ptrtab_add(&m->sparse, ptrtab_mix(ptrtab_seed(), id), e);
}
