#!/usr/bin/python3
# SPDX-License-Identifier: MIT
#
# What a person does with a flame graph: real mouse and key events in Chromium, and what the page
# shows then. The truth is the profile: main 100 %, parse 50 %, malloc 25 % under parse and 25 %
# under emit.

import os
import sys

import chromium
import flame_svg
from harness import main

DRAWN = """
[...document.querySelectorAll('#layer rect')].filter(r => r.style.display !== 'none').map(r => {
    const b = r.getBoundingClientRect();
    return {x: b.x, y: b.y, w: b.width, h: b.height, style: r.getAttribute('class')};
})"""
NAMES = """
[...document.querySelectorAll('#layer text')].filter(t => t.style.display !== 'none').map(t => {
    const b = t.getBoundingClientRect();
    return {name: t.textContent, x: b.x, right: b.right, y: b.y + b.height / 2};
})"""
TIP = """
(t => t.getAttribute('visibility') === 'hidden' ? null :
    [...t.querySelectorAll('text')].map(l => l.textContent))(document.querySelector('.tip'))"""
EDGES = """
[...document.querySelectorAll('#head text, #head input, .tip rect')].map(e => {
    const b = e.getBoundingClientRect();
    return {what: e.textContent || e.nodeName, x: b.x, right: b.right, y: b.y, bottom: b.bottom};
}).filter(b => b.right > b.x && b.bottom > 0)"""

browser = None


def page(work, fragment="", width=1300, dark=False, options=()):
    """Opens a graph of the profile; its boxes are named by their texts."""
    source, svg = os.path.join(work, "s.txt"), os.path.join(work, "f.svg")
    flame_svg.write_input(source)
    flame_svg.draw(source, svg, *options)
    browser.window(width, 800, dark)
    browser.open(svg, fragment)


def under(text_, drawn):
    """The one box that a name stands in."""
    found = [r for r in drawn if r["y"] <= text_["y"] < r["y"] + r["h"]
             and r["x"] <= text_["x"] < r["x"] + r["w"]]
    assert len(found) == 1, (text_, found)
    return found[0]


def boxes():
    """{name: box} of what is drawn; of two equal names the left one."""
    found = {}
    drawn = browser.js(DRAWN)
    for t in browser.js(NAMES):
        box = under(t, drawn)
        if t["name"] not in found or found[t["name"]]["x"] > box["x"]:
            found[t["name"]] = box
    return found


def over(box):
    return box["x"] + box["w"] / 2, box["y"] + box["h"] / 2


def text(name):
    return browser.js(f"document.getElementById('{name}').textContent")


def share(name):
    every = boxes()
    return every[name]["w"] / every["all"]["w"]


def near(value, want):
    assert abs(value - want) < 0.01, (value, want)


def hovering_tells_name_module_and_share(work):
    page(work)
    assert browser.js(TIP) is None
    browser.move(*over(boxes()["parse"]))
    assert browser.js(TIP) == ["parse", "app", "50.00% of all, 20.20 ms, self 10.10 ms"]
    browser.move(*over(boxes()["malloc"]))
    assert browser.js(TIP) == ["malloc", "app", "25.00% of all, 10.10 ms"], browser.js(TIP)
    browser.move(5, 700)
    assert browser.js(TIP) is None


def a_name_of_markup_is_text(work):
    page(work)
    browser.move(*over(boxes()[flame_svg.EVIL]))
    assert browser.js(TIP)[0] == flame_svg.EVIL


def a_click_zooms_and_the_button_resets(work):
    page(work)
    near(share("parse"), 0.5)
    reset = "document.getElementById('reset').classList.contains('off')"
    assert browser.js(reset)
    browser.click(*over(boxes()["parse"]))
    near(share("parse"), 1)
    near(share("malloc"), 0.5)
    assert "emit" not in boxes() and not browser.js(reset)
    assert browser.js("location.hash").startswith("#zoom=")
    browser.move(*over(boxes()["malloc"]))
    assert browser.js(TIP)[2] == "25.00% of all, 10.10 ms, 50.00% of this view", browser.js(TIP)
    browser.move(*over(boxes()["main"]))  # is more than the view: no share of it
    assert browser.js(TIP)[2] == "100% of all, 40.40 ms", browser.js(TIP)
    where = browser.js("(b => [b.x + b.width / 2, b.y + b.height / 2])"
                       "(document.getElementById('reset').getBoundingClientRect())")
    browser.click(*where)
    near(share("parse"), 0.5)
    assert browser.js(reset) and browser.js("location.hash") == ""


def a_click_on_a_caller_zooms_out(work):
    page(work)
    browser.click(*over(boxes()["parse"]))
    browser.click(*over(boxes()["main"]))
    near(share("parse"), 0.5)
    assert "emit" in boxes()


def typing_searches_and_escape_forgets(work):
    page(work)
    browser.key("/")
    browser.type("malloc")
    assert browser.js("document.querySelector('input').value") == "malloc"
    assert text("found") == "Matched: 50.00% (20.20 ms, 2 frames)", text("found")
    hits = [r for r in browser.js(DRAWN) if "hit" in r["style"].split()]
    assert len(hits) == 2 and sum(h["w"] for h in hits) < boxes()["all"]["w"] / 2 + 2, hits
    assert browser.js("location.hash") == "#search=malloc"
    other = "getComputedStyle([...document.querySelectorAll('#layer rect')]" \
            ".find(r => !/hit|c12/.test(r.getAttribute('class')))).opacity"
    assert float(browser.js(other)) < 0.5  # the others step back
    browser.key("Escape")
    assert text("found") == "" and browser.js("document.querySelector('input').value") == ""
    assert float(browser.js(other)) == 1 and browser.js("location.hash") == ""
    assert not any("hit" in r["style"].split() for r in browser.js(DRAWN))


