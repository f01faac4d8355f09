// SPDX-License-Identifier: MIT
//
// A profile of contention that is added to for as long as somebody serves it tells so many locks apart and no more: of those
// that nobody has waited for for longest the samples lose the labels `lock` and `lock_address`, and stay, by stack.

#ifndef FIBERSCOPE_COLLECTOR_LOCK_LABELS_H
#define FIBERSCOPE_COLLECTOR_LOCK_LABELS_H

#include "formats/pprof.h"

struct lock_label { // a lock that is told apart
    uint64_t address, last;
};

struct lock_labels { // zero: of an empty profile
    struct lock_label *locks;
    size_t count, capacity;
    uint64_t parts;
};

// `part` has been added to *sum, which becomes another profile where too many locks are in it. 0 or -ENOMEM.
int lock_labels_bound(struct lock_labels *l, struct pprof_profile **sum,
                      const struct pprof_profile *part, size_t max);
void lock_labels_free(struct lock_labels *l);

// Takes the labels away from one sample. Equal ones become one by pprof_merge.
void lock_labels_take(struct pprof_sample *s);

#endif
