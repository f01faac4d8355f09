// SPDX-License-Identifier: MIT
//
// See inject_x86_64.h.

#include "collector/arch/inject_x86_64.h"

#include "collector/arch/x86_64.h"
#include "collector/stop_call.h"

#include <cpuid.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>

// --- Registers.

void inject_mend(struct user_regs_struct *u)
{
    enum { SYSCALL_BYTES = 2 };
    int64_t number, result = (int64_t)u->rax;
    uint64_t args[6];
    if (arch_call(u, &number, args) && (result != -EINTR || stop_call_is_cut(number))) {
        u->rax = (uint64_t)number;
        u->rip -= SYSCALL_BYTES;
    }
    u->orig_rax = (uint64_t)-1;
}

static void begin_at(struct user_regs_struct *u, uint64_t rip, uint64_t rsp)
{
    const uint64_t direction = 0x400, trap = 0x100;
    u->rip = rip;
    u->rsp = rsp;
    u->rax = 0;
    u->orig_rax = (uint64_t)-1; // no call of the old registers is restarted
    u->eflags &= ~(direction | trap);
}

void inject_set_call(struct user_regs_struct *u, uint64_t function, uint64_t slot,
                     const uint64_t args[6])
{
    begin_at(u, function, slot);
    u->rdi = args[0];
    u->rsi = args[1];
    u->rdx = args[2];
    u->rcx = args[3];
    u->r8 = args[4];
    u->r9 = args[5];
}

void inject_set_stub(struct user_regs_struct *u, uint64_t code, uint64_t block, uint64_t stack)
{
    begin_at(u, code, stack);
    u->rbx = block;
    u->rbp = 0;
}

// --- The frame.

enum { // linux/uapi/asm/sigcontext.h, ucontext.h
    UC_FP_XSTATE_BIT = 1,
    UC_SIGCONTEXT_SS_BIT = 2,
    UC_STRICT_RESTORE_SS_BIT = 4,
    XFEATURES_AT = 464, // in the software bytes of an xsave area as ptrace gives it
    XSTATE_BV_AT = 512,
    XSTATE_MIN = 576,
    TILE_DATA = 18,
    RED_ZONE = 128,
    KERNEL_UCONTEXT_BYTES = 304,
};

struct sw_bytes { // at XFEATURES_AT of a frame's
    uint32_t magic1, extended_size;
    uint64_t features;
    uint32_t xstate_size, padding[7];
};
_Static_assert(sizeof(struct sw_bytes) == 48, "struct _fpx_sw_bytes");
#define MAGIC1 UINT32_C(0x46505853)
#define MAGIC2 UINT32_C(0x46505845)

// What the kernel would write for this thread: all features but for tiles, which must be asked for.
static size_t frame_xstate_size(const struct inject_state *s, uint64_t *features)
{
    uint64_t has, used;
    uint32_t size = XSTATE_MIN, eax, ebx, ecx, edx;
    memcpy(&has, s->xstate + XFEATURES_AT, sizeof has);
    memcpy(&used, s->xstate + XSTATE_BV_AT, sizeof used);
    *features = has & ~(UINT64_C(1) << TILE_DATA);
    *features |= used & has & UINT64_C(1) << TILE_DATA;
    for (uint32_t i = 2; i < 63; i++) {
        if (!(*features >> i & 1))
            continue;
        __cpuid_count(13, i, eax, ebx, ecx, edx);
        if (ebx + eax > size)
            size = ebx + eax;
    }
    return size;
}

static void put_xstate(uint8_t *to, const struct inject_state *s, size_t size, uint64_t features)
{
    const uint32_t magic2 = MAGIC2;
    struct sw_bytes sw = {.magic1 = MAGIC1,
                          .extended_size = (uint32_t)(size + sizeof magic2),
                          .features = features,
                          .xstate_size = (uint32_t)size};
    memcpy(to, s->xstate, size < s->xstate_size ? size : s->xstate_size);
    memcpy(to + XFEATURES_AT, &sw, sizeof sw);
    memcpy(to + size, &magic2, sizeof magic2);
}

