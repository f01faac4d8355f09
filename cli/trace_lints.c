// SPDX-License-Identifier: MIT
//
// What is remarkable, a line or two each: what, of which fibers, how long, where. See trace_tables.h.

#include "cli/trace_tables.h"

#include <inttypes.h>
#include <string.h>

static const char *text_of(const struct trace_summary *s, uint32_t name)
{
    return trace_names_text(&s->names, name);
}

// " in f  srv.c:5", if that is known.
static void print_place(FILE *out, const struct terminal *t, const struct trace_summary *s,
                        const char *word, const struct trace_place *p)
{
    const char *file = text_of(s, p->file), *slash = strrchr(file, '/');
    if (!p->function)
        return;
    fprintf(out, "%s", word);
    trace_name_print(out, t, text_of(s, p->function));
    if (!*file)
        return;
    fputs(" (", out);
    terminal_print(out, t, slash ? slash + 1 : file, 0);
    fprintf(out, ":%" PRIu64 ")", p->line);
}

static void print_wait(FILE *out, const struct terminal *t, const struct trace_summary *s,
                       uint32_t reason, uint32_t in, const struct trace_place *place)
{
    terminal_print(out, t, text_of(s, reason), 0);
    if (in && in != place->function) {
        fputs(" in ", out);
        terminal_print(out, t, text_of(s, in), 0);
    }
    print_place(out, t, s, ", called in ", place);
}

static void print_deadlock(FILE *out, const struct terminal *t, const struct trace_input *in,
                           const struct trace_summary *s)
{
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    if (s->deadlocked == 1)
        fputs("the one fiber that is alive waits at the end for what no other can do", out);
    else
        fprintf(out, "all %" PRIu64 " fibers that are alive wait for each other at the end",
                s->deadlocked);
    fputs(": a deadlock,\n           unless a timer, a signal handler or another process ends one "
          "of these waits:\n",
          out);
    for (uint32_t i = 0; i < s->waiter_count; i++) {
        const struct trace_waiter *w = &s->waiters[i];
        fprintf(out, "           fiber %" PRId64 " ", w->fiber);
        trace_name_print(out, t, text_of(s, w->name));
        fprintf(out, ", since %s (%s): ", trace_at(a, in, w->at_ns), trace_ns(b, w->ns));
        print_wait(out, t, s, w->reason, w->in, &w->place);
        fputc('\n', out);
    }
    if (s->deadlocked > s->waiter_count)
        fprintf(out, "           ... %" PRIu64 " more\n", s->deadlocked - s->waiter_count);
    fputs("           Who has a lock that was free when it was taken, no trace tells; while the "
          "process hangs,\n           `fiberscope waits PID` does.\n",
          out);
}

// "fiber 7", or, of many, "12 of 30 fibers ...; the longest, fiber 7,".
static void print_worst(FILE *out, const struct trace_lint *l, const char *did)
{
    char a[TRACE_NS_MAX];
    if (l->fibers == 1)
        fprintf(out, ": fiber %" PRId64, l->fiber);
    else if (l->limit_ns)
        fprintf(out,
                ": %" PRIu64 " of %" PRIu64
                " fibers %s for more than %s; the longest, fiber %" PRId64 ",",
                l->fibers, l->fibers_all, did, trace_ns(a, l->limit_ns), l->fiber);
    else
        fprintf(out, ": %" PRIu64 " of %" PRIu64 " fibers; the longest, fiber %" PRId64 ",",
                l->fibers, l->fibers_all, l->fiber);
}

static void print_endless(FILE *out, const struct terminal *t, const struct trace_input *in,
                          const struct trace_summary *s, const struct trace_lint *l)
{
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    print_worst(out, l, "");
    fprintf(out, " waits to the end, for %s (", trace_ns(a, l->ns));
    print_wait(out, t, s, l->reason, l->in, &l->place);
    if (l->at_ns <= s->totals.begin_ns)
        fputs(") since before the trace; ", out);
    else
        fprintf(out, ") since %s; ", trace_at(b, in, l->at_ns));
    if (l->kind == TRACE_LINT_STUCK)
        fprintf(out, "%" PRIu64 " waits before it were ten times shorter: a lost wake-up?\n",
                l->count);
    else
        fputs("nobody wakes it: idle, or a lost wake-up?\n", out);
}

