// SPDX-License-Identifier: MIT
//
// The bytes of one perf record into a struct perf_record: see perf_ring.h.
//
// Invariant: a struct reader never reads beyond its end; once it failed, all it gives is 0.

#include "collector/perf_ring.h"

#include <asm/perf_regs.h>
#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

// Which user registers a sample has, in the order in which the kernel writes them.
#define BIT(r) (UINT64_C(1) << (r))
#define REGISTERS                                                                                  \
    (BIT(PERF_REG_X86_AX) | BIT(PERF_REG_X86_BX) | BIT(PERF_REG_X86_CX) | BIT(PERF_REG_X86_DX) |   \
     BIT(PERF_REG_X86_SI) | BIT(PERF_REG_X86_DI) | BIT(PERF_REG_X86_BP) | BIT(PERF_REG_X86_SP) |   \
     BIT(PERF_REG_X86_IP) | BIT(PERF_REG_X86_R8) | BIT(PERF_REG_X86_R9) | BIT(PERF_REG_X86_R10) |  \
     BIT(PERF_REG_X86_R11) | BIT(PERF_REG_X86_R12) | BIT(PERF_REG_X86_R13) |                       \
     BIT(PERF_REG_X86_R14) | BIT(PERF_REG_X86_R15))

// DWARF numbers of these, in that order (psABI figure 3.36).
static const uint8_t dwarf_of[] = {0, 3, 2, 1, 4, 5, 6, 7, 16, 8, 9, 10, 11, 12, 13, 14, 15};
enum { REGISTER_COUNT = sizeof dwarf_of };

enum { RECORD_CHAIN_MAX = 65536 / 8 };

struct reader {
    const uint8_t *at, *end;
    bool failed;
};

static const uint8_t *take(struct reader *r, uint64_t n)
{
    if (r->failed || n > (uint64_t)(r->end - r->at)) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += n;
    return p;
}

