// SPDX-License-Identifier: MIT
//
// What must hold: a compact unwind table, read as unwind_layout.h says and by nothing else, leads a walk from each pc to
// where unwind_find_row's row leads it. Compared are the registers after a step over made-up memory, at each row's first
// and last pc, one before it, and at random pcs. cfi_rows compares unwind_find_row with libdw.
//
// Usage: unwind_rows FILE ...

#include "symbols/unwind_table.h"
#include "unwind/step.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RANDOM_PCS = 20000, SHOWN_MAX = 20 };

struct check {
    const char *path;
    struct unwind_tables tables;
    struct unwind_table table;
    struct unwind_rules *rules;
    uint64_t low, high; // of code
    unsigned long rows, pcs, padding, different;
    bool is_quiet;
};

static void section(Elf *elf, const char *name, struct unwind_section *out)
{
    size_t names;
    if (elf_getshdrstrndx(elf, &names))
        return;
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn));) {
        GElf_Shdr sh;
        Elf_Data *data;
        if (!gelf_getshdr(scn, &sh) || strcmp(elf_strptr(elf, names, sh.sh_name), name) != 0)
            continue;
        data = elf_rawdata(scn, NULL);
        if (data)
            *out = (struct unwind_section){data->d_buf, data->d_size, sh.sh_addr};
    }
}

// --- The table, as BPF reads it.

struct block {
    const uint16_t *halves;
    uint32_t rows;
    bool is_wide;
};

static struct block block_at(const struct unwind_table *t, uint64_t pc)
{
    uint32_t word = t->words[(pc - t->start) / UNWIND_BLOCK_BYTES];
    return (struct block){(const uint16_t *)(const void *)t->words + (word >> 8), (word & 127) + 1,
                          word >> 7 & 1};
}

static uint32_t row_at(const struct block *b, uint32_t i)
{
    uint32_t wide;
    if (!b->is_wide)
        return b->halves[i];
    memcpy(&wide, b->halves + (size_t)2 * i, sizeof wide);
    return wide;
}

static uint32_t rule_at(const struct unwind_table *t, uint64_t pc)
{
    if (pc < t->start || (pc - t->start) / UNWIND_BLOCK_BYTES >= t->blocks)
        return UNWIND_RULE_NOT_COVERED;
    struct block b = block_at(t, pc);
    uint32_t low = 0, high = b.rows; // the row is in [low, high)
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if ((row_at(&b, middle) & 255) <= (pc & 255))
            low = middle;
        else
            high = middle;
    }
    return row_at(&b, low) >> 8;
}

// What the layout promises of each block.
static bool is_sound(const struct check *c, uint64_t pc)
{
    const struct unwind_table *t = &c->table;
    struct block b = block_at(t, pc);
    uint64_t at = (uint64_t)(b.halves - (const uint16_t *)(const void *)t->words);
    uint32_t size = b.is_wide ? 2 : 1;
    bool ok = at >= 2 * (uint64_t)t->blocks && at % size == 0 &&
              at + (uint64_t)size * b.rows <= (uint64_t)t->pages * UNWIND_PAGE_HALVES &&
              at / UNWIND_PAGE_HALVES == (at + (uint64_t)size * b.rows - 1) / UNWIND_PAGE_HALVES &&
              (row_at(&b, 0) & 255) == 0;
    for (uint32_t i = 1; ok && i < b.rows; i++)
        ok = (row_at(&b, i) & 255) > (row_at(&b, i - 1) & 255) &&
             row_at(&b, i) >> 8 != row_at(&b, i - 1) >> 8;
    for (uint32_t i = 0; ok && i < b.rows; i++)
        ok = row_at(&b, i) >> 8 < UNWIND_RULES_MAX;
    return ok;
}

// --- Steps over made-up memory.

static int load(void *arg, uint64_t address, uint64_t *value)
{
    (void)arg;
    uint64_t h = address * UINT64_C(0x9e3779b97f4a7c15);
    *value = h ^ h >> 32;
    return h >> 60 == 0; // one word in 16 is not there
}

