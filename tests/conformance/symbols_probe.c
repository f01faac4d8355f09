// SPDX-License-Identifier: MIT
//
// Prints what symbols/ says of each hexadecimal address on standard input: for each frame, innermost
// first, "SYSTEM_NAME<TAB>FILE:LINE:COLUMN", then an empty line. For tests and benchmarks.
//
// Usage: symbols_probe FILE [DEBUG_DIR]   (-D as first argument: demangled names)

#include "symbols/symbols.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    bool demangle = argc > 1 && !strcmp(argv[1], "-D");
    argv += demangle;
    argc -= demangle;
    if (argc < 2) {
        fprintf(stderr, "usage: symbols_probe [-D] FILE [DEBUG_DIR]\n");
        return 2;
    }
    const char *dirs[] = {argc > 2 ? argv[2] : ""};
    struct symbols_options opts = {.size = sizeof opts,
                                   .debug_dirs = dirs,
                                   .debug_dir_count = argc > 2,
                                   .no_cache = true,
                                   .no_debuginfod = true};
    struct fscope_error err = {0};
    struct symbols *s;
    struct symbols_image *im;
    if (symbols_new(&s, &opts, &err) || symbols_open_path(s, &im, argv[1], NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        struct symbols_frame frames[SYMBOLS_FRAMES_MAX];
        int n = symbols_lookup(im, strtoull(line, NULL, 16), frames, SYMBOLS_FRAMES_MAX);
        for (int i = 0; i < n; i++)
            printf("%s\t%s:%u:%u\n", demangle ? frames[i].name : frames[i].system_name,
                   frames[i].file, frames[i].line, frames[i].column);
        putchar('\n');
    }
    symbols_free(s);
    return 0;
}
