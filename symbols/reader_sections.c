// SPDX-License-Identifier: MIT
//
// Debug sections, unpacked one by one when they are first read. libelf and libdw unpack with zlib,
// which is half of a cold lookup's time; libdeflate, where there is one, takes a third of that.

#include "symbols/reader.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef FSCOPE_HAVE_LIBDEFLATE
#include <libdeflate.h>
#else
#include <zlib.h>
#endif

enum { HUGE_BYTES = 2 << 20, THREAD_BYTES_MIN = 1 << 20 };

static const char *const names[READER_SECTIONS] = {[READER_INFO] = ".debug_info",
                                                   [READER_ABBREV] = ".debug_abbrev",
                                                   [READER_LINE] = ".debug_line",
                                                   [READER_STR] = ".debug_str",
                                                   [READER_LINE_STR] = ".debug_line_str",
                                                   [READER_RNGLISTS] = ".debug_rnglists",
                                                   [READER_RANGES] = ".debug_ranges",
                                                   [READER_ADDR] = ".debug_addr",
                                                   [READER_STR_OFFSETS] = ".debug_str_offsets"};

static int note_section(struct reader_file *f, Elf_Scn *scn, const GElf_Shdr *sh, const char *name)
{
    if (!strncmp(name, ".zdebug", 7) || !strcmp(name, ".debug_types"))
        return -ENOTSUP;
    for (int i = 0; i < READER_SECTIONS; i++) {
        struct reader_section_state *s = &f->sections[i];
        if (strcmp(name, names[i]) || s->bytes.at)
            continue;
        Elf_Data *d = elf_rawdata(scn, NULL);
        if (!d || !d->d_buf)
            return 0;
        s->bytes = (struct reader_bytes){d->d_buf, d->d_size};
        s->is_read = true;
        if (!(sh->sh_flags & SHF_COMPRESSED))
            return 0;
        Elf64_Chdr ch;
        if (d->d_size < sizeof ch)
            return -ENOTSUP;
        memcpy(&ch, d->d_buf, sizeof ch);
        if (ch.ch_type != ELFCOMPRESS_ZLIB || !ch.ch_size)
            return -ENOTSUP;
        s->bytes.at += sizeof ch;
        s->bytes.size -= sizeof ch;
        s->unpacked_size = ch.ch_size; // elf_check has compared it with what is there
        s->is_read = false;
    }
    return 0;
}

int reader_sections_find(struct reader_file *f)
{
    size_t strings;
    if (elf_getshdrstrndx(f->elf->elf, &strings))
        return -ENOTSUP;
    Elf_Scn *scn = NULL;
    while ((scn = elf_nextscn(f->elf->elf, scn))) {
        GElf_Shdr sh;
        if (!gelf_getshdr(scn, &sh) || sh.sh_type == SHT_NOBITS)
            continue;
        const char *name = elf_strptr(f->elf->elf, strings, sh.sh_name);
        int rc = name ? note_section(f, scn, &sh, name) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static bool unpack(struct reader_bytes packed, void *to, size_t size)
{
#ifdef FSCOPE_HAVE_LIBDEFLATE
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    bool good = d && !libdeflate_zlib_decompress(d, packed.at, packed.size, to, size, NULL);
    libdeflate_free_decompressor(d);
    return good;
#else
    uLongf got = size;
    return uncompress(to, &got, packed.at, packed.size) == Z_OK && got == size;
#endif
}

// Big sections in huge pages where the system gives them: thousands of page faults cost more than
// unpacking does.
static void *memory_for(size_t size)
{
    if (size < HUGE_BYTES / 2)
        return malloc(size);
    size = (size + HUGE_BYTES - 1) & ~(size_t)(HUGE_BYTES - 1);
    void *p = aligned_alloc(HUGE_BYTES, size);
    if (p)
        (void)madvise(p, size, MADV_HUGEPAGE);
    return p;
}

struct reader_bytes reader_section(struct reader_file *f, enum reader_section which)
{
    struct reader_section_state *s = &f->sections[which];
    if (!s->is_read && s->unpacked_size) {
        s->is_read = true;
        s->unpacked = memory_for(s->unpacked_size);
        if (s->unpacked && unpack(s->bytes, s->unpacked, s->unpacked_size))
            s->bytes = (struct reader_bytes){s->unpacked, s->unpacked_size};
        else
            s->bytes = (struct reader_bytes){0};
    }
    // Never NULL: cursors add to it.
    return s->bytes.at ? s->bytes : (struct reader_bytes){(const uint8_t *)"", 0};
}

// All but the biggest, which the caller unpacks at the same time.
static void *unpack_others(void *arg)
{
    struct reader_file *f = arg;
    for (int i = 0; i < READER_SECTIONS; i++)
        if (i != READER_INFO)
            reader_section(f, (enum reader_section)i);
    return NULL;
}

void reader_sections_unpack(struct reader_file *f)
{
    uint64_t others = 0;
    for (int i = 0; i < READER_SECTIONS; i++)
        if (i != READER_INFO && !f->sections[i].is_read)
            others += f->sections[i].unpacked_size;
    if (others < THREAD_BYTES_MIN || f->sections[READER_INFO].unpacked_size < THREAD_BYTES_MIN)
        return; // each when it is asked for
    sigset_t all, old;
    pthread_t thread;
    sigfillset(&all);
    // No signal is handled on a thread that the program does not know of.
    if (pthread_sigmask(SIG_SETMASK, &all, &old))
        return;
    bool is_running = !pthread_create(&thread, NULL, unpack_others, f);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    reader_section(f, READER_INFO);
    if (is_running)
        pthread_join(thread, NULL);
}

void reader_sections_finish(struct reader_file *f)
{
    for (int i = 0; i < READER_SECTIONS; i++)
        free(f->sections[i].unpacked);
}
