// SPDX-License-Identifier: MIT
//
// Line tables, read whole when a unit's first address is asked for.
//
// Rows are in libdw's order: by address, at one address the end of a sequence first, else as written.
// Programs mostly write them so; what is not is merged from its sorted runs.

#include "symbols/reader.h"

#include <dwarf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { ENTRY_FORMATS_MAX = 255, FILE_BYTES = 8192, ROW_END = UINT16_MAX };

struct line_row {
    uint64_t address;
    uint32_t line;
    uint16_t column;
    uint16_t file; // ROW_END: the end of a sequence
};

struct line_name {
    const char *name;
    uint32_t dir;
    const char *path; // interned, NULL: not asked for yet
};

struct line_table {
    uint64_t offset;
    struct line_row *rows;
    size_t row_count;
    struct line_name *dirs, *files;
    uint32_t dir_count, file_count, dir_capacity, file_capacity;
    bool is_broken, is_v5;
};

struct line_header {
    struct cursor c; // ends where the table ends
    const uint8_t *program;
    unsigned int version;
    uint8_t min_bytes, line_range, opcode_base;
    int8_t line_base;
    const uint8_t *operands; // [opcode_base - 1]
};

static int add_name(struct line_name **names, uint32_t *count, uint32_t *capacity,
                    struct line_name name)
{
    if (*count == *capacity) {
        uint32_t more = *capacity ? 2 * *capacity : 16;
        struct line_name *p = realloc(*names, more * sizeof *p);
        if (!p)
            return -ENOMEM;
        *names = p;
        *capacity = more;
    }
    (*names)[(*count)++] = name;
    return 0;
}

static int add_file(struct line_table *t, struct line_name name)
{
    return add_name(&t->files, &t->file_count, &t->file_capacity, name);
}

static int add_dir(struct line_table *t, struct line_name name)
{
    return add_name(&t->dirs, &t->dir_count, &t->dir_capacity, name);
}

// Directories and files of versions 2 to 4: strings up to an empty one. Directory 0 is the unit's,
// there is no file 0.
static int read_names_old(struct line_table *t, struct line_header *h, const char *directory)
{
    int rc = add_dir(t, (struct line_name){.name = directory});
    const char *s;
    while (!rc && (s = cursor_string(&h->c)) && *s)
        rc = add_dir(t, (struct line_name){.name = s});
    if (!rc)
        rc = add_file(t, (struct line_name){.name = "???"});
    while (!rc && (s = cursor_string(&h->c)) && *s) {
        struct line_name file = {.name = s, .dir = (uint32_t)cursor_uleb(&h->c)};
        cursor_uleb(&h->c); // time
        cursor_uleb(&h->c); // length
        rc = add_file(t, file);
    }
    return rc;
}

static int read_entries(struct line_table *t, struct reader_unit *u, struct cursor *c,
                        bool are_dirs)
{
    struct abbrev_attr formats[ENTRY_FORMATS_MAX];
    unsigned int n = (unsigned int)cursor_fixed(c, 1);
    for (unsigned int i = 0; i < n; i++) {
        formats[i].name = (uint16_t)cursor_uleb(c);
        formats[i].form = (uint16_t)cursor_uleb(c);
        formats[i].constant = 0;
    }
    uint64_t count = cursor_uleb(c);
    if (n == 0)
        return 0;
    int rc = 0;
    for (uint64_t i = 0; i < count && !c->is_failed && !rc; i++) {
        struct line_name entry = {.name = "???"};
        const uint8_t *before = c->at;
        for (unsigned int k = 0; k < n; k++) {
            struct die_value v;
            die_value_read(c, &formats[k], &v);
            if (formats[k].name == DW_LNCT_path)
                entry.name = die_text(u, &v);
            else if (formats[k].name == DW_LNCT_directory_index)
                entry.dir = (uint32_t)v.number;
        }
        if (c->at == before) // takes no bytes: count is no bound
            cursor_fail(c);
        rc = are_dirs ? add_dir(t, entry) : add_file(t, entry);
    }
    return rc;
}

