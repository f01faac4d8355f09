// SPDX-License-Identifier: MIT
//
// Names of a target's variables; see target.h.

#include "collector/target_internal.h"

#include "symbols/symbols.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const struct data_symbols *target_file_symbols(struct target_file *f)
{
    if (!f->is_named) {
        f->is_named = true;
        if (f->fd < 0 || data_symbols_open(&f->symbols, f->fd, f->path, NULL))
            f->symbols = NULL;
    }
    return f->symbols;
}

// The file whose data this is. Zero-initialized data is mapped without it: so each file is asked.
static struct target_file *file_of(struct target *t, uint64_t address, uint64_t *inside)
{
    const struct target_map *at = target_map_at(t, address);
    const struct target_file *last = NULL;
    if (!at)
        return NULL;
    for (size_t i = 0; i < t->map_count && t->maps[i].start <= address; i++) {
        struct target_file *f = t->maps[i].file;
        struct loaded place;
        if (!f || f == last)
            continue;
        last = f;
        if (target_loaded(t, f, &place) || address < place.start || address >= place.end)
            continue;
        const struct data_symbols *d = target_file_symbols(f);
        if (!d || !data_symbols_cover(d, address - place.bias))
            continue;
        *inside = address - place.bias;
        return f;
    }
    return NULL;
}

// The program: by its name, or where that was changed, the file that is mapped first.
static const struct target_file *main_file(const struct target *t)
{
    const struct target_file *first = NULL;
    for (size_t i = 0; i < t->map_count; i++) {
        const struct target_file *f = t->maps[i].file;
        if (f && t->name[0] && strncmp(base_name(f->path), t->name, strlen(t->name)) == 0)
            return f;
        first = first ? first : f;
    }
    return first;
}

bool target_variable_at(struct target *t, uint64_t address, char *out, size_t size)
{
    char variable[200] = "", into_text[24] = "", suffix[112] = "";
    const char *symbol;
    uint64_t inside, into;
    out[0] = '\0';
    struct target_file *f = file_of(t, address, &inside);
    if (!f)
        return false;
    if (data_symbols_find(f->symbols, inside, &symbol, &into)) {
        snprintf(out, size, "%.100s+0x%" PRIx64, base_name(f->path), inside);
        return true;
    }
    symbols_demangle(symbol, variable, sizeof variable);
    if (into)
        snprintf(into_text, sizeof into_text, "+0x%" PRIx64, into);
    if (f != main_file(t))
        snprintf(suffix, sizeof suffix, " (%.100s)", base_name(f->path));
    snprintf(out, size, "%s%s%s", variable, into_text, suffix);
    for (char *c = out; *c; c++) // names are the file's
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = '?';
    return true;
}
