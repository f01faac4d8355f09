// SPDX-License-Identifier: MIT
//
// fiberscope folded: one stack per line, `main;parse;malloc 42`, as flame graph tools read it.

#include "analysis/stacks.h"
#include "cli/profile_args.h"

#include <inttypes.h>

// A semicolon separates frames and a newline ends the stack, so neither may come from a name.
static void print_name(FILE *out, const char *name)
{
    for (; *name; name++)
        fputc(*name == ';' ? ',' : (unsigned char)*name < ' ' ? ' ' : *name, out);
}

static void print_node(FILE *out, const struct stacks *s, uint32_t at, const char **path,
                       struct json *j)
{
    const struct stacks_node *n = &s->nodes[at];
    uint32_t depth = 0;
    for (uint32_t i = at; i; i = s->nodes[i].parent)
        path[depth++] = s->nodes[i].name;
    if (j) {
        json_open(j, NULL, '{');
        json_open(j, "stack", '[');
        while (depth)
            json_string(j, NULL, path[--depth]);
        json_close(j, ']');
        if (s->values == STACKS_COMPARED) {
            json_int(j, "base", n->base.self);
            json_int(j, "value", n->now.self);
        } else {
            json_int(j, "value", n->self);
        }
        json_close(j, '}');
        return;
    }
    while (depth) {
        print_name(out, path[--depth]);
        fputc(depth ? ';' : ' ', out);
    }
    if (s->values == STACKS_COMPARED)
        fprintf(out, "%" PRId64 " %" PRId64 "\n", n->base.self, n->now.self);
    else
        fprintf(out, "%" PRId64 "\n", n->self);
}

static int print_folded(FILE *out, const struct report *r, const struct stacks *s, bool json)
{
    const char **path = arena_array(&r->profile->arena, s->depth + 1, sizeof *path);
    struct json j = {.out = out};
    if (!path)
        return cli_fail("out of memory");
    if (json) {
        json_open(&j, NULL, '{');
        json_string(&j, "type", r->type);
        json_string(&j, "unit", r->from_unit);
        json_int(&j, "total", r->total);
        json_open(&j, "stacks", '[');
    }
    for (uint32_t i = 1; i < s->count; i++) {
        if (s->nodes[i].self)
            print_node(out, s, i, path, json ? &j : NULL);
    }
    if (json) {
        json_close(&j, ']');
        json_close(&j, '}');
    }
    return CLI_OK;
}

static int run(void *settings, int argc, char **argv)
{
    struct profile_args *a = settings;
    struct pprof_profile *p;
    struct profile_output o;
    struct report r;
    struct stacks s;
    struct fscope_error err = {0};
    int status = profile_prepare(&r, &p, a, argc, argv);
    if (status)
        return status;
    if (stacks_build(&s, &r, a->diff_base.count ? STACKS_COMPARED : STACKS_SIGNED, false, &err)) {
        status = cli_fail("%s", err.text);
    } else if (!(status = profile_output_open(&o, a->output))) {
        status = print_folded(o.out, &r, &s, a->json);
        int closed = profile_output_close(&o, !status);
        status = status ? status : closed;
    }
    stacks_finish(&s);
    report_finish(&r);
    pprof_free(p);
    return status;
}

static const struct profile_args defaults = PROFILE_DEFAULTS;
static const struct cli_option options[] = {
    PROFILE_FILTER_OPTIONS, PROFILE_VALUE_OPTIONS, PROFILE_GRANULARITY_OPTIONS,
    PROFILE_DIFF_OPTIONS,   PROFILE_INPUT_OPTIONS, PROFILE_JSON_OPTION,
};

const struct cli_command cmd_folded = {
    .name = "folded",
    .summary = "print one stack per line, as flamegraph.pl, speedscope and inferno read it",
    .operands = "[FILE...]",
    .details =
        "Outermost frame first, semicolons between, then the value in the profile's own unit. "
        "With\n"
        "-base it is the difference, which may be negative; with -diff_base two values follow, of\n"
        "OLD and of FILE, as difffolded.pl writes them.",
    .examples = "  fiberscope folded p.pb.gz | flamegraph.pl > p.svg\n"
                "  fiberscope folded -diff_base old.pb.gz new.pb.gz | flamegraph.pl > diff.svg",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
