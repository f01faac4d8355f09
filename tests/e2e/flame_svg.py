#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# A flame graph is well-formed XML that refers to nothing outside, no name in it becomes markup, and
# in Chromium its script searches, zooms and turns over.

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET

OURS = os.path.join(os.environ["FSCOPE_BUILD"], "cli", "fiberscope")
EVIL = "x<script>alert(1)</script>&\"']]>"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
SVG = "{http://www.w3.org/2000/svg}"


def write_input(path):
    with open(path, "w") as f:
        for i, stack in enumerate([["main", "parse", "malloc"], ["main", "parse"], ["main", EVIL],
                                   ["main", "emit", "malloc"]]):
            f.write("app 1/1 %d.000000: 10101010 cpu-clock:\n" % (100 + i))
            for name in reversed(stack):
                f.write("\t%16x %s+0x1 (/bin/app)\n" % (0x400000 + hash(name) % 65536, name))
            f.write("\n")


class Flame(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.svg = os.path.join(self.dir, "f.svg")
        source = os.path.join(self.dir, "s.txt")
        write_input(source)
        subprocess.run([OURS, "flame", "-o", self.svg, source], check=True, capture_output=True)

    def test_is_xml_and_widths_are_values(self):
        root = ET.parse(self.svg).getroot()
        frames = [g for g in root.iter(SVG + "g") if g.get("class", "").startswith("f")]
        by_name = {}
        for g in frames:
            by_name.setdefault(g.get("data-n"), []).append(int(g.get("data-w")))
        total = by_name["all"][0]
        self.assertEqual(by_name["main"], [total])
        self.assertEqual(sum(by_name["malloc"]) * 2, total)
        self.assertEqual(by_name["parse"][0] * 2, total)
        self.assertIn(EVIL, by_name)

    def test_names_are_never_markup_and_nothing_is_outside(self):
        with open(self.svg) as f:
            text = f.read()
        self.assertEqual(text.count("<script"), 1)
        self.assertNotIn("alert(1)</script>", text)
        for link in re.findall(r"(?:href|src|url\()\s*=?\s*[\"']?([^\"')\s]+)", text):
            self.fail("refers to " + link)
        self.assertEqual(re.findall(r"https?://[^\"'\s]+", text), ["http://www.w3.org/2000/svg"])

    def dom(self, fragment):
        profile = os.path.join(self.dir, "profile")
        out = subprocess.run(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
             "--no-first-run", "--disable-background-networking", "--user-data-dir=" + profile,
             "--virtual-time-budget=2000", "--dump-dom", "file://" + self.svg + fragment],
            capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(out.returncode, 0, out.stderr)
        return out.stdout

    def test_search_and_zoom_in_a_browser(self):
        if not BROWSER:
            self.skipTest("chromium is not installed")
        self.assertRegex(self.dom("#search=MALLOC"), r"Matched: 50\.00%")
        zoomed = self.dom("#zoom=2")
        self.assertEqual(len(re.findall(r"<g class=\"f above\"", zoomed)), 2)
        self.assertIn("display: none", zoomed)

    def test_turning_over_moves_the_root_to_the_bottom(self):
        if not BROWSER:
            self.skipTest("chromium is not installed")
        y = [re.search(r'data-n="all".*?<rect[^>]* y="(\d+)"', self.dom(f), re.S)[1]
             for f in ("", "#flip=1")]
        self.assertGreater(int(y[1]), int(y[0]))


if __name__ == "__main__":
    if not BROWSER:
        print("note: chromium is not installed; the script in the picture is not run")
    unittest.main()
