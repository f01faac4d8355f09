// SPDX-License-Identifier: MIT
//
// The tables that a trace's summary and the single reports have in common, as text and as JSON.
//
// Text: one row each, at most `rows`; what is left out is said in a last line. `name`, where it is
// not NULL, is a text that a row's name must have in it.

#ifndef FIBERSCOPE_CLI_TRACE_TABLES_H
#define FIBERSCOPE_CLI_TRACE_TABLES_H

#include "analysis/trace/lints.h"
#include "cli/trace_report.h"

void trace_print_functions(FILE *out, const struct trace_summary *s,
                           struct trace_function *const *functions, uint32_t count, uint32_t rows);
void trace_print_procs(FILE *out, const struct trace_summary *s, uint32_t rows);
bool trace_wakes_of(const struct trace_summary *s, const char *name); // whether there are any
void trace_print_wakes(FILE *out, const struct trace_summary *s, uint32_t rows, const char *name);
const char *trace_quantile(char *buf, const struct trace_type *t, double q); // "1.30s", "<=1.30s"
void trace_print_types(FILE *out, const struct trace_summary *s, struct trace_type *const *types,
                       uint32_t count, uint32_t rows, const char *name);
void trace_print_lints(FILE *out, const struct trace_input *in, const struct trace_summary *s,
                       const struct trace_lint *lints, size_t count, uint32_t rows);

// How long fibers waited for a Proc; nothing if none did.
void trace_print_runnable(FILE *out, const struct trace_hist *h);

// How much of the Procs' time fibers ran; gomaxprocs 0: not known.
void trace_print_share(FILE *out, double share, uint64_t gomaxprocs);

// At most three commands that say more about what is largest in this trace. See trace_next.c.
void trace_print_next(FILE *out, const struct trace_input *in, const struct trace_summary *s,
                      size_t lint_count);

// Members of the object that is open.
// type: whose latency h is, exact where it can be; NULL: nobody's.
void trace_json_hist(struct json *j, const struct trace_hist *h, const struct trace_type *type);
void trace_json_moments(struct json *j, const struct trace_moments *m);
void trace_json_functions(struct json *j, const struct trace_summary *s);
void trace_json_procs(struct json *j, const struct trace_summary *s);
void trace_json_wakes(struct json *j, const struct trace_summary *s, const char *name);
void trace_json_types(struct json *j, const char *key, const struct trace_input *in,
                      const struct trace_summary *s, struct trace_type *const *types,
                      uint32_t count, const char *name);
void trace_json_lints(struct json *j, const struct trace_input *in, const struct trace_summary *s,
                      const struct trace_lint *lints, size_t count);

#endif
