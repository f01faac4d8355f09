// SPDX-License-Identifier: MIT
//
// The server around libmicrohttpd. Of a request its thread calls us, in this order: request_new (the first line is
// there), on_request (headers: the guard and the route), again for each piece of a body, again when all is there
// (request_begin), again when the reply is (send_reply), and request_done.

#include "collector/serve/internal.h"

#include <errno.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    SLACK = 64,         // connections that were cut off and are not closed yet
    LAST_REPLIES_S = 1, // for replies to be taken when we stop
};
#define SECOND_NS UINT64_C(1000000000)

// --- libmicrohttpd's thread.

static struct connection *slot_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void *request_new(void *cls, const char *uri, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *fd =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct request *r = calloc(1, sizeof *r);
    // An absolute one names the server, too: to a proxy, but Go takes it.
    const char *slashes = *uri == '/' ? NULL : strstr(uri, "://");
    const char *path = slashes ? strchrnul(slashes + 3, '/') : uri;
    if (!r || !(r->uri = strdup(*path ? path : "/"))) {
        free(r);
        return NULL;
    }
    r->serve = cls;
    r->connection = connection;
    r->client = fd ? fd->connect_fd : -1;
    r->slot = slot_of(connection);
    r->reply.fd = -1;
    char *question = strchr(r->uri, '?');
    r->query = question ? question + 1 : "";
    if (question)
        *question = '\0';
    return r;
}

static void request_done(void *cls, struct MHD_Connection *connection, void **con_cls,
                         enum MHD_RequestTerminationCode how)
{
    struct serve *s = cls;
    struct request *r = *con_cls;
    (void)connection;
    (void)how;
    *con_cls = NULL;
    if (!r)
        return;
    connections_finished(&s->connections, r->slot);
    request_give_place_back(r);
    reply_clear(&r->reply);
    free(r->uri);
    free(r->path);
    free(r->body);
    free(r);
}

static struct MHD_Response *make_response(struct request *r)
{
    struct reply *p = &r->reply;
    struct MHD_Response *response;
    if (p->fd >= 0 && p->fd_bytes) {
        response = MHD_create_response_from_fd64(p->fd_bytes, p->fd);
        if (response)
            p->fd = -1;
        return response;
    }
    response =
        MHD_create_response_from_buffer(p->text_size, p->text ? p->text : (char[]){""},
                                        p->text ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (response)
        p->text = NULL;
    return response;
}

static void add_headers(struct MHD_Response *response, const struct reply *p)
{
    char value[sizeof p->disposition + 64];
    if (p->type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, p->type);
    if (!p->is_plain)
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (p->is_error)
        MHD_add_response_header(response, "X-Go-Pprof", "1");
    if (p->location)
        MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION, p->location);
    if (p->allow)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, p->allow);
    if (p->asks_token)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE,
                                "Bearer realm=\"fiberscope\"");
    if (p->is_busy)
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "5");
    if (p->is_ours) {
        MHD_add_response_header(response, "Content-Security-Policy",
                                "default-src 'none'; style-src 'unsafe-inline'; "
                                "form-action 'none'; frame-ancestors 'none'; base-uri 'none'");
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    }
    if (p->disposition[0]) {
        snprintf(value, sizeof value, "attachment; filename=\"%s\"", p->disposition);
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_DISPOSITION, value);
    }
}

static enum MHD_Result send_reply(struct request *r)
{
    uint64_t bytes = r->reply.text_size + r->reply.fd_bytes;
    unsigned status = (unsigned)r->reply.status;
    struct MHD_Response *response = make_response(r);
    if (!response)
        return MHD_NO;
    add_headers(response, &r->reply);
    connections_replied(&r->serve->connections, r->slot, bytes);
    enum MHD_Result rc = MHD_queue_response(r->connection, status, response);
    MHD_destroy_response(response);
    return rc;
}

