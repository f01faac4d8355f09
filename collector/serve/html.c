// SPDX-License-Identifier: MIT
//
// The frame of our own pages: style, navigation, how often they load again. Without scripts, and with a policy that
// lets none in: everything is a link.

#include "collector/serve/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// Light and dark by what the reader's system prefers. Contrast of text is 4.5 at least, of bars 3.
static const char style[] =
    ":root{color-scheme:light "
    "dark;--bg:#fff;--fg:#1b1f24;--dim:#57606a;--line:#d5dae0;--head:#f3f5f7;--link:#0b57b0;"
    "--busy:#1f7a3d;--runnable:#b35900;--waiting:#c9ced6;--bad:#b3261e;--mark:#e8f0fb}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e4e7eb;--dim:#9aa4b0;--line:#"
    "30363d;--head:#1d2127;"
    "--link:#79b8ff;--busy:#3fb966;--runnable:#f0983f;--waiting:#414a55;--bad:#ff7b72;--mark:#"
    "1c2b40}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);"
    "font:13px/1.4 system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "header,main{padding:8px 16px}header{display:flex;flex-wrap:wrap;gap:4px "
    "18px;align-items:baseline;"
    "border-bottom:1px solid var(--line);background:var(--head)}\n"
    "h1{font-size:15px;margin:0}h2{font-size:13px;margin:14px 0 "
    "4px}a{color:var(--link);text-decoration:none}"
    "a:hover{text-decoration:underline}nav{display:flex;flex-wrap:wrap;gap:4px 12px}\n"
    ".dim{color:var(--dim)}.bad{color:var(--bad);font-weight:600}.on{font-weight:600;color:var(--"
    "fg)}"
    ".right{margin-left:auto}p{margin:6px 0}.wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;min-width:100%}table.fit{min-"
    "width:0}"
    "th,td{padding:2px 8px;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}"
    "th{background:var(--head);position:sticky;top:0;font-weight:600;color:var(--dim)}th "
    "a{color:inherit}"
    "th.on a{color:var(--fg)}\n"
    "td.n,th.n{text-align:right}tbody "
    "tr:hover{background:var(--mark)}td.f{max-width:34em;overflow:hidden;"
    "text-overflow:ellipsis}td.w{white-space:pre-wrap;overflow-wrap:anywhere;min-width:20em}"
    "code,td.c{font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:12px}\n"
    ".bar{display:inline-flex;width:64px;height:9px;background:var(--waiting);vertical-align:"
    "middle}"
    ".bar "
    "i{height:100%}.b{background:var(--busy)}.r{background:var(--runnable)}.v{background:var(--"
    "waiting)}"
    ".key{display:inline-block;width:9px;height:9px;margin:0 4px 0 10px}\n"
    ".hist{display:flex;align-items:flex-end;gap:2px;height:72px;margin:4px 0 0}"
    ".hist "
    "span{white-space:nowrap;display:flex;flex-direction:column;justify-content:flex-end;width:"
    "38px;height:100%;"
    "font-size:9.5px;color:var(--dim);text-align:center}.hist "
    "i{background:var(--link);min-height:0}\n"
    "details{margin:0}summary{cursor:pointer}";

void html_begin(FILE *out, const struct request *r, const char *title, uint64_t refresh_s)
{
    static const char *const pages[][2] = {{"/debug/fibers", "fibers"},
                                           {"/debug/requests", "requests"},
                                           {"/metrics", "metrics"},
                                           {"/debug/pprof/", "pprof"}};
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width\">\n",
          out);
    if (refresh_s)
        fprintf(out, "<meta http-equiv=\"refresh\" content=\"%" PRIu64 "\">\n", refresh_s);
    fputs("<title>", out);
    put_html(out, session_program(r->serve->session));
    fprintf(out, ": %s</title>\n<style>%s</style></head>\n<body><header><h1>", title, style);
    put_html(out, session_program(r->serve->session));
    fprintf(out, "</h1><span class=\"dim\">pid %u</span><nav>", session_pid(r->serve->session));
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        if (strcmp(r->path, pages[i][0]) == 0)
            fprintf(out, "<span class=\"on\">%s</span>", pages[i][1]);
        else
            fprintf(out, "<a href=\"%s\">%s</a>", pages[i][0], pages[i][1]);
    fputs("</nav>", out);
}

void html_refresh(FILE *out, const char *link, uint64_t refresh_s)
{
    static const uint64_t choices[] = {0, 1, 5, 30};
    fputs("<span class=\"right dim\">load again ", out);
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        char word[24] = "never";
        if (choices[i])
            snprintf(word, sizeof word, "%" PRIu64 " s", choices[i]);
        if (choices[i] == refresh_s)
            fprintf(out, " <span class=\"on\">%s</span>", word);
        else
            fprintf(out, " <a href=\"?%s%srefresh=%" PRIu64 "\">%s</a>", link, *link ? "&amp;" : "",
                    choices[i], word);
    }
    fputs("</span></header>\n<main>\n", out);
}

void html_end(FILE *out)
{
    fputs("</main></body></html>\n", out);
}

uint64_t html_refresh_of(const struct request *r, uint64_t otherwise)
{
    enum { REFRESH_S_MAX = 3600 };
    size_t size;
    char *text = query_get(r->query, "refresh", &size);
    int64_t value = text ? query_int(r->query, "refresh") : (int64_t)otherwise;
    free(text);
    return value < 0 || value > REFRESH_S_MAX ? otherwise : (uint64_t)value;
}
