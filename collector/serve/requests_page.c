// SPDX-License-Identifier: MIT
//
// /debug/requests: takes a trace, if there is one to be had, and shows what is known of tasks.

#include "collector/serve/requests.h"

#include "formats/trace/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TAKE_AGAIN_MS = 1000 };
#define GENERATION_BYTES_MAX (UINT64_C(512) << 20) // of one generation in the reader's memory

static int read_trace(struct requests *q, const char *path, char *why, size_t size)
{
    const struct trace_reader_options o = {.size = sizeof o,
                                           .salvage = true,
                                           .intern_bytes_max = 32 << 20,
                                           .generation_bytes_max = GENERATION_BYTES_MAX,
                                           .state_bytes_max = GENERATION_BYTES_MAX};
    struct fscope_error err = {0};
    struct trace_reader *reader = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? -errno : trace_reader_open_fd(&reader, fd, &o, &err);
    if (!rc) {
        pthread_mutex_lock(&q->lock);
        rc = requests_read(q, reader);
        pthread_mutex_unlock(&q->lock);
        if (rc && trace_reader_error(reader))
            trace_error_to(trace_reader_error(reader), &err);
    }
    if (rc)
        snprintf(why, size, "the trace cannot be read: %s", err.text[0] ? err.text : strerror(-rc));
    trace_reader_close(reader);
    if (fd >= 0)
        close(fd);
    return rc;
}

static bool over(void *arg)
{
    return request_is_over(arg);
}

// Records for so long, or else takes what the flight recorder holds. why: "" or a word on what is missing.
static void take_trace(struct request *r, struct requests *q, double seconds, char *why,
                       size_t size)
{
    struct fscope_error err = {0};
    struct spool spool;
    uint64_t bytes = 0;
    if (spool_open(&spool)) {
        snprintf(why, size, "no folder for temporary files can be written to; set TMPDIR");
        return;
    }
    const struct session_stream o = {
        .size = sizeof o, .duration_ns = (uint64_t)(seconds * 1e9), .is_over = over, .arg = r};
    int rc = seconds > 0 ? session_trace(r->serve->session, &o, spool.file, &bytes, &err)
                         : session_flight(r->serve->session, spool.file, &bytes, &err);
    if (!rc)
        read_trace(q, spool.file, why, size);
    else if (rc == -EBUSY)
        snprintf(why, size, "somebody else records a trace; try again when that is over");
    else if (seconds > 0 || (rc != -ENODATA && rc != -EOPNOTSUPP))
        snprintf(why, size, "%s", err.text[0] ? err.text : strerror(-rc));
    else
        snprintf(why, size, "%s",
                 rc == -EOPNOTSUPP ? err.text : "the program has no flight recorder on");
    spool_close(&spool);
}

// One at a time; the others show what there is.
static bool may_take(struct request *r, struct requests *q, double seconds)
{
    uint64_t now = serve_now_ns(), image = session_image(r->serve->session);
    pthread_mutex_lock(&q->lock);
    if (q->image != image)
        requests_clear(q);
    q->image = image;
    bool may = !q->is_taking && (seconds > 0 || !q->taken_ns ||
                                 now - q->taken_ns >= TAKE_AGAIN_MS * UINT64_C(1000000));
    q->is_taking |= may;
    pthread_mutex_unlock(&q->lock);
    return may;
}

static struct requests *store_of(struct serve *s)
{
    pthread_mutex_lock(&s->names_lock);
    if (!s->requests)
        s->requests = requests_new();
    struct requests *q = s->requests;
    pthread_mutex_unlock(&s->names_lock);
    return q;
}

bool requests_selected(const struct request *r, const struct requests *q, uint32_t *family,
                       int *bucket)
{
    size_t size, bucket_size;
    char *name = query_get(r->query, "family", &size);
    char *word = query_get(r->query, "b", &bucket_size);
    int64_t number = -1;
    bool ok = name && word;
    if (ok && strcmp(word, "errors") == 0)
        number = REQUESTS_ERRORS;
    else if (ok && strcmp(word, "active") != 0)
        ok = query_parse_int(word, bucket_size, &number) == 0 && number >= 0 &&
             number < REQUESTS_BUCKETS;
    bool is_found = false;
    for (uint32_t i = 0; ok && i < q->family_count && !is_found; i++)
        if (strcmp(q->families[i].name, name) == 0) {
            *family = i;
            is_found = true;
        }
    *bucket = (int)number;
    free(name);
    free(word);
    return ok && is_found;
}

static double seconds_of(const struct request *r)
{
    double seconds = 0;
    size_t size;
    char *text = query_get(r->query, "seconds", &size);
    if (!text || query_parse_float(text, size, &seconds) || !(seconds > 0))
        seconds = 0;
    free(text);
    return seconds;
}

void page_requests(struct request *r)
{
    struct requests *q = store_of(r->serve);
    char why[512] = "";
    double seconds = seconds_of(r);
    size_t size;
    if (!q) {
        reply_http_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
        return;
    }
    if (seconds * 1e9 > (double)r->serve->o.duration_ns_max) {
        reply_http_error(r, MHD_HTTP_BAD_REQUEST, "so many seconds are not recorded");
        return;
    }
    if (may_take(r, q, seconds)) {
        take_trace(r, q, seconds, why, sizeof why);
        pthread_mutex_lock(&q->lock);
        q->is_taking = false;
        q->taken_ns = serve_now_ns();
        pthread_mutex_unlock(&q->lock);
    }
    char *format = query_get(r->query, "format", &size);
    bool is_json = format && strcmp(format, "json") == 0;
    free(format);
    FILE *out = reply_text_begin(r, is_json ? TYPE_JSON : TYPE_HTML);
    if (!out)
        return;
    r->reply.is_ours = !is_json;
    pthread_mutex_lock(&q->lock);
    if (is_json)
        requests_put_json(r, out, q, why);
    else
        requests_put_html(r, out, q, why);
    pthread_mutex_unlock(&q->lock);
    reply_text_end(r, out);
}