static bool take_body(struct request *r, const char *data, size_t size)
{
    if (size > r->serve->o.body_bytes_max - r->body_size) {
        reply_http_error(r, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
        return false;
    }
    char *grown = realloc(r->body, r->body_size + size + 1);
    if (!grown) {
        reply_http_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
        return false;
    }
    r->body = grown;
    memcpy(r->body + r->body_size, data, size);
    r->body_size += size;
    r->body[r->body_size] = '\0';
    return true;
}

static const char *header(const struct request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

// The headers are there.
static enum MHD_Result look_at(struct request *r)
{
    const char *length = header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);
    r->is_ready = !guard_host(r) || !guard_token(r) || !route_request(r);
    if (!r->is_ready && length && strtoull(length, NULL, 10) > r->serve->o.body_bytes_max) {
        reply_http_error(r, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
        r->is_ready = true;
    }
    // A body that nobody will look at is refused before it is sent, at the cost of the connection. Without one the
    // connection is kept, if the reply waits for the next call.
    bool has_body = length || header(r, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    return r->is_ready && has_body ? send_reply(r) : MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **con_cls)
{
    struct request *r = *con_cls;
    (void)cls;
    (void)connection;
    (void)url;
    (void)version;
    if (!r)
        return MHD_NO; // no memory
    if (!r->method) {
        r->method = method;
        return look_at(r);
    }
    if (*data_size) {
        // After a refusal the rest of the body is read and thrown away; ask_ns bounds that.
        if (!r->is_ready)
            r->is_ready = !take_body(r, data, *data_size);
        *data_size = 0;
        return MHD_YES;
    }
    if (!r->has_begun && !r->is_ready && request_begin(r))
        return MHD_YES;
    return r->is_ready ? send_reply(r) : MHD_YES;
}

static bool is_allowed(const struct serve *s, const struct sockaddr *from)
{
    struct in6_addr ip;
    if (!s->allow_count || !address_of(from, &ip))
        return true;
    for (size_t i = 0; i < s->allow_count; i++)
        if (address_in(&ip, &s->allow[i]))
            return true;
    return false;
}

static enum MHD_Result on_accept(void *cls, const struct sockaddr *from, socklen_t size)
{
    struct serve *s = cls;
    (void)size;
    return is_allowed(s, from) && connections_admit(&s->connections, from) ? MHD_YES : MHD_NO;
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct serve *s = cls;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        connections_remove(&s->connections, *context);
        *context = NULL;
        return;
    }
    const union MHD_ConnectionInfo *fd =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *from =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    *context = fd ? connections_add(&s->connections, fd->connect_fd,
                                    from ? (const struct sockaddr *)from->client_addr : NULL)
                  : NULL;
}

// --- Starting and stopping.

static void set_defaults(struct serve_options *o)
{
    struct {
        uint32_t *value, otherwise;
    } counts[] = {{&o->connections_max, 128},
                  {&o->connections_per_ip_max, 64},
                  {&o->requests_max, 16},
                  {&o->header_bytes_max, 32 * 1024},
                  {&o->body_bytes_max, 1024 * 1024}};
    struct {
        uint64_t *value, otherwise;
    } times[] = {{&o->ask_ns, 10 * SECOND_NS},
                 {&o->idle_ns, 60 * SECOND_NS},
                 {&o->read_ns, 60 * SECOND_NS},
                 {&o->duration_ns_max, 3600 * SECOND_NS}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        *counts[i].value = *counts[i].value ? *counts[i].value : counts[i].otherwise;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        *times[i].value = *times[i].value ? *times[i].value : times[i].otherwise;
    if (!o->listen)
        o->listen = SERVE_LISTEN_DEFAULT;
}

static int take_access(struct serve *s, const struct serve_options *o, struct fscope_error *err)
{
    s->token_size = o->token ? strlen(o->token) : 0;
    if (o->token && (s->token_size < SERVE_TOKEN_MIN || s->token_size > SERVE_TOKEN_MAX))
        return error_set(err, -EINVAL, 0, "the token has %zu bytes; %d to %d are needed",
                         s->token_size, SERVE_TOKEN_MIN, SERVE_TOKEN_MAX);
    for (size_t i = 0; i < s->token_size; i++)
        if (o->token[i] <= ' ' || o->token[i] == 0x7f)
            return error_set(err, -EINVAL, 0, "the token has a space or control character in it");
    if (s->token_size)
        memcpy(s->token, o->token, s->token_size);
    if (o->allow_count > SERVE_ALLOW_MAX)
        return error_set(err, -EINVAL, 0, "more than %d allowed networks", SERVE_ALLOW_MAX);
    for (int rc; s->allow_count < o->allow_count; s->allow_count++)
        if ((rc = address_parse_network(&s->allow[s->allow_count], o->allow[s->allow_count], err)))
            return rc;
    return 0;
}

static struct MHD_Daemon *start_daemon(struct serve *s)
{
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    return MHD_start_daemon(flags, 0, on_accept, s, on_request, s, MHD_OPTION_LISTEN_SOCKET,
                            s->listener.fd, MHD_OPTION_CONNECTION_LIMIT,
                            s->o.connections_max + SLACK, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)s->o.header_bytes_max, MHD_OPTION_CONNECTION_TIMEOUT, 0U,
                            MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
                            MHD_OPTION_NOTIFY_COMPLETED, request_done, s,
                            MHD_OPTION_URI_LOG_CALLBACK, request_new, s, MHD_OPTION_END);
}

// The threads that it makes have the priority of who calls it.
static int start_low_threads(struct serve *s)
{
    int rc = connections_start(&s->connections);
    errno = 0;
    if (!rc && !(s->daemon = start_daemon(s)))
        rc = errno ? -errno : -ENOMEM;
    return rc;
}

static int start_threads(struct serve *s, struct fscope_error *err)
{
    sigset_t all, before;
    s->connections.max = s->o.connections_max;
    s->connections.per_ip_max = s->o.connections_per_ip_max;
    s->connections.ask_ns = s->o.ask_ns;
    s->connections.idle_ns = s->o.idle_ns;
    s->connections.read_ns = s->o.read_ns;
    // Signals are for the threads that were there before.
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = workers_start(s);
    if (!rc)
        rc = serve_run_low(s, start_low_threads);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? error_set(err, rc, 0, "the server could not be started: %s", strerror(-rc)) : 0;
}

static void release(struct serve *s)
{
    workers_stop(s);
    connections_stop(&s->connections);
    address_close(&s->listener);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    pthread_cond_destroy(&s->idle);
    pthread_cond_destroy(&s->given);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->names_lock);
    free(s->names);
    requests_free(s->requests);
    free(s);
}

// A server that listens and has no threads yet.
static int prepare(struct serve **out, const struct serve_options *o, struct fscope_error *err)
{
    *out = NULL;
    struct serve *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, -ENOMEM, 0, "out of memory");
    s->o = *o;
    set_defaults(&s->o);
    s->session = o->session;
    s->listener.fd = -1;
    int rc = take_access(s, o, err);
    if (!rc)
        rc = address_listen(&s->listener, s->o.listen, s->token_size != 0, err);
    if (rc)
        free(s);
    else
        *out = s;
    return rc;
}

