// SPDX-License-Identifier: MIT
//
// fiberscope finish: profiles and traces out of a dump, a black box or a core file.

#include "base/file.h"
#include "cli/commands.h"
#include "cli/profile_args.h"

#include "collector/finish.h"

#include <limits.h>

struct settings {
    const char *output, *go;
    bool no_symbols, quiet;
};

static const struct settings defaults = {0};

static const struct cli_option options[] = {
    CLI_STRING(
        struct settings, output, "output", 'o', "FILE", NULL,
        "write to FILE; %e is the program, %p its pid, %k the kind; a folder (made if "
        "it ends in /) gets %e.%p.%k.pb.gz, the default name (of a copy %e.%p.copyN.%k.pb.gz; "
        "with a number where that is taken)"),
    CLI_STRING(struct settings, go, "go", 0, "VERSION", NULL,
               "format of a trace: 1.23 (all of Go's tools since then read it), or 1.26"),
    CLI_FLAG(struct settings, no_symbols, "no-symbols", 0, NULL,
             "write addresses; `fiberscope symbolize` names them later"),
    CLI_FLAG(struct settings, quiet, "quiet", 'q', NULL, "no closing lines"),
};

static int run(void *p, int argc, char **argv)
{
    const struct settings *s = p;
    struct record_options o;
    struct record_result result = {0};
    struct fscope_error err = {0};
    char profiles[PATH_MAX], name[PATH_MAX];
    if (argc != 1)
        return cli_usage("one FILE is needed: a dump, a black box, a core file or the .tmp file of "
                         "a killed `record --trace`");
    if (s->output && !*s->output)
        return cli_usage("-o: an empty name");
    record_options_init(&o);
    if (cli_parse_trace_version(s->go, &o.trace_version))
        return cli_usage("--go=%.40s: the versions are 1.23 and 1.26", s->go);
    o.output = s->output;
    o.symbolize = !s->no_symbols;
    o.quiet = s->quiet;
    if (finish_is_unfinished(argv[0]))
        return finish_unfinished(argv[0], &o, &err) ? cli_fail("%s", err.text) : CLI_OK;
    if (profile_is_trace(argv[0]))
        return cli_fail_at(argv[0],
                           "an execution trace, which is finished: `fiberscope trace FILE`");
    if (file_keep_path(argv[0]))
        return cli_fail("out of memory");
    int rc = finish_read(argv[0], &result, &err);
    if (!rc) {
        // Which kinds there are is known only now: two of them need two files.
        o.cpu_hz = result.builders[RECORD_CPU] != NULL;
        o.wall_hz = result.builders[RECORD_WALL] != NULL;
        o.heap_bytes = result.builders[RECORD_HEAP] != NULL;
        o.block_ns = result.builders[RECORD_BLOCK] != NULL;
        o.mutex_fraction = result.builders[RECORD_MUTEX] != NULL;
        o.trace = result.has_trace;
        rc = finish_name(argv[0], &o, &result, name, sizeof name, &err);
        rc = rc ? rc : record_name_profiles(&o, profiles, sizeof profiles, &err);
        rc = rc ? rc : record_check_output(&o, &err);
    }
    if (!rc && o.trace)
        rc = finish_traces(argv[0], &o, &result, &err);
    if (!rc)
        rc = record_write(&o, &result, &err);
    record_result_free(&result);
    return rc ? cli_fail("%s", err.text) : CLI_OK;
}

const struct cli_command cmd_finish = {
    .name = "finish",
    .summary = "make profiles and traces of a dump, a black box or a core file",
    .operands = "FILE",
    .details =
        "FILE is what fscope_*_write dumped, what FIBERSCOPE_SEGMENT=FILE left behind, a core "
        "file\n"
        "of a process that was recording, or what `fiberscope record --trace` had written when it\n"
        "was killed (.NAME.....tmp beside the output). It is only read. Each kind of profile that "
        "it has\n"
        "becomes a file, and an execution trace one; several need a folder, or %k in the name. A\n"
        "core file of a program on libfiberscope-rt has its fibers as well (pprof's goroutine).\n"
        "Damaged records are left out and counted.",
    .examples = "  fiberscope finish core.4711\n"
                "  fiberscope finish box.seg -o p.pb.gz",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
