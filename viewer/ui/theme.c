// SPDX-License-Identifier: MIT
//
// See theme.h. The matrices are those of Ottosson's Oklab.

#include "viewer/ui/theme.h"

#include <math.h>
#include <string.h>

struct linear {
    double r, g, b;
};

static struct linear linear_of(double lightness, double chroma, double hue)
{
    double a = chroma * cos(hue * M_PI / 180), b = chroma * sin(hue * M_PI / 180);
    double l = pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
    double m = pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
    double s = pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
    return (struct linear){4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
                           -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
                           -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
}

static bool shows(struct linear c)
{
    const double low = -1e-4, high = 1 + 1e-4;
    return c.r >= low && c.g >= low && c.b >= low && c.r <= high && c.g <= high && c.b <= high;
}

static uint32_t byte_of(double v)
{
    v = v < 0 ? 0 : v > 1 ? 1 : v;
    return (uint32_t)lround(255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * pow(v, 1 / 2.4) - 0.055));
}

uint32_t theme_oklch(double lightness, double chroma, double hue)
{
    struct linear c = linear_of(lightness, chroma, hue);
    if (!shows(c)) {
        double low = 0, high = chroma; // the most that a screen shows
        for (int i = 0; i < 20; i++) {
            double mid = (low + high) / 2;
            if (shows(linear_of(lightness, mid, hue)))
                low = mid;
            else
                high = mid;
        }
        c = linear_of(lightness, low, hue);
    }
    return 0xff000000 | byte_of(c.r) << 16 | byte_of(c.g) << 8 | byte_of(c.b);
}

uint32_t theme_mix(uint32_t under, uint32_t color, double part)
{
    uint32_t out = 0xff000000;
    for (int shift = 0; shift <= 16; shift += 8) {
        double a = under >> shift & 255, b = color >> shift & 255;
        out |= (uint32_t)lround(a + (b - a) * part) << shift;
    }
    return out;
}

static double luminance(uint32_t color)
{
    static const double weight[] = {0.0722, 0.7152, 0.2126}; // blue, green, red
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        double v = (color >> 8 * i & 255) / 255.0;
        sum += weight[i] * (v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4));
    }
    return sum;
}

double theme_contrast(uint32_t a, uint32_t b)
{
    double x = luminance(a) + 0.05, y = luminance(b) + 0.05;
    return x > y ? x / y : y / x;
}

// FNV-1a, which is the same everywhere: a function keeps its colour from run to run.
static uint32_t hash(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    h ^= h >> 15;
    h *= 0x2c1b3c6du;
    return h ^ h >> 12;
}

uint32_t theme_frame(const struct theme *t, const char *name, const char *module)
{
    // Warm for the program itself (no module), cool for libraries: the eye sees at once whose it
    // is.
    double hue = *module ? 130 + hash(module) % 9 * 24 : 52;
    uint32_t h = hash(name);
    double shade = (h % 64) / 63.0 - 0.5, turn = (h / 64 % 64) / 63.0 - 0.5;
    return theme_oklch((t->dark ? 0.72 : 0.82) + 0.07 * shade, t->dark ? 0.105 : 0.09,
                       hue + 30 * turn);
}

uint32_t theme_change(const struct theme *t, int step)
{
    double chroma = 0.01 + 0.034 * (step < 0 ? -step : step);
    return theme_oklch(t->dark ? 0.72 : 0.82, chroma, step < 0 ? 250 : 28);
}

static void set_states(struct theme *t)
{
    // The order in which hues are taken: neighbours in a list are far apart on the circle.
    static const double hues[THEME_SERIES] = {170, 60, 330, 215, 110, 25};
    double l = t->dark ? 0.74 : 0.78, c = t->dark ? 0.115 : 0.105;
    for (int i = 0; i < THEME_SERIES; i++)
        t->series[i] = theme_oklch(l, c, hues[i]);
    t->others = theme_oklch(l, 0.02, 250);
    t->running = theme_oklch(l, c, 170);
    t->runnable = theme_oklch(l, c, 72);
    t->syscall = theme_oklch(l, c, 288);
    t->fault = theme_oklch(l, c * 1.25, 20);
    t->waiting = theme_oklch(t->dark ? 0.42 : 0.90, 0.012, 260); // recedes: nothing happens
}

void theme_init(struct theme *t, bool dark)
{
    *t = (struct theme){.dark = dark};
    const double hue = 262; // the greys are a little blue
    t->ground = dark ? theme_oklch(0.185, 0.010, hue) : theme_oklch(0.985, 0.002, hue);
    t->panel = dark ? theme_oklch(0.225, 0.012, hue) : theme_oklch(0.955, 0.004, hue);
    t->raised = dark ? theme_oklch(0.285, 0.015, hue) : theme_oklch(0.915, 0.006, hue);
    t->hover = dark ? theme_oklch(0.345, 0.018, hue) : theme_oklch(0.870, 0.010, hue);
    t->border = dark ? theme_oklch(0.320, 0.012, hue) : theme_oklch(0.860, 0.006, hue);
    t->grid = dark ? theme_oklch(0.245, 0.010, hue) : theme_oklch(0.935, 0.004, hue);
    t->text = dark ? theme_oklch(0.930, 0.006, hue) : theme_oklch(0.250, 0.015, hue);
    t->dim = dark ? theme_oklch(0.720, 0.012, hue) : theme_oklch(0.470, 0.015, hue);
    t->accent = dark ? theme_oklch(0.780, 0.120, 245) : theme_oklch(0.500, 0.150, 255);
    t->range = (t->accent & 0xffffff) | 0x20000000; // colours beneath stay what they are
    t->ink = theme_oklch(0.180, 0.020, hue);
    t->bad = dark ? theme_oklch(0.720, 0.150, 25) : theme_oklch(0.500, 0.180, 27);
    set_states(t);
}
