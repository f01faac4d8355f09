// SPDX-License-Identifier: MIT
//
// See probe_files.h.

#include "collector/bpf/probe_files.h"

#include "symbols/elf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SYMBOLS_MAX = 1 << 22, NOTE_STAPSDT = 3, WORDS = 3, NEEDED_MAX = 64 };

static const char *const names_of_functions[PROBE_FUNCTIONS] = {
    [PROBE_MALLOC] = "malloc",
    [PROBE_CALLOC] = "calloc",
    [PROBE_REALLOC] = "realloc",
    [PROBE_FREE] = "free",
    [PROBE_ALIGNED_ALLOC] = "aligned_alloc",
    [PROBE_MEMALIGN] = "memalign",
    [PROBE_POSIX_MEMALIGN] = "posix_memalign",
    [PROBE_VALLOC] = "valloc",
    [PROBE_PVALLOC] = "pvalloc",
};

const char *probe_function_name(enum probe_function f)
{
    return names_of_functions[f];
}

// --- What is in a file.

static uint64_t offset_of(const struct elf_file *f, uint64_t address)
{
    for (uint32_t i = 0; i < f->load_count; i++) {
        const struct elf_load *l = &f->loads[i];
        if (l->is_executable && address >= l->address && address - l->address < l->file_bytes)
            return l->offset + (address - l->address);
    }
    return 0;
}

// Two names of one function get one probe, or each call would count twice.
static void put_function(struct probe_file *p, enum probe_function which, uint64_t offset)
{
    for (int i = 0; i < PROBE_FUNCTIONS; i++)
        if (p->functions[i] == offset)
            return;
    if (!p->functions[which])
        p->functions[which] = offset;
}

static void take_symbol(struct probe_file *p, const struct elf_file *f, const GElf_Sym *sym,
                        const char *name)
{
    for (int i = 0; i < PROBE_FUNCTIONS; i++)
        if (strcmp(name, names_of_functions[i]) == 0)
            put_function(p, (enum probe_function)i, offset_of(f, sym->st_value));
}

static void take_table(struct probe_file *p, const struct elf_file *f, Elf_Scn *scn,
                       const GElf_Shdr *sh)
{
    Elf_Data *symbols = elf_getdata(scn, NULL);
    size_t n = symbols ? symbols->d_size / sizeof(Elf64_Sym) : 0;
    for (size_t i = 1; i < n && i < SYMBOLS_MAX; i++) {
        GElf_Sym sym;
        if (!gelf_getsym(symbols, (int)i, &sym) || sym.st_shndx == SHN_UNDEF || !sym.st_value ||
            GELF_ST_TYPE(sym.st_info) != STT_FUNC || GELF_ST_BIND(sym.st_info) == STB_LOCAL)
            continue;
        const char *name = elf_strptr(f->elf, sh->sh_link, sym.st_name);
        if (name)
            take_symbol(p, f, &sym, name);
    }
}

static void take_functions(struct probe_file *p, const struct elf_file *f)
{
    static const GElf_Word types[] = {SHT_DYNSYM,
                                      SHT_SYMTAB}; // a static program has the latter alone
    for (int i = 0; i < 2 && !p->functions[PROBE_MALLOC]; i++)
        for (Elf_Scn *scn = NULL; (scn = elf_nextscn(f->elf, scn));) {
            GElf_Shdr sh;
            if (gelf_getshdr(scn, &sh) && sh.sh_type == types[i])
                take_table(p, f, scn, &sh);
        }
}

// The descriptor of a note of SystemTap's: three words, then provider, name and arguments.
static void take_note(struct probe_file *p, const char *text, size_t size, const char *const *names)
{
    size_t provider = strnlen(text, size) + 1;
    if (provider >= size || strcmp(text, "fiberscope") != 0)
        return;
    const char *name = text + provider;
    if (strnlen(name, size - provider) == size - provider)
        return;
    for (int i = 0; i < PROBE_SITES_MAX && names[i]; i++)
        if (strcmp(name, names[i]) == 0)
            p->sites |= 1u << i;
}

