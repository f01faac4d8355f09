// SPDX-License-Identifier: MIT
//
// See trace_lost.h.

#include "collector/trace_lost.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct list {
    struct trace_note *notes;
    size_t count;
};

static FSCOPE_PRINTF(5, 6) void add(struct list *l, const char *kind, uint64_t from_ns,
                                    uint64_t to_ns, const char *fmt, ...)
{
    struct trace_note *n = &l->notes[l->count++];
    *n = (struct trace_note){.from_ns = (int64_t)from_ns, .to_ns = (int64_t)to_ns};
    snprintf(n->kind, sizeof n->kind, "%s", kind);
    va_list args;
    va_start(args, fmt);
    vsnprintf(n->text, sizeof n->text, fmt, args);
    va_end(args);
}

// What the file begins with.
static void add_before(struct list *l, const struct trace_build_file *f)
{
    if (f->gap_from_ns)
        add(l, "gap", f->gap_from_ns, f->start_ns,
            "all trace buffers were full (--trace-buffer); what came before that is in another "
            "file");
    if (f->gave_way)
        add(l, "given-way", 0, f->start_ns,
            "older events gave way to newer ones, as a flight recorder's do (--trace-buffer, "
            "--flight)");
    if (f->overwritten)
        add(l, "overwritten", 0, f->start_ns,
            "older events were overwritten while they were copied (--trace-buffer)");
}

size_t trace_lost_notes(const struct trace_build_file *f, int rc, struct trace_note *notes)
{
    struct list l = {.notes = notes};
    add_before(&l, f);
    if (f->was_cut)
        add(&l, "full", f->end_ns, 0,
            "all trace buffers were full (--trace-buffer); if recording went on, then in another "
            "file");
    if (f->in_flight)
        add(&l, "killed", f->end_ns, 0,
            "the program ended, or was replaced by another, with the trace on: an event that a "
            "thread was writing at that moment may be missing");
    if (f->left_out)
        add(&l, "refused", f->end_ns, 0, "the next part did not make sense: %s", f->why);
    if (rc)
        add(&l, "unwritten", f->end_ns, 0, "the file could not be written: %s", strerror(-rc));
    if (f->lost_names) {
        add(&l, "names", 0, 0, "some stacks or texts did not fit into the segment");
        l.notes[l.count - 1].count = f->lost_names;
    }
    return l.count;
}

int trace_lost_write(struct trace_writer *w, const struct trace_note *notes, size_t count)
{
    char text[TRACE_NOTE_BYTES];
    uint64_t id;
    int rc = 0;
    for (size_t i = 0; !rc && i < count; i++)
        rc = trace_writer_string(w, text, trace_note_write(text, &notes[i]), &id);
    return rc;
}

void trace_lost_cause(char *text, size_t size, const struct seg_trace *now,
                      struct seg_reader *reader)
{
    static const char *const words[] = {"region", "task"};
    uint64_t met = atomic_load_explicit(&now->met, memory_order_relaxed);
    double ms = (double)atomic_load_explicit(&now->met_ns, memory_order_relaxed) / 1e6;
    uint32_t what = (uint32_t)(met & 0xff);
    char name[64] = "";
    *text = 0;
    if (met >> 8 && met >> 8 <= UINT32_MAX)
        seg_reader_string(reader, (uint32_t)(met >> 8), name, sizeof name);
    for (char *p = name; *p; p++) // a program may say anything
        *p = (char)((unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p);
    if (what == 1 || what == 2)
        snprintf(text, size, "%s \"%s\" took %.4g ms (--slow-%s)", words[what - 1], name, ms,
                 words[what - 1]);
    else if (what == 3)
        snprintf(text, size, "a fiber was runnable for %.4g ms (--slow-latency)", ms);
    else if (what == 4)
        snprintf(text, size, "a processor had one fiber for %.4g ms (--slow-stall)", ms);
}
