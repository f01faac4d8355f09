// SPDX-License-Identifier: MIT
//
// A profile in memory, as profile.proto has it, with pointers instead of ids.
//
// Glossary (google/pprof's own terms):
//   sample    a stack, leaf first, with one value per sample type and labels
//   location  one address; has one line per function inlined there, innermost first
//   mapping   a piece of a file in the address space; `addr - start + offset` is the file offset
//
// Ownership: everything hangs on the profile's arena, strings are interned there (equal strings
// are one pointer), nothing is freed singly. A struct pprof_profile is not thread-safe; two
// different ones may be used by two threads.
//
// Invariants (pprof_check): each sample has sample_type_count values; each location, function and
// mapping that is referred to is in its table; ids are 1..n in table order (whatever ids a file
// had that was read); no string is NULL ("" is the empty one).
//
// Fields may be read and set directly (strings through pprof_string). Two things have a function:
// a location's lines (pprof_set_lines) and, after entries were removed from a table or reordered,
// pprof_reindex.

#ifndef FIBERSCOPE_FORMATS_PPROF_H
#define FIBERSCOPE_FORMATS_PPROF_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pprof_value_type {
    const char *type; // "cpu", "inuse_space"
    const char *unit; // "nanoseconds", "bytes", "count"
};

struct pprof_mapping {
    uint64_t id;
    uint64_t start, limit; // addresses, half open
    uint64_t offset;       // file offset of start
    const char *file;
    const char *build_id; // lower-case hex, "" if unknown
    bool has_functions, has_filenames, has_line_numbers, has_inline_frames;
};

struct pprof_function {
    uint64_t id;
    const char *name;        // demangled
    const char *system_name; // as linked
    const char *filename;
    int64_t start_line; // 0 if unknown
};

struct pprof_line {
    struct pprof_function *function; // never NULL
    int64_t line;                    // 0 if unknown
    int64_t column;
};

struct pprof_location {
    uint64_t id;
    struct pprof_mapping *mapping; // NULL if unknown
    uint64_t address;              // return address - 1 for callers, the pc itself for a leaf
    struct pprof_line *lines;      // [line_count], innermost inlined function first
    uint32_t line_count;           // 0: not symbolized
    bool is_folded;                // several functions share this code; names may be wrong
};

// A label with str other than "" is a string label; else it is the number num, in num_unit. One
// that is neither (0 without a unit) cannot be written and is left out of a sample.
struct pprof_label {
    const char *key;
    const char *str;
    int64_t num;
    const char *num_unit;
};

struct pprof_sample {
    struct pprof_location **locations; // [location_count], leaf first
    int64_t *values;                   // [sample_type_count]
    struct pprof_label *labels;        // [label_count]
    uint32_t location_count;
    uint32_t label_count;
};

struct pprof_intern; // the hash tables behind the calls that find equal things

struct pprof_profile {
    struct arena arena;
    struct pprof_intern *intern;

    struct pprof_value_type *sample_types;
    struct pprof_sample **samples;
    struct pprof_mapping **mappings;
    struct pprof_location **locations;
    struct pprof_function **functions;
    const char **comments;
    size_t sample_type_count, sample_count, mapping_count, location_count, function_count;
    size_t comment_count;
    size_t sample_capacity, mapping_capacity, location_capacity, function_capacity;

    const char *drop_frames, *keep_frames;
    const char *default_sample_type; // "": the last sample type
    const char *doc_url;
    struct pprof_value_type period_type;
    int64_t period;
    int64_t time_nanos; // UNIX time of the start
    int64_t duration_nanos;
};

// --- Building. Each call that returns a pointer returns NULL when memory or the arena's limit is
// exhausted; each that returns int returns 0 or -ENOMEM (-EINVAL for a broken argument).

struct pprof_profile *pprof_new(void);
void pprof_free(struct pprof_profile *p); // accepts NULL

const char *pprof_string(struct pprof_profile *p, const char *s); // interned copy
const char *pprof_stringn(struct pprof_profile *p, const char *s, size_t n);
int pprof_add_sample_type(struct pprof_profile *p, const char *type, const char *unit);
int pprof_add_comment(struct pprof_profile *p, const char *text);

// A new mapping; never merged with an equal one. NULL strings mean "".
struct pprof_mapping *pprof_add_mapping(struct pprof_profile *p, uint64_t start, uint64_t limit,
                                        uint64_t offset, const char *file, const char *build_id);

// The function with these four properties, made if it is not there. NULL strings mean "".
struct pprof_function *pprof_intern_function(struct pprof_profile *p, const char *name,
                                             const char *system_name, const char *filename,
                                             int64_t start_line);

// The location with this mapping, address and lines, made if it is not there. lines is copied.
struct pprof_location *pprof_intern_location(struct pprof_profile *p, struct pprof_mapping *m,
                                             uint64_t address, const struct pprof_line *lines,
                                             uint32_t line_count);

