// SPDX-License-Identifier: MIT
//
// The threads: who works on a request, and who runs at a low priority. What strangers can cause without a token is
// done by libmicrohttpd's thread and the one that cuts off who is slow: those give way to the target. A request that was
// let in gets a thread of the priority that fiberscope has, for it may have to empty the rings of a recording in
// time. An ordinary user cannot raise what was lowered, so a thread from before, the maker, makes them.

#include "collector/serve/internal.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>

enum {
    NICE_LOW = 10
}; // next to a program that takes all there is, a tenth of a processor is left to serve it

// --- A request's own thread.

bool request_is_over(const struct request *r)
{
    return request_sleep(r, 0);
}

bool request_sleep(const struct request *r, uint64_t ns)
{
    struct pollfd fds[] = {{.fd = r->client, .events = POLLRDHUP},
                           {.fd = r->serve->stop_fd, .events = POLLIN}};
    uint64_t now = serve_now_ns(), until = now + ns;
    for (;;) {
        uint64_t left_ms = until > now ? (until - now + 999999) / 1000000 : 0;
        int n = poll(fds, 2, left_ms > 1000000 ? 1000000 : (int)left_ms);
        if (n > 0 || (n < 0 && errno != EINTR))
            return true;
        if (until <= now || (n == 0 && left_ms == 0))
            return false;
        now = serve_now_ns();
    }
}

static void request_end(struct request *r)
{
    struct serve *s = r->serve;
    pthread_mutex_lock(&s->lock);
    s->running--;
    r->is_ready = true;
    // Under the lock, so that serve_stop finds nothing suspended once nothing runs.
    MHD_resume_connection(r->connection);
    if (!s->running)
        pthread_cond_signal(&s->idle);
    pthread_mutex_unlock(&s->lock);
}

static void *work(void *arg)
{
    struct request *r = arg;
    r->page(r);
    request_end(r);
    return NULL;
}

static bool take_place(struct serve *s, struct request *r)
{
    pthread_mutex_lock(&s->lock);
    r->has_place = s->running < s->o.requests_max;
    s->running += r->has_place;
    s->unsent += r->has_place;
    pthread_mutex_unlock(&s->lock);
    return r->has_place;
}

void request_give_place_back(struct request *r)
{
    struct serve *s = r->serve;
    if (!r->has_place)
        return;
    pthread_mutex_lock(&s->lock);
    if (!--s->unsent)
        pthread_cond_signal(&s->idle);
    pthread_mutex_unlock(&s->lock);
}

// --- The maker.

static void make(struct request *r)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, work, r)) {
        reply_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, "no thread could be had for this");
        request_end(r);
    }
    pthread_attr_destroy(&attr);
}

static void *make_all(void *arg)
{
    struct serve *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->is_over) {
        struct request *r = s->waiting;
        if (!r) {
            pthread_cond_wait(&s->given, &s->lock);
            continue;
        }
        s->waiting = r->next;
        pthread_mutex_unlock(&s->lock);
        make(r);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int workers_start(struct serve *s)
{
    int rc = pthread_create(&s->maker, NULL, make_all, s);
    s->has_maker = rc == 0;
    return -rc;
}

void workers_stop(struct serve *s)
{
    if (!s->has_maker)
        return;
    pthread_mutex_lock(&s->lock);
    s->is_over = true;
    pthread_cond_signal(&s->given);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->maker, NULL);
    s->has_maker = false;
}

bool request_begin(struct request *r)
{
    struct serve *s = r->serve;
    r->has_begun = true;
    connections_asked(&s->connections, r->slot);
    if (!take_place(s, r)) {
        reply_error(r, MHD_HTTP_SERVICE_UNAVAILABLE,
                    "%u requests are being worked on already; try again when one has ended",
                    s->o.requests_max);
        r->reply.is_busy = true;
        r->is_ready = true;
        return false;
    }
    MHD_suspend_connection(r->connection);
    pthread_mutex_lock(&s->lock);
    r->next = s->waiting;
    s->waiting = r;
    pthread_cond_signal(&s->given);
    pthread_mutex_unlock(&s->lock);
    return true;
}

// --- A low priority.

struct low {
    int (*fn)(struct serve *s);
    struct serve *s;
    int rc;
};

static void *run_low(void *arg)
{
    struct low *low = arg;
    const struct sched_param none = {0};
    // Neither can fail; and were it so, there would only be less left for others.
    setpriority(PRIO_PROCESS, 0, NICE_LOW); // of this thread alone
    sched_setscheduler(0, SCHED_BATCH, &none);
    low->rc = low->fn(low->s);
    return NULL;
}

int serve_run_low(struct serve *s, int (*fn)(struct serve *s))
{
    struct low low = {.fn = fn, .s = s};
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, run_low, &low);
    if (rc)
        return -rc;
    pthread_join(thread, NULL);
    return low.rc;
}
