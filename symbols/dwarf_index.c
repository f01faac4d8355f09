// SPDX-License-Identifier: MIT

#include "symbols/dwarf_index.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

enum { CHAIN_MAX = 256, UNITS_MAX = 1 << 24, UNIT_RANGES_MAX = 1 << 20 };

static void open_alt(struct dwarf_index *d, const struct elf_file *f)
{
    if (debug_file_find_alt(&d->alt_file, d->owner, f))
        return;
    d->alt = dwarf_begin_elf(d->alt_file->elf, DWARF_C_READ, NULL);
    if (d->alt)
        dwarf_setalt(d->dwarf, d->alt);
}

static int add_unit_ranges(struct dwarf_index *d, uint32_t index)
{
    struct dwarf_unit *u = &d->units[index];
    Dwarf_Addr base, low, high;
    ptrdiff_t at = 0;
    size_t before = d->by_address.count;
    for (int n = 0; n < UNIT_RANGES_MAX; n++) {
        at = dwarf_ranges(&u->die, at, &base, &low, &high);
        if (at <= 0)
            break;
        int rc = range_table_add(&d->by_address, low, high, index);
        if (rc)
            return rc;
    }
    if (d->by_address.count > before)
        return 0;
    // A producer that gives units no ranges: its functions have them.
    if (dwarf_tag(&u->die) != DW_TAG_compile_unit || !dwarf_haschildren(&u->die))
        return 0;
    int rc = dwarf_unit_load(d, u);
    for (size_t i = 0; i < u->by_address.count && !rc; i++)
        rc = range_table_add(&d->by_address, u->by_address.ranges[i].low,
                             u->by_address.ranges[i].high, index);
    return rc;
}

static int read_units(struct dwarf_index *d)
{
    Dwarf_CU *cu = NULL;
    uint8_t unit_type;
    Dwarf_Die die;
    while (d->unit_count < UNITS_MAX &&
           !dwarf_get_units(d->dwarf, cu, &cu, NULL, &unit_type, &die, NULL)) {
        if (unit_type != DW_UT_compile && unit_type != DW_UT_skeleton)
            continue;
        if (d->unit_count == d->unit_capacity) {
            size_t capacity = d->unit_capacity ? 2 * d->unit_capacity : 64;
            struct dwarf_unit *more = realloc(d->units, capacity * sizeof *more);
            if (!more)
                return -ENOMEM;
            d->units = more;
            d->unit_capacity = capacity;
        }
        d->units[d->unit_count] = (struct dwarf_unit){.die = die};
        int rc = add_unit_ranges(d, (uint32_t)d->unit_count++);
        if (rc)
            return rc;
    }
    range_table_sort(&d->by_address);
    return 0;
}

int dwarf_index_open(struct dwarf_index **out, struct symbols *s, const struct elf_file *f,
                     struct fscope_error *err)
{
    *out = NULL;
    struct dwarf_index *d = calloc(1, sizeof *d);
    if (!d)
        return error_set(err, -ENOMEM, 0, "%s: out of memory", f->path);
    d->owner = s;
    int rc;
    elf_file_hide_unused(f);
    d->dwarf = dwarf_begin_elf(f->elf, DWARF_C_READ, NULL);
    if (!d->dwarf) {
        rc = error_set(err, -ENOEXEC, 0, "%s: debug info: %s", f->path, dwarf_errmsg(-1));
        goto fail;
    }
    open_alt(d, f);
    rc = read_units(d);
    if (rc) {
        error_set(err, rc, 0, "%s: out of memory", f->path);
        goto fail;
    }
    *out = d;
    return 0;
fail:
    dwarf_index_close(d);
    return rc;
}

void dwarf_index_close(struct dwarf_index *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->unit_count; i++)
        dwarf_unit_finish(&d->units[i]);
    free(d->units);
    range_table_finish(&d->by_address);
    dwarf_end(d->dwarf);
    dwarf_end(d->alt);
    elf_file_close(d->alt_file);
    arena_finish(&d->arena);
    free(d);
}

// The last row at or below the address, unless it ends a sequence. Rows are sorted by libdw.
static void find_line(struct dwarf_index *d, struct dwarf_unit *u, uint64_t address,
                      struct symbols_frame *frame)
{
    size_t low = 0, high = u->line_count;
    Dwarf_Addr at;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (!dwarf_lineaddr(dwarf_onesrcline(u->lines, middle), &at) && at <= address)
            low = middle + 1;
        else
            high = middle;
    }
    Dwarf_Line *line = low ? dwarf_onesrcline(u->lines, low - 1) : NULL;
    bool is_end = true;
    if (!line || dwarf_lineendsequence(line, &is_end) || is_end)
        return;
    int number = 0, column = 0;
    frame->file = dwarf_unit_file(d, u, dwarf_linesrc(line, NULL, NULL));
    if (!dwarf_lineno(line, &number) && number > 0)
        frame->line = (uint32_t)number;
    if (!dwarf_linecol(line, &column) && column > 0)
        frame->column = (uint32_t)column;
}

int dwarf_index_lookup(struct dwarf_index *d, uint64_t address, struct symbols_frame *frames,
                       uint32_t max, bool *is_plain)
{
    *is_plain = false;
    uint32_t index = range_table_find(&d->by_address, address);
    if (index == UINT32_MAX || !max)
        return 0;
    struct dwarf_unit *u = &d->units[index];
    int rc = dwarf_unit_load(d, u);
    if (rc)
        return rc;
    struct dwarf_node *chain[CHAIN_MAX];
    uint32_t n = dwarf_unit_chain(d, u, address, chain, CHAIN_MAX);
    struct symbols_frame at = {.name = "", .system_name = "", .file = ""};
    find_line(d, u, address, &at);
    if (!n) {
        frames[0] = at;
        return at.line || *at.file ? 1 : 0;
    }
    const struct frame_names *names[CHAIN_MAX];
    for (uint32_t i = 0; i < n; i++) {
        dwarf_node_name(d, u, chain[i]);
        names[i] = &chain[i]->names;
    }
    *is_plain = names[0]->is_plain;
    return frames_fill(frames, max, names, n, at);
}
