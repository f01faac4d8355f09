// SPDX-License-Identifier: MIT
//
// Where the debug info of a stripped file is: build-id paths, .gnu_debuglink, debuginfod, and the
// small compressed symbol table inside of the file itself (.gnu_debugdata).
//
// Nothing is taken that does not prove to belong: same build id, or for files without one the CRC
// that .gnu_debuglink carries.

#include "symbols/internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#ifdef FSCOPE_HAVE_LZMA
#include <lzma.h>
#endif
#ifdef FSCOPE_HAVE_DEBUGINFOD
#include <elfutils/debuginfod.h>
#endif

enum { PATH_BYTES = 4096, MINIDEBUG_BYTES_MAX = 256 << 20, DIRS_MAX = 64 };

// The directories to look in: the user's, then the target's own (below root), then ours.
static size_t debug_dirs(const struct symbols *s, char dirs[DIRS_MAX][PATH_BYTES])
{
    size_t n = 0;
    for (size_t i = 0; i < s->opts.debug_dir_count && n < DIRS_MAX - 2; i++)
        snprintf(dirs[n++], PATH_BYTES, "%s", s->opts.debug_dirs[i]);
    if (s->opts.no_default_dirs)
        return n;
    if (s->opts.root && *s->opts.root)
        snprintf(dirs[n++], PATH_BYTES, "%s/usr/lib/debug", s->opts.root);
    snprintf(dirs[n++], PATH_BYTES, "/usr/lib/debug");
    return n;
}

static bool is_hex_id(const char *id)
{
    size_t n = strlen(id);
    return n >= 4 && n <= 2 * ELF_BUILD_ID_BYTES_MAX && strspn(id, "0123456789abcdef") == n;
}

// Opens path if it is the file with this build id (or, build_id "", with this CRC).
static int open_if_right(struct elf_file **out, const char *path, const char *build_id,
                         const uint32_t *crc)
{
    int rc = elf_file_open(out, path, NULL);
    if (rc)
        return rc;
    bool right = *build_id && !strcmp((*out)->build_id, build_id);
    if (!*build_id && crc) {
        static const size_t size = 1 << 16;
        unsigned char *buffer = malloc(size);
        uLong sum = crc32(0, NULL, 0);
        ssize_t n = 0;
        off_t at = 0;
        while (buffer && (n = pread((*out)->fd, buffer, size, at)) > 0) {
            sum = crc32(sum, buffer, (uInt)n);
            at += n;
        }
        right = buffer && n == 0 && sum == *crc;
        free(buffer);
    }
    if (right)
        return 0;
    elf_file_close(*out);
    *out = NULL;
    return -ESTALE;
}

int debug_file_by_build_id(struct elf_file **out, struct symbols *s, const char *build_id)
{
    *out = NULL;
    if (!is_hex_id(build_id))
        return -ENOENT;
    char(*dirs)[PATH_BYTES] = malloc(sizeof(char[DIRS_MAX][PATH_BYTES]));
    if (!dirs)
        return -ENOMEM;
    int rc = -ENOENT;
    size_t n = debug_dirs(s, dirs);
    for (size_t i = 0; i < n && rc; i++) {
        char path[PATH_BYTES + 2 * ELF_BUILD_ID_BYTES_MAX + 32];
        snprintf(path, sizeof path, "%s/.build-id/%.2s/%s.debug", dirs[i], build_id, build_id + 2);
        rc = open_if_right(out, path, build_id, NULL);
    }
    free(dirs);
    return rc ? -ENOENT : 0;
}

#ifdef FSCOPE_HAVE_DEBUGINFOD
// Loaded when it is first needed: with curl and TLS it brings thirty libraries, whose start costs more
// than many a recording.
struct debuginfod_library {
    __typeof__(&debuginfod_begin) begin;
    __typeof__(&debuginfod_end) end;
    __typeof__(&debuginfod_find_executable) executable;
    __typeof__(&debuginfod_find_debuginfo) debuginfo;
};

