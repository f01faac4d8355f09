// SPDX-License-Identifier: MIT
//
// Who may ask: the token, and, where there is none, that a browser was not led here from elsewhere. A page of another
// site may make its own name point to 127.0.0.1 and then read what we answer (DNS rebinding); but the name shows in
// Host. Addresses do no harm there: whoever uses one has got to the right machine.

#include "collector/serve/internal.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <string.h>
#include <strings.h>

static const char *header(const struct request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

// --- The token.

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

// The bytes, or 0 where it is no base64 or does not fit.
static size_t base64_decode(const char *text, unsigned char *out, size_t size)
{
    unsigned bits = 0, have = 0;
    size_t n = 0;
    for (; *text && *text != '='; text++) {
        int digit = base64_digit(*text);
        if (digit < 0 || n == size)
            return 0;
        bits = (bits << 6 | (unsigned)digit) & 0xffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (unsigned char)(bits >> have);
        }
    }
    return n;
}

// In a time that tells nothing of where they differ.
static bool is_token(const struct serve *s, const void *given, size_t size)
{
    unsigned char padded[SERVE_TOKEN_MAX] = {0};
    volatile unsigned char differs = size != s->token_size;
    memcpy(padded, given, size < sizeof padded ? size : sizeof padded);
    for (size_t i = 0; i < sizeof padded; i++)
        differs = (unsigned char)(differs | (padded[i] ^ s->token[i]));
    return !differs;
}

static bool shows_token(const struct serve *s, const char *authorization)
{
    if (strncasecmp(authorization, "Bearer ", 7) == 0) {
        const char *given = authorization + 7 + strspn(authorization + 7, " ");
        return is_token(s, given, strlen(given));
    }
    if (strncasecmp(authorization, "Basic ", 6) == 0) { // as http://:TOKEN@host/ is sent
        unsigned char both[2 * SERVE_TOKEN_MAX];
        size_t n = base64_decode(authorization + 6, both, sizeof both);
        const unsigned char *colon = memchr(both, ':', n);
        return colon && is_token(s, colon + 1, n - 1 - (size_t)(colon - both));
    }
    return false;
}

bool guard_token(struct request *r)
{
    const char *authorization = header(r, MHD_HTTP_HEADER_AUTHORIZATION);
    if (!r->serve->token_size || (authorization && shows_token(r->serve, authorization)))
        return true;
    reply_error(r, MHD_HTTP_UNAUTHORIZED,
                authorization ? "wrong token" : "a token is needed: Authorization: Bearer TOKEN");
    r->reply.asks_token = true;
    return false;
}

// --- Where a browser thinks that it is.

bool guard_host_is_local(const char *host)
{
    char name[INET6_ADDRSTRLEN + 1];
    struct in6_addr any;
    const char *end = *host == '[' ? strchr(host, ']') : strchrnul(host, ':');
    if (*host == '[')
        host++;
    if (!end)
        return false;
    size_t n = (size_t)(end - host);
    static const char localhost[] = "localhost";
    size_t tail = sizeof localhost - 1;
    if (n >= tail && strncasecmp(end - tail, localhost, tail) == 0 &&
        (n == tail || end[-(ptrdiff_t)tail - 1] == '.'))
        return true;
    if (n >= sizeof name)
        return false;
    memcpy(name, host, n);
    name[n] = '\0';
    return inet_pton(AF_INET, name, &any) == 1 || inet_pton(AF_INET6, name, &any) == 1;
}

bool guard_host(struct request *r)
{
    const struct serve *s = r->serve;
    if (!s->listener.is_loopback || s->token_size)
        return true;
    const char *host = header(r, MHD_HTTP_HEADER_HOST);
    if (host && *host && !guard_host_is_local(host)) {
        reply_error(r, MHD_HTTP_FORBIDDEN,
                    "this is served to this machine alone, under localhost or an address, and not "
                    "under the name in Host");
        return false;
    }
    // A foreign page may not have things recorded either; a link on it may lead here.
    const char *site = header(r, "Sec-Fetch-Site"), *mode = header(r, "Sec-Fetch-Mode");
    if (site && strcasecmp(site, "cross-site") == 0 && (!mode || strcasecmp(mode, "navigate"))) {
        reply_error(r, MHD_HTTP_FORBIDDEN, "asked for by a page of another site");
        return false;
    }
    return true;
}
