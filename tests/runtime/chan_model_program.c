// SPDX-License-Identifier: MIT
//
// Makes random programs: see chan_model.h. Not random is only that nobody sends on a closed channel.

#include "tests/runtime/chan_model.h"

#include <string.h>

static uint64_t next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u; // splitmix64
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint32_t below(uint64_t *state, uint32_t n)
{
    return (uint32_t)(next(state) % n);
}

// What one actor may send on; receiving is for all.
static int8_t choose_chan(const struct program *p, uint32_t actor, bool is_send, uint64_t *r)
{
    if (below(r, 16) == 0)
        return -1;
    for (int tries = 0; tries < 8; tries++) {
        uint32_t c = below(r, p->chans);
        if (!is_send || p->actor[actor].sends_on[c])
            return (int8_t)c;
    }
    return -1;
}

static int64_t choose_timeout(uint64_t *r)
{
    uint32_t kind = below(r, 8);
    return kind < 3 ? -1 : kind < 5 ? 0 : 1000 * (1 + (int64_t)below(r, 50));
}

static void make_op(struct program *p, uint32_t actor, struct model_op *op, uint64_t *r)
{
    static const uint8_t kinds[] = {OP_SEND, OP_SEND,   OP_SEND,   OP_RECV, OP_RECV,  OP_RECV,
                                    OP_RECV, OP_SELECT, OP_SELECT, OP_LEN,  OP_YIELD, OP_SLEEP};
    op->kind = kinds[below(r, sizeof kinds)];
    op->timeout_ns = choose_timeout(r);
    op->count = 1;
    if (op->kind == OP_SELECT)
        op->count = (uint8_t)(below(r, 8) ? below(r, 5) : below(r, CASES_MAX + 1));
    for (uint32_t i = 0; i < op->count; i++) {
        bool is_send = op->kind == OP_SEND || (op->kind == OP_SELECT && below(r, 2));
        op->cases[i].is_send = is_send;
        op->cases[i].chan = choose_chan(p, actor, is_send, r);
        // An operation of its own that waits on NULL would end most programs early.
        if (op->kind != OP_SELECT && op->cases[i].chan < 0 && op->timeout_ns < 0 && below(r, 8))
            op->timeout_ns = 0;
    }
}

void program_make(struct program *p, uint64_t seed)
{
    static const uint32_t sizes[] = {0, 1, 4, 8, 16, 24, 100, 3000};
    uint64_t state = seed, *r = &state;
    memset(p, 0, sizeof *p);
    p->chans = 1 + below(r, CHANS_MAX);
    p->actors = 2 + below(r, ACTORS_MAX - 1);
    for (uint32_t c = 0; c < p->chans; c++) {
        struct model_chan *ch = &p->chan[c];
        ch->elem_bytes = sizes[below(r, sizeof sizes / sizeof *sizes)];
        ch->capacity = below(r, 2) ? 0 : 1 + below(r, 4);
        ch->is_closable = below(r, 4) != 0;
        bool is_signal = ch->is_closable && below(r, 3) == 0; // nobody sends, somebody closes
        for (uint32_t a = 0; a < p->actors; a++)
            p->actor[a].sends_on[c] = !is_signal && below(r, 3) != 0;
    }
    for (uint32_t a = 0; a < p->actors; a++) {
        p->actor[a].count = 1 + below(r, OPS_MAX - 1);
        for (uint32_t i = 0; i < p->actor[a].count; i++)
            make_op(p, a, &p->actor[a].ops[i], r);
    }
    for (uint32_t c = 0; c < p->chans; c++) {
        bool has_sender = false;
        for (uint32_t a = 0; a < p->actors; a++)
            has_sender |= p->actor[a].sends_on[c];
        if (!p->chan[c].is_closable || has_sender)
            continue;
        uint32_t a = below(r, p->actors);
        struct model_op *op = &p->actor[a].ops[below(r, p->actor[a].count)];
        if (op->kind == OP_CLOSE)
            continue;
        *op = (struct model_op){.kind = OP_CLOSE, .count = 1, .cases = {{(int8_t)c, false}}};
    }
}

void value_fill(void *p, size_t bytes, uint32_t id)
{
    unsigned char *at = p;
    uint64_t state = id;
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(1 + next(&state) % 255);
}

uint64_t value_hash(const void *p, size_t bytes)
{
    const unsigned char *at = p;
    uint64_t h = 0xcbf29ce484222325u; // FNV-1a
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ at[i]) * 0x100000001b3u;
    return h;
}
