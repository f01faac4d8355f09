// SPDX-License-Identifier: MIT
//
// fiberscope waits as text: a table, the deadlocks with their stacks, and the stacks of others who wait for locks
// or hold them, as jstack has it.

#include "base/utf8.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "cli/waits_report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    LABEL_BYTES = THREAD_NAME_BYTES + 40,
    HOLDER_BYTES = LABEL_BYTES + 80,
    WHO_MAX = 40, // columns, as far as they are needed
    WHAT_MAX = 56,
    REASONS_MAX = 64,
    SAME_LOCK_STACKS = 3, // of those that wait for the same one, so many stacks
};

// "thread 4711 \"worker\"", "goroutine 7".
static const char *label_of(const struct waits_node *n, char out[LABEL_BYTES])
{
    snprintf(out, LABEL_BYTES, "%s %" PRIu64 "%s%.*s%s", n->is_fiber ? "goroutine" : "thread",
             n->id, n->name[0] ? " \"" : "", THREAD_NAME_BYTES, n->name, n->name[0] ? "\"" : "");
    utf8_mask_controls(out, "");
    return out;
}

static const char *holder_of(const struct waits *w, const struct waits_node *n,
                             char out[HOLDER_BYTES])
{
    char label[LABEL_BYTES];
    const char *kind = n->holder_is_fiber ? "goroutine" : "thread";
    switch (n->holder) {
    case WAITS_HELD: snprintf(out, HOLDER_BYTES, "%s", label_of(&w->nodes[n->to], label)); break;
    case WAITS_HELD_BY_FIBER:
        snprintf(out, HOLDER_BYTES, "%s, by a goroutine that was parked with it",
                 label_of(&w->nodes[n->to], label));
        break;
    case WAITS_HELD_OUTSIDE:
        snprintf(out, HOLDER_BYTES, "%s %" PRIu64 " of another process", kind, n->holder_id);
        break;
    case WAITS_HELD_BY_DEAD:
        snprintf(out, HOLDER_BYTES, "%s %" PRIu64 ", which has ended", kind, n->holder_id);
        break;
    default:
        if (n->readers)
            snprintf(out, HOLDER_BYTES, "%u reader%s", n->readers, n->readers == 1 ? "" : "s");
        else
            snprintf(out, HOLDER_BYTES, "%s", n->is_lock ? "?" : "-");
    }
    return out;
}

static const char *since_of(uint64_t ns, char out[24])
{
    uint64_t s = ns / 1000000000;
    if (!ns)
        snprintf(out, 24, "-");
    else if (!s)
        snprintf(out, 24, "%" PRIu64 "ms", ns / 1000000);
    else if (s < 120)
        snprintf(out, 24, "%" PRIu64 "s", s);
    else if (s < 7200)
        snprintf(out, 24, "%" PRIu64 "m", s / 60);
    else
        snprintf(out, 24, "%" PRIu64 "h", s / 3600);
    return out;
}

// --- The table.

static bool has_row(const struct waits_report *r, const struct waits_node *n)
{
    return r->all || !n->is_fiber || n->is_lock || n->waiters || n->deadlock;
}

static int width(size_t length, int now, int most)
{
    return (int)length > most ? (now > most ? now : most) : (int)length > now ? (int)length : now;
}

static void print_row(const struct waits *w, const struct waits_node *n, int who, int what,
                      FILE *out)
{
    char label[LABEL_BYTES], holder[HOLDER_BYTES], since[24];
    fprintf(out, "%-*s  %5s  %-*s  %s%s\n", who, label_of(n, label), since_of(n->waiting_ns, since),
            what, n->what, holder_of(w, n, holder), n->has_limit ? " (with a time limit)" : "");
}

struct reason {
    const char *text;
    size_t count;
};

static int by_count(const void *a, const void *b)
{
    const struct reason *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : strcmp(x->text, y->text);
}

// Fibers that wait for what nobody holds: how many for what.
static void print_others(const struct waits_report *r, int who, FILE *out)
{
    const struct waits *w = r->waits;
    struct reason reasons[REASONS_MAX];
    size_t n = 0;
    for (size_t i = w->thread_count; i < w->count; i++) {
        size_t k = 0;
        if (has_row(r, &w->nodes[i]))
            continue;
        while (k < n && strcmp(reasons[k].text, w->nodes[i].reason) != 0)
            k++;
        if (k == REASONS_MAX)
            continue;
        if (k == n)
            reasons[n++] = (struct reason){.text = w->nodes[i].reason};
        reasons[k].count++;
    }
    qsort(reasons, n, sizeof *reasons, by_count);
    for (size_t k = 0; k < n; k++) {
        char label[LABEL_BYTES];
        snprintf(label, sizeof label, "%zu goroutine%s", reasons[k].count,
                 reasons[k].count == 1 ? "" : "s");
        fprintf(out, "%-*s  %5s  %s\n", who, label, "", reasons[k].text);
    }
}

