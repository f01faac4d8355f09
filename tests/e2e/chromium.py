# SPDX-License-Identifier: MIT
"""A headless Chromium, driven through the DevTools protocol over a pipe: real mouse and key events,
emulated colour schemes and window sizes, pictures. Nothing but the standard library."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]
KEYS = {"Escape": 27, "Enter": 13, "Backspace": 8, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
        "ArrowDown": 40}


class Chromium:
    def __init__(self, timeout=30):
        self.timeout, self.number, self.session, self.events, self.rest = timeout, 0, None, [], b""
        self.dir = tempfile.mkdtemp(prefix="fiberscope-chromium-")
        their_in, self.out = os.pipe()
        self.inp, their_out = os.pipe()

        def as_3_and_4():  # where it looks for them; high first, that neither is overwritten
            high_in, high_out = os.dup2(their_in, 103), os.dup2(their_out, 104)
            os.dup2(high_in, 3)
            os.dup2(high_out, 4)

        self.process = subprocess.Popen(
            [PROGRAM, *FLAGS, "--user-data-dir=" + self.dir, "--remote-debugging-pipe"],
            preexec_fn=as_3_and_4, close_fds=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(their_in)
        os.close(their_out)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(timeout=10)
        except (OSError, AssertionError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.inp)
        os.close(self.out)
        shutil.rmtree(self.dir, ignore_errors=True)

    def read(self, until):
        while b"\0" not in self.rest:
            left = until - time.monotonic()
            answers = left > 0 and select.select([self.inp], [], [], left)[0]
            assert answers, "chromium does not answer"
            piece = os.read(self.inp, 1 << 20)
            assert piece, "chromium has ended"
            self.rest += piece
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + self.timeout
        while True:
            answer = self.read(until)
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer.get('error')}"
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, event):
        until = time.monotonic() + self.timeout
        while not any(e.get("method") == event for e in self.events):
            self.events.append(self.read(until))

    def open(self, path, fragment=""):
        self.events = []
        self.call("Page.navigate", url="about:blank")  # a new fragment alone would not load anew
        self.wait_for("Page.loadEventFired")
        self.events = []
        self.call("Page.navigate", url="file://" + path + fragment)
        self.wait_for("Page.loadEventFired")

    def errors(self):
        """What scripts threw since open()."""
        return [e["params"]["exceptionDetails"]["text"] for e in self.events
                if e.get("method") == "Runtime.exceptionThrown"]

    def window(self, width, height, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def js(self, expression):
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type="mouse" + kind, x=x, y=y, **more)

    def move(self, x, y):
        self.mouse("Moved", x, y)

    def click(self, x, y):
        self.move(x, y)
        for kind in ("Pressed", "Released"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def key(self, key):
        more = {"key": key, "windowsVirtualKeyCode": KEYS.get(key) or ord(key.upper())}
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        down = "keyDown" if text else "rawKeyDown"
        self.call("Input.dispatchKeyEvent", type=down, **more, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    def type(self, text):
        for c in text:
            self.key(c)

    def picture(self, path):
        done = self.call("Page.captureScreenshot", format="png")
        with open(path, "wb") as f:
            f.write(base64.b64decode(done["data"]))
