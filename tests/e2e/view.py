#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope view draws what the reports say, into pictures that are whole or not there, and its window sleeps."""

import gzip
import os
import re
import signal
import struct
import subprocess
import time
import xml.etree.ElementTree as ET
import zlib

import made_trace as made
from harness import FIBERSCOPE, main

BUILTIN = ("--font", "builtin")
STACK = """app 1/1 {at}.000000: 10101010 cpu-clock:
{frames}
"""


def view(*args, status=0, **more):
    done = subprocess.run([FIBERSCOPE, "view", *args], capture_output=True, text=True, timeout=60, **more)
    assert done.returncode == status, (args, done.returncode, done.stderr)
    return done


def texts(path, *options):
    """What is written in the picture, in the order in which it is drawn."""
    out = view("--text", "-", *BUILTIN, *options, path).stdout
    return re.findall(r'^text -?\d+,-?\d+ #\w+ builtin "(.*)"$', out, re.M)


def make_trace(path):
    """Fiber 1 runs for 5 s of 10, worker N (2 to 6) for N x 100 ms each, one after the other."""
    g = made.Generation(1)
    main_stack = g.stack("main", "main")
    g.say(1, made.PROC_STATUS, 0, 1)
    g.say(1, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, main_stack)
    g.say(1, made.PROCS_CHANGE, 1, 0)
    for n in range(2, 7):
        g.say(1, made.GO_STATUS_STACK, n, made.NOBODY, made.WAITING, g.stack("wait", f"worker_{n}"), thread=made.NOBODY)
    at = 5_000_000_000
    g.block(at, "sleep", main_stack)
    for n in range(2, 7):
        g.wake(at + 10, n)
        g.start(at + 20, n)
        at += 20 + n * 100_000_000
        g.block(at, "chan receive", g.stack("wait", f"worker_{n}"))
    g.wake(10_000_000_000, 1)
    g.start(10_000_000_001, 1)
    g.block(10_000_000_002, "sleep", main_stack)
    made.write(path, [g])


def make_profile(path, stacks):
    with open(path, "w", encoding="utf-8") as f:
        for i, stack in enumerate(stacks):
            frames = "\n".join("\t%16x %s+0x1 (/bin/app)" % (0x400000 + zlib.crc32(name.encode()) % 65536, name)
                               for name in reversed(stack))
            f.write(STACK.format(at=100 + i, frames=frames) + "\n")


def the_figures_are_those_of_the_reports(work):
    path = os.path.join(work, "t.trace")
    make_trace(path)
    shown = texts(path)
    report = subprocess.run([FIBERSCOPE, "trace", path], capture_output=True, text=True, check=True).stdout
    rows = report[report.index("By start function"):].splitlines()[2:8]
    assert len(rows) == 6 and rows[0].split()[-1] == "main", rows
    for row in rows:
        time_, share, *_, name = row.split()
        at = shown.index(name, shown.index("busy"))
        assert shown[at + 1:at + 3] == [share, time_], (row, shown)
    ran = re.search(r"Together they ran fibers for (\S+),", report).group(1)
    assert any(f"ran fibers for {ran}, 0.70 at a time" in t for t in shown), (ran, shown)
    procs = subprocess.run([FIBERSCOPE, "trace", "procs", "--json", path], capture_output=True, text=True, check=True)
    running = int(re.search(r'"running_ns": *(\d+)', procs.stdout).group(1))
    assert shown[shown.index("P0") + 1] == f"{running / 1e10 * 100:.1f}%" == "70.0%", shown
    # A range has its own: of [5.1 s, 5.3 s] worker 2 has half, worker 3 the rest.
    part = texts(path, "--range", "5.1..5.3")
    at = part.index("worker_3", part.index("busy"))
    assert part[at + 1:at + 3] == ["50.0%", "100ms"], part
    assert part[part.index("P0") + 1] == "100.0%", part
    legend = part[next(i for i, t in enumerate(part) if t.startswith("Shown")) + 1:]
    assert [t for t in legend if not re.match("[0-9]", t)] == ["worker_3", "worker_2"], part
    # Where there is no room for all, those left out are the others: 2 x 2 cells for 6 functions.
    few = texts(path, "--size", "900x217")
    assert few[few.index("(others)") + 1:] == ["12.9%", "900ms"], few
    assert "worker_5" in few and "worker_4" not in few[few.index("busy"):], few


