// SPDX-License-Identifier: MIT
//
// Writes the seeds of fuzz_trace: small traces of every version. Usage: seeds_trace FOLDER

#include "tests/unit/trace_v1_sample.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    static const uint32_t versions[] = {11, 19, 21, 22, 23, 25, 26};
    for (unsigned i = 0; argc == 2 && i < 14; i++) {
        char path[4096];
        uint32_t version = versions[i / 2];
        struct trace_bytes b =
            version < 22 ? trace_v1_sample(version) : trace_sample(version, 1 + 2 * (i % 2));
        snprintf(path, sizeof path, "%s/sample_1.%u_%u", argv[1], version, i % 2);
        FILE *f = fopen(path, "wb");
        if (!f || !b.data)
            return 1;
        putc(i % 2 ? 16 : 4 + 8, f); // options
        fwrite(b.data, 1, b.size_bytes, f);
        if (fclose(f))
            return 1;
        free(b.data);
    }
    return argc != 2;
}
