// SPDX-License-Identifier: MIT
//
// What must hold: for every FDE of the files named, each row that unwind/ makes says the same as
// libdw's dwarf_cfi_addrframe, at the row's first pc and at one in its middle, found by table
// building and by look-up alike; what is declined is counted and listed, and libdw agrees that it is
// of a form that is declined.
//
// Usage: cfi_rows FILE ...

#include "unwind/unwind.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct check {
    const char *path;
    Dwarf_CFI *cfi;
    struct unwind_tables tables;
    unsigned long rows, pcs, declined, unsupported, different;
};

static void section(Elf *elf, const char *name, struct unwind_section *out)
{
    size_t names;
    if (elf_getshdrstrndx(elf, &names))
        return;
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn));) {
        GElf_Shdr sh;
        Elf_Data *data;
        if (!gelf_getshdr(scn, &sh) || strcmp(elf_strptr(elf, names, sh.sh_name), name))
            continue;
        data = elf_rawdata(scn, NULL);
        if (data)
            *out = (struct unwind_section){data->d_buf, data->d_size, sh.sh_addr};
    }
}

static void print_ops(const char *what, const Dwarf_Op *ops, size_t n)
{
    printf(" %s:", what);
    for (size_t i = 0; i < n; i++)
        printf(" %#x(%" PRId64 ",%" PRId64 ")", ops[i].atom, (int64_t)ops[i].number,
               (int64_t)ops[i].number2);
}

static bool is_op(const Dwarf_Op *op, unsigned atom, int64_t number)
{
    return op->atom == atom && (int64_t)op->number == number;
}

// A register plus offset, as breg or bregx.
static bool is_breg(const Dwarf_Op *op, unsigned reg, int64_t offset)
{
    return is_op(op, DW_OP_breg0 + reg, offset) ||
           (op->atom == DW_OP_bregx && op->number == reg && (int64_t)op->number2 == offset);
}

static bool same_cfa(const struct unwind_row *row, const Dwarf_Op *ops, size_t n)
{
    int64_t offset = row->cfa_offset;
    size_t deref = 2 + (row->cfa_add != 0);
    bool added = row->cfa_add == 0 || (n == 3 && is_op(&ops[2], DW_OP_plus_uconst, row->cfa_add));
    switch (row->cfa) {
    case UNWIND_CFA_RSP: return n == 1 && is_breg(ops, 7, offset);
    case UNWIND_CFA_RBP: return n == 1 && is_breg(ops, 6, offset);
    case UNWIND_CFA_REG: return n == 1 && is_breg(ops, row->cfa_register, offset);
    case UNWIND_CFA_SIGNAL:
    case UNWIND_CFA_RSP_DEREF:
        return n == deref && is_breg(ops, 7, offset) && ops[1].atom == DW_OP_deref && added;
    case UNWIND_CFA_RBP_DEREF:
        return n == deref && is_breg(ops, 6, offset) && ops[1].atom == DW_OP_deref && added;
    case UNWIND_CFA_PLT:
        return n == 9 && is_breg(ops, 7, 8) && is_breg(&ops[1], 16, 0) &&
               ops[2].atom == DW_OP_lit15 && ops[3].atom == DW_OP_and &&
               ops[4].atom == DW_OP_lit0 + (unsigned)offset && ops[5].atom == DW_OP_ge &&
               ops[6].atom == DW_OP_lit3 && ops[7].atom == DW_OP_shl && ops[8].atom == DW_OP_plus;
    default: return false;
    }
}

// libdw gives a register's rule as: NULL same, no ops undefined, else ops for its place, or for its
// value if they end in stack_value.
static bool same_rule(uint8_t rule, int32_t offset, const Dwarf_Op *ops, size_t n, Dwarf_Op *mem)
{
    switch (rule) {
    case UNWIND_SAME: return n == 0 && ops == NULL;
    case UNWIND_UNDEFINED: return n == 0 && ops == mem;
    case UNWIND_AT_CFA:
        return (n == 2 && ops[0].atom == DW_OP_call_frame_cfa &&
                is_op(&ops[1], DW_OP_plus_uconst, offset)) ||
               (n == 1 && offset == 0 && ops[0].atom == DW_OP_call_frame_cfa);
    case UNWIND_AT_RSP:
        return n == 2 && ops[0].atom == DW_OP_call_frame_cfa && is_breg(&ops[1], 7, offset);
    case UNWIND_AT_RBP:
        return n == 2 && ops[0].atom == DW_OP_call_frame_cfa && is_breg(&ops[1], 6, offset);
    case UNWIND_IN_REGISTER:
        return n == 1 &&
               (ops[0].atom == DW_OP_reg0 + (unsigned)offset || is_op(ops, DW_OP_regx, offset));
    default: return false;
    }
}

static void different(struct check *c, uint64_t pc, const char *what, uint8_t ours, int32_t offset,
                      const Dwarf_Op *ops, size_t n)
{
    if (c->different++ > 20)
        return;
    printf("%s: pc %#" PRIx64 ": %s: ours %d offset %d, libdw", c->path, pc, what, ours, offset);
    print_ops(what, ops, n);
    printf("\n");
}

