// SPDX-License-Identifier: MIT
//
// See units.h. The tables are those of google/pprof's measurement package.

#include "analysis/units.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    const char *aliases[4];
    double factor;
};

struct unit_kind {
    const char *fallback; // what auto gives below 1 of the smallest
    double fallback_factor;
    const struct unit *units;
    size_t count;
};

static const struct unit memory[] = {
    {"B", {"b", "byte"}, 1},
    {"kB", {"kb", "kbyte", "kilobyte"}, 1024.0},
    {"MB", {"mb", "mbyte", "megabyte"}, 1048576.0},
    {"GB", {"gb", "gbyte", "gigabyte"}, 1073741824.0},
    {"TB", {"tb", "tbyte", "terabyte"}, 1099511627776.0},
    {"PB", {"pb", "pbyte", "petabyte"}, 1125899906842624.0},
};
static const struct unit times[] = {
    {"ns", {"ns", "nanosecond"}, 1},    {"us", {"\xce\xbcs", "us", "microsecond"}, 1e3},
    {"ms", {"ms", "millisecond"}, 1e6}, {"s", {"s", "sec", "second"}, 1e9},
    {"hrs", {"hour", "hr"}, 3600e9},
};
static const struct unit gcus[] = {
    {"n*GCU", {"nanogcu"}, 1e-9}, {"u*GCU", {"microgcu"}, 1e-6}, {"m*GCU", {"milligcu"}, 1e-3},
    {"GCU", {"gcu"}, 1},          {"k*GCU", {"kilogcu"}, 1e3},   {"M*GCU", {"megagcu"}, 1e6},
    {"G*GCU", {"gigagcu"}, 1e9},  {"T*GCU", {"teragcu"}, 1e12},  {"P*GCU", {"petagcu"}, 1e15},
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
static const struct unit_kind kinds[] = {
    {"B", 1, memory, COUNT(memory)},
    {"s", 1e9, times, COUNT(times)},
    {"GCU", 1, gcus, COUNT(gcus)},
};

static const struct unit *find(const struct unit_kind *k, const char *name)
{
    size_t n = strlen(name);
    if (n > 2 && (name[n - 1] == 's' || name[n - 1] == 'S'))
        n--; // plural
    for (size_t i = 0; i < k->count; i++) {
        for (size_t j = 0; j < 4 && k->units[i].aliases[j]; j++) {
            const char *alias = k->units[i].aliases[j];
            if (strlen(alias) == n && !strncasecmp(alias, name, n))
                return &k->units[i];
        }
    }
    return NULL;
}

static bool is_auto(const char *to)
{
    return !strcmp(to, "minimum") || !strcmp(to, "auto");
}

static double in_kind(const struct unit_kind *k, double v, const char *to, const char **unit)
{
    const struct unit *best = NULL;
    if (is_auto(to)) {
        for (size_t i = 0; i < k->count; i++) {
            if (v / k->units[i].factor >= 1.0)
                best = &k->units[i];
        }
    } else {
        best = find(k, to);
    }
    *unit = best ? best->name : k->fallback;
    return v / (best ? best->factor : k->fallback_factor);
}

double units_scale(int64_t value, const char *from, const char *to, const char **unit)
{
    bool negative = value < 0 && value != INT64_MIN;
    double v = negative ? -(double)value : (double)value;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        const struct unit *u = find(&kinds[i], from);
        if (u) {
            v = in_kind(&kinds[i], v * u->factor, to, unit);
            return negative ? -v : v;
        }
    }
    bool dull = is_auto(to) || !strcmp(to, "count") || !strcmp(to, "sample") || !strcmp(to, "unit");
    *unit = dull ? "" : to;
    return negative ? -v : v;
}

const char *units_label(char *buf, size_t size, int64_t value, const char *from, const char *to)
{
    const char *unit;
    char number[340];
    double v = units_scale(value, from, to, &unit);
    int n = snprintf(number, sizeof number, "%.2f", v);
    if (n > 3 && !strcmp(number + n - 3, ".00"))
        number[n - 3] = 0;
    if (!strcmp(number, "0") || !strcmp(number, "-0"))
        snprintf(buf, size, "0");
    else
        snprintf(buf, size, "%s%.48s", number, unit);
    return buf;
}

const char *units_percent(char *buf, size_t size, int64_t value, int64_t total)
{
    double ratio = total ? fabs((double)value / (double)total) * 100 : 0;
    if (ratio >= 99.95 && ratio <= 100.05)
        snprintf(buf, size, "  100%%");
    else
        snprintf(buf, size, ratio >= 1.0 ? "%5.2f%%" : "%5.2g%%", ratio);
    return buf;
}
