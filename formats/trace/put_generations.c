// SPDX-License-Identifier: MIT
//
// Where a result and its generations begin and end, in time.
//
// Readers give no two events one time: what comes with a time that was had is moved behind it. So
// what the result has on top of the original, announcements, is put where nothing happens, and the
// events keep their times unless they fill every nanosecond. A generation begins where its clock
// is; the trace is over one nanosecond after its last event or its last generation's beginning. That
// is how a range in which nothing happens keeps its ends: its last generation is empty.

#include "formats/trace/put.h"

void put_note_time(struct put_state *s, uint64_t time)
{
    uint64_t last = s->last;
    s->last = time > last ? time : last + 1;
    if (s->last - last - 1 > s->gap_size) {
        s->gap_after = last;
        s->gap_size = s->last - last - 1;
    }
}

void put_note_clock(struct trace_writer *w)
{
    struct put_state *s = w->put;
    struct trace_clock clock = trace_reader_clock(s->reader);
    if (!clock.is_known)
        return;
    s->has_clock = true;
    s->clock = (struct trace_writer_clock){put_ticks(w, clock.trace_ns), clock.mono_ns,
                                           clock.wall_s, clock.wall_ns};
}

// The last snapshot of the clock, moved to another time.
static struct trace_writer_clock clock_at(const struct trace_writer *w, uint64_t time)
{
    const struct put_state *s = w->put;
    struct trace_writer_clock c = {.time = time ? time : 1};
    double ns_per_tick = 1e9 / (double)w->options.frequency;
    if (!s->has_clock) {
        c.mono_ns = (uint64_t)((double)time * ns_per_tick);
        return c;
    }
    int64_t ns = (int64_t)((double)(int64_t)(time - s->clock.time) * ns_per_tick);
    int64_t wall_ns = s->clock.wall_ns + ns % 1000000000;
    int64_t carry = wall_ns < 0 ? -1 : wall_ns / 1000000000;
    c.mono_ns = s->clock.mono_ns + (uint64_t)ns;
    c.wall_s = s->clock.wall_s + ns / 1000000000 + carry;
    c.wall_ns = wall_ns - carry * 1000000000;
    return c;
}

// A goroutine that runs, wherever, can say it.
static void pay_anyhow(struct trace_writer *w)
{
    struct put_state *s = w->put;
    for (uint32_t i = 0; i < s->thread_count && (s->owes_procs || s->owes_goal); i++) {
        const struct put_thread *t = &s->threads[i];
        if (t->proc != TRACE_NO_SLOT && t->go != TRACE_NO_SLOT && s->gos[t->go].is_kept &&
            s->gos[t->go].state == TRACE_GO_RUNNING &&
            s->procs[t->proc].state == TRACE_PROC_RUNNING)
            put_pay(w, t->id);
    }
}

// What runs, or is in a system call, does so from the beginning.
void put_begin(struct trace_writer *w, uint64_t time)
{
    struct put_state *s = w->put;
    bool is_first = w->last == 0;
    if (trace_writer_begin(w, w->last + 1))
        return;
    w->time_last = s->begin = s->last = s->gap_after = time;
    s->gap_size = 0;
    s->stamp++;
    s->owes_procs = s->has_procs;
    s->owes_goal = s->has_goal;
    // Later ones need none: the reader knows.
    if (is_first && s->is_marking) {
        s->mark_seq = 1;
        SAY_EARLY(w, TRACE_NONE, TRACE_EV_GC_ACTIVE, s->mark_seq);
    }
    for (uint32_t i = 0; i < s->thread_count; i++)
        put_announce_thread(w, i);
    pay_anyhow(w);
}

static bool is_unsaid(const struct put_state *s, const struct put_go *g)
{
    return g->state && g->is_kept && g->stamp != s->stamp;
}

// Announces what was not mentioned in the generation: all at once where nothing happens for long
// enough, else at times spread over it. It has not changed, so any time is right.
static void announce_rest(struct trace_writer *w, uint64_t limit)
{
    struct put_state *s = w->put;
    uint64_t count = 0, i = 0, last = s->last;
    for (uint32_t k = 0; k < s->go_count; k++)
        count += is_unsaid(s, &s->gos[k]);
    for (uint32_t k = 0; k < s->proc_count; k++)
        count += s->procs[k].state && s->procs[k].stamp != s->stamp;
    put_note_time(s, limit > last ? limit : last + 1); // the stretch at the end
    s->now = s->last;
    s->last = s->gap_after;
    bool is_room = s->gap_size >= count;
    s->gap_size = is_room ? s->gap_size : 0;
    for (uint32_t k = 0; k < s->proc_count; k++)
        if (s->procs[k].state)
            put_announce_proc(w, &s->procs[k]);
    for (uint32_t k = 0; k < s->go_count; k++) {
        if (!is_unsaid(s, &s->gos[k]))
            continue;
        if (!is_room)
            s->last =
                s->begin + (uint64_t)((double)(last - s->begin) * (double)++i / (double)count);
        put_announce_go(w, &s->gos[k]);
    }
    s->last = s->gap_after > s->last ? s->gap_after : s->last;
    s->last = last > s->last ? last : s->last;
}

