// SPDX-License-Identifier: MIT
//
// Replays a corpus through LLVMFuzzerTestOneInput without libFuzzer, so that every finding stays
// fixed in every preset. Usage: fuzz_NAME [-option ...] FILE|DIR ...; options are ignored.

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long inputs;

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    uint8_t *data = NULL;
    size_t size = 0, capacity = 0, n;
    do {
        if (size == capacity) {
            capacity = capacity ? 2 * capacity : 65536;
            uint8_t *more = realloc(data, capacity);
            if (!more)
                abort();
            data = more;
        }
        n = fread(data + size, 1, capacity - size, f);
        size += n;
    } while (n);
    fclose(f);
    // An exact allocation lets ASan see a read of one byte too many.
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        abort();
    memcpy(exact, data, size);
    free(data);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    inputs++;
    return 0;
}

static int replay(const char *path)
{
    struct stat st;
    if (stat(path, &st) || !S_ISDIR(st.st_mode))
        return replay_file(path);
    DIR *d = opendir(path);
    if (!d)
        return 1;
    int rc = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char sub[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
        rc |= replay(sub);
    }
    closedir(d);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = 0;
    for (int i = 1; i < argc; i++)
        if (argv[i][0] != '-')
            rc |= replay(argv[i]);
    printf("replayed %lu inputs\n", inputs);
    // An empty corpus would make a test that cannot fail.
    return rc || inputs == 0;
}
