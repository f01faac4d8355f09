// SPDX-License-Identifier: MIT
//
// See notes.h.

#include "formats/trace/notes.h"

#include "formats/trace/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENT_BYTES_MAX = 64 }; // of a generation with notes: one that changes nothing

static const char begin[] = "fiberscope: lost ";

size_t trace_note_write(char *buf, const struct trace_note *note)
{
    int n = snprintf(buf, TRACE_NOTE_BYTES,
                     "%s%s from=%" PRId64 " to=%" PRId64 " count=%" PRIu64 ": %s", begin,
                     note->kind, note->from_ns, note->to_ns, note->count, note->text);
    return n < TRACE_NOTE_BYTES ? (size_t)n : TRACE_NOTE_BYTES - 1;
}

// " KEY=NUMBER" at *at, which moves behind it.
static bool number(const char **at, const char *key, uint64_t max, uint64_t *value)
{
    size_t n = strlen(key);
    char *end;
    if (strncmp(*at, key, n) != 0 || (*at)[n] < '0' || (*at)[n] > '9')
        return false;
    *value = strtoull(*at + n, &end, 10);
    *at = end;
    return *value <= max;
}

bool trace_note_parse(struct trace_note *note, const char *bytes, size_t n)
{
    char line[TRACE_NOTE_BYTES];
    uint64_t from, to, count;
    if (n >= sizeof line || n < sizeof begin - 1 || memcmp(bytes, begin, sizeof begin - 1) != 0)
        return false;
    for (size_t i = 0; i < n; i++) // a file may say anything
        line[i] =
            (char)((unsigned char)bytes[i] < ' ' || (unsigned char)bytes[i] >= 0x7f ? '?'
                                                                                    : bytes[i]);
    line[n] = 0;
    const char *kind = line + sizeof begin - 1, *at = kind;
    while ((*at >= 'a' && *at <= 'z') || *at == '-')
        at++;
    size_t kind_bytes = (size_t)(at - kind);
    if (!kind_bytes || kind_bytes >= sizeof note->kind ||
        !number(&at, " from=", INT64_MAX, &from) || !number(&at, " to=", INT64_MAX, &to) ||
        !number(&at, " count=", INT64_MAX, &count) || strncmp(at, ": ", 2) != 0)
        return false;
    *note = (struct trace_note){.from_ns = (int64_t)from, .to_ns = (int64_t)to, .count = count};
    memcpy(note->kind, kind, kind_bytes);
    snprintf(note->text, sizeof note->text, "%.*s", (int)sizeof note->text - 1, at + 2);
    return true;
}

int notes_collect(struct trace_reader *r)
{
    const struct trace_generation *g = &r->gen;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < g->batch_count; i++)
        bytes += g->batches[i].size_bytes;
    if (bytes > EVENT_BYTES_MAX || g->sample_count || g->stack_count)
        return 0;
    for (uint32_t i = 0; i < g->string_count && r->note_count < TRACE_NOTES_MAX; i++) {
        struct trace_note note;
        if (!trace_note_parse(&note, g->strings[i].bytes, g->strings[i].size_bytes))
            continue;
        if (!r->notes && !(r->notes = calloc(TRACE_NOTES_MAX, sizeof *r->notes)))
            return reader_fail(r, -ENOMEM, TRACE_RULE_SYSTEM, "out of memory");
        r->notes[r->note_count++] = note;
    }
    return 0;
}

const struct trace_note *trace_reader_notes(const struct trace_reader *r, uint32_t *count)
{
    *count = r->note_count;
    return r->notes;
}
