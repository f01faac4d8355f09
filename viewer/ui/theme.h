// SPDX-License-Identifier: MIT
//
// Colours, dark and light.
//
// They are made in Oklch (lightness, chroma, hue as the eye sees them), so that what means things
// of one rank has one lightness: a state is a hue, and none is louder than another. What is drawn
// on coloured spans is `ink`. A test checks the contrast of all text with what it stands on, and
// that the states differ for the colour-blind; beside that, states differ in shape.

#ifndef FIBERSCOPE_VIEWER_UI_THEME_H
#define FIBERSCOPE_VIEWER_UI_THEME_H

#include <stdbool.h>
#include <stdint.h>

enum { THEME_SERIES = 6 }; // colours to tell things apart, in the order to take them

struct theme {
    bool dark;
    uint32_t ground;                              // behind everything
    uint32_t panel;                               // heads, gutters, bars
    uint32_t raised;                              // buttons, tool tips
    uint32_t hover;                               // a raised thing under the mouse
    uint32_t border;                              // between panels
    uint32_t grid;                                // lines behind data
    uint32_t text, dim;                           // dim: what may be overlooked
    uint32_t accent;                              // what is chosen
    uint32_t range;                               // over a chosen range, half transparent
    uint32_t ink;                                 // text on colours
    uint32_t running, runnable, syscall, waiting; // states
    uint32_t fault; // a state of the kernel's; lower than these, as it is near them for some eyes
    uint32_t series[THEME_SERIES], others;
    uint32_t bad; // errors, damage
};

void theme_init(struct theme *t, bool dark);

// lightness 0 to 1, chroma from 0, hue in degrees; opaque. What no screen shows loses chroma.
uint32_t theme_oklch(double lightness, double chroma, double hue);

// A frame of a flame graph: hue by module ("": the program itself), shade by name, within narrow
// bounds.
uint32_t theme_frame(const struct theme *t, const char *name, const char *module);

// How a thing changed between two measurements, step -4 (gone) to 4 (new): blue, grey, red, of one
// lightness.
uint32_t theme_change(const struct theme *t, int step);

// Of `part` in color over under, 0 to 1.
uint32_t theme_mix(uint32_t under, uint32_t color, double part);

// WCAG's ratio of two opaque colours: 1 to 21.
double theme_contrast(uint32_t a, uint32_t b);

#endif
