// SPDX-License-Identifier: MIT
//
// The table of fibers as JSON and as text; see table.h.

#include "collector/serve/table.h"

#include <inttypes.h>
#include <string.h>

static void put_place(FILE *out, struct request *r, const char *key, uint64_t address, bool is_call)
{
    struct name name = {0};
    if (address)
        name_get(r->serve, address - is_call, &name);
    fprintf(out, "\"%s\":", key);
    put_json(out, name.function);
    fprintf(out, ",\"%s_at\":", key);
    put_json(out, name.place);
    fputc(',', out);
}

static void put_row(FILE *out, struct request *r, const struct table *t,
                    const struct session_row *row)
{
    fprintf(out, "{\"id\":%" PRIu64 ",\"name\":", row->id);
    put_json(out, row->name);
    fputs(",\"labels\":", out);
    put_json(out, row->labels);
    fputc(',', out);
    if (!t->is_threads) {
        put_place(out, r, "start", row->start, false);
        put_place(out, r, "created", row->created_at, true);
    }
    fputs("\"state\":", out);
    put_json(out, row->state);
    fprintf(out,
            ",\"is_waiting\":%s,\"since_ns\":%" PRIu64 ",\"age_ns\":%" PRIu64
            ",\"busy_ns\":%" PRIu64 ",\"runnable_ns\":%" PRIu64 ",\"waiting_ns\":%" PRIu64
            ",\"switches\":%" PRIu64 ",\"wakes\":%" PRIu64 ",\"self_wakes\":%" PRIu64
            ",\"preempted\":%" PRIu64 ",\"thread\":%u,\"waits_on\":",
            row->is_waiting ? "true" : "false", row->since_ns, row->age_ns, row->busy_ns,
            row->runnable_ns, table_waiting_ns(row), row->switches, row->wakes, row->self_wakes,
            row->preempted, row->tid);
    put_json(out, row->on);
    if (row->holder)
        fprintf(out, ",\"held_by\":{\"%s\":%" PRIu64 "}",
                row->is_held_by_thread ? "thread" : "fiber", row->holder);
    fputc('}', out);
}

static void put_group(FILE *out, struct request *r, const struct table *t,
                      const struct table_sum *g)
{
    fputc('{', out);
    if (t->is_threads || !g->key) {
        fputs("\"name\":", out);
        put_json(out, g->key ? g->name : "others");
        fputc(',', out);
    } else {
        put_place(out, r, t->group == TABLE_BY_SITE ? "created" : "start", g->key,
                  t->group == TABLE_BY_SITE);
    }
    fprintf(out,
            "\"count\":%" PRIu64 ",\"since_max_ns\":%" PRIu64 ",\"busy_ns\":%" PRIu64
            ",\"runnable_ns\":%" PRIu64 ",\"waiting_ns\":%" PRIu64 ",\"switches\":%" PRIu64
            ",\"wakes\":%" PRIu64 ",\"self_wakes\":%" PRIu64 ",\"preempted\":%" PRIu64 "}",
            g->count, g->since_max_ns, g->busy_ns, g->runnable_ns, g->waiting_ns, g->switches,
            g->wakes, g->self_wakes, g->preempted);
}

static void put_fibers(FILE *out, const struct session_fibers *f)
{
    bool is_first = true;
    fprintf(out,
            ",\n\"processors\":%" PRIu64 ",\"threads\":%" PRIu64 ",\"threads_idle\":%" PRIu64
            ",\"made\":%" PRIu64 ",\"switches\":%" PRIu64 ",\"steals\":%" PRIu64
            ",\"thread_wakes\":%" PRIu64 ",\"thread_parks\":%" PRIu64 ",\n\"latency\":[",
            f->procs, f->threads, f->threads_idle, f->spawns, f->switches, f->steals,
            f->thread_wakes, f->thread_parks);
    for (int b = 0; b < SESSION_BUCKETS; b++) {
        if (!f->latency[b])
            continue;
        fprintf(out, "%s{\"from_ns\":%" PRIu64 ",\"count\":%" PRIu64 "}", is_first ? "" : ",",
                b ? UINT64_C(1) << b : 0, f->latency[b]);
        is_first = false;
    }
    fputc(']', out);
}