static bool load_debuginfod(struct debuginfod_library *lib)
{
    void *handle =
        dlopen("libdebuginfod.so.1", RTLD_NOW | RTLD_LOCAL); // for good: TLS has exit hooks
    if (!handle)
        return false;
    *(void **)&lib->begin = dlsym(handle, "debuginfod_begin");
    *(void **)&lib->end = dlsym(handle, "debuginfod_end");
    *(void **)&lib->executable = dlsym(handle, "debuginfod_find_executable");
    *(void **)&lib->debuginfo = dlsym(handle, "debuginfod_find_debuginfo");
    return lib->begin && lib->end && lib->executable && lib->debuginfo;
}

int debuginfod_find(struct elf_file **out, const char *build_id, bool executable)
{
    *out = NULL;
    const char *urls = getenv("DEBUGINFOD_URLS");
    if (!urls || !*urls || !is_hex_id(build_id))
        return -ENOENT;
    struct debuginfod_library lib;
    if (!load_debuginfod(&lib))
        return -ENOENT;
    debuginfod_client *client = lib.begin();
    if (!client)
        return -ENOMEM;
    // With length 0 the id is hex text; the client verifies nothing, so we do.
    char *path = NULL;
    const unsigned char *id = (const unsigned char *)build_id;
    int fd =
        executable ? lib.executable(client, id, 0, &path) : lib.debuginfo(client, id, 0, &path);
    lib.end(client);
    if (fd < 0)
        return fd;
    int rc = elf_file_open_fd(out, fd, path ? path : "debuginfod", NULL);
    close(fd);
    free(path);
    if (!rc && strcmp((*out)->build_id, build_id)) {
        elf_file_close(*out);
        *out = NULL;
        rc = -ESTALE;
    }
    return rc;
}
#else
int debuginfod_find(struct elf_file **out, const char *build_id, bool executable)
{
    (void)build_id, (void)executable;
    *out = NULL;
    return -ENOENT;
}
#endif

static int by_debuglink(struct elf_file **out, struct symbols *s, const struct elf_file *main)
{
    GElf_Shdr sh;
    Elf_Data *d = elf_file_section_data(main, ".gnu_debuglink", &sh);
    if (!d)
        return -ENOENT;
    const char *link = d->d_buf;
    size_t length = strnlen(link, d->d_size);
    size_t crc_at = (length + 4) & ~(size_t)3;
    // A name with a slash could point anywhere; binutils writes none.
    if (!length || length > 255 || crc_at + 4 > d->d_size || strchr(link, '/'))
        return -ENOENT;
    uint32_t crc;
    memcpy(&crc, link + crc_at, 4);
    const char *slash = strrchr(main->path, '/');
    const char *root = s->opts.root ? s->opts.root : "";
    size_t root_length = strlen(root);
    // The directory as the target knows it: a debug directory mirrors that, not /proc/PID/root.
    const char *folder = main->path;
    if (root_length && !strncmp(folder, root, root_length))
        folder += root_length;
    int n = slash && slash >= folder ? (int)(slash - folder) : 0;
    int whole = slash ? (int)(slash - main->path) : 0;
    const char *here = slash ? main->path : ".";
    whole = slash ? whole : 1;

    char path[2 * PATH_BYTES + 300];
    snprintf(path, sizeof path, "%.*s/%s", whole, here, link);
    int rc = open_if_right(out, path, main->build_id, &crc);
    if (rc) {
        snprintf(path, sizeof path, "%.*s/.debug/%s", whole, here, link);
        rc = open_if_right(out, path, main->build_id, &crc);
    }
    char(*dirs)[PATH_BYTES] = rc ? malloc(sizeof(char[DIRS_MAX][PATH_BYTES])) : NULL;
    size_t count = dirs ? debug_dirs(s, dirs) : 0;
    for (size_t i = 0; i < count && rc; i++) {
        snprintf(path, sizeof path, "%s%.*s/%s", dirs[i], n, folder, link);
        rc = open_if_right(out, path, main->build_id, &crc);
    }
    free(dirs);
    return rc;
}

