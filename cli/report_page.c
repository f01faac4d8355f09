// SPDX-License-Identifier: MIT
//
// The frame of a report's page; see report_page.h.

#include "cli/report_page.h"

#include "cli/flame_svg.h"
#include "cli/report_embed.h"

void report_page_open(FILE *out, const char *title, const char *subtitle)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width\">"
          "<meta name=\"generator\" content=\"fiberscope " FSCOPE_VERSION "\">\n<title>",
          out);
    flame_svg_escape(out, title);
    fprintf(out, "</title>\n<style>%s</style></head>\n<body><script>%s</script>\n<header><h1>",
            report_css, report_js);
    flame_svg_escape(out, title);
    fputs("</h1><p>", out);
    flame_svg_escape(out, subtitle);
    fputs("</p><nav role=\"tablist\">", out);
}

void report_page_tab(FILE *out, const char *id, const char *label, bool is_first)
{
    fprintf(out, "<a role=\"tab\" href=\"#tab=%s\" data-tab=\"%s\"%s>%s</a>", id, id,
            is_first ? " class=\"on\"" : "", label);
}

void report_page_section(FILE *out, const char *id, bool is_first)
{
    if (is_first)
        fputs("</nav></header>\n<main>\n", out);
    fprintf(out, "<section id=\"r-%s\"%s>\n", id, is_first ? " class=\"on\"" : "");
}

void report_page_section_end(FILE *out)
{
    fputs("</section>\n", out);
}

void report_page_close(FILE *out)
{
    fputs("</main>\n<script>fiberscope.start();</script>\n</body></html>\n", out);
}
