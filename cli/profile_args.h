// SPDX-License-Identifier: MIT
//
// What all commands on profiles share: their options, finding and reading the input, the header.

#ifndef FIBERSCOPE_CLI_PROFILE_ARGS_H
#define FIBERSCOPE_CLI_PROFILE_ARGS_H

#include "analysis/report.h"
#include "cli/json.h"
#include "cli/options.h"

struct profile_args {
    struct report_options report;
    const char *sort;                // "flat", "cum"
    const char *output;              // NULL: standard output
    struct cli_list base, diff_base; // files; at most one of the lists has any
    bool normalize, mean_delay;
    bool json, salvage, no_trim;
    uint64_t inflated_max;
};

#define PROFILE_DEFAULTS                                                                           \
    {                                                                                              \
        .report = {.nodecount = -1,                                                                \
                   .nodefraction = 0.005,                                                          \
                   .edgefraction = 0.001,                                                          \
                   .divide_by = 1,                                                                 \
                   .unit = "minimum",                                                              \
                   .granularity = "functions"},                                                    \
        .sort = "flat",                                                                            \
    }

#define PROFILE_FILTERS    "Filters (regular expressions on function, file and mapping names)"
#define PROFILE_VALUES     "Values"
#define PROFILE_GRANULES   "Granularity"
#define PROFILE_INPUT      "Input and output"
#define PROFILE_TRIMMING   "Trimming"
#define PROFILE_DIFFERENCE "Differences"

// Rows of an option table whose settings are a struct profile_args.
#define PA struct profile_args
#define PROFILE_INPUT_OPTIONS                                                                      \
    CLI_STRING(PA, output, "output", 'o', "FILE", PROFILE_INPUT,                                   \
               "write to FILE, replaced as a whole, instead of standard output"),                  \
        CLI_FLAG(PA, salvage, "salvage", 0, PROFILE_INPUT,                                         \
                 "read what is whole of a truncated file"),                                        \
        CLI_SIZE(PA, inflated_max, "inflated-max", 0, "SIZE", PROFILE_INPUT,                       \
                 "refuse files that decompress to more (default 4GiB)"),                           \
        CLI_FLAG(PA, report.all_frames, "all_frames", 0, PROFILE_INPUT,                            \
                 "keep the frames that the profile itself says to drop")
#define PROFILE_DIFF_OPTIONS                                                                       \
    CLI_LIST(PA, base, "base", 'b', "OLD", PROFILE_DIFFERENCE,                                     \
             "subtract the profile OLD; percentages are of the difference (for counters that "     \
             "only grow, such as two heap snapshots of one process; several are merged)"),         \
        CLI_LIST(PA, diff_base, "diff_base", 'd', "OLD", PROFILE_DIFFERENCE,                       \
                 "compare with the profile OLD; percentages are of OLD (for two runs; several "    \
                 "are merged)"),                                                                   \
        CLI_FLAG(PA, normalize, "normalize", 0, PROFILE_DIFFERENCE,                                \
                 "scale FILE to the total of OLD first: shares are compared, not amounts")
#define PROFILE_JSON_OPTION                                                                        \
    CLI_FLAG(PA, json, "json", 'j', PROFILE_INPUT, "JSON instead of a table")
#define PROFILE_FILTER_OPTIONS                                                                     \
    CLI_STRING(PA, report.focus, "focus", 'f', "RE", PROFILE_FILTERS,                              \
               "only samples with a frame that matches"),                                          \
        CLI_STRING(PA, report.ignore, "ignore", 'i', "RE", PROFILE_FILTERS,                        \
                   "no samples with a frame that matches"),                                        \
        CLI_STRING(PA, report.show, "show", 's', "RE", PROFILE_FILTERS, "only frames that match"), \
        CLI_STRING(PA, report.hide, "hide", 0, "RE", PROFILE_FILTERS, "no frames that match"),     \
        CLI_STRING(PA, report.show_from, "show_from", 0, "RE", PROFILE_FILTERS,                    \
                   "drop the callers of the outermost frame that matches"),                        \
        CLI_STRING(PA, report.prune_from, "prune_from", 0, "RE", PROFILE_FILTERS,                  \
                   "drop what the innermost frame that matches calls"),                            \
        CLI_STRING(PA, report.tagfocus, "tagfocus", 0, "RE", PROFILE_FILTERS,                      \
                   "only samples with a label RE, KEY=RE, or in a range such as 1kb:64kb"),        \
        CLI_STRING(PA, report.tagignore, "tagignore", 0, "RE", PROFILE_FILTERS,                    \
                   "no samples with such a label"),                                                \
        CLI_STRING(PA, report.tagshow, "tagshow", 0, "RE", PROFILE_FILTERS,                        \
                   "only labels whose key matches"),                                               \
        CLI_STRING(PA, report.taghide, "taghide", 0, "RE", PROFILE_FILTERS,                        \
                   "no labels whose key matches"),                                                 \
        CLI_STRING(PA, report.tagroot, "tagroot", 0, "KEYS", PROFILE_FILTERS,                      \
                   "show these labels' values as outermost frames"),                               \
        CLI_STRING(PA, report.tagleaf, "tagleaf", 0, "KEYS", PROFILE_FILTERS,                      \
                   "show these labels' values as innermost frames")
