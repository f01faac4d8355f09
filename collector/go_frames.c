// SPDX-License-Identifier: MIT
//
// From Go's table of functions to call frame information: see go_frames.h.

#include "collector/go_frames.h"

#include "unwind/cfi.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAGIC_118 = 0xfffffff0u,
    MAGIC_120 = 0xfffffff1u,
    HEADER_BYTES = 8 + 8 * 8,
    FUNCTIONS_MAX = 1 << 22,
    FRAME_MAX = 1 << 24,
    STEPS_PER_BYTE = 16, // functions share their rows, but not all of them the longest
    STEPS_MAX = 1 << 29,
    NAME_MAX_KNOWN = 64, // longer names are none that matter here
    TEXT_MAX = 1 << 28,  // bytes of code that are searched
    FLAG_TOP_FRAME = 1,
    FLAG_SP_WRITE = 2,
};

enum { // how a function's frames are left
    BY_RSP,
    BY_RBP, // once it has a frame
    BY_RBP_ALWAYS,
    ENDS,
    SIGNAL,
};

enum { HDR_HEAD = 12, PAIR = 8, ENTRY_MAX = 64, ENTRY_HEAD = 4 + 4 + 8 + 8 + 1 };

struct table {
    const struct go_frames_source *source;
    uint64_t functions, text, names, rows, table; // the latter three: offsets
    bool is_118;
    uint64_t steps; // that may still be made
};

struct writer {
    uint8_t *frames, *pairs;
    size_t size, capacity, count, pair_capacity, bytes_max;
    uint64_t cies[3]; // offsets, by kind
    int rc;
};

// --- Reading.

static uint64_t number_at(const struct table *t, uint64_t offset, size_t bytes)
{
    uint64_t v = 0;
    if (offset > t->source->size || bytes > t->source->size - offset)
        return 0;
    memcpy(&v, t->source->bytes + offset, bytes);
    return v;
}

static int read_header(struct table *t, const struct go_frames_source *s)
{
    *t = (struct table){.source = s, .steps = s->size * (uint64_t)STEPS_PER_BYTE};
    if (t->steps > STEPS_MAX)
        t->steps = STEPS_MAX;
    uint64_t magic = number_at(t, 0, 4);
    if (s->size < HEADER_BYTES || (magic != MAGIC_118 && magic != MAGIC_120) || s->bytes[6] != 1 ||
        s->bytes[7] != 8)
        return -ENOENT;
    t->is_118 = magic == MAGIC_118;
    t->functions = number_at(t, 8, 8);
    t->names = number_at(t, 32, 8);
    t->rows = number_at(t, 56, 8);
    t->table = number_at(t, 64, 8);
    if (t->names >= s->size || t->rows >= s->size || t->table >= s->size ||
        t->functions > FUNCTIONS_MAX || t->functions > (s->size - t->table) / 8)
        return -ENOENT;
    return 0;
}

struct function {
    uint64_t start, end;
    uint64_t rows; // offset
    const char *name;
    uint32_t flags;
};

static bool read_function(const struct table *t, uint64_t i, struct function *f)
{
    uint64_t pair = t->table + 8 * i;
    uint64_t at = t->table + number_at(t, pair + 4, 4);
    f->start = t->text + number_at(t, pair, 4);
    f->end = t->text + number_at(t, pair + 8, 4);
    uint64_t rows = number_at(t, at + 16, 4), name = t->names + number_at(t, at + 4, 4);
    f->flags = (uint32_t)number_at(t, at + (t->is_118 ? 37 : 41), 1);
    f->rows = t->rows + rows;
    if (at >= t->source->size || name >= t->source->size || f->end <= f->start)
        return false;
    const char *text = (const char *)t->source->bytes + name;
    uint64_t most = t->source->size - name;
    f->name = memchr(text, 0, most < NAME_MAX_KNOWN ? most : NAME_MAX_KNOWN) ? text : "";
    return rows;
}

static uint32_t varint(const struct table *t, uint64_t *at)
{
    uint32_t v = 0;
    for (unsigned shift = 0; shift < 35 && *at < t->source->size; shift += 7) {
        uint8_t byte = t->source->bytes[(*at)++];
        v |= (uint32_t)(byte & 127) << (shift & 31);
        if (byte < 128)
            break;
    }
    return v;
}

// --- Where the code begins.

enum { GOEXIT_BYTES = 7, SEARCHED_BYTES = 65536 };

// A nop, a call of goexit1, a nop; the call's distance is the linker's.
static void goexit_code(uint8_t code[GOEXIT_BYTES], uint64_t goexit, uint64_t goexit1)
{
    uint32_t distance = (uint32_t)(goexit1 - goexit - 6);
    code[0] = code[6] = 0x90;
    code[1] = 0xe8;
    memcpy(code + 2, &distance, sizeof distance);
}