void table_put_json(struct request *r, FILE *out, const struct table *t)
{
    names_want_table(r->serve, t);
    fputs("{\"program\":", out);
    put_json(out, session_program(r->serve->session));
    fprintf(out, ",\"pid\":%u,\"of\":\"%s\",\"total\":%" PRIu64 ",\"states\":{",
            session_pid(r->serve->session), t->is_threads ? "threads" : "fibers", t->total);
    for (size_t i = 0; i < t->state_count; i++) {
        fputs(i ? "," : "", out);
        put_json(out, t->states[i].text);
        fprintf(out, ":%" PRIu64, t->states[i].count);
    }
    fputc('}', out);
    if (t->has_fibers)
        put_fibers(out, &t->fibers);
    fprintf(out, ",\n\"%s\":[", t->group != TABLE_EACH ? "groups" : "rows");
    for (size_t i = 0; t->group == TABLE_EACH && i < t->count; i++) {
        fputs(i ? ",\n" : "\n", out);
        put_row(out, r, t, &t->rows[i]);
    }
    for (size_t i = 0; i < t->group_count; i++) {
        fputs(i ? ",\n" : "\n", out);
        put_group(out, r, t, &t->groups[i]);
    }
    fputs("\n]}\n", out);
}

// --- Text.

static void put_words(FILE *out, struct request *r, uint64_t address, bool is_call)
{
    struct name name = {.function = "-"};
    if (address)
        name_get(r->serve, address - is_call, &name);
    fputs("  ", out);
    put_plain(out, name.function);
    if (name.place[0]) {
        fputc(' ', out);
        put_plain(out, name.place);
    }
}

static void put_numbers(FILE *out, const uint64_t ns[4], const uint64_t counts[4])
{
    char text[32];
    for (int i = 0; i < 4; i++) {
        duration_text(text, sizeof text, ns[i]);
        int wide = strstr(text, "\xc2\xb5") ? 1 : 0; // of two bytes
        fprintf(out, " %*s", 10 + wide, text);
    }
    for (int i = 0; i < 4; i++)
        fprintf(out, " %9" PRIu64, counts[i]);
}

static void put_text_row(FILE *out, struct request *r, const struct table *t,
                         const struct session_row *row)
{
    const uint64_t ns[] = {row->since_ns, row->busy_ns, row->runnable_ns, table_waiting_ns(row)};
    const uint64_t counts[] = {row->switches, row->wakes, row->self_wakes, row->preempted};
    fprintf(out, "%8" PRIu64, row->id);
    put_numbers(out, ns, counts);
    fprintf(out, "  %-16s", row->state);
    if (!t->is_threads) {
        put_words(out, r, row->start, false);
        fputs(", made by", out);
        put_words(out, r, row->created_at, true);
    }
    if (row->name[0]) {
        fputs("  \"", out);
        put_plain(out, row->name);
        fputc('"', out);
    }
    if (row->on[0]) {
        fputs("  on ", out);
        put_plain(out, row->on);
    }
    if (row->holder)
        fprintf(out, " held by %s %" PRIu64, row->is_held_by_thread ? "thread" : "fiber",
                row->holder);
    fputc('\n', out);
}

void table_put_text(struct request *r, FILE *out, const struct table *t)
{
    names_want_table(r->serve, t);
    fprintf(out, "%s: total %" PRIu64 "\n", t->is_threads ? "threads" : "fibers", t->total);
    for (size_t i = 0; i < t->state_count; i++)
        fprintf(out, "# %s: %" PRIu64 "\n", t->states[i].text, t->states[i].count);
    fprintf(out, "\n%8s %10s %10s %10s %10s %9s %9s %9s %9s  %s\n",
            t->group == TABLE_EACH ? "id" : "count", "since", "busy", "runnable", "waiting",
            "switches", "wakes", "self", "preempted", t->group == TABLE_EACH ? "state" : "");
    for (size_t i = 0; t->group == TABLE_EACH && i < t->count; i++)
        put_text_row(out, r, t, &t->rows[i]);
    for (size_t i = 0; i < t->group_count; i++) {
        const struct table_sum *g = &t->groups[i];
        const uint64_t ns[] = {g->since_max_ns, g->busy_ns, g->runnable_ns, g->waiting_ns};
        const uint64_t counts[] = {g->switches, g->wakes, g->self_wakes, g->preempted};
        fprintf(out, "%8" PRIu64, g->count);
        put_numbers(out, ns, counts);
        if (t->is_threads || !g->key) {
            fputs("  ", out);
            put_plain(out, g->key ? g->name : "others");
        } else {
            put_words(out, r, g->key, t->group == TABLE_BY_SITE);
        }
        fputc('\n', out);
    }
    if (t->total > t->count && t->group == TABLE_EACH)
        fprintf(out, "# %" PRIu64 " more: rows=N shows up to 5000\n", t->total - t->count);
}
