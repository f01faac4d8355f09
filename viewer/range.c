// SPDX-License-Identifier: MIT
//
// See range.h.

#include "viewer/range.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

// Decimal digits with at most one dot; what is behind them, NULL if there is no digit.
static const char *read_number(const char *p, const char *end, double *value)
{
    double scale = 1;
    bool has_dot = false;
    int digits = 0;
    for (*value = 0; p < end && ((*p >= '0' && *p <= '9') || (*p == '.' && !has_dot)); p++) {
        if (*p == '.') {
            has_dot = true;
            continue;
        }
        digits++;
        *value = 10 * *value + (*p - '0');
        scale *= has_dot ? 10 : 1;
    }
    *value /= scale;
    return digits ? p : NULL;
}

// [text, end) as ns; -1 if it is no time.
static double time_of(const char *text, const char *end)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"", 1e9},  {"ns", 1},   {"us", 1e3},  {"ms", 1e6},
                 {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    double value;
    const char *unit = read_number(text, end, &value);
    if (!unit)
        return -1;
    size_t length = (size_t)(end - unit);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strlen(units[i].name) == length && !memcmp(units[i].name, unit, length))
            return value * units[i].ns;
    return -1;
}

const char *range_parse(const char *text, double *begin_ns, double *end_ns)
{
    const char *dots = strstr(text, "..");
    *begin_ns = dots ? time_of(text, dots) : -1;
    *end_ns = dots ? time_of(dots + 2, text + strlen(text)) : -1;
    if (*begin_ns < 0 || *end_ns < 0)
        return "two times with .. between them: seconds, such as 0.5..2, or with a unit, 500ms..2s";
    return *end_ns > *begin_ns ? NULL : "it ends before it begins, or is empty";
}
