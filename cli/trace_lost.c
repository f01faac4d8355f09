// SPDX-License-Identifier: MIT
//
// What a trace file says is missing in it. See trace_report.h.

#include "cli/trace_report.h"

#include <inttypes.h>

// "from 1.5s on, ", "the 20ms before it, "
static void print_when(FILE *out, const struct trace_input *in, const struct trace_note *n)
{
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    if (n->from_ns && n->to_ns && n->from_ns < in->base_ns)
        fprintf(out, "the %s before it: ", trace_ns(a, n->to_ns - n->from_ns));
    else if (n->from_ns && n->to_ns)
        fprintf(out, "from %s to %s: ", trace_at(a, in, n->from_ns), trace_at(b, in, n->to_ns));
    else if (n->from_ns)
        fprintf(out, "from %s on: ", trace_at(a, in, n->from_ns));
    else if (n->to_ns)
        fputs("what came before it: ", out);
}

void trace_print_lost(FILE *out, const struct trace_input *in)
{
    uint32_t count;
    const struct trace_note *notes = trace_reader_notes(in->reader, &count);
    for (uint32_t i = 0; i < count; i++) {
        fputs("Missing: ", out);
        print_when(out, in, &notes[i]);
        if (notes[i].count)
            fprintf(out, "%" PRIu64 " times: ", notes[i].count);
        fprintf(out, "%s\n", notes[i].text);
    }
}

void trace_json_lost(struct json *j, const struct trace_input *in)
{
    uint32_t count;
    const struct trace_note *notes = trace_reader_notes(in->reader, &count);
    json_open(j, "missing", '[');
    for (uint32_t i = 0; i < count; i++) {
        const struct trace_note *n = &notes[i];
        json_open(j, NULL, '{');
        json_string(j, "kind", n->kind);
        if (n->from_ns)
            json_int(j, "from_ns", n->from_ns - in->base_ns);
        if (n->to_ns)
            json_int(j, "to_ns", n->to_ns - in->base_ns);
        if (n->count)
            json_int(j, "count", (int64_t)n->count);
        json_string(j, "text", n->text);
        json_close(j, '}');
    }
    json_close(j, ']');
}
