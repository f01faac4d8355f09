# SPDX-License-Identifier: MIT
"""A terminal for tests: a program under a pty, and the screen that it draws.

Knows the sequences that cli/screen.c and cli/top_draw.c write, and raises at any other: what is not understood here
is not drawn by chance.
"""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")


class Screen:
    """What is on it: `lines`, each cell with its attributes; which of the two screens; the modes."""

    def __init__(self, rows, columns):
        self.modes = {"?1049": False, "?25": True, "?7": True}
        self.resize(rows, columns)
        self.main = []  # what was printed on the first screen, as text
        self.shown = []  # the same, and what its attributes were
        self.rest = ""

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.cells = [[(" ", "")] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.attributes = ""

    def feed(self, text):
        text = self.rest + text
        self.rest, at = "", 0
        while at < len(text):
            if text[at] == "\x1b":
                found = SEQUENCE.match(text, at)
                if not found:
                    assert len(text) - at < 16, f"unknown sequence {text[at:at + 16]!r}"
                    self.rest = text[at:]
                    return
                self.sequence(*found.groups())
                at = found.end()
            else:
                self.character(text[at])
                at += 1

    def sequence(self, numbers, letter):
        if letter in "hl":
            assert numbers in self.modes, numbers
            self.modes[numbers] = letter == "h"
            if numbers == "?1049" and letter == "h":
                self.resize(self.rows, self.columns)
        elif letter == "m":
            kept = "" if numbers in ("", "0") or numbers.startswith("0;") else self.attributes + ";"
            self.attributes = (kept + numbers).replace("0;", "").strip(";0")
        elif letter == "H":
            assert numbers == "", numbers
            self.row = self.column = 0
        elif letter == "K":
            self.cells[self.row][self.column:] = [(" ", "")] * (self.columns - self.column)
        elif letter == "J":
            assert numbers in ("", "2"), numbers
            first = 0 if numbers else self.row + 1
            if not numbers:
                self.sequence("", "K")
            for row in range(first, self.rows):
                self.cells[row] = [(" ", "")] * self.columns
        else:
            raise AssertionError(f"unknown sequence {numbers}{letter}")

    def character(self, c):
        if not self.modes["?1049"]:
            self.main.append(c)
            self.shown.append((c, self.attributes))
        elif c == "\r":
            self.column = 0
        elif c == "\n":
            assert self.row + 1 < self.rows, "the screen would scroll"
            self.row += 1
        else:
            assert ord(c) >= 32, f"control character {c!r} on the screen"
            # Without ?7 what is too much stays at the margin.
            assert self.column < self.columns or not self.modes["?7"]
            self.cells[self.row][min(self.column, self.columns - 1)] = (c, self.attributes)
            self.column += 1

    @property
    def lines(self):
        return ["".join(c for c, _ in row).rstrip() for row in self.cells]

    def with_attribute(self, number):
        """The text, in order, of what is shown so."""
        return "".join(c for row in self.cells for c, a in row if str(number) in a.split(";"))


class Terminal:
    """A command in a session of its own, on a terminal of its own."""

    def __init__(self, command, rows=24, columns=80, **env):
        self.screen = Screen(rows, columns)
        self.master, slave = pty.openpty()
        self.slave = slave  # kept: its modes are looked at afterwards
        self.size(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.decode = codecs.getincrementaldecoder("utf-8")()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm-256color", **env})
        self.pid = self.process.pid

    def size(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        self.screen.resize(rows, columns)
        self.size(rows, columns)  # the kernel sends SIGWINCH to the foreground group

    def pump(self, seconds):
        """Takes what is drawn for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            if not ready:
                return
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            self.screen.feed(self.decode.decode(data))

    def until(self, condition, what, seconds=20):
        """Until condition(screen) holds."""
        end = time.monotonic() + seconds
        while not condition(self.screen):
            assert time.monotonic() < end, f"not seen: {what}\n" + "\n".join(self.screen.lines) + \
                "".join(self.screen.main)[-2000:]
            self.pump(0.1)

    def has(self, text, seconds=20):
        self.until(lambda s: any(text in line for line in s.lines), text, seconds)

    def type(self, text):
        os.write(self.master, text.encode())

    def wait(self, seconds=20):
        """Its exit status, once it has ended; what it drew until then is on the screen."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, "still running:\n" + "\n".join(self.screen.lines)
            self.pump(0.05)
        self.pump(0.2)
        return self.process.returncode

    def is_restored(self):
        """Modes as before, the first screen, a cursor."""
        assert termios.tcgetattr(self.slave) == self.before, "the terminal's modes have changed"
        assert self.screen.modes == {"?1049": False, "?25": True, "?7": True}, self.screen.modes
        assert self.screen.attributes == "", self.screen.attributes
        return True

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)
