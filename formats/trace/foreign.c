// SPDX-License-Identifier: MIT

#include "formats/trace/foreign.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <zlib.h>

static const struct foreign_magic {
    const char *bytes, *what; // what it is, and the next command
} magics[] = {
    {"FIBESEG1", "a recording that is not finished (a black box, a segment): "
                 "`fiberscope finish FILE` writes the traces and profiles in it"},
    {"FIBDUMP1",
     "a dump that a program wrote: `fiberscope finish FILE` writes the traces and profiles in it"},
    {"PERFILE2", "a recording of perf: `perf script -i FILE >out`, then `fiberscope top out`"},
    {"<", "a page or picture (HTML, SVG): a browser opens it"},
    {"{", "JSON; if it is a trace for Chrome, https://ui.perfetto.dev opens it"},
    {"[", "JSON; if it is a trace for Chrome, https://ui.perfetto.dev opens it"},
    {"\n", "protobuf: `fiberscope top FILE` if it is a profile, https://ui.perfetto.dev if it is a "
           "trace of Perfetto"},
    {"\x28\xb5\x2f\xfd", "compressed by zstd: `unzstd FILE` first"},
    {"\xfd\x37zXZ", "compressed by xz: `unxz FILE` first"},
    {"BZh", "compressed by bzip2: `bunzip2 FILE` first"},
    {"PK\x03\x04", "a zip archive: `unzip FILE` first"},
};

// What gzip compressed, as far as its first bytes say.
static const char *inflated_word(const unsigned char *bytes, size_t n)
{
    enum { GZIP_WINDOW = 15 + 16 };
    unsigned char out[8] = {0};
    z_stream z = {.next_in = (Bytef *)(uintptr_t)bytes, // zlib only reads it
                  .avail_in = (uInt)n,
                  .next_out = out,
                  .avail_out = sizeof out};
    if (inflateInit2(&z, GZIP_WINDOW) != Z_OK)
        return "compressed by gzip: `gunzip FILE` first";
    inflate(&z, Z_SYNC_FLUSH);
    inflateEnd(&z);
    if (memcmp(out, "go 1.", 5) == 0)
        return "one compressed by gzip: `gunzip FILE`, or `gunzip -c FILE | "
               "fiberscope trace -`";
    if (out[0] == '\n')
        return "a profile (pprof): `fiberscope top FILE` reads it";
    return "compressed by gzip, and no trace inside, as far as can be seen";
}

static const char *elf_word(const unsigned char *bytes, size_t n)
{
    Elf64_Ehdr eh = {0};
    memcpy(&eh, bytes, n < sizeof eh ? n : sizeof eh);
    return eh.e_type == ET_CORE
               ? "a core file: `fiberscope finish FILE` writes the trace that the program was "
                 "recording, `fiberscope stack FILE` shows its stacks"
               : "a program: `fiberscope record --trace FILE` records a trace of it, without "
                 "--trace a profile";
}

const char *foreign_word(const unsigned char *bytes, size_t n)
{
    if (n > 2 && bytes[0] == 0x1f && bytes[1] == 0x8b)
        return inflated_word(bytes, n);
    if (n > EI_NIDENT && memcmp(bytes, ELFMAG, SELFMAG) == 0)
        return elf_word(bytes, n);
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++) {
        size_t length = strlen(magics[i].bytes);
        if (n >= length && memcmp(bytes, magics[i].bytes, length) == 0)
            return magics[i].what;
    }
    return NULL;
}

// The length of the readable text that the bytes begin with, without what ends its line.
static size_t text_length(const unsigned char *bytes, size_t n)
{
    size_t i = 0;
    while (i < n && bytes[i] >= ' ' && bytes[i] < 0x7f)
        i++;
    return i;
}

int foreign_explain(const unsigned char *bytes, size_t n, struct fscope_error *err)
{
    enum { SHOWN = 40 };
    static const char begin[] = "go 1.";
    if (!n)
        return error_set(err, -ENODATA, 0,
                         "an empty file: nothing was written to it (was the recording stopped, or "
                         "the disk full?)");
    size_t same = n < sizeof begin - 1 ? n : sizeof begin - 1;
    if (n < 16 && memcmp(bytes, begin, same) == 0)
        return error_set(err, -ENODATA, n, "the file ends at byte %zu, inside its header", n);
    const char *what = foreign_word(bytes, n);
    if (what)
        return error_set(err, -EINVAL, 0, "not an execution trace but %s", what);
    size_t length = text_length(bytes, n);
    if (length > 3)
        return error_set(err, -EINVAL, 0,
                         "not an execution trace: it begins with \"%.*s\", and not with \"go 1.NN "
                         "trace\"",
                         (int)(length < SHOWN ? length : SHOWN), (const char *)bytes);
    return error_set(err, -EINVAL, 0,
                     "not an execution trace: it should begin with \"go 1.NN trace\"");
}
