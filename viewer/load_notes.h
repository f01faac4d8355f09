// SPDX-License-Identifier: MIT
//
// What a trace's file says itself that it lacks (formats/trace/notes.h), for `missing`.

#ifndef FIBERSCOPE_VIEWER_LOAD_NOTES_H
#define FIBERSCOPE_VIEWER_LOAD_NOTES_H

#include "viewer/load.h"

struct trace_reader;

// r: of which all has been read. base_ns: where what is shown begins; of a kernel trace that is the trace of fibers'.
void load_say_notes(struct loaded *out, const struct trace_reader *r, int64_t base_ns);

#endif
