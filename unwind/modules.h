// SPDX-License-Identifier: MIT
//
// Which module's unwind tables cover a pc, without a lock. glibc 2.35 and later answer by
// _dl_find_object; for an older one, unwind_init lists the modules once and again when it is called
// again.

#ifndef FIBERSCOPE_UNWIND_MODULES_H
#define FIBERSCOPE_UNWIND_MODULES_H

#include "unwind/unwind.h"

// 0 and the tables, or UNWIND_NOT_COVERED. [async-signal-safe]
int unwind_modules_find(uint64_t pc, struct unwind_tables *t);

int unwind_modules_init(void);

#endif
