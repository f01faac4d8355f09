// SPDX-License-Identifier: MIT
//
// What the reports of `fiberscope trace` share: their options, reading the input, the words.
//
// Adding a report: a function here, a line in the table of cmd_trace.c.

#ifndef FIBERSCOPE_CLI_TRACE_REPORT_H
#define FIBERSCOPE_CLI_TRACE_REPORT_H

#include "analysis/trace/kernel.h"
#include "analysis/trace/spans.h"
#include "analysis/trace/summary.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/profile_args.h"
#include "cli/terminal.h"

struct trace_args {
    int64_t from_ns, to_ns; // since the trace began; -1: not given
    const char *output;     // NULL: standard output
    bool json, salvage;
    uint64_t memory_bytes; // 0: the readers' own limits
    struct cli_list fibers;
    const char *name, *region, *task, *kind, *sort, *slow, *format;
    int64_t rows;
    int64_t longer_ns;   // -1: the lints' own limits
    const char *operand; // of the report: the fiber's number
    const char *path;    // "-": standard input
    const char *second;  // another file; NULL: none
};

// What follows prints its own message when it fails, and gives an exit status.

struct trace_input {
    const struct trace_args *args;
    struct trace_reader *reader;
    int fd;
    const struct trace_event *first;
    int64_t base_ns;        // when the trace began
    int64_t from_ns, to_ns; // of the trace's time; 0: no limit
    bool repeats;           // it can be read again
    bool is_over;           // the Sync behind to_ns was given

    int64_t last_ns;  // of the events read so far
    bool has_samples; // of the CPU
    uint64_t fiber_count;
    int64_t fiber_least, fiber_most; // their numbers
    bool *found;                     // [args->fibers.count] whether it is there
};

int trace_input_open(struct trace_input *in, const struct trace_args *a);
int trace_input_open_reader(struct trace_input *in, const struct trace_args *a); // no event yet
void trace_input_close(struct trace_input *in);
int trace_input_again(struct trace_input *in); // from the beginning

// The next event up to to_ns, and those after it to the end of the generation, with its Sync: what was
// there all along may be announced only then, and that the trace goes on tells that to_ns is in it. 1; 0 at the end; -1 after a message.
int trace_input_next(struct trace_input *in, const struct trace_event **ev);

// At the end: a message for each fiber of --fiber that is not there; a failure if none is.
int trace_input_check_fibers(const struct trace_input *in);

// "it has 57 fibers, 1 to 102, in 1.30s", of what was read.
enum { TRACE_THERE_MAX = 128 };
const char *trace_there(char *buf, const struct trace_input *in);

// The message of what the reader cannot read, and what may help.
int trace_input_fail_reading(const struct trace_input *in);

// All of the input as a summary, as spans; opts' times are filled in if they are 0.
int trace_input_summary(struct trace_input *in, struct trace_summary_options *opts,
                        struct trace_summary **s);

// The message of a summary that could not be made.
int trace_input_fail_summary(const struct trace_input *in, const struct trace_summary *s, int rc);
int trace_input_spans(struct trace_input *in, struct trace_spans_options *opts,
                      struct trace_spans **s);

// The kernel trace: args' second file, or the one beside the first, with those that follow it after a loss. Without one
// *k is NULL, or it is a failure, if it is needed. The caller frees it: trace_kernel_free.
int trace_input_kernel(struct trace_kernel **k, const struct trace_args *a, bool is_needed);

// "k.kernel.trace.2", if there is such a file: the next one of a kernel trace whose first file is that.
bool trace_kernel_next(char *path, size_t size, const char *first, int number);

// Whether a file is a kernel trace, by its name; `program` gets the path of the trace that it lies beside, "" if that is
// not there.
bool trace_kernel_is(const char *path, char *program, size_t size);

// --- Words.

enum { TRACE_NS_MAX = 32 };
const char *trace_ns(char *buf, int64_t ns);                               // "1.30s", "812us"
const char *trace_at(char *buf, const struct trace_input *in, int64_t ns); // "1.234567s"
const char *trace_share(char *buf, double part, double whole);             // "87.3%"
const char *trace_function_word(const char *name);             // a name, or what to say if ""
bool trace_name_matches(const char *name, const char *wanted); // NULL: any; a part, in any case
void trace_name_print(FILE *out, const struct terminal *t, const char *name);
void trace_stack_print(FILE *out, const struct terminal *t, const struct trace_names *n,
                       const struct trace_stack *stack, int indent, uint32_t frames_max);
void trace_frames_print(FILE *out, const struct terminal *t, const struct trace_names *n,
                        const struct trace_stack *stack, uint32_t first, int indent,
                        uint32_t frames_max); // from frame `first` on
void trace_json_stack(struct json *j, const char *key, const struct trace_names *n,
                      const struct trace_stack *stack);
void trace_wait_print(FILE *out, const struct terminal *t, const struct trace_names *n,
                      const struct trace_wait *w); // "sleep, 2 times, longest 200ms"
// What the file, as far as it was read, says is missing in it: a line for each; `"missing": [...]`.
void trace_print_lost(FILE *out, const struct trace_input *in);
void trace_json_lost(struct json *j, const struct trace_input *in);
void trace_json_times(struct json *j, const struct trace_summary *s, const struct trace_times *t);
int trace_number(const char *text, const char *what, int64_t *number); // 0 or an exit status
bool trace_listed(const struct cli_list *list, int64_t id);

// --- The reports. Exit statuses.

int trace_report_summary(const struct trace_args *a);
int trace_report_fibers(const struct trace_args *a);
int trace_report_fiber(const struct trace_args *a);
int trace_report_procs(const struct trace_args *a);
int trace_report_util(const struct trace_args *a);
int trace_report_wakes(const struct trace_args *a);
int trace_report_latency(const struct trace_args *a);
int trace_report_lints(const struct trace_args *a);
int trace_report_sched(const struct trace_args *a);
int trace_report_sync(const struct trace_args *a);
int trace_report_syscall(const struct trace_args *a);
int trace_report_net(const struct trace_args *a);
int trace_report_tasks(const struct trace_args *a);
int trace_report_regions(const struct trace_args *a);
int trace_report_events(const struct trace_args *a);
int trace_report_validate(const struct trace_args *a);
int trace_report_critical(const struct trace_args *a);
int trace_report_explain(const struct trace_args *a);
int trace_report_lost(const struct trace_args *a);
int trace_report_export(const struct trace_args *a);
int trace_report_cut(const struct trace_args *a);

#endif
