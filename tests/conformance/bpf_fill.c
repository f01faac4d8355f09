// SPDX-License-Identifier: MIT

#include "tests/conformance/bpf_fill.h"

#include "collector/fibers_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

enum { CHANGES_MIN = 4096, VDSO_BYTES = 16384 };

struct change { // from here on holds the rule
    uint64_t start, end;
    uint32_t rule;
};

struct changes {
    struct fill *fill;
    struct change *all;
    size_t count, capacity;
};

static void die(const char *what)
{
    fprintf(stderr, "bpf_fill: %s\n", what);
    exit(2);
}

void fill_init(struct fill *f, struct bpf_programs *p)
{
    *f = (struct fill){.programs = p, .rule_count = UNWIND_RULE_FIRST};
}

void fill_finish(struct fill *f)
{
    for (uint32_t i = 1; i <= f->file_count; i++)
        perf_elf_finish(&f->tables[i].elf);
}

static uint32_t rule_of(struct fill *f, int status, const struct unwind_row *row)
{
    if (status != UNWIND_OK)
        return status == UNWIND_DECLINED ? UNWIND_RULE_DECLINED : UNWIND_RULE_NOT_COVERED;
    if (row->cfa == UNWIND_CFA_END)
        return UNWIND_RULE_ROOT;
    struct unwind_rule_row r = {
        .cfa = row->cfa,
        .cfa_register = row->cfa_register,
        .rbp = row->rbp,
        .ra = row->ra,
        .rbx = row->rbx,
        .is_signal_frame = row->is_signal_frame,
        .cfa_offset = row->cfa_offset,
        .rbp_offset = row->rbp_offset,
        .ra_offset = row->ra_offset,
        .rbx_offset = row->rbx_offset,
        .cfa_add = row->cfa_add,
    };
    struct unwind_rule_row *rules = bpf_programs_rules(f->programs);
    uint32_t i = UNWIND_RULE_FIRST;
    while (i < f->rule_count && memcmp(&rules[i], &r, sizeof r) != 0)
        i++;
    if (i == UNWIND_RULES_MAX)
        die("too many rules");
    if (i == f->rule_count)
        rules[f->rule_count++] = r;
    return i;
}

static void add_change(struct changes *c, uint64_t start, uint64_t end, uint32_t rule)
{
    if (c->count == c->capacity) {
        c->capacity = c->capacity ? 2 * c->capacity : CHANGES_MIN;
        c->all = realloc(c->all, c->capacity * sizeof *c->all);
        if (!c->all)
            die("out of memory");
    }
    c->all[c->count++] = (struct change){start, end, rule};
}

static int on_row(void *arg, uint64_t start, uint64_t end, int status, const struct unwind_row *row)
{
    struct changes *c = arg;
    if (start < end)
        add_change(c, start, end, rule_of(c->fill, status, row));
    return 0;
}

static int by_start(const void *a, const void *b)
{
    uint64_t x = ((const struct change *)a)->start, y = ((const struct change *)b)->start;
    return (x > y) - (x < y);
}

// The words of a table that is written block by block, of wide rows alone.
struct writer {
    uint32_t *words;
    size_t next; // place of the next row
    size_t capacity;
};

static void write_block(struct writer *w, uint32_t block, const uint32_t *rows, uint32_t n)
{
    size_t page_left = UNWIND_PAGE_WORDS - w->next % UNWIND_PAGE_WORDS;
    if (n > page_left)
        w->next += page_left;
    if (w->next + n > w->capacity || n > UNWIND_BLOCK_ROWS_MAX)
        die("table too large");
    w->words[block] = (uint32_t)(2 * w->next) << UNWIND_PLACE_SHIFT | UNWIND_WIDE | (n - 1);
    memcpy(w->words + w->next, rows, n * sizeof *rows);
    w->next += n;
}

static uint32_t rule_at(const struct changes *c, size_t *at, uint64_t address)
{
    while (*at < c->count && c->all[*at].end <= address)
        ++*at;
    return *at < c->count && c->all[*at].start <= address ? c->all[*at].rule
                                                          : UNWIND_RULE_NOT_COVERED;
}

// One byte after the other: slow, and hard to get wrong.
static void write_blocks(struct writer *w, const struct changes *c, uint64_t start, uint32_t blocks)
{
    size_t at = 0;
    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t rows[UNWIND_BLOCK_BYTES], n = 0;
        for (uint32_t low = 0; low < UNWIND_BLOCK_BYTES; low++) {
            uint32_t rule = rule_at(c, &at, start + (uint64_t)b * UNWIND_BLOCK_BYTES + low);
            if (!n || rows[n - 1] >> 8 != rule)
                rows[n++] = rule << 8 | low;
        }
        write_block(w, b, rows, n);
    }
}