// Gives a location other lines (a symbolizer does, line_count 0 takes them away). lines is copied.
// Two locations may thereby become equal; pprof_merge of the one profile unites them.
int pprof_set_lines(struct pprof_profile *p, struct pprof_location *l,
                    const struct pprof_line *lines, uint32_t line_count);

// Adds values to the sample with this stack and these labels (in any order), made if it is not
// there. Arrays are copied and label strings interned; a NULL str or num_unit means "". values has
// sample_type_count entries, so all sample types come first. Sums saturate.
int pprof_add_sample(struct pprof_profile *p, struct pprof_location *const *locations,
                     uint32_t location_count, const int64_t *values,
                     const struct pprof_label *labels, uint32_t label_count);

// The same, always a new sample: for readers, and where the caller knows that it is new.
struct pprof_sample *pprof_append_sample(struct pprof_profile *p,
                                         struct pprof_location *const *locations,
                                         uint32_t location_count, const int64_t *values,
                                         const struct pprof_label *labels, uint32_t label_count);

// To be called after table entries were removed or reordered by hand: renumbers the ids 1..n and
// forgets what the hash tables knew.
void pprof_reindex(struct pprof_profile *p);

// --- Reading and writing.

struct pprof_read_options {
    size_t size;           // sizeof(struct pprof_read_options)
    uint64_t inflated_max; // bytes after decompression; 0 means 4 GiB
    bool salvage; // a file that is cut off, or damaged between its messages or in what gzip made,
                  // gives the whole samples before that instead of an error
    uint64_t *salvaged_samples; // if not NULL: samples of such a file, else 0
    const char **format;        // if not NULL: what was read, "profile.proto", "jemalloc heap_v2"
};

// Reads gzip or plain profile.proto, the legacy formats of gperftools (CPU binary, heap and
// contention text), jemalloc (heap_v2), Go's debug=1 texts and `perf script` text, told apart by
// content. opts may be NULL. path "-" is standard input. What `go tool pprof` refuses is refused.
// On failure *out is NULL and err names the byte offset (after decompression), the field and the
// reason: -EINVAL malformed, -EFBIG over a limit, -ENODATA truncated, -ENOMEM, else what the system
// said. The caller owns *out (pprof_free). A NUL inside a string of the file reads as '?'.
int pprof_read_file(struct pprof_profile **out, const char *path,
                    const struct pprof_read_options *opts, struct fscope_error *err);
int pprof_read_memory(struct pprof_profile **out, const void *data, size_t size,
                      const struct pprof_read_options *opts, struct fscope_error *err);

// Writes gzip'd profile.proto. The file variant writes a temporary beside path and renames it, so
// that path is either the old file or the whole new one; path "-" is standard output. 0 or -errno
// (-ENOSPC, -EIO, ...: nothing is left behind; -EINVAL if pprof_check fails).
int pprof_write_file(const struct pprof_profile *p, const char *path, struct fscope_error *err);
int pprof_write_fd(const struct pprof_profile *p, int fd, bool gzip, struct fscope_error *err);

// --- Whole profiles.

// Merges n >= 1 profiles into a new, compact one, as google/pprof's Merge does: locations are equal
// when mapping (build id or file, size, offset), address relative to it and lines are; samples when
// stack and labels are. Samples of zeros and what nothing refers to are left out. Sample types that
// not all profiles have are left out; units become the smallest; period types must agree. Period is
// the maximum, time the earliest, durations add, comments are united. -EINVAL says which profile
// differs in what.
int pprof_merge(struct pprof_profile **out, struct pprof_profile *const *profiles, size_t n,
                struct fscope_error *err);

// Sets the string label key of all samples, in place of what stood there. 0 or -ENOMEM.
int pprof_set_label(struct pprof_profile *p, const char *key, const char *str);

// source less base as a new profile: base is negated, then the two are merged, so that equal
// samples cancel out. PPROF_LABEL_BASE: the base's samples are labelled PPROF_BASE_LABEL=true, stay
// samples of their own and cancel nothing. PPROF_NORMALIZE: source is scaled first, each sample
// type to the base's total. Both inputs are changed. 0 or -errno as pprof_merge.
#define PPROF_BASE_LABEL "pprof::base"
enum { PPROF_LABEL_BASE = 1, PPROF_NORMALIZE = 2 };
int pprof_subtract(struct pprof_profile **out, struct pprof_profile *source,
                   struct pprof_profile *base, unsigned how, struct fscope_error *err);

// Multiplies each value of sample type i by ratios[i], rounding to nearest.
void pprof_scale(struct pprof_profile *p, const double *ratios);

// Checks the invariants at the top; 0 or -EINVAL with the first that fails.
int pprof_check(const struct pprof_profile *p, struct fscope_error *err);

// The index of the sample type that name (a type, or a number) means; name NULL or "": the default
// one. "inuse_X" also finds "X", as in google/pprof. -ENOENT with the list of those that exist.
int pprof_sample_index(const struct pprof_profile *p, const char *name, struct fscope_error *err);

#endif