static bool is_at(const struct go_frames_source *s, uint64_t address, const uint8_t *code)
{
    uint8_t found[GOEXIT_BYTES];
    return !s->read(s->arg, address, found, sizeof found) && !memcmp(found, code, sizeof found);
}

static bool search_text(const struct go_frames_source *s, const uint8_t *code, uint64_t *address)
{
    uint8_t *part = malloc(SEARCHED_BYTES);
    const uint8_t *found = NULL;
    for (uint64_t at = 0; part && !found && at < TEXT_MAX && at + GOEXIT_BYTES <= s->text_size;
         at += SEARCHED_BYTES - GOEXIT_BYTES) {
        uint64_t n = s->text_size - at < SEARCHED_BYTES ? s->text_size - at : SEARCHED_BYTES;
        if (s->read(s->arg, s->text + at, part, n))
            break;
        found = memmem(part, n, code, GOEXIT_BYTES);
        if (found)
            *address = s->text + at + (uint64_t)(found - part);
    }
    free(part);
    return found;
}

// What Go code calls and what assembly does have one name and two entries.
static int find_text(struct table *t)
{
    enum { ENTRIES = 4 };
    const struct go_frames_source *s = t->source;
    uint64_t goexit = UINT64_MAX, goexit1[ENTRIES], n = 0, address;
    for (uint64_t i = 0; i < t->functions; i++) {
        struct function f;
        if (!read_function(t, i, &f))
            continue;
        if (strcmp(f.name, "runtime.goexit") == 0)
            goexit = f.start;
        else if (n < ENTRIES && strncmp(f.name, "runtime.goexit1", 15) == 0)
            goexit1[n++] = f.start;
    }
    for (int pass = 0; pass < 2 && goexit != UINT64_MAX; pass++)
        for (uint64_t i = 0; i < n; i++) {
            uint8_t code[GOEXIT_BYTES];
            goexit_code(code, goexit, goexit1[i]);
            address = s->text + goexit;
            if (pass ? search_text(s, code, &address) : is_at(s, address, code)) {
                t->text = address - goexit;
                return 0;
            }
        }
    return -ENOENT;
}

// --- Writing.

static void put(struct writer *w, uint64_t v, size_t bytes)
{
    if (w->size + bytes > w->capacity)
        return; // reserved before
    memcpy(w->frames + w->size, &v, bytes);
    w->size += bytes;
}

static void put_uleb(struct writer *w, uint64_t v)
{
    for (; v > 127; v >>= 7)
        put(w, (v & 127) | 128, 1);
    put(w, v, 1);
}

static bool reserve(struct writer *w)
{
    if (w->size + ENTRY_MAX > w->capacity && !w->rc) {
        size_t capacity = 2 * w->capacity + 65536;
        uint8_t *grown = realloc(w->frames, capacity);
        w->rc = grown ? 0 : -ENOMEM;
        if (grown) {
            w->frames = grown;
            w->capacity = capacity;
        }
    }
    if (w->size + w->count * PAIR > w->bytes_max && !w->rc)
        w->rc = -ENOSPC;
    return !w->rc;
}

static size_t begin_entry(struct writer *w)
{
    size_t at = w->size;
    put(w, 0, 4);
    return at;
}

static void end_entry(struct writer *w, size_t at)
{
    uint32_t length = (uint32_t)(w->size - at - 4);
    memcpy(w->frames + at, &length, sizeof length);
}

// DWARF 5, 6.4.2, and the LSB's augmentations: R, how addresses are written (whole), S, a signal's frame.
static void put_cie(struct writer *w, unsigned kind, const char *letters, const uint8_t *program,
                    size_t size)
{
    if (!reserve(w))
        return;
    size_t at = begin_entry(w);
    w->cies[kind] = at;
    put(w, 0, 4);
    put(w, 1, 1);
    for (const char *l = letters; *l; l++)
        put(w, (uint8_t)*l, 1);
    put(w, 0, 1);
    put(w, 1, 1);    // code alignment
    put(w, 0x78, 1); // data alignment: -8
    put(w, 16, 1);   // the return address' column
    put(w, 1, 1);
    put(w, 0, 1); // R: absolute
    for (size_t i = 0; i < size; i++)
        put(w, program[i], 1);
    end_entry(w, at);
}

enum { CIE_PLAIN, CIE_RBP, CIE_SIGNAL };

