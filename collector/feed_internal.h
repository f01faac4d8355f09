// SPDX-License-Identifier: MIT
//
// Shared by feed.c (streams, modules, threads) and feed_state.c (state).

#ifndef FIBERSCOPE_COLLECTOR_FEED_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_FEED_INTERNAL_H

#include "collector/feed.h"

enum {
    FEED_LABELS_MAX = 16,
    FEED_LABEL_BYTES = 256,
};
#define FEED_VALUE_MAX                                                                             \
    (UINT64_C(1) << 56) // of one record or entry: more is nonsense, and sums must not overflow

struct feed_memory {
    uint64_t user[SEG_STACK_DEPTH_MAX], kernel[SEG_STACK_DEPTH_MAX];
    uint32_t pairs[FEED_LABELS_MAX][2];
    char text[FEED_LABELS_MAX][2][FEED_LABEL_BYTES];
    struct builder_label labels[FEED_LABELS_MAX + 1]; // and one of the kind's own
    char part[FEED_LABEL_BYTES];
};

// f->memory, made at first use; NULL: out of memory.
struct feed_memory *feed_memory(struct feed *f);

// The stacks and labels of these ids into *s; what is damaged is left out and counted.
// *flags: of the user stack, may be NULL.
void feed_fill_stacks(struct feed *f, struct builder_sample *s, uint32_t user, uint32_t kernel,
                      uint32_t *flags);
void feed_fill_labels(struct feed *f, struct builder_sample *s, uint32_t labels);

// Brings the modules up to date in all builders. 0 or -errno.
int feed_modules(struct feed *f);

#endif
