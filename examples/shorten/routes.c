// SPDX-License-Identifier: MIT

#include "routes.h"
#include "delay.h"

#include <fiberscope/fiber.h>
#include <fiberscope/trace.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
enum { CODE_MAX = 11 }; // digits of the largest id

static void code_of(int64_t id, char out[CODE_MAX + 2])
{
    char reversed[CODE_MAX];
    int n = 0;
    for (; id > 0; id /= 62)
        reversed[n++] = digits[id % 62];
    *out++ = '/';
    while (n)
        *out++ = reversed[--n];
    *out = '\0';
}

// The id of a code of n digits; 0: it is none.
static int64_t id_of(const char *code, size_t n)
{
    int64_t id = 0;
    if (!n || n > CODE_MAX - 1 || *code == '0')
        return 0;
    for (size_t i = 0; i < n; i++) {
        const char *d = memchr(digits, code[i], 62);
        if (!d)
            return 0;
        id = id * 62 + (d - digits);
    }
    return id;
}

static bool is_url(const char *text, size_t n)
{
    size_t scheme = !strncmp(text, "http://", 7) ? 7 : !strncmp(text, "https://", 8) ? 8 : 0;
    if (!scheme || n == scheme || n > URL_MAX || strlen(text) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] >= 127) // neither spaces nor what could end a header
            return false;
    return true;
}

struct answer {
    int status;
    char location[URL_MAX + 1]; // "": none
    char body[512];
    struct delay_record record;
};

// POST /links
static void create(struct app *app, const struct http_request *r, struct answer *a)
{
    // The body is a URL and perhaps a line end; it was copied so that it can be cut.
    char url[URL_MAX + 3];
    snprintf(url, sizeof url, "%.*s", (int)r->body_bytes, r->body);
    url[strcspn(url, "\r\n")] = '\0';
    if (!is_url(url, strlen(url))) {
        a->status = 400;
        snprintf(a->body, sizeof a->body, "the body has to be one http or https URL\n");
        return;
    }
    int is_new = 0;
    int64_t id = store_add(app->store, url, &is_new);
    if (id <= 0) {
        a->status = 500;
        return;
    }
    a->status = is_new ? 201 : 200;
    code_of(id, a->location);
    snprintf(a->body, sizeof a->body, "%.*s\n", CODE_MAX + 1, a->location);
}

// GET /CODE
static void redirect(struct app *app, int64_t id, struct answer *a)
{
    delay_redirect(&a->record, &app->cache.mutex);
    bool is_cached = cache_get(&app->cache, id, a->location);
    delay_had_lock(&a->record);
    if (!is_cached) {
        int rc = store_url(app->store, id, a->location);
        if (rc) {
            a->location[0] = '\0';
            a->status = rc == -ENOENT ? 404 : 500;
            return;
        }
        cache_put(&app->cache, id, a->location);
    }
    fib_chan_send(app->visits, &id);
    a->status = 302;
}

// GET /CODE/visits
static void visits(struct app *app, int64_t id, struct answer *a)
{
    int64_t n = 0;
    int rc = store_visits(app->store, id, &n);
    a->status = !rc ? 200 : rc == -ENOENT ? 404 : 500;
    if (!rc)
        snprintf(a->body, sizeof a->body, "%lld\n", (long long)n);
}

// GET /stats
static void stats(struct app *app, struct answer *a)
{
    fib_mutex_lock(&app->cache.mutex);
    uint64_t hits = app->cache.hits, misses = app->cache.misses;
    fib_mutex_unlock(&app->cache.mutex);
    int64_t links = store_count(app->store);
    a->status = links < 0 ? 500 : 200;
    snprintf(a->body, sizeof a->body,
             "links %lld\nrequests %llu\nconnections %u\ncache_hits %llu\ncache_misses %llu\n",
             (long long)links, (unsigned long long)app->requests, app->connections,
             (unsigned long long)hits, (unsigned long long)misses);
}

static void route_get(struct app *app, const char *target, struct answer *a)
{
    const char *code = target + 1, *rest = code + strcspn(code, "/");
    int64_t id = id_of(code, (size_t)(rest - code));
    if (!strcmp(target, "/healthz")) {
        fib_label_set("route", "healthz");
        a->status = 200;
        snprintf(a->body, sizeof a->body, "ok\n");
    } else if (!strcmp(target, "/stats")) {
        fib_label_set("route", "stats");
        stats(app, a);
    } else if (id && !*rest) {
        fib_label_set("route", "redirect");
        redirect(app, id, a);
    } else if (id && !strcmp(rest, "/visits")) {
        fib_label_set("route", "visits");
        visits(app, id, a);
    } else {
        a->status = 404;
    }
}

// Regions of a trace come from libfiberscope, which is there when somebody records; else there is nothing to mark.
#pragma weak fscope_region_begin
#pragma weak fscope_region_end

int routes_answer(struct app *app, struct http_connection *c, const struct http_request *r)
{
    struct answer a = {.status = 404};
    struct fscope_region region;
    bool is_marked = app->marks_regions && fscope_region_begin;
    int32_t before = fib_label_set("route", "none");
    if (is_marked)
        region = fscope_region_begin(0, "request");
    delay_begin(&a.record);
    app->requests++;
    if (!strcmp(r->method, "GET") && r->target[0] == '/') {
        route_get(app, r->target, &a);
    } else if (!strcmp(r->method, "POST") && !strcmp(r->target, "/links")) {
        fib_label_set("route", "create");
        create(app, r, &a);
    } else if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "POST") != 0) {
        a.status = 405;
    }
    int rc = http_answer(c, a.status, *a.location ? a.location : NULL, *a.body ? a.body : NULL,
                         r->is_last || app->is_stopping);
    delay_end(&a.record);
    if (is_marked)
        fscope_region_end(&region);
    fib_labels_restore(before);
    return rc;
}

// --- Visits.

enum { BATCH = 256 };

static void batch_write(struct app *app, struct store_visit *batch, int *n)
{
    if (*n && store_add_visits(app->store, batch, *n))
        fprintf(stderr, "shorten: visits could not be counted\n");
    *n = 0;
}

void visits_run(void *arg)
{
    struct app *app = arg;
    struct store_visit batch[BATCH];
    int n = 0, rc;
    int64_t id, due_ns = 0;
    fib_set_name("visits");
    fib_label_set("route", "visits counter");
    do {
        int64_t left_ns = due_ns - fib_now_ns();
        rc = fib_chan_recv_for(app->visits, &id, !n ? -1 : left_ns > 0 ? left_ns : 0);
        if (!rc) {
            if (!n)
                due_ns = fib_now_ns() + 1000000000;
            int i = 0;
            while (i < n && batch[i].id != id)
                i++;
            if (i == n)
                batch[n++] = (struct store_visit){id, 0};
            batch[i].count++;
        }
        if (rc || n == BATCH || fib_now_ns() >= due_ns)
            batch_write(app, batch, &n);
    } while (rc != -EPIPE);
}