static void end(struct trace_writer *w, uint64_t limit)
{
    struct put_state *s = w->put;
    announce_rest(w, limit);
    pay_anyhow(w);
    struct trace_writer_clock clock = clock_at(w, s->begin);
    trace_writer_end(w, &clock);
}

void put_sync(struct trace_writer *w, const struct trace_event *ev, bool is_late)
{
    struct put_state *s = w->put;
    uint64_t size = w->bytes - w->generation_start;
    if (is_late || !ev->sync.generation) {
        s->end = s->now;
        s->is_over = true;
    } else if (w->generation && size >= w->options.generation_bytes) {
        uint64_t now = s->now;
        end(w, now);
        put_begin(w, now);
    }
}

// What is so, again, as an event: readers before Go 1.26 (golang.org/x/exp/trace) refuse a generation that has none.
static void say_again(struct trace_writer *w, uint64_t time)
{
    const struct put_state *s = w->put;
    for (uint32_t i = 0; i < s->go_count; i++) {
        const struct put_go *g = &s->gos[i];
        if (!g->is_kept || (g->state != TRACE_GO_WAITING && g->state != TRACE_GO_RUNNABLE))
            continue;
        bool waits = g->state == TRACE_GO_WAITING;
        const uint64_t args[] = {(uint64_t)g->id, UINT64_MAX,
                                 waits ? TRACE_GO_STATUS_WAITING : TRACE_GO_STATUS_RUNNABLE};
        trace_writer_event(w, TRACE_NONE, TRACE_EV_GO_STATUS, time, args);
        return;
    }
    for (uint32_t i = 0; i < s->proc_count; i++) {
        const struct put_proc *p = &s->procs[i];
        bool is_idle = p->state == TRACE_PROC_IDLE;
        bool runs = p->state == TRACE_PROC_RUNNING && p->thread != TRACE_NO_SLOT && !p->in_syscall;
        if ((!is_idle && !runs) || p->is_lost)
            continue;
        const uint64_t args[] = {(uint64_t)p->id,
                                 is_idle ? TRACE_PROC_STATUS_IDLE : TRACE_PROC_STATUS_RUNNING};
        trace_writer_event(w, is_idle ? TRACE_NONE : s->threads[p->thread].id, TRACE_EV_PROC_STATUS,
                           time, args);
        return;
    }
}

static void put_notes(struct trace_writer *w, const struct trace_note *notes, uint32_t count)
{
    char text[TRACE_NOTE_BYTES];
    uint64_t id;
    for (uint32_t i = 0; i < count; i++) {
        size_t n = trace_note_write(text, &notes[i]);
        trace_writer_string(w, text, n, &id);
    }
}

// The end of a range in which nothing happens any more: the generation's Sync, the event, and the reader's last Sync,
// a nanosecond each.
static void put_end(struct trace_writer *w)
{
    const struct put_state *s = w->put;
    uint64_t end = s->end > s->last + 1 ? s->end : 0;
    uint32_t count;
    const struct trace_note *notes = trace_reader_notes(s->reader, &count);
    if (!end && (count || w->options.note_count))
        end = s->last + 2;
    if (w->error || !end || trace_writer_begin(w, w->last + 1))
        return;
    uint64_t time = end - (s->last + 2 < end ? 2 : 1);
    say_again(w, time);
    put_notes(w, notes, count);
    put_notes(w, w->options.notes, w->options.note_count);
    struct trace_writer_clock clock = clock_at(w, time);
    trace_writer_end(w, &clock);
}

int put_finish(struct trace_writer *w)
{
    struct put_state *s = w->put;
    const struct trace_writer_options *o = &w->options;
    // The caller may stop before the Sync behind the range.
    s->end = !s->end && o->to_ns ? put_ticks(w, o->to_ns) : s->end;
    s->now = s->end ? s->end : s->now;
    if (!w->generation && o->from_ns && o->to_ns && s->end >= put_ticks(w, o->to_ns))
        put_begin(w, put_ticks(w, o->from_ns));
    if (!w->generation || w->error)
        return w->error;
    end(w, s->end ? s->end - 1 : s->last);
    put_end(w);
    return w->error;
}
