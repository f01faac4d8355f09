// SPDX-License-Identifier: MIT
//
// What the files of the server share.
//
// Threads: libmicrohttpd's own one accepts, reads and writes (daemon.c); each request that passes the guard is worked on
// by a thread of its own, its connection suspended meanwhile (workers.c, where one more makes those); one cuts off who is
// too slow (connections.c).
//
// A request belongs to libmicrohttpd's thread, except from request_begin to request_end, when it is its own thread's.

#ifndef FIBERSCOPE_COLLECTOR_SERVE_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_SERVE_INTERNAL_H

#include "collector/serve.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>

struct MHD_Connection;
struct MHD_Daemon;

uint64_t serve_now_ns(void);

// --- Addresses (address.c).

struct serve_network { // as IPv6; IPv4 is mapped
    struct in6_addr address;
    unsigned bits;
};

struct serve_listener {
    int fd;
    bool is_loopback, is_unix;
    char text[sizeof "unix:" + 128]; // as serve_address
};

int address_listen(struct serve_listener *out, const char *text, bool has_token,
                   struct fscope_error *err);
void address_close(struct serve_listener *l); // removes a unix socket
int address_parse_network(struct serve_network *out, const char *text, struct fscope_error *err);
bool address_in(const struct in6_addr *address, const struct serve_network *n);
// False: not an IP address.
bool address_of(const struct sockaddr *from, struct in6_addr *out);

// --- Connections (connections.c). Any thread.

enum connection_phase { CONNECTION_ASKS, CONNECTION_WORKED_ON, CONNECTION_READS };

struct connection {
    struct connection *next, *prev;
    int fd;
    enum connection_phase phase;
    uint64_t since_ns, deadline_ns; // 0: none
    struct in6_addr ip;
    bool has_ip, is_cut;
};

struct connections {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t reaper;
    struct connection *first; // those that wait longest come first
    uint32_t max, per_ip_max;
    uint64_t ask_ns, idle_ns, read_ns;
    uint64_t looks_ns; // when the reaper looks again, if it is not woken
    bool has_reaper, is_over;
};

int connections_start(struct connections *c);
void connections_stop(struct connections *c);
// Whether there is room for one more from this address; makes some, at the cost of one that has not asked yet.
bool connections_admit(struct connections *c, const struct sockaddr *from);
struct connection *connections_add(struct connections *c, int fd, const struct sockaddr *from);
void connections_remove(struct connections *c, struct connection *one); // accepts NULL
void connections_asked(struct connections *c, struct connection *one);
void connections_replied(struct connections *c, struct connection *one, uint64_t bytes);
void connections_finished(struct connections *c, struct connection *one);

// --- Requests.

struct reply {
    int status;
    const char *type;      // Content-Type; NULL: none
    char disposition[192]; // file name; "": none
    char *location;        // of a redirection
    const char *allow;     // of 405
    bool is_error;         // X-Go-Pprof: 1
    bool asks_token;       // WWW-Authenticate
    bool is_busy;          // Retry-After
    bool is_plain;         // without X-Content-Type-Options
    bool is_ours;          // a page that loads nothing and is kept by nobody
    char *text;            // [text_size] the body
    size_t text_size;
    int fd; // or a file with it, from its start; -1: none
    uint64_t fd_bytes;
};

struct request {
    struct serve *serve;
    struct MHD_Connection *connection;
    struct request *next;    // that waits for a thread
    struct connection *slot; // NULL: no memory for it
    int client;              // descriptor, to see whether it is still there
    const char *method;
    char *uri;         // as it was sent, cut in two: the path (still escaped)
    const char *query; // and the query ("": none)
    char *path;        // unescaped
    char *body;
    size_t body_size;
    bool has_begun, has_place, is_ready;
    void (*page)(struct request *r);
    struct reply reply;
};

struct serve {
    struct serve_options o; // defaults filled in; strings are not to be used
    struct session *session;
    struct MHD_Daemon *daemon;
    struct serve_listener listener;
    struct serve_network allow[SERVE_ALLOW_MAX];
    size_t allow_count;
    unsigned char token[SERVE_TOKEN_MAX]; // padded with zeros
    size_t token_size;                    // 0: none
    struct connections connections;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    uint32_t running; // requests that are worked on
    uint32_t unsent;  // those, and the ones whose reply is still on its way
    pthread_cond_t given;
    struct request *waiting; // for a thread
    pthread_t maker;
    bool has_maker, is_over;
    int stop_fd; // an eventfd, readable once we stop
    pthread_mutex_t names_lock;
    struct names *names; // NULL: none yet
    struct requests *requests;
};

// --- Query (query.c): as Go's net/url and strconv read it.

// The first value of the parameter, unescaped; NULL: none. *size: bytes. The caller frees it.
char *query_get(const char *query, const char *key, size_t *size);
// 0; -EINVAL (then *out is 0); -ERANGE (then it is the nearest number).
int query_parse_int(const char *text, size_t size, int64_t *out);
int query_parse_float(const char *text, size_t size, double *out);
// strconv.ParseUint(text, 0, 64), whose error is of no interest: 0 for what is no number.
uint64_t query_parse_address(const char *text, size_t size);
// strconv.Atoi of a parameter, whose error is of no interest.
int64_t query_int(const char *query, const char *key);
// Unescapes in place; false: malformed. What is longer than a C string says so by *size.
bool query_unescape(char *text, size_t *size, bool is_form);
char *query_clean_path(const char *path); // as Go's mux; NULL: out of memory