static bool read_header(struct reader_bytes section, uint64_t offset, struct line_header *h)
{
    if (offset >= section.size)
        return false;
    h->c = (struct cursor){.at = section.at + offset, .end = section.at + section.size};
    uint64_t length = cursor_fixed(&h->c, 4);
    if (length > (uint64_t)(h->c.end - h->c.at))
        return false;
    h->c.end = h->c.at + length;
    h->version = (unsigned int)cursor_fixed(&h->c, 2);
    if (h->version < 2 || h->version > 5)
        return false;
    if (h->version == 5 && (cursor_fixed(&h->c, 1) != 8 || cursor_fixed(&h->c, 1) != 0))
        return false;
    uint64_t to_program = cursor_fixed(&h->c, 4);
    if (to_program > (uint64_t)(h->c.end - h->c.at))
        return false;
    h->program = h->c.at + to_program;
    h->min_bytes = (uint8_t)cursor_fixed(&h->c, 1);
    if (h->version >= 4 && cursor_fixed(&h->c, 1) != 1)
        return false;       // several operations in one instruction: not on this processor
    cursor_fixed(&h->c, 1); // whether rows begin statements
    h->line_base = (int8_t)cursor_fixed(&h->c, 1);
    h->line_range = (uint8_t)cursor_fixed(&h->c, 1);
    h->opcode_base = (uint8_t)cursor_fixed(&h->c, 1);
    if (!h->opcode_base)
        return false;
    h->operands = h->c.at;
    cursor_skip(&h->c, h->opcode_base - 1u);
    return !h->c.is_failed;
}

// --- The program.

struct machine {
    struct reader *r;
    struct line_table *t;
    const struct line_header *h;
    struct cursor c;
    uint64_t address, file, line, column;
};

static void machine_reset(struct machine *m)
{
    m->address = 0;
    m->file = m->line = 1;
    m->column = 0;
}

static int more_rows(struct reader *r)
{
    size_t capacity = r->row_scratch_capacity ? 2 * r->row_scratch_capacity : 1 << 12;
    struct line_row *more = realloc(r->row_scratch, capacity * sizeof *more);
    if (!more)
        return -ENOMEM;
    r->row_scratch = more;
    r->row_scratch_capacity = capacity;
    return 0;
}

static inline int add_row(struct machine *m, bool is_end)
{
    size_t n = m->t->row_count;
    if (n == m->r->row_scratch_capacity && more_rows(m->r))
        return -ENOMEM;
    m->r->row_scratch[n] = (struct line_row){.address = m->address,
                                             .line = (uint32_t)m->line,
                                             .column = (uint16_t)m->column,
                                             .file = is_end ? ROW_END : (uint16_t)m->file};
    m->t->row_count = n + 1;
    return 0;
}

// libdw refuses a whole table for a value that its own rows cannot hold.
static void check(struct machine *m, uint64_t value, uint64_t max)
{
    if (value > max)
        m->t->is_broken = true;
}

static int run_extended(struct machine *m)
{
    uint64_t length = cursor_uleb(&m->c);
    if (!length || length > (uint64_t)(m->c.end - m->c.at)) {
        cursor_fail(&m->c);
        return 0;
    }
    struct cursor c = {.at = m->c.at, .end = m->c.at + length};
    m->c.at += length;
    int rc = 0;
    switch (cursor_fixed(&c, 1)) {
    case DW_LNE_end_sequence:
        rc = add_row(m, true);
        machine_reset(m);
        break;
    case DW_LNE_set_address: m->address = cursor_fixed(&c, 8); break;
    default: break; // discriminators; files defined late are not written any more
    }
    return rc;
}

static int run_standard(struct machine *m, unsigned int opcode)
{
    const struct line_header *h = m->h;
    switch (opcode) {
    case DW_LNS_copy: return add_row(m, false);
    case DW_LNS_advance_pc: m->address += cursor_uleb(&m->c) * h->min_bytes; return 0;
    case DW_LNS_advance_line:
        m->line = (uint32_t)(m->line + (uint64_t)cursor_sleb(&m->c));
        return 0;
    case DW_LNS_set_file:
        m->file = cursor_uleb(&m->c);
        check(m, m->file, ROW_END - 1);
        return 0;
    case DW_LNS_set_column:
        m->column = cursor_uleb(&m->c);
        check(m, m->column, UINT16_MAX);
        return 0;
    case DW_LNS_const_add_pc:
        m->address += (255u - h->opcode_base) / h->line_range * (uint64_t)h->min_bytes;
        return 0;
    case DW_LNS_fixed_advance_pc: m->address += cursor_fixed(&m->c, 2); return 0;
    case DW_LNS_negate_stmt:
    case DW_LNS_set_basic_block:
    case DW_LNS_set_prologue_end:
    case DW_LNS_set_epilogue_begin: return 0;
    default: // DW_LNS_set_isa and those to come
        for (unsigned int i = 0; i < h->operands[opcode - 1]; i++)
            cursor_uleb(&m->c);
        return 0;
    }
}

