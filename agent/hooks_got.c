// SPDX-License-Identifier: MIT
//
// Overwriting the slots of loaded modules; see hooks_got.h.
//
// dlopen cannot be hooked, for libc looks at its caller; nor need it be. dlsym, which follows it, is: by a
// jump that leaves the return address as it was, because dlsym looks at its caller too.

#include "agent/hooks_got.h"

#include "agent/agent.h"
#include "agent/arch/x86_64.h"
#include "agent/got_slots.h"
#include "agent/heap_table.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>

enum { NAMES = 1024, SEEN = 512, PAGE = 4096, MAPS_BYTES = 4096 };

_Atomic bool hooks_got_on;
bool hooks_came_late;

static const struct hook *names[NAMES]; // by hash of the name, open addressing
static _Atomic uint32_t is_at_work, is_wanted_again;
static _Atomic uint64_t seen[SEEN]; // starts of patched modules, by hash
static unsigned long long seen_adds;

struct module {
    uint64_t base, start, end;
    const Elf64_Phdr *headers;
    uint32_t header_count;
    uint64_t relro_start, relro_end;
    bool is_opened;  // its relro pages, by us
    bool is_foreign; // it has an allocator of its own
    const Elf64_Sym *symbols;
    const char *strings;
    const Elf64_Rela *tables[2];
    uint64_t counts[2];
};

// --- dlsym: looks first, then goes on as if called directly.

extern void *__libc_stack_end; // of ld.so

extern __attribute__((visibility("hidden"))) hook_fn *hooks_got_dlsym, *hooks_got_dlvsym;
hook_fn *hooks_got_dlsym, *hooks_got_dlvsym;

#define LOOK_AND_JUMP(to)                                                                          \
    __asm__("push %rdi\n\t.cfi_adjust_cfa_offset 8\n\t"                                            \
            "push %rsi\n\t.cfi_adjust_cfa_offset 8\n\t"                                            \
            "push %rdx\n\t.cfi_adjust_cfa_offset 8\n\t"                                            \
            "call hooks_got_look\n\t"                                                              \
            "pop %rdx\n\t.cfi_adjust_cfa_offset -8\n\t"                                            \
            "pop %rsi\n\t.cfi_adjust_cfa_offset -8\n\t"                                            \
            "pop %rdi\n\t.cfi_adjust_cfa_offset -8\n\t"                                            \
            "jmp *" to "(%rip)")

__attribute__((naked)) static void look_and_dlsym(void)
{
    LOOK_AND_JUMP("hooks_got_dlsym");
}

__attribute__((naked)) static void look_and_dlvsym(void)
{
    LOOK_AND_JUMP("hooks_got_dlvsym");
}

static const struct hook own_table[] = {
    {"dlsym", look_and_dlsym, &hooks_got_dlsym},
    {"dlvsym", look_and_dlvsym, &hooks_got_dlvsym},
};
static const struct hook_table own_hooks = {own_table, 2};

// --- What is behind a name.

static bool is_in_same_image(const void *a, const void *b)
{
    struct dl_find_object x, y;
    return !_dl_find_object((void *)(uintptr_t)a, &x) &&
           !_dl_find_object((void *)(uintptr_t)b, &y) && x.dlfo_link_map == y.dlfo_link_map;
}

// Of a name that all libcs have and no allocator does: an allocator preloaded before us is another matter.
bool hooks_got_is_late(void)
{
    return !is_in_same_image(dlsym(RTLD_DEFAULT, "malloc"), &hooks_got_on) &&
           !is_in_same_image(dlsym(RTLD_DEFAULT, "execveat"), &hooks_got_on);
}

// A program that is not position-independent and takes a function's address has a stub of that name,
// which would lead back through its own slot.
static bool is_stub(const void *function)
{
    Dl_info info;
    const Elf64_Sym *symbol = NULL;
    return dladdr1(function, &info, (void **)(void *)&symbol, RTLD_DL_SYMENT) && symbol &&
           symbol->st_shndx == SHN_UNDEF;
}

// In the order in which the dynamic linker searches: the first module that defines it. The handles are
// kept: what the program was linked with never goes.
static void *first_definition(const char *name)
{
    const struct link_map *m = dlopen(NULL, RTLD_LAZY | RTLD_NOLOAD);
    while (m && (m = m->l_next)) {
        Dl_info info;
        const struct link_map *found_in = NULL;
        void *handle = m->l_name[0] ? dlopen(m->l_name, RTLD_LAZY | RTLD_NOLOAD) : NULL;
        void *found = handle ? dlsym(handle, name) : NULL;
        if (found && dladdr1(found, &info, (void **)(void *)&found_in, RTLD_DL_LINKMAP) &&
            found_in == m && !is_in_same_image(found, &hooks_got_on))
            return found;
    }
    return NULL;
}