def lanes_of_one_fiber_have_its_name(work):
    path = os.path.join(work, "t.trace")

    def gutter():
        """What stands in the gutter beside P0."""
        out = view("--text", "-", *BUILTIN, path).stdout
        edge = int(re.search(r'^text (\d+),\d+ #\w+ builtin "0s"$', out, re.M).group(1))
        rows = re.findall(r'^text (\d+),(\d+) #\w+ builtin "(.*)"$', out[:out.index('"busy"')], re.M)
        line = next(y for _, y, text in rows if text == "P0")
        return {text for x, y, text in rows if y == line and int(x) < edge - 4}

    make_trace(path)
    assert gutter() == {"P0", "70.0%"}, gutter()  # it ran several
    g = made.Generation(1)
    g.say(1, made.PROC_STATUS, 0, 1)
    g.say(1, made.GO_STATUS_STACK, 1, made.THREAD, made.RUNNING, g.stack("only_one"))
    g.block(5_000_000, "sleep", g.stack("only_one"))
    made.write(path, [g])
    assert gutter() == {"P0", "100.0%", "only_one"}, gutter()


def labels_of_the_axis_are_whole(work):
    path = os.path.join(work, "t.trace")
    make_trace(path)
    for width in range(600, 1000, 13):
        out = view("--text", "-", *BUILTIN, "--size", f"{width}x300", path).stdout
        labels = re.findall(r'^text (\d+),\d+ #\w+ builtin "([0-9.]+s)"$', out, re.M)
        assert len([text for _, text in labels if text in ("0s", "1s", "2s", "5s")]) >= 2, (width, labels)
        assert all(int(x) + 6 * len(text) <= width for x, text in labels), (width, labels)


def a_flame_graph_says_what_its_widths_are(work):
    path = os.path.join(work, "p.txt")
    make_profile(path, [["main", "parse", "read"]] * 3 + [["main", "emit"]])
    out = view("--text", "-", "--size", "1000x300", *BUILTIN, path).stdout
    boxes = {int(w) for w in re.findall(r"^rect \d+,\d+ (\d+)x16 ", out, re.M)}
    assert {999, 749, 249} <= boxes, out
    assert any("in 2 different stacks" in t for t in texts(path)), out
    found = texts(path, "--search", "READ")
    assert any(t.startswith('\\"READ\\": ') and t.endswith("75.00% of everything") for t in found), found
    for options, order in (((), "main parse read"), (("--inverted",), "read parse main"), (("--flame",), "read parse main")):
        out = view("--text", "-", *BUILTIN, *options, path).stdout
        rows = {name: int(y) for y, name in re.findall(r'^text \d+,(\d+) #\w+ builtin "(main|parse|read)"$', out, re.M)}
        assert sorted(rows, key=rows.get) == order.split() or options == ("--inverted",) and \
            rows["read"] < rows["parse"], (options, rows)


def no_control_character_goes_out(work):
    """A terminal obeys C1 controls, too, and what turns the direction of a text; names come from strangers."""
    path, evil = os.path.join(work, "c1.txt"), "na\u009b31mme\u202e\x1b[0m"
    make_profile(path, [("main", evil)] * 5)
    out = view("--render", "top", "--text", "-", *BUILTIN, path).stdout
    assert "31mme" in out
    bad = {"\x1b", "\u009b", "\u202e"}
    assert not bad & set(out), [c for c in out if c in bad]
    missing = os.path.join(work, "e\x1b[31m\u009bv.pb")
    done = view(missing, "-o", os.path.join(work, "x.png"), status=1)
    assert "31m" in done.stderr and not bad & set(done.stderr), done.stderr


def png_size(data):
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", data[16:24])


