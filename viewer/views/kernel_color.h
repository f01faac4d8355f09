// SPDX-License-Identifier: MIT
//
// Colours of a kernel trace's classes, on lanes and in panels.

#ifndef FIBERSCOPE_VIEWER_VIEWS_KERNEL_COLOR_H
#define FIBERSCOPE_VIEWER_VIEWS_KERNEL_COLOR_H

#include "viewer/ui/ui.h"

uint32_t kernel_color(const struct ui *u, int class); // kernel_class

#endif
