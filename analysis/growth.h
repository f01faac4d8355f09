// SPDX-License-Identifier: MIT
//
// What grows: the memory in use by call path over several heap snapshots, with a trend fitted to it.
//
//   slope  Theil and Sen: the median of the slopes of all pairs of snapshots. One snapshot taken in
//          the middle of a burst does not move it.
//   tau    Kendall's tau-b of value and time: 1 if the path only ever grew, 0 without a direction.
//   p      the probability of a |tau| at least as large if the order of the snapshots meant nothing,
//          exact up to GROWTH_EXACT_MAX snapshots, ties included; beyond, by the normal approximation.
//
// Invariant: the bytes of all paths of a snapshot add up to its total, whatever the grouping.

#ifndef FIBERSCOPE_ANALYSIS_GROWTH_H
#define FIBERSCOPE_ANALYSIS_GROWTH_H

#include "analysis/report.h"

enum { GROWTH_SNAPSHOTS_MAX = 512, GROWTH_EXACT_MAX = 30 };

struct growth_series {
    const char *path; // frames, innermost first, one per line; growth.total: ""
    int64_t *bytes;   // [snapshot_count]
    int64_t *objects; // [snapshot_count]; zeros where the profiles do not count them
    double bytes_slope, objects_slope; // per second, or per snapshot unless timed
    double tau, p;                     // of bytes; tau 0 and p 1 below 3 snapshots
    size_t found_at;                   // internal
};

struct growth {
    size_t snapshot_count;
    double *times_s; // [snapshot_count], since the first; 0, 1, 2 .. unless timed
    bool timed;      // all snapshots have a time, each later than the one before
    bool has_objects;
    const char *unit;              // of the bytes
    struct growth_series **series; // fastest growth first
    size_t series_count;
    struct growth_series total;
    struct arena arena;
};

// Measures n >= 1 snapshots, oldest first; filters and granularity are options's, and change the
// profiles. by_site: paths are cut to their innermost frame. 0 or -errno: -ENOENT, *failed is no
// profile of memory in use; -EINVAL, a bad option; -E2BIG. growth_finish in any case.
int growth_measure(struct growth *g, struct pprof_profile *const *snapshots, size_t n,
                   const struct report_options *options, bool by_site, size_t *failed,
                   struct fscope_error *err);
void growth_finish(struct growth *g);

// When a snapshot was taken, in ns since 1970: at its end, for heap profiles say what is in use then. 0:
// it has no time.
int64_t growth_time_ns(const struct pprof_profile *snapshot);

// The last value less the first.
int64_t growth_of(const struct growth *g, const int64_t *values);

// The parts, for tests. x ascends. scratch: room for n * (n - 1) / 2 numbers.
double growth_slope(const double *x, const int64_t *y, size_t n, double *scratch);
void growth_trend(const int64_t *y, size_t n, double *tau, double *p);

#endif
