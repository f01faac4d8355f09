// SPDX-License-Identifier: MIT
//
// See hist.h.

#include "analysis/trace/hist.h"

// Values below 16 have a bucket each; above, the top four bits choose one: bucket 8 e + m for a
// value of (8 + m) << (e - 1) and more.
static unsigned bucket_of(uint64_t v)
{
    if (v < 16)
        return (unsigned)v;
    unsigned e = 63u - (unsigned)__builtin_clzll(v) - 2; // v >> (e - 1) is 8..15
    return 8 * e + (unsigned)((v >> (e - 1)) & 7);
}

int64_t trace_hist_bucket_ns(unsigned i)
{
    if (i < 16)
        return i;
    return (int64_t)((uint64_t)(8 + i % 8) << (i / 8 - 1));
}

void trace_hist_add(struct trace_hist *h, int64_t value_ns)
{
    uint64_t v = value_ns > 0 ? (uint64_t)value_ns : 0;
    unsigned i = bucket_of(v);
    h->buckets[i < TRACE_HIST_BUCKETS ? i : TRACE_HIST_BUCKETS - 1]++;
    h->count++;
    h->sum_ns += (int64_t)v;
    if ((int64_t)v > h->max_ns)
        h->max_ns = (int64_t)v;
}

int64_t trace_hist_quantile_ns(const struct trace_hist *h, double q)
{
    if (!h->count)
        return 0;
    q = q < 0 ? 0 : q > 1 ? 1 : q;
    uint64_t seen = 0, want = (uint64_t)(q * (double)h->count);
    for (unsigned i = 0; i < TRACE_HIST_BUCKETS - 1; i++) {
        seen += h->buckets[i];
        if (seen > want || seen == h->count) {
            int64_t upper = trace_hist_bucket_ns(i + 1) - 1;
            return upper < h->max_ns ? upper : h->max_ns;
        }
    }
    return h->max_ns;
}
