// SPDX-License-Identifier: MIT
//
// See kernel_build.h. Here: the order of records, generations and files. What a record means is in kernel_events.c.

#include "collector/bpf/kernel_build.h"

#include "collector/bpf/kernel_internal.h"
#include "collector/trace_lost.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND      UINT64_C(1000000000)
#define TIME_END_NS (UINT64_C(1) << 62) // 146 years after boot
enum { GENERATION_EVENTS_MAX = 2000000 };

int kernel_build_new(struct kernel_build **out, const struct kernel_build_options *o)
{
    struct kernel_build *b = calloc(1, sizeof *b);
    *out = NULL;
    if (!b)
        return -ENOMEM;
    memcpy(&b->o, o, o->size < sizeof b->o ? o->size : sizeof b->o);
    b->procs = calloc(b->o.cpu_count ? b->o.cpu_count : 1, sizeof *b->procs);
    if (!b->procs) {
        free(b);
        return -ENOMEM;
    }
    *out = b;
    return 0;
}

void kernel_build_free(struct kernel_build *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < KERNEL_BUCKETS; i++)
        for (struct kernel_go *g = b->buckets[i], *next; g; g = next) {
            next = g->next;
            free(g);
        }
    trace_out_close(&b->out);
    free(b->procs);
    free(b->records);
    free(b);
}

int kernel_build_add(struct kernel_build *b, const struct kernel_build_thread *t)
{
    struct kernel_go *g = kernel_go_of(b, t->tid);
    if (!g)
        return -ENOMEM;
    if (g->state == KERNEL_GONE) {
        g->id = t->tid + ((uint64_t)g->uses++ << 32);
        g->state = KERNEL_UNKNOWN;
        g->seq = g->stamp = 0;
        g->call = 0;
        g->says_call = false;
    }
    g->pid = t->pid;
    if (g->state == KERNEL_UNKNOWN) // else records have said more
        g->cpu = t->cpu;
    g->is_watched = true;
    g->at_start = t->state;
    memcpy(g->name, t->name, sizeof g->name);
    return 0;
}

bool kernel_build_record(struct kernel_record *out, const void *bytes, size_t size)
{
    if (size < KERNEL_RECORD_BYTES_UNNAMED)
        return false;
    *out = (struct kernel_record){0};
    memcpy(out, bytes, size < sizeof *out ? size : sizeof *out);
    return out->time_ns < TIME_END_NS;
}

int kernel_build_push(struct kernel_build *b, const struct kernel_record *r)
{
    if (r->time_ns < b->skip_until_ns || r->cpu >= b->o.cpu_count || b->rc)
        return 0;
    if (r->type == KERNEL_NAME) {
        struct kernel_go *g = kernel_go_of(b, r->tid);
        if (!g)
            return -ENOMEM;
        memcpy(g->coming, r->comm, sizeof g->coming);
        g->coming_ns = r->time_ns;
    }
    if (b->record_count == b->record_capacity) {
        size_t n = b->record_capacity * 2 + 4096;
        struct kernel_record *grown = reallocarray(b->records, n, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        b->records = grown;
        b->record_capacity = n;
    }
    // The ring's order is that of times but for what CPUs did at one moment.
    size_t at = b->record_count++;
    for (; at && b->records[at - 1].time_ns > r->time_ns; at--)
        b->records[at] = b->records[at - 1];
    b->records[at] = *r;
    return 0;
}

// --- Files.

static int put_clock(struct kernel_build *b, uint64_t ns)
{
    struct timespec mono, real;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME, &real);
    int64_t ahead = (real.tv_sec - mono.tv_sec) * (int64_t)SECOND + real.tv_nsec - mono.tv_nsec;
    int64_t wall = (int64_t)ns + ahead;
    const struct trace_writer_clock clock = {ns / KERNEL_UNITS_NS, ns, wall / (int64_t)SECOND,
                                             wall % (int64_t)SECOND};
    return trace_out_end(&b->out, &clock);
}

static int open_file(struct kernel_build *b)
{
    struct fscope_error err = {0};
    b->file = (struct kernel_build_file){
        .number = ++b->file_count,
        .gap_from_ns = b->gap_from_ns,
        .gap_to_ns = b->gap_to_ns,
        .gap_lost = b->lost_unsaid,
    };
    b->gap_from_ns = b->gap_to_ns = b->lost_unsaid = 0;
    int fd = b->o.open_file(b->o.arg, b->file.number, &err);
    if (fd < 0)
        return fd;
    b->is_open = true;
    return trace_out_open(&b->out, fd, b->o.version ? b->o.version : 23, SECOND / KERNEL_UNITS_NS);
}

static int begin_generation(struct kernel_build *b, uint64_t ns)
{
    int rc = b->is_open ? 0 : open_file(b);
    if (!rc)
        rc = trace_out_begin(&b->out);
    if (rc)
        return rc;
    b->now_ns = ns;
    b->generation_ns = ns;
    b->in_generation = true;
    b->said_procs = false;
    b->said = 0;
    if (!b->file.start_ns)
        b->file.start_ns = ns;
    kernel_announce_all(b);
    return b->rc;
}

