// SPDX-License-Identifier: MIT
//
// The table of label sets, laid out for outsiders.

#ifndef FIBERSCOPE_RUNTIME_LABELS_H
#define FIBERSCOPE_RUNTIME_LABELS_H

#include <stdatomic.h>
#include <stdint.h>

enum { LABEL_SETS = 4096, LABEL_PAIRS = 8, LABEL_SIZE = 48 };

struct label_set {
    struct label_pair {
        char key[LABEL_SIZE], value[LABEL_SIZE]; // terminated; sorted by key
    } pairs[LABEL_PAIRS];
    _Atomic uint32_t count; // pairs; 0: free. Published last, never changed
    uint32_t reserved;
};

struct label_table {
    struct label_set sets[LABEL_SETS]; // [0]: no labels
};
extern struct label_table fib_label_table; // 3 MiB of which only used pages exist

#endif
