// SPDX-License-Identifier: MIT
//
// What is missing in a trace file, as notes in the file itself (formats/trace/notes.h); and why there is one at all.
//
//   full         buffers were full: what came later is not in it
//   killed       the process ended while it was recorded, perhaps with an event in flight
//   refused      a generation that made no sense, and what came after it
//   unwritten    the file could not be written any further
//   gap          between the file before, which is cut, and this one
//   given-way    of a flight recorder: older events, to newer ones
//   overwritten  of a flight recorder: older generations, while they were copied
//   names        stacks and texts that did not fit into the segment

#ifndef FIBERSCOPE_COLLECTOR_TRACE_LOST_H
#define FIBERSCOPE_COLLECTOR_TRACE_LOST_H

#include "collector/trace_build.h"
#include "formats/trace/notes.h"
#include "formats/trace/write.h"

// Those of a file that ends as it is now, at most TRACE_NOTES_MAX; how many. rc: why it cannot be written, or 0.
size_t trace_lost_notes(const struct trace_build_file *f, int rc, struct trace_note *notes);

// Into the generation that the writer has begun. 0 or -errno.
int trace_lost_write(struct trace_writer *w, const struct trace_note *notes, size_t count);

// Why a copy of a flight recorder is made: the condition that was met last, in words; "" if none was.
void trace_lost_cause(char *text, size_t size, const struct seg_trace *now,
                      struct seg_reader *reader);

#endif