static int run_program(struct reader *r, struct line_table *t, const struct line_header *h)
{
    struct machine m = {.r = r, .t = t, .h = h, .c = {.at = h->program, .end = h->c.end}};
    machine_reset(&m);
    int rc = 0;
    // What each special opcode adds: the division is slow, and most of them are special.
    uint8_t advances[256];
    for (unsigned int i = 0; i < 256u - h->opcode_base; i++)
        advances[i] = (uint8_t)(i / h->line_range);
    while (m.c.at < m.c.end && !rc) {
        unsigned int opcode = *m.c.at++;
        if (opcode >= h->opcode_base) {
            unsigned int adjusted = opcode - h->opcode_base, advance = advances[adjusted];
            m.address += advance * (uint64_t)h->min_bytes;
            m.line = (uint32_t)(m.line + (uint64_t)(h->line_base +
                                                    (int)(adjusted - advance * h->line_range)));
            rc = add_row(&m, false);
        } else if (opcode) {
            rc = run_standard(&m, opcode);
        } else {
            rc = run_extended(&m);
        }
    }
    if (m.c.is_failed)
        t->is_broken = true;
    return rc;
}

// --- Order.

static bool is_after(const struct line_row *a, const struct line_row *b)
{
    if (a->address != b->address)
        return a->address > b->address;
    return a->file != ROW_END && b->file == ROW_END;
}

static void merge(const struct line_row *a, size_t na, const struct line_row *b, size_t nb,
                  struct line_row *out)
{
    while (na && nb) {
        bool second = is_after(a, b);
        *out++ = second ? *b++ : *a++;
        nb -= second;
        na -= !second;
    }
    memcpy(out, na ? a : b, (na + nb) * sizeof *out);
}

static size_t run_length(const struct line_row *rows, size_t count)
{
    size_t n = count ? 1 : 0;
    while (n < count && !is_after(&rows[n - 1], &rows[n]))
        n++;
    return n;
}

// Merges neighbouring runs until there is one; stable.
static int sort_rows(struct line_table *t)
{
    if (run_length(t->rows, t->row_count) == t->row_count)
        return 0;
    struct line_row *from = t->rows, *to = malloc(t->row_count * sizeof *to);
    if (!to)
        return -ENOMEM;
    for (bool is_done = false; !is_done;) {
        for (size_t at = 0, n; at < t->row_count; at += n) {
            size_t first = run_length(from + at, t->row_count - at);
            size_t second = run_length(from + at + first, t->row_count - at - first);
            n = first + second;
            is_done = n == t->row_count;
            merge(from + at, first, from + at + first, second, to + at);
        }
        struct line_row *swap = from;
        from = to;
        to = swap;
    }
    if (from != t->rows)
        memcpy(t->rows, from, t->row_count * sizeof *from);
    free(from != t->rows ? from : to);
    return 0;
}

// --- Tables.

static void table_free(struct line_table *t)
{
    free(t->dirs);
    free(t->files);
    free(t);
}

static int table_fill(struct reader *r, struct reader_unit *u, struct line_table *t)
{
    struct line_header h;
    t->is_broken = !read_header(reader_section(u->file, READER_LINE), t->offset, &h);
    if (t->is_broken)
        return 0;
    t->is_v5 = h.version == 5;
    int rc = t->is_v5 ? read_entries(t, u, &h.c, true) : read_names_old(t, &h, u->directory);
    if (!rc && t->is_v5)
        rc = read_entries(t, u, &h.c, false);
    uint64_t bytes = (uint64_t)(h.c.end - h.program);
    // Nobody but a hostile file lets many units read overlapping tables.
    if (h.c.is_failed || !h.line_range || bytes > r->lines_left)
        t->is_broken = true;
    if (rc || t->is_broken)
        return rc;
    r->lines_left -= bytes;
    rc = run_program(r, t, &h);
    if (rc || t->is_broken || !t->row_count)
        return rc;
    t->rows = arena_array(&r->arena, t->row_count, sizeof *t->rows);
    if (!t->rows)
        return -ENOMEM;
    memcpy(t->rows, r->row_scratch, t->row_count * sizeof *t->rows);
    return sort_rows(t);
}

