# SPDX-License-Identifier: MIT
#
# Go's own trace reader as an oracle. Nobody outside GOROOT may import internal/trace, so a copy of it
# is made into a module of its own for the time of a test, from the Go that is installed.

import os
import re
import shutil
import subprocess

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


def build(folder, *programs):
    """Builds the Go files next to this one, each into a program of its own; their paths."""
    for part in PARTS:
        copy_package(os.path.join(testdata(), part), os.path.join(folder, "trace", part))
    with open(os.path.join(folder, "go.mod"), "w", encoding="utf-8") as f:
        f.write("module oracle\n\ngo 1.26\n")
    paths = []
    for program in programs:
        name = os.path.splitext(os.path.basename(program))[0]
        os.makedirs(os.path.join(folder, name))
        shutil.copy(program, os.path.join(folder, name, "main.go"))
        path = os.path.join(folder, name + ".bin")
        subprocess.run([GO, "build", "-o", path, "./" + name], cwd=folder, check=True,
                       env=dict(os.environ, GOFLAGS="-mod=mod", GOTOOLCHAIN="local"))
        paths.append(path)
    return paths
