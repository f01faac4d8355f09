#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A real window, under Xvfb: it shows what pictures without a display show, obeys keys, sleeps while nothing
changes, takes any size, opens files and addresses while it can be used, and ends when asked."""

import http.server
import os
import re
import shutil
import struct
import subprocess
import threading
import time
import zlib

import view
from harness import BUILD, FIBERSCOPE, Skip, main

VIEWER = os.path.join(BUILD, "viewer", "fiberscope-view")
TOOLS = ("Xvfb", "xdotool", "xwd")
SIZE = "900x500"


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        return sum(int(n) for n in f.read().rsplit(")", 1)[1].split()[11:13])


def wait_for(what, seconds=10):
    """Until what() is true; its value."""
    until = time.monotonic() + seconds
    while True:
        value = what()
        if value or time.monotonic() > until:
            return value
        time.sleep(0.05)


def whole_svg(path):
    """Its text; "": it is not there, or not written to its end yet."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    return text if "</svg>" in text else ""


class Screen:
    """An X server of our own and one viewer in it."""

    def __init__(self, work, *args):
        missing = [t for t in TOOLS if not shutil.which(t)]
        if missing:
            raise Skip(f"needs {', '.join(missing)} (xvfb xdotool x11-apps)")
        self.work = work
        reading, writing = os.pipe()
        # The server goes with us, even if we are killed; it would keep our output open.
        self.server = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "Xvfb", "-displayfd", str(writing), "-screen", "0", "1400x900x24",
                                        "-noreset", "-nolisten", "tcp"], pass_fds=(writing,), stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        os.close(writing)
        with os.fdopen(reading) as f:
            self.env = {**os.environ, "DISPLAY": ":" + f.readline().strip(), "HOME": work,
                        "SDL_VIDEODRIVER": "x11"}
        self.env.pop("WAYLAND_DISPLAY", None)
        self.do("mousemove", "1399", "899")  # not over the window
        self.viewer = subprocess.Popen([VIEWER, *args], env=self.env, cwd=work)
        self.id = wait_for(self.find, 20)
        assert self.id, "no window"
        self.do("windowmove", "--sync", self.id, "0", "0")  # a picture has what is on the screen

    def find(self):
        """The window, once it is the same for a while: SDL makes it anew for its renderer."""
        def now():
            return self.do("search", "--onlyvisible", "--pid", str(self.viewer.pid), check=False).split()[-1:]
        first = now()
        time.sleep(0.3)
        return first[0] if first and now() == first else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in (self.viewer, self.server):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def do(self, *args, check=True):
        done = subprocess.run(["xdotool", *args], env=self.env, capture_output=True, text=True, timeout=20)
        assert not check or done.returncode == 0, (args, done.stderr)
        return done.stdout

    def title(self):
        return self.do("getwindowname", self.id, check=False).strip()

    def until_title(self, text):
        assert wait_for(lambda: self.title().startswith(text), 15), (text, self.title())

    def keys(self, *keys):
        self.do("windowfocus", "--sync", self.id)
        for key in keys:
            self.do("key", key)
            assert self.viewer.poll() is None, key

    def shot(self):
        """Width, height and rows of RGB."""
        data = subprocess.run(["xwd", "-silent", "-id", self.id], env=self.env, stdout=subprocess.PIPE, check=True,
                              timeout=20).stdout
        head = struct.unpack(">25I", data[:100])
        width, height, line = head[4], head[5], head[12]
        at = head[0] + 12 * head[19]
        assert head[11] == 32 and head[7] == 0, head
        rows = []
        for y in range(height):
            row = data[at + y * line:at + y * line + 4 * width]
            rgb = bytearray(3 * width)
            rgb[0::3], rgb[1::3], rgb[2::3] = row[2::4], row[1::4], row[0::4]
            rows.append(bytes(rgb))
        return width, height, rows

    def shows(self, want, share=0.0, shade=0):
        """Until the window has the picture: at most that share of its pixels differs, by more than `shade`."""
        last = ["no picture"]

        def same():
            got = self.shot()
            if got[:2] != want[:2]:
                last[0] = f"{got[0]}x{got[1]}, not {want[0]}x{want[1]}"
                return False
            different, most = 0, share * got[0] * got[1]
            for a, b in zip(got[2], want[2]):
                if a != b and different <= most:
                    different += sum(any(abs(p - q) > shade for p, q in zip(a[i:i + 3], b[i:i + 3]))
                                     for i in range(0, len(a), 3))
            last[0] = f"at least {different} of {got[0] * got[1]} pixels differ"
            return different <= most

        assert wait_for(same), last[0]

    def idle_ticks(self, seconds):
        before = cpu_ticks(self.viewer.pid)
        time.sleep(seconds)
        assert self.viewer.poll() is None
        return cpu_ticks(self.viewer.pid) - before


