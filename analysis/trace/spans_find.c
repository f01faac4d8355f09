// SPDX-License-Identifier: MIT
//
// Finding spans in their columns, and what follows from their neighbours. See spans.h.

#include "analysis/trace/spans.h"

uint32_t trace_span_stack(const struct trace_spans *s, uint32_t span)
{
    return s->kinds[s->kind[span]].woken ? 0 : s->stack[span];
}

// The span after this one, if the same event began it.
static uint32_t after(const struct trace_spans *s, uint32_t lane, uint32_t span)
{
    const struct trace_lane *l = &s->lanes[lane];
    bool last = span + 1 >= l->first + l->count;
    return last || trace_span_state(s, span + 1) == TRACE_GO_UNDETERMINED ? TRACE_NO_SPAN
                                                                          : span + 1;
}

uint32_t trace_span_end_stack(const struct trace_spans *s, uint32_t lane, uint32_t span)
{
    uint32_t next = after(s, lane, span);
    return next == TRACE_NO_SPAN ? 0 : s->stack[next];
}

uint32_t trace_span_peer(const struct trace_spans *s, uint32_t lane, uint32_t span)
{
    if (trace_span_state(s, span) != TRACE_GO_WAITING)
        return s->peer[span];
    uint32_t next = after(s, lane, span);
    bool woken = next != TRACE_NO_SPAN && s->kinds[s->kind[next]].woken;
    return woken ? s->peer[next] : TRACE_NO_LANE;
}

uint8_t trace_spans_lane_kind(const struct trace_spans *s, uint32_t lane)
{
    uint8_t kind = TRACE_RESOURCE_GOROUTINE;
    while (kind < TRACE_RESOURCE_THREAD && lane >= s->kind_first[kind + 1])
        kind++;
    return kind;
}

uint32_t trace_spans_lane(const struct trace_spans *s, uint8_t kind, int64_t id)
{
    if (kind < TRACE_RESOURCE_GOROUTINE || kind > TRACE_RESOURCE_THREAD)
        return TRACE_NO_LANE;
    uint32_t low = s->kind_first[kind], end = s->kind_first[kind + 1], high = end;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->lanes[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < end && s->lanes[low].id == id ? low : TRACE_NO_LANE;
}

uint32_t trace_spans_before(const struct trace_spans *s, uint32_t lane, int64_t time_ns)
{
    const struct trace_lane *l = &s->lanes[lane];
    uint32_t low = l->first, high = l->first + l->count; // first with begin >= time
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (trace_span_begin_ns(s, mid) < time_ns)
            low = mid + 1;
        else
            high = mid;
    }
    return low > l->first ? low - 1 : TRACE_NO_SPAN;
}

uint32_t trace_spans_fiber(const struct trace_spans *s, uint32_t span)
{
    // The last lane that begins no later than the span. Which half it is in is not to be foreseen: so without a branch.
    uint32_t at = 0, count = s->kind_first[TRACE_RESOURCE_PROC];
    for (uint32_t half; count > 1; count -= half) {
        half = count / 2;
        at += s->lanes[at + half].first <= span ? half : 0;
    }
    return count ? at : UINT32_MAX;
}

int64_t trace_span_lost_ns(const struct trace_spans *s, uint32_t span)
{
    uint32_t low = 0, high = s->lost_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->lost[mid].span < span)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->lost_count && s->lost[low].span == span ? s->lost[low].time_ns : INT64_MAX;
}

int64_t trace_spans_run_end_ns(const struct trace_spans *s, uint32_t lane, uint32_t run)
{
    uint32_t span = s->runs[run];
    int64_t end_ns = trace_span_end_ns(s, trace_spans_fiber(s, span), span);
    if (trace_spans_lane_kind(s, lane) != TRACE_RESOURCE_PROC)
        return end_ns;
    int64_t lost_ns = trace_span_lost_ns(s, span);
    return lost_ns != INT64_MAX ? lost_ns : end_ns;
}

uint32_t trace_spans_samples(const struct trace_spans *s, uint32_t lane, int64_t begin_ns,
                             int64_t end_ns, uint32_t *count)
{
    uint32_t low = 0, high = s->sample_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct trace_sample *m = &s->samples[mid];
        if (m->lane < lane || (m->lane == lane && m->time_ns < begin_ns))
            low = mid + 1;
        else
            high = mid;
    }
    uint32_t end = low;
    while (end < s->sample_count && s->samples[end].lane == lane &&
           s->samples[end].time_ns < end_ns)
        end++;
    *count = end - low;
    return low;
}

uint32_t trace_spans_log_from(const struct trace_spans *s, uint32_t lane, int64_t time_ns)
{
    uint32_t low = 0, high = s->log_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct trace_log_mark *m = &s->logs[mid];
        if (m->lane < lane || (m->lane == lane && m->time_ns < time_ns))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

uint32_t trace_spans_regions(const struct trace_spans *s, uint32_t lane, uint32_t *count)
{
    uint32_t low = 0, high = s->region_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->regions[mid].lane < lane)
            low = mid + 1;
        else
            high = mid;
    }
    uint32_t end = low;
    while (end < s->region_count && s->regions[end].lane == lane)
        end++;
    *count = end - low;
    return low;
}
