// SPDX-License-Identifier: MIT
//
// From the ids in a file to what they mean there. Ids are usually 1..n, so those index an array;
// any others (addresses, hashes) go to a hash table.
//
// Invariant: an id maps to one item, never to NULL, and 0 to none.

#ifndef FIBERSCOPE_FORMATS_IDMAP_H
#define FIBERSCOPE_FORMATS_IDMAP_H

#include "formats/ptrtab.h"

struct idmap_entry {
    uint64_t id;
    void *item;
};

struct idmap {
    void **dense; // [dense_count], by id
    size_t dense_count;
    struct ptrtab sparse;
    struct idmap_entry *entries; // behind sparse, [entry_max]
    size_t entry_count, entry_max;
};

// Room for at most count_max items. 0 or -ENOMEM.
int idmap_init(struct idmap *m, size_t count_max);
void idmap_finish(struct idmap *m); // accepts a zeroed one

// 0, -EEXIST if the id is taken, -EINVAL if it is 0, -ENOMEM.
int idmap_add(struct idmap *m, uint64_t id, void *item);

void *idmap_find_sparse(const struct idmap *m, uint64_t id);

static inline void *idmap_find(const struct idmap *m, uint64_t id)
{
    return id < m->dense_count ? m->dense[id] : idmap_find_sparse(m, id);
}

#endif
