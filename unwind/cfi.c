// SPDX-License-Identifier: MIT
//
// The call frame machine: runs CFA instructions and hands out rows. Source: DWARF 5, 6.4.2 and
// 7.24; the GNU extensions as in the LSB.
//
// Only four columns are followed: the CFA, rbp, rbx and the return address. What other registers do
// is read and forgotten.

#include "unwind/cfi.h"

enum { REG_RBX = 3, REG_RBP = 6, REG_RSP = 7, REG_RA = 16, SAVED_MAX = 16 };

enum rule_kind {
    RULE_SAME,
    RULE_UNDEFINED,
    RULE_OFFSET,
    RULE_EXPRESSION,
    RULE_REGISTER,
    RULE_OTHER
};

struct rule {
    enum rule_kind kind;
    int64_t offset; // or RULE_REGISTER's number
    const uint8_t *expression;
    uint64_t expression_size;
};

struct columns {
    bool cfa_is_expression;
    uint64_t cfa_register;
    int64_t cfa_offset;
    const uint8_t *expression;
    uint64_t expression_size;
    struct rule rbp, rbx, ra;
};

struct machine {
    const struct cfi_fde *fde;
    struct columns now, initial;
    struct columns saved[SAVED_MAX];
    unsigned saved_count;
    uint64_t pc; // where `now` begins to hold
    bool bad;
};

// --- Columns into rows.

static bool fits32(int64_t v)
{
    return v >= INT32_MIN && v <= INT32_MAX;
}

// binutils' PLT entries: DW_OP_breg7 8, DW_OP_breg16 0, lit15, and, litN, ge, lit3, shl, plus.
static bool is_plt_expression(const uint8_t *e, uint64_t size, int32_t *n)
{
    static const uint8_t before[] = {0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a};
    static const uint8_t after[] = {0x2a, 0x33, 0x24, 0x22};
    if (size != sizeof before + 1 + sizeof after || memcmp(e, before, sizeof before) ||
        memcmp(e + sizeof before + 1, after, sizeof after))
        return false;
    uint8_t literal = e[sizeof before];
    *n = literal - 0x30;
    return literal >= 0x30 && literal <= 0x4f;
}

// DW_OP_bregN offset [DW_OP_deref [DW_OP_plus_uconst add]], -1 in reg if it is none of these.
struct register_expression {
    int reg;
    bool deref;
    int64_t offset, add;
};

static struct register_expression register_expression(const uint8_t *e, uint64_t size)
{
    struct register_expression x = {.reg = -1};
    struct unwind_section s = {e, size, 0};
    struct unwind_reader r = unwind_reader_at(&s, 0);
    uint64_t op = unwind_read_fixed(&r, 1);
    if (r.bad || op < 0x70 || op > 0x8f)
        return x;
    x.offset = unwind_read_sleb(&r);
    x.deref = r.at < r.end && *r.at == 0x06;
    r.at += x.deref;
    if (x.deref && r.at < r.end && *r.at == 0x23) { // OpenSSL: rsp was pushed by the frame
        r.at++;
        x.add = (int64_t)unwind_read_uleb(&r);
    }
    if (!r.bad && r.at == r.end && fits32(x.offset) && fits32(x.add))
        x.reg = (int)op - 0x70;
    return x;
}

static int row_cfa(const struct machine *m, struct unwind_row *row)
{
    const struct columns *c = &m->now;
    if (!c->cfa_is_expression) {
        if (!fits32(c->cfa_offset) || c->cfa_register > REG_RA)
            return UNWIND_DECLINED;
        row->cfa_offset = (int32_t)c->cfa_offset;
        row->cfa_register = (uint8_t)c->cfa_register;
        row->cfa = c->cfa_register == REG_RSP   ? UNWIND_CFA_RSP
                   : c->cfa_register == REG_RBP ? UNWIND_CFA_RBP
                                                : UNWIND_CFA_REG;
        return UNWIND_OK;
    }
    if (is_plt_expression(c->expression, c->expression_size, &row->cfa_offset)) {
        row->cfa = UNWIND_CFA_PLT;
        return UNWIND_OK;
    }
    struct register_expression x = register_expression(c->expression, c->expression_size);
    if (!x.deref || (x.reg != REG_RSP && x.reg != REG_RBP))
        return UNWIND_DECLINED;
    row->cfa_offset = (int32_t)x.offset;
    row->cfa_add = (int32_t)x.add;
    row->cfa = x.reg == REG_RBP          ? UNWIND_CFA_RBP_DEREF
               : m->fde->is_signal_frame ? UNWIND_CFA_SIGNAL
                                         : UNWIND_CFA_RSP_DEREF;
    return UNWIND_OK;
}

