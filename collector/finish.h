// SPDX-License-Identifier: MIT
//
// Profiles out of what a target left behind: a dump (fscope_*_write), a black box
// (FIBERSCOPE_SEGMENT) or a core file.
//
// Invariant: the input is only read; damage in it costs what is damaged, and is counted.

#ifndef FIBERSCOPE_COLLECTOR_FINISH_H
#define FIBERSCOPE_COLLECTOR_FINISH_H

#include "base/error.h"
#include "collector/record.h"
#include "formats/pprof.h"

// Whether the file begins as a dump, a black box or a core file does; cheap, for readers that take
// profiles and dumps alike. false also when it cannot be read.
bool finish_is_dump(const char *path);
bool finish_is_core(const char *path); // of these, the last

// Reads the file into *result, a builder for each kind that it has anything of (RECORD_CPU if it has
// nothing at all, not even a trace), ready for record_write. 0 or -errno. *result is to be freed in any case.
int finish_read(const char *path, struct record_result *result, struct fscope_error *err);

// Writes the execution traces that the file has, by the options' output, into result's list (record_write
// tells of them). Before: finish_read, which says whether there are any (result->has_trace). 0, or -errno
// when the file cannot be read; what became of a trace is in the list.
int finish_traces(const char *path, const struct record_options *o, struct record_result *result,
                  struct fscope_error *err);

// Where no name is given, names the files after the dump: of NAME.copyN "%e.%p.copyN", and with a number where
// a file of that name is there. In a folder that is given, only the first. Sets o->output, into text. 0 or -errno.
int finish_name(const char *dump, struct record_options *o, const struct record_result *result,
                char *text, size_t size, struct fscope_error *err);

// A trace that its recorder has not finished, as it was killed: the temporary file beside its name.
bool finish_is_unfinished(const char *path);

// Writes what is whole of it, to o->output or the name that it was to get, and says so. 0 or -errno (-ENODATA: nothing is
// whole; -EEXIST: that name is taken; -EBUSY: the recorder lives).
int finish_unfinished(const char *path, const struct record_options *o, struct fscope_error *err);

// One symbolized profile of it: kind "cpu", "wall", "heap", "lifetime", "block", "mutex" or the name of
// a custom profile; NULL or "": the first that has samples.
// -ENOENT: no such kind in it. The caller owns *out (pprof_free).
int finish_profile(const char *path, const char *kind, struct pprof_profile **out,
                   struct fscope_error *err);

#endif
