// SPDX-License-Identifier: MIT
//
// Reads an execution trace to its end and prints how many events it has, for trace_reader.py. With "runs" also in how
// many runs of one thread they come. Usage: trace_read FILE [runs]

#include "formats/trace/trace.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct fscope_error err = {0};
    struct trace_reader *r;
    const struct trace_event *events;
    unsigned long long count = 0, runs = 0;
    int64_t thread = INT64_MIN;
    bool is_runs = argc == 3;
    int fd = argc == 2 || is_runs ? open(argv[1], O_RDONLY) : -1, n;
    if (fd < 0 || trace_reader_open_fd(&r, fd, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    while ((n = trace_reader_next_many(r, &events)) > 0) {
        count += (unsigned)n;
        for (int i = 0; is_runs && i < n; i++) {
            runs += events[i].thread != thread;
            thread = events[i].thread;
        }
    }
    if (n < 0)
        fprintf(stderr, "%s\n", trace_reader_error(r)->text);
    if (is_runs)
        printf("%llu events in %llu runs\n", count, runs);
    else
        printf("%llu events\n", count);
    trace_reader_close(r);
    close(fd);
    return n < 0;
}