static struct unwind_row row_of(const struct unwind_rule_row *r)
{
    return (struct unwind_row){
        .cfa = r->cfa,
        .cfa_register = r->cfa_register,
        .rbp = r->rbp,
        .ra = r->ra,
        .rbx = r->rbx,
        .is_signal_frame = r->is_signal_frame,
        .cfa_offset = r->cfa_offset,
        .rbp_offset = r->rbp_offset,
        .ra_offset = r->ra_offset,
        .rbx_offset = r->rbx_offset,
        .cfa_add = r->cfa_add,
    };
}

static bool same_registers(const struct unwind_registers *a, const struct unwind_registers *b)
{
    bool same = a->rip == b->rip && a->rbp == b->rbp && a->rsp == b->rsp && a->valid == b->valid;
    for (unsigned i = 0; i < 17; i++)
        same = same && (!(a->valid >> i & 1) || a->other[i] == b->other[i]);
    return same;
}

static bool same_steps(const struct unwind_row *a, const struct unwind_row *b, uint64_t pc)
{
    static const uint32_t valid[] = {0, 1u << UNWIND_RBX, 0x1ffff};
    if (a->is_signal_frame != b->is_signal_frame)
        return false;
    for (unsigned i = 0; i < 12; i++) {
        struct unwind_registers x = {.rip = pc, .rbp = pc * 77 + 8 * i, .rsp = pc * 33 + 16 * i};
        x.valid = valid[i % 3];
        for (unsigned r = 0; r < 17; r++)
            x.other[r] = pc * 5 + r * 1001 + i;
        struct unwind_registers y = x;
        int failed = unwind_step(a, &x, load, NULL);
        if (failed != unwind_step(b, &y, load, NULL) || (!failed && !same_registers(&x, &y)))
            return false;
    }
    return true;
}

// --- Comparing.

static bool is_same(const struct check *c, uint64_t pc, int status, const struct unwind_row *row,
                    uint32_t rule)
{
    switch (status) {
    case UNWIND_OK:
        if (row->cfa == UNWIND_CFA_END || rule == UNWIND_RULE_ROOT)
            return row->cfa == UNWIND_CFA_END && rule == UNWIND_RULE_ROOT;
        if (rule < UNWIND_RULE_FIRST)
            return false;
        struct unwind_row ours = row_of(unwind_rules_row(c->rules, rule));
        return same_steps(row, &ours, pc);
    case UNWIND_DECLINED: return rule == UNWIND_RULE_DECLINED;
    default: return rule == UNWIND_RULE_NOT_COVERED;
    }
}

static int find(const struct check *c, uint64_t pc, struct unwind_row *row)
{
    int status = unwind_find_row(&c->tables, pc, row);
    return status == UNWIND_MALFORMED ? UNWIND_NOT_COVERED : status;
}

// Whether pc is in a hole of at most UNWIND_PADDING_MAX bytes with this rule before it.
static bool is_padding(const struct check *c, uint64_t pc, uint32_t rule)
{
    struct unwind_row row;
    uint64_t before = pc, behind = pc;
    while (pc - before <= UNWIND_PADDING_MAX && find(c, before, &row) == UNWIND_NOT_COVERED)
        before--;
    while (behind - before <= UNWIND_PADDING_MAX + 1 && find(c, behind, &row) == UNWIND_NOT_COVERED)
        behind++;
    int status = find(c, before, &row);
    return behind - before <= UNWIND_PADDING_MAX + 1 && is_same(c, before, status, &row, rule);
}

static void check_pc(struct check *c, uint64_t pc)
{
    struct unwind_row row;
    int status = find(c, pc, &row);
    uint32_t rule = rule_at(&c->table, pc);
    c->pcs++;
    if (is_same(c, pc, status, &row, rule))
        return;
    if (status == UNWIND_NOT_COVERED && is_padding(c, pc, rule)) {
        c->padding++;
        return;
    }
    if (c->different++ < SHOWN_MAX && !c->is_quiet)
        printf("%s: pc %#" PRIx64
               ": look-up gives status %d, cfa %d %+d; table rule %u, cfa %d %+d\n",
               c->path, pc, status, row.cfa, row.cfa_offset, rule,
               unwind_rules_row(c->rules, rule)->cfa, unwind_rules_row(c->rules, rule)->cfa_offset);
}

