// SPDX-License-Identifier: MIT
//
// Finding and reading CIEs and FDEs. Source: LSB 5.0 core, 10.6 (.eh_frame, .eh_frame_hdr).

#include "unwind/cfi.h"

enum { // DW_EH_PE_*
    PE_ABSPTR = 0x00,
    PE_ULEB = 0x01,
    PE_UDATA2 = 0x02,
    PE_UDATA4 = 0x03,
    PE_UDATA8 = 0x04,
    PE_SLEB = 0x09,
    PE_SDATA2 = 0x0a,
    PE_SDATA4 = 0x0b,
    PE_SDATA8 = 0x0c,
    PE_FORMAT = 0x0f,
    PE_PCREL = 0x10,
    PE_DATAREL = 0x30,
    PE_APPLICATION = 0x70,
    PE_OMIT = 0xff,
};

enum { CIE_SIZE_MAX = 1024 };

uint64_t unwind_read_pointer(struct unwind_reader *r, uint8_t encoding, uint64_t data_base)
{
    if (encoding == PE_OMIT)
        return 0;
    uint64_t here = unwind_reader_address(r), v;
    switch (encoding & PE_FORMAT) {
    case PE_ABSPTR:
    case PE_UDATA8:
    case PE_SDATA8: v = unwind_read_fixed(r, 8); break;
    case PE_UDATA2: v = unwind_read_fixed(r, 2); break;
    case PE_UDATA4: v = unwind_read_fixed(r, 4); break;
    case PE_SDATA2: v = (uint64_t)(int64_t)(int16_t)unwind_read_fixed(r, 2); break;
    case PE_SDATA4: v = (uint64_t)(int64_t)(int32_t)unwind_read_fixed(r, 4); break;
    case PE_ULEB: v = unwind_read_uleb(r); break;
    case PE_SLEB: v = (uint64_t)unwind_read_sleb(r); break;
    default: r->bad = true; return 0;
    }
    switch (encoding & PE_APPLICATION) {
    case 0: return v;
    case PE_PCREL: return v + here;
    case PE_DATAREL: return v + data_base;
    default: r->bad = true; return 0; // textrel, funcrel, aligned: not used on x86-64
    }
}

// An entry's length field; narrows r to the entry. Returns 1, or 0 at the terminator.
static int read_length(struct unwind_reader *r)
{
    uint64_t length = unwind_read_fixed(r, 4);
    if (length == 0)
        return 0;
    if (length == 0xffffffff)
        length = unwind_read_fixed(r, 8);
    if (r->bad || length > (uint64_t)(r->end - r->at)) {
        r->bad = true;
        return 1;
    }
    r->end = r->at + length;
    return 1;
}

// "zPLRS": sizes first, so that an unknown letter only ends the reading.
static void read_augmentation(struct unwind_reader *r, const char *letters, struct cfi_fde *fde,
                              bool *has_data)
{
    *has_data = *letters == 'z';
    if (!*has_data)
        return;
    uint64_t size = unwind_read_uleb(r);
    if (r->bad || size > (uint64_t)(r->end - r->at)) {
        r->bad = true;
        return;
    }
    const uint8_t *end = r->at + size;
    for (const char *l = letters + 1; *l && !r->bad; l++) {
        if (*l == 'R')
            fde->pointer_encoding = (uint8_t)unwind_read_fixed(r, 1);
        else if (*l == 'L')
            unwind_read_fixed(r, 1);
        else if (*l == 'P') {
            uint8_t encoding = (uint8_t)unwind_read_fixed(r, 1);
            unwind_read_pointer(r, encoding & 0x7f, 0);
        } else if (*l == 'S')
            fde->is_signal_frame = true;
        else if (*l != 'B')
            break;
    }
    r->at = end;
}

// Reads the CIE at offset into fde. True if it is one.
static bool read_cie(const struct unwind_section *s, uint64_t offset, struct cfi_fde *fde,
                     bool *has_data)
{
    struct unwind_reader r = unwind_reader_at(s, offset);
    if (r.bad || !read_length(&r) || r.bad || unwind_read_fixed(&r, 4) != 0)
        return false;
    // Each FDE runs its CIE's program again: a hostile long one would make that quadratic. Real ones
    // have about 20 bytes.
    if (r.end - r.at > CIE_SIZE_MAX)
        return false;
    uint64_t version = unwind_read_fixed(&r, 1);
    if (r.bad || (version != 1 && version != 3))
        return false;
    const char *letters = (const char *)r.at;
    const void *nul = memchr(r.at, 0, (size_t)(r.end - r.at));
    if (!nul)
        return false;
    r.at = (const uint8_t *)nul + 1;
    if (letters[0] == 'e' && letters[1] == 'h') // gcc 2: a pointer follows
        unwind_read_fixed(&r, 8);
    fde->code_align = unwind_read_uleb(&r);
    fde->data_align = unwind_read_sleb(&r);
    fde->ra_register = version == 1 ? unwind_read_fixed(&r, 1) : unwind_read_uleb(&r);
    fde->pointer_encoding = PE_ABSPTR;
    fde->is_signal_frame = false;
    read_augmentation(&r, letters, fde, has_data);
    fde->cie_program = r;
    return !r.bad;
}