def letters_in_the_search_box_are_no_commands(work):
    page(work)
    top = boxes()["all"]["y"]
    browser.key("/")
    browser.type("iu/")
    assert browser.js("document.querySelector('input').value") == "iu/"
    assert boxes()["all"]["y"] == top and text("found") == "No match"


def search_and_zoom_hold_together(work):
    page(work)
    browser.click(*over(boxes()["parse"]))
    browser.key("/")
    browser.type("malloc")
    browser.key("Enter")
    assert text("found").startswith("Matched: 50.00%")  # of all, not of what is in view
    near(share("malloc"), 0.5)
    browser.key("Escape")  # the search goes first,
    assert text("found") == ""
    near(share("parse"), 1)
    browser.key("Escape")  # then the zoom
    near(share("parse"), 0.5)


def keys_walk_and_zoom(work):
    page(work)
    browser.key("ArrowDown")  # from all to main
    assert browser.js(TIP)[0] == "main"
    browser.key("ArrowDown")  # to the widest below
    assert browser.js(TIP)[0] == "parse"
    browser.key("ArrowLeft")
    assert browser.js(TIP)[0] == "emit"
    browser.key("ArrowRight")
    browser.key("Enter")
    near(share("parse"), 1)
    browser.key("u")  # to main,
    near(share("parse"), 0.5)
    assert browser.js("location.hash") == "#zoom=1"
    browser.key("u")  # to all
    assert browser.js("location.hash") == ""


def i_turns_over_and_the_arrows_follow(work):
    page(work)
    assert boxes()["all"]["y"] < boxes()["main"]["y"] < boxes()["parse"]["y"]
    browser.key("i")
    assert boxes()["all"]["y"] > boxes()["main"]["y"] > boxes()["parse"]["y"]
    assert browser.js("location.hash") == "#flip=1"
    browser.key("ArrowUp")
    assert browser.js(TIP)[0] == "main"
    browser.key("i")
    assert boxes()["all"]["y"] < boxes()["main"]["y"]


def the_address_is_the_view(work):
    page(work)
    browser.click(*over(boxes()["parse"]))
    browser.key("/")
    browser.type("malloc")
    fragment = browser.js("location.hash")
    page(work, fragment)
    near(share("parse"), 1)
    assert text("found").startswith("Matched: 50.00%")


def nothing_is_cut_off_at_any_width(work):
    title = ["-title", "a title that is far too long " * 9]
    for width in (1300, 700, 360):
        for dark in (False, True):
            page(work, "#search=malloc", width, dark, title)
            every = boxes()
            margin, whole = every["all"]["x"], every["all"]["w"]
            # The same on both sides, and none for a scroll bar.
            assert margin > 0 and abs(2 * margin + whole - width) < 2, (width, every["all"])
            drawn = browser.js(DRAWN)
            for r in drawn:
                assert margin - 1 <= r["x"] and r["x"] + r["w"] <= width - margin + 1
            for t in browser.js(NAMES):
                box = under(t, drawn)
                assert t["right"] <= box["x"] + box["w"], (width, t, box)
            browser.move(*over(every["main"]))
            browser.move(width - 15, over(every["main"])[1])
            parts = browser.js(EDGES)
            for p in parts:
                assert 0 <= p["x"] and p["right"] <= width, (width, p)
            head = [p for p in parts if p["what"] != "rect"]
            for i, a in enumerate(head):
                for b in head[i + 1:]:
                    across = a["right"] <= b["x"] or b["right"] <= a["x"]
                    below = a["bottom"] <= b["y"] + 1 or b["bottom"] <= a["y"] + 1
                    assert across or below, (width, a, b)


def names_read_on_every_colour(work):
    # Contrast as WCAG 2 counts it; 4.5 is its bound for text of this size.
    script = """
    (() => {
        const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
            .map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
            return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
        const r = document.querySelector('#layer rect'), t = document.querySelector('#layer text');
        const fill = e => light(getComputedStyle(e).fill);
        const ratio = () => { const a = fill(r), b = fill(t);
            return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); };
        const all = {};
        for (let c = 0; c < 13; c++) for (let s = 0; s < 3; s++) {
            r.setAttribute('class', `c${c} s${s}`); all[`c${c} s${s}`] = ratio(); }
        r.setAttribute('class', 'm'); all.m = ratio();
        t.setAttribute('class', 'hit'); document.documentElement.classList.add('searching');
        r.setAttribute('class', 'c0 s0 hit'); all.hit = ratio();
        return all;
    })()"""
    for dark in (False, True):
        page(work, dark=dark)
        ratios = browser.js(script)
        assert len(ratios) == 41
        poor = {k: round(v, 2) for k, v in ratios.items() if v < 4.5}
        assert not poor, (dark, poor)


def the_script_throws_nothing(work):
    page(work, "#zoom=99999&search=%E0%A4%A&flip=x&zoom")
    browser.move(*over(boxes()["main"]))
    for key in ("ArrowDown", "ArrowUp", "ArrowUp", "ArrowLeft", "ArrowRight", "Enter", "u",
                "Backspace", "i"):
        browser.key(key)
    assert browser.errors() == []


if __name__ == "__main__":
    if not chromium.PROGRAM:
        print("SKIP: chromium is not installed (package chromium)")
        sys.exit(77)
    browser = chromium.Chromium()
    try:
        main([f for f in list(globals().values()) if callable(f) and f.__code__.co_argcount == 1
              and f.__code__.co_varnames[0] == "work" and f.__module__ == "__main__"])
    finally:
        browser.close()
