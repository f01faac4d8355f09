// SPDX-License-Identifier: MIT
//
// The stacks of a trace that its analysis keeps: each once, under a small number.
//
// Invariant: stack 0 has no frames (one without an address and a function counts as none); equal
// stacks have equal numbers; stacks stay valid, also after the reader is closed, until
// trace_stacks_finish. Frames' strings are names. One owner.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_STACKS_H
#define FIBERSCOPE_ANALYSIS_TRACE_STACKS_H

#include "analysis/trace/names.h"

struct trace_stack {
    uint32_t number, count;
    struct trace_frame frames[]; // [count], leaf first; function and file are names
};

struct trace_stacks {
    struct arena arena;
    struct ptrtab table;
    const struct trace_stack **stacks; // [count]
    uint32_t count, capacity;
    uint32_t *by_id; // [id_capacity], of the reader's stable ids; 0: not looked up
    uint32_t id_capacity;
    bool failed; // memory ran out; what was asked then is stack 0
};

// A zeroed struct trace_stacks is an empty table. The number of a stack of the reader.
uint32_t trace_stacks_of(struct trace_stacks *s, struct trace_names *n,
                         const struct trace_reader *r, uint32_t id);

// Never NULL.
const struct trace_stack *trace_stacks_get(const struct trace_stacks *s, uint32_t stack);
void trace_stacks_finish(struct trace_stacks *s); // accepts a zeroed one

#endif
