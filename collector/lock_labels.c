// SPDX-License-Identifier: MIT
//
// See lock_labels.h.

#include "collector/lock_labels.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_ours(const struct pprof_label *l)
{
    return strcmp(l->key, "lock") == 0 || strcmp(l->key, "lock_address") == 0;
}

static uint64_t address_of(const struct pprof_sample *s)
{
    for (uint32_t i = 0; i < s->label_count; i++)
        if (strcmp(s->labels[i].key, "lock_address") == 0)
            return (uint64_t)s->labels[i].num;
    return 0;
}

void lock_labels_take(struct pprof_sample *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->label_count; i++)
        if (!is_ours(&s->labels[i]))
            s->labels[kept++] = s->labels[i];
    s->label_count = kept;
}

static int by_address(const void *a, const void *b)
{
    const struct lock_label *x = a, *y = b;
    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    return x->last > y->last ? -1 : x->last < y->last;
}

static int latest_first(const void *a, const void *b)
{
    const struct lock_label *x = a, *y = b;
    return x->last != y->last ? (x->last > y->last ? -1 : 1) : by_address(a, b);
}

static int note(struct lock_labels *l, uint64_t address)
{
    if (l->count == l->capacity) {
        size_t capacity = 2 * l->capacity + 64;
        struct lock_label *grown = reallocarray(l->locks, capacity, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        l->locks = grown;
        l->capacity = capacity;
    }
    l->locks[l->count++] = (struct lock_label){address, l->parts};
    return 0;
}

// Each once, with when it was last met.
static void unite(struct lock_labels *l)
{
    size_t kept = 0;
    if (l->count)
        qsort(l->locks, l->count, sizeof *l->locks, by_address);
    for (size_t i = 0; i < l->count; i++)
        if (!kept || l->locks[kept - 1].address != l->locks[i].address)
            l->locks[kept++] = l->locks[i];
    l->count = kept;
}

static bool is_told_apart(const struct lock_labels *l, uint64_t address)
{
    const struct lock_label key = {address, UINT64_MAX}; // before any of that address
    size_t low = 0, high = l->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (by_address(&l->locks[middle], &key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->count && l->locks[low].address == address;
}

int lock_labels_bound(struct lock_labels *l, struct pprof_profile **sum,
                      const struct pprof_profile *part, size_t max)
{
    struct pprof_profile *united = NULL;
    int rc = 0;
    l->parts++;
    for (size_t i = 0; !rc && i < part->sample_count; i++) {
        uint64_t address = address_of(part->samples[i]);
        rc = address ? note(l, address) : 0;
    }
    unite(l);
    if (rc || l->count <= max)
        return rc;
    qsort(l->locks, l->count, sizeof *l->locks, latest_first);
    l->count = max;
    unite(l);
    for (size_t i = 0; i < (*sum)->sample_count; i++) {
        struct pprof_sample *s = (*sum)->samples[i];
        uint64_t address = address_of(s);
        if (address && !is_told_apart(l, address))
            lock_labels_take(s);
    }
    rc = pprof_merge(&united, sum, 1, NULL);
    if (rc)
        return rc;
    pprof_free(*sum);
    *sum = united;
    return 0;
}

void lock_labels_free(struct lock_labels *l)
{
    free(l->locks);
    *l = (struct lock_labels){0};
}
