// SPDX-License-Identifier: MIT

#include "symbols/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct text {
    uint64_t hash;
    const char *demangled; // NULL: not asked for yet
    char bytes[];
};

enum { DEMANGLED_BYTES = 16 << 10 };

// --- Strings.

static uint64_t hash_text(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u ^ n, word;
    for (; n >= sizeof word; n -= sizeof word, s += sizeof word) {
        memcpy(&word, s, sizeof word);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    word = 0;
    memcpy(&word, s, n);
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static int grow_texts(struct symbols *s)
{
    size_t capacity = s->text_capacity ? 2 * s->text_capacity : 4096;
    struct text **more = calloc(capacity, sizeof *more);
    if (!more)
        return -ENOMEM;
    for (size_t i = 0; i < s->text_capacity; i++) {
        struct text *t = s->texts[i];
        if (!t)
            continue;
        size_t at = t->hash & (capacity - 1);
        while (more[at])
            at = (at + 1) & (capacity - 1);
        more[at] = t;
    }
    free(s->texts);
    s->texts = more;
    s->text_capacity = capacity;
    return 0;
}

static struct text *intern(struct symbols *s, const char *bytes)
{
    if (2 * s->text_count >= s->text_capacity && grow_texts(s))
        return NULL;
    size_t n = strlen(bytes);
    uint64_t hash = hash_text(bytes, n);
    size_t at = hash & (s->text_capacity - 1);
    for (; s->texts[at]; at = (at + 1) & (s->text_capacity - 1))
        if (s->texts[at]->hash == hash && !strcmp(s->texts[at]->bytes, bytes))
            return s->texts[at];
    struct text *t = arena_alloc(&s->arena, sizeof *t + n + 1);
    if (!t)
        return NULL;
    t->hash = hash;
    memcpy(t->bytes, bytes, n + 1);
    s->texts[at] = t;
    s->text_count++;
    return t;
}

const char *symbols_text(struct symbols *s, const char *text)
{
    struct text *t = intern(s, text);
    return t ? t->bytes : NULL;
}

const char *symbols_demangled(struct symbols *s, const char *text)
{
    struct text *t = intern(s, text);
    if (!t)
        return NULL;
    if (!t->demangled) {
        char name[DEMANGLED_BYTES];
        t->demangled =
            symbols_demangle(t->bytes, name, sizeof name) ? symbols_text(s, name) : t->bytes;
    }
    return t->demangled;
}

// --- Context.

int symbols_new(struct symbols **out, const struct symbols_options *opts, struct fscope_error *err)
{
    *out = NULL;
    struct symbols *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, -ENOMEM, 0, "out of memory");
    if (opts) {
        size_t n = opts->size < sizeof s->opts ? opts->size : sizeof s->opts;
        memcpy(&s->opts, opts, n);
    }
    *out = s;
    return 0;
}

static void image_close(struct symbols_image *im)
{
    symbols_cache_close(im->cache); // before the texts that it writes
    reader_close(im->reader);       // before the files that they read
    dwarf_index_close(im->dwarf);
    symtab_finish(&im->symtab);
    free(im->slots.slots);
    elf_file_close(im->mini);
    elf_file_close(im->debug);
    elf_file_close(im->main);
    free(im->key);
    free(im);
}

void symbols_free(struct symbols *s)
{
    if (!s)
        return;
    while (s->images) {
        struct symbols_image *im = s->images;
        s->images = im->next;
        image_close(im);
    }
    arena_finish(&s->arena);
    free(s->texts);
    free(s);
}

// --- Opening.

static struct symbols_image *find_image(struct symbols *s, const char *key)
{
    for (struct symbols_image *im = s->images; im; im = im->next)
        if (!strcmp(im->key, key))
            return im;
    return NULL;
}

static struct symbols_image *image_new(struct symbols *s, const char *key)
{
    struct symbols_image *im = calloc(1, sizeof *im);
    if (!im)
        return NULL;
    im->owner = s;
    im->debug_path = "";
    im->key = strdup(key);
    if (!im->key) {
        free(im);
        return NULL;
    }
    return im;
}

static void image_keep(struct symbols_image *im)
{
    im->next = im->owner->images;
    im->owner->images = im;
}

static int add_symbols(struct symbols_image *im, const struct elf_file *f,
                       enum symbols_source source)
{
    int n = symtab_add_elf(&im->symtab, f, source == SYMBOLS_DYNSYM ? SHT_DYNSYM : SHT_SYMTAB);
    if (n > 0 && source > im->source)
        im->source = source;
    return n < 0 ? n : 0;
}

// Collects every table of function names there is. They agree where they overlap; merging costs
// nothing, choosing could choose wrong.
static int load_symtab(struct symbols_image *im)
{
    int rc = 0;
    if (im->main) {
        rc = add_symbols(im, im->main, SYMBOLS_DYNSYM);
        if (!rc)
            rc = add_symbols(im, im->main, SYMBOLS_SYMTAB);
        if (!rc && im->source < SYMBOLS_SYMTAB && !minidebug_open(&im->mini, im->main))
            rc = add_symbols(im, im->mini, SYMBOLS_MINIDEBUG);
        if (!rc)
            rc = symtab_add_plt(&im->symtab, im->main, &im->slots, &im->owner->arena);
    }
    if (!rc && im->debug)
        rc = add_symbols(im, im->debug, SYMBOLS_SYMTAB);
    symtab_sort(&im->symtab);
    return rc;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        h = (h ^ (v >> 8 * i & 0xff)) * 0x100000001b3u;
    return h;
}

// Only of files that are identified: by build id, and by what else could change an answer.
static void open_cache(struct symbols_image *im, const struct elf_file *dwarf)
{
    const char *id = symbols_image_build_id(im);
    if (im->owner->opts.no_cache || !*id)
        return;
    uint64_t h = 0xcbf29ce484222325u;
    const struct elf_file *files[] = {im->main, dwarf};
    for (int i = 0; i < 2; i++)
        if (files[i]) {
            h = mix(h, files[i]->size);
            h = mix(h, (uint64_t)files[i]->mtime.tv_sec);
            h = mix(h, (uint64_t)files[i]->mtime.tv_nsec);
        }
    im->cache = symbols_cache_open(im->owner->opts.cache_dir, id, h);
}

// Broken debug info costs lines, not the image.
static int load_debug(struct symbols_image *im, const char *build_id, struct fscope_error *err)
{
    struct symbols *s = im->owner;
    const struct elf_file *dwarf = NULL;
    if (im->main && elf_file_has_dwarf(im->main))
        dwarf = im->main;
    else if (!im->debug)
        (void)debug_file_find(&im->debug, s, im->main, build_id);
    if (im->debug) {
        im->debug_path = symbols_text(s, im->debug->path);
        if (!im->debug_path)
            im->debug_path = "";
        if (elf_file_has_dwarf(im->debug))
            dwarf = im->debug;
    }
    int rc = load_symtab(im);
    if (rc)
        return error_set(err, rc, 0, "%s: out of memory", im->key);
    if (dwarf) {
        im->dwarf_file = dwarf;
        im->is_dwarf_unread = true;
        im->source = SYMBOLS_DWARF;
        open_cache(im, dwarf);
    }
    return 0;
}

static int check_build_id(const struct elf_file *f, const char *wanted, struct fscope_error *err)
{
    if (!wanted || !*wanted || !strcmp(f->build_id, wanted))
        return 0;
    if (!*f->build_id)
        return error_set(err, -ESTALE, 0, "%s: has no build id; the profile is of %s", f->path,
                         wanted);
    return error_set(err, -ESTALE, 0,
                     "%s: has build id %s, the profile is of %s (replaced since? addresses stay)",
                     f->path, f->build_id, wanted);
}

// Takes f in any case.
static int open_file(struct symbols *s, struct symbols_image **out, struct elf_file *f,
                     const char *build_id, struct fscope_error *err)
{
    char key[64 + 2 * ELF_BUILD_ID_BYTES_MAX];
    int rc = check_build_id(f, build_id, err);
    if (rc)
        goto fail;
    if (f->fd >= 0)
        snprintf(key, sizeof key, "%llx:%llx:%s", (unsigned long long)f->dev,
                 (unsigned long long)f->ino, f->build_id);
    else
        snprintf(key, sizeof key, "memory:%p:%s", (void *)f, f->build_id);
    struct symbols_image *im = find_image(s, key);
    if (im) {
        elf_file_close(f);
        *out = im;
        return 0;
    }
    im = image_new(s, key);
    if (!im) {
        rc = error_set(err, -ENOMEM, 0, "%s: out of memory", f->path);
        goto fail;
    }
    im->main = f;
    rc = load_debug(im, f->build_id, err);
    if (rc) {
        image_close(im);
        return rc;
    }
    image_keep(im);
    *out = im;
    return 0;
fail:
    elf_file_close(f);
    return rc;
}

int symbols_open_path(struct symbols *s, struct symbols_image **out, const char *path,
                      const char *build_id, struct fscope_error *err)
{
    *out = NULL;
    char below_root[4096];
    snprintf(below_root, sizeof below_root, "%s%s", s->opts.root ? s->opts.root : "", path);
    struct elf_file *f;
    int rc = elf_file_open(&f, below_root, err);
    return rc ? rc : open_file(s, out, f, build_id, err);
}

int symbols_open_fd(struct symbols *s, struct symbols_image **out, int fd, const char *name,
                    const char *build_id, struct fscope_error *err)
{
    *out = NULL;
    struct elf_file *f;
    int rc = elf_file_open_fd(&f, fd, name, err);
    return rc ? rc : open_file(s, out, f, build_id, err);
}

int symbols_open_memory(struct symbols *s, struct symbols_image **out, const void *data,
                        size_t size, const char *name, struct fscope_error *err)
{
    *out = NULL;
    void *copy = malloc(size ? size : 1);
    if (!copy)
        return error_set(err, -ENOMEM, 0, "%s: out of memory", name);
    memcpy(copy, data, size);
    struct elf_file *f;
    int rc = elf_file_open_memory(&f, copy, size, name, err);
    return rc ? rc : open_file(s, out, f, NULL, err);
}

int symbols_open_build_id(struct symbols *s, struct symbols_image **out, const char *build_id,
                          struct fscope_error *err)
{
    *out = NULL;
    char key[64 + 2 * ELF_BUILD_ID_BYTES_MAX];
    snprintf(key, sizeof key, "id:%.128s", build_id);
    *out = find_image(s, key);
    if (*out)
        return 0;
    struct symbols_image *im = image_new(s, key);
    if (!im)
        return error_set(err, -ENOMEM, 0, "out of memory");
    if (debug_file_find(&im->debug, s, NULL, build_id)) {
        image_close(im);
        return error_set(err, -ENOENT, 0, "no debug file for build id %s", build_id);
    }
    if (!s->opts.no_debuginfod && !elf_file_has_dwarf(im->debug))
        (void)debuginfod_find(&im->main, build_id, true);
    int rc = load_debug(im, build_id, err);
    if (rc) {
        image_close(im);
        return rc;
    }
    image_keep(im);
    *out = im;
    return 0;
}

static int open_map(struct symbols *s, struct symbols_image **out, const char *path, bool is_kernel,
                    struct fscope_error *err)
{
    *out = find_image(s, path);
    if (*out)
        return 0;
    struct symbols_image *im = image_new(s, path);
    if (!im)
        return error_set(err, -ENOMEM, 0, "%s: out of memory", path);
    im->is_map = true;
    im->source = SYMBOLS_MAP;
    int rc = map_read(im, path, is_kernel, err);
    if (rc) {
        image_close(im);
        return rc;
    }
    image_keep(im);
    *out = im;
    return 0;
}

int symbols_open_kernel(struct symbols *s, struct symbols_image **out, const char *path,
                        struct fscope_error *err)
{
    return open_map(s, out, path ? path : "/proc/kallsyms", true, err);
}

int symbols_open_perf_map(struct symbols *s, struct symbols_image **out, const char *path,
                          struct fscope_error *err)
{
    return open_map(s, out, path, false, err);
}

// --- Asking.

enum symbols_source symbols_image_source(const struct symbols_image *im)
{
    return im->source;
}

const char *symbols_image_build_id(const struct symbols_image *im)
{
    return im->main ? im->main->build_id : im->debug ? im->debug->build_id : "";
}

const char *symbols_image_debug_file(const struct symbols_image *im)
{
    return im->debug_path;
}

int symbols_address_of_offset(const struct symbols_image *im, uint64_t offset, uint64_t *address)
{
    *address = offset;
    if (im->is_map)
        return 0;
    const struct elf_file *f = im->main ? im->main : im->debug;
    // The kernel maps whole pages, so a segment's first and last page hold bytes around it too;
    // executable segments first, those are what samples are in.
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < f->load_count; i++) {
            const struct elf_load *l = &f->loads[i];
            if (l->is_executable == (pass == 0) && offset >= l->offset &&
                offset - l->offset < l->file_bytes) {
                *address = l->address + (offset - l->offset);
                return 0;
            }
        }
    if (im->main || !f->load_count)
        return -ENOENT;
    // A detached debug file has no file bytes and its offsets are its own. Linkers put segments at
    // addresses that differ from the original offsets by one constant, that of the first segment.
    uint64_t guess = f->loads[0].address + offset;
    for (uint32_t i = 0; i < f->load_count; i++)
        if (guess >= f->loads[i].address && guess - f->loads[i].address < f->loads[i].size_bytes) {
            *address = guess;
            return 0;
        }
    return -ENOENT;
}