int serve_check(const struct serve_options *o, struct fscope_error *err)
{
    struct serve *s;
    int rc = prepare(&s, o, err);
    if (!rc) {
        address_close(&s->listener);
        free(s);
    }
    return rc;
}

int serve_start(struct serve **out, const struct serve_options *o, struct fscope_error *err)
{
    struct serve *s;
    int rc = prepare(&s, o, err);
    *out = NULL;
    if (!s)
        return rc;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->names_lock, NULL);
    pthread_cond_init(&s->idle, NULL);
    pthread_cond_init(&s->given, NULL);
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = s->stop_fd < 0 ? error_set(err, -errno, 0, "eventfd: %s", strerror(errno))
         : s->session   ? session_begin(s->session, err)
                        : 0;
    if (!rc)
        rc = start_threads(s, err);
    if (rc) {
        release(s);
        return rc;
    }
    *out = s;
    return 0;
}

void serve_stop(struct serve *s)
{
    if (!s)
        return;
    const uint64_t one = 1;
    struct timespec until;
    // So that nobody starts anything; what runs sees stop_fd.
    pthread_mutex_lock(&s->lock);
    s->o.requests_max = 0;
    if (write(s->stop_fd, &one, sizeof one) < 0) {
        // An eventfd that is 0 takes it.
    }
    while (s->running)
        pthread_cond_wait(&s->idle, &s->lock);
    // What was recorded until now is what somebody waits for, of a program that crashed above all.
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LAST_REPLIES_S;
    while (s->unsent && !pthread_cond_clockwait(&s->idle, &s->lock, CLOCK_MONOTONIC, &until))
        ;
    pthread_mutex_unlock(&s->lock);
    MHD_stop_daemon(s->daemon); // closes the listening socket
    s->listener.fd = -1;
    release(s);
}

const char *serve_address(const struct serve *s)
{
    return s->listener.text;
}
