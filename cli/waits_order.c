// SPDX-License-Identifier: MIT
//
// The order of locks in fiberscope waits: inversions as text and as JSON.

#include "cli/json.h"
#include "cli/options.h"
#include "cli/waits_report.h"

#include <inttypes.h>
#include <string.h>

static const char *word_of_type(enum seg_lock_type type)
{
    return type == SEG_LOCK_MUTEX ? "mutex" : type == SEG_LOCK_RWLOCK ? "rwlock" : "lock";
}

// "mutex g_lock (0x..)", "mutex 0x..".
static const char *lock_text(const struct order *o, uint32_t lock, char out[ORDER_NAME + 64])
{
    const struct order_lock *l = &o->locks[lock];
    if (l->name[0])
        snprintf(out, ORDER_NAME + 64, "%s %s (0x%" PRIx64 ")", word_of_type(l->type), l->name,
                 l->address);
    else
        snprintf(out, ORDER_NAME + 64, "%s 0x%" PRIx64, word_of_type(l->type), l->address);
    return out;
}

static void print_who(const struct order_edge *e, FILE *out)
{
    for (int i = 0; i < 2 && e->who[i]; i++) {
        bool is_fiber = e->who[i] & SEG_ORDER_FIBER;
        uint64_t id = is_fiber ? e->who[i] & ~SEG_ORDER_FIBER : e->who[i] & UINT32_MAX;
        fprintf(out, "%s%s %" PRIu64, i ? (e->others ? ", " : " and ") : "",
                is_fiber ? "goroutine" : "thread", id);
    }
    fputs(e->others ? " and others" : "", out);
}

static void print_taken(const struct order *o, uint32_t stack, FILE *out)
{
    const struct pprof_sample *s = o->stacks ? stack_table_get(o->stacks, stack) : NULL;
    if (s)
        waits_print_frames(s, out);
    else if (o->stacks)
        fputs("\t(its stack was not kept)\n", out);
}

static void print_edge(const struct order *o, const struct order_edge *e, FILE *out)
{
    char from[ORDER_NAME + 64], to[ORDER_NAME + 64];
    uint64_t after_ms = e->first_ns > o->since_ns ? (e->first_ns - o->since_ns) / 1000000 : 0;
    fprintf(out, "%s%s,\n  then %s%s:\n  ", lock_text(o, e->from, from),
            e->flags & SEG_ORDER_FROM_READ ? " to read" : "", lock_text(o, e->to, to),
            e->flags & SEG_ORDER_TO_READ ? " to read" : "");
    fprintf(out, "%" PRIu64 " time%s, first after %" PRIu64 ".%03" PRIu64 " s, by ", e->count,
            e->count == 1 ? "" : "s", after_ms / 1000, after_ms % 1000);
    print_who(e, out);
    fputs(e->flags & SEG_ORDER_GUARDS_CUT ? "; with more locks held than were noted\n" : "\n", out);
    if (!o->stacks)
        return;
    fputs("  the first one taken\n", out);
    print_taken(o, e->from_stack, out);
    fputs("  the second one\n", out);
    print_taken(o, e->to_stack, out);
}

static void print_circle(const struct order *o, const struct order_circle *c, size_t number,
                         FILE *out)
{
    static const char *const titles[] = {
        [ORDER_INVERSION] = "Lock-order inversion",
        [ORDER_FEW_THREADS] = "Order inverted by too few threads to meet",
        [ORDER_GUARDED] = "Order that is inverted under a common lock",
    };
    char title[80];
    snprintf(title, sizeof title, "%s %zu:", titles[c->kind], number);
    waits_print_title(title, out);
    for (uint32_t i = 0; i < c->count; i++)
        print_edge(o, &o->edges[c->edges[i]], out);
    fputs(c->kind == ORDER_INVERSION
              ? "If all of this happens at once, each waits for the next for ever.\n\n"
              : "\n",
          out);
}

void waits_print_order(const struct order *o, bool all, FILE *out)
{
    size_t numbers[ORDER_KIND_COUNT] = {0};
    for (size_t i = 0; i < o->circles.count; i++) {
        const struct order_circle *c = &o->circles.list[i];
        if (all || c->kind == ORDER_INVERSION)
            print_circle(o, c, ++numbers[c->kind], out);
    }
}

