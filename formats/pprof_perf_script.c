// SPDX-License-Identifier: MIT
//
// The text of `perf script`:
//
//   COMM  PID[/TID] [CPU] SECONDS: [PERIOD] EVENT: [ADDRESS ...]
//   <space>ADDRESS SYMBOL+0xOFFSET (DSO)          leaf first; "(inlined)" before what it is in
//   <space>FILE:LINE                              with -F +srcline, of the frame above
//   <empty line>
//
// Each event becomes a sample type beside samples/count. perf has resolved the addresses, so
// mappings are only files; callers get address - 1, as everywhere in a profile.

#include "formats/pprof_legacy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { EVENT_MAX = 32, INLINE_MAX = 256 };

struct head {
    struct span comm, event;
    uint64_t pid, tid, time_ns, period;
    bool has_tid;
    struct span rest; // a lone frame, when there is no call chain
};

struct perf {
    struct legacy *g;
    struct span events[EVENT_MAX];
    size_t event_count;
    uint64_t first_ns, last_ns;
    uint64_t period; // of all samples, if it is one
    bool periods_differ;
    // The sample that is being read.
    struct head head;
    bool open;
    // The frame that is being read: inlined functions wait for what they are in.
    struct pprof_line lines[INLINE_MAX];
    uint32_t line_count;
    uint64_t address;
    struct pprof_mapping *mapping;
    bool have_frame;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

// The last word of s, taken off its end.
static struct span take_last_word(struct span *s)
{
    *s = span_trim(*s);
    size_t at = s->n;
    while (at && !is_space(s->s[at - 1]))
        at--;
    struct span word = {.s = s->s + at, .n = s->n - at};
    s->n = at;
    *s = span_trim(*s);
    return word;
}

// " SECONDS.FRACTION:" is what a heading is known by; a command's name may hold anything else.
static bool find_time(struct span line, struct span *before, struct span *after, uint64_t *ns)
{
    for (size_t i = 1; i < line.n; i++) {
        struct span s = {.s = line.s + i, .n = line.n - i};
        uint64_t seconds, fraction;
        if (!is_space(line.s[i - 1]) || !take_decimal(&s, &seconds) || !take_char(&s, '.'))
            continue;
        const char *digits = s.s;
        if (!take_decimal(&s, &fraction) || !take_char(&s, ':') || s.n == 0 || !is_space(*s.s))
            continue;
        for (long n = (long)(s.s - digits) - 1; n < 9; n++)
            fraction *= 10;
        *ns = seconds * UINT64_C(1000000000) + fraction;
        *before = (struct span){.s = line.s, .n = i};
        *after = s;
        return true;
    }
    return false;
}

static bool take_pid(struct span word, struct head *h)
{
    h->has_tid = false;
    if (!take_decimal(&word, &h->pid))
        return false;
    if (take_char(&word, '/'))
        h->has_tid = take_decimal(&word, &h->tid);
    return word.n == 0;
}

static bool parse_head(struct span line, struct head *h)
{
    struct span before, after;
    *h = (struct head){.period = 1};
    if (line.n == 0 || is_space(line.s[0]) || !find_time(line, &before, &after, &h->time_ns))
        return false;
    // Between pid and time may stand the CPU and, with other -F, flags.
    struct span word = take_last_word(&before);
    for (int skip = 0; skip < 3 && word.n && !take_pid(word, h); skip++)
        word = take_last_word(&before);
    if (!take_pid(word, h) || before.n == 0)
        return false;
    h->comm = before;
    take_spaces(&after);
    struct span rest = after;
    if (take_decimal(&rest, &h->period) && rest.n && is_space(rest.s[0]))
        after = rest;
    else
        h->period = 1;
    take_spaces(&after);
    size_t n = 0;
    while (n < after.n && !is_space(after.s[n]))
        n++;
    if (n < 2 || after.s[n - 1] != ':')
        return false;
    h->event = (struct span){.s = after.s, .n = n};
    // "cycles:u:" and "cycles:" are one name with and without a modifier; the colons go.
    while (h->event.n && h->event.s[h->event.n - 1] == ':')
        h->event.n--;
    h->rest = span_trim((struct span){.s = after.s + n, .n = after.n - n});
    return h->event.n != 0;
}

bool legacy_is_perf_script(struct span line)
{
    struct head h;
    return parse_head(line, &h);
}

static size_t find_event(const struct perf *f, struct span event)
{
    size_t i = 0;
    while (i < f->event_count &&
           (f->events[i].n != event.n || memcmp(f->events[i].s, event.s, event.n) != 0))
        i++;
    return i;
}

// --- What is measured

// All sample types come before the first sample, so the headings are read twice.
static int collect_events(struct perf *f)
{
    struct text t = f->g->text;
    do {
        struct head h;
        if (!parse_head(t.line, &h) || find_event(f, h.event) < f->event_count)
            continue;
        if (f->event_count == EVENT_MAX) {
            f->g->text = t;
            return legacy_refuse(f->g, "event", "more than %d kinds", EVENT_MAX);
        }
        f->events[f->event_count++] = h.event;
    } while (text_next(&t));
    return 0;
}

static bool is_clock(struct span event)
{
    return span_starts(event, "cpu-clock") || span_starts(event, "task-clock");
}

static int add_types(struct perf *f)
{
    struct pprof_profile *p = f->g->p;
    if (pprof_add_sample_type(p, "samples", "count"))
        return legacy_no_memory(f->g);
    for (size_t i = 0; i < f->event_count; i++) {
        bool clock = is_clock(f->events[i]);
        const char *name = pprof_stringn(p, f->events[i].s, f->events[i].n);
        // One clock is what everybody calls cpu.
        if (clock && f->event_count == 1)
            name = "cpu";
        if (!name || pprof_add_sample_type(p, name, clock ? "nanoseconds" : "count"))
            return legacy_no_memory(f->g);
    }
    p->period_type = p->sample_types[1];
    return 0;
}

// --- Frames

static struct pprof_mapping *mapping_of(struct perf *f, struct span dso)
{
    struct pprof_profile *p = f->g->p;
    const char *file = pprof_stringn(p, dso.s, dso.n);
    if (!file)
        return NULL;
    // Frames of one file come in a row; and a process has some hundreds of files at most, a hostile
    // text any number, so only the newest are looked at.
    for (size_t i = p->mapping_count, tries = 512; i > 0 && tries > 0; i--, tries--)
        if (p->mappings[i - 1]->file == file)
            return p->mappings[i - 1];
    struct pprof_mapping *m = pprof_add_mapping(p, 0, 0, 0, file, "");
    if (m)
        m->has_functions = true;
    return m;
}

static int flush_frame(struct perf *f)
{
    if (!f->have_frame)
        return 0;
    struct legacy *g = f->g;
    struct pprof_location *l =
        pprof_intern_location(g->p, f->mapping, f->address, f->lines, f->line_count);
    f->have_frame = false;
    f->line_count = 0;
    if (!l)
        return legacy_no_memory(g);
    return legacy_push_location(g, l);
}

// "SYMBOL+0xOFFSET (DSO)": the last parentheses hold the file; symbols have some of their own.
static bool split_frame(struct span s, struct span *symbol, struct span *dso)
{
    if (s.n == 0 || s.s[s.n - 1] != ')')
        return false;
    size_t at = s.n;
    for (int depth = 0; at > 0; at--) {
        depth += s.s[at - 1] == ')' ? 1 : s.s[at - 1] == '(' ? -1 : 0;
        if (depth == 0)
            break;
    }
    if (at == 0)
        return false;
    *dso = (struct span){.s = s.s + at, .n = s.n - at - 1};
    *symbol = span_trim((struct span){.s = s.s, .n = at - 1});
    static const char deleted[] = " (deleted)";
    size_t d = sizeof deleted - 1;
    if (dso->n > d && memcmp(dso->s + dso->n - d, deleted, d) == 0)
        dso->n -= d;
    return true;
}

static struct span without_offset(struct span symbol)
{
    for (size_t i = symbol.n; i > 3; i--) {
        struct span s = {.s = symbol.s + i - 3, .n = symbol.n - i + 3};
        uint64_t offset;
        if (take_text(&s, "+0x") && take_hex(&s, &offset) && s.n == 0)
            return (struct span){.s = symbol.s, .n = i - 3};
    }
    return symbol;
}

static int add_function(struct perf *f, struct span symbol)
{
    if (f->line_count == INLINE_MAX)
        return legacy_refuse(f->g, "frame", "more than %d functions inlined at one address",
                             INLINE_MAX);
    const char *name = pprof_stringn(f->g->p, symbol.s, symbol.n);
    struct pprof_function *fn = name ? pprof_intern_function(f->g->p, name, name, "", 0) : NULL;
    if (!fn)
        return legacy_no_memory(f->g);
    f->lines[f->line_count++] = (struct pprof_line){.function = fn};
    return 0;
}

static int frame(struct perf *f, struct span line, bool is_srcline_possible)
{
    struct span s = span_trim(line), symbol, dso;
    uint64_t address;
    bool is_frame = take_hex(&s, &address) && s.n && is_space(s.s[0]) &&
                    split_frame(span_trim(s), &symbol, &dso);
    if (!is_frame && is_srcline_possible)
        return 0;
    if (!is_frame)
        return legacy_refuse(f->g, "frame", "no 'ADDRESS SYMBOL (FILE)'");
    bool inlined = dso.n == 7 && memcmp(dso.s, "inlined", 7) == 0;
    bool leaf = f->g->stack_count == 0;
    int rc = flush_frame(f);
    if (rc)
        return rc;
    leaf = leaf && f->g->stack_count == 0;
    symbol = without_offset(symbol);
    bool unknown = symbol.n == 0 || span_starts(symbol, "[unknown]");
    if (!unknown || f->line_count)
        rc = add_function(f, symbol);
    if (rc || inlined)
        return rc;
    f->address = leaf || address == 0 ? address : address - 1;
    f->mapping = mapping_of(f, dso);
    f->have_frame = true;
    return f->mapping ? 0 : legacy_no_memory(f->g);
}

// FILE:LINE of the function just added: a function of its own, for names alone do not tell files.
static int srcline(struct perf *f, struct span s)
{
    uint64_t line;
    size_t colon = s.n;
    while (colon && s.s[colon - 1] != ':')
        colon--;
    struct span number = {.s = s.s + colon, .n = s.n - colon};
    if (!colon || !f->line_count || !take_decimal(&number, &line) || line > INT64_MAX)
        return 0;
    struct pprof_line *last = &f->lines[f->line_count - 1];
    const char *file = pprof_stringn(f->g->p, s.s, colon - 1);
    if (!file)
        return legacy_no_memory(f->g);
    const char *name = last->function->name;
    last->function = pprof_intern_function(f->g->p, name, name, file, 0);
    last->line = (int64_t)line;
    if (f->mapping)
        f->mapping->has_filenames = f->mapping->has_line_numbers = true;
    return last->function ? 0 : legacy_no_memory(f->g);
}

// --- Samples

static int close_sample(struct perf *f)
{
    struct legacy *g = f->g;
    if (!f->open)
        return 0;
    f->open = false;
    int rc = flush_frame(f);
    if (rc)
        return rc;
    f->line_count = 0;
    int64_t values[EVENT_MAX + 1] = {1};
    values[1 + find_event(f, f->head.event)] = (int64_t)f->head.period;
    const char *comm = pprof_stringn(g->p, f->head.comm.s, f->head.comm.n);
    if (!comm)
        return legacy_no_memory(g);
    // With one number perf means the thread, unless it was asked for the process.
    struct pprof_label labels[] = {
        {.key = "comm", .str = comm},
        {.key = f->head.has_tid ? "pid" : "tid", .num = (int64_t)f->head.pid, .num_unit = "id"},
        {.key = "tid", .num = (int64_t)f->head.tid, .num_unit = "id"}};
    rc = pprof_add_sample(g->p, g->stack, (uint32_t)g->stack_count, values, labels,
                          f->head.has_tid ? 3 : 2);
    g->stack_count = 0;
    return rc ? legacy_no_memory(g) : 0;
}

static int open_sample(struct perf *f, const struct head *h)
{
    f->head = *h;
    f->open = true;
    f->periods_differ |= f->period && f->period != h->period;
    f->period = h->period;
    if (f->first_ns == 0 || h->time_ns < f->first_ns)
        f->first_ns = h->time_ns;
    if (h->time_ns > f->last_ns)
        f->last_ns = h->time_ns;
    return h->rest.n ? frame(f, h->rest, true) : 0;
}

static int one_line(struct perf *f)
{
    struct span line = f->g->text.line;
    struct span trimmed = span_trim(line);
    struct head h;
    if (trimmed.n == 0)
        return close_sample(f);
    if (trimmed.s[0] == '#' && !f->open)
        return 0;
    if (is_space(line.s[0]) && f->open) {
        struct span s = trimmed;
        uint64_t address;
        bool is_frame = take_hex(&s, &address) && s.n && is_space(s.s[0]);
        return is_frame ? frame(f, line, false) : srcline(f, trimmed);
    }
    if (!parse_head(line, &h))
        return legacy_refuse(f->g, "event", "no 'COMM PID TIME: EVENT:'");
    int rc = close_sample(f);
    return rc ? rc : open_sample(f, &h);
}

int legacy_read_perf_script(struct legacy *g)
{
    struct perf *f = calloc(1, sizeof *f);
    if (!f)
        return legacy_no_memory(g);
    f->g = g;
    int rc = collect_events(f);
    if (!rc)
        rc = add_types(f);
    if (!rc) {
        do
            rc = one_line(f);
        while (!rc && text_next(&g->text));
    }
    if (!rc)
        rc = close_sample(f);
    if (!rc)
        g->p->duration_nanos = (int64_t)(f->last_ns - f->first_ns);
    if (!rc && !f->periods_differ)
        g->p->period = (int64_t)f->period;
    free(f);
    return rc;
}