static uint64_t take_u64(struct reader *r)
{
    uint64_t v = 0;
    const uint8_t *p = take(r, sizeof v);
    if (p)
        memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t take_u32(struct reader *r)
{
    uint32_t v = 0;
    const uint8_t *p = take(r, sizeof v);
    if (p)
        memcpy(&v, p, sizeof v);
    return v;
}

// A string that ends inside what remains (the padding behind it is taken too).
static const char *take_text(struct reader *r)
{
    uint64_t left = (uint64_t)(r->end - r->at);
    const uint8_t *p = take(r, left);
    if (!p || !memchr(p, 0, left)) {
        r->failed = true;
        return "";
    }
    return (const char *)p;
}

void perf_format_fill(struct perf_event_attr *attr, bool kernel, uint32_t stack_bytes)
{
    attr->sample_type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID |
                        PERF_SAMPLE_TIME | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER;
    if (kernel)
        attr->sample_type |= PERF_SAMPLE_CALLCHAIN;
    attr->exclude_callchain_user = 1;
    attr->exclude_callchain_kernel = !kernel;
    attr->sample_regs_user = REGISTERS;
    attr->sample_stack_user = stack_bytes;
    attr->sample_id_all = 1;
    attr->use_clockid = 1;
    attr->clockid = CLOCK_MONOTONIC;
}

void perf_format_no_copies(struct perf_event_attr *attr)
{
    attr->sample_type &= ~(uint64_t)(PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER);
    attr->sample_regs_user = 0;
}

void perf_format_processes(struct perf_event_attr *attr, uint64_t config, uint64_t ring_bytes)
{
    *attr = (struct perf_event_attr){
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof *attr,
        .config = config,
        .exclude_hv = 1,
        .mmap = 1,
        .mmap2 = 1,
        .build_id = 1,
        .comm = 1,
        .comm_exec = 1,
        .task = 1,
        .watermark = 1,
        .wakeup_watermark = (uint32_t)(ring_bytes / 2),
    };
}

static void parse_registers(struct reader *r, struct perf_sample *s)
{
    uint64_t abi = take_u64(r);
    s->abi = abi > PERF_ABI_64 ? PERF_ABI_NONE : (enum perf_abi)abi;
    if (abi == PERF_ABI_NONE)
        return;
    struct unwind_registers *regs = &s->registers;
    for (size_t i = 0; i < REGISTER_COUNT; i++) {
        uint64_t v = take_u64(r);
        regs->other[dwarf_of[i]] = v;
        regs->valid |= 1u << dwarf_of[i];
    }
    regs->rbp = regs->other[6];
    regs->rsp = regs->other[7];
    regs->rip = regs->other[16];
}

static void parse_stack(struct reader *r, struct perf_sample *s)
{
    s->stack_asked = take_u64(r);
    if (!s->stack_asked)
        return; // no user stack: the dynamic size is left out too
    s->stack = take(r, s->stack_asked);
    s->stack_bytes = take_u64(r);
    if (s->stack_bytes > s->stack_asked)
        r->failed = true;
}

static void parse_sample(struct reader *r, struct perf_record *out, uint64_t type)
{
    struct perf_sample *s = &out->sample;
    out->id = take_u64(r);
    s->ip = take_u64(r);
    out->pid = take_u32(r);
    out->tid = take_u32(r);
    out->time_ns = take_u64(r);
    if (type & PERF_SAMPLE_CALLCHAIN) {
        s->chain_count = take_u64(r);
        if (s->chain_count > RECORD_CHAIN_MAX)
            r->failed = true;
        s->chain = take(r, s->chain_count * sizeof(uint64_t));
    }
    parse_registers(r, s);
    parse_stack(r, s);
}

static void parse_mmap2(struct reader *r, struct perf_record *out)
{
    struct perf_mmap *m = &out->mmap;
    take_u64(r); // pid and tid, which the trailer has too
    m->start = take_u64(r);
    m->size = take_u64(r);
    m->offset = take_u64(r);
    const uint8_t *identity = take(r, 24);
    m->protection = take_u32(r);
    take_u32(r); // flags
    m->path = take_text(r);
    if (r->failed || m->size > UINT64_MAX - m->start) {
        r->failed = true;
        return;
    }
    if (out->misc & PERF_RECORD_MISC_MMAP_BUILD_ID) {
        m->build_id_size = identity[0] > 20 ? 20 : identity[0];
        m->build_id = identity + 4;
        return;
    }
    uint32_t major_number, minor_number;
    memcpy(&major_number, identity, 4);
    memcpy(&minor_number, identity + 4, 4);
    memcpy(&m->inode, identity + 8, 8);
    m->device = makedev(major_number, minor_number);
}

static void parse_body(struct reader *r, struct perf_record *out)
{
    switch (out->type) {
    case PERF_RECORD_MMAP2: parse_mmap2(r, out); break;
    case PERF_RECORD_COMM:
        take_u64(r); // pid, tid
        out->comm.is_exec = out->misc & PERF_RECORD_MISC_COMM_EXEC;
        out->comm.name = take_text(r);
        break;
    case PERF_RECORD_FORK:
    case PERF_RECORD_EXIT:
        out->task.pid = take_u32(r);
        out->task.parent_pid = take_u32(r);
        out->task.tid = take_u32(r);
        out->task.parent_tid = take_u32(r);
        break;
    case PERF_RECORD_LOST:
        take_u64(r); // id
        out->lost.count = take_u64(r);
        break;
    case PERF_RECORD_LOST_SAMPLES: out->lost.count = take_u64(r); break;
    default: // nothing that we need: throttling, switches, ...
        break;
    }
}

int perf_record_parse(struct perf_record *out, const void *bytes, size_t size,
                      const struct perf_event_attr *attr)
{
    struct perf_event_header h;
    *out = (struct perf_record){0};
    if (size < sizeof h)
        return -EINVAL;
    memcpy(&h, bytes, sizeof h);
    const uint8_t *start = bytes;
    struct reader r = {.at = start + sizeof h, .end = start + size};
    out->type = h.type;
    out->misc = h.misc;
    out->size = (uint32_t)size;
    if (h.type == PERF_RECORD_SAMPLE) {
        parse_sample(&r, out, attr->sample_type);
        return r.failed ? -EINVAL : 0;
    }
    // The trailer of sample_id_all: pid, tid, time, identifier.
    struct reader trailer = {.at = r.end, .end = r.end};
    if (size < sizeof h + 24)
        return -EINVAL;
    trailer.at -= 24;
    r.end = trailer.at;
    out->pid = take_u32(&trailer);
    out->tid = take_u32(&trailer);
    out->time_ns = take_u64(&trailer);
    out->id = take_u64(&trailer);
    parse_body(&r, out);
    return r.failed || trailer.failed ? -EINVAL : 0;
}

uint32_t perf_chain_copy(const struct perf_sample *s, uint64_t *pcs, uint32_t max)
{
    uint32_t n = 0;
    bool kernel = false;
    for (uint64_t i = 0; i < s->chain_count && n < max; i++) {
        uint64_t pc;
        memcpy(&pc, s->chain + i * sizeof pc, sizeof pc);
        if (pc >= (uint64_t)PERF_CONTEXT_MAX) // a marker: what follows belongs to that context
            kernel = pc == (uint64_t)PERF_CONTEXT_KERNEL;
        else if (kernel)
            pcs[n++] = pc;
    }
    return n;
}
