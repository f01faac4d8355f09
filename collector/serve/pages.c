// SPDX-License-Identifier: MIT
//
// The index, the command line, and the names of addresses.

#include "collector/serve/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// --- The index.

static const struct {
    const char *name, *text;
} descriptions[] = {
    {"allocs", "All allocations since they are recorded, also those that were freed"},
    {"block", "Where the program waited for locks and other threads"},
    {"cmdline", "The command line, arguments separated by NUL"},
    {"flight", "What the flight recorder holds, an execution trace"},
    {"goroutine",
     "Stacks of all fibers, or threads where there are none. debug=2 prints them one by one"},
    {"heap", "Memory that is in use, by where it was allocated"},
    {"mutex", "Where locks were released for which others had waited"},
    {"offcpu", "Time that threads do not run: asleep, waiting, or without a processor, for as long "
               "as seconds= says"},
    {"profile", "CPU time, for as long as seconds= says (30 by default). For go tool pprof"},
    {"symbol", "Names of addresses: in the query or the body of a POST, joined by +"},
    {"threadcreate", "Threads, by the function that they were made for"},
    {"threads", "Stacks of all threads, by state"},
    {"trace", "An execution trace, for as long as seconds= says (1 by default). For go tool trace"},
    {"wall",
     "Time by the clock on the wall, of threads that wait too, for as long as seconds= says"},
};

struct row {
    char name[128];
    uint64_t count;
};

struct rows {
    struct row *rows; // [count]
    size_t count;
};

static const char *describe(const char *name)
{
    for (size_t i = 0; i < sizeof descriptions / sizeof *descriptions; i++)
        if (strcmp(descriptions[i].name, name) == 0)
            return descriptions[i].text;
    return "";
}

static int add_row(void *arg, const char *name, uint64_t count)
{
    struct rows *all = arg;
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->rows[i].name, name) == 0)
            return 0;
    struct row *grown = realloc(all->rows, (all->count + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    all->rows = grown;
    struct row *row = &grown[all->count++];
    *row = (struct row){.count = count};
    snprintf(row->name, sizeof row->name, "%s", name);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct row *)a)->name, ((const struct row *)b)->name);
}

static void put_link(FILE *out, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            strchr("-_.~$&+,/:=@", c))
            fputc(c, out);
        else
            fprintf(out, "%%%02X", c);
    }
}

// To the pages that Go has not, from what they are about. Relative, as Go's links are: there may be a proxy's path above.
static void put_own_page(FILE *out, const char *name)
{
    static const struct {
        const char *name, *page, *words;
    } pages[] = {
        {"goroutine", "../fibers", "live table"},
        {"heap", "../../metrics", "in numbers, for Prometheus"},
        {"threads", "../fibers?of=threads", "live table"},
        {"trace", "../requests", "tasks by latency"},
    };
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        if (!strcmp(name, pages[i].name))
            fprintf(out, " <a href='%s'>%s</a>", pages[i].page, pages[i].words);
}

// What needs the agent is listed, and a link where there is one.
static bool is_answered(const char *name, const struct session *s)
{
    static const char *const inside[] = {"allocs", "flight", "heap", "trace", "wall"};
    bool has_agent = session_way(s) == SESSION_AGENT;
    if (!strcmp(name, "wall") && session_is_by_kernel(s))
        return true;
    for (size_t i = 0; !has_agent && i < sizeof inside / sizeof *inside; i++)
        if (!strcmp(name, inside[i]))
            return false;
    return true;
}

static void put_row(FILE *out, const struct row *row, const struct session *s)
{
    bool has_link = is_answered(row->name, s);
    fprintf(out, "<tr><td>%" PRIu64 "</td><td>", row->count);
    if (has_link) {
        fputs("<a href='", out);
        put_link(out, row->name);
        fputs("?debug=1'>", out);
    }
    put_html(out, row->name);
    fputs(has_link ? "</a></td></tr>\n" : " (needs the agent)</td></tr>\n", out);
}

