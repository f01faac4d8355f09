// SPDX-License-Identifier: MIT
//
// What the user sees of a recording: progress, the delivered rate, the closing lines.

#include "collector/record_internal.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_NS UINT64_C(1000000000)

enum { COLLAPSED_TOLERATED = 20 }; // of so many samples one: above it the closing lines say so
enum { JUDGED_SAMPLES_MIN = 50 };  // of fewer, a rate says nothing
#define RATE_TOLERATED 0.95        // of the asked rate: below it the closing lines say so

static uint64_t samples_of(const struct record_result *result)
{
    uint64_t n = 0;
    for (int kind = 0; kind < RECORD_STREAM_COUNT; kind++) { // state comes at the end
        struct builder_stats st;
        if (!result->builders[kind])
            continue;
        builder_get_stats(result->builders[kind], &st);
        n += st.samples;
    }
    return n;
}

void record_progress_begin(struct record_progress *p, const struct record_options *o)
{
    bool is_terminal = !o->quiet && isatty(fileno(o->messages));
    *p = (struct record_progress){.out = is_terminal ? o->messages : NULL,
                                  .has_trace = o->trace,
                                  .start_ns = record_now_ns(CLOCK_MONOTONIC)};
}

bool record_progress_is_due(const struct record_progress *p)
{
    uint64_t since = p->shown_ns ? p->shown_ns : p->start_ns;
    return p->out && record_now_ns(CLOCK_MONOTONIC) - since >= PROGRESS_NS;
}

void record_progress_show(struct record_progress *p, const struct record_result *result)
{
    uint64_t now = record_now_ns(CLOCK_MONOTONIC);
    if (!record_progress_is_due(p))
        return;
    p->shown_ns = now;
    // \033[K clears what a longer line left.
    fprintf(p->out, "\rfiberscope: %" PRIu64 " s", (now - p->start_ns) / 1000000000);
    if (result->builders[RECORD_CPU] || result->builders[RECORD_WALL])
        fprintf(p->out, ", %" PRIu64 " sample%s", samples_of(result),
                samples_of(result) == 1 ? "" : "s");
    if (p->has_trace) {
        fputs(", ", p->out);
        record_say_count(p->out, result->trace_events);
        fputs(" events (", p->out);
        record_say_bytes(p->out, result->trace_bytes);
        fputc(')', p->out);
    }
    fputs("\033[K", p->out);
    fflush(p->out);
}

void record_progress_end(struct record_progress *p)
{
    if (p->out && p->shown_ns) {
        fputs("\r\033[K", p->out);
        fflush(p->out);
    }
    p->out = NULL;
}

struct loss_words {
    uint64_t count;
    const char *one, *many; // after the number
};

void record_losses_text(enum record_kind kind, const struct builder_stats *st, bool all, char *text,
                        size_t size)
{
    const struct builder_losses *l = &st->losses;
    bool is_merging = l->collapsed && (all || l->collapsed > st->samples / COLLAPSED_TOLERATED);
    bool is_stream = kind < RECORD_STREAM_COUNT;
    const struct loss_words words[] = {
        {st->no_stack, "sample without a stack ([stack lost])",
         "samples without a stack ([stack lost])"},
        {l->stacks, "stack did not fit into the stack table",
         "stacks did not fit into the stack table"},
        {l->states, "addition did not fit into the state table",
         "additions did not fit into the state table"},
        {l->folded, "sample without thread and time (a full ring, read too late)",
         "samples without thread and time (a full ring, read too late)"},
        {l->threads,
         is_stream ? "time a thread found no slot (its samples have no thread)"
                   : "time a thread found no slot (what it did is not in the profile)",
         is_stream ? "times a thread found no slot (its samples have no thread)"
                   : "times a thread found no slot (what it did is not in the profile)"},
        {l->modules, "mapped file did not fit into the table (its addresses have no names)",
         "mapped files did not fit into the table (their addresses have no names)"},
        {l->untracked,
         "live allocation found no place in the table of pointers (it counts as allocated, not as "
         "in use)",
         "live allocations found no place in the table of pointers (they count as allocated, not "
         "as in use)"},
        {l->unknown_frees, "free of memory from before the recording, or of the parent's",
         "frees of memory from before the recording, or of the parent's"},
        {l->series, "moment of the series found its ring full",
         "moments of the series found their ring full"},
        {l->negative, "entry had more taken away than added (shown as 0)",
         "entries had more taken away than added (shown as 0)"},
        {is_merging ? l->collapsed : 0,
         "CPU period without a sample of its own (signal blocked or late), charged to the thread's "
         "next one",
         "CPU periods without a sample of their own (signal blocked or late), charged to the "
         "thread's next one"},
    };
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!words[i].count || n >= size)
            continue;
        int added = snprintf(text + n, size - n, "%s%" PRIu64 " %s", n ? "; " : "", words[i].count,
                             words[i].count == 1 ? words[i].one : words[i].many);
        n += added > 0 ? (size_t)added : 0;
    }
}

static const char *rate_reason(const struct ingest_stats *stats)
{
    if (stats->cpu_source == SEG_CPU_TIMER)
        return stats->event_why[0] ? stats->event_why
                                   : "timers tick at the kernel's CONFIG_HZ; perf events do not";
    if (stats->kernel_why[0])
        return stats->kernel_why;
    return stats->event_why[0] ? stats->event_why
                               : "the target was busy elsewhere or blocks SIGPROF";
}

void record_judge_rates(struct record_result *result, const struct ingest_stats *stats)
{
    result->damaged = stats->damaged;
    struct builder *cpu = result->builders[RECORD_CPU];
    struct builder_stats st = {0};
    if (cpu)
        builder_get_stats(cpu, &st);
    uint32_t asked = result->asked_hz[RECORD_CPU];
    if (cpu && st.samples >= JUDGED_SAMPLES_MIN && st.ns) {
        double hz = (double)st.samples * 1e9 / (double)st.ns;
        result->delivered_hz[RECORD_CPU] = hz;
        if (hz < RATE_TOLERATED * asked) {
            snprintf(result->rate_note, sizeof result->rate_note, "%.0f Hz instead of %u: %s", hz,
                     asked, rate_reason(stats));
            builder_set_period(cpu, (uint64_t)(1e9 / hz));
        }
    }
    if (stats->segments_broken)
        snprintf(result->warning, sizeof result->warning, "%s", stats->broken_why);
    else if (stats->processes == 0 && (record_stop_count || result->killed_by)) {
        result->was_too_early = true;
        snprintf(result->warning, sizeof result->warning,
                 "ended by a signal (%s) before the program had started: nothing was recorded",
                 strsignal(result->killed_by ? result->killed_by : record_stop_signal));
    } else if (stats->processes == 0)
        snprintf(
            result->warning, sizeof result->warning,
            "no process reported in: the command has taken LD_PRELOAD out of its environment, or "
            "runs only programs that the agent cannot enter; try fiberscope record -p PID");
}
