// SPDX-License-Identifier: MIT
//
// See trace_build.h. Taking (trace_pool), naming (trace_symbols), rewriting (trace_rewrite) and files
// (trace_out) have their own files; here is which generation goes where and when.

#include "collector/trace_build.h"

#include "collector/trace_lost.h"
#include "collector/trace_out.h"
#include "collector/trace_pool.h"
#include "collector/trace_rewrite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAMPLES_MAX = 1 << 20, SECOND = 1000000000 };
#define SNAPSHOT_PATIENCE_NS UINT64_C(1000000000) // for the running generation to end

struct trace_build {
    struct trace_build_options o;
    struct trace_symbols *symbols;
    struct trace_rewrite *rewrite;
    struct trace_pool pool;
    struct seg_trace now; // as of the last look
    uint64_t done;        // generations up to this are in files, or given up
    // The file.
    struct trace_out out;
    struct trace_build_file file;
    bool is_open;
    uint64_t session;      // of the file
    uint64_t last_units;   // of the file's last event
    uint64_t lost_session; // whose file could not be written
    uint32_t file_count;
    uint64_t cut_ns;      // when the last file ended, if it was cut; 0: it was not
    uint64_t overwritten; // generations, before the next file
    // Samples that wait for their generation.
    struct trace_sample *samples;
    size_t sample_count, sample_capacity;
    // Flight.
    bool is_flight, wants_snapshot, has_asked;
    uint64_t snapshots_seen, ask_generation, ask_deadline_ns;
    bool has_stopped; // was asked to
    bool in_flight;   // an event may have been, as the process ended
    struct trace_build_stats stats;
    int first_rc;
    char cause[160]; // of the coming snapshot
    char first_error[384];
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t units_of(const struct trace_build *b, uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * b->now.units_per_second / SECOND);
}

static uint64_t ns_of(const struct trace_build *b, uint64_t units)
{
    unsigned __int128 ns = (unsigned __int128)units * SECOND / b->now.units_per_second;
    return ns < INT64_MAX ? (uint64_t)ns : INT64_MAX;
}

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static int keep_error(struct trace_build *b, int rc, const char *text)
{
    if (rc && !b->first_rc) {
        b->first_rc = rc;
        snprintf(b->first_error, sizeof b->first_error, "%s", text && *text ? text : strerror(-rc));
    }
    return rc;
}

// --- Beginning and end.

int trace_build_new(struct trace_build **out, const struct trace_build_options *o,
                    struct fscope_error *err)
{
    *out = NULL;
    struct trace_build *b = calloc(1, sizeof *b);
    if (!b)
        return error_set(err, -ENOMEM, 0, "out of memory");
    memcpy(&b->o, o, o->size < sizeof b->o ? o->size : sizeof b->o);
    const struct trace_symbols_options so = {
        .size = sizeof so,
        .reader = b->o.reader,
        .pid = b->o.pid,
        .symbolize = b->o.symbolize,
        .open_file = b->o.open_module,
        .arg = b->o.module_arg,
    };
    int rc = seg_reader_trace(b->o.reader, &b->now);
    b->snapshots_seen = load(&b->now.snapshots);
    if (rc == -ENODATA)
        error_set(err, rc, 0, "the segment has no room for a trace");
    else if (rc)
        error_set(err, rc, 0, "damaged segment: its trace buffers do not fit");
    if (!rc)
        rc = trace_symbols_new(&b->symbols, &so);
    if (!rc)
        rc = trace_rewrite_new(&b->rewrite, b->o.reader, b->symbols);
    if (rc) {
        if (rc == -ENOMEM)
            error_set(err, rc, 0, "out of memory");
        trace_build_free(b);
        return rc;
    }
    *out = b;
    return 0;
}

void trace_build_free(struct trace_build *b)
{
    if (!b)
        return;
    trace_out_close(&b->out);
    trace_rewrite_free(b->rewrite);
    trace_symbols_free(b->symbols);
    trace_pool_finish(&b->pool);
    free(b->samples);
    free(b);
}

bool trace_build_is_flight(const struct trace_build *b)
{
    return b->is_flight;
}

const char *trace_build_error(const struct trace_build *b)
{
    return b->first_error;
}

void trace_build_get_stats(const struct trace_build *b, struct trace_build_stats *out)
{
    *out = b->stats;
}

int trace_build_early(struct trace_build *b, uint32_t tid, const uint64_t *pcs, uint32_t depth)
{
    return trace_rewrite_early(b->rewrite, tid, pcs, depth);
}