static void print_spins(FILE *out, const struct terminal *t, const struct trace_summary *s,
                        const struct trace_lint *l)
{
    fprintf(out,
            ": of %" PRIu64 " time%s that it was made runnable, it did so itself %" PRIu64
            " time%s (it yields in a loop); fiber %" PRId64 " most",
            l->of, cli_s(l->of), l->count, cli_s(l->count), l->fiber);
    print_place(out, t, s, ", in ", &l->place);
    fputc('\n', out);
}

static void print_since(FILE *out, const struct terminal *t, const struct trace_input *in,
                        const struct trace_summary *s, const struct trace_lint *l,
                        const char *where)
{
    char at[TRACE_NS_MAX];
    fprintf(out, ", from %s on", trace_at(at, in, l->at_ns));
    print_place(out, t, s, where, &l->place);
    fputc('\n', out);
}

static void print_lint(FILE *out, const struct terminal *t, const struct trace_input *in,
                       const struct trace_summary *s, const struct trace_lint *l)
{
    char a[TRACE_NS_MAX];
    fprintf(out, "  %-8s ", trace_lint_name(l->kind));
    if (l->kind == TRACE_LINT_DEADLOCK) {
        print_deadlock(out, t, in, s);
        return;
    }
    trace_name_print(out, t, text_of(s, l->function));
    switch (l->kind) {
    case TRACE_LINT_SPINS: print_spins(out, t, s, l); break;
    case TRACE_LINT_HOGS:
        print_worst(out, l, "ran");
        fprintf(out, " ran %s without a break", trace_ns(a, l->ns));
        print_since(out, t, in, s, l, "; it stopped in ");
        break;
    case TRACE_LINT_STARVED:
        print_worst(out, l, "waited for a Proc");
        fprintf(out, " was runnable for %s before it ran", trace_ns(a, l->ns));
        print_since(out, t, in, s, l, "; made so in ");
        break;
    default: print_endless(out, t, in, s, l); break;
    }
}

void trace_print_lints(FILE *out, const struct trace_input *in, const struct trace_summary *s,
                       const struct trace_lint *lints, size_t count, uint32_t rows)
{
    struct terminal t = terminal_of(out);
    for (size_t i = 0; i < count && i < rows; i++)
        print_lint(out, &t, in, s, &lints[i]);
    if (count > rows)
        fprintf(out, "%12s %" PRIu64 " more (-n 0: all)\n", "...", (uint64_t)(count - rows));
}

static void json_place(struct json *j, const struct trace_summary *s, const struct trace_place *p)
{
    if (!p->function)
        return;
    json_open(j, "place", '{');
    json_string(j, "function", text_of(s, p->function));
    json_string(j, "file", text_of(s, p->file));
    json_int(j, "line", (int64_t)p->line);
    json_close(j, '}');
}

static void json_waiters(struct json *j, const struct trace_input *in,
                         const struct trace_summary *s)
{
    json_open(j, "waiters", '[');
    for (uint32_t i = 0; i < s->waiter_count; i++) {
        const struct trace_waiter *w = &s->waiters[i];
        json_open(j, NULL, '{');
        json_int(j, "fiber", w->fiber);
        json_string(j, "function", text_of(s, w->name));
        json_int(j, "ns", w->ns);
        json_int(j, "at_ns", w->at_ns - in->base_ns);
        json_string(j, "reason", text_of(s, w->reason));
        json_string(j, "in", text_of(s, w->in));
        json_place(j, s, &w->place);
        json_close(j, '}');
    }
    json_close(j, ']');
}

void trace_json_lints(struct json *j, const struct trace_input *in, const struct trace_summary *s,
                      const struct trace_lint *lints, size_t count)
{
    json_open(j, "lints", '[');
    for (size_t i = 0; i < count; i++) {
        const struct trace_lint *l = &lints[i];
        json_open(j, NULL, '{');
        json_string(j, "lint", trace_lint_name(l->kind));
        json_string(j, "function", text_of(s, l->function));
        json_int(j, "fibers", (int64_t)l->fibers);
        json_int(j, "fibers_all", (int64_t)l->fibers_all);
        json_int(j, "fiber", l->fiber);
        json_int(j, "ns", l->ns);
        json_int(j, "at_ns", l->at_ns ? l->at_ns - in->base_ns : 0);
        json_string(j, "reason", text_of(s, l->reason));
        json_string(j, "in", text_of(s, l->in));
        json_int(j, "count", (int64_t)l->count);
        json_int(j, "of", (int64_t)l->of);
        json_place(j, s, &l->place);
        if (l->kind == TRACE_LINT_DEADLOCK)
            json_waiters(j, in, s);
        json_close(j, '}');
    }
    json_close(j, ']');
}
