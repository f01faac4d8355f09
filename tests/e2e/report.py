#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# The pages of `fiberscope report`: their figures are those of the other reports or known by construction, nothing is
# referred to outside the file, and no name becomes markup. In Chromium (browser_*; the soak) each part is shown.

import html.parser
import json
import os
import re
import subprocess

import chromium
import flame_svg
import made_trace as made
import pprofwrite
from harness import FIBERSCOPE as OURS
from harness import Skip, main


class Parts(html.parser.HTMLParser):
    """Rows of all tables, by the table's id, and what is referred to outside the page."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.rows, self.cell, self.outside = {}, None, None, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.outside += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data") and v[:1] != "#"]
        if tag == "table":
            self.rows = self.tables.setdefault(dict(attrs).get("id", ""), [])
        elif tag == "tr" and self.rows is not None:
            self.rows.append([])
        elif tag in ("td", "th") and self.rows is not None:
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self.cell is not None:
            self.rows[-1].append(self.cell)
            self.cell = None
        elif tag == "table":
            self.rows = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


def ours(*args):
    return subprocess.run([OURS, *args], capture_output=True, text=True)


def page(work, *args):
    path = os.path.join(work, "x.html")
    done = ours("report", "-o", path, *args)
    assert done.returncode == 0, done.stderr
    assert "open it in a browser" in done.stderr, done.stderr
    with open(path, encoding="utf-8") as f:
        return path, f.read()


def profile(work):
    path = os.path.join(work, "s.txt")
    flame_svg.write_input(path)
    return path


def trace(work):
    """One fiber of worker() that holds regions `a<b` of 2, 4 and 20 ms, and sleeps 10 ms between them."""
    g, path = made.Generation(1), os.path.join(work, "m.trace")
    stack, name = g.stack("worker<i>"), g.text("a<b")
    g.say(1, made.PROC_STATUS, 0, 1)
    g.say(1, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, stack)
    g.say(1, made.PROCS_CHANGE, 1, 0)
    at = 1000
    for ms in (2, 4, 20):
        g.say(at, made.REGION_BEGIN, 0, name, stack)
        at += ms * 1_000_000
        g.say(at, made.REGION_END, 0, name, stack)
        g.block(at + 10, "sleep", stack)
        at += 10_000_000
        g.say(at, made.GO_UNBLOCK, 1, g.next(1), 0, thread=made.THREAD)
        g.start(at + 10, 1)
        at += 1000
    made.write(path, [g])
    return path


def profile_has_the_figures_of_top(work):
    _, text = page(work, profile(work))
    parts, top = Parts(text), json.loads(ours("top", "--json", profile(work)).stdout)["nodes"]
    rows = parts.tables["r-functions"][1:]
    assert len(rows) == len(top) and len(top) > 4
    for row, node in zip(rows, top):
        assert row[4] == node["name"], (row, node)
        assert abs(float(row[1].rstrip("%")) - node["flat_percent"]) < 0.01, (row, node)
        assert abs(float(row[3].rstrip("%")) - node["cum_percent"]) < 0.01, (row, node)
    assert flame_svg.EVIL in [n["name"] for n in top]
    assert "<script>alert" not in text
    assert parts.outside == [], parts.outside


def units_become_no_markup(work):
    """A label of a value ends in the profile's own unit."""
    path, evil, code = os.path.join(work, "u.pb.gz"), "<script>alert(1)</script>", os.path.join(work, "u.c")
    with open(code, "w") as f:
        f.write("one\ntwo\n")
    pprofwrite.write(path, [(evil, evil)], [([("work", code, 2)], [3], {})])
    _, text = page(work, path)
    assert "<script>alert" not in text
    assert any(evil in cell for row in Parts(text).tables["r-functions"] for cell in row)


def a_default_name_replaces_nothing(work):
    path = os.path.join(work, "d.pb.gz")
    pprofwrite.write(path, pprofwrite.CPU, [(["work"], [1, 1], {})])
    for command, name, second in (("report", "report.html", "report-2.html"), ("flame", "flame.svg", "flame-2.svg")):
        with open(os.path.join(work, name), "w") as f:
            f.write("my notes")
        master, slave = os.openpty()
        done = subprocess.run([OURS, command, path], cwd=work, stdout=slave, stderr=subprocess.PIPE, text=True)
        os.close(slave)
        os.close(master)
        assert done.returncode == 0 and second in done.stderr, done.stderr
        with open(os.path.join(work, name)) as f:
            assert f.read() == "my notes"
        assert os.path.getsize(os.path.join(work, second)) > 1000


def source_has_what_its_lines_cost(work):
    code, path = os.path.join(work, "hot.c"), os.path.join(work, "p.pb.gz")
    with open(code, "w") as f:
        f.write("first\nif (second < third)\nthird\n" + "far\n" * 40)
    pprofwrite.write(path, [("samples", "count")], [([("work", code, 2)], [3], {}), ([("work", code, 3)], [1], {})])
    _, text = page(work, path)
    rows = [r for r in Parts(text).tables[""] if len(r) == 4 and r[2].isdigit()]
    assert [(r[0], r[2], r[3]) for r in rows[:4]] == [
        ("", "1", "first"), ("3", "2", "if (second < third)"), ("1", "3", "third"), ("", "4", "far")], rows
    assert len(rows) == 7, rows  # four lines around what costs
    os.remove(code)
    _, text = page(work, path)
    assert "no source: looked for" in text
    rows = [r for r in Parts(text).tables[""] if len(r) == 4 and r[2].isdigit()]
    assert [(r[0], r[2]) for r in rows] == [("3", "2"), ("1", "3")], rows