// --- Samples.

void trace_build_sample(struct trace_build *b, const struct seg_record *r)
{
    if (b->sample_count ==
        SAMPLES_MAX) { // of a flight recorder, or of a trace that does not move: the older half
        b->sample_count /= 2;
        memmove(b->samples, b->samples + b->sample_count, b->sample_count * sizeof *b->samples);
    }
    if (b->sample_count == b->sample_capacity) {
        size_t n = b->sample_capacity * 2 + 256;
        struct trace_sample *grown = reallocarray(b->samples, n, sizeof *grown);
        if (!grown)
            return; // a sample less: the profile has it
        b->samples = grown;
        b->sample_capacity = n;
    }
    b->samples[b->sample_count++] =
        (struct trace_sample){units_of(b, r->time_ns), r->fiber, r->tid, r->user_stack};
}

// When the generation began, by its clock; 0: not known.
static uint64_t start_of(const struct trace_build *b, uint64_t generation)
{
    const struct seg_trace_clock *c = &b->now.clocks[generation % SEG_TRACE_CLOCKS];
    return load(&c->generation) == generation ? c->units : 0;
}

// Those up to the next generation; the ones before the file's beginning belong to nobody.
static int write_samples(struct trace_build *b, uint64_t generation, bool is_first)
{
    uint64_t end = start_of(b, generation + 1), begin = is_first ? start_of(b, generation) : 0;
    size_t kept = 0;
    int rc = 0;
    for (size_t i = 0; i < b->sample_count; i++) {
        const struct trace_sample s = b->samples[i];
        if (end && s.units >= end)
            b->samples[kept++] = s;
        else if (s.units >= begin && !rc)
            rc = trace_rewrite_sample(b->rewrite, &s);
    }
    b->sample_count = kept;
    return rc;
}

// --- Files.

// generation: its first.
static int open_file(struct trace_build *b, uint64_t session, uint64_t generation)
{
    struct fscope_error err = {0};
    b->file = (struct trace_build_file){
        .number = ++b->file_count,
        .gave_way = b->is_flight && (generation > load(&b->now.first) || load(&b->now.cuts)),
        .gap_from_ns = b->cut_ns,
        .overwritten = b->overwritten,
    };
    b->cut_ns = b->overwritten = 0;
    snprintf(b->file.cause, sizeof b->file.cause, "%s", b->is_flight ? b->cause : "");
    int fd = b->o.open_file(b->o.arg, b->file.number, &err);
    if (fd < 0)
        return keep_error(b, fd, err.text);
    b->is_open = true;
    b->session = session;
    b->last_units = 0;
    return keep_error(b, trace_out_open(&b->out, fd, b->o.version, b->now.units_per_second), NULL);
}

// Whether that session ended for want of a buffer. `end` is of the last one that has ended; one before that
// made room for the next only by its end.
static bool was_cut(const struct trace_build *b, uint64_t session)
{
    uint64_t newest = load(&b->now.session);
    bool is_on = load(&b->now.generation) != 0;
    if (session == newest && is_on) // killed before it was tidied up
        return load(&b->now.cut) >= load(&b->now.first);
    bool is_last_ended = session + is_on >= newest;
    return is_last_ended ? atomic_load_explicit(&b->now.end, memory_order_relaxed) == SEG_TRACE_FULL
                         : load(&b->now.cuts) > 0;
}

static int put_clock(struct trace_build *b, uint64_t units, uint64_t mono, uint64_t real)
{
    if (real > INT64_MAX) // an honest clock is far from there
        real = 0;
    const struct trace_writer_clock clock = {units, mono, (int64_t)(real / SECOND),
                                             (int64_t)(real % SECOND)};
    return trace_out_end(&b->out, &clock);
}

static int put_clock_at(struct trace_build *b, uint64_t units)
{
    const struct seg_header *h = seg_reader_header(b->o.reader);
    uint64_t mono = ns_of(b, units);
    return put_clock(b, units, mono, h->real_ns + (mono - h->mono_ns));
}

static int end_generation(struct trace_build *b, uint64_t generation)
{
    const struct seg_trace_clock *c = &b->now.clocks[generation % SEG_TRACE_CLOCKS];
    struct trace_rewrite_stats st;
    if (start_of(b, generation))
        return put_clock(b, c->units, c->mono_ns, c->real_ns);
    trace_rewrite_get_stats(b->rewrite, &st);
    return put_clock_at(b, st.first_units);
}

