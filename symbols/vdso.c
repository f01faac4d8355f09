// SPDX-License-Identifier: MIT
//
// The vdso: an ELF image that the kernel maps into every process and that is in no file.

#include "symbols/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>

// Its end: the section headers come last in what the kernel links.
static size_t image_size(const Elf64_Ehdr *eh)
{
    size_t end = eh->e_shoff + (size_t)eh->e_shnum * eh->e_shentsize;
    return end >= sizeof *eh && end < 1 << 16 ? end : 0;
}

int symbols_open_vdso(struct symbols *s, struct symbols_image **out, const char *build_id,
                      struct fscope_error *err)
{
    *out = NULL;
    uint64_t at = getauxval(AT_SYSINFO_EHDR);
    if (!at)
        return error_set(err, -ENOENT, 0, "[vdso]: this process has none");
    const Elf64_Ehdr *eh = (const Elf64_Ehdr *)(uintptr_t)at;
    size_t size = image_size(eh);
    if (memcmp(eh->e_ident, ELFMAG, SELFMAG) || !size)
        return error_set(err, -ENOEXEC, 0, "[vdso]: not an ELF image");
    int rc = symbols_open_memory(s, out, eh, size, "[vdso]", err);
    if (!rc && build_id && *build_id && strcmp(symbols_image_build_id(*out), build_id)) {
        rc = error_set(err, -ESTALE, 0, "[vdso]: this kernel's has build id %s, the profile's %s",
                       symbols_image_build_id(*out), build_id);
        *out = NULL;
    }
    return rc;
}