// --- Threads (workers.c).

int workers_start(struct serve *s);
void workers_stop(struct serve *s); // nothing is being worked on
// False: the reply is there already. Else it is a thread's, and r is not to be touched before the connection resumes.
bool request_begin(struct request *r);
void request_give_place_back(struct request *r); // when its reply has gone, or will not
// fn in a thread of a low priority, and what it returns, or -errno. Threads that it makes have that, too.
int serve_run_low(struct serve *s, int (*fn)(struct serve *s));

// --- The guard (guard.c), in libmicrohttpd's thread. Each fills the reply and returns false.

bool guard_token(struct request *r);
bool guard_host(struct request *r);
bool guard_host_is_local(const char *host); // for tests, too

// --- Routes (routes.c): sets r->page, or the reply, and returns false.

bool route_request(struct request *r);

// --- Replies (reply.c). They replace what was there.

void reply_clear(struct reply *p);
// An error as net/http/pprof gives it.
void reply_error(struct request *r, int status, const char *fmt, ...) FSCOPE_PRINTF(3, 4);
// An error as net/http gives it.
void reply_http_error(struct request *r, int status, const char *text);
void reply_redirect(struct request *r, const char *path);
// A stream to write the body to; reply_text_end closes it. NULL: the reply says that there is no memory.
FILE *reply_text_begin(struct request *r, const char *type);
void reply_text_end(struct request *r, FILE *out);
// A file for download, of that name. Takes fd.
void reply_file(struct request *r, int fd, uint64_t bytes, const char *name);
void reply_profile(struct request *r, const struct pprof_profile *p, const char *name);

#define TYPE_TEXT   "text/plain; charset=utf-8"
#define TYPE_HTML   "text/html; charset=utf-8"
#define TYPE_BINARY "application/octet-stream"
#define TYPE_JSON   "application/json; charset=utf-8"

// --- Pages, in the request's own thread.

bool request_is_over(const struct request *r); // the client has gone, or the server stops
// Waits so long; true: it was over before.
bool request_sleep(const struct request *r, uint64_t ns);

// A place for a trace until it is sent or read (streams.c): in a folder of its own.
struct spool {
    char dir[256], file[300];
};
int spool_open(struct spool *s); // 0, -EROFS: there is none
void spool_close(struct spool *s);

void requests_free(struct requests *q); // requests.h

void page_index(struct request *r);
void page_cmdline(struct request *r);
void page_symbol(struct request *r);
void page_cpu(struct request *r);
void page_wall(struct request *r);
void page_offcpu(struct request *r);
void page_trace(struct request *r);
void page_flight(struct request *r);
void page_profile(struct request *r); // any by name
void page_fibers(struct request *r);
void page_requests(struct request *r);
void page_metrics(struct request *r);

// --- Text of the target's in pages (escape.c): any bytes, valid UTF-8 afterwards.

void put_html(FILE *out, const char *text);
void put_html_n(FILE *out, const char *text, size_t size);
void put_json(FILE *out, const char *text); // with quotes
void put_json_n(FILE *out, const char *text, size_t size);
void put_label(FILE *out, const char *name, const char *text); // name="text", of Prometheus' format
void put_plain(FILE *out, const char *text);
void put_query(FILE *out, const char *text); // a value in a link

// "1.25 ms"; returns text.
const char *duration_text(char *text, size_t size, uint64_t ns);
// "1,234,567"; returns text.
const char *count_text(char *text, size_t size, uint64_t n);

// Of powers[i] values of 2^i up to 2^(i+1): that below which a fraction q of them lie; 0: there are none.
uint64_t powers_quantile_ns(const uint64_t powers[SESSION_BUCKETS], double q);

// --- The frame of our own pages (html.c). html_refresh comes behind html_begin, with the query of this page but for
// refresh=, escaped; then what belongs to the page, and html_end.

void html_begin(FILE *out, const struct request *r, const char *title, uint64_t refresh_s);
void html_refresh(FILE *out, const char *query, uint64_t refresh_s);
void html_end(FILE *out);
// refresh= of the query, in seconds; 0: never.
uint64_t html_refresh_of(const struct request *r, uint64_t otherwise);

// --- Names of addresses (names.c).

// Calls fn for each address that has one, in order. 0 or -errno.
int names_find(uint32_t pid, const uint64_t *addresses, size_t count,
               void (*fn)(void *arg, uint64_t address, const struct pprof_line *line), void *arg);

struct name { // cut; may hold any bytes
    char function[160];
    char place[64]; // "file.c:12"; "": unknown
};
struct table;
// Looks for those that are not known yet; addresses may be 0. Then name_get has them for a while: without a name it
// gives "0x401000".
void names_want(struct serve *s, const uint64_t *addresses, size_t count);
void names_want_table(struct serve *s, const struct table *t);
void name_get(struct serve *s, uint64_t address, struct name *out);

#endif
