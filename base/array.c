// SPDX-License-Identifier: MIT

#include "base/array.h"

#include <errno.h>
#include <stdlib.h>

int array_reserve(void **array, size_t *capacity, size_t count, size_t item_bytes)
{
    if (count < *capacity)
        return 0;
    size_t n = count + count / 2 + 64;
    void *grown = reallocarray(*array, n, item_bytes);
    if (!grown)
        return -ENOMEM;
    *array = grown;
    *capacity = n;
    return 0;
}