static void put_cies(struct writer *w)
{
    // CFA rsp + 8, return address at CFA - 8.
    static const uint8_t plain[] = {0x0c, 7, 8, 0x80 | 16, 1};
    // CFA rbp + 16, return address at CFA - 8, rbp at CFA - 16.
    static const uint8_t by_rbp[] = {0x0c, 6, 16, 0x80 | 16, 1, 0x80 | 6, 2};
    // struct ucontext at rsp: CFA *(rsp + 160), rbp at rsp + 120, rip at rsp + 168.
    static const uint8_t signal[] = {0x0f, 4, 0x77, 0xa0, 0x01, 0x06, 0x10, 6,    3,   0x77,
                                     0xf8, 0, 0x10, 16,   3,    0x77, 0xa8, 0x01, 0x00};
    put_cie(w, CIE_PLAIN, "zR", plain, sizeof plain);
    // Another stack may lie below: only a signal's frame may lead there.
    put_cie(w, CIE_RBP, "zRS", by_rbp, sizeof by_rbp);
    put_cie(w, CIE_SIGNAL, "zRS", signal, sizeof signal);
}

static bool add_pair(struct writer *w, uint64_t start, uint64_t entry)
{
    if (w->count == w->pair_capacity) {
        size_t capacity = 2 * w->pair_capacity + 4096;
        uint8_t *grown = reallocarray(w->pairs, capacity, 2 * PAIR);
        if (!grown) {
            w->rc = -ENOMEM;
            return false;
        }
        w->pairs = grown;
        w->pair_capacity = capacity;
    }
    memcpy(w->pairs + w->count * 2 * PAIR, &start, PAIR);
    memcpy(w->pairs + w->count++ * 2 * PAIR + PAIR, &entry, PAIR);
    return true;
}

static size_t begin_fde(struct writer *w, unsigned cie, uint64_t start, uint64_t end)
{
    if (!reserve(w) || !add_pair(w, start, w->size))
        return SIZE_MAX;
    size_t at = begin_entry(w);
    put(w, w->size - w->cies[cie], 4);
    put(w, start, 8);
    put(w, end - start, 8);
    put(w, 0, 1);
    return at;
}

static void put_whole(struct writer *w, unsigned cie, const struct function *f)
{
    size_t at = begin_fde(w, cie, f->start, f->end);
    if (at != SIZE_MAX)
        end_entry(w, at);
}

static void put_end(struct writer *w, const struct function *f)
{
    size_t at = begin_fde(w, CIE_PLAIN, f->start, f->end);
    if (at == SIZE_MAX)
        return;
    put(w, 0x07, 1); // undefined
    put(w, 16, 1);
    end_entry(w, at);
}

// --- Functions.

static bool is_one_of(const char *name, const char *const *list)
{
    while (*list && strcmp(*list, name) != 0)
        list++;
    return *list;
}

static int way_out(const struct function *f)
{
    // They switch to the scheduler's stack, where what they call never returns.
    static const char *const ends[] = {"runtime.mcall",  "runtime.morestack", "runtime.gogo",
                                       "runtime.rt0_go", "_rt0_amd64_linux",  NULL};
    static const char *const switches[] = {"runtime.systemstack", "runtime.asmcgocall", NULL};
    if (strcmp(f->name, "runtime.sigreturn__sigaction") == 0 ||
        strcmp(f->name, "runtime.sigreturn") == 0)
        return SIGNAL;
    if (strcmp(f->name, "runtime.sigtramp") == 0) // the kernel calls it as C would
        return BY_RSP;
    if ((f->flags & FLAG_TOP_FRAME) || is_one_of(f->name, ends))
        return ENDS;
    if (is_one_of(f->name, switches))
        return BY_RBP_ALWAYS;
    return f->flags & FLAG_SP_WRITE ? BY_RBP : BY_RSP;
}

// One row's entry: rsp is this far below where it was when the function was called.
static bool put_row(struct writer *w, uint64_t start, uint64_t end, int64_t below, int way)
{
    if (below < 0 || below > FRAME_MAX)
        return false; // the runtime does not know it either
    if (way == BY_RBP && below >= 8) {
        struct function row = {.start = start, .end = end};
        put_whole(w, CIE_RBP, &row);
        return true;
    }
    size_t at = begin_fde(w, CIE_PLAIN, start, end);
    if (at == SIZE_MAX)
        return false;
    put(w, 0x0e, 1); // def_cfa_offset
    put_uleb(w, (uint64_t)below + 8);
    if (below >= 8) { // rbp is what a function pushes first
        put(w, 0x80 | 6, 1);
        put(w, 2, 1);
    }
    end_entry(w, at);
    return true;
}

// Rows of equal rules behind each other are one.
static void put_rows(struct table *t, struct writer *w, const struct function *f, int way)
{
    uint64_t at = f->rows, pc = f->start;
    int64_t value = -1;
    for (bool is_first = true; pc < f->end && at < t->source->size && t->steps; is_first = false) {
        uint32_t change = varint(t, &at);
        if (!change && !is_first)
            return;
        value += change & 1 ? ~(int64_t)(change >> 1) : (int64_t)(change >> 1);
        uint64_t end = pc + varint(t, &at);
        end = end < f->end ? end : f->end;
        t->steps--;
        if (end > pc)
            put_row(w, pc, end, value, way);
        pc = end;
    }
}

