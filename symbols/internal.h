// SPDX-License-Identifier: MIT
//
// What the files of symbols/ share.
//
// Invariant: an image's tables are sorted by address once they are built, and point only to strings
// of the context's arena or of ELF data that the image keeps open.

#ifndef FIBERSCOPE_SYMBOLS_INTERNAL_H
#define FIBERSCOPE_SYMBOLS_INTERNAL_H

#include "base/arena.h"
#include "symbols/cache.h"
#include "symbols/elf_file.h"
#include "symbols/symbols.h"

#include <elfutils/libdw.h>

// --- Ranges: addresses to the number of what covers them.

struct range {
    uint64_t low, high; // half open
    uint64_t reach;     // the highest `high` of this and all before it; set by range_table_sort
    uint32_t index;
};

struct range_table {
    struct range *ranges;
    size_t count, capacity;
};

int range_table_add(struct range_table *t, uint64_t low, uint64_t high, uint32_t index);
void range_table_sort(struct range_table *t);
// Where several cover the address, the one with the smallest index; UINT32_MAX if none.
uint32_t range_table_find(const struct range_table *t, uint64_t address);
void range_table_finish(struct range_table *t);

// --- Symbol tables.

struct symbol {
    uint64_t low, high;
    const char *name;
    uint8_t rank; // of aliases the greatest wins, see symtab.c
    bool is_sized;
};

struct symtab {
    struct symbol *symbols;
    size_t count, capacity;
};

int symtab_add(struct symtab *t, const struct symbol *s);
// Adds the functions of section ".symtab" or ".dynsym"; the number added or -ENOMEM.
int symtab_add_elf(struct symtab *t, const struct elf_file *f, uint32_t section_type);
// The loader's slots for addresses of functions, by address.
struct plt_slot {
    uint64_t address;
    const char *name;
};
struct plt_slots {
    struct plt_slot *slots;
    size_t count, capacity;
};
// Adds name@plt for each stub of the procedure linkage tables; *slots, empty before, is filled. plt.c.
int symtab_add_plt(struct symtab *t, const struct elf_file *f, struct plt_slots *slots,
                   struct arena *arena);
const char *plt_slots_find(const struct plt_slots *s, uint64_t address); // NULL: none
void symtab_sort(struct symtab *t);
const struct symbol *symtab_find(const struct symtab *t, uint64_t address);
void symtab_finish(struct symtab *t);

// --- DWARF: through our own reader (reader.h), where that refuses through libdw (dwarf_index.h).

enum dwarf_kind { DWARF_FUNCTION, DWARF_INLINED, DWARF_BLOCK };

struct dwarf_pcs {
    uint64_t low, high;
};

struct frame_names { // of a function or an inlined call of it
    const char *name, *system_name;
    uint32_t start_line;
    bool is_plain; // no linkage name although the language has them
    bool is_inlined;
    const char *call_file; // "" unless is_inlined
    uint32_t call_line, call_column;
};

// The frames of a chain of n functions, chain[0] the outermost, `at` being where the innermost is.
int frames_fill(struct symbols_frame *frames, uint32_t max, const struct frame_names *const *chain,
                uint32_t n, struct symbols_frame at);

struct reader;
struct dwarf_index;
int dwarf_index_open(struct dwarf_index **out, struct symbols *s, const struct elf_file *f,
                     struct fscope_error *err);
void dwarf_index_close(struct dwarf_index *d);
// As symbols_lookup; a frame's name is "" where DWARF has lines but no function. *is_plain: the last
// frame's system_name is no linkage name although its language has them; the symbol table may know it.
int dwarf_index_lookup(struct dwarf_index *d, uint64_t address, struct symbols_frame *frames,
                       uint32_t max, bool *is_plain);

// --- Debug files. debug_file.c.

// Finds and opens the separate debug file of main (or, main NULL, of build_id). -ENOENT: none.
int debug_file_find(struct elf_file **out, struct symbols *s, const struct elf_file *main,
                    const char *build_id);
// A file by build id below the debug directories, e.g. dwz's.
int debug_file_by_build_id(struct elf_file **out, struct symbols *s, const char *build_id);
// dwz moves what several files share into one more file, which f names; without it many names are
// missing.
int debug_file_find_alt(struct elf_file **out, struct symbols *s, const struct elf_file *f);
int debuginfod_find(struct elf_file **out, const char *build_id, bool executable);
// Unpacks .gnu_debugdata; -ENOENT: none.
int minidebug_open(struct elf_file **out, const struct elf_file *main);

// --- The context.

struct text; // an interned string with its demangled form

struct symbols {
    struct symbols_options opts;
    struct arena arena;
    struct text **texts; // open addressing, text_capacity is a power of two
    size_t text_count, text_capacity;
    struct symbols_image *images;
};

struct symbols_image {
    struct symbols_image *next;
    struct symbols *owner;
    char *key; // what it was opened as
    const char *debug_path;
    struct elf_file *main, *debug, *mini;
    struct symtab symtab;
    struct plt_slots slots; // of main
    struct reader *reader;
    struct dwarf_index *dwarf; // where reader had to refuse
    const struct elf_file *dwarf_file;
    struct symbols_cache *cache;
    enum symbols_source source;
    bool is_map;
    bool is_dwarf_unread; // no lookup has needed it yet
};

// An interned copy that lives as long as the context; NULL: out of memory.
const char *symbols_text(struct symbols *s, const char *text);
// The demangled form of an interned or other string, interned.
const char *symbols_demangled(struct symbols *s, const char *text);

// --- Text maps. maps.c.

int map_read(struct symbols_image *im, const char *path, bool is_kernel, struct fscope_error *err);

#endif
