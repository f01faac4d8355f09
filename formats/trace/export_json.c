// SPDX-License-Identifier: MIT
//
// Chrome's trace event format (JSON object form). Each kind of track is a "process", each track a
// "thread" of it; times are microseconds.

#include "formats/trace/export_sink.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const kind_names[EXPORT_KINDS] = {"", "Procs", "Fibers", "Regions", "Tasks"};

__attribute__((format(printf, 2, 3))) static void say(struct export_out *o, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    export_put(o, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
}

// The length of the UTF-8 character at s, 0 if it is none.
static int utf8(const unsigned char *s)
{
    int n = *s < 0x80                 ? 1
            : *s >= 0xc2 && *s < 0xe0 ? 2
            : *s >= 0xe0 && *s < 0xf0 ? 3
            : *s >= 0xf0 && *s < 0xf5 ? 4
                                      : 0;
    for (int i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong =
        (n == 3 && s[0] == 0xe0 && s[1] < 0xa0) || (n == 4 && s[0] == 0xf0 && s[1] < 0x90);
    bool surrogate = n == 3 && s[0] == 0xed && s[1] >= 0xa0;
    bool beyond = n == 4 && s[0] == 0xf4 && s[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : n;
}

static void quoted(struct export_out *o, const char *s)
{
    export_put(o, "\"", 1);
    while (*s) {
        int n = utf8((const unsigned char *)s);
        if (!n)
            export_put(o, "\\ufffd", 6);
        else if (*s == '"' || *s == '\\')
            say(o, "\\%c", *s);
        else if (n == 1 && (unsigned char)*s < 0x20)
            say(o, "\\u%04x", (unsigned)(unsigned char)*s);
        else
            export_put(o, s, (size_t)n);
        s += n ? n : 1;
    }
    export_put(o, "\"", 1);
}

static void open_event(struct export_out *o, const char *phase, const char *name)
{
    say(o, "%s{\"ph\":\"%s\",\"name\":", o->any ? ",\n" : "\n", phase);
    o->any = true;
    quoted(o, name);
}

static void say_time(struct export_out *o, const char *key, int64_t ns)
{
    uint64_t n = ns < 0 ? 0 : (uint64_t)ns;
    say(o, ",\"%s\":%" PRIu64 ".%03" PRIu64, key, n / 1000, n % 1000);
}

static void where(struct export_out *o, struct export_track t, int64_t at_ns)
{
    say(o, ",\"pid\":%d,\"tid\":%" PRId64, (int)t.kind, t.id);
    say_time(o, "ts", at_ns - o->base_ns);
}

static void begin(struct export_out *o)
{
    say(o, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[");
    for (int k = EXPORT_PROC; k < EXPORT_KINDS; k++) {
        open_event(o, "M", "process_name");
        say(o, ",\"pid\":%d,\"args\":{\"name\":", k);
        quoted(o, kind_names[k]);
        say(o, "}}");
        open_event(o, "M", "process_sort_index");
        say(o, ",\"pid\":%d,\"args\":{\"sort_index\":%d}}", k, k);
    }
}

static void end(struct export_out *o)
{
    say(o, "\n]}\n");
}

static void track(struct export_out *o, struct export_track t, const char *name)
{
    open_event(o, "M", "thread_name");
    say(o, ",\"pid\":%d,\"tid\":%" PRId64 ",\"args\":{\"name\":", (int)t.kind, t.id);
    quoted(o, name);
    say(o, "}}");
}

static void slice(struct export_out *o, struct export_track t, const char *name, int64_t begin_ns,
                  int64_t end_ns, uint64_t flow)
{
    open_event(o, "X", name);
    where(o, t, begin_ns);
    say_time(o, "dur", end_ns - begin_ns);
    say(o, "}");
    if (!flow)
        return;
    open_event(o, "f", "wake");
    where(o, t, begin_ns);
    say(o, ",\"cat\":\"wake\",\"bp\":\"e\",\"id\":%" PRIu64 "}", flow);
}

static void mark(struct export_out *o, struct export_track t, const char *name, int64_t at_ns)
{
    open_event(o, "i", name);
    where(o, t, at_ns);
    say(o, ",\"s\":\"t\"}");
}

static void wake(struct export_out *o, struct export_track t, int64_t at_ns, uint64_t flow)
{
    open_event(o, "s", "wake");
    where(o, t, at_ns);
    say(o, ",\"cat\":\"wake\",\"id\":%" PRIu64 "}", flow);
}

static void counter(struct export_out *o, const char *name, int64_t at_ns, uint64_t value)
{
    open_event(o, "C", name);
    where(o, (struct export_track){EXPORT_PROC, 0}, at_ns);
    say(o, ",\"args\":{\"value\":%" PRIu64 "}}", value);
}

const struct export_sink export_json = {.begin = begin,
                                        .end = end,
                                        .track = track,
                                        .slice = slice,
                                        .mark = mark,
                                        .wake = wake,
                                        .counter = counter};
