// SPDX-License-Identifier: MIT
//
// The call paths of two builds, matched with each other.
//
// A path is the sequence of function names from the root to the leaf, inlined functions expanded;
// lines, addresses and files are no part of it. Two builds name the same path differently when the
// compiler cloned, split or inlined a function, or a person renamed one:
//
//   cloned, split  names are normalised (paths_normalise), and a part directly below its function
//                  (f calls f.part.0) is that function
//   inlined        is the same path as long as debug info names the inlined function; where it does
//                  not (or a tail call dropped a caller), the shorter path is a subsequence of the
//                  longer one, or what both lack is unknown to the other build
//   renamed        same callers and callees, equal values, one name for another
//
// Invariant: every value of both sides is in exactly one group, and nothing is merged that only
// shrank or only grew with something that did not make up for it (within a factor of two): a
// regression can hide only behind a decrease of like size on a path of like names, and that group
// says so (PATHS_MOVED, PATHS_RENAMED).

#ifndef FIBERSCOPE_ANALYSIS_PATHS_H
#define FIBERSCOPE_ANALYSIS_PATHS_H

#include "base/arena.h"
#include "base/error.h"
#include "formats/ptrtab.h"
#include "formats/pprof.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PATHS_DEPTH_MAX = 1024 }; // frames nearest to the leaf; what is above is not compared

struct paths_frame {
    const char *name; // as the profile has it
    const char *file; // "" if unknown
    int64_t line;     // 0 if unknown
};

struct paths_path {
    const char **keys; // [depth] normalised names, interned, root first
    uint32_t depth;
    int64_t *values;            // [runs], the base's runs first
    struct paths_frame *frames; // [depth] of the heaviest sample, of the new side if it has one
    int64_t heaviest;           // its value
    bool frames_are_new;
    double base, now; // medians of each side's runs
    uint32_t group;   // index into paths.groups
    uint32_t parent;  // internal: union-find
    uint32_t unknown; // internal: frames that the other build does not have
    uint64_t mark;    // internal: a bit per key, to see quickly what no subsequence can be
};

enum paths_state {
    PATHS_SAME,
    PATHS_NEW,     // the base has nothing of it
    PATHS_GONE,    // the new side has nothing of it
    PATHS_RENAMED, // was and now say what
    PATHS_MOVED,   // same work by fewer or more frames
};

struct paths_group {
    enum paths_state state;
    const struct paths_path *path;   // to show: the heaviest of the new side, else of the base
    const struct paths_path *before; // the heaviest of the base; NULL if it has none
    int64_t *values;                 // [runs]
    const char *was, *now;           // PATHS_RENAMED
};

struct paths {
    struct arena arena;
    struct paths_path **paths;
    struct paths_group *groups;
    size_t path_count, path_capacity, group_count;
    size_t base_runs, runs; // runs is of both sides
    struct ptrtab by_keys, names, keys;
    struct paths_rename {
        const char *was, *now;
    } * renames;
    size_t rename_count;
};

struct paths_input {
    struct pprof_profile *const *base, *const *now; // borrowed; runs of the two builds
    size_t base_count, now_count;
    const char *type; // of the samples' values; every run must have it
    // Whether a sample counts; NULL: all do.
    bool (*keep)(void *arg, const struct pprof_sample *s);
    void *arg;
};

// Collects and matches. 0, -ENOENT (a run lacks the type), -ENOMEM. *p is to be finished in any
// case; strings of the profiles are referred to.
int paths_build(struct paths *p, const struct paths_input *in, struct fscope_error *err);
void paths_finish(struct paths *p); // accepts a zeroed one

// The name that a function has in every build: without compilers' suffixes (.constprop.0, .isra,
// .part, .cold, [clone ..]), symbol versions, ABI tags, inline namespaces of the library, parameter
// list, return type, numbers of lambdas, and with one spelling of spaces. At most size - 1 bytes; a
// name that is longer is copied as it is. Returns buf. [any thread]
const char *paths_normalise(char *buf, size_t size, const char *name);

// The frame that a reader would change: the one nearest to the leaf that has a line and is no
// allocator, C library or C++ standard library function; else the leaf. NULL for an empty path.
const struct paths_frame *paths_blame(const struct paths_path *path);

#endif
