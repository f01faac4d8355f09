// SPDX-License-Identifier: MIT
//
// Prints what symbols/ says of each hexadecimal address on standard input: for each frame, innermost
// first, "SYSTEM_NAME<TAB>FILE:LINE:COLUMN", then an empty line. For tests and benchmarks.
//
// Usage: symbols_probe [-D] [-S] [-o] [-d] [-i] [-c] [-l] FILE|BUILD_ID [DEBUG_DIR]
//   -D demangled names   -S also <TAB>START_LINE   -o addresses are file offsets
//   -d ask debuginfod    -i the argument is a build id    -c use the cache
//   -l read debug info through libdw alone
// With DEBUG_DIR only that is searched. The source of names goes to standard error.

#include "symbols/symbols.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const sources[] = {"none", "dynsym", "minidebug", "symtab", "map", "dwarf"};

// As printf("%u"), which would take a third of a run.
static void print_number(char before, uint32_t v)
{
    char digits[11], *at = digits + sizeof digits;
    *--at = '\0';
    do {
        *--at = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    putchar_unlocked(before);
    fputs_unlocked(at, stdout);
}

static void print_frames(const struct symbols_frame *f, int n, bool demangle, bool start)
{
    for (int i = 0; i < n; i++) {
        fputs_unlocked(demangle ? f[i].name : f[i].system_name, stdout);
        putchar_unlocked('\t');
        fputs_unlocked(f[i].file, stdout);
        print_number(':', f[i].line);
        print_number(':', f[i].column);
        if (start)
            print_number('\t', f[i].start_line);
        putchar_unlocked('\n');
    }
    putchar_unlocked('\n');
}

int main(int argc, char **argv)
{
    bool demangle = false, start = false, offsets = false, debuginfod = false, by_id = false;
    bool cache = false, libdw = false;
    int c;
    while ((c = getopt(argc, argv, "DSodicl")) != -1) {
        demangle |= c == 'D';
        start |= c == 'S';
        offsets |= c == 'o';
        debuginfod |= c == 'd';
        by_id |= c == 'i';
        cache |= c == 'c';
        libdw |= c == 'l';
    }
    argv += optind;
    argc -= optind;
    if (argc < 1 || c == '?') {
        fprintf(stderr, "usage: symbols_probe [-DSodicl] FILE|BUILD_ID [DEBUG_DIR]\n");
        return 2;
    }
    const char *dirs[] = {argc > 1 ? argv[1] : ""};
    struct symbols_options opts = {.size = sizeof opts,
                                   .debug_dirs = dirs,
                                   .debug_dir_count = argc > 1,
                                   .no_default_dirs = argc > 1,
                                   .no_cache = !cache,
                                   .use_libdw = libdw,
                                   .no_demangle = !demangle,
                                   .no_debuginfod = !debuginfod};
    struct fscope_error err = {0};
    struct symbols *s;
    struct symbols_image *im;
    if (symbols_new(&s, &opts, &err) || (by_id ? symbols_open_build_id(s, &im, argv[0], &err)
                                               : symbols_open_path(s, &im, argv[0], NULL, &err))) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    fprintf(stderr, "%s\n", sources[symbols_image_source(im)]);
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        struct symbols_frame frames[SYMBOLS_FRAMES_MAX];
        uint64_t address = strtoull(line, NULL, 16);
        int n = 0;
        if (!offsets || !symbols_address_of_offset(im, address, &address))
            n = symbols_lookup(im, address, frames, SYMBOLS_FRAMES_MAX);
        print_frames(frames, n, demangle, start);
    }
    symbols_free(s);
    return 0;
}
