// SPDX-License-Identifier: MIT
//
// Where an export goes: one function per thing that a viewer draws, implemented once per format.
//
// Times are the trace's; they are inside the exported range already. Names are NUL-terminated and
// may hold any other byte.

#ifndef FIBERSCOPE_FORMATS_TRACE_EXPORT_SINK_H
#define FIBERSCOPE_FORMATS_TRACE_EXPORT_SINK_H

#include "formats/trace/export.h"

enum export_kind { EXPORT_PROC = 1, EXPORT_FIBER, EXPORT_REGION, EXPORT_TASK, EXPORT_KINDS };

struct export_track {
    enum export_kind kind;
    int64_t id;
};

struct export_out {
    trace_write_fn *write;
    void *context;
    int rc;
    size_t used;
    int64_t base_ns;
    bool any; // JSON: something has been written, the next needs a comma
    char bytes[1 << 16];
};

void export_put(struct export_out *o, const void *bytes, size_t n);
void export_flush(struct export_out *o);

struct export_sink {
    void (*begin)(struct export_out *o);
    void (*end)(struct export_out *o);
    void (*track)(struct export_out *o, struct export_track t, const char *name);
    // flow: of the wake-up that this slice answers; 0: none.
    void (*slice)(struct export_out *o, struct export_track t, const char *name, int64_t begin_ns,
                  int64_t end_ns, uint64_t flow);
    void (*mark)(struct export_out *o, struct export_track t, const char *name, int64_t at_ns);
    void (*wake)(struct export_out *o, struct export_track t, int64_t at_ns, uint64_t flow);
    void (*counter)(struct export_out *o, const char *name, int64_t at_ns, uint64_t value);
};

extern const struct export_sink export_json, export_perfetto;

#endif
