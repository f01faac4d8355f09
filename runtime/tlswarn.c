// SPDX-License-Identifier: MIT
//
// A warning at the start for modules with general-dynamic TLS: compilers keep the address that
// __tls_get_addr gave, and after a switch it is another thread's. One line for all of them.

#include "runtime/core.h"
#include "runtime/print.h"

#include <elf.h>
#include <link.h>
#include <string.h>

enum { SHOWN = 4 };

struct tls_modules {
    const char *names[SHOWN];
    uint32_t count;
};

// C and C++ libraries know threads; their TLS is not kept over calls that switch.
static bool is_ours(const char *path)
{
    static const char *const names[] = {"libc.so",     "ld-linux",   "libpthread", "libm.so",
                                        "libstdc++",   "libgcc_s",   "libc++",     "libfiberscope",
                                        "linux-vdso",  "libasan.so", "libtsan.so", "libubsan.so",
                                        "libclang_rt", "libdl.so",   "librt.so"};
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strncmp(base, names[i], strlen(names[i])))
            return true;
    return false;
}

static bool has_dynamic_tls(const ElfW(Rela) * r, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof *r; i++)
        if (ELF64_R_TYPE(r[i].r_info) == R_X86_64_DTPMOD64 ||
            ELF64_R_TYPE(r[i].r_info) == R_X86_64_TLSDESC)
            return true;
    return false;
}

static int look_at(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    struct tls_modules *found = arg;
    uintptr_t rela = 0, plt = 0;
    size_t rela_bytes = 0, plt_bytes = 0;
    if (is_ours(info->dlpi_name))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_DYNAMIC)
            continue;
        const ElfW(Dyn) *d = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
        for (; d->d_tag != DT_NULL; d++) { // ld.so has made the pointers addresses
            switch (d->d_tag) {
            case DT_RELA: rela = d->d_un.d_ptr; break;
            case DT_RELASZ: rela_bytes = d->d_un.d_val; break;
            case DT_JMPREL: plt = d->d_un.d_ptr; break;
            case DT_PLTRELSZ: plt_bytes = d->d_un.d_val; break;
            default: break;
            }
        }
    }
    if ((rela && has_dynamic_tls((const void *)rela, rela_bytes)) ||
        (plt && has_dynamic_tls((const void *)plt, plt_bytes))) {
        if (found->count < SHOWN)
            found->names[found->count] = info->dlpi_name;
        found->count++;
    }
    return 0;
}

void tls_warn(void)
{
    struct tls_modules found = {.count = 0};
    dl_iterate_phdr(look_at, &found);
    if (!found.count)
        return;
    struct print p = {.fd = 2};
    print_text(&p, "fiberscope-rt: thread-local variables that may be kept over a switch "
                   "(general-dynamic TLS) in ");
    for (uint32_t i = 0; i < found.count && i < SHOWN; i++) {
        const char *slash = strrchr(found.names[i], '/');
        print_format(&p, "%s%s", i ? ", " : "", slash ? slash + 1 : found.names[i]);
    }
    if (found.count > SHOWN)
        print_format(&p, " and %u more", (uint64_t)found.count - SHOWN);
    print_text(&p, ": see \"errno and TLS\" in fiberscope-runtime(7); FIB_DEBUG=tlswarn=0\n");
    print_flush(&p);
}