def trace_has_summary_latencies_and_timeline(work):
    path, text = page(work, trace(work))
    parts = Parts(text)
    assert parts.outside == [], parts.outside
    rows = parts.tables[""][1:]
    assert rows[0][0] == "26ms" and rows[0][6] == "worker<i>", rows
    for wanted in ("a&lt;b", "3 times; median 4ms", "max 20ms", "1 below"):
        assert wanted in text, wanted
    assert "a<b" not in text
    # The picture is the viewer's own, and has the region's lane.
    for theme in ("light", "dark"):
        assert f'<div class="picture {theme}"><svg' in text
    assert text.count("</svg>") >= 4
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids)), "an id is there twice"
    wanted = set(re.findall(r'="url\(#([^)]*)\)', text))
    assert wanted and wanted <= set(ids), wanted - set(ids)


def nothing_is_overwritten_and_mistakes_are_told(work):
    source, t = profile(work), trace(work)
    for path in (source, t):
        with open(path, "rb") as f:
            before = f.read()
        done = ours("report", "-o", path, path)
        assert done.returncode == 1 and "is read by this command" in done.stderr, done.stderr
        with open(path, "rb") as f:
            assert f.read() == before
    out = os.path.join(work, "none.html")
    for args, rc in ((["/nonexistent"], 1), ([t, t], 2), ([source, t], 2)):
        done = ours("report", "-o", out, *args)
        assert done.returncode == rc and done.stderr, (args, done)
        assert not os.path.exists(out)
    # A page of all of the trace is not what was asked for.
    for args, name in ((["-focus", "x"], "focus"), (["-I", "0"], "sample_index"), (["-mean"], "mean"),
                       (["-divide_by", "2"], "divide_by"), (["-alloc_space"], "alloc_space"), (["-unit", "s"], "unit")):
        done = ours("report", *args, "-o", out, t)
        assert done.returncode == 2 and f"-{name} is for profiles" in done.stderr, (args, done)
        assert not os.path.exists(out)
    with open(t, "r+b") as f:
        f.truncate(os.path.getsize(t) - 20)
    done = ours("report", "-o", out, t)
    assert done.returncode == 1 and not os.path.exists(out), done


def browser():
    if not chromium.PROGRAM:
        raise Skip("chromium is not installed (package chromium)")
    return chromium.Chromium()


SHOWN = "[...document.querySelectorAll('main > section')].filter(s => s.offsetHeight).map(s => s.id)"


def browser_shows_each_part_of_a_profile(work):
    path, _ = page(work, profile(work))
    b = browser()
    b.window(1200, 800)
    b.open(path)
    assert b.js(SHOWN) == ["r-flame"]
    assert b.js("document.querySelector('#layer rect').getBoundingClientRect().width") > 1000
    for tab in ("top", "tree", "source"):
        b.js(f"document.querySelector('[data-tab={tab}]').click()")
        assert b.js(SHOWN) == ["r-" + tab]
    names = "[...document.querySelectorAll('#r-calls .name')].map(e => e.textContent.slice(1))"
    first = b.js(names)
    assert first[0] == "all" or first[0].endswith("all"), first
    b.js("document.querySelectorAll('#r-calls .row')[1].click()")
    assert b.js(names) != first
    b.js("document.querySelector('[data-tab=top]').click()")
    b.js("document.querySelector('th[data-col=\"4\"]').click()")
    order = b.js("[...document.querySelectorAll('#r-functions tbody td.n')].map(e => e.textContent)")
    assert order == sorted(order, key=str.lower), order
    b.js("(i => { i.value = 'malloc'; i.dispatchEvent(new Event('input')); })"
         "(document.querySelector('[data-filter]'))")
    left = b.js("[...document.querySelectorAll('#r-functions tbody tr')].filter(r => r.offsetHeight).length")
    assert left == 1, left
    assert b.errors() == []


def browser_shows_a_timeline_as_light_as_the_page(work):
    path, _ = page(work, trace(work))
    b = browser()
    for dark in (False, True):
        b.window(1200, 800, dark=dark)
        b.open(path)
        b.js("document.querySelector('[data-tab=timeline]').click()")
        shown = b.js("[...document.querySelectorAll('.picture')].filter(p => p.offsetHeight > 400).map(p => p.className)")
        assert shown == ["picture dark" if dark else "picture light"], shown
        ground = b.js("document.querySelector('.%s svg > rect').getAttribute('fill')" % ("dark" if dark else "light"))
        assert (int(ground[1:3], 16) < 128) == dark, ground
    assert b.errors() == []


if __name__ == "__main__":
    main([profile_has_the_figures_of_top, units_become_no_markup, a_default_name_replaces_nothing, source_has_what_its_lines_cost, trace_has_summary_latencies_and_timeline,
          nothing_is_overwritten_and_mistakes_are_told, browser_shows_each_part_of_a_profile,
          browser_shows_a_timeline_as_light_as_the_page])
