// SPDX-License-Identifier: MIT
//
// gperftools' CPUPROFILE files: machine words, then /proc/PID/maps as text.
//
//   header   0, 3 (words to follow), 0 (version), period in microseconds, 0
//   samples  count, depth, depth addresses, leaf first; callers are return addresses
//   trailer  0, 1, 0
//
// Words are the writer's: 4 or 8 bytes, either byte order. The header tells.

#include "formats/pprof_legacy.h"

#include <errno.h>
#include <string.h>

enum { HEADER_WORDS = 5 };

struct words {
    const unsigned char *at, *end;
    size_t size_bytes;
    bool big_endian;
};

static bool next_word(struct words *w, uint64_t *v)
{
    if ((size_t)(w->end - w->at) < w->size_bytes)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < w->size_bytes; i++) {
        size_t from = w->big_endian ? i : w->size_bytes - 1 - i;
        value = value << 8 | w->at[from];
    }
    w->at += w->size_bytes;
    *v = value;
    return true;
}

static bool header(const struct pprof_input *in, struct words *w, uint64_t *period_us)
{
    for (int form = 0; form < 4; form++) {
        uint64_t v[HEADER_WORDS];
        *w = (struct words){.at = in->data,
                            .end = in->data + in->size,
                            .size_bytes = form & 2 ? 8 : 4,
                            .big_endian = form & 1};
        int i = 0;
        while (i < HEADER_WORDS && next_word(w, &v[i]))
            i++;
        if (i == HEADER_WORDS && v[0] == 0 && v[1] == 3 && v[2] == 0 && v[3] && v[4] == 0) {
            *period_us = v[3];
            return true;
        }
    }
    return false;
}

bool legacy_is_cpu(const struct pprof_input *in)
{
    struct words w;
    uint64_t period;
    return header(in, &w, &period);
}

static int cut_off(struct legacy *g, const struct words *w, const char *what)
{
    g->text.line = (struct span){.s = (const char *)w->at};
    g->text.whole = false;
    return legacy_refuse(g, "sample", "%s", what);
}

static int read_samples(struct legacy *g, struct words *w)
{
    while (w->at < w->end) {
        struct words sample = *w;
        uint64_t count, depth, address = 0;
        if (!next_word(w, &count) || !next_word(w, &depth)) {
            *w = sample;
            return cut_off(g, w, "count or depth");
        }
        if (depth > (size_t)(w->end - w->at) / w->size_bytes) {
            *w = sample;
            return cut_off(g, w, "its stack is longer than the file");
        }
        for (uint64_t i = 0; i < depth; i++) {
            next_word(w, &address);
            if (count == 0 && depth == 1 && address == 0)
                return 0;
            int rc = legacy_push(g, i ? address - 1 : address);
            if (rc)
                return rc;
        }
        int64_t values[] = {(int64_t)count, (int64_t)(count * (uint64_t)g->p->period)};
        int rc = legacy_sample(g, values, 0);
        if (rc)
            return rc;
    }
    return 0;
}

static void drop_frame(struct pprof_sample *s, uint32_t index)
{
    s->location_count--;
    memmove(s->locations + index, s->locations + index + 1,
            (s->location_count - index) * sizeof(struct pprof_location *));
}

// If nearly all samples have the same caller of the leaf, that is the signal handler's frame and
// says nothing. One in 32 may differ.
static bool drop_handler_frame(struct pprof_profile *p)
{
    const struct pprof_location *candidate = NULL;
    size_t votes = 0, have = 0;
    // The only location that can be in more than half of the samples.
    for (size_t i = 0; i < p->sample_count; i++) {
        const struct pprof_sample *s = p->samples[i];
        if (s->location_count < 2)
            continue;
        if (votes == 0)
            candidate = s->locations[1];
        votes += candidate == s->locations[1] ? 1 : (size_t)-1;
    }
    for (size_t i = 0; candidate && i < p->sample_count; i++)
        have += p->samples[i]->location_count > 1 && p->samples[i]->locations[1] == candidate;
    if (!candidate || have < p->sample_count - p->sample_count / 32)
        return false;
    for (size_t i = 0; i < p->sample_count; i++)
        if (p->samples[i]->location_count > 1 && p->samples[i]->locations[1] == candidate)
            drop_frame(p->samples[i], 1);
    return true;
}

// The leaf may be there twice: from the interrupted registers, and from unwinding, less one.
static void drop_double_leaves(struct pprof_profile *p)
{
    for (size_t i = 0; i < p->sample_count; i++) {
        struct pprof_sample *s = p->samples[i];
        if (s->location_count > 1 && s->locations[0]->address == s->locations[1]->address + 1)
            drop_frame(s, 1);
    }
}

int legacy_read_cpu(struct legacy *g)
{
    struct pprof_profile *p = g->p;
    struct words w;
    uint64_t period_us;
    header(g->in, &w, &period_us);
    if (pprof_add_sample_type(p, "samples", "count") ||
        pprof_add_sample_type(p, "cpu", "nanoseconds"))
        return legacy_no_memory(g);
    p->period_type = p->sample_types[1];
    p->period = (int64_t)(period_us * 1000);
    const char *drop = "(ProfileData|CpuProfiler)::.*|__restore(_rt)?|__pthread_sighandler";
    p->drop_frames = pprof_string(p, drop);
    if (!p->drop_frames)
        return legacy_no_memory(g);
    int rc = read_samples(g, &w);
    if (rc && !(rc == -ENODATA && g->in->salvage))
        return rc;
    if (rc)
        g->in->salvaged_samples = p->sample_count;
    // A second frame of the handler may be under the first.
    if (drop_handler_frame(p))
        drop_handler_frame(p);
    g->text.at = rc ? g->text.end : (const char *)w.at;
    g->text.whole = true;
    rc = legacy_maps(g);
    if (rc)
        return rc;
    drop_double_leaves(p);
    return 0;
}
