#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is installed works from where it lies: the command, pkg-config, find_package, C and C++, and the fiber runtime,
shared and static, with its examples and the README's."""

import configparser
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from xml.etree import ElementTree

BUILD = os.environ["FSCOPE_BUILD"]
SOURCE = os.environ["FSCOPE_SOURCE"]
PROGRAM = """
#include <fiberscope/profile.h>
#include <stdio.h>
int main(void)
{
    volatile unsigned long x = 1;
    for (long i = 0; i < 300000000; i++)
        x = x * 3 + 1;
    puts("done");
    return 0;
}
"""
LISTS = """
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES C CXX)
find_package(Fiberscope REQUIRED)
add_executable(user_c main.c)
add_executable(user_cxx main.cc)
target_link_libraries(user_c PRIVATE Fiberscope::fiberscope)
target_link_libraries(user_cxx PRIVATE Fiberscope::fiberscope)
"""


def run(argv, **kw):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **kw)
    if done.returncode:
        sys.exit(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def readme_example():
    """The indented block of the README that starts fibers: about ten lines, no more."""
    with open(os.path.join(SOURCE, "README.md"), encoding="utf-8") as f:
        blocks = re.findall(r"(?:^(?:    .*)?\n)+", f.read(), re.M)
    example, = [b for b in blocks if "#include <fiberscope/chan.h>" in b]
    lines = [line[4:] for line in example.splitlines() if line]
    assert len(lines) <= 12, f"the README's example has {len(lines)} lines"
    return "\n".join(lines) + "\n"


def fibers(env, tmp, libs):
    """Programs on the installed runtime, by what pkg-config says of it."""
    flags = run(["pkg-config", "--cflags", "--libs", "fiberscope-rt"], env=env).split()
    sqlite = run(["pkg-config", "--cflags", "--libs", "--static", "sqlite3"]).split()
    folders = ["contention", "deadlock", "forensics", "leak", "pipeline", "shorten", "skynet"]
    work = os.path.join(tmp, "fibers")
    readme = os.path.join(work, "readme.cc")
    for way, more, at_run in (("shared", [], dict(env, LD_LIBRARY_PATH=libs)),
                              ("static", ["-static"], env)):
        os.makedirs(os.path.join(work, way))
        for name in folders:
            sources = [s for s in glob.glob(os.path.join(SOURCE, "examples", name, "*.c"))
                       if not s.endswith("/load.c")]
            run(["cc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-o", os.path.join(work, way, name)] + more +
                sources + flags + (sqlite if name == "shorten" else []))
        with open(readme, "w", encoding="utf-8") as f:
            f.write(readme_example())
        program = os.path.join(work, way, "readme")
        run(["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-o", program] + more + [readme] + flags)
        assert run([program], env=at_run) == "42\n" * 4
        out = run([os.path.join(work, way, "skynet"), "10000"], env=at_run)
        assert "49995000" in out, out
        needed = run(["readelf", "-d", program])
        assert ("libfiberscope-rt.so" in needed) == (way == "shared"), needed


def desktop(prefix):
    """The starter and the file types: what desktop-file-validate and a menu look for. Only where the viewer is built."""
    share = os.path.join(prefix, "share")
    path = os.path.join(share, "applications", "fiberscope-view.desktop")
    if not os.path.exists(os.path.join(prefix, "bin", "fiberscope-view")):
        assert not os.path.exists(path), "a starter of nothing"
        return
    if shutil.which("desktop-file-validate"):
        run(["desktop-file-validate", path])
    entry = configparser.ConfigParser(interpolation=None)
    entry.optionxform = str
    entry.read(path, encoding="utf-8")
    entry = entry["Desktop Entry"]
    assert entry["Type"] == "Application" and entry["Name"] and entry["Terminal"] == "false", dict(entry)
    program, field = entry["Exec"].split()
    assert os.access(os.path.join(prefix, "bin", program), os.X_OK) and field == "%U", entry["Exec"]
    icon = os.path.join(share, "icons", "hicolor", "scalable", "apps", entry["Icon"] + ".svg")
    assert ElementTree.parse(icon).getroot().tag == "{http://www.w3.org/2000/svg}svg", icon
    for key in ("Categories", "MimeType", "Keywords"):
        assert entry[key].endswith(";"), f"{key} is a list"
    space = "{http://www.freedesktop.org/standards/shared-mime-info}"
    root = ElementTree.parse(os.path.join(share, "mime", "packages", "fiberscope-view.xml")).getroot()
    assert root.tag == space + "mime-info", root.tag
    types = {t.get("type"): t for t in root.findall(space + "mime-type")}
    assert set(types) == set(entry["MimeType"].strip(";").split(";")), (set(types), entry["MimeType"])
    for name, kind in types.items():
        assert kind.find(space + "comment").text and kind.find(space + "glob") is not None, name
        assert kind.find(space + "icon").get("name") == entry["Icon"], name
    # What our own recording begins with, and how its file is named.
    with open(os.path.join(SOURCE, "tests", "e2e", "data", "shorten.trace"), "rb") as f:
        magic = types["application/vnd.fiberscope.trace"].find(f"{space}magic/{space}match")
        assert f.read(16).startswith(magic.get("value").encode()) and magic.get("offset") == "0"


def main():
    if os.environ.get("FSCOPE_SANITIZE"):
        print("SKIP: a sanitized agent cannot be preloaded into a plain program")
        return 77
    with tempfile.TemporaryDirectory() as tmp:
        prefix, source = os.path.join(tmp, "prefix"), os.path.join(tmp, "source")
        run(["cmake", "--install", BUILD, "--prefix", prefix])
        os.mkdir(source)
        for name, text in (("main.c", PROGRAM), ("main.cc", PROGRAM), ("CMakeLists.txt", LISTS)):
            with open(os.path.join(source, name), "w", encoding="utf-8") as f:
                f.write(text)
        for wanted in ("bin/fiberscope", "share/man/man1/fiberscope.1",
                       "share/bash-completion/completions/fiberscope",
                       "share/man/man3/libfiberscope.3", "include/fiberscope/profile.h",
                       "share/man/man3/fib_fiber.3", "share/man/man3/fscope_trace.3", "share/man/man7/fiberscope-runtime.7",
                       "share/fiberscope/fiberscope_gdb.py"):
            assert os.path.exists(os.path.join(prefix, wanted)), f"{wanted} was not installed"
        desktop(prefix)
        run(["cmake", "-S", source, "-B", os.path.join(tmp, "b"), f"-DCMAKE_PREFIX_PATH={prefix}"])
        run(["cmake", "--build", os.path.join(tmp, "b")])
        assert "done" in run([os.path.join(tmp, "b", "user_c")])
        assert "done" in run([os.path.join(tmp, "b", "user_cxx")])

        examples = os.path.join(SOURCE, "examples", "budgets")
        built = os.path.join(tmp, "e")
        run(["cmake", "-S", examples, "-B", built, f"-DCMAKE_PREFIX_PATH={prefix}"])
        run(["cmake", "--build", built])
        assert "100% tests passed" in run(["ctest", "--test-dir", built])
        # Over a budget: the stack goes through the library under test, which is nobody's but the system's.
        wrong = subprocess.run([os.path.join(built, "budgets_plain"), "violate"],
                               capture_output=True, text=True, check=False)
        assert wrong.returncode == -signal.SIGABRT and "(libjson-c.so." in wrong.stderr, wrong
        assert "violate+0x" in wrong.stderr, wrong  # as in the example's README
        wrong = subprocess.run([os.path.join(built, "budgets_googlebenchmark"), "violate",
                                "--benchmark_min_time=0.01"], capture_output=True, check=False)
        assert wrong.returncode == 1, wrong

        pc = subprocess.run(["find", prefix, "-name", "fiberscope.pc"], capture_output=True,
                            text=True, check=True).stdout.split()[0]
        env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc))
        flags = run(["pkg-config", "--cflags", "--libs", "fiberscope"], env=env).split()
        binary = os.path.join(tmp, "by_pc")
        run(["cc", "-o", binary, os.path.join(source, "main.c")] + flags)

        fibers(env, tmp, os.path.dirname(os.path.dirname(pc)))

        shutil.rmtree(os.path.join(tmp, "b"))
        profile = os.path.join(tmp, "p.pb.gz")
        run([os.path.join(prefix, "bin/fiberscope"), "record", "-F", "500", "-o", profile, binary],
            env=dict(env, LD_LIBRARY_PATH=os.path.dirname(os.path.dirname(pc))))
        table = run([os.path.join(prefix, "bin/fiberscope"), "top", profile])
        assert "main" in table, table
    print("installed: command, pkg-config, find_package and the fiber runtime work")
    return 0


if __name__ == "__main__":
    sys.exit(main())
