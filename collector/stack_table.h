// SPDX-License-Identifier: MIT
//
// Stacks of a target, kept until all are there, and then named at once: functions, files, lines, inlined frames.

#ifndef FIBERSCOPE_COLLECTOR_STACK_TABLE_H
#define FIBERSCOPE_COLLECTOR_STACK_TABLE_H

#include "collector/target.h"
#include "formats/pprof.h"

#include <stdio.h>

struct stack_table;

// t stays until stack_table_free. 0 or -ENOMEM.
int stack_table_new(struct stack_table **out, struct target *t);
void stack_table_free(struct stack_table *s); // accepts NULL

// The same for stacks in the segment that r reads, whose files were mapped when they were taken. pid 0: it has ended.
// r may be closed before the table. 0 or -errno.
struct seg_reader;
int stack_table_new_recorded(struct stack_table **out, struct seg_reader *r, uint32_t pid);
// One of them, by its id in the segment. Its number, from 1; 0: there is none (or it is damaged); -ENOMEM.
int64_t stack_table_add_recorded(struct stack_table *s, struct seg_reader *r, uint32_t id);

// pcs as target_walk's. Its number, from 1, or -ENOMEM.
int64_t stack_table_add(struct stack_table *s, const uint64_t *pcs, uint32_t depth);

// After the last. Without symbolize frames have no lines. 0 or -ENOMEM.
int stack_table_finish(struct stack_table *s, bool symbolize);

// Of stack_table_finish; NULL: there is none. Belongs to s.
const struct pprof_sample *stack_table_get(const struct stack_table *s, uint64_t number);

// The line of place i of a frame (0: innermost), which may lie in an inlined function: "FUNCTION" and
// "FILE:LINE", or an address in a file. False: i is beyond the last; the first is always there.
bool stack_table_text(const struct pprof_location *l, uint32_t i, char *function, char *place,
                      size_t size);

#endif
