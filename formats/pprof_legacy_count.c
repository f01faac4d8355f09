// SPDX-License-Identifier: MIT
//
// Texts that Go serves with debug=1: counts per stack, and contention.
//
//   NAME profile: total N          --- contention:  (or mutex:, contentionz)
//   N @ 0x.. 0x..                  cycles/second=N
//                                  sampling period=N
//                                  CYCLES COUNT @ 0x.. 0x..

#include "formats/pprof_legacy.h"

#include <errno.h>

static bool to_skip(struct span line)
{
    return line.n == 0 || line.s[0] == '#';
}

// Sets both types of a profile that counts one thing.
static int period_of(struct legacy *g, const char *type, const char *unit)
{
    g->p->period_type.type = pprof_string(g->p, type);
    g->p->period_type.unit = pprof_string(g->p, unit);
    g->p->period = 1;
    return g->p->period_type.type && g->p->period_type.unit ? 0 : legacy_no_memory(g);
}

// Skips to the maps and reads them.
static int finish(struct legacy *g)
{
    while (!legacy_is_maps_heading(g->text.line) && text_next(&g->text))
        ;
    return legacy_maps(g);
}

// --- Counts

static bool take_count_heading(struct span s, struct span *name)
{
    uint64_t total;
    *name = s;
    while (s.n && s.s[0] != ' ') {
        s.s++;
        s.n--;
    }
    name->n -= s.n;
    return name->n && take_text(&s, " profile: total ") && take_decimal(&s, &total) && s.n == 0;
}

bool legacy_is_count(struct span line)
{
    struct span name;
    return take_count_heading(line, &name);
}

int legacy_read_count(struct legacy *g)
{
    struct span name;
    take_count_heading(g->text.line, &name);
    const char *type = pprof_stringn(g->p, name.s, name.n);
    if (!type || pprof_add_sample_type(g->p, type, "count"))
        return legacy_no_memory(g);
    int rc = period_of(g, type, "count");
    while (!rc && text_next(&g->text)) {
        struct span s = span_trim(g->text.line);
        int64_t count;
        if (to_skip(s))
            continue;
        if (span_starts(s, "---"))
            break;
        if (!take_signed(&s, &count) || !take_text(&s, " @ 0x"))
            return legacy_refuse(g, "sample", "no 'N @ ADDRESSES'");
        s.s -= 2;
        s.n += 2;
        rc = legacy_push_hex(g, s, 1);
        if (!rc)
            rc = legacy_sample(g, &count, 0);
    }
    return rc ? rc : finish(g);
}

// --- Contention

bool legacy_is_contention(struct span line)
{
    return span_starts(line, "--- contentionz ") || span_starts(line, "--- mutex:") ||
           span_starts(line, "--- contention:");
}

// KEY = VALUE. 1: taken, 0: not such a line, -EINVAL.
static int attribute(struct legacy *g, struct span s, int64_t *cycles_per_second)
{
    struct span value = s;
    while (value.n && value.s[0] != '=') {
        value.s++;
        value.n--;
    }
    if (!value.n)
        return 0;
    struct span key = span_trim((struct span){.s = s.s, .n = s.n - value.n});
    take_char(&value, '=');
    value = span_trim(value);
    int64_t number = 0, ignored;
    int64_t *to = &ignored;
    if (key.n == 13 && span_starts(key, "cycles/second"))
        to = cycles_per_second;
    else if (key.n == 15 && span_starts(key, "sampling period"))
        to = &g->p->period;
    else if (key.n == 14 && span_starts(key, "ms since reset"))
        to = &g->p->duration_nanos;
    else if (!(key.n == 17 && span_starts(key, "discarded samples")))
        return legacy_refuse(g, "attribute", "'%.*s' is not known", (int)(key.n > 64 ? 64 : key.n),
                             key.s);
    if (to != &ignored && (!take_signed(&value, &number) || value.n))
        return legacy_refuse(g, "attribute", "its value is no number");
    if (to == &g->p->duration_nanos && __builtin_mul_overflow(number, 1000000, &number))
        return legacy_refuse(g, "attribute", "more milliseconds than nanoseconds fit");
    *to = number;
    return 1;
}

static int contention_sample(struct legacy *g, struct span s, int64_t cycles_per_second)
{
    int64_t cycles, count;
    if (!take_signed(&s, &cycles))
        return legacy_refuse(g, "sample", "no 'CYCLES COUNT @ ADDRESSES'");
    take_spaces(&s);
    if (!take_signed(&s, &count))
        return legacy_refuse(g, "sample", "no count after the cycles");
    take_spaces(&s);
    if (!take_char(&s, '@'))
        return legacy_refuse(g, "sample", "no @ before the addresses");
    int64_t period = g->p->period;
    if (period > 0) {
        if (cycles_per_second > 0) {
            double ns = (double)cycles * (double)period / ((double)cycles_per_second / 1e9);
            cycles = ns >= 0x1p63 ? INT64_MAX : ns <= -0x1p63 ? INT64_MIN : (int64_t)ns;
        }
        count = (int64_t)((uint64_t)count * (uint64_t)period);
    }
    int rc = legacy_push_hex(g, s, 1);
    return rc ? rc : legacy_sample(g, (int64_t[]){count, cycles}, 0);
}

int legacy_read_contention(struct legacy *g)
{
    int64_t cycles_per_second = 0;
    if (pprof_add_sample_type(g->p, "contentions", "count") ||
        pprof_add_sample_type(g->p, "delay", "nanoseconds"))
        return legacy_no_memory(g);
    int rc = period_of(g, "contentions", "count");
    bool in_head = true;
    while (!rc && text_next(&g->text)) {
        struct span s = span_trim(g->text.line);
        if (to_skip(s))
            continue;
        if (span_starts(s, "---"))
            break;
        rc = in_head ? attribute(g, s, &cycles_per_second) : 0;
        if (rc > 0) {
            rc = 0;
            continue;
        }
        in_head = false;
        if (!rc)
            rc = contention_sample(g, s, cycles_per_second);
    }
    return rc ? rc : finish(g);
}
