// SPDX-License-Identifier: MIT
//
// Reads an execution trace to its end and prints how many events it has, for trace_reader.py.

#include "formats/trace/trace.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct fscope_error err = {0};
    struct trace_reader *r;
    const struct trace_event *events;
    unsigned long long count = 0;
    int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1, n;
    if (fd < 0 || trace_reader_open_fd(&r, fd, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    while ((n = trace_reader_next_many(r, &events)) > 0)
        count += (unsigned)n;
    if (n < 0)
        fprintf(stderr, "%s\n", trace_reader_error(r)->text);
    printf("%llu events\n", count);
    trace_reader_close(r);
    close(fd);
    return n < 0;
}
