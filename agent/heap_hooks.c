// SPDX-License-Identifier: MIT
//
// The malloc family; see hooks.h.

#include "agent/hooks.h"

#include <stddef.h>

const struct hook_table heap_hooks = {NULL, 0};