static int make_end(struct trace_build *b, uint64_t units, const struct trace_note *notes,
                    size_t count, bool says_again)
{
    int rc = trace_out_drop(&b->out);
    if (!rc)
        rc = trace_out_begin(&b->out);
    if (!rc && says_again)
        rc = trace_out_say_again(&b->out, units);
    if (!rc)
        rc = trace_lost_write(b->out.writer, notes, count);
    return rc ? rc : put_clock_at(b, units);
}

// What goes on when nothing more happens lasts until recording ended, and a trace is over with its last event: so a
// generation follows that has nothing but its time, which readers tell as a Sync, an event that changes nothing, and
// what is missing in the file. units 0: the end is not known.
static int write_end(struct trace_build *b, uint64_t units, int file_rc)
{
    struct trace_note notes[TRACE_NOTES_MAX];
    char why[384];
    bool is_known = units > b->last_units && units <= INT64_MAX, says_again = true;
    size_t count = trace_lost_notes(&b->file, file_rc, notes);
    if (!b->file.generations || (!is_known && !count))
        return 0;
    units = is_known ? units : b->last_units + 1;
    int rc = make_end(b, units, notes, count, true);
    if (!rc && trace_out_check(&b->out, why, sizeof why)) {
        says_again = false;
        rc = make_end(b, units, notes, count, false);
    }
    if (!rc)
        rc = trace_out_write(&b->out);
    if (rc)
        return rc;
    b->file.end_ns = ns_of(b, units);
    b->file.events += 1 + says_again;
    return 0;
}

// units: when it ended, 0: not known. rc: why it cannot be written any further, or 0.
static void close_file(struct trace_build *b, uint64_t units, int rc)
{
    if (!b->is_open)
        return;
    b->is_open = false;
    b->file.was_cut = !b->is_flight && was_cut(b, b->session);
    if (b->file.was_cut)
        b->cut_ns = b->file.end_ns;
    int end_rc = write_end(b, units, rc);
    if (!rc)
        keep_error(b, end_rc, NULL);
    b->file.bytes = b->out.written;
    b->file.events += b->file.generations != 0; // the Sync that readers end with
    trace_out_close(&b->out);
    b->stats.files++;
    b->file_count -= !rc && !b->file.generations; // there is none of that number
    if (rc)
        b->lost_session = b->session;
    b->o.close_file(b->o.arg, &b->file, rc);
}

// When the session ended, as the target tells; 0: it does not, or the session was cut: what happened between that and
// its tidying up nobody knows.
static uint64_t told_end(const struct trace_build *b, uint64_t session)
{
    bool is_on = load(&b->now.generation) != 0;
    bool is_last_ended = session + is_on == load(&b->now.session);
    return is_last_ended && !was_cut(b, session) ? load(&b->now.stopped_units) : 0;
}

struct counts {
    uint64_t events, samples, damaged, lost_names;
};

static struct counts counts_of(const struct trace_build *b)
{
    struct trace_rewrite_stats st;
    trace_rewrite_get_stats(b->rewrite, &st);
    return (struct counts){st.events, st.samples, st.damaged, st.lost_names};
}

static void account(struct trace_build *b, const struct counts *before, uint64_t bytes)
{
    struct trace_build_file *f = &b->file;
    struct trace_rewrite_stats st;
    trace_rewrite_get_stats(b->rewrite, &st);
    f->generations++;
    f->events += st.events - before->events + st.samples - before->samples + 1; // and its Sync
    f->samples += st.samples - before->samples;
    f->lost_names += st.lost_names - before->lost_names;
    f->bytes = b->out.written;
    if (!f->start_ns)
        f->start_ns = ns_of(b, st.first_units);
    if (st.last_units > b->last_units)
        b->last_units = st.last_units;
    f->end_ns = ns_of(b, b->last_units);
    b->stats.events += st.events - before->events;
    b->stats.bytes += bytes;
}