static void take_sites(struct probe_file *p, const struct elf_file *f, const char *const *names)
{
    GElf_Shdr sh;
    GElf_Nhdr note;
    size_t name, text, at = 0;
    Elf_Data *data = elf_file_section_data(f, ".note.stapsdt", &sh);
    while (data && (at = gelf_getnote(data, at, &note, &name, &text)) > 0)
        if (note.n_type == NOTE_STAPSDT && note.n_descsz > WORDS * sizeof(uint64_t))
            take_note(p, (const char *)data->d_buf + text + WORDS * sizeof(uint64_t),
                      note.n_descsz - WORDS * sizeof(uint64_t), names);
}

static struct elf_file *add_file(struct probe_files *out, const char *path,
                                 const char *const *names)
{
    struct stat st;
    struct elf_file *f = NULL;
    struct probe_file *p = &out->files[out->count];
    int fd = out->count < PROBE_FILES_MAX ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        !elf_file_open_fd(&f, fd, path, NULL)) {
        *p = (struct probe_file){.path = strdup(path), .device = st.st_dev, .inode = st.st_ino};
        take_functions(p, f);
        take_sites(p, f, names);
        out->count += p->path != NULL;
    }
    if (fd >= 0)
        close(fd);
    return f;
}

static bool has_inode(const struct probe_files *p, uint64_t inode, const char *path)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->files[i].inode == inode && strcmp(p->files[i].path, path) == 0)
            return true;
    return false;
}

// --- Of a process.

int probe_files_of_process(struct probe_files *out, uint32_t pid, const char *const *names)
{
    char line[PATH_MAX + 128], path[PATH_MAX + 64];
    *out = (struct probe_files){0};
    snprintf(path, sizeof path, "/proc/%u/maps", pid);
    FILE *maps = fopen(path, "re");
    if (!maps)
        return -errno;
    while (fgets(line, sizeof line, maps)) {
        char rights[5];
        unsigned long long inode;
        int at = 0;
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%*x-%*x %4s %*x %*x:%*x %llu %n", rights, &inode, &at) < 2 || !inode ||
            rights[2] != 'x' || line[at] != '/')
            continue;
        snprintf(path, sizeof path, "/proc/%u/root%s", pid, line + at);
        if (!has_inode(out, inode, path))
            elf_file_close(add_file(out, path, names));
    }
    fclose(maps);
    return 0;
}

// --- Of a command.

static const char *const usual_folders[] = {"/lib/x86_64-linux-gnu",
                                            "/usr/lib/x86_64-linux-gnu",
                                            "/usr/local/lib/x86_64-linux-gnu",
                                            "/usr/local/lib",
                                            "/lib64",
                                            "/usr/lib64",
                                            "/lib",
                                            "/usr/lib"};

// One of a list of folders, $ORIGIN in it replaced; the rest of the list, NULL: there is no more.
static const char *next_folder(const char *list, const char *program, char *out, size_t size)
{
    size_t n = strcspn(list, ":");
    const char *slash = strrchr(program, '/');
    const char *origin = strncmp(list, "$ORIGIN", 7) == 0     ? list + 7
                         : strncmp(list, "${ORIGIN}", 9) == 0 ? list + 9
                                                              : NULL;
    if (origin)
        snprintf(out, size, "%.*s%.*s", slash ? (int)(slash - program) : 1, slash ? program : ".",
                 (int)(list + n - origin), origin);
    else
        snprintf(out, size, "%.*s", (int)n, list);
    return list[n] ? list + n + 1 : NULL;
}

static bool is_there(char *path, size_t size, const char *folder, const char *name)
{
    int n = snprintf(path, size, "%s/%s", folder, name);
    return n > 0 && (size_t)n < size && access(path, R_OK) == 0;
}

