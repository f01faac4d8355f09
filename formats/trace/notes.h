// SPDX-License-Identifier: MIT
//
// What a trace file says of itself: that, why and from when something is missing in it.
//
// A note is a string that no event names, in a generation that has nothing but strings, its clock and at most an event
// that changes nothing; our recorder makes it the last one. Every reader of the format passes over it. (An experimental batch would be the format's own
// way, but Go 1.26 panics at an experiment that they do not know, once they are asked for it.)
//
//     fiberscope: lost KIND from=NS to=NS count=N: TEXT
//
// Times are the trace's, in ns; 0: not known. TEXT is for people, KIND for programs. A program's own texts
// are no notes: they stand in a generation with more events.

#ifndef FIBERSCOPE_FORMATS_TRACE_NOTES_H
#define FIBERSCOPE_FORMATS_TRACE_NOTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TRACE_NOTES_MAX = 8, // of a file; more are passed over
    TRACE_NOTE_KIND_BYTES = 24,
    TRACE_NOTE_TEXT_BYTES = 400,
    TRACE_NOTE_BYTES = 560, // as a string of the file
};

// The kind of one that says: fibers, or the end, of the trace that this one was cut out of are not in it.
#define TRACE_NOTE_PART "part"

struct trace_note {
    char kind[TRACE_NOTE_KIND_BYTES]; // a word of letters and "-"
    int64_t from_ns, to_ns;           // 0: not known
    uint64_t count;                   // of what is missing, if that has a number
    char text[TRACE_NOTE_TEXT_BYTES]; // one line; what a terminal could take for a command is "?"
};

// The string of a note; how many bytes it has. buf holds TRACE_NOTE_BYTES.
size_t trace_note_write(char *buf, const struct trace_note *note);

// Whether a string of the file is a note: then *note is what it says.
bool trace_note_parse(struct trace_note *note, const char *bytes, size_t n);

#endif