static void print_table(const struct waits_report *r, FILE *out)
{
    const struct waits *w = r->waits;
    char label[LABEL_BYTES];
    int who = 12, what = 9;
    for (size_t i = 0; i < w->count; i++)
        if (has_row(r, &w->nodes[i])) {
            who = width(strlen(label_of(&w->nodes[i], label)), who, WHO_MAX);
            what = width(strlen(w->nodes[i].what), what, WHAT_MAX);
        }
    fprintf(out, "%-*s  %5s  %-*s  %s\n", who, "WHO", "SINCE", what, "WAITS FOR", "HELD BY");
    for (size_t i = 0; i < w->count; i++)
        if (has_row(r, &w->nodes[i]))
            print_row(w, &w->nodes[i], who, what, out);
    print_others(r, who, out);
}

static void print_head(const struct waits_report *r, FILE *out)
{
    const struct waits *w = r->waits;
    size_t fibers = w->count - w->thread_count, locks = 0;
    for (size_t i = 0; i < w->count; i++)
        locks += w->nodes[i].is_lock && !w->nodes[i].is_join;
    if (target_is_core(r->target))
        fprintf(out, "%s (%s): ", target_name(r->target), r->operand);
    else
        fprintf(out, "%s (process %u): ", target_name(r->target), target_pid(r->target));
    fprintf(out, "%zu thread%s", w->thread_count, w->thread_count == 1 ? "" : "s");
    if (fibers)
        fprintf(out, ", %zu goroutine%s", fibers, fibers == 1 ? "" : "s");
    fprintf(out, "; %zu wait%s for a lock\n\n", locks, locks == 1 ? "s" : "");
}

// --- Stacks.

// "mutex g_lock (0x..)".
static void print_object(const struct waits_node *n, FILE *out)
{
    fputs(n->what, out);
    if (n->lock[0])
        fprintf(out, " (0x%" PRIx64 ")", n->object);
}