static uint8_t row_rule(const struct rule *rule, int32_t *out)
{
    struct register_expression x;
    switch (rule->kind) {
    case RULE_SAME: return UNWIND_SAME;
    case RULE_UNDEFINED: return UNWIND_UNDEFINED;
    case RULE_OFFSET:
        *out = (int32_t)rule->offset;
        return fits32(rule->offset) ? UNWIND_AT_CFA : UNWIND_UNSUPPORTED;
    case RULE_EXPRESSION:
        x = register_expression(rule->expression, rule->expression_size);
        if (x.deref || (x.reg != REG_RSP && x.reg != REG_RBP))
            return UNWIND_UNSUPPORTED;
        *out = (int32_t)x.offset;
        return x.reg == REG_RSP ? UNWIND_AT_RSP : UNWIND_AT_RBP;
    case RULE_REGISTER:
        *out = (int32_t)rule->offset;
        return rule->offset < REG_RA ? UNWIND_IN_REGISTER : UNWIND_UNSUPPORTED;
    case RULE_OTHER: break;
    }
    return UNWIND_UNSUPPORTED;
}

static int make_row(const struct machine *m, struct unwind_row *row)
{
    *row = (struct unwind_row){.is_signal_frame = m->fde->is_signal_frame};
    row->ra = row_rule(&m->now.ra, &row->ra_offset);
    row->rbp = row_rule(&m->now.rbp, &row->rbp_offset);
    row->rbx = row_rule(&m->now.rbx, &row->rbx_offset);
    if (row->ra == UNWIND_UNDEFINED) {
        row->cfa = UNWIND_CFA_END;
        return UNWIND_OK;
    }
    int rc = row_cfa(m, row);
    if (rc == UNWIND_OK && (row->ra == UNWIND_UNSUPPORTED || row->ra == UNWIND_SAME))
        rc = UNWIND_DECLINED; // "same" would mean that nobody ever called: not a thing on x86-64
    if (rc != UNWIND_OK)
        row->cfa = UNWIND_CFA_NONE;
    return rc;
}

// --- Instructions.

static void set_rule(struct machine *m, uint64_t reg, struct rule rule)
{
    if (reg == REG_RBP)
        m->now.rbp = rule;
    else if (reg == REG_RBX)
        m->now.rbx = rule;
    else if (reg == m->fde->ra_register)
        m->now.ra = rule;
}

static void set_offset_rule(struct machine *m, uint64_t reg, int64_t factored)
{
    int64_t offset;
    if (__builtin_mul_overflow(factored, m->fde->data_align, &offset))
        m->bad = true;
    else
        set_rule(m, reg, (struct rule){.kind = RULE_OFFSET, .offset = offset});
}

static void restore_rule(struct machine *m, uint64_t reg)
{
    if (reg == REG_RBP)
        m->now.rbp = m->initial.rbp;
    else if (reg == REG_RBX)
        m->now.rbx = m->initial.rbx;
    else if (reg == m->fde->ra_register)
        m->now.ra = m->initial.ra;
}

static const uint8_t *read_block(struct unwind_reader *r, uint64_t *size)
{
    *size = unwind_read_uleb(r);
    const uint8_t *at = r->at;
    if (r->bad || *size > (uint64_t)(r->end - r->at)) {
        r->bad = true;
        return NULL;
    }
    r->at += *size;
    return at;
}

// DW_CFA_def_cfa and its kin. True if op is one of them.
static bool run_cfa_op(struct machine *m, struct unwind_reader *r, uint8_t op)
{
    struct columns *c = &m->now;
    int64_t factored;
    switch (op) {
    case 0x0c: // def_cfa
        c->cfa_register = unwind_read_uleb(r);
        c->cfa_offset = (int64_t)unwind_read_uleb(r);
        break;
    case 0x12: // def_cfa_sf
        c->cfa_register = unwind_read_uleb(r);
        factored = unwind_read_sleb(r);
        m->bad |= __builtin_mul_overflow(factored, m->fde->data_align, &c->cfa_offset);
        break;
    case 0x0d: c->cfa_register = unwind_read_uleb(r); break;        // def_cfa_register
    case 0x0e: c->cfa_offset = (int64_t)unwind_read_uleb(r); break; // def_cfa_offset
    case 0x13:                                                      // def_cfa_offset_sf
        factored = unwind_read_sleb(r);
        m->bad |= __builtin_mul_overflow(factored, m->fde->data_align, &c->cfa_offset);
        break;
    case 0x0f: // def_cfa_expression
        c->expression = read_block(r, &c->expression_size);
        c->cfa_is_expression = true;
        return true;
    default: return false;
    }
    c->cfa_is_expression = false;
    return true;
}