void waits_print_order_count(const struct order *o, bool all, FILE *out)
{
    size_t found = o->kinds[ORDER_INVERSION];
    uint64_t missing = o->locks_full + o->edges_full;
    if (found)
        fprintf(out, "Found %zu lock-order inversion%s", found, found == 1 ? "" : "s");
    else
        fputs("No lock-order inversion", out);
    fprintf(out, " in %zu order%s of %zu lock%s%s.\n", o->edge_count, o->edge_count == 1 ? "" : "s",
            o->lock_count, o->lock_count == 1 ? "" : "s",
            o->is_on ? "" : ", recorded up to when it was switched off");
    if (o->kinds[ORDER_FEW_THREADS])
        fprintf(out, "%zu more by too few threads%s.\n", o->kinds[ORDER_FEW_THREADS],
                all ? "" : " (--all)");
    if (o->kinds[ORDER_GUARDED])
        fprintf(out, "%zu more under a common lock%s.\n", o->kinds[ORDER_GUARDED],
                all ? "" : " (--all)");
    if (missing || o->held_full)
        fprintf(out, "Incomplete: %" PRIu64 " order%s and %" PRIu64 " held lock%s found no room.\n",
                missing, cli_s(missing), o->held_full, cli_s(o->held_full));
    if (o->circles.is_cut)
        fputs("Incomplete: there are more circles than could be searched.\n", out);
}

// --- JSON.

static void write_stack(struct json *j, const char *key, const struct order *o, uint32_t stack)
{
    const struct pprof_sample *s = o->stacks ? stack_table_get(o->stacks, stack) : NULL;
    if (s)
        waits_write_frames(j, key, s);
}

static void write_edge(struct json *j, const struct order *o, const struct order_edge *e)
{
    json_open(j, NULL, '{');
    const struct {
        const char *key;
        uint32_t lock;
        bool reads;
    } sides[] = {{"held", e->from, e->flags & SEG_ORDER_FROM_READ},
                 {"taken", e->to, e->flags & SEG_ORDER_TO_READ}};
    for (int i = 0; i < 2; i++) {
        const struct order_lock *l = &o->locks[sides[i].lock];
        json_open(j, sides[i].key, '{');
        json_string(j, "kind", word_of_type(l->type));
        json_hex(j, "object", l->address);
        if (l->name[0])
            json_string(j, "lock", l->name);
        json_bool(j, "to_read", sides[i].reads);
        write_stack(j, "stack", o, i ? e->to_stack : e->from_stack);
        json_close(j, '}');
    }
    json_int(j, "count", (int64_t)(e->count & INT64_MAX));
    json_int(j, "first_after_ns",
             e->first_ns > o->since_ns ? (int64_t)((e->first_ns - o->since_ns) & INT64_MAX) : 0);
    json_open(j, "by", '[');
    for (int i = 0; i < 2 && e->who[i]; i++) {
        bool is_fiber = e->who[i] & SEG_ORDER_FIBER;
        json_open(j, NULL, '{');
        json_string(j, "kind", is_fiber ? "goroutine" : "thread");
        json_int(j, "id",
                 (int64_t)(is_fiber ? e->who[i] & ~SEG_ORDER_FIBER : e->who[i] & UINT32_MAX));
        json_close(j, '}');
    }
    json_close(j, ']');
    json_bool(j, "by_others", e->others);
    json_close(j, '}');
}

void waits_write_order(struct json *j, const struct order *o)
{
    static const char *const kinds[] = {
        [ORDER_INVERSION] = "inversion",
        [ORDER_FEW_THREADS] = "few threads",
        [ORDER_GUARDED] = "common lock",
    };
    json_open(j, "lock_order", '{');
    json_bool(j, "is_on", o->is_on);
    json_int(j, "locks", (int64_t)o->lock_count);
    json_int(j, "orders", (int64_t)o->edge_count);
    json_int(j, "inversions", (int64_t)o->kinds[ORDER_INVERSION]);
    json_int(j, "lost_orders", (int64_t)((o->locks_full + o->edges_full) & INT64_MAX));
    json_int(j, "lost_held", (int64_t)(o->held_full & INT64_MAX));
    json_bool(j, "is_cut", o->circles.is_cut);
    json_open(j, "circles", '[');
    for (size_t i = 0; i < o->circles.count; i++) {
        const struct order_circle *c = &o->circles.list[i];
        json_open(j, NULL, '{');
        json_string(j, "kind", kinds[c->kind]);
        json_open(j, "orders", '[');
        for (uint32_t m = 0; m < c->count; m++)
            write_edge(j, o, &o->edges[c->edges[m]]);
        json_close(j, ']');
        json_close(j, '}');
    }
    json_close(j, ']');
    json_close(j, '}');
}