static int check_row(void *arg, uint64_t start, uint64_t end, int status,
                     const struct unwind_row *row)
{
    struct check *c = arg;
    (void)status;
    (void)row;
    c->rows++;
    check_pc(c, start - 1);
    check_pc(c, start);
    check_pc(c, end - 1);
    check_pc(c, end);
    c->low = start < c->low ? start : c->low;
    c->high = end > c->high ? end : c->high;
    return 0;
}

static int count_row(void *arg, uint64_t start, uint64_t end, int status,
                     const struct unwind_row *row)
{
    struct check *c = arg;
    (void)start;
    (void)end;
    (void)status;
    (void)row;
    c->rows++;
    return 0;
}

static void check_random(struct check *c)
{
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < RANDOM_PCS; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        check_pc(c, c->low - 4096 + seed % (c->high - c->low + 8192));
    }
}

// A comparison that could not fail would be none: with one row taken away some pc must differ.
static bool notices(struct check *c)
{
    struct check twin = *c;
    uint64_t middle = c->low + (c->high - c->low) / 2;
    for (uint32_t b = (uint32_t)((middle - c->table.start) / UNWIND_BLOCK_BYTES);
         b < c->table.blocks; b++) {
        uint32_t *word = &c->table.words[b], saved = *word;
        if (!(saved & UNWIND_MORE_ROWS))
            continue;
        *word = saved & ~(uint32_t)UNWIND_MORE_ROWS;
        twin.different = 0;
        twin.is_quiet = true;
        for (uint32_t i = 0; i < UNWIND_BLOCK_BYTES; i++)
            check_pc(&twin, c->table.start + (uint64_t)b * UNWIND_BLOCK_BYTES + i);
        *word = saved;
        return twin.different > 0;
    }
    return true; // nothing but whole blocks
}

static bool check_table(struct check *c)
{
    struct unwind_table_source source = {.name = c->path, .tables = c->tables, .end = UINT64_MAX};
    struct fscope_error err;
    c->low = UINT64_MAX;
    int made = unwind_table_make(&c->table, &source, c->rules, &err);
    if (made) {
        printf("%s\n", err.text); // fine where there is nothing to be found
        return made == -ENOENT && !unwind_each_row(&c->tables, count_row, c) && c->rows == 0;
    }
    for (uint32_t i = 0; i < c->table.blocks; i++)
        if (!is_sound(c, c->table.start + (uint64_t)i * UNWIND_BLOCK_BYTES)) {
            printf("%s: block %u is not as the layout says\n", c->path, i);
            return false;
        }
    int rc = unwind_each_row(&c->tables, check_row, c);
    check_random(c);
    bool ok = rc == UNWIND_OK && c->rows > 0 && c->different == 0 && !c->table.partial;
    if (!notices(c)) {
        printf("%s: a table without a row passes\n", c->path);
        ok = false;
    }
    printf("%s: %lu rows, %lu pcs compared, %lu in padding, %.1f KiB for a MiB of code, %u rules, "
           "%lu differences%s%s\n",
           c->path, c->rows, c->pcs, c->padding,
           (double)c->table.pages * UNWIND_PAGE_BYTES * 1024 / (double)c->table.text_bytes,
           unwind_rules_count(c->rules), c->different, c->table.partial ? ", partial: " : "",
           c->table.partial ? c->table.partial : "");
    return ok;
}

static bool check_file(const char *path, struct unwind_rules *rules)
{
    struct check c = {.path = path, .rules = rules};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    Elf *elf = fd < 0 ? NULL : elf_begin(fd, ELF_C_READ_MMAP, NULL);
    bool ok = false;
    if (!elf) {
        printf("%s: cannot be read: %s\n", path, strerror(errno));
    } else {
        section(elf, ".eh_frame", &c.tables.eh_frame);
        section(elf, ".eh_frame_hdr", &c.tables.eh_frame_hdr);
        ok = check_table(&c);
    }
    unwind_table_finish(&c.table);
    elf_end(elf);
    if (fd >= 0)
        close(fd);
    return ok;
}

int main(int argc, char **argv)
{
    bool ok = argc > 1;
    struct unwind_rules *rules;
    elf_version(EV_CURRENT);
    if (unwind_rules_new(&rules, NULL))
        return 1;
    for (int i = 1; i < argc; i++)
        ok = check_file(argv[i], rules) && ok;
    unwind_rules_free(rules);
    return ok ? 0 : 1;
}
