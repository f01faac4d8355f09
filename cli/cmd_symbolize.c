// SPDX-License-Identifier: MIT
//
// fiberscope symbolize: completes profiles with names and lines, later or on another machine.

#include "cli/commands.h"
#include "collector/symbolize.h"
#include "formats/pprof.h"

#include <errno.h>
#include <stdlib.h>

struct settings {
    struct cli_list debug_dirs;
    const char *output, *root, *perf_map;
    bool again, no_inlines, no_cache, quiet;
};

static const struct settings defaults = {0};

static const struct cli_option options[] = {
    CLI_STRING(struct settings, output, "output", 'o', "FILE", NULL,
               "write to FILE (- for standard output) instead of completing the profile in place"),
    CLI_LIST(struct settings, debug_dirs, "debug-dir", 'd', "DIR", NULL,
             "look for debug files in DIR before /usr/lib/debug: DIR/.build-id/xx/yyy.debug, "
             "DIR/PATH.debug; may be given several times"),
    CLI_STRING(struct settings, root, "root", 0, "DIR", NULL,
               "the recorded files are below DIR (a container's root, a mounted image)"),
    CLI_STRING(struct settings, perf_map, "perf-map", 0, "FILE", NULL,
               "names of JIT code, as in /tmp/perf-PID.map"),
    CLI_FLAG(struct settings, again, "again", 0, NULL, "replace names that are there already"),
    CLI_FLAG(struct settings, no_inlines, "no-inlines", 0, NULL, "leave out inlined functions"),
    CLI_FLAG(struct settings, no_cache, "no-cache", 0, NULL, "do not use the symbol cache"),
    CLI_FLAG(struct settings, quiet, "quiet", 'q', NULL, "print errors only"),
};

static void report(const char *path, const struct symbolize_stats *st)
{
    char summary[512];
    fprintf(stderr, "%s: %zu of %zu location%s named, %zu with lines\n", path, st->named_count,
            st->location_count, cli_s(st->location_count), st->lined_count);
    for (size_t i = 0; i < st->file_count && i < 8; i++)
        if (*st->files[i].why)
            fprintf(stderr, "  %s\n", st->files[i].why);
    if (symbolize_summary(st, summary, sizeof summary) > 0)
        fprintf(stderr, "  %s\n", summary);
}

static int symbolize_one(const char *path, const struct settings *s, struct fscope_error *err)
{
    struct symbols_options so = {
        .size = sizeof so,
        .debug_dirs = s->debug_dirs.items,
        .debug_dir_count = s->debug_dirs.count,
        .root = s->root,
        .no_inlines = s->no_inlines,
        .no_cache = s->no_cache,
    };
    struct symbolize_options o = {
        .size = sizeof o, .symbols = &so, .perf_map = s->perf_map, .again = s->again};
    struct pprof_profile *p;
    int rc = pprof_read_file(&p, path, NULL, err);
    if (rc)
        return rc;
    struct symbolize_stats *st = calloc(1, sizeof *st);
    rc = st ? symbolize_profile(p, &o, st, err) : error_set(err, -ENOMEM, 0, "out of memory");
    if (!rc)
        rc = pprof_write_file(p, s->output ? s->output : path, err);
    if (!rc && !s->quiet)
        report(s->output ? s->output : path, st);
    free(st);
    pprof_free(p);
    return rc;
}

static int run(void *settings, int argc, char **argv)
{
    const struct settings *s = settings;
    if (argc == 0)
        return cli_usage("which profile to complete is missing: FILE...");
    if (s->output && argc > 1)
        return cli_usage("--output takes one profile, not %d", argc);
    int status = CLI_OK;
    for (int i = 0; i < argc; i++) {
        struct fscope_error err = {0};
        if (symbolize_one(argv[i], s, &err))
            status = cli_fail("%s", err.text);
    }
    return status;
}

const struct cli_command cmd_symbolize = {
    .name = "symbolize",
    .summary = "complete a profile with names, lines and inlined functions",
    .operands = "FILE...",
    .details =
        "Looks up each address that has no name yet, by the build id of the file it lies in:\n"
        "in the file itself, its separate debug file, and with debuginfod if DEBUGINFOD_URLS is\n"
        "set. A file whose build id differs from the recorded one is refused and its addresses "
        "stay.",
    .examples = "  fiberscope symbolize --debug-dir ~/debug app.4711.cpu.pb.gz\n"
                "  DEBUGINFOD_URLS=https://debuginfod.debian.net fiberscope symbolize -o out.pb.gz "
                "in.pb.gz",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
