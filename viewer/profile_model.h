// SPDX-License-Identifier: MIT
//
// A profile as its views show it. A file is what was read; a model is one look at it: a sample type
// and the refinements in force, with the tree of stacks, where each frame lies, and the functions.
//
// Invariant: neither changes once it is made (but see profile_model_functions), and any number of
// threads may read. A node's children
// lie within it, side by side from its left edge, in the order of their names; what is left at the
// right is its own. A model has a copy of the file's samples: making one takes them apart.

#ifndef FIBERSCOPE_VIEWER_PROFILE_MODEL_H
#define FIBERSCOPE_VIEWER_PROFILE_MODEL_H

#include "analysis/stacks.h"

enum { PROFILE_NAME_MAX = 1024 };

struct profile_file {
    struct pprof_profile *now, *base;                         // base: to compare with, or NULL
    char name[PROFILE_NAME_MAX], base_name[PROFILE_NAME_MAX]; // paths
};

// Takes the profiles over, also when it fails; base may be NULL. 0 or -ENOMEM with err.
int profile_file_of(struct profile_file **out, struct pprof_profile *now, const char *name,
                    struct pprof_profile *base, const char *base_name, struct fscope_error *err);
void profile_file_free(struct profile_file *f); // accepts NULL

// What of a file is shown. Regular expressions as in `fiberscope top`; NULL or "": none.
struct profile_look {
    const char *sample_type; // NULL: the profile's own choice
    const char *focus, *ignore, *hide, *show;
    bool inverted; // leaves first
};

struct profile_model {
    struct pprof_profile *profile;
    struct report report; // of functions, nothing trimmed
    bool has_functions;   // the report's nodes are there: profile_model_functions
    struct stacks stacks;
    int64_t *left;      // [stacks.count], where a node begins, of the root's total
    const char *module; // of the program, as nodes have it; "" if it is not known
    char title[300];
    char width_is[256]; // "cpu, 12.3s in 4711 stacks": what a width means
    char warning[160];  // a refinement that matched nothing
};

// 0 or -errno with err; -ENODATA: nothing is left that has a positive value.
int profile_model_look(struct profile_model **out, const struct profile_file *f,
                       const struct profile_look *look, struct fscope_error *err);

// The first look at a file: where its own choice of a sample type has no values, such as a heap's in
// which nothing is in use, the first type that has some. As above.
int profile_model_first(struct profile_model **out, const struct profile_file *f,
                        const char *sample_type, bool inverted, struct fscope_error *err);

// A look at one sample of so many, that there is something to see before all are added up; each stands for the others
// too. p stays the caller's, who may change it afterwards. As above.
int profile_model_part(struct profile_model **out, const struct pprof_profile *p, size_t samples,
                       const char *what, const char *sample_type, bool inverted,
                       struct fscope_error *err);

// A look at a profile without a file. As above; the profile is taken over.
int profile_model_of(struct profile_model **out, struct pprof_profile *p, const char *what,
                     const char *sample_type, bool inverted, struct fscope_error *err);
void profile_model_free(struct profile_model *m); // accepts NULL

// Makes the report's nodes, which the flame graph does without: the one change that a model knows, and
// the owner's to make. 0 or -errno with err.
int profile_model_functions(struct profile_model *m, struct fscope_error *err);

// Where nodes begin: [s->count], to be freed; NULL without memory.
int64_t *profile_lay_out(const struct stacks *s);

// The function with this label, or NULL. After profile_model_functions.
const struct report_node *profile_function(const struct profile_model *m, const char *label);

// The same samples by source line: report.nodes are pairs of function and line.
struct profile_lines {
    struct pprof_profile *profile;
    struct report report;
};

int profile_lines_open(struct profile_lines **out, const struct profile_file *f,
                       const struct profile_look *look, struct fscope_error *err);
void profile_lines_free(struct profile_lines *l); // accepts NULL

#endif
