// SPDX-License-Identifier: MIT
//
// See bench_line.h. Rule and formats are those of predictN, prettyPrint, BenchmarkResult.String and MemString
// in testing/benchmark.go of Go 1.26.
//
// The line is made without printf: a program's locale must not put a comma into a number.

#include "agent/bench_line.h"

#include <string.h>

enum { GROWTH_MAX = 100 };

uint64_t bench_predict(uint64_t goal_ns, uint64_t last, uint64_t last_ns)
{
    unsigned __int128 n = (unsigned __int128)goal_ns * last / (last_ns ? last_ns : 1);
    n += n / 5;
    if (n > GROWTH_MAX * last)
        n = GROWTH_MAX * last;
    if (n < last + 1)
        n = last + 1;
    return n < BENCH_N_MAX ? (uint64_t)n : BENCH_N_MAX;
}

struct out {
    char *text;
    uint32_t n;
};

static void put(struct out *o, const char *text)
{
    size_t n = strlen(text);
    memcpy(o->text + o->n, text, n);
    o->n += (uint32_t)n;
}

// Right-aligned in width columns.
static void put_whole(struct out *o, uint64_t value, uint32_t width)
{
    char digits[20];
    uint32_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    uint32_t n = (uint32_t)sizeof digits - at;
    for (; width > n; width--)
        o->text[o->n++] = ' ';
    memcpy(o->text + o->n, digits + at, n);
    o->n += n;
}

// x * 10^decimals as the nearest whole number, halves to even, exactly: what printf("%.*f") rounds to.
// x is below 2^64 / 10^decimals.
static uint64_t scaled(double x, uint32_t decimals)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7ff) - 1075; // x = mantissa * 2^exponent
    unsigned __int128 v = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52;
    for (uint32_t i = 0; i < decimals; i++)
        v *= 10;
    if (exponent >= 0)
        return exponent > 11 ? UINT64_MAX : (uint64_t)(v << exponent);
    int shift = -exponent;
    if (shift > 120)
        return 0;
    unsigned __int128 whole = v >> shift, rest = v - (whole << shift),
                      half = (unsigned __int128)1 << (shift - 1);
    return (uint64_t)whole + (rest > half || (rest == half && (whole & 1)));
}

// Like printf("%*.*f"), width over all.
static void put_fixed(struct out *o, double x, uint32_t width, uint32_t decimals)
{
    uint64_t unit = 1;
    for (uint32_t i = 0; i < decimals; i++)
        unit *= 10;
    uint64_t v = scaled(x, decimals);
    uint32_t behind = decimals ? decimals + 1 : 0;
    put_whole(o, v / unit, width > behind ? width - behind : 0);
    if (!decimals)
        return;
    o->text[o->n++] = '.';
    for (v %= unit, unit /= 10; unit; unit /= 10)
        o->text[o->n++] = (char)('0' + v / unit % 10);
}

// Ten places before the point, and four significant figures.
static void put_pretty(struct out *o, double x)
{
    static const double bounds[] = {999.95,   99.995,    9.9995,    0.99995,
                                    0.099995, 0.0099995, 0.00099995};
    uint32_t decimals = 0;
    while (decimals < 7 && x < bounds[decimals])
        decimals++;
    put_fixed(o, x, 10 + (decimals ? decimals + 1 : 0), decimals);
}

static void put_name(struct out *o, const struct bench_line *l)
{
    put(o, "Benchmark");
    for (uint32_t i = 0; i < BENCH_NAME_BYTES && l->name[i]; i++) {
        char c = l->name[i];
        if ((unsigned char)c <= ' ' || c == 127)
            c = '_';
        if (i == 0 && c >= 'a' && c <= 'z')
            c = (char)(c - 'a' + 'A');
        o->text[o->n++] = c;
    }
    if (l->processors != 1) {
        put(o, "-");
        put_whole(o, l->processors, 0);
    }
}

uint32_t bench_line_print(const struct bench_line *l, char text[BENCH_LINE_BYTES])
{
    struct out o = {text, 0};
    put_name(&o, l);
    put(&o, "\t");
    put_whole(&o, l->n, 8);
    if (l->ns) {
        put(&o, "\t");
        put_pretty(&o, (double)l->ns / (double)l->n);
        put(&o, " ns/op");
    }
    uint64_t whole = l->ns / 1000000000;
    double seconds = (double)whole + (double)(l->ns % 1000000000) / 1e9;
    if (l->set_bytes && l->ns) {
        put(&o, "\t");
        put_fixed(&o, (double)l->set_bytes * (double)l->n / 1e6 / seconds, 7, 2);
        put(&o, " MB/s");
    }
    if (l->has_allocs) {
        put(&o, "\t");
        put_whole(&o, l->alloc_bytes / l->n, 8);
        put(&o, " B/op\t");
        put_whole(&o, l->alloc_objects / l->n, 8);
        put(&o, " allocs/op");
    }
    put(&o, "\n");
    return o.n;
}
