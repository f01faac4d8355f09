#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# A flame graph is well-formed XML that refers to nothing outside, no name in it becomes markup, and
# in Chromium its script searches, zooms and turns over. Argument: File or Browser.

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET

import chromium
from harness import FIBERSCOPE as OURS

EVIL = "x<script>alert(1)</script>&\"']]>"
SVG = "{http://www.w3.org/2000/svg}"


def write_input(path):
    with open(path, "w") as f:
        for i, stack in enumerate([["main", "parse", "malloc"], ["main", "parse"], ["main", EVIL],
                                   ["main", "emit", "malloc"]]):
            f.write("app 1/1 %d.000000: 10101010 cpu-clock:\n" % (100 + i))
            for name in reversed(stack):
                f.write("\t%16x %s+0x1 (/bin/app)\n" % (0x400000 + hash(name) % 65536, name))
            f.write("\n")


def draw(source, svg, *options):
    """Draws source; what the command said of it."""
    return subprocess.run([OURS, "flame", *options, "-o", svg, source], check=True, capture_output=True,
                          text=True).stderr


def tables(svg):
    """[(depth, name, module, self)] of all frames, parents first, and the totals of the first six levels."""
    root = ET.parse(svg).getroot()
    text = {m.get("id"): m.text for m in root.iter(SVG + "metadata")}
    names = [line.split("\t") for line in text["names"].split("\n")]
    frames, path, totals = [], [], {}
    for line in text["frames"].split("\n"):
        up, name, *own = (int(x) for x in line.split(" "))
        del path[len(path) - up:]
        path.append(names[name][0])
        own = own[0] if own else 0
        frames.append((len(path) - 1, names[name][0], names[name][1], own))
        for i in range(min(len(path), 6)):
            key = tuple(path[:i + 1])
            totals[key] = totals.get(key, 0) + own
    return frames, totals


def picture(svg):
    """[(x, y, width)] of the static picture's boxes."""
    boxes = []
    for path in ET.parse(svg).getroot().iter(SVG + "path"):
        for x, y, w in re.findall(r"M([\d.]+) (\d+)h([\d.]+)v", path.get("d")):
            boxes.append((float(x), int(y), float(w)))
    return boxes


