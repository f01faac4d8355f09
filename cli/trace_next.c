// SPDX-License-Identifier: MIT
//
// What the summary recommends: at most NEXT_MAX commands, chosen by what is largest in the trace.
//
//   explain          the region or task whose slow instances cost most beyond its median ones
//   lints            if any fires
//   sched            if fibers wait longer for a Proc than they run
//   sync, net, ...   then where most time goes, waits of all fibers taken together; not for less
//                    than a hundredth

#include "cli/trace_tables.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

enum { NEXT_MAX = 3, INSTANCES_MIN = 20, TAIL_TIMES = 3 };

struct next {
    FILE *out;
    const char *path;
    int said;
};

static bool begin(struct next *n, const char *report)
{
    if (n->said == NEXT_MAX)
        return false;
    if (!n->said++)
        fprintf(n->out, "\nLook next:\n");
    fprintf(n->out, "  fiberscope trace %s ", report);
    return true;
}

static void say(struct next *n, const char *report, const char *why)
{
    if (!begin(n, report))
        return;
    cli_print_word(n->out, n->path);
    fprintf(n->out, "    # %s\n", why);
}

// What the slowest hundredth of a type takes beyond a median one, all together; 0: no long tail.
static double tail_ns(const struct trace_type *t)
{
    bool exact;
    int64_t median = trace_type_quantile_ns(t, 0.5, &exact);
    int64_t p99 = trace_type_quantile_ns(t, 0.99, &exact);
    if (t->complete < INSTANCES_MIN || p99 < TAIL_TIMES * (median > 1 ? median : 1))
        return 0;
    return (double)(p99 - median) * (double)t->complete / 100;
}

static const struct trace_type *longest_tail(struct trace_type *const *types, uint32_t count,
                                             double *most_ns)
{
    const struct trace_type *found = NULL;
    for (uint32_t i = 0; i < count; i++) {
        double ns = tail_ns(types[i]);
        if (ns > *most_ns) {
            *most_ns = ns;
            found = types[i];
        }
    }
    return found;
}

static void say_explain(struct next *n, const struct trace_summary *s)
{
    double most = 0;
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    const struct trace_type *t = longest_tail(s->region_types, s->region_type_count, &most);
    const struct trace_type *task = longest_tail(s->task_types, s->task_type_count, &most);
    const char *name = trace_names_text(&s->names, task ? task->name : t ? t->name : 0);
    // A region's name of "(more names)" is nobody's.
    if ((!t && !task) || !*name || *name == '(' ||
        !begin(n, task ? "explain --task" : "explain --region"))
        return;
    t = task ? task : t;
    cli_print_word(n->out, name);
    fputs(" --slow=p99 ", n->out);
    cli_print_word(n->out, n->path);
    fprintf(n->out, "    # why one in a hundred takes %s and not %s\n", trace_quantile(a, t, 0.99),
            trace_quantile(b, t, 0.5));
}

struct share {
    const char *report, *why;
    int64_t ns;
};

static struct share *largest(struct share *shares, size_t count)
{
    struct share *found = &shares[0];
    for (size_t i = 1; i < count; i++)
        found = shares[i].ns > found->ns ? &shares[i] : found;
    return found;
}

// Of threads, by the kernel: the fibers' reports are not for it.
static bool say_kernel(struct next *n)
{
    char program[PATH_MAX];
    if (!trace_kernel_is(n->path, program, sizeof program))
        return false;
    const char *kernel = n->path;
    n->path = program;
    if (*program)
        say(n, "lost", "what the program lost to the kernel, by this trace");
    n->path = kernel;
    say(n, "latency", "how long threads waited for a CPU");
    return true;
}

void trace_print_next(FILE *out, const struct trace_input *in, const struct trace_summary *s,
                      size_t lint_count)
{
    const struct trace_times *t = &s->totals.times;
    struct next n = {.out = out, .path = in->args->path};
    struct share shares[] = {
        {"sched", "who makes fibers runnable that then wait for a Proc", t->runnable_ns},
        {"syscall", "which lines are in system calls", t->syscall_ns + t->syscall_blocked_ns},
        {"net", "which lines wait for the network", 0},
        {"sync", "on which lines fibers wait for each other", 0},
        {"fibers", "the fibers by start function, all of them", 0},
    };
    if (say_kernel(&n))
        return;
    for (uint32_t i = 0; i < t->wait_count; i++) {
        const char *reason = trace_names_text(&s->names, t->waits[i].reason);
        // The time of a wait that has not ended is in no profile.
        if (trace_name_matches(reason, "network"))
            shares[2].ns += t->waits[i].max_ns ? t->waits[i].ns : 0;
        else if (strstr(reason, "chan") || strstr(reason, "sync") || strstr(reason, "select"))
            shares[3].ns += t->waits[i].max_ns ? t->waits[i].ns : 0;
    }
    for (size_t i = 0; i < CLI_COUNT(shares); i++)
        shares[i].ns = shares[i].ns < t->total_ns / 100 ? 0 : shares[i].ns;
    shares[CLI_COUNT(shares) - 1].ns = 1;
    say_explain(&n, s);
    if (lint_count)
        say(&n, "lints", "what is remarkable");
    if (t->runnable_ns > t->running_ns) {
        say(&n, shares[0].report, shares[0].why);
        shares[0].ns = 0;
    }
    for (struct share *x; n.said < NEXT_MAX && (x = largest(shares, CLI_COUNT(shares)))->ns > 0;) {
        say(&n, x->report, x->why);
        x->ns = 0;
    }
}