// Makes, checks where need be, and writes one generation. A file whose generation is refused ends before it.
static int write_generation(struct trace_build *b, uint64_t generation,
                            const struct trace_piece *pieces, size_t count, uint64_t until)
{
    bool is_whole = generation <= load(&b->now.complete);
    struct counts before = counts_of(b);
    int rc = trace_out_begin(&b->out);
    if (rc)
        return rc;
    trace_rewrite_begin(b->rewrite, b->out.writer);
    rc = trace_rewrite_pieces(b->rewrite, pieces, count, until);
    struct counts after = counts_of(b);
    if (!rc)
        rc = write_samples(b, generation, b->file.generations == 0);
    if (!rc)
        rc = end_generation(b, generation);
    if (rc)
        return rc;
    bool is_empty = after.events == before.events;
    bool is_first = b->o.was_taken_from && b->file.generations == 0;
    if (is_empty || ((!is_whole || is_first || after.damaged != before.damaged) &&
                     trace_out_check(&b->out, b->file.why, sizeof b->file.why))) {
        b->file.left_out += !is_empty;
        close_file(b, 0, 0);
        return 0;
    }
    b->file.was_killed |= !is_whole;
    b->file.in_flight |= !is_whole && b->in_flight;
    uint64_t bytes = b->out.written;
    rc = trace_out_write(&b->out);
    if (!rc)
        account(b, &before, b->out.written - bytes);
    return rc;
}

// All there is up to that generation. until: for those that are not whole.
static int write_generations(struct trace_build *b, uint64_t upto, uint64_t until)
{
    uint64_t generation;
    int first = 0;
    while ((generation = trace_pool_lowest(&b->pool)) && generation <= upto) {
        struct trace_piece *pieces;
        size_t count = trace_pool_range(&b->pool, generation, &pieces);
        uint64_t session = pieces[0].session;
        int rc = 0;
        if (b->is_open && session != b->session)
            close_file(b, told_end(b, b->session), 0);
        if (session != b->lost_session && !b->is_open)
            rc = open_file(b, session, generation);
        if (session != b->lost_session && !rc) {
            bool is_whole = generation <= load(&b->now.complete);
            rc = write_generation(b, generation, pieces, count, is_whole ? UINT64_MAX : until);
        }
        if (rc) {
            keep_error(b, rc, NULL);
            b->lost_session = session;
            close_file(b, 0, rc);
        }
        first = first ? first : rc;
        b->done = generation > b->done ? generation : b->done;
        trace_pool_drop(&b->pool, generation);
    }
    return first;
}

// --- Flight.

// Copies what is there beside its producers; what was overwritten meanwhile is left out, and all before it.
static int copy_flight(struct trace_build *b, bool open_too)
{
    struct trace_take take = {.keeps = true, .open_too = open_too};
    struct seg_trace after = {0};
    seg_reader_trace_hold(b->o.reader, true);
    int rc = seg_reader_trace(b->o.reader, &b->now);
    take.complete = load(&b->now.complete);
    take.from = load(&b->now.oldest);
    take.upto = open_too ? UINT64_MAX : take.complete;
    if (!rc)
        rc = trace_pool_take(&b->pool, b->o.reader, &take);
    if (!rc)
        rc = seg_reader_trace(b->o.reader, &after);
    seg_reader_trace_hold(b->o.reader, false);
    if (rc)
        return rc;
    // Buffers that gave way before they were looked at are missing, not stale; `oldest` was stored first.
    uint64_t gone = load(&after.oldest) ? load(&after.oldest) - 1 : 0;
    gone = take.stale_from > gone ? take.stale_from : gone;
    uint64_t lowest = trace_pool_lowest(&b->pool);
    b->overwritten = lowest && gone >= lowest ? gone - lowest + 1 : 0;
    b->stats.lost_generations += b->overwritten;
    trace_pool_drop(&b->pool, gone);
    return 0;
}

// end: when it ends, in units; 0: where the last whole generation does.
static int write_snapshot(struct trace_build *b, bool open_too, uint64_t until, uint64_t end)
{
    int rc = copy_flight(b, open_too);
    if (rc)
        return keep_error(b, rc, NULL);
    b->lost_session = 0; // what went wrong with one snapshot may be better with the next
    rc = write_generations(b, UINT64_MAX, until);
    close_file(b, end || open_too ? end : start_of(b, b->done + 1), 0);
    b->cause[0] = 0;
    return rc;
}

void trace_build_snapshot(struct trace_build *b)
{
    if (!b->cause[0])
        snprintf(b->cause, sizeof b->cause, "asked for");
    b->wants_snapshot = true;
}