static void put_context(ucontext_t *uc, const struct inject_state *s, uint64_t xstate)
{
    const struct user_regs_struct *u = &s->regs;
    greg_t *g = uc->uc_mcontext.gregs;
    memset(uc, 0, KERNEL_UCONTEXT_BYTES);
    uc->uc_flags = UC_FP_XSTATE_BIT | UC_SIGCONTEXT_SS_BIT | UC_STRICT_RESTORE_SS_BIT;
    uc->uc_stack.ss_flags = 0x7fff; // of no meaning: the alternate stack stays what it is
    const uint64_t values[][2] = {
        {REG_R8, u->r8},   {REG_R9, u->r9},      {REG_R10, u->r10}, {REG_R11, u->r11},
        {REG_R12, u->r12}, {REG_R13, u->r13},    {REG_R14, u->r14}, {REG_R15, u->r15},
        {REG_RDI, u->rdi}, {REG_RSI, u->rsi},    {REG_RBP, u->rbp}, {REG_RBX, u->rbx},
        {REG_RDX, u->rdx}, {REG_RAX, u->rax},    {REG_RCX, u->rcx}, {REG_RSP, u->rsp},
        {REG_RIP, u->rip}, {REG_EFL, u->eflags},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        g[values[i][0]] = (greg_t)values[i][1];
    g[REG_CSGSFS] = (greg_t)((u->cs & 0xffff) | (u->ss & 0xffff) << 48);
    memcpy(&uc->uc_mcontext.fpregs, &xstate, sizeof xstate);
    memcpy(&uc->uc_sigmask, &s->mask, sizeof s->mask);
}

int inject_make_frame(struct inject_frame *f, const struct inject_state *s, uint64_t restore)
{
    uint64_t features, top = s->regs.rsp - RED_ZONE;
    size_t size = frame_xstate_size(s, &features);
    if (size > INJECT_XSTATE_MAX || s->xstate_size < XSTATE_MIN)
        return -E2BIG;
    _Static_assert(offsetof(ucontext_t, uc_sigmask) + 8 == KERNEL_UCONTEXT_BYTES,
                   "as the kernel's");
    uint64_t xstate = (top - size - sizeof(uint32_t)) & ~UINT64_C(63);
    uint64_t slot = ((xstate - KERNEL_UCONTEXT_BYTES) & ~UINT64_C(15)) - 8;
    f->slot = slot;
    f->start = slot - INJECT_SPARE_BYTES;
    f->size = top - f->start;
    if (f->size > sizeof f->bytes)
        return -E2BIG;
    memset(f->bytes, 0, f->size);
    ucontext_t uc;
    put_context(&uc, s, xstate);
    memcpy(f->bytes + INJECT_SPARE_BYTES, &restore, sizeof restore);
    memcpy(f->bytes + INJECT_SPARE_BYTES + 8, &uc, KERNEL_UCONTEXT_BYTES);
    put_xstate(f->bytes + (xstate - f->start), s, size, features);
    return 0;
}

// --- The code.

#define OFFSET(field) [field] "i"(offsetof(struct inject_block, field))

extern const char inject_stub_begin[], inject_stub_end[];

// Never called: it holds the code between two labels.
// NOLINTNEXTLINE(readability-function-size): one piece of assembly
__attribute__((naked, used)) static void stub_code(void)
{
    __asm__ volatile(
        ".globl inject_stub_begin, inject_stub_end\n"
        ".hidden inject_stub_begin, inject_stub_end\n"
        "inject_stub_begin:\n"
        "\tcld\n"
        "\tfninit\n" // as a function may expect it; what was is in the frame
        "\tsub $16, %%rsp\n"
        "\tmovl $0x1f80, (%%rsp)\n"
        "\tldmxcsr (%%rsp)\n"
        "\tcall *%c[errno_location](%%rbx)\n"
        "\tmov %%rax, %%r12\n"
        "\tmov (%%rax), %%r13d\n"
        "\tmovq %[begun], %c[state](%%rbx)\n"
        "\tmov %c[entry](%%rbx), %%r14\n"
        "\tmov %c[first_path](%%rbx), %%rdi\n"
        "\ttest %%rdi, %%rdi\n"
        "\tjz 6f\n"
        "\tmov $2, %%esi\n" // RTLD_NOW, and local
        "\tcall *%c[dlopen](%%rbx)\n"
        "\ttest %%rax, %%rax\n"
        "\tjz 2f\n"
        "6:\n"
        "\tmov %c[path](%%rbx), %%rdi\n"
        "\ttest %%rdi, %%rdi\n"
        "\tjz 1f\n"
        "\tmov $2, %%esi\n"
        "\tcall *%c[dlopen](%%rbx)\n"
        "\ttest %%rax, %%rax\n"
        "\tjz 2f\n"
        "\tmov %%rax, %c[handle](%%rbx)\n"
        "\tadd (%%rax), %%r14\n" // the handle is a struct link_map, which begins with l_addr
        "1:\n"
        "\tmovq %[loaded], %c[state](%%rbx)\n"
        "\tmov %c[what](%%rbx), %%rdi\n"
        "\tcall *%%r14\n"
        "\tmovslq %%eax, %%rax\n"
        "\tmov %%rax, %c[result](%%rbx)\n"
        "\tmovq %[done], %c[state](%%rbx)\n"
        "\tjmp 4f\n"
        "2:\n" // why not; this also makes the program's own dlerror say nothing
        "\tcall *%c[dlerror](%%rbx)\n"
        "\ttest %%rax, %%rax\n"
        "\tjz 3f\n"
        "\tmov %%rax, %%rsi\n"
        "\tlea %c[text](%%rbx), %%rdi\n"
        "\tmov %[text_max], %%ecx\n"
        "5:\n"
        "\tlodsb\n"
        "\tstosb\n"
        "\ttest %%al, %%al\n"
        "\tjz 3f\n"
        "\tdec %%ecx\n"
        "\tjnz 5b\n"
        "3:\n"
        "\tmovq %[refused], %c[state](%%rbx)\n"
        "4:\n"
        "\tmovslq %c[fds](%%rbx), %%rdi\n"
        "\ttest %%rdi, %%rdi\n"
        "\tjs 7f\n"
        "\tcall *%c[close](%%rbx)\n"
        "\tmovslq 8+%c[fds](%%rbx), %%rdi\n"
        "\tcall *%c[close](%%rbx)\n"
        "7:\n"
        "\tmov %%r13d, (%%r12)\n"
        "\tmov %c[area](%%rbx), %%rdi\n"
        "\tmov %c[area_bytes](%%rbx), %%rsi\n"
        "\tmov %c[slot](%%rbx), %%rsp\n" // back on the thread's own stack: this one goes
        "\tmov %c[munmap](%%rbx), %%rax\n"
        "\tjmp *%%rax\n"
        "inject_stub_end:\n"
        "\tud2\n"
        :
        : OFFSET(errno_location), OFFSET(state), OFFSET(entry), OFFSET(path), OFFSET(dlopen),
          OFFSET(handle), OFFSET(what), OFFSET(result), OFFSET(dlerror), OFFSET(text), OFFSET(area),
          OFFSET(area_bytes), OFFSET(slot), OFFSET(munmap), OFFSET(first_path), OFFSET(fds),
          OFFSET(close), [begun] "i"(INJECT_STUB_BEGUN), [loaded] "i"(INJECT_STUB_LOADED),
          [refused] "i"(INJECT_STUB_REFUSED), [done] "i"(INJECT_STUB_DONE),
          [text_max] "i"(INJECT_TEXT_BYTES - 1));
}

const void *inject_stub(size_t *size)
{
    *size = (size_t)(inject_stub_end - inject_stub_begin);
    return inject_stub_begin;
}

const void *inject_restore_code(size_t *size)
{
    static const uint8_t code[] = {0x48, 0xc7, 0xc0, SYS_rt_sigreturn, 0, 0, 0, 0x0f, 0x05};
    *size = sizeof code;
    return code;
}