void *hooks_got_behind(const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    if (found && is_stub(found))
        found = first_definition(name);
    return found && is_in_same_image(found, &hooks_got_on) ? NULL : found;
}

// --- The hooks by name.

static uint32_t hash_name(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 16777619u;
    return h ^ h >> 15;
}

static const struct hook *find_hook(const char *name)
{
    for (uint32_t at = hash_name(name);; at++) {
        const struct hook *h = names[at % NAMES];
        if (!h || strcmp(h->name, name) == 0)
            return h;
    }
}

static void add_names(const struct hook_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        uint32_t at = hash_name(table->hooks[i].name);
        if (!table->hooks[i].ours)
            continue;
        while (names[at % NAMES])
            at++;
        names[at % NAMES] = &table->hooks[i];
    }
}

static bool is_of(const struct hook *h, const struct hook_table *table)
{
    return h >= table->hooks && h < table->hooks + table->count;
}

// --- Modules.

static bool is_in(const struct module *m, uint64_t address)
{
    return address >= m->start && address < m->end;
}

static void read_headers(struct module *m, const Elf64_Dyn **dynamic)
{
    m->start = UINT64_MAX;
    for (uint32_t i = 0; i < m->header_count; i++) {
        const Elf64_Phdr *p = &m->headers[i];
        uint64_t start = m->base + p->p_vaddr, end = start + p->p_memsz;
        if (p->p_type == PT_LOAD) {
            m->start = start < m->start ? start : m->start;
            m->end = end > m->end ? end : m->end;
        } else if (p->p_type == PT_DYNAMIC) {
            *dynamic = (const Elf64_Dyn *)start;
        } else if (p->p_type == PT_GNU_RELRO) { // as ld.so rounds
            m->relro_start = start & ~(uint64_t)(PAGE - 1);
            m->relro_end = end & ~(uint64_t)(PAGE - 1);
        }
    }
}

// False: it has nothing that could be patched. Pointers in a dynamic section are relocated by ld.so.
static bool read_module(struct module *m)
{
    const Elf64_Dyn *d = NULL;
    read_headers(m, &d);
    for (; d && d->d_tag != DT_NULL; d++) {
        const void *at = (const void *)d->d_un.d_ptr;
        switch (d->d_tag) {
        case DT_SYMTAB: m->symbols = at; break;
        case DT_STRTAB: m->strings = at; break;
        case DT_JMPREL: m->tables[0] = at; break;
        case DT_PLTRELSZ: m->counts[0] = d->d_un.d_val / sizeof(Elf64_Rela); break;
        case DT_RELA: m->tables[1] = at; break;
        case DT_RELASZ: m->counts[1] = d->d_un.d_val / sizeof(Elf64_Rela); break;
        default: break;
        }
    }
    return m->symbols && m->strings && is_in(m, (uint64_t)m->symbols) &&
           is_in(m, (uint64_t)m->strings) && (m->tables[0] || m->tables[1]);
}

static bool is_left_alone(const struct module *m)
{
    return is_in(m, (uint64_t)&hooks_got_on) || is_in(m, (uint64_t)&seg_create) ||
           is_in(m, (uint64_t)&__libc_stack_end);
}