// Whether a condition was met since the last look.
static void see_conditions(struct trace_build *b)
{
    uint64_t met = load(&b->now.snapshots);
    if (met != b->snapshots_seen && !b->cause[0]) // the first of those before the copy is taken
        trace_lost_cause(b->cause, sizeof b->cause, &b->now, b->o.reader);
    b->wants_snapshot |= met != b->snapshots_seen;
    b->snapshots_seen = met;
}

static int pump_flight(struct trace_build *b)
{
    uint64_t generation = load(&b->now.generation);
    if (!b->wants_snapshot)
        return 0;
    if (!b->has_asked) { // the generation that runs now is to be in it
        b->has_asked = true;
        b->ask_generation = generation;
        b->ask_deadline_ns = now_ns() + SNAPSHOT_PATIENCE_NS;
        if (generation)
            seg_reader_trace_request(b->o.reader, SEG_TRACE_ADVANCE);
    }
    uint64_t now = now_ns();
    bool is_running = generation && load(&b->now.complete) < b->ask_generation;
    if (is_running && now < b->ask_deadline_ns)
        return 0;
    b->wants_snapshot = b->has_asked = false;
    // Where nobody has ended the generation, as all sleep, or no other has been left, as the room is small and soon
    // filled, what is older than this moment is as good.
    uint64_t files = b->stats.files, until = units_of(b, now);
    int rc = is_running ? 0 : write_snapshot(b, false, UINT64_MAX, 0);
    return rc || b->stats.files != files ? rc : write_snapshot(b, true, until, until);
}

// --- Taking.

static int take_stream(struct trace_build *b, bool open_too)
{
    struct trace_take take = {
        .complete = load(&b->now.complete),
        .done = b->done,
        .upto = UINT64_MAX,
        .open_too = open_too,
    };
    int rc = trace_pool_take(&b->pool, b->o.reader, &take);
    return rc == -ENOBUFS ? 0 : rc;
}

static int look(struct trace_build *b)
{
    int rc = seg_reader_trace(b->o.reader, &b->now);
    b->is_flight = atomic_load_explicit(&b->now.is_flight, memory_order_relaxed) != 0;
    for (int i = 0; i < 4; i++)
        b->stats.hits[i] = atomic_load_explicit(&b->now.hits[i], memory_order_relaxed);
    if (!rc && b->is_flight)
        see_conditions(b);
    return rc;
}

int trace_build_pump(struct trace_build *b)
{
    int rc = look(b);
    if (!rc && !b->is_flight)
        rc = take_stream(b, false);
    // After the buffers: what their stacks are in has been told before.
    if (!rc)
        rc = trace_symbols_modules(b->symbols);
    if (rc)
        return keep_error(b, rc, NULL);
    return b->is_flight ? pump_flight(b) : write_generations(b, load(&b->now.complete), UINT64_MAX);
}

bool trace_build_stop(struct trace_build *b)
{
    if (look(b) || !load(&b->now.session))
        return true;
    bool is_on = load(&b->now.generation) != 0;
    if (is_on && !b->has_stopped) {
        b->has_stopped = true;
        if (seg_reader_trace_request(b->o.reader, SEG_TRACE_STOP))
            return true;
    }
    return !is_on && load(&b->now.complete) >= load(&b->now.last);
}

bool trace_build_is_heard(const struct trace_build *b)
{
    return atomic_load_explicit(&b->now.request, memory_order_relaxed) != SEG_TRACE_STOP;
}

// Of a session that goes on: as the caller knows.
static uint64_t last_end(const struct trace_build *b, uint64_t end_ns)
{
    uint64_t session = load(&b->now.session);
    if (!load(&b->now.generation))
        return told_end(b, session);
    return was_cut(b, session) ? 0 : units_of(b, end_ns);
}

int trace_build_finish(struct trace_build *b, uint64_t until_ns, uint64_t end_ns)
{
    uint64_t until = until_ns == UINT64_MAX ? UINT64_MAX : units_of(b, until_ns);
    int rc = look(b);
    uint64_t end = rc ? 0 : last_end(b, end_ns);
    b->in_flight = until_ns == UINT64_MAX && seg_reader_trace_in_flight(b->o.reader);
    if (!rc && !b->is_flight)
        rc = take_stream(b, true);
    if (!rc)
        rc = trace_symbols_modules(b->symbols);
    if (rc)
        keep_error(b, rc, NULL);
    else
        rc = b->is_flight ? write_snapshot(b, true, until, end)
                          : write_generations(b, UINT64_MAX, until);
    close_file(b, b->session == load(&b->now.session) ? end : 0, 0);
    return rc;
}