static size_t notes_of(const struct kernel_build *b, int file_rc, struct trace_note *notes)
{
    const struct kernel_build_file *f = &b->file;
    size_t n = 0;
    if (f->gap_to_ns) {
        notes[n] = (struct trace_note){"gap", (int64_t)f->gap_from_ns, (int64_t)f->start_ns,
                                       f->gap_lost, ""};
        snprintf(notes[n++].text, sizeof notes[0].text,
                 "nothing is recorded between the file before and this one");
    }
    if (f->lost) {
        notes[n] = (struct trace_note){"full", (int64_t)f->end_ns, 0, f->lost, ""};
        snprintf(notes[n++].text, sizeof notes[0].text,
                 "records of the kernel found no room; if recording went on, then in another file");
    }
    if (f->why[0]) {
        notes[n] = (struct trace_note){"refused", (int64_t)f->end_ns, 0, 0, ""};
        snprintf(notes[n++].text, sizeof notes[0].text, "the next part did not make sense: %s",
                 f->why);
    }
    if (file_rc) {
        notes[n] = (struct trace_note){"unwritten", (int64_t)f->end_ns, 0, 0, ""};
        snprintf(notes[n++].text, sizeof notes[0].text, "the file could not be written: %s",
                 strerror(-file_rc));
    }
    return n;
}

// A generation that has nothing but its time, an event that changes nothing and what is missing, as a fiber trace ends.
static int write_end(struct kernel_build *b, uint64_t end_ns, int file_rc)
{
    struct trace_note notes[TRACE_NOTES_MAX];
    size_t count = notes_of(b, file_rc, notes);
    if (end_ns <= b->file.end_ns)
        end_ns = b->file.end_ns + KERNEL_UNITS_NS;
    int rc = trace_out_drop(&b->out);
    if (!rc)
        rc = trace_out_begin(&b->out);
    if (!rc)
        rc = trace_out_say_again(&b->out, end_ns / KERNEL_UNITS_NS);
    if (!rc)
        rc = trace_lost_write(b->out.writer, notes, count);
    if (!rc)
        rc = put_clock(b, end_ns);
    if (!rc)
        rc = trace_out_write(&b->out);
    if (!rc)
        b->file.end_ns = end_ns;
    return rc;
}

static int close_file(struct kernel_build *b, uint64_t end_ns, int rc)
{
    if (!b->is_open)
        return rc;
    b->is_open = b->in_generation = false;
    if (b->file.generations) {
        int end_rc = write_end(b, end_ns, rc);
        rc = rc ? rc : end_rc;
    }
    b->file.bytes = b->out.written;
    trace_out_close(&b->out);
    b->file_count -= !b->file.generations;
    b->o.close_file(b->o.arg, &b->file, rc);
    return rc;
}

// Writes the generation if our validator takes it, else ends the file before it.
static int end_generation(struct kernel_build *b)
{
    if (!b->in_generation)
        return 0;
    if (b->out.number == 1)
        kernel_announce_silent(b);
    b->in_generation = false;
    int rc = b->rc ? b->rc : put_clock(b, b->now_ns);
    if (rc)
        return rc;
    if (trace_out_check(&b->out, b->file.why, sizeof b->file.why)) {
        if (!b->file.why[0])
            snprintf(b->file.why, sizeof b->file.why, "out of memory");
        b->gap_from_ns = b->generation_ns;
        b->gap_to_ns = b->now_ns;
        rc = close_file(b, 0, 0);
        kernel_forget_all(b);
        return rc;
    }
    rc = trace_out_write(&b->out);
    b->file.generations += !rc;
    b->file.end_ns = b->now_ns;
    return rc;
}

static int take(struct kernel_build *b, const struct kernel_record *r)
{
    bool is_long = b->in_generation &&
                   (r->time_ns - b->generation_ns >= SECOND || b->said > GENERATION_EVENTS_MAX);
    int rc = is_long && r->time_ns > b->now_ns ? end_generation(b) : 0;
    if (!rc && !b->in_generation)
        rc = begin_generation(b, r->time_ns);
    if (rc)
        return rc;
    if (r->time_ns > b->now_ns)
        b->now_ns = r->time_ns;
    kernel_take(b, r);
    return b->rc;
}

static void drop_first(struct kernel_build *b, size_t n)
{
    b->record_count -= n;
    if (n)
        memmove(b->records, b->records + n, b->record_count * sizeof *b->records);
}

int kernel_build_flush(struct kernel_build *b, uint64_t until_ns)
{
    size_t n = 0;
    while (!b->rc && n < b->record_count && b->records[n].time_ns < until_ns)
        b->rc = take(b, &b->records[n++]);
    if (b->rc)
        n = b->record_count;
    drop_first(b, n);
    if (b->rc && b->is_open)
        close_file(b, 0, b->rc);
    return b->rc;
}

int kernel_build_cut(struct kernel_build *b, uint64_t from_ns, uint64_t to_ns, uint64_t count)
{
    int rc = kernel_build_flush(b, from_ns);
    if (!rc)
        rc = end_generation(b);
    if (b->is_open) {
        b->file.lost = count;
        rc = close_file(b, from_ns, rc);
    } else {
        b->lost_unsaid += count;
    }
    kernel_forget_all(b);
    size_t n = 0;
    while (n < b->record_count && b->records[n].time_ns <= to_ns)
        n++;
    drop_first(b, n);
    b->skip_until_ns = to_ns + 1;
    if (!b->gap_to_ns) // else there was no file since the last cut
        b->gap_from_ns = from_ns;
    b->gap_to_ns = to_ns;
    b->rc = b->rc ? b->rc : rc;
    return b->rc;
}

int kernel_build_finish(struct kernel_build *b, uint64_t end_ns)
{
    int rc = kernel_build_flush(b, end_ns);
    if (!rc)
        rc = end_generation(b);
    if (b->is_open)
        rc = close_file(b, end_ns, rc);
    b->rc = b->rc ? b->rc : rc;
    return b->rc;
}