def pictures_are_whole_and_the_same_everywhere(work):
    trace, profile = os.path.join(work, "t.trace"), os.path.join(work, "p.txt")
    make_trace(trace)
    make_profile(profile, [["main", "x<script>&\"']]>"], ["main"]])
    for path in (trace, profile):
        for size in ("1x1", "37x1", "1x37", "640x400", "1600x900"):
            out = [os.path.join(work, f"{n}.png") for n in "ab"]
            svg = os.path.join(work, "a.svg")
            for o in out:
                view("--png", o, "--svg", svg, "--size", size, "--theme", "light", *BUILTIN, path,
                     env={"PATH": "/nonexistent"})
            a, b = (open(o, "rb").read() for o in out)
            assert a == b and "%dx%d" % png_size(a) == size
            root = ET.parse(svg).getroot()
            assert root.get("width") + "x" + root.get("height") == size
            assert not [e for e in root.iter() if e.tag.endswith("script")]
    before = open(profile, "rb").read()
    for out in (profile, os.path.join(work, ".", "p.txt")):
        view("--png", out, profile, status=1)
    assert open(profile, "rb").read() == before, "an input was replaced"


def damage_is_said_and_mistakes_are_refused(work):
    path, cut = os.path.join(work, "t.trace"), os.path.join(work, "cut.trace")
    make_trace(path)
    whole = open(path, "rb").read()
    with open(cut, "wb") as f:  # a second generation that is not whole
        f.write(whole + whole[16:60])
    assert not any("damage" in t for t in texts(path))
    said = texts(cut)
    assert any(t.startswith("Only what stands before the damage is shown: its first generation as far as it goes, 10s; ") for t in said), said
    assert "worker_6" in said
    end = made.Generation(2, 10**12)  # the file says it of itself
    end.text(f"fiberscope: lost full from={10**12} to=0 count=0: all trace buffers were full")
    with open(cut, "wb") as f:
        f.write(whole + end.bytes())
    said = texts(cut)
    assert any(re.fullmatch(r"Missing in this trace: from \d+\.\d+s on: all trace buffers were full", t) for t in said), said
    for n in range(0, len(whole), 7):
        with open(cut, "wb") as f:
            f.write(whole[:n])
        done = subprocess.run([FIBERSCOPE, "view", "--text", "-", *BUILTIN, cut], capture_output=True, text=True,
                              timeout=20)
        assert done.returncode in (0, 1) and (done.returncode == 0) == done.stdout.startswith("size "), (n, done)
        assert done.returncode == 0 or cut in done.stderr, (n, done)
    # Of a profile what is whole: cut off, or with one bit that is wrong. No option of the reports is advised.
    data = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "shorten.pb.gz")
    profile = bytearray(gzip.decompress(open(data, "rb").read()))
    small, opened = os.path.join(work, "cut.pb"), 0
    for n in (len(profile) // 20, len(profile) * 19 // 20, *range(3000, len(profile), 12007)):
        made_of = profile[:n] if n in (len(profile) // 20, len(profile) * 19 // 20) else bytearray(profile)
        if len(made_of) == len(profile):
            made_of[n] ^= 4
        with open(small, "wb") as f:
            f.write(made_of)
        done = subprocess.run([FIBERSCOPE, "view", "--text", "-", *BUILTIN, small], capture_output=True, text=True, check=False)
        opened += not done.returncode
        assert "--salvage" not in done.stdout + done.stderr, (n, done.stderr)
        assert done.returncode == 0 or done.stderr.startswith(f"fiberscope view: {small}: "), (n, done)
        if n == len(profile) // 20:
            assert "cut off" in done.stderr and "no sample is whole" in done.stderr, done
        if n == len(profile) * 19 // 20:
            assert re.search("Only what is whole is shown, 503 samples: .* the file is cut off", done.stdout), n
    assert opened >= 4, opened
    with open(cut, "w", encoding="ascii") as f:  # nothing is missing but the names
        f.write("heap profile: 1: 16 [1: 16] @ heapprofile\n1: 16 [1: 16] @ 0x400100\n\nMAPPED_LIBRARIES:\n"
                "00400000-00500000 r-xp 00000000 00:00 0 /bin/app\n")
    assert any("fiberscope symbolize" in t for t in texts(cut)), texts(cut)
    # What is of another kind is told as the reports tell it, each what to do next.
    core = b"\x7fELF\2\1\1" + bytes(9) + b"\4\0"
    for begins, what in ((b"FIBDUMP1", "fiberscope finish"), (b"FIBESEG1", "fiberscope finish"), (core, "fiberscope finish"),
                         (core[:-2] + b"\3\0", "a program"), (b"PERFILE2", "perf script"), (b"<html>", "a browser"),
                         (gzip.compress(whole), "gunzip"), (b"\x28\xb5\x2f\xfd", "unzstd")):
        with open(cut, "wb") as f:
            f.write(begins + bytes(4096) * (begins[:2] != b"\x1f\x8b"))
        assert what in view("--text", "-", cut, status=1).stderr, begins
        top = subprocess.run([FIBERSCOPE, "top", cut], capture_output=True, text=True, check=False).stderr
        assert what in top or "finish" in what, (begins, top)
    for args, why in ((["--size", "0x5"], "--size"), (["--size", "20000x5"], "--size"), (["--range", "2..1"], "--range"),
                      (["--search", "x"], "--search"), (["--range", "2s..500ms"], "ends before it begins"),
                      (["--range", "1..1"], "is empty"), (["--range", "11..12"], "the trace is over before it begins"),
                      *((["--range", r], "500ms..2s") for r in ("1", "1..", "..1", "1...2x", "1x..2", "-1..2", "1....2", ""))):
        assert why in view("--text", "-", *args, path, status=2).stderr, args
    for ranges in (("0..1", "0s..1000ms", "0.0..1.0"), ("5..6.5", "5.0..6500ms", "5s..6.5")):
        shown = {view("--text", "-", *BUILTIN, "--range", r, path).stdout for r in ranges}
        assert len(shown) == 1, ranges
    # What lies beyond the end is cut off, and the beginning stays.
    for beyond in ("9..1m", "9..10.5"):
        assert any(t.startswith("Shown 9.000s ") and "10.000s (1s)" in t for t in texts(path, "--range", beyond)), beyond
    for keys in ("Hyper+x", "?  12,", "1,2-3", "Alt+"):
        assert "--press" in view("--text", "-", "--press", keys, path, status=2).stderr, keys
    assert "a picture" in view("--press", "?", path, status=2).stderr
    assert "scale" in view("--text", "-", "--scale", "5", path, status=1).stderr
    assert "/nonexistent" in view("--text", "-", "/nonexistent", status=1).stderr
    assert "No space left" in view("--png", "/dev/full", path, status=1).stderr


def what_can_be_read_only_once_is_read(work):
    trace, profile, fifo, mixed = (os.path.join(work, n) for n in ("t.trace", "p.txt", "fifo", "mixed"))
    make_trace(trace)
    make_profile(profile, [("main", "work")] * 4)
    os.mkfifo(fifo)
    for path in (trace, profile):
        want = [t for t in texts(path) if os.path.basename(path) not in t]
        for name in ("-", fifo, "/dev/stdin"):
            viewer = subprocess.Popen([FIBERSCOPE, "view", "--text", "-", *BUILTIN, name], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=False)
            if name == fifo:
                time.sleep(0.2)  # it waits for a writer
                viewer.stdin.close()
            with open(fifo, "wb") if name == fifo else viewer.stdin as pipe, open(path, "rb") as f:
                for piece in iter(lambda: f.read(200), b""):  # pylint: disable=cell-var-from-loop
                    pipe.write(piece)
                    pipe.flush()
            out = viewer.stdout.read().decode()
            assert viewer.wait(20) == 0, name
            got = re.findall(r'^text -?\d+,-?\d+ #\w+ builtin "(.*)"$', out, re.M)
            assert [t for t in got if os.path.basename(name) not in t] == want, (name, got, want)
    with subprocess.Popen([FIBERSCOPE, "view", "--text", mixed, fifo]) as viewer:
        time.sleep(0.5)  # nobody writes
        viewer.send_signal(signal.SIGINT)
        assert viewer.wait(10) == -signal.SIGINT and not os.path.exists(mixed)


def options_are_of_one_kind_of_file(work):
    trace, profile, out = (os.path.join(work, n) for n in ("t.trace", "p.txt", "out.svg"))
    make_trace(trace)
    make_profile(profile, [("main", "work")] * 4)
    for option in (["--diff_base", profile], ["--focus", "x"], ["--hide", "x"], ["--inverted"], ["--flame"], ["--function", "x"],
                   ["--source_path", "."], ["--sample_index", "samples"], ["--search", "x"]):
        assert f"{option[0]}: only of a profile" in view("--text", "-", *option, trace, status=2).stderr, option
    for option in (["--range", "0..1"], ["--region", "x"], ["--task", "x"]):
        assert f"{option[0]}: only of a trace" in view("--text", "-", *option, profile, status=2).stderr, option
    # What leaves nothing is said as `fiberscope top` says it.
    for option in (["--focus", "("], ["--focus", "nosuch"], ["--show", "nosuch"], ["--sample_index", "nosuch"]):
        top = subprocess.run([FIBERSCOPE, "top", *option, profile], capture_output=True, text=True, check=False).stderr
        said = top.splitlines()[0].removeprefix("fiberscope top: ")
        assert said in view("--text", "-", *option, profile, status=1).stderr, (option, said)
    assert f'{profile}: there is no function "nosuch"' in view("--text", "-", "--function", "nosuch", profile, status=1).stderr
    assert "--scale" in view("--text", "-", "--scale", "100abc", trace, status=2).stderr
    # -o writes what its name says, or nothing.
    view("-o", out, *BUILTIN, trace)
    assert ET.parse(out).getroot().tag.endswith("svg")
    for name in ("out.gif", "out", ".png/out"):
        assert "-o: " in view("-o", os.path.join(work, name), trace, status=2).stderr, name
    assert not os.path.exists(os.path.join(work, "out.gif"))
    viewer = os.path.join(os.environ["FSCOPE_BUILD"], "viewer", "fiberscope-view")
    version = subprocess.run([FIBERSCOPE, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    said = [subprocess.run([viewer, o], capture_output=True, text=True, check=True).stdout for o in ("--version", "-h", "--help")]
    assert said[0] == f"fiberscope-view {version}\n" and said[1] == said[2] and said[1].startswith("usage: "), said


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        return sum(int(n) for n in f.read().rsplit(")", 1)[1].split()[11:13])


def the_window_sleeps_and_needs_a_display(work):
    path = os.path.join(work, "t.trace")
    make_trace(path)
    bare = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")}
    done = view(path, status=1, env=bare)
    assert "no display" in done.stderr and "--png" in done.stderr, done
    window = subprocess.Popen([FIBERSCOPE, "view", path], env=dict(bare, SDL_VIDEODRIVER="dummy"))
    try:
        # SDL polls once a millisecond where a driver cannot wait, as this one: a few percent. Frames that nobody
        # asked for would take all there is.
        time.sleep(2)
        before = cpu_ticks(window.pid)
        time.sleep(3)
        used = (cpu_ticks(window.pid) - before) / os.sysconf("SC_CLK_TCK")
        assert window.poll() is None
        assert used < 0.6, f"{used} s of 3 s, with nothing to do"
    finally:
        window.terminate()
        window.wait(10)


if __name__ == "__main__":
    main([no_control_character_goes_out, the_figures_are_those_of_the_reports, lanes_of_one_fiber_have_its_name, labels_of_the_axis_are_whole,
          a_flame_graph_says_what_its_widths_are,
          pictures_are_whole_and_the_same_everywhere, damage_is_said_and_mistakes_are_refused, what_can_be_read_only_once_is_read,
          options_are_of_one_kind_of_file,
          the_window_sleeps_and_needs_a_display])
