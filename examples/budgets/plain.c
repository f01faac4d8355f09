// SPDX-License-Identifier: MIT
//
// Budgets in plain C: parsing the document allocates at most so often; the hot lookup allocates nothing and
// waits for nothing. The library under test is the system's libjson-c, as it is.
//
//     plain            the tests; exit status 0
//     plain violate    breaks a budget on purpose, to show what that looks like
//     plain bench      the same two functions as benchmarks, in Go's format

#include "document.h"

#include <fiberscope/profile.h>

#include <json-c/json.h>

#include <stdio.h>
#include <string.h>

static int failures;

#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)

static int port_of(struct json_object *config)
{
    struct json_object *port;
    return json_object_object_get_ex(config, "port", &port) ? json_object_get_int(port) : -1;
}

static void parsing_stays_in_its_budget(void)
{
    struct fscope_allocs mark, n;
    if (fscope_thread_allocs(NULL, &mark)) {
        EXPECT(0, "this program's allocations cannot be seen");
        return;
    }
    struct json_object *config = json_tokener_parse(document);
    fscope_thread_allocs(&mark, &n);
    EXPECT(config, "the document is no JSON");
    EXPECT(n.objects <= PARSE_ALLOCS_MAX,
           "parsing made %llu allocations (%llu bytes); the budget is %d",
           (unsigned long long)n.objects, (unsigned long long)n.bytes, PARSE_ALLOCS_MAX);
    json_object_put(config);
}

static void lookup_is_free_of_charge(void)
{
    struct json_object *config = json_tokener_parse(document);
    int port;
    {
        FSCOPE_FORBID(FSCOPE_ALLOC | FSCOPE_BLOCK); // or: abort, with the stack of the call
        port = port_of(config);
    }
    EXPECT(port == 6060, "port is %d", port);
    json_object_put(config);
}

__attribute__((noinline)) static void violate(void) // has a frame of its own in the message
{
    struct json_object *config = json_tokener_parse(document);
    FSCOPE_FORBID(FSCOPE_ALLOC);
    puts(json_object_to_json_string(config)); // its buffer comes from malloc
}

static void bench_parse(struct fscope_bench *b, void *arg)
{
    (void)arg;
    b->set_bytes = sizeof document - 1;
    for (uint64_t i = 0; i < b->n; i++)
        json_object_put(json_tokener_parse(document));
}

static void bench_lookup(struct fscope_bench *b, void *config)
{
    for (uint64_t i = 0; i < b->n; i++)
        if (port_of(config) != 6060)
            failures++;
}

static int bench(void)
{
    struct fscope_bench_options o = {.size = sizeof o, .count = 5, .time_ns = 100000000};
    struct fscope_bench_result parse, lookup;
    struct json_object *config = json_tokener_parse(document);
    if (fscope_bench_run("Parse", bench_parse, NULL, &o, &parse) ||
        fscope_bench_run("Lookup", bench_lookup, config, &o, &lookup))
        return 1;
    json_object_put(config);
    EXPECT(lookup.alloc_objects == 0, "the lookup allocates");
    EXPECT(!failures, "the lookup finds something else");
    return failures != 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "violate"))
        violate();
    if (argc > 1 && !strcmp(argv[1], "bench"))
        return bench();
    parsing_stays_in_its_budget();
    lookup_is_free_of_charge();
    puts(failures ? "FAILED" : "passed");
    return failures != 0;
}