static void name_from_symbol(struct symbols *s, const struct symbol *sym, struct symbols_frame *f)
{
    f->system_name = sym->name;
    f->name = s->opts.no_demangle ? sym->name : symbols_demangled(s, sym->name);
    if (!f->name)
        f->name = sym->name;
}

// Debug info is opened when a lookup first needs it. What our reader does not know, libdw may: from
// then on it reads this file.
static int dwarf_lookup(struct symbols_image *im, uint64_t address, struct symbols_frame *frames,
                        uint32_t max, bool *is_plain)
{
    const struct elf_file *f = im->dwarf_file;
    if (im->is_dwarf_unread) {
        struct elf_file *alt = NULL;
        im->is_dwarf_unread = false;
        int rc = -ENOTSUP;
        if (!im->owner->opts.use_libdw) {
            (void)debug_file_find_alt(&alt, im->owner, f);
            rc = reader_open(&im->reader, im->owner, f, alt);
        }
        if (rc == -ENOTSUP)
            (void)dwarf_index_open(&im->dwarf, im->owner, f, NULL);
    }
    int n = im->reader ? reader_lookup(im->reader, address, frames, max, is_plain) : 0;
    if (n == -ENOTSUP) {
        n = 0;
        reader_close(im->reader);
        im->reader = NULL;
        (void)dwarf_index_open(&im->dwarf, im->owner, f, NULL);
    }
    return im->dwarf ? dwarf_index_lookup(im->dwarf, address, frames, max, is_plain) : n;
}

