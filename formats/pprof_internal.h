// SPDX-License-Identifier: MIT
//
// What the files of the pprof module share and nobody else needs.
//
// Readers append to the tables without hashing; the hash tables catch up (`indexed`) the first time
// that somebody interns. So reading a large file costs no hashing beyond its strings.

#ifndef FIBERSCOPE_FORMATS_PPROF_INTERNAL_H
#define FIBERSCOPE_FORMATS_PPROF_INTERNAL_H

#include "formats/pprof.h"
#include "formats/ptrtab.h"

struct pprof_intern {
    const char *empty; // ""
    struct ptrtab strings, functions, locations, samples;
    size_t functions_indexed, locations_indexed, samples_indexed;
    struct pprof_label *label_scratch;
    size_t label_scratch_capacity;
};

// New table entries with the next id, all else zero or "", not hashed. NULL: out of memory.
struct pprof_function *pprof_append_function(struct pprof_profile *p);
struct pprof_location *pprof_append_location(struct pprof_profile *p);
struct pprof_mapping *pprof_append_mapping(struct pprof_profile *p);

// Appends s, which is on the arena. 0 or -ENOMEM.
int pprof_push_sample(struct pprof_profile *p, struct pprof_sample *s);

// pprof_intern_location that also tells folded from not folded.
struct pprof_location *pprof_intern_location_as(struct pprof_profile *p, struct pprof_mapping *m,
                                                uint64_t address, bool is_folded,
                                                const struct pprof_line *lines,
                                                uint32_t line_count);

// How many `to` are one `from`; 0 if they do not measure the same thing.
double pprof_unit_ratio(const char *from, const char *to);

// What a reader gets: the whole input, decompressed.
struct pprof_input {
    const unsigned char *data;
    size_t size;
    bool truncated; // the compressed stream ended early: data is a beginning
    bool salvage;
    uint64_t salvaged_samples; // out: see pprof_read_options
    const char *format;        // out
};

// Each fills the empty profile p. 0, or an error as pprof_read_memory gives.
int pprof_decode(struct pprof_profile *p, struct pprof_input *in, struct fscope_error *err);

// The same for the older formats; PPROF_NOT_LEGACY if it is none, and then p is untouched.
enum { PPROF_NOT_LEGACY = 1 };
int pprof_read_legacy(struct pprof_profile *p, struct pprof_input *in, struct fscope_error *err);

#endif