// Whether /proc/self/maps says so. A module that another thread is loading is relocated while its pages
// are writable; those are not ours to close.
static bool is_writable(uint64_t address)
{
    char text[MAPS_BYTES] = {0}; // for the analyser: the system call fills it
    uint64_t start = 0, end = 0, *number = &start, column = 0;
    bool is_line = false, found = false;
    int fd = (int)sys4(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
    for (long n; fd >= 0 && !found && (n = sys3(SYS_read, fd, text, sizeof text)) > 0;)
        for (long i = 0; i < n && !found; i++) {
            char c = text[i];
            if (c == '\n') {
                start = end = column = 0;
                number = &start;
                is_line = false;
            } else if (column == 0 && c == '-') {
                number = &end;
            } else if (column == 0 && c == ' ') {
                column = 1;
                is_line = address >= start && address < end;
            } else if (column == 0) {
                *number = *number << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
            } else if (column++ == 2 && is_line) {
                sys1(SYS_close, fd);
                return c == 'w';
            }
        }
    if (fd >= 0)
        sys1(SYS_close, fd);
    return false;
}

static bool make_writable(struct module *m, uint64_t slot)
{
    bool is_data = false;
    for (uint32_t i = 0; i < m->header_count; i++) {
        const Elf64_Phdr *p = &m->headers[i];
        is_data |= p->p_type == PT_LOAD && p->p_flags & PF_W && slot >= m->base + p->p_vaddr &&
                   slot < m->base + p->p_vaddr + p->p_memsz;
    }
    if (!is_data)
        return false;
    if (slot < m->relro_start || slot >= m->relro_end || m->is_opened || is_writable(slot))
        return true;
    m->is_opened =
        !sys3(SYS_mprotect, m->relro_start, m->relro_end - m->relro_start, PROT_READ | PROT_WRITE);
    return m->is_opened;
}

// Whether a slot holds the function behind h, or will: it leads into its own module, and not to a
// definition there.
static bool is_bound_to(const struct module *m, const Elf64_Rela *r, const Elf64_Sym *symbol,
                        uint64_t held, uint64_t real)
{
    if (!held || !real)
        return false;
    if (held == real)
        return true;
    return ELF64_R_TYPE(r->r_info) == R_X86_64_JUMP_SLOT && is_in(m, held) &&
           (symbol->st_shndx == SHN_UNDEF || m->base + symbol->st_value != held);
}

static void patch_slot(struct module *m, const struct hook *h, const Elf64_Rela *r,
                       const Elf64_Sym *symbol, bool is_first_look)
{
    _Atomic uint64_t *slot = (_Atomic uint64_t *)(m->base + r->r_offset);
    uint64_t held = atomic_load_explicit(slot, memory_order_relaxed), ours, real;
    memcpy(&ours, &h->ours, sizeof ours);
    memcpy(&real, (const void *)h->real, sizeof real);
    if (held == ours || (symbol->st_shndx != SHN_UNDEF && is_of(h, &heap_own_hooks)))
        return; // an allocator's own calls of its own names are its affair
    // A name that came with this module: what is behind it is what it was bound to.
    if (!real && held && !is_in(m, held) &&
        (is_of(h, &heap_new_hooks) || is_of(h, &heap_own_hooks))) {
        memcpy((void *)h->real, &held, sizeof held);
        real = held;
        heap_resolved();
    }
    bool is_heap = is_of(h, &heap_hooks);
    if (is_first_look)
        m->is_foreign |= is_heap && real && held && !is_bound_to(m, r, symbol, held, real) &&
                         ELF64_R_TYPE(r->r_info) == R_X86_64_JUMP_SLOT;
    else if (is_bound_to(m, r, symbol, held, real) &&
             !(m->is_foreign && (is_heap || is_of(h, &heap_new_hooks))) &&
             make_writable(m, (uint64_t)slot) && got_slots_remember((uint64_t)slot, held, ours))
        atomic_store_explicit(slot, ours, memory_order_relaxed);
}

static void patch_table(struct module *m, uint32_t which, bool is_first_look)
{
    const Elf64_Rela *r = m->tables[which];
    for (uint64_t i = 0; r && i < m->counts[which]; i++, r++) {
        uint64_t type = ELF64_R_TYPE(r->r_info);
        if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT &&
            (type != R_X86_64_64 || r->r_addend))
            continue;
        const Elf64_Sym *symbol = &m->symbols[ELF64_R_SYM(r->r_info)];
        const struct hook *h = find_hook(m->strings + symbol->st_name);
        if (h)
            patch_slot(m, h, r, symbol, is_first_look);
    }
}

static void close_relro(const struct module *m)
{
    if (m->is_opened)
        sys3(SYS_mprotect, m->relro_start, m->relro_end - m->relro_start, PROT_READ);
}

static void patch_module(struct module *m)
{
    if (!read_module(m) || is_left_alone(m))
        return;
    for (uint32_t pass = 0; pass < 4; pass++)
        patch_table(m, pass & 1, pass < 2);
    close_relro(m);
}

// --- When.

