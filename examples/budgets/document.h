// SPDX-License-Identifier: MIT
//
// The document that the three examples parse.

#ifndef EXAMPLES_BUDGETS_DOCUMENT_H
#define EXAMPLES_BUDGETS_DOCUMENT_H

static const char document[] =
    "{\"name\": \"fiberscope\", \"port\": 6060, \"paths\": [\"/debug/pprof\", \"/metrics\"],"
    " \"limits\": {\"cpu_hz\": 99, \"heap_bytes\": 524288}}";

// json-c 0.16 makes 34 allocations for it; a few more are for other versions. A team that controls its
// library's version writes the exact number.
enum { PARSE_ALLOCS_MAX = 40 };

#endif
