#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`fiberscope top -p` shows what its target does by construction (60 : 30 : 10), its keys do what the help says, and the
terminal is as it was before however it ends."""

import os
import re
import signal
import subprocess
import termios
import time

import harness
import pprofwrite
from vt import Terminal

TARGET = os.path.join(harness.TESTS, "top_target")
AGENT = os.path.join(harness.BUILD, "agent", "libfiberscope.so")
ROW = re.compile(r"\s*(\S+)\s+([0-9.e-]+)%\s+(\S+)\s+([0-9.e-]+)%\s+(\S+)\s+([0-9.e-]+)%\s+(\S+)\s+([0-9.e-]+)%  (\S+)")
ALL_ROWS = ("-n", 1000)  # of a busy machine's kernel there are so many that `work` would not be among the first
COLUMNS = ("flat", "flat%", "cum", "cum%", "all flat", "all flat%", "all cum", "all cum%")


class Target:
    def __init__(self, *what, agent=False):
        env = {**os.environ, "LD_PRELOAD": AGENT} if agent else None
        self.process = subprocess.Popen([TARGET, *what], env=env, stdout=subprocess.PIPE)
        self.process.stdout.readline()
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def top(*options, status=0, **more):
    done = subprocess.run([harness.FIBERSCOPE, "top", *map(str, options)], text=True, timeout=60,
                          capture_output=True, **more)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def tables(text):
    """Each as {function: {column: text}}."""
    all_of_them = []
    for part in text.strip("\n").split("\n\n"):
        rows = {}
        for line in part.split("\n")[4:]:
            found = ROW.fullmatch(line)
            assert found, line
            rows[found[9]] = dict(zip(COLUMNS, found.groups()))
        all_of_them.append(rows)
    return all_of_them


def share(table, function, column="flat%"):
    return float(table[function][column]) if function in table else 0.0


def records(pid):
    done = subprocess.run([harness.FIBERSCOPE, "ps"], text=True, capture_output=True, check=True)
    line = [each for each in done.stdout.splitlines() if each.split()[0] == str(pid)]
    return line[0] if line else ""


# --- Lines.

def expect_split(table, tolerance, suffix=""):
    for column in ("flat%", "all flat%"):
        for function, want in (("heavy", 60), ("middle", 30), ("light", 10)):
            harness.close(share(table, function + suffix, column), want, tolerance,
                          f"{column} of {function}{suffix}")


def split_from_outside():
    with Target("cpu") as t:
        seen = tables(top("-p", t.pid, "-interval", "4s", "-count", 2, "-F", 499, *ALL_ROWS, "-hide",
                          "clock|spin|softirq").stdout)
        assert len(seen) == 2
        for table in seen:
            expect_split(table, 5)
            harness.close(share(table, "work", "cum%"), 100, 3, "cum% of work")


def split_by_the_agent():
    with Target("cpu", agent=True) as t:
        done = top("-p", t.pid, "-interval", "4s", "-count", 1, "-F", 499, *ALL_ROWS, "-hide", "clock")
        expect_split(tables(done.stdout)[0], 5)
        assert "by the agent" in done.stdout.splitlines()[0], done.stdout
        assert "idle" in records(t.pid), records(t.pid)


def window_and_total_differ():
    with Target("phases") as t:
        seen = tables(top("-p", t.pid, "-interval", "1s", "-count", 8, *ALL_ROWS).stdout)
        assert share(seen[0], "heavy", "flat%") > 90, seen[0]
        # On a busy machine the 2 s of CPU time take longer; by 7 s the first phase is over.
        last = seen[-1]
        assert share(last, "light") > 90 and share(last, "heavy") == 0, last
        assert share(last, "heavy", "all flat%") > 15, last
        assert list(last)[0] == "light", list(last)


def waits_of_locks():
    with Target("block", agent=True) as t:
        seen = tables(top("-p", t.pid, "-kind", "block", "-interval", "3s", "-count", 2).stdout)
        expect_split(seen[1], 4, "_wait")
        seen = tables(top("-p", t.pid, "-kind", "mutex", "-interval", "1s", "-count", 1).stdout)
        assert share(seen[0], "hold") > 95, seen[0]
        assert "idle" in records(t.pid), f"left switched on: {records(t.pid)}"


def heap_in_use():
    with Target("heap", agent=True) as t:
        done = top("-p", t.pid, "-kind", "heap", "-interval", "2s", "-count", 2)
        assert "inuse_space" in done.stdout, done.stdout
        assert share(tables(done.stdout)[1], "heavy_alloc", "all flat%") > 90, done.stdout
        done = top("-p", t.pid, "-kind", "heap", "-interval", "3s", "-count", 1,
                   "-sample_index=alloc_space")
        allocated = share(tables(done.stdout)[0], "heavy_alloc")
        harness.close(allocated, 60, 15, "sampled alloc_space of heavy_alloc")


def wall_counts_waiting():
    with Target("block", agent=True) as t:
        seen = tables(top("-p", t.pid, "-kind", "wall", "-interval", "3s", "-count", 1, "-focus",
                          "run_block").stdout)[0]
        harness.close(share(seen, "heavy_wait", "cum%"), 30, 4, "cum% of heavy_wait, half of all")


def threads_without_fibers():
    with Target("block") as t:
        seen = tables(top("-p", t.pid, "-kind", "fibers", "-interval", "500ms", "-count", 1,
                          "-granularity=functions").stdout)[0]
        assert seen["hold"]["all cum"] == "1" and seen["main"]["all cum"] == "1", seen


def focus_and_order():
    with Target("cpu") as t:
        done = top("-p", t.pid, "-interval", "1s", "-count", 1, "-focus", "middle", "-cum")
        table = tables(done.stdout)[0]
        assert "heavy" not in table and "middle" in table, table
        cums = [float(row["cum%"]) for row in table.values()]
        assert cums == sorted(cums, reverse=True), cums
        rows = tables(top("-p", t.pid, "-interval", "1s", "-count", 1, "-n", 3).stdout)[0]
        assert len(rows) == 3, rows


def target_ends():
    with Target("cpu", "2") as t:
        done = top("-p", t.pid, "-interval", "1s")
        assert "has ended" in done.stderr, done.stderr
        assert tables(done.stdout), done.stdout


def errors():
    with Target("cpu") as t:
        for options, status, want in (
                (("-p", 0), 1, "no process 0"),
                (("-p", 4194304), 1, "no process 4194304"),
                (("-p", "x"), 2, "`pgrep -l x`"),
                (("-p", "-1"), 2, "not a whole number"),
                (("-p", t.pid, "p.pb.gz"), 2, "exclude each other"),
                ((4194304,), 2, "watched by -p 4194304"),
                (("-p", t.pid, "-json"), 2, "for files"),
                (("-p", t.pid, "-d", "3s"), 2, "--interval=3s is the time between two tables"),
                (("-p", t.pid, "-interval", "1ms"), 2, "100ms at least"),
                (("-p", t.pid, "-kind", "heap"), 1, "has no agent"),
                (("-p", t.pid, "-kind", "wall"), 1, "from outside"),
                (("-p", t.pid, "-method", "agent"), 1, "has no agent"),
                (("-p", t.pid, "-focus", "("), 1, "focus"),
                (("-p", t.pid, "-sample_index", "x"), 1, "sample")):
            done = top(*options, "-count", 1, status=status)
            assert want in done.stderr, (options, done.stderr)
        if os.geteuid() == 0:
            done = subprocess.run([*harness.NOBODY, harness.FIBERSCOPE, "top", "-p", str(t.pid)],
                                  capture_output=True, text=True, timeout=20, check=False)
            assert done.returncode == 1 and "belongs to user 0" in done.stderr, done.stderr


def closed_pipe_switches_off():
    with Target("block", agent=True) as t:
        done = subprocess.run(f"{harness.FIBERSCOPE} top -p {t.pid} -kind block -interval 300ms | head -1",
                              shell=True, capture_output=True, text=True, timeout=20, check=False)
        assert f"({t.pid})" in done.stdout, done
        assert "idle" in records(t.pid), f"left switched on: {records(t.pid)}"


# --- The terminal.

class Watch:
    """A target, and top on a terminal that shows it."""

    def __init__(self, *what, agent=False, options=(), rows=24, columns=110):
        self.target = Target(*what, agent=agent)
        self.terminal = Terminal([harness.FIBERSCOPE, "top", "-p", str(self.target.pid),
                                  "-interval", "500ms", *options], rows, columns)

    def __enter__(self):
        return self.target, self.terminal

    def __exit__(self, *_):
        self.terminal.close()
        self.target.__exit__()


def names(screen):
    """The functions, from the top."""
    return [line.split()[-1] for line in screen.lines[4:-1] if "%" in line]


def sort_keys():
    with Watch("cpu") as (_, term):
        term.until(lambda s: names(s)[:1] == ["heavy"], "heavy on top")
        assert term.screen.with_attribute(7) == "flat", term.screen.with_attribute(7)
        term.type("c")
        term.until(lambda s: s.with_attribute(7) == "cum" and "work" in names(s) and
                   "heavy" not in names(s)[:names(s).index("work")], "the order of cum")
        term.type("n")
        term.until(lambda s: s.with_attribute(7) == "function" and names(s) == sorted(names(s)), "the order of names")
        term.type("F")
        term.until(lambda s: names(s)[:1] == ["heavy"], "heavy on top")
        marked = [[a for _, a in row] for row in term.screen.cells][3]
        assert marked.index(next(a for a in marked if "7" in a.split(";"))) > 33, "the second flat"
        term.type("q")
        assert term.wait() == 0 and term.is_restored()


def focus_key():
    with Watch("cpu") as (_, term):
        term.has("heavy")
        term.type("/midx\x7fdle")
        term.has("focus: /middle")
        assert "heavy" in names(term.screen), "not yet"
        term.type("\r")
        term.until(lambda s: "middle" in names(s) and "heavy" not in names(s), "middle alone")
        assert "focus: middle" in term.screen.lines[1], term.screen.lines[1]
        term.type("/\x15(\r")  # Ctrl-U; not an expression
        term.has("missing")
        term.type("/\x15zzz\x1b")  # Escape: as before, which is in error
        term.pump(0.3)
        term.type("/\x15\r")
        term.until(lambda s: "heavy" in names(s), "all again")
        term.type("q")
        assert term.wait() == 0 and term.is_restored()


def kind_keys():
    with Watch("block", agent=True) as (target, term):
        term.has("cpu 99 Hz, by the agent")
        term.type("4")
        term.until(lambda s: "  block" in s.lines[0] and names(s)[:1] == ["heavy_wait"], "block")
        assert "block" in records(target.pid), records(target.pid)
        term.type("\t")
        term.until(lambda s: "  mutex" in s.lines[0] and names(s)[:1] == ["hold"], "mutex")
        assert " mutex " in records(target.pid) and "block" not in records(target.pid)
        term.type("2")
        term.until(lambda s: "  wall" in s.lines[0] and "heavy_wait" in names(s), "wall")
        term.type("6")
        term.until(lambda s: "  fibers" in s.lines[0] and "hold" in names(s), "fibers")
        term.type("3")
        term.until(lambda s: "  heap" in s.lines[0] and "inuse_space" in s.lines[1], "heap")
        term.type("1")
        term.until(lambda s: "  cpu" in s.lines[0] and "in the last" in s.lines[1], "cpu")
        term.type("q")
        assert term.wait() == 0 and term.is_restored()
        seen = records(target.pid)  # the heap's rate stays where it was recorded once (docs/agent.md)
        assert not re.search("cpu|wall|block|mutex", seen), seen


def kind_without_agent_says_why():
    with Watch("cpu") as (_, term):
        term.has("heavy")
        term.type("3")
        term.has("no agent")
        term.type("1")
        term.until(lambda s: "heavy" in names(s), "cpu again")
        term.type("q")
        assert term.wait() == 0 and term.is_restored()


def pause_and_help():
    with Watch("cpu") as (_, term):
        term.has("heavy")
        term.type("p")
        term.has("PAUSED")
        before = term.screen.lines
        term.pump(1.5)
        assert term.screen.lines == before, "it has moved"
        term.type("p")
        term.until(lambda s: s.lines != before and "PAUSED" not in s.lines[0], "going on")
        term.type("?")
        term.has("sort by flat")
        assert "heavy" not in names(term.screen)
        term.type("x")
        term.until(lambda s: "heavy" in names(s), "the table again")
        term.type("q")
        assert term.wait() == 0 and term.is_restored()


def scrolling_and_sizes():
    with Watch("cpu", rows=9) as (_, term):
        term.until(lambda s: len(names(s)) == 4, "four rows")
        term.type("pn")  # paused, in the order of names
        term.until(lambda s: s.with_attribute(7) == "function", "the order of names")
        first = names(term.screen)
        term.type("\x1b[B")
        term.until(lambda s: names(s)[:3] == first[1:], "one row down")
        term.type("\x1b[A\x1b[6~")
        term.until(lambda s: names(s)[-1] not in first, "a page down, or what there is")
        term.type("\x1bOH")
        term.until(lambda s: names(s) == first, "the top")
        for rows, columns in ((40, 160), (6, 50), (5, 30), (2, 10), (1, 1), (70, 80)):
            term.resize(rows, columns)
            term.until(lambda s: any(line for line in s.lines), f"{rows} x {columns}")
            term.pump(0.2)
        term.until(lambda s: "work" in names(s), "all rows, the kernel's too")
        assert "in all" in term.screen.lines[2]
        term.type("q")
        assert term.wait() == 0 and term.is_restored()


def ends_with_the_terminal_restored():
    for signo, want in ((signal.SIGINT, 0), (signal.SIGQUIT, 0), (signal.SIGTERM, -signal.SIGTERM),
                        (signal.SIGHUP, -signal.SIGHUP), (signal.SIGSEGV, -signal.SIGSEGV),
                        (signal.SIGABRT, -signal.SIGABRT)):
        with Watch("block", agent=True, options=["-kind", "block"]) as (target, term):
            term.has("heavy_wait")
            os.kill(term.pid, signo)
            assert term.wait() == want, (signo, term.process.returncode)
            assert term.is_restored()
            if signo not in (signal.SIGSEGV, signal.SIGABRT):
                assert "idle" in records(target.pid), (signo, records(target.pid))
    with Watch("cpu") as (_, term):
        term.has("heavy")
        term.type("\x03")  # Ctrl-C, by the terminal
        assert term.wait() == 0 and term.is_restored()


def target_crashes():
    for agent in (False, True):
        with Watch("cpu", agent=agent) as (target, term):
            term.has("heavy")
            os.kill(target.pid, signal.SIGSEGV)
            target.process.wait()
            assert term.wait() == 0 and term.is_restored()
            said = "".join(term.screen.main)
            assert f"process {target.pid} (top_target) has ended" in said, said
            assert "heavy" in said, f"the last table stays: {said}"


def hangup():
    with Watch("block", agent=True, options=["-kind", "block"]) as (target, term):
        term.has("heavy_wait")
        os.close(term.slave)
        os.close(term.master)
        assert term.process.wait(timeout=20) == -signal.SIGHUP
        assert "idle" in records(target.pid), records(target.pid)
        term.master, term.slave = os.open("/dev/null", 0), os.open("/dev/null", 0)


def stops_and_goes_on():
    with Target("cpu") as target:
        script = (f"{harness.FIBERSCOPE} top -p {target.pid} -interval 500ms; echo stopped $?; "
                  "read -r line; fg >/dev/null; echo ended $?")
        term = Terminal(["bash", "--norc", "-m", "-c", script], 24, 110)
        try:
            term.has("heavy")
            raw = termios.tcgetattr(term.slave)
            assert raw != term.before
            term.type("\x1a")
            term.until(lambda s: "stopped 148" in "".join(s.main), "stopped")
            assert term.is_restored()
            term.type("\n")
            term.until(lambda s: s.modes["?1049"] and "heavy" in names(s), "drawn anew")
            assert termios.tcgetattr(term.slave) == raw, "not raw again"
            term.type("q")
            term.until(lambda s: "ended 0" in "".join(s.main), "ended")
            term.wait()
            assert term.is_restored()
        finally:
            term.close()


def no_terminal_to_draw_on():
    with Target("cpu") as target:
        term = Terminal([harness.FIBERSCOPE, "top", "-p", str(target.pid), "-interval", "300ms"],
                        TERM="dumb")
        try:
            term.until(lambda s: "heavy" in "".join(s.main), "lines")
            assert not term.screen.modes["?1049"]
            term.type("\x03")
            assert term.wait() == 0
        finally:
            term.close()


# As xterm has them, 30 to 37; others are brighter.
PALETTE = {"30": (0, 0, 0), "31": (205, 0, 0), "32": (0, 205, 0), "33": (205, 205, 0), "34": (0, 0, 238), "35": (205, 0, 205),
           "36": (0, 205, 205), "37": (229, 229, 229)}


def contrast(a, b):
    """Of two colours, as WCAG 2 has it: 1 to 21."""
    def luminance(colour):
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def colours_of(cells):
    """{colour: text}; each must stand out on black and on white, which of them the terminal has we do not know."""
    found = {}
    for c, attributes in cells:
        for a in attributes.split(";"):
            assert not re.fullmatch(r"[34][89]|4[0-7]|9[0-7]|10[0-7]", a), f"a background, or a colour of no palette: {a}"
            if a in PALETTE:
                found[a] = found.get(a, "") + c
    for a in found:
        for ground in ((0, 0, 0), (255, 255, 255)):
            assert contrast(PALETTE[a], ground) >= 3, f"{a} on {ground}: {contrast(PALETTE[a], ground):.1f}"
    return found


def cells_of(screen):
    return [cell for row in screen.cells for cell in row]


def colours_are_legible(work):
    with Watch("cpu") as (_, term):
        term.until(lambda s: names(s)[:1] == ["heavy"], "heavy on top")
        row = next(r for r, line in zip(term.screen.cells, term.screen.lines) if line.endswith(" heavy"))
        assert "%" in colours_of(row)["31"] and set(colours_of(cells_of(term.screen))) == {"31"}
    # Of a difference, what shrank as well.
    old, new = f"{work}/old.pb.gz", f"{work}/new.pb.gz"
    for path, grew, shrank, slightly in ((old, 10, 80, 60), (new, 80, 10, 54)):
        pprofwrite.write(path, pprofwrite.CPU, [(("main", n), (v, v), {}) for n, v in
                                                (("grew", grew), ("shrank", shrank), ("slightly", slightly))])
    for env, want in (({}, {"31", "35"}), ({"NO_COLOR": "1"}, set()), ({"NO_COLOR": ""}, {"31", "35"}), ({"TERM": "dumb"}, set())):
        term = Terminal([harness.FIBERSCOPE, "top", "-diff_base", old, new], **env)
        try:
            assert term.wait() == 0
            found = colours_of(term.screen.shown)
            assert set(found) == want, (env, found)
            assert not want or (" 70ns" in found["31"] and "-70ns" in found["35"] and "-6ns" in found["35"]), found
        finally:
            term.close()


def without_colour_by_wish():
    with Target("cpu") as target:
        term = Terminal([harness.FIBERSCOPE, "top", "-p", str(target.pid), "-interval", "300ms"], NO_COLOR="1")
        try:
            term.until(lambda s: names(s)[:1] == ["heavy"], "heavy on top")
            assert not colours_of(cells_of(term.screen))
            assert term.screen.with_attribute(7) == "flat", "the order is still marked"
        finally:
            term.close()


if __name__ == "__main__":
    harness.main([window_and_total_differ, split_from_outside, split_by_the_agent, waits_of_locks,
                  heap_in_use, wall_counts_waiting, threads_without_fibers, focus_and_order,
                  target_ends, errors, closed_pipe_switches_off, sort_keys, focus_key, kind_keys,
                  kind_without_agent_says_why, pause_and_help, scrolling_and_sizes,
                  ends_with_the_terminal_restored, target_crashes, hangup, stops_and_goes_on,
                  no_terminal_to_draw_on, colours_are_legible, without_colour_by_wish],
                 at_once=2)  # a target and its watcher are one thread each