static void make_table(struct fill *f, uint32_t file)
{
    struct changes c = {.fill = f};
    unwind_each_row(&f->tables[file].elf.tables, on_row, &c);
    if (!c.count)
        return;
    qsort(c.all, c.count, sizeof *c.all, by_start);
    uint64_t start = c.all[0].start / UNWIND_BLOCK_BYTES * UNWIND_BLOCK_BYTES;
    uint64_t end = c.all[c.count - 1].end;
    uint32_t blocks = (uint32_t)((end - start + UNWIND_BLOCK_BYTES - 1) / UNWIND_BLOCK_BYTES);
    struct writer w = {.next = blocks, .capacity = 3 * (size_t)blocks + 4 * c.count + 4096};
    w.words = calloc(w.capacity, sizeof *w.words);
    if (!w.words)
        die("out of memory");
    write_blocks(&w, &c, start, blocks);
    uint32_t pages = (uint32_t)((w.next + UNWIND_PAGE_WORDS - 1) / UNWIND_PAGE_WORDS);
    w.words = realloc(w.words, (size_t)pages * UNWIND_PAGE_BYTES);
    if (!w.words || bpf_programs_table(f->programs, file, w.words, pages))
        die("cannot make a table");
    f->tables[file].start = start;
    f->tables[file].blocks = blocks;
    free(w.words);
    free(c.all);
}

static uint32_t file_of(struct fill *f, const struct code_file *cf)
{
    for (uint32_t i = 1; i <= f->file_count; i++)
        if (f->files[i] == cf)
            return i;
    if (++f->file_count == FILL_FILES_MAX)
        die("too many files");
    uint32_t i = f->file_count;
    f->files[i] = cf;
    struct perf_elf_source source = {.fd = cf->fd};
    if (cf->is_vdso)
        source = (struct perf_elf_source){
            .fd = -1,
            .bytes = (const void *)(uintptr_t)getauxval(AT_SYSINFO_EHDR),
            .size = VDSO_BYTES,
        };
    if (perf_elf_load(&f->tables[i].elf, &source) == 0)
        make_table(f, i);
    return i;
}

static struct bpf_mapping mapping_of(struct fill *f, const struct code_map *map)
{
    struct bpf_mapping m = {.start = map->start, .end = map->end};
    uint64_t bias;
    uint32_t file = map->file ? file_of(f, map->file) : 0;
    if (file && f->tables[file].blocks &&
        !perf_elf_bias(&f->tables[file].elf, map->start, map->offset, &bias)) {
        m.file = file;
        m.blocks = f->tables[file].blocks;
        m.table_start = f->tables[file].start + bias;
    }
    return m;
}

void fill_slot(struct fill *f, uint32_t slot, const struct perf_process *p)
{
    static struct bpf_mapping made[BPF_SLOT_CHUNKS * BPF_CHUNK_MAPPINGS];
    struct bpf_slot *s = bpf_programs_slots(f->programs) + slot;
    struct bpf_chunk *chunks = bpf_programs_chunks(f->programs);
    if (p->map_count > sizeof made / sizeof made[0])
        die("too many mappings");
    for (size_t i = 0; i < p->map_count; i++)
        made[i] = mapping_of(f, &p->maps[i]);

    __atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_SEQ_CST);
    memset(s->first, 0xff, sizeof s->first);
    for (uint32_t i = 0; i < BPF_SLOT_CHUNKS; i++) {
        s->chunk[i] = slot * BPF_SLOT_CHUNKS + i;
        memset(&chunks[s->chunk[i]], 0xff, sizeof chunks[0]); // unused: above every pc
    }
    for (size_t i = 0; i < p->map_count; i++) {
        uint32_t chunk = (uint32_t)i / BPF_CHUNK_MAPPINGS;
        chunks[s->chunk[chunk]].mappings[i % BPF_CHUNK_MAPPINGS] = made[i];
        if (i % BPF_CHUNK_MAPPINGS == 0)
            s->first[chunk] = made[i].start;
    }
    s->count = (uint32_t)p->map_count;
    s->generation = ++f->generation;
    __atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_SEQ_CST);
}

void fill_fibers(struct fill *f, uint32_t slot, uint32_t pid)
{
    struct bpf_slot *s = bpf_programs_slots(f->programs) + slot;
    struct target *t;
    struct fibers *fibers;
    struct fscope_error err;
    if (s->fibers.is_there || target_open_pid(&t, pid, &err))
        return;
    if (fibers_open(&fibers, t, &err) == 0) {
        const struct fib_descriptor *d = &fibers->d;
        __atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_SEQ_CST);
        s->fibers = (struct bpf_fibers){
            .tls_offset = d->tls_offset,
            .labels = d->labels,
            .is_there = 1,
            .m_g0 = d->m_g0,
            .g_id = d->g_id,
            .g_fn = d->g_fn,
            .g_labels = d->g_labels,
            .g_flags = d->g_flags,
            .g_live = d->g_live,
            .g_name = d->g_name,
            .live_name = d->live_name,
            .label_set_size = d->label_set_size,
            .label_sets = d->label_sets,
        };
        __atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_SEQ_CST);
        fibers_close(fibers);
    }
    target_close(t);
}
