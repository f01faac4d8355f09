// SPDX-License-Identifier: MIT
//
// The value of --range: "A..B", two times since the trace began.

#ifndef FIBERSCOPE_VIEWER_RANGE_H
#define FIBERSCOPE_VIEWER_RANGE_H

// A time is a number of seconds or has its unit: "0.5", "2", "500ms". NULL, or what is wrong.
const char *range_parse(const char *text, double *begin_ns, double *end_ns);

#endif
