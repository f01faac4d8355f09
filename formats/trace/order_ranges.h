// SPDX-License-Identifier: MIT
//
// The orderer, for what begins and ends: stop-the-world, the GC's phases, tasks, regions.

#ifndef FIBERSCOPE_FORMATS_TRACE_ORDER_RANGES_H
#define FIBERSCOPE_FORMATS_TRACE_ORDER_RANGES_H

#include "formats/trace/order.h"

// A handler like the others (order.h).
int order_ranges(struct trace_reader *r, struct cursor *c);

#endif