#define PROFILE_VALUE_OPTIONS                                                                      \
    CLI_STRING(PA, report.sample_index, "sample_index", 'I', "NAME", PROFILE_VALUES,               \
               "which value of a sample: its name or number (default: the profile's choice)"),     \
        CLI_STRING(PA, report.unit, "unit", 'u', "UNIT", PROFILE_VALUES,                           \
                   "show values in UNIT (ns ms s, B kB MB, ...; default: what fits them)"),        \
        CLI_STRING(PA, report.unit, "units", 0, "UNIT", NULL, NULL),                               \
        CLI_REAL(PA, report.divide_by, "divide_by", 0, "N", PROFILE_VALUES,                        \
                 "divide all values by N"),                                                        \
        CLI_FLAG(PA, report.mean, "mean", 0, PROFILE_VALUES,                                       \
                 "divide by the first value (count): the average"),                                \
        CLI_FLAG(PA, report.drop_negative, "drop_negative", 0, PROFILE_VALUES,                     \
                 "leave out what is negative (in differences)"),                                   \
        CLI_FLAG(PA, report.relative_percentages, "relative_percentages", 0, PROFILE_VALUES,       \
                 "percentages of what the filters leave, not of everything"),                      \
        CLI_SET(PA, report.sample_index, "inuse_space", NULL, NULL, "inuse_space"),                \
        CLI_SET(PA, report.sample_index, "inuse_objects", NULL, NULL, "inuse_objects"),            \
        CLI_SET(PA, report.sample_index, "alloc_space", NULL, NULL, "alloc_space"),                \
        CLI_SET(PA, report.sample_index, "alloc_objects", NULL, NULL, "alloc_objects"),            \
        CLI_SET(PA, report.sample_index, "contentions", NULL, NULL, "contentions"),                \
        CLI_SET(PA, report.sample_index, "total_delay", NULL, NULL, "delay"),                      \
        CLI_FLAG(PA, mean_delay, "mean_delay", 0, NULL, NULL)
#define PROFILE_GRANULARITY_OPTIONS                                                                \
    CLI_CHOICE(PA, report.granularity, "granularity", 'g', "WORD", PROFILE_GRANULES,               \
               "one row per: functions, filefunctions, files, lines or addresses",                 \
               "functions filefunctions files lines addresses"),                                   \
        CLI_SET(PA, report.granularity, "functions", NULL, NULL, "functions"),                     \
        CLI_SET(PA, report.granularity, "filefunctions", NULL, NULL, "filefunctions"),             \
        CLI_SET(PA, report.granularity, "files", NULL, NULL, "files"),                             \
        CLI_SET(PA, report.granularity, "lines", PROFILE_GRANULES,                                 \
                "the same as -granularity=lines", "lines"),                                        \
        CLI_SET(PA, report.granularity, "addresses", NULL, NULL, "addresses"),                     \
        CLI_FLAG(PA, report.noinlines, "noinlines", 0, PROFILE_GRANULES,                           \
                 "count inlined functions as their callers"),                                      \
        CLI_FLAG(PA, report.showcolumns, "showcolumns", 0, PROFILE_GRANULES,                       \
                 "columns beside lines, where the profile has them")
#define PROFILE_TABLE_OPTIONS                                                                      \
    CLI_SET(PA, sort, "cum", PROFILE_TRIMMING, "order by cumulative values", "cum"),               \
        CLI_SET(PA, sort, "flat", PROFILE_TRIMMING, "order by flat values (default)", "flat"),     \
        CLI_INT(PA, report.nodecount, "nodecount", 'n', "N", PROFILE_TRIMMING,                     \
                "at most N rows (default: all in top, 80 in tree)"),                               \
        CLI_REAL(PA, report.nodefraction, "nodefraction", 0, "X", PROFILE_TRIMMING,                \
                 "leave out rows below this share of the total (default 0.005)"),                  \
        CLI_REAL(PA, report.edgefraction, "edgefraction", 0, "X", PROFILE_TRIMMING,                \
                 "leave out calls below this share of the total (default 0.001)"),                 \
        CLI_FLAG(PA, no_trim, "no-trim", 0, PROFILE_TRIMMING, "leave nothing out")

// Reads and merges the files (none: the newest *.pb.gz of the folder, said on stderr) and takes the
// base off. Raw dumps, black boxes and core files are finished first. 0, or an exit status after a
// message.
int profile_load(struct pprof_profile **out, const struct profile_args *a, int argc, char **argv);
int profile_read(struct pprof_profile **out, const struct profile_args *a, const char *path); // one
bool profile_is_trace(const char *path); // whether it begins as an execution trace

// Filters and aggregates what was loaded. 0; or an exit status, and then r is finished and p yet the caller's.
int profile_report(struct report *r, struct pprof_profile *p, struct profile_args *a);

// Loads, filters and aggregates; on success both are the caller's. 0 or an exit status.
int profile_prepare(struct report *r, struct pprof_profile **p, struct profile_args *a, int argc,
                    char **argv);

// "File: ..", "Type: ..", "Time: .."; then the filters and what is shown of how much.
void profile_print_head(FILE *out, const struct report *r);
void profile_print_labels(FILE *out, const struct report *r);
void profile_json_head(struct json *j, const struct report *r);

// Opens a->output (or standard output) for a report, and closes it: whole or not at all.
struct profile_output {
    FILE *out;
    struct profile_sink *sink; // NULL: standard output
};
int profile_output_open(struct profile_output *o, const char *path);
int profile_output_close(struct profile_output *o, bool commit); // 0 or an exit status

#endif
