# SPDX-License-Identifier: MIT
#
# Go's own trace reader as an oracle. Nobody outside GOROOT may import internal/trace, so a copy of it
# is made into a module of its own for the time of a build, from the Go that is installed.

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
GO = shutil.which("go", path=os.environ["PATH"] + ":/usr/local/go/bin")
PARTS = ["", "raw", "tracev2", "version", "internal/tracev1"]

# Where the order in which Go goes over a map shows: which of two events of one time comes first in a v1
# trace, in which order what was there is told. Each order is as good as another; the copy takes one.
ORDERED = {
    "tracev1.go": "for gid := range it.createdPreInit {",
    "parser.go": "for pid := range p.batchOffsets {",
}


def goroot():
    return subprocess.run([GO, "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()


def testdata():
    """Go's test data: its folder under internal/trace."""
    return os.path.join(goroot(), "src", "internal", "trace")


def ordered(text, loop):
    """A loop over the keys of a map as one over the sorted keys."""
    assert text.count(loop) == 1, loop
    variable, keys = re.match(r"for (\w+) := range ([\w.]+) {", loop).groups()
    text = text.replace(loop, f"for _, {variable} := range slices.Sorted(maps.Keys({keys})) {{")
    return re.sub(r"import \((.*?)\n\)", lambda m: "import (" + "".join(
        f'\n\t"{name}"' for name in ("maps", "slices") if f'"{name}"' not in m[1]) + m[1] + "\n)", text,
        count=1, flags=re.S)


def copy_package(source, to):
    os.makedirs(to, exist_ok=True)
    for name in os.listdir(source):
        if not name.endswith(".go") or name.endswith("_test.go"):
            continue
        with open(os.path.join(source, name), encoding="utf-8") as f:
            text = re.sub(r'"internal/trace(/|")', r'"oracle/trace\1', f.read())
        if name in ORDERED:
            text = ordered(text, ORDERED[name])
        with open(os.path.join(to, name), "w", encoding="utf-8") as f:
            f.write(text)


def tool(name):
    """The program behind `go tool NAME`, which takes its time at each call."""
    subprocess.run([GO, "tool", name, "-h"], check=False, capture_output=True)
    return subprocess.run([GO, "tool", "-n", name], check=True, capture_output=True, text=True).stdout.strip()


def digest(paths):
    """Of all that a program is made of."""
    h = hashlib.sha256(subprocess.run([GO, "version"], check=True, capture_output=True).stdout)
    for path in [os.path.abspath(__file__), *paths]:
        with open(path, "rb") as f:
            h.update(f.read())
    return h.hexdigest()[:16]


def compile_program(sources, to):
    with tempfile.TemporaryDirectory(dir=os.path.dirname(to)) as folder:
        for part in PARTS:
            copy_package(os.path.join(testdata(), part), os.path.join(folder, "trace", part))
        with open(os.path.join(folder, "go.mod"), "w", encoding="utf-8") as f:
            f.write("module oracle\n\ngo 1.26\n")
        os.makedirs(os.path.join(folder, "main"))
        for source in sources:
            shutil.copy(source, os.path.join(folder, "main"))
        made = os.path.join(folder, "made")
        subprocess.run([GO, "build", "-o", made, "./main"], cwd=folder, check=True,
                       env=dict(os.environ, GOFLAGS="-mod=mod", GOTOOLCHAIN="local"))
        os.replace(made, to)


def build(*sources):
    """The program of these Go files, which stand next to this one: its path. It stays in the build folder until
    anything that it is made of changes; tests that want it at one time make it once."""
    sources = [os.path.join(HERE, s) for s in sources]
    folder = os.path.join(os.environ["FSCOPE_BUILD"], "tests", "conformance", "go")
    os.makedirs(folder, exist_ok=True)
    name = os.path.splitext(os.path.basename(sources[0]))[0]
    path = os.path.join(folder, f"{name}.{digest(sources)}")
    with open(os.path.join(folder, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            for old in os.listdir(folder):
                if old.startswith(name + "."):
                    os.unlink(os.path.join(folder, old))
            compile_program(sources, path)
    return path


class Helper:
    """A program that answers lines with "STATUS BYTES" and so many bytes, one after the other."""

    def __init__(self, *command):
        # Small questions, one after the other: without that Go would mostly collect garbage.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=dict(os.environ, GOGC="400"))
        self.lock = threading.Lock()

    def ask(self, *words):
        """(status, bytes)"""
        with self.lock:
            self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
            self.process.stdin.flush()
            head = self.process.stdout.readline().split()
            if len(head) != 2:
                raise AssertionError(f"{self.process.args[0]} has ended, asked for {words}")
            return int(head[0]), self.process.stdout.read(int(head[1]))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=60)


def oracle():
    """Go's reader: the requests are in trace_oracle.go."""
    return Helper(build("trace_oracle.go", "trace_summary_oracle.go", "trace_states.go"))