// Rules for single registers. True if op is one of them.
static bool run_rule_op(struct machine *m, struct unwind_reader *r, uint8_t op)
{
    uint64_t reg = 0;
    struct rule rule = {0};
    if (!((op >= 0x05 && op <= 0x09) || op == 0x10 || op == 0x11 || (op >= 0x14 && op <= 0x16) ||
          op == 0x2f))
        return false;
    reg = unwind_read_uleb(r);
    switch (op) {
    case 0x05: set_offset_rule(m, reg, (int64_t)unwind_read_uleb(r)); return true;
    case 0x11: set_offset_rule(m, reg, unwind_read_sleb(r)); return true;
    case 0x2f: set_offset_rule(m, reg, -(int64_t)unwind_read_uleb(r)); return true; // GNU, old
    case 0x06: restore_rule(m, reg); return true;
    case 0x07: rule.kind = RULE_UNDEFINED; break;
    case 0x08: rule.kind = RULE_SAME; break;
    case 0x09: // register
        rule.offset = (int64_t)(unwind_read_uleb(r) & INT32_MAX);
        rule.kind = RULE_REGISTER;
        break;
    case 0x10: // expression
        rule.kind = RULE_EXPRESSION;
        rule.expression = read_block(r, &rule.expression_size);
        break;
    case 0x14: // val_offset
    case 0x15: // val_offset_sf: as long as a uleb
        unwind_read_uleb(r);
        rule.kind = RULE_OTHER;
        break;
    default: // 0x16 val_expression
        read_block(r, &rule.expression_size);
        rule.kind = RULE_OTHER;
        break;
    }
    set_rule(m, reg, rule);
    return true;
}

static void run_other_op(struct machine *m, struct unwind_reader *r, uint8_t op)
{
    switch (op) {
    case 0x00: break; // nop
    case 0x0a:        // remember_state
        if (m->saved_count < SAVED_MAX)
            m->saved[m->saved_count++] = m->now;
        else
            m->bad = true;
        break;
    case 0x0b: // restore_state
        if (m->saved_count)
            m->now = m->saved[--m->saved_count];
        else
            m->bad = true;
        break;
    case 0x2e: unwind_read_uleb(r); break; // GNU_args_size: for landing pads only
    default: m->bad = true; break;
    }
}

// How far an advance_loc moves, or sets *to for set_loc. False if op is no advance.
static bool read_advance(struct machine *m, struct unwind_reader *r, uint8_t op, uint64_t *to)
{
    uint64_t delta;
    switch (op) {
    case 0x01: *to = unwind_read_pointer(r, m->fde->pointer_encoding, 0); return true;
    case 0x02: delta = unwind_read_fixed(r, 1); break;
    case 0x03: delta = unwind_read_fixed(r, 2); break;
    case 0x04: delta = unwind_read_fixed(r, 4); break;
    case 0x1d: delta = unwind_read_fixed(r, 8); break; // MIPS_advance_loc8
    default:
        if (op >> 6 != 1)
            return false;
        delta = op & 0x3f;
    }
    *to = m->pc + delta * m->fde->code_align;
    return true;
}

static int emit(const struct machine *m, uint64_t end, unwind_row_fn *fn, void *arg)
{
    struct unwind_row row;
    if (end > m->fde->end)
        end = m->fde->end;
    if (end <= m->pc)
        return 0;
    int status = make_row(m, &row);
    return fn(arg, m->pc, end, status, &row);
}

// Runs one program. fn NULL: the CIE's, which makes no rows.
static int run_program(struct machine *m, struct unwind_reader r, unwind_row_fn *fn, void *arg)
{
    while (r.at < r.end && !r.bad && !m->bad) {
        uint8_t op = *r.at++;
        uint64_t to;
        if (read_advance(m, &r, op, &to)) {
            if (r.bad || to < m->pc || !fn)
                return UNWIND_MALFORMED;
            int rc = to > m->pc ? emit(m, to, fn, arg) : 0;
            if (rc)
                return rc;
            m->pc = to;
        } else if (op >> 6 == 2) {
            set_offset_rule(m, op & 0x3f, (int64_t)unwind_read_uleb(&r));
        } else if (op >> 6 == 3) {
            restore_rule(m, op & 0x3f);
        } else if (!run_cfa_op(m, &r, op) && !run_rule_op(m, &r, op)) {
            run_other_op(m, &r, op);
        }
    }
    return r.bad || m->bad ? UNWIND_MALFORMED : UNWIND_OK;
}

int cfi_run(const struct cfi_fde *fde, unwind_row_fn *fn, void *arg)
{
    struct machine m = {.fde = fde, .pc = fde->start};
    // Until a program says otherwise nothing is known of the return address.
    m.now.ra.kind = RULE_OTHER;
    int rc = run_program(&m, fde->cie_program, NULL, NULL);
    if (rc)
        return rc;
    m.initial = m.now;
    rc = run_program(&m, fde->fde_program, fn, arg);
    return rc ? rc : emit(&m, fde->end, fn, arg);
}