int debug_file_find(struct elf_file **out, struct symbols *s, const struct elf_file *main,
                    const char *build_id)
{
    *out = NULL;
    int rc = *build_id ? debug_file_by_build_id(out, s, build_id) : -ENOENT;
    if (rc && main)
        rc = by_debuglink(out, s, main);
    if (rc && *build_id && !s->opts.no_debuginfod)
        rc = debuginfod_find(out, build_id, false);
    return rc;
}

// A build id or, by its name, absolute or relative to the file that names it.
static int open_alt(struct elf_file **out, struct symbols *s, const struct elf_file *f,
                    const char *name, const char *build_id)
{
    char path[PATH_BYTES];
    const char *slash = strrchr(f->path, '/');
    const char *root = s->opts.root ? s->opts.root : "";
    if (!debug_file_by_build_id(out, s, build_id))
        return 0;
    if (name[0] == '/')
        snprintf(path, sizeof path, "%s%s", root, name);
    else
        snprintf(path, sizeof path, "%.*s/%s", slash ? (int)(slash - f->path) : 1,
                 slash ? f->path : ".", name);
    int rc = elf_file_open(out, path, NULL);
    if (rc && *root)
        rc = elf_file_open(out, name, NULL);
    return rc ? debuginfod_find(out, build_id, false) : 0;
}

int debug_file_find_alt(struct elf_file **out, struct symbols *s, const struct elf_file *f)
{
    *out = NULL;
    GElf_Shdr sh;
    Elf_Data *d = elf_file_section_data(f, ".gnu_debugaltlink", &sh);
    if (!d)
        return -ENOENT;
    const char *name = d->d_buf;
    size_t length = strnlen(name, d->d_size);
    if (length == d->d_size)
        return -ENOENT;
    const unsigned char *id = (const unsigned char *)name + length + 1;
    size_t n = d->d_size - length - 1;
    if (!n || n > ELF_BUILD_ID_BYTES_MAX)
        return -ENOENT;
    char hex[2 * ELF_BUILD_ID_BYTES_MAX + 1];
    for (size_t i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", id[i]);
    int rc = open_alt(out, s, f, name, hex);
    if (rc || !strcmp((*out)->build_id, hex))
        return rc;
    elf_file_close(*out);
    *out = NULL;
    return -ESTALE;
}

#ifdef FSCOPE_HAVE_LZMA
static int unpack(const Elf_Data *packed, uint8_t **out, size_t *size)
{
    uint8_t *bytes = NULL;
    size_t capacity = packed->d_size * 4 + 4096;
    lzma_stream stream = LZMA_STREAM_INIT;
    if (lzma_stream_decoder(&stream, MINIDEBUG_BYTES_MAX, 0) != LZMA_OK)
        return -ENOMEM;
    int rc = -ENOEXEC;
    stream.next_in = packed->d_buf;
    stream.avail_in = packed->d_size;
    lzma_ret state = LZMA_OK;
    *size = 0;
    while (state == LZMA_OK && capacity <= MINIDEBUG_BYTES_MAX) {
        uint8_t *more = realloc(bytes, capacity);
        if (!more) {
            rc = -ENOMEM;
            goto out;
        }
        bytes = more;
        stream.next_out = bytes + *size;
        stream.avail_out = capacity - *size;
        state = lzma_code(&stream, LZMA_FINISH);
        *size = capacity - stream.avail_out;
        capacity *= 2;
    }
    rc = state == LZMA_STREAM_END ? 0 : -ENOEXEC;
out:
    lzma_end(&stream);
    if (rc)
        free(bytes);
    else
        *out = bytes;
    return rc;
}

int minidebug_open(struct elf_file **out, const struct elf_file *main)
{
    *out = NULL;
    GElf_Shdr sh;
    Elf_Data *d = elf_file_section_data(main, ".gnu_debugdata", &sh);
    if (!d)
        return -ENOENT;
    uint8_t *bytes = NULL;
    size_t size = 0;
    int rc = unpack(d, &bytes, &size);
    return rc ? rc : elf_file_open_memory(out, bytes, size, main->path, NULL);
}
#else
int minidebug_open(struct elf_file **out, const struct elf_file *main)
{
    (void)main;
    *out = NULL;
    return -ENOENT;
}
#endif
