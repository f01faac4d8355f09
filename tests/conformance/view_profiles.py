#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The viewer's pages show what `go tool pprof` prints, figure by figure: top, the edges of peek beside a
function in the sandwich, list's lines, refinements, differences. Read through the display list."""

import collections
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "data"))
sys.dont_write_bytecode = True
import make_pprof_samples  # noqa: E402
import make_synthetic  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
VIEW = os.path.join(BUILD, "viewer", "fiberscope-view")
OURS = os.path.join(BUILD, "cli", "fiberscope")
FILES = sorted(glob.glob(os.path.join(HERE, "data", "pprof", "*")))
GO_READS = [f for f in FILES if "jemalloc" not in f and "perf_script" not in f]
WHOLE = ["-nodefraction=0", "-edgefraction=0", "-nodecount=0"]
TEXT = re.compile(r'text (-?\d+),(-?\d+) #\w+ builtin "(.*)"$')
RECT = re.compile(r"rect (-?\d+),(-?\d+) (\d+)x(\d+) ")
FIGURES = r"\s*(\S+)\s+(\S+%)\s+(\S+%)\s+(\S+)\s+(\S+%)  "


def run(argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


def unescape(text):
    return re.sub(r"\\(.)", r"\1", text)


def shown(path, page, *options, size="4000x16000"):
    """What is drawn: texts by line, from the left, and the boxes."""
    out = run([VIEW, "--text", "-", "--font", "builtin", "--size", size, "--render", page, *options, path])
    lines, boxes = collections.defaultdict(list), []
    for item in out.splitlines():
        found = TEXT.match(item)
        if found:
            lines[int(found[2])].append((int(found[1]), unescape(found[3])))
        found = RECT.match(item)
        if found:
            boxes.append(tuple(map(int, found.groups())))
    return [[text for _, text in sorted(lines[y])] for y in sorted(lines)], boxes, out


def shown_type(path):
    """The profile's own choice, but where that has no values."""
    return shown(path, "top")[0][-1][0].split(":")[0]


def table(path, page, *options):
    lines = shown(path, page, *options)[0]
    start = next(i for i, line in enumerate(lines) if line[0] in ("flat", "total"))
    return lines[start + 1:-1]  # the last is the status


def go_top(path, *options):
    out = run([PPROF, "-symbolize=none", "-top", *WHOLE, *options, path])
    rows = [re.fullmatch(FIGURES + "(.*)", line) for line in out[out.index("cum%"):].splitlines()[1:]]
    return [list(row.groups()) for row in rows]


def ours_top(path, *options):
    out = run([OURS, "top", "--no-trim", *options, path])
    return [list(re.fullmatch(FIGURES + "(.*)", line).groups()) for line in out[out.index("cum%"):].splitlines()[1:]]


class Profiles(unittest.TestCase):
    maxDiff = None

    def test_top_is_pprofs(self):
        for path in GO_READS:
            with self.subTest(path):
                kind = shown_type(path)
                self.assertEqual(table(path, "top"), go_top(path, "-sample_index=" + kind))

    def test_top_is_the_commands_for_all_formats(self):
        for path in FILES:
            with self.subTest(path):
                self.assertEqual(table(path, "top"), ours_top(path, "-sample_index", shown_type(path)))

    def test_each_sample_type(self):
        path = os.path.join(HERE, "data", "pprof", "go_heap.pb.gz")
        for kind in ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space"):
            rows = table(path, "top", "--sample_index", kind)
            self.assertEqual(rows, go_top(path, "-sample_index=" + kind))
            status = shown(path, "top", "--sample_index", kind)[0][-1][0]
            total = re.search(r"of (\S+) total", run([PPROF, "-symbolize=none", "-top", *WHOLE,
                                                      "-sample_index=" + kind, path]))[1]
            self.assertIn(kind + ": shown ", status)
            self.assertTrue(status.endswith(f" of {total}"), (status, total))

    def test_refinements_are_pprofs(self):
        for path in GO_READS:
            for options in (["focus=main"], ["ignore=runtime"], ["hide=^runtime"], ["show=main"],
                            ["focus=main", "hide=^runtime"], ["ignore=main\\.f|gc"]):
                ours = [part for o in options for part in ("--" + o).split("=", 1)]
                kind = "-sample_index=" + shown_type(path)
                go = subprocess.run([PPROF, kind, "-symbolize=none", "-top", *WHOLE, *("-" + o for o in options), path],
                                    capture_output=True, text=True, check=False)
                rows = [list(m.groups()) for m in (re.fullmatch(FIGURES + "(.*)", line)
                                                   for line in go.stdout.splitlines()) if m]
                if go.returncode or not rows:  # nothing is left: the viewer says so
                    done = subprocess.run([VIEW, "--text", "-", *ours, kind, path], capture_output=True, text=True,
                                          check=False)
                    self.assertEqual(done.returncode, 1, (path, options))
                    continue
                with self.subTest(path=path, options=options):
                    self.assertEqual(table(path, "top", *ours, kind), rows)

    def test_differences_are_pprofs(self):
        with tempfile.TemporaryDirectory() as folder:
            a, b = os.path.join(folder, "a.pb.gz"), os.path.join(folder, "b.pb.gz")
            make_synthetic.write(a, 1, False)
            make_synthetic.write(b, 3, False)
            rows = table(b, "top", "--diff_base", a)
            self.assertEqual(sorted(rows), sorted(go_top(b, "-diff_base=" + a)))
            self.assertEqual(rows, ours_top(b, "-diff_base", a))
            base, now = (json.loads(run([OURS, "top", "--json", p])) for p in (a, b))
            head = shown(b, "flame", "--diff_base", a)[0]
            said = next(line[0] for line in head if line[0].startswith(now["type"] + ": base"))
            self.assertIn("%+.1f%%" % (100 * (now["total"] / base["total"] - 1)), said)

    def test_beside_a_function_stand_peeks_edges(self):
        seen = 0
        for path in GO_READS:
            kind = "-sample_index=" + shown_type(path)
            tree = json.loads(run([OURS, "tree", "--json", "--no-trim", kind, path]))
            recursive = recursive_functions(path)
            for node in tree["nodes"]:
                if node["name"] in recursive or node["cum"] <= 0 or \
                        any(e["weight"] < 0 for e in node["callers"] + node["callees"]):
                    continue
                peek = peek_edges(path, node["name"], kind)
                for side, edges in zip(("callers", "callees"), sandwich(path, node["name"], kind)):
                    want = {e["name"]: e["weight"] for e in node[side]}
                    self.assertEqual(set(want), set(peek[side]), (path, node["name"]))
                    self.check_widths(edges, want, node["cum"], (path, node["name"], side))
                    seen += len(want)
        self.assertGreater(seen, 60)

    def test_the_tables_of_a_sandwich_are_peeks(self):
        seen = 0
        for path in GO_READS:
            kind = "-sample_index=" + shown_type(path)
            tree = json.loads(run([OURS, "tree", "--json", "--no-trim", kind, path]))
            recursive = recursive_functions(path)
            nodes = [n for n in tree["nodes"] if n["name"] not in recursive and n["cum"] > 0 and
                     all(e["weight"] >= 0 for e in n["callers"] + n["callees"])]
            for node in nodes[::3]:
                for side, rows in zip(("callers", "callees"), edges_shown(path, node["name"], kind)):
                    want = {e["name"]: e["weight"] for e in node[side] if e["weight"]}
                    rest = node["cum"] - sum(want.values())
                    if rest:
                        want["(nobody)" if side == "callers" else "(its own)"] = rest
                    what = (path, node["name"], side, rows, want)
                    self.assertEqual(set(rows), set(want), what)
                    for name, share in rows.items():
                        self.assertLess(abs(share - 100 * want[name] / node["cum"]), 0.06, what)
                    seen += len(want)
        self.assertGreater(seen, 30)

    def check_widths(self, edges, want, cum, what):
        for name, weight in want.items():
            share = weight / cum
            if share * 3980 >= 6 * len(name) + 10:  # wide enough for its name; edges of boxes are rounded
                self.assertIn(name, edges, what)
                self.assertLess(abs(edges[name] / 4000 - share), 3 / 4000, (what, name, edges[name], share))
        for name in edges:
            self.assertTrue(any(w.startswith(name.rstrip("\u2026")) for w in want), (what, name))

    def test_source_is_pprofs_list(self):
        with tempfile.TemporaryDirectory() as folder:
            exe, profile = record_go(folder)
            out = run([PPROF, "-list=^main", exe, profile])
            routines = re.split(r"(?m)^ROUTINE =+ ", out)[1:]
            self.assertGreaterEqual(len(routines), 3, out)
            inlined = 0
            for routine in routines:
                name, path = re.match(r"(\S+) in (\S+)", routine).groups()
                flat, cum = re.search(r"(?m)^\s*(\S+)\s+(\S+) \(flat, cum\)", routine).groups()
                lines = shown(profile, "source", "--function", name)[0]
                head = next(line for line in lines if line[0].startswith(name + "  "))
                self.assertTrue(head[0].endswith(path), head)
                self.assertTrue(head[1].startswith(f"flat {flat}, cum {cum}, "), (head, flat, cum))
                want = {int(m[3]): [m[1], m[2]] for m in re.finditer(r"(?m)^\s*(\S+)\s+(\S+)\s+(\d+):", routine)
                        if (m[1], m[2]) != (".", ".")}
                rows = [r for r in lines[lines.index(["flat", "cum", "line", "source"]) + 1:-1]]
                got = {int(r[2]): r[:2] for r in rows if len(r) > 2 and r[2].isdigit() and not r[0].isdigit()}
                self.assertEqual(got, want, name)
                inlined += sum("inlined: main.mix  " in r[-1] for r in rows)
            self.assertGreater(inlined, 0)
            os.rename(os.path.join(folder, "spin.go"), os.path.join(folder, "moved.go"))
            lines = shown(profile, "source", "--function", "main.outer")[0]
            self.assertTrue(any(line[0].startswith(f"no source: looked for {folder}/spin.go") for line in lines), lines)
            os.mkdir(os.path.join(folder, "src"))
            os.rename(os.path.join(folder, "moved.go"), os.path.join(folder, "src", "spin.go"))
            lines = shown(profile, "source", "--function", "main.outer", "--source_path", folder + "/src")[0]
            self.assertTrue(any("func outer" in line[-1] for line in lines), lines)


PROGRAM = """package main

import (
	"os"
	"runtime/pprof"
	"time"
)

var sink uint64

func mix(x uint64) uint64 {
	for i := 0; i < 16; i++ {
		x ^= x << 13
		x ^= x >> 7
	}
	return x
}

//go:noinline
func heavy(n int) {
	for i := 0; i < n; i++ {
		sink += mix(sink + uint64(i))
	}
}

//go:noinline
func outer() {
	heavy(3000)
	for i := 0; i < 1000; i++ {
		sink = mix(sink)
	}
}

func main() {
	f, _ := os.Create(os.Args[1])
	pprof.StartCPUProfile(f)
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		outer()
	}
	pprof.StopCPUProfile()
	f.Close()
}
"""


def record_go(folder):
    source, exe = os.path.join(folder, "spin.go"), os.path.join(folder, "spin")
    with open(source, "w", encoding="utf-8") as f:
        f.write(PROGRAM)
    subprocess.run([GO, "build", "-o", exe, source], check=True, timeout=120,
                   env=dict(os.environ, GOFLAGS="-mod=mod"))
    profile = os.path.join(folder, "spin.pb.gz")
    subprocess.run([exe, profile], check=True, timeout=30)
    return exe, profile


def recursive_functions(path):
    found = {"<unknown>"}  # frames without names call each other
    for line in run([OURS, "folded", path]).splitlines():
        frames = [re.sub(r"_\[[ki]\]$", "", f) for f in line.rsplit(" ", 1)[0].split(";")]
        found |= {f for f, n in collections.Counter(frames).items() if n > 1}
    return found


def peek_edges(path, name, kind):
    """Names above and beneath, of go's -peek."""
    out = run([PPROF, "-symbolize=none", "-peek=^" + re.escape(name) + "$", *WHOLE, kind, path])
    sides, side = {"callers": [], "callees": []}, "callers"
    for line in out[out.index("calls%"):].splitlines()[2:]:
        found = re.fullmatch(r"\s+\S+\s+\S+% \|   (.*?)(?: \(inline\))?", line)
        if found:
            sides[side].append(found[1])
        elif re.match(r"\s*\S+\s+\S+%.*\| ", line):
            side = "callees"
    return sides


def sandwich(path, name, kind):
    """Boxes directly above and beneath the function: name and width."""
    _, boxes, out = shown(path, "sandwich", "--function", name, kind, size="4000x2000")
    lines = {(x, y, w): h for x, y, w, h in boxes}
    # The function's row stands between two lines of the accent colour, drawn last.
    middle = [y for x, y, w, h in boxes if h == 1][-2] + 1
    names = [(int(m[1]), int(m[2]), unescape(m[3])) for m in map(TEXT.match, out.splitlines()) if m]
    sides = []
    for y in (middle - 17, middle + 17):
        found = {}
        for (x, top, w), h in lines.items():
            if top == y and h == 16:
                for tx, ty, text in names:
                    if x <= tx < x + w and y < ty < y + 17:
                        found[text] = found.get(text, 0) + w + 1
        sides.append(found)
    return sides


def edges_shown(path, name, kind):
    """Callers and callees of the tables beneath a sandwich: shares of the function's cum, by name."""
    lines = shown(path, "sandwich", "--function", name, kind, size="4000x2000")[2].splitlines()
    texts = [(int(m[2]), int(m[1]), unescape(m[3])) for m in map(TEXT.match, lines) if m]
    titles = {text: (y, x) for y, x, text in texts if text in ("called by", "calls")}
    sides = []
    for title, least, most in (("called by", 0, titles["calls"][1]), ("calls", titles["calls"][1], 4000)):
        rows = {}
        for y, x, text in texts:
            if y > titles[title][0] and least <= x < most:
                rows.setdefault(y, []).append((x, text))
        rows = [[t for _, t in sorted(r)] for _, r in sorted(rows.items())]
        rows = [r for r in rows if len(r) == 3 and r[2].endswith("%")]  # not the status
        sides.append({})
        for row in rows:  # parts of one name, inlined and not, are one edge of peek's
            sides[-1][row[0]] = sides[-1].get(row[0], 0) + float(row[2][:-1])
    return sides


if __name__ == "__main__":
    PPROF = make_pprof_samples.go_pprof()
    GO = make_pprof_samples.find_go()
    if not PPROF or not os.path.exists(VIEW):
        print("SKIP: there is no go to compare with, or no viewer")
        sys.exit(77)
    unittest.main()
