// SPDX-License-Identifier: MIT
//
// Any bytes, as a trace from which /debug/requests takes tasks; twice, for what was seen once is passed over. Afterwards
// sums agree, and the page has no element that is not its own.

#include "collector/serve/requests.h"

#include "fake_session.h"
#include "formats/trace/trace.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void check(const struct requests *q)
{
    uint32_t active = 0;
    for (uint32_t i = 0; i < REQUESTS_ACTIVE; i++)
        active += q->active[i] != NULL;
    must(active == q->active_count && q->family_count <= REQUESTS_FAMILIES + 1);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < q->family_count; i++) {
        const struct task_family *f = &q->families[i];
        uint64_t count = 0;
        for (int b = 0; b < REQUESTS_BUCKETS; b++) {
            count += f->buckets[b];
            must(f->recent[b].count <= REQUESTS_RECENT && f->recent[b].count <= f->buckets[b]);
        }
        must(count == f->count && f->errors <= count);
        sum += f->active;
    }
    must(sum == active);
}

static uint64_t ended(const struct requests *q)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < q->family_count; i++)
        n += q->families[i].count;
    return n;
}

static void show(const struct requests *q, const char *query)
{
    static struct serve serve;
    struct fake_session *controls;
    serve.session = fake_session(&controls);
    struct request r = {.serve = &serve,
                        .query = query,
                        .path = (char *)(uintptr_t) "/debug/requests",
                        .method = "GET",
                        .reply = {.fd = -1}};
    for (int is_json = 0; is_json < 2; is_json++) {
        FILE *out = reply_text_begin(&r, TYPE_HTML);
        must(out != NULL);
        if (is_json)
            requests_put_json(&r, out, q, "<");
        else
            requests_put_html(&r, out, q, "<");
        reply_text_end(&r, out);
        for (size_t i = 0; i < r.reply.text_size; i++) // no controls, and in JSON no <
            must((unsigned char)r.reply.text[i] >= ' ' || r.reply.text[i] == '\n');
        must(!is_json || !memchr(r.reply.text, '<', r.reply.text_size));
        must(!strstr(r.reply.text, "<script") && !strstr(r.reply.text, "<img"));
        reply_clear(&r.reply);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct trace_reader_options o = {.size = sizeof o,
                                           .salvage = true,
                                           .intern_bytes_max = 4 << 20,
                                           .generation_bytes_max = 64 << 20,
                                           .state_bytes_max = 64 << 20};
    struct requests *q = requests_new();
    must(q != NULL);
    uint64_t once = 0;
    for (int i = 0; i < 2; i++) {
        struct trace_reader *reader = NULL;
        if (trace_reader_open_memory(&reader, data, size, &o, NULL) == 0) {
            int rc = requests_read(q, reader);
            check(q);
            must(i == 0 || rc || ended(q) == once || q->seen_until <= 0);
            once = ended(q);
        }
        trace_reader_close(reader);
    }
    show(q, "");
    if (q->family_count > 1) {
        char query[4 * REQUESTS_NAME + 32] = "b=1&family=";
        FILE *out = fmemopen(query + strlen(query), sizeof query - strlen(query), "w");
        must(out != NULL);
        put_query(out, q->families[1].name);
        fclose(out);
        show(q, query);
    }
    requests_free(q);
    return 0;
}
