// SPDX-License-Identifier: MIT
//
// Completes a profile: gives its locations functions, files, lines and inlined frames.
//
// Invariant: values, stacks and addresses never change, only what is said about an address. What
// cannot be named stays an address, and the stats say how much that is, where, and what would help.

#ifndef FIBERSCOPE_COLLECTOR_SYMBOLIZE_H
#define FIBERSCOPE_COLLECTOR_SYMBOLIZE_H

#include "base/error.h"
#include "formats/pprof.h"
#include "symbols/symbols.h"

#include <sys/types.h>

struct symbolize_options {
    size_t size;                           // sizeof(struct symbolize_options)
    const struct symbols_options *symbols; // NULL: the defaults

    // Gives a descriptor on the file that was mapped (held since then, or by /proc/PID/map_files);
    // closed by the caller's own rules, not here. Negative: none, go by path. NULL: always by path.
    int (*mapping_fd)(void *arg, const struct pprof_mapping *m);
    void *arg;

    pid_t pid; // for /tmp/perf-PID.map; 0: none
    const char
        *perf_map; // its path if it is elsewhere; NULL: /tmp/perf-PID.map below symbols->root
    bool again;    // also locations that already have lines
};

struct symbolize_file { // a file with samples that got no name
    const char *file;   // all strings belong to the profile
    const char *build_id;
    const char *why;       // "" or the reason in one line, e.g. a differing build id
    const char *package;   // Debian package that would help, "" if it cannot be told
    bool in_debug_archive; // the package is in the debian-debug archive
    int64_t value;         // of the default sample type, of samples whose leaf is in this file
};

enum { SYMBOLIZE_FILES_MAX = 64 };

struct symbolize_stats {
    size_t location_count; // all
    size_t named_count;    // with a function
    size_t lined_count;    // with a line
    int64_t value;         // the default sample type, all samples
    int64_t unnamed_value; // samples whose leaf has no name
    size_t file_count;     // entries of files, by falling value
    size_t files_left_out;
    struct symbolize_file files[SYMBOLIZE_FILES_MAX];
    size_t warning_count; // files refused or unreadable; each says why once
};

// Completes p in place. stats may be NULL. Missing symbols are no error; -ENOMEM is.
int symbolize_profile(struct pprof_profile *p, const struct symbolize_options *opts,
                      struct symbolize_stats *stats, struct fscope_error *err);

// "61 % in 3 files without symbols: install libc6-dbg or set DEBUGINFOD_URLS", "" if all is named.
// Returns the length as snprintf does.
int symbolize_summary(const struct symbolize_stats *stats, char *text, size_t size);

#endif
