#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every view and panel of a recorded service is drawn as it was when somebody last looked at the picture: words and
their places exactly, pixels with tolerance.

data/shorten.trace and data/shorten.pb.gz are recordings of examples/shorten under load, the trace with
--delay=lock:300:8ms: a lock_holder sleeps 8 ms with the cache's lock, six times. After a change that is meant,
FSCOPE_GOLDEN=update makes the pictures anew; look at them before they are committed.
"""

import os
import re
import subprocess

import view
from harness import BUILD, main
from window import read_png

SOURCE = os.environ["FSCOPE_SOURCE"]
VIEWER = os.path.join(BUILD, "viewer", "fiberscope-view")
DATA = os.path.join(SOURCE, "tests", "e2e", "data")
GOLDEN, DOCS = os.path.join(DATA, "golden"), os.path.join(SOURCE, "docs", "pictures")
TRACE, PROFILE = os.path.join(DATA, "shorten.trace"), os.path.join(DATA, "shorten.pb.gz")
LANES = os.path.join(DATA, "bursts.trace")  # see view_kernel.py
SHADE, SHARE = 8, 0.002  # a pixel differs from this on; so many may

PANEL = ("--region", "request", "--render")
TRACE_VIEWS = {
    "timeline": (),
    "timeline-light": ("--theme", "light"),
    "timeline-range": ("--range", "0.1..0.115", "--press", "M 400,282 R"),
    "timeline-filter": ("--press", "/ l o c k Enter"),
    "timeline-sorted": ("--press", "O End"),
    "timeline-threads": ("--press", "40,221"),
    "timeline-scrolled": ("--press", "400,330 J J J J J J"),
    "timeline-stacks": ("--range", "0.1..0.115", "--press", "400,330 T"),
    "stacks": (*PANEL, "stacks"),
    "statistics": (*PANEL, "statistics"),
    "fibers": (*PANEL, "fibers"),
    "critical": (*PANEL, "critical"),
    "critical-light": (*PANEL, "critical", "--theme", "light"),
    "explain": (*PANEL, "explain"),
    "explain-light": (*PANEL, "explain", "--theme", "light"),
    "latency": (*PANEL, "latency"),
    "latency-light": (*PANEL, "latency", "--theme", "light"),
    "palette": ("--press", "Ctrl+P f l a"),
    "help": ("--press", "?"),
}
PROFILE_VIEWS = {
    "icicle": ("--render", "icicle"),
    "icicle-light": ("--render", "icicle", "--theme", "light"),
    "flame": ("--render", "flame"),
    "leaves-first": ("--inverted",),
    "refined": ("--focus", "routes_answer", "--hide", "^sqlite3", "--press", "T"),
    "search": ("--search", "sqlite3"),
    "sandwich": ("--render", "sandwich", "--function", "routes_answer"),
    "sandwich-leaf": ("--render", "sandwich", "--function", "arch_syscall", "--theme", "light", "--press", "100,290"),
    "top": ("--render", "top"),
    "top-light": ("--render", "top", "--theme", "light"),
    "tree": ("--render", "tree", "--press", "L"),
    "source": ("--render", "source", "--function", "routes_answer"),
    "source-none": ("--render", "source", "--function", "routes_answer", "--source_path", "nowhere"),
    "help-profile": ("--press", "?"),
}
KERNEL_VIEWS = {  # a kernel trace beside it, of the same name
    "kernel": ("--size", "1280x800"),
    "kernel-light": ("--size", "1280x800", "--theme", "light", "--range", "0.03..0.05", "--press", "P"),
    "kernel-statistics": ("--size", "1280x800", "--render", "statistics"),
}
DIFF_VIEWS = {
    "diff": ("--render", "icicle"),
    "diff-light": ("--render", "icicle", "--theme", "light"),
    "diff-top": ("--render", "top"),
}

# How the slowest request is found, and whom it waited for (view_story.py does the same with a mouse and keys).
BRUSH = "625,500-674,500"
STEPS = {
    "story-1-recording": "",
    "story-2-latencies": f"Alt+6 {BRUSH}",
    "story-3-slowest": f"Alt+6 {BRUSH} Tab Down Enter",
    "story-4-waits": f"Alt+6 {BRUSH} Tab Down Enter Alt+0 .",
    "story-5-holder": f"Alt+6 {BRUSH} Tab Down Enter Alt+0 . . [ [",
    "story-6-flame": f"Alt+6 {BRUSH} Tab Down Enter Alt+0 . . [ [ , , Alt+1 K",
    "story-7-explain": f"Alt+6 {BRUSH} Tab Down Enter Alt+0 . . [ [ , , Alt+5",
}
STORY = ("--size", "1280x720")
PICTURES = {
    **{name: (DOCS, TRACE, (*STORY, *(("--press", keys) if keys else ()))) for name, keys in STEPS.items()},
    "kernel-lanes": (DOCS, LANES, ("--size", "1280x720", "--range", "0.03..0.07", "--press", "460,293")),
    "timeline-readme": (DOCS, TRACE, ("--size", "1100x620", "--range", "0.075..0.25")),
    "flame-readme": (DOCS, PROFILE, ("--size", "1100x420", "--render", "icicle", "--focus", "connection_run")),
}


def draw(work, path, options):
    """The picture's PNG and its words: "x,y text" of each, in order of drawing."""
    png, text = os.path.join(work, "x.png"), os.path.join(work, "x.txt")
    sources = () if path in (TRACE, LANES) else ("--source_path", ".")
    done = subprocess.run([VIEWER, "--font", "builtin", *sources, *options, "--png", png, "--text", text, path],
                          cwd=work, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (options, done.stderr)
    with open(png, "rb") as p, open(text, encoding="utf-8") as t:
        return p.read(), words(t.read())


def words(dump):
    return "".join(f"{at} {text}\n" for at, text in
                   re.findall(r'^text (-?\d+,-?\d+) #\w+ builtin(?:-mono)? "(.*)"$', dump, re.M))


def differing(a, b, most):
    """How many pixels of two pictures of one size, as read_png has them, differ by more than SHADE; of many not all."""
    count = 0
    for p, q in zip(a[2], b[2]):
        if p != q and count <= most:
            count += sum(any(abs(m - n) > SHADE for m, n in zip(p[i:i + 3], q[i:i + 3])) for i in range(0, len(p), 3))
    return count


def compare(work, name, folder, path, options):
    """What is wrong with the picture; '' if it is as it was."""
    png, said = draw(work, path, options)
    files = os.path.join(folder, name + ".png"), os.path.join(GOLDEN, name + ".txt")
    if os.environ.get("FSCOPE_GOLDEN") == "update":
        os.makedirs(folder, exist_ok=True)
        os.makedirs(GOLDEN, exist_ok=True)
        for file, data in zip(files, (png, said.encode())):
            with open(file, "wb") as f:
                f.write(data)
        return ""
    with open(files[1], encoding="utf-8") as f:
        want = f.read()
    if said != want:
        lost, new = set(want.splitlines()) - set(said.splitlines()), set(said.splitlines()) - set(want.splitlines())
        return f"{name}: words are others: no more {sorted(lost)[:6]}, new {sorted(new)[:6]}"
    with open(files[0], "rb") as f:
        if f.read() == png:
            return ""
    a, b = read_png(os.path.join(work, "x.png")), read_png(files[0])
    if a[:2] != b[:2]:
        return f"{name}: {a[0]}x{a[1]}, not {b[0]}x{b[1]}"
    most = SHARE * a[0] * a[1]
    count = differing(a, b, most)
    return f"{name}: at least {count} of {a[0] * a[1]} pixels differ" if count > most else ""


def compare_all(work, pictures):
    wrong = [w for w in (compare(work, name, *p) for name, p in pictures.items()) if w]
    assert not wrong, "\n".join(wrong)


def small(views, path):
    return {name: (GOLDEN, path, ("--size", "800x500", *options)) for name, options in views.items()}


def a_trace_looks_as_it_did(work):
    compare_all(work, small(TRACE_VIEWS, TRACE))


def a_kernel_trace_looks_as_it_did(work):
    compare_all(work, small(KERNEL_VIEWS, LANES))


def a_profile_looks_as_it_did(work):
    folder = os.path.join(work, "examples", "shorten")
    os.makedirs(folder)
    with open(os.path.join(folder, "routes.c"), "w", encoding="utf-8") as f:  # that of today has other lines
        f.writelines(f"    line_{n}_of_the_recorded_source();\n" for n in range(1, 260))
    compare_all(work, small(PROFILE_VIEWS, PROFILE))


def a_comparison_looks_as_it_did(work):
    old, new = os.path.join(work, "old.txt"), os.path.join(work, "new.txt")
    view.make_profile(old, [["main", "serve", "parse", "read_line"]] * 5 + [["main", "serve", "answer", "write_all"]] * 7 +
                      [["main", "serve", "log_line"]] * 4 + [["main", "idle"]] * 6)
    view.make_profile(new, [["main", "serve", "parse", "read_line"]] * 9 + [["main", "serve", "answer", "write_all"]] * 6 +
                      [["main", "serve", "answer", "compress"]] * 5 + [["main", "idle"]] * 6)
    compare_all(work, small({n: (*o, "--diff_base", old) for n, o in DIFF_VIEWS.items()}, new))


def the_documents_show_what_is_drawn(work):
    compare_all(work, PICTURES)
    for folder in (DOCS, GOLDEN):
        for name in os.listdir(folder):
            size = os.path.getsize(os.path.join(folder, name))
            assert size <= 150 << 10, (name, size)


def a_picture_that_differs_is_found(work):
    """The comparison itself: another theme, another word, another size."""
    name, (folder, path, options) = "timeline", small(TRACE_VIEWS, TRACE)["timeline"]
    if os.environ.get("FSCOPE_GOLDEN") == "update":
        return
    assert "pixels differ" in compare(work, name, folder, path, (*options, "--theme", "light"))
    assert "words are others" in compare(work, name, folder, path, (*options, "--range", "0.1..0.2"))
    assert "words are others" in compare(work, name, folder, path, (*options, "--size", "801x500"))


if __name__ == "__main__":
    main([a_trace_looks_as_it_did, a_kernel_trace_looks_as_it_did, a_profile_looks_as_it_did, a_comparison_looks_as_it_did,
          the_documents_show_what_is_drawn, a_picture_that_differs_is_found])