def read_png(path):
    """What raster_write_png writes: 8 bits, RGB or RGBA. Width, height and rows of RGB."""
    with open(path, "rb") as f:
        data = f.read()
    at, packed, head = 8, b"", None
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        head = struct.unpack(">IIBB", body[:10]) if kind == b"IHDR" else head
        packed += body if kind == b"IDAT" else b""
        at += 12 + size
    width, height, bits, color = head
    assert bits == 8 and color in (2, 6), head
    n = {2: 3, 6: 4}[color]
    raw, rows, above = zlib.decompress(packed), [], bytes(n * width)
    for y in range(height):
        at = y * (n * width + 1)
        above = unfilter(raw[at], raw[at + 1:at + 1 + n * width], above, n)
        rows.append(bytes(b for i in range(0, n * width, n) for b in above[i:i + 3]) if n == 4 else bytes(above))
    return width, height, rows


def unfilter(kind, line, above, n):
    out = bytearray(line)
    for i, value in enumerate(line if kind else ()):
        left = out[i - n] if i >= n else 0
        corner = above[i - n] if i >= n else 0
        up = above[i]
        if kind == 4:
            p = left + up - corner
            near = min((abs(p - left), 0, left), (abs(p - up), 1, up), (abs(p - corner), 2, corner))[2]
        else:
            near = (left, up, (left + up) // 2)[kind - 1]
        out[i] = value + near & 255
    return out


def picture(work, *args):
    out = os.path.join(work, "want.png")
    done = subprocess.run([FIBERSCOPE, "view", "--png", out, "--font", "builtin", *args], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    return read_png(out)


def files(work):
    trace, profile = os.path.join(work, "t.trace"), os.path.join(work, "p.txt")
    view.make_trace(trace)
    view.make_profile(profile, [["main", "parse", "read"]] * 3 + [["main", "emit"]])
    return trace, profile


def it_shows_the_picture_and_obeys_keys(work):
    trace, _ = files(work)
    with Screen(work, "--software", "--font", "builtin", "--size", SIZE, trace) as s:
        s.until_title("t.trace - Fiberscope")
        s.shows(picture(work, "--size", SIZE, trace))
        s.keys("plus")  # half as much, around the middle; the trace is 2 ns longer than 10 s
        half = picture(work, "--size", SIZE, "--range", "2.5..7.5", trace)
        s.shows(half, share=0.02)
        shot = s.shot()
        s.keys("ctrl+e")
        saved = os.path.join(work, "t.trace-timeline-1.png")
        assert wait_for(lambda: os.path.exists(saved) and os.path.exists(saved[:-3] + "svg"))
        assert read_png(saved) == shot
        s.keys("0", "F2")
        s.shows(picture(work, "--size", SIZE, "--theme", "light", trace))
        # The palette: a command by a few letters; dark again.
        s.keys("ctrl+p")
        s.do("type", "drk")
        s.keys("Return")
        s.shows(picture(work, "--size", SIZE, trace))
        s.keys("question", "question")
        s.shows(picture(work, "--size", SIZE, trace))
        s.do("key", "ctrl+q")
        assert s.viewer.wait(10) == 0


def a_drag_is_from_what_was_seen(work):
    """A range's beginning is the moment that the button went down on, though the picture moves before it goes up."""
    trace, _ = files(work)

    def time_at(x, *range_):
        """In seconds, by the labels of the axis."""
        out = subprocess.run([VIEWER, "--font", "builtin", "--size", SIZE, *range_, "--text", "-", trace], check=True,
                             capture_output=True, text=True, timeout=60).stdout
        labels = re.findall(r'^text (\d+),(\d+) #\w+ builtin "([0-9.]+)s"$', out, re.M)
        (a, from_), (b, to) = [(int(at) - 4, float(text)) for at, y, text in labels if y == labels[0][1]][:2]
        return from_ + (x - a) * (to - from_) / (b - a)

    with Screen(work, "--software", "--font", "builtin", "--size", SIZE, trace) as s:
        s.shows(picture(work, "--size", SIZE, trace))
        s.keys("Escape")
        time.sleep(0.5)  # SDL passes over clicks that come with the focus
        s.do("mousemove", "--sync", "300", "100", "mousedown", "1", "mousemove", "--sync", "340", "100", "key", "plus",
             "mousemove", "--sync", "700", "100")  # Shift of the plus comes after the button: it is no drag with Shift

        def stands_still():
            before = s.shot()
            time.sleep(0.3)
            return s.shot() == before
        assert wait_for(stands_still)
        s.do("mousemove", "--sync", "701", "100", "mouseup", "1", "key", "ctrl+e")
        saved = os.path.join(work, "t.trace-timeline-1.svg")
        said = wait_for(lambda: whole_svg(saved))
        begin, end = (float(n) for n in re.search(r">Range ([0-9.]+)s \u2013 ([0-9.]+)s ", said).groups())
        assert abs(begin - time_at(300)) < 0.05, (begin, time_at(300))
        assert abs(end - time_at(701, "--range", "2.5..7.5")) < 0.05, (end, time_at(701, "--range", "2.5..7.5"))


def the_screens_driver_shows_the_same(work):
    trace, profile = files(work)
    for path in (trace, profile):
        with Screen(work, "--font", "builtin", "--size", SIZE, path) as s:
            s.shows(picture(work, "--size", SIZE, path), share=0.01, shade=8)


def it_sleeps_while_nothing_changes(work):
    trace, _ = files(work)
    with Screen(work, "--font", "builtin", "--size", SIZE, trace) as s:
        s.until_title("t.trace")
        s.keys("plus", "w", "0")
        s.shows(picture(work, "--size", SIZE, trace), share=0.01, shade=8)  # it has come to rest
        ticks = min(s.idle_ticks(3) for _ in range(2))
        limit = 0.020 * os.sysconf("SC_CLK_TCK")
        assert ticks < limit, f"{ticks} ticks of CPU in 3 s of rest, {limit} allowed"


def it_takes_any_size(work):
    trace, _ = files(work)
    with Screen(work, "--software", "--font", "builtin", "--size", SIZE, trace) as s:
        s.until_title("t.trace")
        for size in ("1x1", "20x300", "1300x40", "1391x877", "640x400"):
            s.do("windowsize", "--sync", s.id, *size.split("x"))
            s.shows(picture(work, "--size", size, trace))
        s.do("windowunmap", "--sync", s.id)
        assert s.idle_ticks(1) < 0.1 * os.sysconf("SC_CLK_TCK")
        s.do("windowmap", "--sync", s.id)
        s.shows(picture(work, "--size", "640x400", trace))
    with Screen(work, "--software", "--font", "builtin", "--size", "7680x4320", trace) as s:
        s.until_title("t.trace")
        s.keys("plus")
        s.do("key", "ctrl+q")
        assert s.viewer.wait(60) == 0


def several_files_have_tabs_and_some_cannot_be_opened(work):
    trace, profile = files(work)
    with open(os.path.join(work, "bad.pb.gz"), "wb") as f:
        f.write(b"\x1f\x8b nothing of the kind")
    with Screen(work, "--software", "--font", "builtin", "--size", SIZE, trace, f"{work}/bad.pb.gz", profile) as s:
        s.until_title("t.trace - Fiberscope")
        s.keys("ctrl+Tab")
        s.until_title(f"{work}/bad.pb.gz")
        s.keys("ctrl+Tab")
        s.until_title("app")
        s.keys("ctrl+shift+Tab", "Escape")  # what could not be opened is closed
        s.until_title("app")
        s.keys("ctrl+F4")
        s.until_title("t.trace")
        s.shows(picture(work, "--size", SIZE, trace))
        s.keys("ctrl+F4")
        s.until_title("Fiberscope")
        s.keys("ctrl+o")
        s.do("type", "p.txt")
        s.keys("Return")
        s.until_title("app")
        s.shows(picture(work, "--size", SIZE, profile))


class Slow(http.server.BaseHTTPRequestHandler):
    """Gives half, and the rest when told to."""
    body, rest, chunked = b"", threading.Event(), False

    def do_GET(self):  # noqa: N802 (http.server's name)
        half = len(self.body) // 2
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        if self.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        for part in (self.body[:half], self.body[half:]):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if self.chunked else part)
            self.wfile.flush()
            self.rest.wait(20)
        if self.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


def an_address_opens_while_the_window_lives(work):
    trace, _ = files(work)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/debug/pprof/trace?seconds=1"
    with open(trace, "rb") as f:
        Slow.body = f.read()
    try:
        for Slow.chunked in (False, True):
            Slow.rest.clear()
            with Screen(work, "--software", "--font", "builtin", "--size", SIZE, url, trace) as s:
                s.keys("ctrl+Tab")
                s.until_title("t.trace")  # the other one is there meanwhile
                s.keys("ctrl+Tab", "question", "question")
                assert "http://" in s.title(), s.title()
                Slow.rest.set()
                want = picture(work, "--size", SIZE, trace)
                s.keys("ctrl+Tab", "ctrl+F4")
                # All but the title's text is the picture of the file.
                s.shows(want, share=0.01)
                Slow.rest.clear()
        done = subprocess.run([FIBERSCOPE, "view", "--text", "-", url.replace("/debug", ":x/debug")],
                              capture_output=True, text=True, timeout=20)
        assert done.returncode == 1 and "http" in done.stderr, done
    finally:
        Slow.rest.set()
        server.shutdown()
        server.server_close()


def reading_can_be_cancelled(work):
    files(work)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Slow.rest.clear()
    Slow.body, Slow.chunked = b"x" * 100000, False
    try:
        with Screen(work, "--software", "--font", "builtin", f"http://127.0.0.1:{server.server_port}/p") as s:
            s.until_title("http://")
            s.keys("Escape")
            s.until_title("Fiberscope")
            s.do("key", "ctrl+q")
            assert s.viewer.wait(10) == 0
    finally:
        Slow.rest.set()
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main([it_shows_the_picture_and_obeys_keys, a_drag_is_from_what_was_seen, the_screens_driver_shows_the_same, it_sleeps_while_nothing_changes,
          it_takes_any_size, several_files_have_tabs_and_some_cannot_be_opened,
          an_address_opens_while_the_window_lives, reading_can_be_cancelled])
