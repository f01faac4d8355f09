// SPDX-License-Identifier: MIT
//
// Colours: Oklch is right at points that are known, all text can be read on what it stands on, and
// states differ for every eye.

#include "viewer/ui/theme.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void channels_are(uint32_t color, int r, int g, int b)
{
    assert_int_equal(color >> 24, 255);
    assert_true(abs((int)(color >> 16 & 255) - r) <= 1);
    assert_true(abs((int)(color >> 8 & 255) - g) <= 1);
    assert_true(abs((int)(color & 255) - b) <= 1);
}

// The primaries of sRGB in Oklch, as CSS Color 4 gives them.
static void known_points_come_out(void **state)
{
    (void)state;
    channels_are(theme_oklch(1, 0, 0), 255, 255, 255);
    channels_are(theme_oklch(0, 0, 0), 0, 0, 0);
    channels_are(theme_oklch(0.627966, 0.257704, 29.2346), 255, 0, 0);
    channels_are(theme_oklch(0.866440, 0.294827, 142.4953), 0, 255, 0);
    channels_are(theme_oklch(0.452014, 0.313214, 264.0520), 0, 0, 255);
    channels_are(theme_oklch(0.599871, 0, 0), 128, 128, 128);
    // Beyond the screen: the same lightness and hue with less chroma, never a clipped channel's
    // hue.
    uint32_t vivid = theme_oklch(0.7, 0.4, 150);
    assert_int_equal(vivid, theme_oklch(0.7, 0.9, 150));
    assert_true((vivid >> 8 & 255) > (vivid >> 16 & 255));
    assert_true(fabs(theme_contrast(0xff000000, 0xffffffff) - 21) < 1e-9);
    assert_true(fabs(theme_contrast(0xff777777, 0xffffffff) - 4.48) < 0.01); // WebAIM's figure
    assert_int_equal(theme_mix(0xff000000, 0xffff8000, 0.5), 0xff804000);
}

static void text_can_be_read(void **state)
{
    (void)state;
    for (int dark = 0; dark < 2; dark++) {
        struct theme t;
        theme_init(&t, dark);
        const uint32_t grounds[] = {t.ground, t.panel, t.raised};
        for (int i = 0; i < 3; i++) {
            assert_true(theme_contrast(t.text, grounds[i]) >= 7);
            assert_true(theme_contrast(t.dim, grounds[i]) >= 4.5);
            assert_true(theme_contrast(t.accent, grounds[i]) >= 4.5);
            assert_true(theme_contrast(t.bad, grounds[i]) >= 4.5);
        }
        assert_true(theme_contrast(t.text, t.hover) >= 7);
        const uint32_t fills[] = {t.running, t.runnable, t.syscall, t.others};
        for (int i = 0; i < 4; i++)
            assert_true(theme_contrast(t.ink, fills[i]) >= 7);
        for (int i = 0; i < THEME_SERIES; i++) {
            assert_true(theme_contrast(t.ink, t.series[i]) >= 7);
            assert_true(theme_contrast(t.series[i], t.ground) >= (dark ? 4.5 : 1.5));
        }
        for (int i = 0; i < 2000; i++) {
            char name[16], module[16];
            snprintf(name, sizeof name, "f%d", i);
            snprintf(module, sizeof module, "%s%d", i % 7 ? "lib" : "", i % 7 ? i % 13 : 0);
            assert_true(theme_contrast(t.ink, theme_frame(&t, name, i % 7 ? module : "")) >= 4.5);
        }
    }
}

struct lab {
    double l, a, b;
};

// Machado, Oliveira, Fernandes 2009, severity 1: no, deutan-, protan-, tritanopia.
static const double eyes[4][3][3] = {
    {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
    {{0.367322, 0.860646, -0.227968},
     {0.280085, 0.672501, 0.047413},
     {-0.011820, 0.042940, 0.968881}},
    {{0.152286, 1.052583, -0.204868},
     {0.114503, 0.786281, 0.099216},
     {-0.003882, -0.048116, 1.051998}},
    {{1.255528, -0.076749, -0.178779},
     {-0.078411, 0.930809, 0.147602},
     {0.004733, 0.691367, 0.303900}},
};

static struct lab lab_of(uint32_t color, int eye)
{
    double c[3], v[3];
    for (int i = 0; i < 3; i++) {
        double s = (color >> (16 - 8 * i) & 255) / 255.0;
        c[i] = s <= 0.04045 ? s / 12.92 : pow((s + 0.055) / 1.055, 2.4);
    }
    for (int i = 0; i < 3; i++) {
        v[i] = 0;
        for (int k = 0; k < 3; k++)
            v[i] += eyes[eye][i][k] * c[k];
        v[i] = fmin(fmax(v[i], 0), 1);
    }
    double l = cbrt(0.4122214708 * v[0] + 0.5363325363 * v[1] + 0.0514459929 * v[2]);
    double m = cbrt(0.2119034982 * v[0] + 0.6806995451 * v[1] + 0.1073969566 * v[2]);
    double s = cbrt(0.0883024619 * v[0] + 0.2817188376 * v[1] + 0.6299787005 * v[2]);
    return (struct lab){0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
                        1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
                        0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s};
}

static double apart(uint32_t x, uint32_t y, int eye)
{
    struct lab a = lab_of(x, eye), b = lab_of(y, eye);
    return sqrt(pow(a.l - b.l, 2) + pow(a.a - b.a, 2) + pow(a.b - b.b, 2));
}

// 0.02 is what one just sees in Oklab; four times that cannot be overlooked.
static void states_differ_for_every_eye(void **state)
{
    (void)state;
    for (int dark = 0; dark < 2; dark++) {
        struct theme t;
        theme_init(&t, dark);
        const uint32_t states[] = {t.running, t.runnable, t.syscall, t.waiting};
        for (int eye = 0; eye < 4; eye++)
            for (int i = 0; i < 4; i++)
                for (int k = 0; k < i; k++)
                    assert_true(apart(states[i], states[k], eye) >= 0.08);
        for (int i = 0; i < 3; i++) // one lightness: none is louder
            assert_true(fabs(lab_of(states[i], 0).l - lab_of(states[0], 0).l) < 0.005);
        // One more of the kernel, which is lower than the rest.
        assert_true(fabs(lab_of(t.fault, 0).l - lab_of(t.running, 0).l) < 0.005);
        for (int eye = 0; eye < 4; eye++)
            for (int i = 0; i < 4; i++)
                assert_true(apart(t.fault, states[i], eye) >= 0.03);
        for (int i = 0; i < THEME_SERIES; i++)
            for (int k = 0; k < i; k++)
                assert_true(apart(t.series[i], t.series[k], 0) >= 0.04);
    }
}

static void frames_keep_their_colours(void **state)
{
    (void)state;
    struct theme t;
    theme_init(&t, true);
    assert_int_equal(theme_frame(&t, "main", "libc.so"), theme_frame(&t, "main", "libc.so"));
    assert_int_not_equal(theme_frame(&t, "main", "libc.so"), theme_frame(&t, "mean", "libc.so"));
    assert_int_not_equal(theme_frame(&t, "main", "libc.so"), theme_frame(&t, "main", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_points_come_out),
        cmocka_unit_test(text_can_be_read),
        cmocka_unit_test(states_differ_for_every_eye),
        cmocka_unit_test(frames_keep_their_colours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
