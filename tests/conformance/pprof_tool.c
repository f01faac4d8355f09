// SPDX-License-Identifier: MIT
//
// What the pprof tests in Python call: the library's verbs on files. Exit status 1 and the error's
// text on stderr when the library refuses.
//
//   pprof_tool convert [--salvage] [--plain] IN OUT     prints the format and "N samples"
//   pprof_tool merge OUT IN...
//   pprof_tool text count|heap|block|mutex IN OUT

#include "formats/pprof.h"
#include "formats/pprof_text.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const struct fscope_error *err)
{
    fprintf(stderr, "pprof_tool: %s\n", err->text);
    return 1;
}

static int write_plain(const struct pprof_profile *p, const char *path, struct fscope_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_set(err, -1, 0, "cannot open %s", path);
    int rc = pprof_write_fd(p, fd, false, err);
    close(fd);
    return rc;
}

static int convert(int argc, char **argv)
{
    struct fscope_error err;
    struct pprof_profile *p;
    bool plain = false;
    uint64_t salvaged = 0;
    const char *format;
    struct pprof_read_options o = {
        .size = sizeof o, .salvaged_samples = &salvaged, .format = &format};
    for (; argc > 2; argc--, argv++) {
        o.salvage |= strcmp(argv[0], "--salvage") == 0;
        plain |= strcmp(argv[0], "--plain") == 0;
    }
    if (argc != 2)
        return 2;
    if (pprof_read_file(&p, argv[0], &o, &err))
        return fail(&err);
    printf("%s: %zu samples, %" PRIu64 " salvaged\n", format, p->sample_count, salvaged);
    int rc = plain ? write_plain(p, argv[1], &err) : pprof_write_file(p, argv[1], &err);
    pprof_free(p);
    return rc ? fail(&err) : 0;
}

static int merge(int argc, char **argv)
{
    struct fscope_error err;
    struct pprof_profile *merged = NULL;
    size_t n = 0;
    struct pprof_profile **in = calloc((size_t)argc, sizeof *in);
    if (!in)
        return 1;
    int rc = 0;
    for (int i = 1; i < argc && !rc; i++) {
        rc = pprof_read_file(&in[n], argv[i], NULL, &err);
        n += !rc;
    }
    if (!rc)
        rc = pprof_merge(&merged, in, n, &err);
    if (!rc)
        rc = pprof_write_file(merged, argv[0], &err);
    pprof_free(merged);
    while (n)
        pprof_free(in[--n]);
    free(in);
    return rc ? fail(&err) : 0;
}

static int text(char **argv)
{
    static const char *const kinds[] = {"count", "heap", "block", "mutex"};
    struct fscope_error err;
    struct pprof_profile *p;
    size_t kind = 0;
    while (kind < sizeof kinds / sizeof *kinds && strcmp(kinds[kind], argv[0]) != 0)
        kind++;
    if (pprof_read_file(&p, argv[1], NULL, &err))
        return fail(&err);
    FILE *out = fopen(argv[2], "w");
    int rc = out ? pprof_text_write(p, (enum pprof_text_kind)kind, NULL, out, &err)
                 : error_set(&err, -1, 0, "cannot open %s", argv[2]);
    if (out)
        fclose(out);
    pprof_free(p);
    return rc ? fail(&err) : 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "text") == 0)
        return text(argv + 2);
    if (argc > 3 && strcmp(argv[1], "convert") == 0)
        return convert(argc - 2, argv + 2);
    if (argc > 3 && strcmp(argv[1], "merge") == 0)
        return merge(argc - 2, argv + 2);
    fprintf(stderr, "usage: pprof_tool convert [--salvage] [--plain] IN OUT | merge OUT IN... | "
                    "text KIND IN OUT\n");
    return 2;
}