static bool begin_work(void)
{
    uint32_t no = 0;
    atomic_store_explicit(&is_wanted_again, 1, memory_order_relaxed);
    return atomic_compare_exchange_strong_explicit(&is_at_work, &no, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

static void end_work(void)
{
    // release: pairs with the acquire in begin_work
    atomic_store_explicit(&is_at_work, 0, memory_order_release);
}

static int patch_one(struct dl_phdr_info *info, size_t size, void *adds)
{
    struct module m = {
        .base = info->dlpi_addr, .headers = info->dlpi_phdr, .header_count = info->dlpi_phnum};
    (void)size;
    if (info->dlpi_adds == seen_adds)
        return 1;
    *(unsigned long long *)adds = info->dlpi_adds;
    patch_module(&m);
    return 0;
}

__attribute__((used)) void hooks_got_look(void)
{
    if (!atomic_load_explicit(&hooks_got_on, memory_order_relaxed) || !begin_work())
        return;
    do {
        unsigned long long adds = seen_adds;
        atomic_store_explicit(&is_wanted_again, 0, memory_order_relaxed);
        if (!atomic_load_explicit(&hooks_got_on, memory_order_relaxed))
            break; // ended meanwhile
        dl_iterate_phdr(patch_one, &adds);
        seen_adds = adds;
    } while (atomic_load_explicit(&is_wanted_again, memory_order_relaxed));
    end_work();
}

void hooks_got_cover(const uint64_t *pcs, uint32_t depth)
{
    for (uint32_t i = 0; i < depth; i++) {
        struct dl_find_object found;
        if (_dl_find_object((void *)pcs[i], &found) || !found.dlfo_link_map)
            continue;
        uint64_t start = (uint64_t)found.dlfo_map_start;
        _Atomic uint64_t *known = &seen[(start >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> 55];
        const Elf64_Ehdr *e = found.dlfo_map_start;
        if (atomic_load_explicit(known, memory_order_relaxed) == start)
            continue;
        if (!atomic_load_explicit(&hooks_got_on, memory_order_relaxed) || !begin_work())
            return;
        if (!atomic_load_explicit(&hooks_got_on, memory_order_relaxed)) {
            end_work(); // ended meanwhile
            return;
        }
        atomic_store_explicit(known, start, memory_order_relaxed);
        struct module m = {.base = found.dlfo_link_map->l_addr,
                           .headers = (const Elf64_Phdr *)(start + e->e_phoff),
                           .header_count = e->e_phnum};
        if (!memcmp(e->e_ident, ELFMAG, SELFMAG) && e->e_phentsize == sizeof *m.headers)
            patch_module(&m);
        end_work();
    }
}

void hooks_got_forget(void)
{
    for (uint32_t i = 0; i < SEEN; i++)
        atomic_store_explicit(&seen[i], 0, memory_order_relaxed);
}

void hooks_got_fork_child(void)
{
    atomic_store_explicit(&is_at_work, 0, memory_order_relaxed);
}

// Of a table that the symbol back end does not have.
static void resolve_alone(const struct hook_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        void *behind = hooks_got_behind(table->hooks[i].name);
        memcpy((void *)table->hooks[i].real, &behind, sizeof behind);
    }
    add_names(table);
}

void hooks_got_begin(void)
{
    static bool has_names;
    if (atomic_load_explicit(&hooks_got_on, memory_order_relaxed))
        return;
    if (!has_names) {
        resolve_alone(&own_hooks);
        resolve_alone(&heap_own_hooks);
        for (const struct hook_table *const *t = hooks_tables; *t; t++)
            add_names(*t);
    }
    has_names = true;
    seen_adds = 0;
    atomic_store_explicit(&hooks_got_on, true, memory_order_relaxed);
    hooks_got_look();
}

// --- And back.

static void restore_slot(void *arg, const struct got_slot *s)
{
    struct module *m = arg;
    _Atomic uint64_t *slot = (_Atomic uint64_t *)s->at;
    if (atomic_load_explicit(slot, memory_order_relaxed) == s->ours && make_writable(m, s->at))
        atomic_store_explicit(slot, s->held, memory_order_relaxed);
}

// Only in what is loaded: a library that was closed took its slots along.
static int restore_one(struct dl_phdr_info *info, size_t size, void *unused)
{
    const Elf64_Dyn *dynamic = NULL;
    struct module m = {
        .base = info->dlpi_addr, .headers = info->dlpi_phdr, .header_count = info->dlpi_phnum};
    (void)size;
    (void)unused;
    read_headers(&m, &dynamic);
    got_slots_each(m.start, m.end, restore_slot, &m);
    close_relro(&m);
    return 0;
}

bool hooks_got_end(void)
{
    enum { TRIES = 1000 };
    if (!atomic_exchange_explicit(&hooks_got_on, false, memory_order_acq_rel))
        return true;
    int tries = 0;
    while (!begin_work()) {
        if (++tries == TRIES) {
            atomic_store_explicit(&hooks_got_on, true, memory_order_relaxed);
            return false;
        }
        sys0(SYS_sched_yield);
    }
    dl_iterate_phdr(restore_one, NULL);
    got_slots_forget();
    hooks_got_forget();
    end_work();
    return true;
}