static void print_held(const struct waits *w, uint32_t holder, FILE *out)
{
    uint64_t last = 0;
    for (size_t i = 0; i < w->count; i++) {
        const struct waits_node *n = &w->nodes[i];
        if (n->to != holder || n->is_join || n->object == last)
            continue;
        bool is_told = false; // by one before
        for (size_t k = 0; k < i && !is_told; k++)
            is_told = w->nodes[k].to == holder && w->nodes[k].object == n->object;
        if (is_told)
            continue;
        last = n->object;
        if (n->lock[0])
            fprintf(out, "\t- holds %s (0x%" PRIx64 "), which others wait for\n", n->lock,
                    n->object);
        else
            fprintf(out, "\t- holds 0x%" PRIx64 ", which others wait for\n", n->object);
    }
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

void waits_print_frames(const struct pprof_sample *s, FILE *out)
{
    struct terminal t = terminal_of(out);
    char function[1024], place[1024];
    for (uint32_t i = 0; i < s->location_count; i++)
        for (uint32_t k = 0; stack_table_text(s->locations[i], k, function, place, sizeof place);
             k++) {
            fputs("\tat ", out);
            terminal_print(out, &t, function, 0);
            fputs(" (", out);
            terminal_print(out, &t, base_name(place), 0);
            fputs(")\n", out);
        }
}

static void print_stack(const struct waits *w, uint32_t i, FILE *out)
{
    char label[LABEL_BYTES], holder[HOLDER_BYTES];
    const struct waits_node *n = &w->nodes[i];
    const struct pprof_sample *s = stack_table_get(w->stacks, (uint64_t)n->stack);
    fprintf(out, "%s:\n", label_of(n, label));
    if (s)
        waits_print_frames(s, out);
    else
        fputs("\t(its stack could not be had)\n", out);
    if (n->is_fiber && n->is_partial)
        fprintf(out, "\t(it runs: its start function; the stack is its thread's)\n");
    else if (n->is_partial)
        fputs("\t(and its callers: not to be had without disturbing its system call)\n", out);
    if (n->is_join && n->is_lock) {
        fprintf(out, "\t- waits for the end of %s\n", holder_of(w, n, holder));
    } else if (n->is_lock) {
        fputs("\t- waits for ", out);
        print_object(n, out);
        fprintf(out, ", held by %s\n", holder_of(w, n, holder));
    }
    print_held(w, i, out);
    fputc('\n', out);
}

void waits_print_title(const char *text, FILE *out)
{
    fprintf(out, "%s\n", text);
    for (size_t i = strlen(text); i; i--)
        fputc('=', out);
    fputc('\n', out);
}

// --- Deadlocks.

static void print_member(const struct waits *w, const struct waits_node *n, FILE *out)
{
    char label[LABEL_BYTES], holder[HOLDER_BYTES];
    fprintf(out, "%s:\n", label_of(n, label));
    const char *next = label_of(&w->nodes[n->next], label);
    if (n->is_fiber && n->runs_on == n->next) {
        fprintf(out, "  runs on %s, which is blocked\n", next);
    } else if (!n->is_lock) {
        fprintf(out, "  has nothing to do but to run %s, which is tied to it\n", next);
    } else if (n->is_join) {
        fprintf(out, "  waits for the end of %s\n", holder_of(w, n, holder));
    } else {
        fputs("  waits for ", out);
        print_object(n, out);
        fprintf(out, ",\n  which is held by %s\n", holder_of(w, n, holder));
    }
    if (n->holder == WAITS_HELD_BY_FIBER)
        fprintf(out, "  (most likely %s)\n", next);
}

static void print_deadlock(const struct waits *w, const struct waits_deadlock *d, size_t number,
                           FILE *out)
{
    char title[80];
    snprintf(title, sizeof title,
             d->is_possible ? "Possible deadlock %zu:" : "Deadlock %zu:", number);
    waits_print_title(title, out);
    uint32_t i = d->first;
    for (uint32_t n = 0; n < d->count; n++, i = w->nodes[i].next)
        print_member(w, &w->nodes[i], out);
    if (d->is_possible)
        fputs(
            "Not certain: which goroutine took the mutex is not recorded, and others could have.\n",
            out);
    fputc('\n', out);
    if (!w->stacks)
        return;
    waits_print_title("Stacks of those listed above:", out);
    for (uint32_t n = 0; n < d->count; n++, i = w->nodes[i].next)
        print_stack(w, i, out);
}

// --- Others.

static bool has_stack_told(const struct waits_report *r, uint32_t i)
{
    const struct waits *w = r->waits;
    const struct waits_node *n = &w->nodes[i];
    if (n->deadlock || (!n->stack && !n->is_lock && !n->waiters) || !(n->is_lock || n->waiters))
        return false;
    if (r->all || n->waiters || !n->object)
        return true;
    size_t before = 0;
    for (uint32_t k = 0; k < i && before < SAME_LOCK_STACKS; k++)
        before += w->nodes[k].object == n->object && !w->nodes[k].waiters && !w->nodes[k].deadlock;
    return before < SAME_LOCK_STACKS;
}

static void print_other_stacks(const struct waits_report *r, FILE *out)
{
    const struct waits *w = r->waits;
    size_t left_out = 0;
    bool has_title = false;
    for (uint32_t i = 0; w->stacks && i < w->count; i++) {
        const struct waits_node *n = &w->nodes[i];
        if (!has_stack_told(r, i)) {
            left_out += n->is_lock && !n->deadlock;
            continue;
        }
        if (!has_title)
            waits_print_title("Stacks of others that wait for locks or hold them:", out);
        has_title = true;
        print_stack(w, i, out);
    }
    if (left_out)
        fprintf(out, "%zu more stack%s with --all.\n\n", left_out, cli_s(left_out));
}

void waits_print_text(const struct waits_report *r, FILE *out)
{
    const struct waits *w = r->waits;
    size_t possible = w->deadlock_count - w->certain_count;
    print_head(r, out);
    print_table(r, out);
    fputc('\n', out);
    for (size_t i = 0; i < w->deadlock_count; i++)
        print_deadlock(w, &w->deadlocks[i], i + 1, out);
    print_other_stacks(r, out);
    if (r->order)
        waits_print_order(r->order, r->all, out);
    if (w->certain_count)
        fprintf(out, "Found %zu deadlock%s.\n", w->certain_count, w->certain_count == 1 ? "" : "s");
    else
        fputs("No deadlock found.\n", out);
    if (possible)
        fprintf(out, "%zu possible deadlock%s, not certain.\n", possible, possible == 1 ? "" : "s");
    if (r->order)
        waits_print_order_count(r->order, r->all, out);
}
