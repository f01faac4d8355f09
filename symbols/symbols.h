// SPDX-License-Identifier: MIT
//
// Addresses of ELF files into functions, files, lines and inlined frames.
//
//   struct symbols        options, the images opened so far, demangled names
//   struct symbols_image  one file (or vdso, kernel, JIT map) with everything known about it
//   frame                 one function at an address; an address has one frame per inlined
//                         function there, innermost first, and last the function that holds the code
//
// Addresses are link-time addresses, as `nm` and `addr2line` print them; a mapping's addresses
// become such ones by symbols_address_of_offset. Names come from DWARF (also of a separate debug
// file, with its dwz file), else from .symtab, .gnu_debugdata and .dynsym, whichever knows more.
//
// Where debug files are looked for, in this order; each must carry the image's build id (debuglink
// without a build id: its CRC): the image itself; DIR/.build-id/xx/yyy.debug and DIR/PATH.debug of
// each debug directory; .gnu_debuglink beside the image and in .debug/; debuginfod if
// DEBUGINFOD_URLS is set.
//
// Input is hostile: a broken file costs its own symbols and nothing else. libelf and libdw do the
// decoding; what they trust is checked first (elf_check.c).
//
// A struct symbols and its images belong to one thread at a time; several may be used in parallel.

#ifndef FIBERSCOPE_SYMBOLS_H
#define FIBERSCOPE_SYMBOLS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symbols;
struct symbols_image;

struct symbols_options {
    size_t size; // sizeof(struct symbols_options)
    // Searched before /usr/lib/debug. Borrowed until symbols_free.
    const char *const *debug_dirs;
    size_t debug_dir_count;
    const char *root;      // put before every path ("/proc/42/root"); NULL: none
    const char *cache_dir; // NULL: $XDG_CACHE_HOME/fiberscope, else ~/.cache/fiberscope
    bool no_cache;         // neither read nor write cache_dir
    bool no_default_dirs;  // leave out /usr/lib/debug
    bool no_debuginfod;    // even when DEBUGINFOD_URLS is set
    bool no_inlines;       // only the function that holds the code
    bool no_demangle;      // a linkage name is its own `name`
    bool use_libdw;        // for everything, not only where our own reader refuses; for tests
};

enum symbols_source { // where names come from, weakest first
    SYMBOLS_NONE,
    SYMBOLS_DYNSYM,    // exported functions only
    SYMBOLS_MINIDEBUG, // .gnu_debugdata: all functions, no lines
    SYMBOLS_SYMTAB,    // all functions, no lines
    SYMBOLS_MAP,       // /tmp/perf-PID.map, /proc/kallsyms
    SYMBOLS_DWARF,     // lines and inlined frames too
};

struct symbols_frame {
    const char *name;        // demangled; "" only if nothing is known
    const char *system_name; // as linked, or DW_AT_name where there is no linkage name
    const char *file;        // absolute where the debug info says so; "" if unknown
    uint32_t line;           // 0 if unknown
    uint32_t column;
    uint32_t start_line; // the function's first line, 0 if unknown
    bool is_inlined;     // into the frame after it
};

enum { SYMBOLS_FRAMES_MAX = 64 }; // inlined deeper than that: the innermost ones are left out

// opts may be NULL. [any thread]
int symbols_new(struct symbols **out, const struct symbols_options *opts, struct fscope_error *err);
void symbols_free(struct symbols *s); // accepts NULL; closes all images

// --- Images. They live until symbols_free; opening the same file again gives the same image.
// build_id is lower-case hex or NULL/"" (then whatever the file has is right).
// -ESTALE: the file has another build id; -ENOEXEC: not ELF, or broken; -ENOENT and the like.

int symbols_open_path(struct symbols *s, struct symbols_image **out, const char *path,
                      const char *build_id, struct fscope_error *err);

// fd is duplicated. name is what errors call it and where its debug files are looked for.
int symbols_open_fd(struct symbols *s, struct symbols_image **out, int fd, const char *name,
                    const char *build_id, struct fscope_error *err);

// Without the file itself: its debug file by build id alone (or the file, from debuginfod).
int symbols_open_build_id(struct symbols *s, struct symbols_image **out, const char *build_id,
                          struct fscope_error *err);

// An ELF image in memory; copied. [0, size) is hostile like a file.
int symbols_open_memory(struct symbols *s, struct symbols_image **out, const void *data,
                        size_t size, const char *name, struct fscope_error *err);

// The vdso of this process, which is that of every 64-bit process under this kernel.
int symbols_open_vdso(struct symbols *s, struct symbols_image **out, const char *build_id,
                      struct fscope_error *err);

// Text maps; addresses are run-time ones. The kernel's is refused with -EACCES if this user sees only
// zeros there (kptr_restrict). path NULL: /proc/kallsyms.
int symbols_open_kernel(struct symbols *s, struct symbols_image **out, const char *path,
                        struct fscope_error *err);
int symbols_open_perf_map(struct symbols *s, struct symbols_image **out, const char *path,
                          struct fscope_error *err);

enum symbols_source symbols_image_source(const struct symbols_image *im);
const char *symbols_image_build_id(const struct symbols_image *im);   // "" if it has none
const char *symbols_image_debug_file(const struct symbols_image *im); // "" if none but itself

// The link-time address of a file offset by the program headers; -ENOENT outside of them.
// Text maps: the offset itself.
int symbols_address_of_offset(const struct symbols_image *im, uint64_t offset, uint64_t *address);

// Fills frames, innermost first, at most max; their number, 0 if nothing is known of the address, or
// -ENOMEM. Strings stay valid until symbols_free.
int symbols_lookup(struct symbols_image *im, uint64_t address, struct symbols_frame *frames,
                   uint32_t max);

// --- Code. The first two know only what the file itself says, not a separate debug file.

// Copies what the file has from a link-time address on, at most size bytes; their number, 0 where it has nothing.
size_t symbols_read(const struct symbols_image *im, uint64_t address, void *out, size_t size);

// The linkage name of the function whose address the loader writes there (a slot of the GOT), NULL if it is no such
// place. Valid until symbols_free.
const char *symbols_slot_function(const struct symbols_image *im, uint64_t address);

// The link-time address of the function with this linkage name; -ENOENT: the symbol tables have none.
int symbols_function_address(const struct symbols_image *im, const char *name, uint64_t *address);

// --- Helpers.

// C++ (Itanium), Rust (v0, legacy): the demangled name, or mangled itself if it is none of them. Copied
// into out, cut at size. Returns whether it was demangled. [any thread]
bool symbols_demangle(const char *mangled, char *out, size_t size);

// Writes the build id of an ELF file as hex; its length in bytes, or -ENOENT, -ENOEXEC. [any thread]
int symbols_build_id_of_fd(int fd, char *hex, size_t size);

// The Debian package that would bring debug info for path, by dpkg's own lists: 0, or -ENOENT (also
// when that package is installed already).
// Where the package must come from the debug archive, *from_debug_archive (may be NULL) is true.
int symbols_debian_package(const char *path, char *name, size_t size, bool *from_debug_archive);

#endif
