// SPDX-License-Identifier: MIT
//
// See load_notes.h.

#include "viewer/load_notes.h"

#include "viewer/trace_model.h"

#include <stdio.h>

void load_say_notes(struct loaded *out, const struct trace_reader *r, int64_t base_ns)
{
    uint32_t count;
    const struct trace_note *notes = trace_reader_notes(r, &count);
    size_t n = 0;
    for (uint32_t i = 0; i < count && n < sizeof out->missing; i++) {
        char when[64] = "";
        double from = (double)(notes[i].from_ns - base_ns) / 1e9;
        if (notes[i].from_ns && !notes[i].to_ns)
            snprintf(when, sizeof when, "from %.6fs on: ", from);
        else if (notes[i].to_ns)
            snprintf(when, sizeof when, "what came before it: ");
        n += (size_t)snprintf(out->missing + n, sizeof out->missing - n, "%s%s%s",
                              i ? "; " : "Missing in this trace: ", when, notes[i].text);
    }
}