class Flame(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.svg = os.path.join(self.dir, "f.svg")
        source = os.path.join(self.dir, "s.txt")
        write_input(source)
        self.draw(source)

    def draw(self, source, *options):
        return draw(source, self.svg, *options)

    def many(self, width, depth):
        """A profile of width * depth different frames (besides the outermost two)."""
        path = os.path.join(self.dir, "many.folded")
        with open(path, "w", encoding="utf-8") as f:
            for i in range(width):
                f.write("app 1/1 %d.000000: 10101010 cpu-clock:\n" % (100 + i))
                for d in range(depth - 1, -1, -1):
                    f.write("\t%16x branch%d::level%d+0x1 (/bin/app)\n" %
                            (0x400000 + 16 * (i * depth + d), i, d))
                f.write("\t%16x main+0x1 (/bin/app)\n\n" % 0x300000)
        return path


class File(Flame):
    def test_tables_and_picture_are_the_values(self):
        frames, totals = tables(self.svg)
        total = totals[("all",)]
        self.assertEqual(totals["all", "main"], total)
        self.assertEqual(totals["all", "main", "parse"] * 2, total)
        self.assertEqual(totals["all", "main", "parse", "malloc"] * 4, total)
        self.assertEqual(totals["all", "main", EVIL] * 4, total)
        self.assertEqual({f[2] for f in frames if f[0]}, {"app"})
        by_row = {}
        for x, y, w in picture(self.svg):
            by_row.setdefault(y, []).append((x, w))
        rows = [sorted(by_row[y]) for y in sorted(by_row)]
        self.assertEqual([len(r) for r in rows], [1, 1, 3, 2])
        for row in rows[:3]:
            self.assertAlmostEqual(sum(w + 1 for _, w in row), 1176, delta=1)
        for row in rows:
            for (x, w), (after, _) in zip(row, row[1:]):
                self.assertLessEqual(x + w, after)

    def test_a_large_profile_is_a_small_file_that_lacks_nothing(self):
        self.assertEqual(self.draw(self.many(1200, 100)).count("left out"), 0)
        self.assertLess(os.path.getsize(self.svg), 10e6)
        frames, totals = tables(self.svg)
        self.assertEqual(len(frames), 2 + 1200 * 100)
        self.assertEqual(totals["all", "main"], 1200 * 10101010)
        self.assertLessEqual(len(picture(self.svg)), 20000)

    def test_beyond_the_limit_boxes_have_the_sum_of_what_is_left_out(self):
        said = self.draw(self.many(600, 500))
        self.assertRegex(said, r"50002 narrow frames are left out")
        frames, totals = tables(self.svg)
        self.assertEqual(totals[("all",)], 600 * 10101010)
        self.assertEqual(sum(f[3] for f in frames), 600 * 10101010)
        said = self.draw(self.many(600, 5), "-min-percent=50")
        frames, totals = tables(self.svg)
        self.assertEqual([f[1] for f in frames], ["all", "main", "…"])
        self.assertEqual(totals["all", "main", "…"], 600 * 10101010)

    def test_one_deep_stack_is_drawn(self):
        self.draw(self.many(1, 30000))
        self.assertEqual(len(tables(self.svg)[0]), 30002)
        self.assertEqual(len(picture(self.svg)), 20000)

    def test_names_are_never_markup_and_nothing_is_outside(self):
        with open(self.svg, encoding="utf-8") as f:
            text = f.read()
        self.assertEqual(text.count("<script"), 1)
        self.assertNotIn("alert(1)</script>", text)
        for link in re.findall(r"(?:href|src|url\()\s*=?\s*[\"']?([^\"')\s]+)", text):
            self.fail("refers to " + link)
        names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"}  # of namespaces
        self.assertEqual(set(re.findall(r"https?://[^\"'\s]+", text)), names)


class Browser(Flame):
    def dom(self, fragment):
        out = subprocess.run(
            [chromium.PROGRAM, *chromium.FLAGS, "--user-data-dir=" + os.path.join(self.dir, "profile"),
             "--window-size=1200,800", "--virtual-time-budget=2000", "--dump-dom",
             "file://" + self.svg + fragment], capture_output=True, text=True, check=False,
            timeout=60)
        self.assertEqual(out.returncode, 0, out.stderr)
        return out.stdout

    @staticmethod
    def shown(dom):
        """{class: [(x, y, width)]} of the boxes in the page."""
        boxes = {}
        for tag in re.findall(r"<rect [^>]*>", dom):
            a = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
            if "height" in a and a.get("class", "") not in ("", "bg") and "none" not in a.get("style", ""):
                boxes.setdefault(a["class"], []).append((float(a["x"]), int(a["y"]), float(a["width"])))
        return boxes

    def test_search_counts_what_lies_under_a_match_once(self):
        dom = self.dom("#search=MALLOC")
        self.assertRegex(dom, r"Matched: 50\.00% \([^)]*, 2 frames\)")
        hits = [b for c, found in self.shown(dom).items() if "hit" in c for b in found]
        self.assertEqual(len(hits), 2)
        self.assertIn("Matched: 100%", self.dom("#search=main|malloc"))
        self.assertIn("No match", self.dom("#search=nothing"))
        self.assertIn("Matched: 25.00%", self.dom("#search=alert(1"))  # not a regular expression

    def test_zoom_fills_the_window_and_keeps_the_callers(self):
        names = [f[1] for f in tables(self.svg)[0]]
        boxes = self.shown(self.dom("#zoom=%d" % names.index("parse")))
        every = [b for found in boxes.values() for b in found]
        self.assertEqual(len(every), 4, boxes)  # all, main, parse, malloc
        self.assertEqual(sum(len(b) for c, b in boxes.items() if "above" in c), 2)
        widths = sorted(w for _, _, w in every)
        self.assertAlmostEqual(widths[0] * 2, widths[-1], delta=3)

    def test_turning_over_moves_the_root_to_the_bottom(self):
        ys = []
        for fragment in ("", "#flip=1"):
            every = [b for found in self.shown(self.dom(fragment)).values() for b in found]
            widest = max(w for _, _, w in every)
            rows = [y for _, y, w in every if w == widest]
            ys.append(min(rows) == min(y for _, y, _ in every))
        self.assertEqual(ys, [True, False])

    def test_a_hundred_thousand_frames_are_merged_and_zoomed_into(self):
        self.draw(self.many(2000, 60))
        dom = self.dom("#search=branch1234::level7$")
        self.assertIn("Matched: 0.050%", dom)  # found, though too narrow to be shown
        every = [b for found in self.shown(dom).values() for b in found]
        self.assertEqual(len(every), 3)  # all, main, one merged box
        frames = tables(self.svg)[0]
        first = [i for i, f in enumerate(frames) if f[1] == "branch1234::level0"][0]
        boxes = self.shown(self.dom("#zoom=%d-%d" % (first, first + 3 * 60)))
        self.assertEqual(sum(len(b) for b in boxes.values()), 2 + 3 * 60)


if __name__ == "__main__":
    WHICH = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in ("File", "Browser") else None
    if WHICH == "Browser" and not chromium.PROGRAM:
        print("SKIP: chromium is not installed (package chromium)")
        sys.exit(77)
    unittest.main(defaultTest=WHICH)
