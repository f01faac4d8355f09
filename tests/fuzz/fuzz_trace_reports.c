// SPDX-License-Identifier: MIT
//
// Any bytes, read as an execution trace of either format, and everything the reports make of it.
// Format v1 may say what makes no sense (formats/trace/trace.h), so that nothing here may rely on
// more than slots and ids. The first byte chooses options, as in fuzz_trace.c.

#include "analysis/trace/critical.h"
#include "analysis/trace/kernel.h"
#include "analysis/trace/latency.h"
#include "analysis/trace/lints.h"
#include "analysis/trace/profile.h"
#include "analysis/trace/util.h"
#include "analysis/trace/wall.h"
#include "formats/trace/export.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PROFILES = 4, LANES_MAX = 20 };

static void must(bool ok)
{
    if (!ok)
        abort();
}

static int forget(void *context, const void *bytes, size_t n)
{
    (void)bytes;
    *(size_t *)context += n;
    return 0;
}

struct reports {
    struct trace_summary *summary;
    struct trace_spans *spans;
    struct trace_util *util;
    struct trace_profile *profiles[PROFILES];
    struct trace_export *export;
    struct trace_latency *latency;
    struct trace_kernel *kernel; // as if it were one
    size_t exported;
};

static void begin(struct reports *o, uint8_t options)
{
    struct trace_summary_options so = {.size = sizeof so};
    struct trace_export_options eo = {
        .size = sizeof eo,
        .format = options & 32 ? TRACE_EXPORT_PERFETTO : TRACE_EXPORT_JSON,
    };
    must(trace_summary_new(&o->summary, &so) == 0);
    struct trace_spans_options po = {.size = sizeof po, .to_ns = options & 64 ? 1000 : 0};
    must(trace_spans_new(&o->spans, &po) == 0);
    must(trace_util_new(&o->util, options & 32 ? TRACE_UTIL_RUNNING : TRACE_UTIL_MUTATOR, 0, 0) ==
         0);
    for (int i = 0; i < PROFILES; i++)
        must(trace_profile_new(&o->profiles[i], (enum trace_profile_kind)i, 0, 0) == 0);
    must(trace_latency_new(&o->latency, 0, po.to_ns) == 0 && trace_kernel_new(&o->kernel) == 0);
    must(trace_export_open(&o->export, &eo, forget, &o->exported) == 0);
}

static void take(struct reports *o, const struct trace_reader *r, const struct trace_event *ev)
{
    must(trace_summary_event(o->summary, r, ev) == 0);
    int rc = trace_spans_event(o->spans, r, ev); // -EFBIG: longer than it keeps
    must(rc == 0 || rc == -EFBIG);
    must(trace_util_event(o->util, r, ev) == 0);
    for (int i = 0; i < PROFILES; i++)
        must(trace_profile_event(o->profiles[i], r, ev) == 0);
    must(trace_export_event(o->export, r, ev) == 0);
    must(trace_latency_event(o->latency, r, ev) == 0);
    trace_kernel_event(o->kernel, r, ev); // -ENOMEM: a CPU of a number that no machine has
}

static void end(struct reports *o)
{
    struct trace_lint *lints = NULL;
    struct pprof_profile *p;
    must(trace_summary_finish(o->summary) == 0);
    int rc = trace_spans_finish(o->spans); // -EFBIG: what is still open is longer than it keeps
    must(rc == 0 || rc == -EFBIG);
    must(trace_util_finish(o->util) == 0);
    must(trace_latency_file_end(o->latency) == 0 && trace_kernel_file_end(o->kernel) == 0);
    trace_latency_finish(o->latency);
    must(o->latency->whole.hist.count ==
         o->latency->woken.hist.count + o->latency->taken_off.hist.count);
    trace_latency_free(o->latency);
    trace_kernel_free(o->kernel);
    must(trace_lints(o->summary, &lints) >= 0);
    free(lints);
    for (int i = 0; i < PROFILES; i++) {
        must(trace_profile_finish(o->profiles[i], &p) == 0);
        pprof_free(p);
        trace_profile_free(o->profiles[i]);
    }
    const struct trace_spans *s = o->spans;
    for (uint32_t lane = 0; !rc && lane < s->lane_count && lane < LANES_MAX; lane++) {
        struct trace_step *steps = NULL;
        if (trace_spans_lane_kind(s, lane) != TRACE_RESOURCE_GOROUTINE)
            continue; // paths end in fibers
        must(trace_critical(s, lane, s->begin_ns, s->lanes[lane].end_ns, 0, &steps) >= 0);
        free(steps);
    }
    if (!rc) {
        must(trace_wall_profile(s, s->begin_ns, s->end_ns, &p) == 0);
        pprof_free(p);
    }
    must(trace_export_close(o->export) == 0);
    trace_util_free(o->util);
    trace_spans_free(o->spans);
    trace_summary_free(o->summary);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct trace_reader_options o = {
        .size = sizeof o,
        .salvage = data[0] & 1,
        .intern_bytes_max = data[0] & 4 ? 64 : 0,
        .generation_bytes_max = 256 << 20,
        .state_bytes_max = 64 << 20,
    };
    struct reports reports = {0};
    struct fscope_error err = {0};
    struct trace_reader *r;
    const struct trace_event *ev;
    if (trace_reader_open_memory(&r, data + 1, size - 1, &o, &err))
        return 0;
    begin(&reports, data[0]);
    while (trace_reader_next(r, &ev) > 0)
        take(&reports, r, ev);
    end(&reports);
    trace_reader_close(r);
    return 0;
}
