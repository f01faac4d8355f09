// SPDX-License-Identifier: MIT
//
// Arrays that grow.

#ifndef FIBERSCOPE_BASE_ARRAY_H
#define FIBERSCOPE_BASE_ARRAY_H

#include <stddef.h>

// Makes room for one item more behind the count that *array holds, in steps that grow with it. 0 or -ENOMEM; then the
// array is as it was. The caller frees it.
int array_reserve(void **array, size_t *capacity, size_t count, size_t item_bytes);

#endif
