#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""In a real window, under Xvfb: somebody opens a trace of `shorten` under load, finds the slowest request by the
histogram, follows its wakeups back to who held the lock, opens the flame graph of that time, and asks why such requests
are slow. Each step is the picture that docs/viewer.md has: its words exactly, its pixels with tolerance."""

import html
import os
import re

from harness import main
from view_pictures import BRUSH, DOCS, GOLDEN, SHADE, SHARE, STEPS, TRACE
from window import Screen, read_png, wait_for

SIZE = "1280x720"


def svg_words(path):
    """As view_pictures.words has them."""
    with open(path, encoding="utf-8") as f:
        svg = f.read()
    return [(f"{x},{y}", html.unescape(text)) for x, y, text in re.findall(r'<text x="(-?\d+)" y="(-?\d+)"[^>]*>([^<]*)<', svg)]


def golden_words(name):
    with open(os.path.join(GOLDEN, name + ".txt"), encoding="utf-8") as f:
        lines = [line.rstrip("\n").split(" ", 1) for line in f]
    return [(at, text.replace('\\"', '"').replace("\\\\", "\\")) for at, text in lines]


class Story:
    def __init__(self, screen, work):
        self.screen, self.work, self.saved = screen, work, 0

    def shows(self, name):
        """The picture of the step; what is said in it."""
        self.screen.do("mousemove", "1399", "899")
        self.screen.shows(read_png(os.path.join(DOCS, name + ".png")), share=SHARE, shade=SHADE)
        self.screen.keys("ctrl+e")
        self.saved += 1
        svg = os.path.join(self.work, f"shorten.trace-timeline-{self.saved}.svg")
        assert wait_for(lambda: os.path.exists(svg)), svg
        said, want = svg_words(svg), golden_words(name)
        assert said == want, (name, [w for w in said if w not in want][:8], [w for w in want if w not in said][:8])
        return [text for _, text in said]

    def drag(self, spec):
        begin, end = (p.split(",") for p in spec.split("-"))
        self.screen.do("mousemove", "--sync", *begin, "mousedown", "1", "mousemove", "--sync", *end, "mouseup", "1")


def the_slowest_request_leads_to_the_lock_holder(work):
    with Screen(work, "--software", "--font", "builtin", "--size", SIZE, TRACE) as screen:
        screen.until_title("shorten.trace")
        story = Story(screen, work)
        story.shows("story-1-recording")
        screen.keys("alt+6")
        story.drag(BRUSH)
        said = story.shows("story-2-latencies")
        # By construction: --delay=lock:300:8ms, and nothing else takes a millisecond.
        left = next(t for t in said if re.match(r"\d+ of 2200, those of ", t))
        assert 20 <= int(left.split()[0]) <= 60, left
        # The click that brushed gave the histogram the keyboard; the table is next.
        screen.keys("Tab", "Down", "Return")
        said = story.shows("story-3-slowest")
        assert any(t.startswith("Range 102.") and "(8.70ms): " in t for t in said), said
        screen.keys("alt+0", "period")
        said = story.shows("story-4-waits")
        assert "sync 8.13ms, at 102.432ms, then runnable" in said, said
        # Woken by another request, which the holder woke.
        screen.keys("period", "bracketleft", "bracketleft")
        said = story.shows("story-5-holder")
        assert any(t.startswith("lock_holder") and "fiber 14" in t for t in said), said
        # What the holder did meanwhile: it slept, in the delay. Blocked time of everybody in that range.
        screen.keys("comma", "comma", "alt+1", "k")
        said = story.shows("story-6-flame")
        assert any(re.match(r"sleep 8\.\d+ms", t) for t in said) and any("delay.c:103" in t for t in said), said
        assert {"lock_holder", "cache_get", "[blocked: sync]"} <= set(said), said
        screen.keys("alt+5")
        said = story.shows("story-7-explain")
        assert any("by the brush" in t for t in said) and any("held by lock_holder" in t for t in said), said
        assert len(STEPS) == story.saved


if __name__ == "__main__":
    main([the_slowest_request_leads_to_the_lock_holder])
