#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A differential flame graph has all samples of both profiles: the file's tables give both back, no
width is negative, children fit into their parents, what only the base has is there and hatched."""

import os
import random
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

from harness import FIBERSCOPE, Skip, main
from report_inputs import perf_text

SVG = "{http://www.w3.org/2000/svg}"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


def draw(work, old, new, *options):
    """Stacks (root first) of one second each; the SVG's path."""
    perf_text(f"{work}/old.txt", old)
    perf_text(f"{work}/new.txt", new)
    done = subprocess.run([FIBERSCOPE, "flame", "-diff_base", "old.txt", "-o", "d.svg", *options,
                           "new.txt"], cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return f"{work}/d.svg"


def tables(svg):
    """{path of names: [base, new, width, own width]}, of each frame with all below it."""
    text = {m.get("id"): m.text for m in ET.parse(svg).getroot().iter(SVG + "metadata")}
    names = [line.split("\t")[0] for line in text["names"].split("\n")]
    path, sums = [], {}
    for line in text["frames"].split("\n"):
        up, name, *values = (int(x) for x in line.split(" "))
        base, new, width = (values + [0, 0])[:2] + [max(values + [0])]
        del path[len(path) - up:]
        path.append(names[name])
        for i in range(len(path)):
            frame = sums.setdefault(tuple(path[1:i + 1]), [0, 0, 0, 0])
            for j, v in enumerate((base, new, width)):
                frame[j] += v
        sums[tuple(path[1:])][3] += width
    return sums


def counted(stacks):
    sums = {}
    for stack in stacks:
        for i in range(len(stack) + 1):
            key = tuple(stack[:i])
            sums[key] = sums.get(key, 0) + 10 ** 9
    return sums


def some_stacks(seed, functions):
    rnd = random.Random(seed)
    return [["main"] + [rnd.choice(functions) for _ in range(rnd.randint(0, 4))]
            for _ in range(150)]


def boxes(svg):
    """{class: [(x, y, width)]} of the static picture."""
    found = {}
    for path in ET.parse(svg).getroot().iter(SVG + "path"):
        for x, y, w in re.findall(r"M([\d.]+) (\d+)h([\d.]+)v", path.get("d", "")):
            found.setdefault(path.get("class"), []).append((float(x), int(y), float(w)))
    return found


def both_sets_of_samples_are_in_the_file(work):
    for seed in range(5):
        old = some_stacks(seed, ["a", "b", "c", "only_old"])
        new = some_stacks(seed + 100, ["a", "b", "c", "only_new"]) * (seed + 1)
        sums, was, now = tables(draw(work, old, new)), counted(old), counted(new)
        assert set(sums) == set(was) | set(now)
        for path, (base, new_value, _, _) in sums.items():
            assert (base, new_value) == (was.get(path, 0), now.get(path, 0)), path


def widths_hold_both_and_children_fit(work):
    old, new = some_stacks(1, ["a", "b", "old"]), some_stacks(2, ["a", "b", "new"])
    sums = tables(draw(work, old, new))
    ends = {}
    for stack in old:
        ends.setdefault(tuple(stack), [0, 0])[0] += 10 ** 9
    for stack in new:
        ends.setdefault(tuple(stack), [0, 0])[1] += 10 ** 9
    for path, (base, now, width, own) in sums.items():
        below = [v for k, v in ends.items() if k[:len(path)] == path]
        gone = sum(max(b - n, 0) for b, n in below)
        grown = sum(max(n - b, 0) for b, n in below)
        assert width == now + gone == base + grown, path
        children = [v[2] for k, v in sums.items() if k[:-1] == path and k != path]
        assert width == own + sum(children), path


def the_picture_is_to_scale_and_what_is_gone_is_hatched(work):
    old = [["main", "a"]] * 40 + [["main", "b"]] * 20 + [["main", "gone"]] * 20
    new = [["main", "a"]] * 40 + [["main", "b"]] * 5 + [["main", "fresh"]] * 35
    found = boxes(draw(work, old, new, "-width", "1024"))
    one = 1000 / 115  # pixels a second: 40 + 20 + 20 + 35
    widths = {c: sorted(round((w + 1) / one) for _, _, w in b) for c, b in found.items()}
    # all, main and a: 80 before and after; b to a quarter, of which three quarters are hatched
    assert widths == {"d4": [40, 115, 115], "d1": [20], "d8": [35], "d0": [15, 20]}, widths
    (b_x, b_y, b_w), = found["d1"]
    assert any(abs(x + w - b_x - b_w) < 0.2 and y == b_y for x, y, w in found["d0"]), found


def what_is_left_out_keeps_both_sums(work):
    old = [["main", "big"]] * 90 + [["main", f"small{i}"] for i in range(5)]
    new = [["main", "big"]] * 80 + [["main", f"small{i}"] for i in range(3, 9)]
    sums = tables(draw(work, old, new, "-min-percent", "5"))
    second = 10 ** 9
    assert sums[()][:3] == [95 * second, 86 * second, 99 * second], sums[()]
    assert sums["main", "…"][:3] == [5 * second, 6 * second, 9 * second], sums
    assert set(sums) == {(), ("main",), ("main", "big"), ("main", "…")}, sums


def the_head_has_both_totals_and_the_legend(work):
    svg = draw(work, [["main"]] * 40, [["main"]] * 50)
    texts = {t.get("id"): t.text for t in ET.parse(svg).getroot().iter(SVG + "text")}
    assert "base 40s → 50s (+10s, +25.0%)" in texts["subtitle"], texts["subtitle"]
    assert "old.txt → new.txt" in texts["title"], texts["title"]
    words = [t.text for t in ET.parse(svg).getroot().iter(SVG + "text")]
    assert words.count("gone") == 1 and words.count("new") == 1 and words.count("same") == 1, words
    svg = draw(work, [["main"]] * 40, [["main"]] * 50, "-normalize")
    texts = {t.get("id"): t.text for t in ET.parse(svg).getroot().iter(SVG + "text")}
    assert "base 40s → 40s (0" in texts["subtitle"], texts["subtitle"]


def an_equal_pair_is_grey_and_an_empty_one_is_refused(work):
    same = some_stacks(3, ["a", "b"])
    assert set(boxes(draw(work, same, same))) == {"d4"}
    perf_text(f"{work}/old.txt", same)
    done = subprocess.run([FIBERSCOPE, "flame", "-focus=nothing", "-diff_base", "old.txt", "-o",
                           "x.svg", "old.txt"], cwd=work, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1 and "nothing to draw" in done.stderr, done.stderr
    assert not os.path.exists(f"{work}/x.svg")


def a_browser_draws_searches_and_zooms(work):
    if not BROWSER:
        raise Skip("chromium is not installed (package chromium)")
    old = [["main", "a"]] * 40 + [["main", "b"]] * 20 + [["main", "gone", "leaf"]] * 20
    new = [["main", "a"]] * 40 + [["main", "b"]] * 5 + [["main", "fresh"]] * 35
    svg = draw(work, old, new)

    def dom(fragment):
        out = subprocess.run(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", f"--user-data-dir={work}/profile", "--window-size=1200,800",
             "--virtual-time-budget=2000", "--dump-dom", "file://" + svg + fragment],
            capture_output=True, text=True, check=False, timeout=60)
        assert out.returncode == 0, out.stderr
        shown = {}
        for tag in re.findall(r"<rect [^>]*>", out.stdout.split('id="layer"')[1]):
            a = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
            if re.match(r"d\d", a.get("class", "")) and "y" in a and "none" not in a.get("style", ""):
                shown.setdefault(a["class"], []).append(float(a["width"]))
        return out.stdout, shown
    text, shown = dom("#search=^b$")
    assert re.search(r"Matched: 20.00 s → 5.00 s: −15.00 s, −75% \(1 frame\)", text), text[-3000:]
    assert sorted(shown) == ["d0", "d0 part", "d1 hit", "d4", "d8"], shown
    assert abs(shown["d0 part"][0] / shown["d1 hit"][0] - 0.75) < 0.02, shown
    text, shown = dom("#search=^(gone|fresh)$")
    assert "Matched: 20.00 s → 35.00 s: +15.00 s, +75% (2 frames)" in text
    names = re.findall(r">([a-z]+)</text>", text)
    assert "gone" in names and "leaf" in names, names


if __name__ == "__main__":
    main([both_sets_of_samples_are_in_the_file, widths_hold_both_and_children_fit,
          the_picture_is_to_scale_and_what_is_gone_is_hatched, what_is_left_out_keeps_both_sums,
          the_head_has_both_totals_and_the_legend,
          an_equal_pair_is_grey_and_an_empty_one_is_refused, a_browser_draws_searches_and_zooms])