static void put_index(FILE *out, const struct rows *all, const struct session *s)
{
    fputs("<html>\n<head>\n<title>/debug/pprof/</title>\n<style>\n.profile-name{\n"
          "\tdisplay:inline-block;\n\twidth:6rem;\n}\n</style>\n</head>\n<body>\n/debug/pprof/\n"
          "<br>\n<p>Set debug=1 as a query parameter to export in legacy text format</p>\n<br>\n"
          "Types of profiles available:\n<table>\n"
          "<thead><td>Count</td><td>Profile</td></thead>\n",
          out);
    for (size_t i = 0; i < all->count; i++)
        put_row(out, &all->rows[i], s);
    fputs("</table>\n<a href=\"goroutine?debug=2\">full goroutine stack dump</a>\n<br>\n<p>\n"
          "Profile Descriptions:\n<ul>\n",
          out);
    for (size_t i = 0; i < all->count; i++) {
        fputs("<li><div class=profile-name>", out);
        put_html(out, all->rows[i].name);
        fputs(": </div> ", out);
        put_html(out, describe(all->rows[i].name));
        put_own_page(out, all->rows[i].name);
        fputs("</li>\n", out);
    }
    fputs("</ul>\n</p>\n</body>\n</html>", out);
}

void page_index(struct request *r)
{
    static const char *const others[] = {"cmdline", "profile", "symbol", "trace", "wall", "flight"};
    struct rows all = {0};
    // A program that has just ended has none; the page is there all the same.
    session_each_profile(r->serve->session, add_row, &all);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        add_row(&all, others[i], 0);
    if (session_is_by_kernel(r->serve->session))
        add_row(&all, "offcpu", 0);
    if (all.count)
        qsort(all.rows, all.count, sizeof *all.rows, by_name);
    FILE *out = reply_text_begin(r, TYPE_HTML);
    if (out) {
        put_index(out, &all, r->serve->session);
        reply_text_end(r, out);
    }
    free(all.rows);
}

// --- The command line.

void page_cmdline(struct request *r)
{
    char path[40], buffer[4096];
    snprintf(path, sizeof path, "/proc/%u/cmdline", session_pid(r->serve->session));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    FILE *out = reply_text_begin(r, TYPE_TEXT);
    if (!out) {
        if (fd >= 0)
            close(fd);
        return;
    }
    ssize_t n;
    while (fd >= 0 && (n = read(fd, buffer, sizeof buffer)) > 0)
        fwrite(buffer, 1, (size_t)n, out);
    if (fd >= 0)
        close(fd);
    reply_text_end(r, out);
    // The kernel ends the last argument, too.
    if (r->reply.text_size && !r->reply.text[r->reply.text_size - 1])
        r->reply.text_size--;
}

// --- Names of addresses.

enum {
    AT_ONCE = 8192,  // addresses; between them somebody may have left
    WORD_MAX = 4096, // of Go's reader: without a + in so many bytes it gives up
};

static void put_name(void *arg, uint64_t address, const struct pprof_line *line)
{
    fprintf(arg, "0x%" PRIx64 " %s\n", address, line->function->name);
}

// The addresses of the list, all but 0 and what is none. *is_full: it ended early, at a word of word_max or more.
static uint64_t *parse_list(const char *text, size_t size, size_t word_max, size_t *count,
                            bool *is_full)
{
    uint64_t *list = calloc(size / 2 + 2, sizeof *list);
    *count = 0;
    *is_full = false;
    for (size_t at = 0; list && at <= size;) {
        const char *word = text + at;
        size_t left = size - at, window = left > word_max ? word_max : left;
        const char *plus = memchr(word, '+', window);
        size_t n = plus ? (size_t)(plus - word) : window;
        uint64_t address = query_parse_address(word, n);
        if (address)
            list[(*count)++] = address;
        at += n + 1;
        *is_full = !plus && window == word_max;
        if (!plus)
            break;
    }
    return list;
}

void page_symbol(struct request *r)
{
    bool is_post = strcmp(r->method, "POST") == 0, is_full;
    const char *text = is_post ? r->body ? r->body : "" : r->query;
    size_t count;
    // Of a body Go sees the end together with the last byte, of a query after it.
    uint64_t *list = parse_list(text, is_post ? r->body_size : strlen(text), WORD_MAX + is_post,
                                &count, &is_full);
    FILE *out = reply_text_begin(r, TYPE_TEXT);
    if (out) {
        fputs("num_symbols: 1\n", out);
        for (size_t at = 0; at < count && !request_is_over(r); at += AT_ONCE)
            names_find(session_pid(r->serve->session), list + at,
                       count - at < AT_ONCE ? count - at : AT_ONCE, put_name, out);
        if (is_full)
            fputs("reading request: bufio: buffer full\n", out);
        reply_text_end(r, out);
    }
    free(list);
}