static void check_register(struct check *c, Dwarf_Frame *frame, uint64_t pc, int reg, uint8_t rule,
                           int32_t offset)
{
    Dwarf_Op mem[3], *ops;
    size_t n;
    if (dwarf_frame_register(frame, reg, mem, &ops, &n)) {
        different(c, pc, dwarf_errmsg(-1), rule, offset, NULL, 0);
        return;
    }
    if (rule == UNWIND_UNSUPPORTED) {
        // val_offset and val_expression only: anything else is one of our forms.
        if (n == 0 || (n == 1 && ops[0].atom != DW_OP_stack_value))
            different(c, pc, "unsupported", rule, offset, ops, n);
        c->unsupported++;
        return;
    }
    // libdw's table of registers that a call preserves leaves rbx out (it has rax in its place), so
    // where the CFI is silent it says "undefined". The psABI says preserved.
    if (reg == 3 && rule == UNWIND_SAME && n == 0)
        return;
    if (!same_rule(rule, offset, ops, n, mem))
        different(c, pc, reg == 6 ? "rbp" : reg == 16 ? "ra" : "rbx", rule, offset, ops, n);
}

static bool rows_equal(const struct unwind_row *a, const struct unwind_row *b)
{
    return a->cfa == b->cfa && a->cfa_register == b->cfa_register && a->rbp == b->rbp &&
           a->ra == b->ra && a->rbx == b->rbx && a->is_signal_frame == b->is_signal_frame &&
           a->cfa_offset == b->cfa_offset && a->rbp_offset == b->rbp_offset &&
           a->ra_offset == b->ra_offset && a->rbx_offset == b->rbx_offset &&
           a->cfa_add == b->cfa_add;
}

static void check_pc(struct check *c, uint64_t pc, int status, const struct unwind_row *row)
{
    struct unwind_row found;
    Dwarf_Frame *frame = NULL;
    Dwarf_Op *ops;
    size_t n = 0;
    bool is_signal = false;
    c->pcs++;
    if (unwind_find_row(&c->tables, pc, &found) != status || !rows_equal(row, &found))
        different(c, pc, "look-up and table", row->cfa, found.cfa, NULL, 0);
    if (dwarf_cfi_addrframe(c->cfi, pc, &frame)) {
        different(c, pc, dwarf_errmsg(-1), row->cfa, 0, NULL, 0);
        return;
    }
    dwarf_frame_info(frame, NULL, NULL, &is_signal);
    if (is_signal != row->is_signal_frame)
        different(c, pc, "signal frame", row->is_signal_frame, 0, NULL, 0);
    check_register(c, frame, pc, 16, row->ra, row->ra_offset);
    if (row->cfa == UNWIND_CFA_END)
        goto done;
    if (dwarf_frame_cfa(frame, &ops, &n)) {
        different(c, pc, "cfa", row->cfa, 0, NULL, 0);
    } else if (status == UNWIND_DECLINED) {
        c->declined++;
        printf("%s: pc %#" PRIx64 ": declined", c->path, pc);
        print_ops("cfa", ops, n);
        printf("\n");
        if (n < 4) // all shorter forms that occur are ours
            different(c, pc, "declined", row->cfa, 0, ops, n);
    } else if (status != UNWIND_OK || !same_cfa(row, ops, n)) {
        different(c, pc, "cfa", row->cfa, row->cfa_offset, ops, n);
    }
    check_register(c, frame, pc, 6, row->rbp, row->rbp_offset);
    check_register(c, frame, pc, 3, row->rbx, row->rbx_offset);
done:
    free(frame);
}

static int check_row(void *arg, uint64_t start, uint64_t end, int status,
                     const struct unwind_row *row)
{
    struct check *c = arg;
    c->rows++;
    check_pc(c, start, status, row);
    if (end - start > 1)
        check_pc(c, start + (end - start) / 2, status, row);
    return 0;
}

static bool check_file(const char *path)
{
    struct check c = {.path = path};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    Elf *elf = fd < 0 ? NULL : elf_begin(fd, ELF_C_READ_MMAP, NULL);
    bool ok = false;
    if (!elf) {
        printf("%s: cannot be read: %s\n", path, strerror(errno));
        goto done;
    }
    section(elf, ".eh_frame", &c.tables.eh_frame);
    section(elf, ".eh_frame_hdr", &c.tables.eh_frame_hdr);
    c.cfi = dwarf_getcfi_elf(elf);
    if (!c.cfi || !c.tables.eh_frame.size) {
        printf("%s: no CFI\n", path);
        goto done;
    }
    int rc = unwind_each_row(&c.tables, check_row, &c);
    ok = rc == UNWIND_OK && c.rows > 0 && c.different == 0;
    printf(
        "%s: %lu rows, %lu pcs compared, %lu declined, %lu registers by value, %lu differences%s\n",
        path, c.rows, c.pcs, c.declined, c.unsupported, c.different, rc ? ", stopped early" : "");
done:
    if (c.cfi)
        dwarf_cfi_end(c.cfi);
    elf_end(elf);
    if (fd >= 0)
        close(fd);
    return ok;
}

int main(int argc, char **argv)
{
    bool ok = argc > 1;
    elf_version(EV_CURRENT);
    for (int i = 1; i < argc; i++)
        ok = check_file(argv[i]) && ok;
    return ok ? 0 : 1;
}
