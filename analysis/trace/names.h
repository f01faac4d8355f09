// SPDX-License-Identifier: MIT
//
// The strings of a trace that its analysis keeps: each text once, under a small number, its name.
//
// Invariant: name 0 is the empty text; equal texts have equal names; names stay valid, also after
// the reader is closed, until trace_names_finish. A NUL byte in a text reads as '?'. One owner.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_NAMES_H
#define FIBERSCOPE_ANALYSIS_TRACE_NAMES_H

#include "base/arena.h"
#include "formats/ptrtab.h"
#include "formats/trace/trace.h"

struct trace_names {
    struct arena arena;
    struct ptrtab table;
    const char **texts; // [count]
    uint32_t count, capacity;
    uint32_t *by_id; // [id_capacity], of the reader's stable ids; 0: not looked up
    uint32_t id_capacity;
    bool failed; // memory ran out; what was asked then has name 0
};

// A zeroed struct trace_names is an empty table.
uint32_t trace_names_add(struct trace_names *n, const char *bytes, size_t size_bytes);

// The name of a string of the reader that is always the same one.
uint32_t trace_names_of(struct trace_names *n, const struct trace_reader *r, uint32_t id);

// The same if the table has it, else 0: adds nothing.
uint32_t trace_names_find(const struct trace_names *n, const struct trace_reader *r, uint32_t id);

// The function of a stack's outermost frame; 0 for no stack.
uint32_t trace_names_root(struct trace_names *n, const struct trace_reader *r, uint32_t stack);

// Another reader follows, whose ids are other ones. Names stay.
void trace_names_next_reader(struct trace_names *n);

const char *trace_names_text(const struct trace_names *n, uint32_t name);
void trace_names_finish(struct trace_names *n); // accepts a zeroed one

// Whether a fiber of this name is the runtime's own: as Go's tools have it, but for those without a name, which are
// threads of the program that were never seen anywhere. [any thread]
bool trace_name_is_system(const char *name);

#endif