static int table_add(struct reader *r, struct line_table *t)
{
    if (r->line_table_count == r->line_table_capacity) {
        size_t capacity = r->line_table_capacity ? 2 * r->line_table_capacity : 64;
        struct line_table **more = realloc(r->line_tables, capacity * sizeof(struct line_table *));
        if (!more)
            return -ENOMEM;
        r->line_tables = more;
        r->line_table_capacity = capacity;
    }
    size_t at = r->line_table_count++;
    for (; at && r->line_tables[at - 1]->offset > t->offset; at--)
        r->line_tables[at] = r->line_tables[at - 1];
    r->line_tables[at] = t;
    return 0;
}

// The unit's table, or that of another unit at the same place. Sorted by offset.
static struct line_table *table_find(const struct reader *r, uint64_t offset)
{
    size_t low = 0, high = r->line_table_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->line_tables[middle]->offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < r->line_table_count && r->line_tables[low]->offset == offset;
    return found ? r->line_tables[low] : NULL;
}

static int table_read(struct reader *r, struct reader_unit *u)
{
    if (u->are_lines_read)
        return 0;
    u->are_lines_read = true;
    if (!u->has_lines)
        return 0;
    u->lines = table_find(r, u->line_offset);
    if (u->lines)
        return 0;
    struct line_table *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    t->offset = u->line_offset;
    int rc = table_fill(r, u, t);
    if (!rc)
        rc = table_add(r, t);
    if (rc) {
        table_free(t);
        return rc;
    }
    u->lines = t;
    return 0;
}

void reader_lines_finish(struct reader *r)
{
    for (size_t i = 0; i < r->line_table_count; i++)
        table_free(r->line_tables[i]);
    free(r->line_tables);
    free(r->row_scratch);
}

// --- Asking.

// As dwarf_unit_file gives it: below the table's directory, and if that is relative below the unit's.
static const char *file_path(struct reader *r, const struct reader_unit *u, struct line_table *t,
                             struct line_name *f)
{
    const char *parts[3];
    unsigned int n = 0;
    if (!f->name)
        return "";
    const char *dir = f->dir < t->dir_count ? t->dirs[f->dir].name : NULL;
    if (*f->name == '/' || f == t->files)
        dir = *f->name == '/' || !t->is_v5 ? NULL : dir;
    const char *first = dir ? dir : f->name;
    if (*first != '/' && u->directory)
        parts[n++] = u->directory;
    if (dir)
        parts[n++] = dir;
    parts[n++] = f->name;
    char path[FILE_BYTES];
    int length = n == 1   ? snprintf(path, sizeof path, "%s", parts[0])
                 : n == 2 ? snprintf(path, sizeof path, "%s/%s", parts[0], parts[1])
                          : snprintf(path, sizeof path, "%s/%s/%s", parts[0], parts[1], parts[2]);
    const char *text = length > 0 && length < FILE_BYTES ? symbols_text(r->owner, path) : NULL;
    return text ? text : "";
}

const char *reader_line_file(struct reader *r, struct reader_unit *u, uint64_t index)
{
    if (table_read(r, u) || !u->lines || u->lines->is_broken || index >= u->lines->file_count)
        return "";
    struct line_name *f = &u->lines->files[index];
    if (!f->path)
        f->path = file_path(r, u, u->lines, f);
    return f->path;
}

int reader_line(struct reader *r, struct reader_unit *u, uint64_t address,
                struct symbols_frame *frame)
{
    int rc = table_read(r, u);
    const struct line_table *t = u->lines;
    if (rc || !t || t->is_broken)
        return rc;
    size_t low = 0, high = t->row_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->rows[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    const struct line_row *row = low ? &t->rows[low - 1] : NULL;
    if (!row || row->file == ROW_END)
        return 0;
    frame->file = reader_line_file(r, u, row->file);
    frame->line = row->line <= INT32_MAX ? row->line : 0;
    frame->column = row->column;
    return 0;
}
