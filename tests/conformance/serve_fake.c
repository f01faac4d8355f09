// SPDX-License-Identifier: MIT
//
// The HTTP server over a session that looks at nothing, for tests of what goes over the wire.
//
//   serve_fake LISTEN [token=TOKEN] [allow=NETWORK]... [connections=N] [per_ip=N] [requests=N] [header=N] [body=N]
//              [ask_ms=N] [idle_ms=N] [read_ms=N] [seconds=N]
//
// Prints its address, then for each line on standard input (profile=ERRNO, sample=, trace=, flight=, or none) does that
// and prints how many descriptors it has and how long the last sampling took. Ends with its input.

#include "../unit/fake_session.h"

#include "collector/serve.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((noinline, used)) static int a_named_function(int x)
{
    __asm__ volatile("" : "+r"(x));
    return x + 1;
}

static unsigned descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static bool take(const char *text, const char *key, const char **value)
{
    size_t n = strlen(key);
    if (strncmp(text, key, n) != 0 || text[n] != '=')
        return false;
    *value = text + n + 1;
    return true;
}

static void set_option(struct serve_options *o, const char *text, const char **allow)
{
    const char *v;
    const struct {
        const char *key;
        uint32_t *to;
    } counts[] = {{"connections", &o->connections_max},
                  {"per_ip", &o->connections_per_ip_max},
                  {"requests", &o->requests_max},
                  {"header", &o->header_bytes_max},
                  {"body", &o->body_bytes_max}};
    const struct {
        const char *key;
        uint64_t *to, unit;
    } times[] = {{"ask_ms", &o->ask_ns, 1000000},
                 {"idle_ms", &o->idle_ns, 1000000},
                 {"read_ms", &o->read_ns, 1000000},
                 {"seconds", &o->duration_ns_max, 1000000000}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (take(text, counts[i].key, &v))
            *counts[i].to = (uint32_t)strtoul(v, NULL, 10);
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        if (take(text, times[i].key, &v))
            *times[i].to = strtoull(v, NULL, 10) * times[i].unit;
    if (take(text, "token", &v))
        o->token = v;
    if (take(text, "allow", &v) && o->allow_count < SERVE_ALLOW_MAX)
        allow[o->allow_count++] = v;
}

static void obey(struct fake_session *controls, char *line)
{
    const char *v;
    line[strcspn(line, "\n")] = '\0';
    if (take(line, "profile", &v))
        controls->profile_fails = -atoi(v);
    if (take(line, "sample", &v))
        controls->sample_fails = -atoi(v);
    if (take(line, "trace", &v))
        controls->trace_fails = -atoi(v);
    if (take(line, "flight", &v))
        controls->flight_fails = -atoi(v);
    printf("%u descriptors, sampled %u ms\n", descriptors(),
           __atomic_load_n(&controls->sampled_ms, __ATOMIC_RELAXED));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct fake_session *controls;
    const char *allow[SERVE_ALLOW_MAX];
    struct serve_options o = {.size = sizeof o, .session = fake_session(&controls), .allow = allow};
    struct fscope_error err;
    struct serve *s;
    char line[256];
    if (argc < 2)
        return 2;
    o.listen = argv[1];
    for (int i = 2; i < argc; i++)
        set_option(&o, argv[i], allow);
    if (serve_start(&s, &o, &err)) {
        fprintf(stderr, "serve_fake: %s\n", err.text);
        return 1;
    }
    printf("%s %p %d\n", serve_address(s), (void *)(size_t)a_named_function, a_named_function(0));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin))
        obey(controls, line);
    serve_stop(s);
    return 0;
}