static void put_function(struct table *t, struct writer *w, struct function *f)
{
    int way = way_out(f);
    switch (way) {
    case ENDS: put_end(w, f); return;
    case BY_RBP_ALWAYS: put_whole(w, CIE_RBP, f); return;
    case SIGNAL:
        f->start--; // a handler returns to its first byte, and callers are looked up one before
        put_whole(w, CIE_SIGNAL, f);
        return;
    default: put_rows(t, w, f, way);
    }
}

// --- The header: pairs of start and entry, as distances from its address.

static int by_start(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static int put_pairs(uint8_t *out, const struct writer *w, uint64_t from, uint64_t frames)
{
    for (size_t i = 0; i < w->count; i++) {
        uint64_t pair[2];
        memcpy(pair, w->pairs + i * sizeof pair, sizeof pair);
        int64_t start = (int64_t)(pair[0] - from), entry = (int64_t)(frames + pair[1] - from);
        int32_t both[2] = {(int32_t)start, (int32_t)entry};
        if (start != both[0] || entry != both[1])
            return -ENOENT;
        memcpy(out + i * sizeof both, both, sizeof both);
    }
    return 0;
}

static int put_header(struct go_frames *out, const struct writer *w,
                      const struct go_frames_source *s)
{
    static const uint8_t kinds[] = {1, 0x1b, 0x03, 0x3b}; // version; DW_EH_PE_*
    size_t size = HDR_HEAD + w->count * PAIR;
    uint64_t address = s->beside.eh_frame_hdr.size ? s->beside.eh_frame_hdr.address : s->address;
    uint64_t frames = s->beside.eh_frame.size ? s->beside.eh_frame.address : address + size;
    uint32_t to_frames = (uint32_t)(frames - address - 4), count = (uint32_t)w->count;
    out->header_bytes = malloc(size);
    if (!out->header_bytes)
        return -ENOMEM;
    memcpy(out->header_bytes, kinds, sizeof kinds);
    memcpy(out->header_bytes + 4, &to_frames, 4);
    memcpy(out->header_bytes + 8, &count, 4);
    out->tables.eh_frame_hdr = (struct unwind_section){out->header_bytes, size, address};
    out->tables.eh_frame = (struct unwind_section){w->frames, w->size, frames};
    return put_pairs(out->header_bytes + HDR_HEAD, w, address, frames);
}

// The tables that are there, as they are; what is written comes behind them.
static void take_beside(struct writer *w, const struct unwind_tables *b)
{
    const uint8_t *pairs;
    uint64_t count;
    if (!b->eh_frame.size)
        return;
    if (!cfi_header_pairs(b, &pairs, &count)) {
        w->rc = -ENOENT;
        return;
    }
    w->capacity = b->eh_frame.size;
    w->frames = malloc(w->capacity);
    w->rc = w->frames ? 0 : -ENOMEM;
    if (w->rc)
        return;
    memcpy(w->frames, b->eh_frame.data, b->eh_frame.size);
    w->size = b->eh_frame.size;
    for (uint64_t i = 0; i < count && !w->rc; i++) {
        int32_t pair[2];
        memcpy(pair, pairs + 8 * i, sizeof pair);
        uint64_t entry = b->eh_frame_hdr.address + (uint64_t)(int64_t)pair[1];
        add_pair(w, b->eh_frame_hdr.address + (uint64_t)(int64_t)pair[0],
                 entry - b->eh_frame.address);
    }
}

int go_frames_make(struct go_frames *out, const struct go_frames_source *source)
{
    struct table t;
    uint64_t most = INT32_MAX / 2; // distances in the header are signed words
    struct writer w = {.bytes_max = source->bytes_max < most ? source->bytes_max : most};
    *out = (struct go_frames){0};
    int rc = read_header(&t, source);
    if (!rc)
        rc = find_text(&t);
    if (rc)
        return rc;
    take_beside(&w, &source->beside);
    put_cies(&w);
    for (uint64_t i = 0; i < t.functions && !w.rc; i++) {
        struct function f;
        if (read_function(&t, i, &f))
            put_function(&t, &w, &f);
    }
    if (!w.rc && source->beside.eh_frame.size)
        qsort(w.pairs, w.count, 2 * PAIR, by_start);
    out->frame_bytes = w.frames;
    if (!w.rc)
        w.rc = w.count ? put_header(out, &w, source) : -ENOENT;
    free(w.pairs);
    if (w.rc)
        go_frames_finish(out);
    return w.rc;
}

void go_frames_finish(struct go_frames *f)
{
    free(f->header_bytes);
    free(f->frame_bytes);
    *f = (struct go_frames){0};
}
