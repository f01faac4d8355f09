// SPDX-License-Identifier: MIT
//
// Attaches a program that counts to a probe of a library, in all processes; says so, and at the end of its input prints how
// often it ran. Usage: usdt_attach LIBRARY PROBE

#include "collector/bpf/count_usdt.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>

enum { CPUS_MAX = 256 };

int main(int argc, char **argv)
{
    unsigned key = 0;
    unsigned long counts[CPUS_MAX] = {0}, sum = 0;
    if (argc != 3)
        return 2;
    struct count_usdt_bpf *s = count_usdt_bpf__open_and_load();
    if (!s)
        return 1;
    struct bpf_link *link =
        bpf_program__attach_usdt(s->progs.count_hits, -1, argv[1], "fiberscope", argv[2], NULL);
    if (!link) {
        perror("usdt_attach");
        count_usdt_bpf__destroy(s);
        return 1;
    }
    puts("attached");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    int cpus = libbpf_num_possible_cpus();
    if (cpus > 0 && cpus <= CPUS_MAX &&
        !bpf_map_lookup_elem(bpf_map__fd(s->maps.counts), &key, counts))
        for (int i = 0; i < cpus; i++)
            sum += counts[i];
    printf("%lu\n", sum);
    bpf_link__destroy(link);
    count_usdt_bpf__destroy(s);
    return 0;
}
