// SPDX-License-Identifier: MIT
//
// Label sets: interned in a fixed table, never freed, so that an index stands for a set wherever it is read:
// by children, samplers, debuggers. See descriptor.h.

#include "runtime/labels.h"
#include "runtime/core.h"
#include "runtime/trace.h"

#include <errno.h>
#include <string.h>

struct label_table fib_label_table;
static struct rt_lock lock;

static void copy(char *to, const char *from)
{
    strncpy(to, from, LABEL_SIZE - 1);
    to[LABEL_SIZE - 1] = 0;
}

// Of the pairs that there are, in words: what is behind a text is zero.
static uint64_t hash_of(const struct label_set *set)
{
    uint64_t hash = set->count, word;
    const char *at = (const char *)set->pairs, *end = (const char *)&set->pairs[set->count];
    for (; at < end; at += sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = ((hash << 7 | hash >> 57) ^ word) * UINT64_C(0xD6E8FEB86659FD93);
    }
    return hash ^ hash >> 32;
}

// The index of the set, made if need be; -ENOSPC.
static int32_t intern(const struct label_set *set)
{
    uint32_t i = (uint32_t)(hash_of(set) >> 40) % LABEL_SETS;
    for (uint32_t n = 0; n < LABEL_SETS; n++, i = (i + 1) % LABEL_SETS) {
        if (i == 0)
            continue; // no labels
        struct label_set *s = &fib_label_table.sets[i];
        // acquire: pairs with the release below
        if (!atomic_load_explicit(&s->count, memory_order_acquire)) {
            memcpy(s->pairs, set->pairs, sizeof s->pairs);
            atomic_store_explicit(&s->count, set->count, memory_order_release);
            return (int32_t)i;
        }
        if (!memcmp(s->pairs, set->pairs, sizeof s->pairs))
            return (int32_t)i;
    }
    return -ENOSPC;
}

static void change(struct label_set *set, const char *key, const char *value)
{
    uint32_t n = set->count, at = 0;
    while (at < n && strncmp(set->pairs[at].key, key, LABEL_SIZE - 1) < 0)
        at++; // sorted: the same labels are the same set
    bool is_there = at < n && !strncmp(set->pairs[at].key, key, LABEL_SIZE - 1);
    if (!value) {
        if (!is_there)
            return;
        memmove(&set->pairs[at], &set->pairs[at + 1], (n - at - 1) * sizeof set->pairs[0]);
        memset(&set->pairs[n - 1], 0, sizeof set->pairs[0]);
        set->count = n - 1;
        return;
    }
    if (!is_there) {
        if (n == LABEL_PAIRS)
            return;
        memmove(&set->pairs[at + 1], &set->pairs[at], (n - at) * sizeof set->pairs[0]);
        memset(&set->pairs[at], 0, sizeof set->pairs[0]);
        copy(set->pairs[at].key, key);
        set->count = n + 1;
    }
    memset(set->pairs[at].value, 0, LABEL_SIZE);
    copy(set->pairs[at].value, value);
}

static __attribute__((noinline)) uint32_t write_text(const struct label_set *s)
{
    char text[LABEL_PAIRS * 2 * LABEL_SIZE];
    size_t n = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct label_pair *p = &s->pairs[i];
        size_t key = strlen(p->key), value = strlen(p->value);
        if (i)
            text[n++] = ',';
        memcpy(text + n, p->key, key);
        text[n + key] = '=';
        memcpy(text + n + key + 1, p->value, value);
        n += key + 1 + value;
    }
    return emit_string(text, n);
}

// A trace has a set as `key=value,...`: the id of that text, which is written once; 0 of none.
static uint32_t text_of(int32_t set)
{
    static _Atomic uint64_t known[LABEL_SETS]; // the session << 32 | id
    if (!set)
        return 0;
    uint32_t session = (uint32_t)emit_session(); // of another one: of another segment, perhaps
    uint64_t was = atomic_load_explicit(&known[set], memory_order_relaxed);
    if (was >> 32 == session && (uint32_t)was)
        return (uint32_t)was;
    uint32_t id = write_text(&fib_label_table.sets[set]);
    if (id) // else there is no room, for now
        atomic_store_explicit(&known[set], (uint64_t)session << 32 | id, memory_order_relaxed);
    return id;
}

// The set of a running fiber or of the calling thread.
static void change_to(struct g *g, int32_t set)
{
    struct m *m = this_m();
    g->labels = set;
    if (!m || !emit_is_on())
        return;
    uint32_t text = text_of(set);
    trans_begin(m);
    trace_label_(m, text);
    trans_end(m);
}

FIB_PUBLIC int32_t fib_label_set(const char *key, const char *value)
{
    struct g *g = this_g();
    int32_t before = g->labels;
    if (!key || !*key)
        return -EINVAL;
    struct label_set set;
    memcpy(&set, &fib_label_table.sets[before], sizeof set);
    if (!before)
        memset(&set, 0, sizeof set);
    change(&set, key, value);
    int32_t now = 0;
    if (set.count) {
        rt_lock(&lock);
        now = intern(&set);
        rt_unlock(&lock);
    }
    if (now < 0)
        return now;
    change_to(g, now);
    return before;
}

FIB_PUBLIC void fib_labels_restore(int32_t before)
{
    if (before >= 0 && before < LABEL_SETS)
        change_to(this_g(), before);
}
