// SPDX-License-Identifier: MIT
//
// Compact unwind tables: bytes for a MiB of code beside what the same rows take in the peers' layouts, and the time to
// make them. Peers, by their published layouts: parca-agent (until 2024) 14 bytes a row; otel-ebpf-profiler 4 bytes a row
// and 8 for each 64 KiB of code (its 16,384 rules of 12 bytes, shared by all files, are left out, as ours of 28 are).
// Code is all between the first and the last that CFI covers. A row of theirs is a change of rule, as counted in our tables: merged as here, padding left out.
//
//   bench_unwind_table [FILE ...]   default: large libraries and programs of this machine, in this order

#include "collector/perf_elf.h"
#include "symbols/unwind_table.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 5, PARCA_ROW = 14, OTEL_ROW = 4, OTEL_PAGE = 8, OTEL_PAGE_BYTES = 65536 };

static const char *const usual[] = {
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/ld-linux-x86-64.so.2",
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0",
    "/usr/bin/python3.11",
    "/usr/bin/bash",
    "/usr/lib/postgresql/15/bin/postgres",
    "/usr/lib/x86_64-linux-gnu/libLLVM-15.so.1",
    "/usr/lib/chromium/chromium",
    "/usr/bin/node",
};

struct totals {
    double text, ours, parca, otel, ms;
};

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static uint32_t row_at(const struct unwind_table *t, uint32_t word, uint32_t i)
{
    const uint16_t *halves =
        (const uint16_t *)(const void *)t->words + (word >> UNWIND_PLACE_SHIFT);
    return word & UNWIND_WIDE ? (halves[2 * i] >> 8 | (uint32_t)halves[2 * i + 1] << 8)
                              : (uint32_t)halves[i] >> 8;
}

// Changes of rule.
static uint64_t count_rows(const struct unwind_table *t)
{
    uint64_t n = 0;
    uint32_t last = UINT32_MAX;
    for (uint32_t b = 0; b < t->blocks; b++)
        for (uint32_t i = 0; i <= (t->words[b] & UNWIND_MORE_ROWS); i++) {
            uint32_t rule = row_at(t, t->words[b], i);
            n += rule != last;
            last = rule;
        }
    return n;
}

static bool load(const char *path, struct perf_elf *e)
{
    struct perf_elf_source s = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    bool ok = s.fd >= 0 && perf_elf_load(e, &s) == 0;
    if (s.fd >= 0)
        close(s.fd);
    return ok;
}

static double per_mib(double bytes, double text)
{
    return bytes / 1024 / (text / (1024 * 1024));
}

static void measure(const char *path, struct unwind_rules *rules, struct totals *sum)
{
    struct perf_elf e;
    struct unwind_table t = {0};
    double least = 1e9;
    if (!load(path, &e))
        return;
    struct unwind_table_source s = {.name = path, .tables = e.tables, .end = UINT64_MAX};
    int rc = 0;
    for (int i = 0; i < ROUNDS && !rc; i++) {
        unwind_table_finish(&t);
        double start = cpu_ms();
        rc = unwind_table_make(&t, &s, rules, NULL);
        double took = cpu_ms() - start;
        least = took < least ? took : least;
    }
    if (!rc) {
        double rows = (double)count_rows(&t), text = (double)t.blocks * UNWIND_BLOCK_BYTES;
        double ours = (double)t.pages * UNWIND_PAGE_BYTES, parca = rows * PARCA_ROW;
        double pages = text / OTEL_PAGE_BYTES + 1;
        double otel = rows * OTEL_ROW + pages * OTEL_PAGE;
        printf("%-48s %8.2f %9.0f %8.1f %8.1f %8.1f %6.2f %6.2f %8.2f\n", path, text / (1 << 20),
               rows, per_mib(ours, text), per_mib(otel, text), per_mib(parca, text), ours / otel,
               ours / parca, least / (text / (1 << 20)));
        *sum = (struct totals){sum->text + text, sum->ours + ours, sum->parca + parca,
                               sum->otel + otel, sum->ms + least};
    }
    unwind_table_finish(&t);
    perf_elf_finish(&e);
}

int main(int argc, char **argv)
{
    struct unwind_rules *rules;
    struct totals sum = {0};
    char ours[4096];
    if (unwind_rules_new(&rules, NULL))
        return 1;
    printf("%-48s %8s %9s %8s %8s %8s %6s %6s %8s\n", "KiB for a MiB of code", "MiB", "rows",
           "ours", "otel", "parca", "/otel", "/parca", "ms/MiB");
    for (int i = 1; i < argc; i++)
        measure(argv[i], rules, &sum);
    for (size_t i = 0; argc == 1 && i < sizeof usual / sizeof *usual; i++)
        measure(usual[i], rules, &sum);
    if (argc == 1 && getenv("FSCOPE_BUILD")) {
        snprintf(ours, sizeof ours, "%s/cli/fiberscope", getenv("FSCOPE_BUILD"));
        measure(ours, rules, &sum);
    }
    if (sum.text > 0)
        printf("%-48s %8.2f %9s %8.1f %8.1f %8.1f %6.2f %6.2f %8.2f\n", "all", sum.text / (1 << 20),
               "", per_mib(sum.ours, sum.text), per_mib(sum.otel, sum.text),
               per_mib(sum.parca, sum.text), sum.ours / sum.otel, sum.ours / sum.parca,
               sum.ms / (sum.text / (1 << 20)));
    printf("rules: %u, %.0f KiB for all files\n", unwind_rules_count(rules),
           unwind_rules_count(rules) * (double)sizeof(struct unwind_rule_row) / 1024);
    unwind_rules_free(rules);
    return 0;
}