static bool find_library(char *path, size_t size, const char *name, const char *run_path,
                         const char *program)
{
    char folder[PATH_MAX];
    const char *lists[] = {getenv("LD_LIBRARY_PATH"), run_path};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (const char *rest = lists[i]; rest && *rest;) {
            rest = next_folder(rest, program, folder, sizeof folder);
            if (is_there(path, size, folder, name))
                return true;
        }
    for (size_t i = 0; i < sizeof usual_folders / sizeof *usual_folders; i++)
        if (is_there(path, size, usual_folders[i], name))
            return true;
    return false;
}

struct needed {
    const char *names[NEEDED_MAX]; // of the file's own string table
    size_t count;
    const char *run_path;
};

static void read_needed(const struct elf_file *f, struct needed *out)
{
    GElf_Shdr sh;
    Elf_Scn *scn = elf_file_section(f, ".dynamic", &sh);
    Elf_Data *data = scn ? elf_getdata(scn, NULL) : NULL;
    GElf_Dyn d;
    *out = (struct needed){0};
    for (int i = 0; data && gelf_getdyn(data, i, &d) && d.d_tag != DT_NULL; i++) {
        const char *text = elf_strptr(f->elf, sh.sh_link, d.d_un.d_val);
        if (d.d_tag == DT_NEEDED && text && out->count < NEEDED_MAX)
            out->names[out->count++] = text;
        else if (d.d_tag == DT_RUNPATH || (d.d_tag == DT_RPATH && !out->run_path))
            out->run_path = text;
    }
}

static void add_libraries(struct probe_files *out, const struct elf_file *f, const char *program,
                          const char *const *names)
{
    struct needed needed;
    char path[PATH_MAX], real[PATH_MAX];
    read_needed(f, &needed);
    for (size_t i = 0; i < needed.count; i++) {
        struct stat st;
        if (find_library(path, sizeof path, needed.names[i], needed.run_path, program) &&
            realpath(path, real) && !stat(real, &st) && !has_inode(out, st.st_ino, real))
            elf_file_close(add_file(out, real, names));
    }
}

void probe_files_of_command(struct probe_files *out, const char *program, const char *const *names)
{
    char real[PATH_MAX], path[PATH_MAX];
    *out = (struct probe_files){0};
    struct elf_file *f = realpath(program, real) ? add_file(out, real, names) : NULL;
    if (!f)
        return;
    add_libraries(out, f, real, names);
    elf_file_close(f);
    // What libraries need: libc, where the program does not name it.
    for (size_t i = 1; i < out->count && i < NEEDED_MAX; i++) {
        struct elf_file *library = NULL;
        snprintf(path, sizeof path, "%s", out->files[i].path);
        if (!elf_file_open(&library, path, NULL))
            add_libraries(out, library, path, names);
        elf_file_close(library);
    }
}

void probe_files_free(struct probe_files *p)
{
    for (size_t i = 0; i < p->count; i++)
        free(p->files[i].path);
    p->count = 0;
}

const struct probe_file *probe_files_malloc(const struct probe_files *p)
{
    const struct probe_file *found = NULL;
    for (size_t i = 0; i < p->count; i++) {
        const struct probe_file *f = &p->files[i];
        const char *slash = strrchr(f->path, '/');
        bool is_libc =
            slash && (strncmp(slash, "/libc.", 6) == 0 || strncmp(slash, "/libc-", 6) == 0 ||
                      strncmp(slash, "/ld-musl", 8) == 0);
        // The dynamic linker of glibc has a malloc for itself. The agent's calls the program's own, and stays mapped, called
        // by nobody, when it was injected and has been taken out.
        if (!f->functions[PROBE_MALLOC] || !f->functions[PROBE_FREE] ||
            (slash &&
             (strncmp(slash, "/ld-linux", 9) == 0 || strncmp(slash, "/libfiberscope.so", 17) == 0)))
            continue;
        if (!is_libc)
            return f;
        found = f;
    }
    return found;
}
