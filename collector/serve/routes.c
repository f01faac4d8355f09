// SPDX-License-Identifier: MIT
//
// Which page a path is, as Go's ServeMux finds it among what net/http/pprof registers: paths are made clean by a
// redirection, methods are checked, all else below /debug/pprof/ is a profile's name.

#include "collector/serve/internal.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#define ROOT "/debug/pprof/"

static const struct route {
    const char *path;
    void (*page)(struct request *r);
    bool posts; // also POST
} routes[] = {
    {ROOT, page_index, false},
    {ROOT "cmdline", page_cmdline, false},
    {ROOT "profile", page_cpu, false},
    {ROOT "symbol", page_symbol, true},
    {ROOT "trace", page_trace, false},
    {ROOT "wall", page_wall, false},
    {ROOT "offcpu", page_offcpu, false},
    {ROOT "flight", page_flight, false},
    {"/debug/trace", page_trace, false},
    {"/debug/fibers", page_fibers, false},
    {"/debug/requests", page_requests, false},
    {"/metrics", page_metrics, false},
};

static const struct route *find(const char *path)
{
    static const struct route by_name = {ROOT, page_profile, false};
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(routes[i].path, path) == 0)
            return &routes[i];
    return strncmp(path, ROOT, strlen(ROOT)) == 0 ? &by_name : NULL;
}

static bool redirect_if_unclean(struct request *r, const char *method_path)
{
    char *clean = query_clean_path(r->uri);
    bool is_get = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;
    if (!clean) {
        reply_http_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
        return true;
    }
    bool is_unclean = strcmp(clean, r->uri) != 0;
    // The folder without its slash.
    bool is_folder = is_get && strcmp(clean, method_path) == 0;
    if (is_folder)
        strcat(clean, "/"); // there is room: query_clean_path leaves some
    if (is_unclean || is_folder)
        reply_redirect(r, clean);
    free(clean);
    return is_unclean || is_folder;
}

bool route_request(struct request *r)
{
    bool is_get = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;
    size_t size = strlen(r->uri);
    if (redirect_if_unclean(r, "/debug/pprof"))
        return false;
    r->path = strdup(r->uri);
    if (!r->path || !query_unescape(r->path, &size, false)) {
        reply_http_error(r, MHD_HTTP_BAD_REQUEST, "400 Bad Request");
        return false;
    }
    // What is no string names nothing, nor does this.
    for (char *nul; (nul = memchr(r->path, '\0', size));)
        *nul = '\1';
    const struct route *route = find(r->path);
    if (!route && strcmp(r->path, "/debug/pprof") != 0) {
        reply_http_error(r, MHD_HTTP_NOT_FOUND, "404 page not found");
        return false;
    }
    if (!route || (!is_get && !(route->posts && strcmp(r->method, "POST") == 0))) {
        reply_http_error(r, MHD_HTTP_METHOD_NOT_ALLOWED, "Method Not Allowed");
        r->reply.allow = route && route->posts ? "GET, HEAD, POST" : "GET, HEAD";
        return false;
    }
    r->page = route->page;
    return true;
}