int cfi_read_entry(const struct unwind_tables *t, uint64_t offset, struct cfi_fde *fde,
                   uint64_t *next)
{
    const struct unwind_section *s = &t->eh_frame;
    struct unwind_reader r = unwind_reader_at(s, offset);
    if (r.bad || r.end - r.at < 4)
        return CFI_ENTRY_END;
    if (!read_length(&r))
        return CFI_ENTRY_END;
    if (r.bad)
        return UNWIND_MALFORMED;
    *next = (uint64_t)(r.end - s->data);
    uint64_t id_offset = (uint64_t)(r.at - s->data);
    uint64_t id = unwind_read_fixed(&r, 4);
    if (r.bad)
        return UNWIND_MALFORMED;
    if (id == 0)
        return 0;
    bool has_data = false;
    if (id > id_offset || !read_cie(s, id_offset - id, fde, &has_data))
        return UNWIND_MALFORMED;
    fde->start = unwind_read_pointer(&r, fde->pointer_encoding, t->eh_frame_hdr.address);
    uint64_t length = unwind_read_pointer(&r, fde->pointer_encoding & PE_FORMAT, 0);
    fde->end = fde->start + length;
    if (has_data) {
        uint64_t size = unwind_read_uleb(&r);
        if (r.bad || size > (uint64_t)(r.end - r.at))
            return UNWIND_MALFORMED;
        r.at += size;
    }
    fde->fde_program = r;
    return r.bad || fde->end < fde->start ? UNWIND_MALFORMED : 1;
}

bool cfi_header_pairs(const struct unwind_tables *t, const uint8_t **pairs, uint64_t *count)
{
    const struct unwind_section *s = &t->eh_frame_hdr;
    struct unwind_reader r = unwind_reader_at(s, 0);
    uint64_t version = unwind_read_fixed(&r, 1);
    uint8_t frame_encoding = (uint8_t)unwind_read_fixed(&r, 1);
    uint8_t count_encoding = (uint8_t)unwind_read_fixed(&r, 1);
    uint8_t table_encoding = (uint8_t)unwind_read_fixed(&r, 1);
    if (r.bad || version != 1 || table_encoding != (PE_DATAREL | PE_SDATA4))
        return false;
    unwind_read_pointer(&r, frame_encoding, s->address);
    *count = unwind_read_pointer(&r, count_encoding, s->address);
    *pairs = r.at;
    return !r.bad && count_encoding != PE_OMIT && *count != 0 &&
           *count <= (uint64_t)(r.end - r.at) / 8;
}

// True if there is a table in .eh_frame_hdr; *offset is that of the last FDE starting at or below pc.
static bool search_header(const struct unwind_tables *t, uint64_t pc, bool *found, uint64_t *offset)
{
    const struct unwind_section *s = &t->eh_frame_hdr;
    const uint8_t *table;
    uint64_t count;
    if (!cfi_header_pairs(t, &table, &count))
        return false;
    int64_t want = (int64_t)(pc - s->address);
    uint64_t low = 0, high = count; // the answer is in [low - 1, high - 1]
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int32_t start;
        memcpy(&start, table + middle * 8, 4);
        if (start <= want)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low > 0;
    if (*found) {
        int32_t entry;
        memcpy(&entry, table + (low - 1) * 8 + 4, 4);
        *offset = s->address + (uint64_t)(int64_t)entry - t->eh_frame.address;
    }
    return true;
}

struct wanted_row {
    uint64_t pc;
    struct unwind_row *row;
    int status;
};

static int take_row(void *arg, uint64_t start, uint64_t end, int status,
                    const struct unwind_row *row)
{
    struct wanted_row *w = arg;
    if (w->pc < start || w->pc >= end)
        return 0;
    w->status = status;
    *w->row = *row;
    return 1;
}

static int row_in_fde(const struct cfi_fde *fde, uint64_t pc, struct unwind_row *row)
{
    struct wanted_row w = {pc, row, UNWIND_NOT_COVERED};
    int rc = cfi_run(fde, take_row, &w);
    return rc < 0 ? rc : w.status;
}

int unwind_find_row(const struct unwind_tables *t, uint64_t pc, struct unwind_row *row)
{
    struct cfi_fde fde;
    uint64_t offset = 0, next;
    bool found = false;
    *row = (struct unwind_row){0};
    if (t->eh_frame_hdr.size && search_header(t, pc, &found, &offset)) {
        if (!found)
            return UNWIND_NOT_COVERED;
        if (cfi_read_entry(t, offset, &fde, &next) != 1)
            return UNWIND_MALFORMED;
        return pc >= fde.start && pc < fde.end ? row_in_fde(&fde, pc, row) : UNWIND_NOT_COVERED;
    }
    for (int rc;; offset = next) { // every turn moves on by at least four bytes
        rc = cfi_read_entry(t, offset, &fde, &next);
        if (rc == CFI_ENTRY_END)
            return UNWIND_NOT_COVERED;
        if (rc < 0)
            return rc;
        if (rc == 1 && pc >= fde.start && pc < fde.end)
            return row_in_fde(&fde, pc, row);
    }
}

int unwind_each_row(const struct unwind_tables *t, unwind_row_fn *fn, void *arg)
{
    struct cfi_fde fde;
    for (uint64_t offset = 0, next;; offset = next) {
        int rc = cfi_read_entry(t, offset, &fde, &next);
        if (rc == CFI_ENTRY_END)
            return UNWIND_OK;
        if (rc < 0)
            return rc;
        if (rc == 1 && (rc = cfi_run(&fde, fn, arg)) != 0)
            return rc;
    }
}
