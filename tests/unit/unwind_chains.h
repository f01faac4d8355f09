// SPDX-License-Identifier: MIT
//
// Call chains of known shape; see unwind_chains.c.

#ifndef FIBERSCOPE_TESTS_UNWIND_CHAINS_H
#define FIBERSCOPE_TESTS_UNWIND_CHAINS_H

#include <stddef.h>
#include <stdint.h>

// Return addresses, root first: what each function of the chain returns to.
struct truth {
    int (*leaf)(struct truth *truth);
    unsigned depth;
    uint64_t pcs[256];
};

#define CHAIN_DECLARE(prefix)                                                                      \
    int prefix##nest(struct truth *truth, unsigned depth);                                         \
    int prefix##through_qsort(struct truth *truth);                                                \
    int prefix##through_strdup(struct truth *truth);                                               \
    int prefix##through_new(struct truth *truth, void *(*new_)(size_t), void (*delete_)(void *));  \
    int prefix##through_realigned(struct truth *truth, unsigned n);                                \
    unsigned prefix##work(unsigned rounds)

CHAIN_DECLARE(fp_);
CHAIN_DECLARE(nofp_);

#ifdef CHAIN_PREFIX
#define CHAIN_JOIN(a, b)  a##b
#define CHAIN_JOIN2(a, b) CHAIN_JOIN(a, b)
#define CHAIN(name)       CHAIN_JOIN2(CHAIN_PREFIX, name)
#endif

#endif