static int lookup(struct symbols_image *im, uint64_t address, struct symbols_frame *frames,
                  uint32_t max)
{
    bool is_plain = false;
    int n = dwarf_lookup(im, address, frames, max, &is_plain);
    if (n < 0)
        return n;
    bool has_name = n > 0 && *frames[n - 1].name;
    if (has_name && !is_plain)
        return n;
    const struct symbol *sym = symtab_find(&im->symtab, address);
    // For a lambda or a function in an anonymous namespace the linker knows the whole name.
    if (has_name &&
        (!sym || symbols_demangled(im->owner, sym->name) == symbols_text(im->owner, sym->name)))
        return n;
    if (!sym)
        return n;
    if (!n)
        frames[n++] = (struct symbols_frame){.name = "", .system_name = "", .file = ""};
    name_from_symbol(im->owner, sym, &frames[n - 1]);
    return n;
}

int symbols_lookup(struct symbols_image *im, uint64_t address, struct symbols_frame *frames,
                   uint32_t max)
{
    struct symbols_frame all[SYMBOLS_FRAMES_MAX];
    int n = im->cache ? symbols_cache_find(im->cache, address, all, SYMBOLS_FRAMES_MAX) : -ENOENT;
    if (n < 0) {
        n = lookup(im, address, all, SYMBOLS_FRAMES_MAX);
        if (n >= 0 && im->cache)
            symbols_cache_add(im->cache, address, all, (uint32_t)n);
    }
    if (n <= 0 || !max)
        return n < 0 ? n : 0;
    uint32_t count = (uint32_t)n, skip = 0;
    if (im->owner->opts.no_inlines)
        max = 1;
    if (count > max)
        skip = count - max;
    memcpy(frames, all + skip, (count - skip) * sizeof *frames);
    if (im->owner->opts.no_inlines) {
        // One frame that tells both: the function that holds the code, the line at the address.
        frames[0].file = all[0].file;
        frames[0].line = all[0].line;
        frames[0].column = all[0].column;
    }
    return (int)(count - skip);
}

int symbols_build_id_of_fd(int fd, char *hex, size_t size)
{
    struct elf_file *f;
    int rc = elf_file_open_fd(&f, fd, "", NULL);
    if (rc)
        return rc;
    size_t n = strlen(f->build_id);
    rc = n ? (int)(n / 2) : -ENOENT;
    if (n && n >= size)
        rc = -ENOSPC;
    else if (n)
        memcpy(hex, f->build_id, n + 1);
    elf_file_close(f);
    return rc;
}
