# SPDX-License-Identifier: MIT
"""Every place where symbols can be gives the right names: tiny programs are built, stripped and
taken apart here, so that the truth is known by construction."""

import os
import shutil
import subprocess
import sys
import tempfile

PROBE = os.path.join(os.environ["FSCOPE_BUILD"], "tests/conformance/symbols_probe")
SOURCE = r"""
#include <stdlib.h>
#include <string.h>
static inline __attribute__((always_inline)) int inner(int x) {
  __asm__ volatile("nop; nop; nop; nop");
  return x + 1;
}
static inline __attribute__((always_inline)) int middle(int x) { return inner(x) * 2; }
__attribute__((noinline)) static int hidden(int x) {
  return middle(x) + 3;
}
__attribute__((noinline)) int shown(int x) { return hidden(x) + rand(); }
int main(int argc, char **argv) { return shown(argc) + (int)strlen(argv[0]); }
"""
CXX = r"""
#include <cstdio>
namespace space {
template <class T> struct Box {
  T v;
  __attribute__((noinline)) T twice(int) const { __asm__ volatile(""); return v + v; }
};
namespace { __attribute__((noinline)) int secret(int x) { __asm__ volatile(""); return x * 7; } }
int use(int x) { return Box<int>{x}.twice(1) + secret(x); }
}
int main(int argc, char **) {
  struct Local {
    static __attribute__((noinline)) int member(int x) { __asm__ volatile(""); return x - 5; }
  };
  auto lambda = [argc](int y) __attribute__((noinline)) { __asm__ volatile(""); return y * argc; };
  return space::use(argc) + Local::member(argc) + lambda(3);
}
"""
failures = []


def check(what, ok, detail=""):
    if not ok:
        failures.append(what)
        print("FAILED: %s: %s" % (what, detail))


def run(*args, **kw):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, **kw).stdout


def build(name, source=SOURCE, compiler="gcc", flags=("-g",)):
    suffix = ".c" if compiler == "gcc" else ".cc"
    with open(name + suffix, "w", encoding="ascii") as f:
        f.write(source)
    run(compiler, "-O2", "-o", name, name + suffix, *flags)
    return name


def symbols(path):
    return {line.split()[2]: int(line.split()[0], 16)
            for line in run("nm", path, text=True).splitlines() if len(line.split()) == 3}


def probe(path, *addresses, flags=("-S",), dirs=(), env=None):
    """The source of names, and the frames of each address."""
    p = subprocess.run([PROBE, *flags, path, *dirs], text=True, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, input="".join("%x\n" % a for a in addresses),
                       env={**os.environ, **(env or {})}, check=False)
    frames, answers = [], []
    for line in p.stdout.splitlines():
        if line:
            frames.append(line.split("\t"))
        else:
            answers.append(frames)
            frames = []
    return p.stderr.strip(), answers


def whole(what, source, answers, at="full.c"):
    """The address is inside of inner, inlined in middle, inlined in hidden."""
    frames = answers[0] if answers else []
    check(what, source == "dwarf" and [f[0] for f in frames] == ["inner", "middle", "hidden"]
          and [os.path.basename(f[1]).rsplit(":", 1)[0] for f in frames]
          == [at + ":5", at + ":8", at + ":10"] and [f[2] for f in frames] == ["4", "8", "9"],
          (source, answers))


def build_id(path):
    return run("readelf", "-n", path, text=True).split("Build ID: ")[1].split()[0]


def with_debug_info():
    for flags in (["-g"], ["-g", "-gdwarf-4"], ["-g", "-gz"], ["-g", "-no-pie"],
                  ["-g", "-gsplit-dwarf"], ["-g", "-gdwarf-4", "-gsplit-dwarf"], ["-g", "-flto"]):
        build("full", flags=flags)
        s, a = probe("full", symbols("full")["hidden"] + 1)
        whole(" ".join(flags), s, a)
    os.remove("full-full.dwo") if os.path.exists("full-full.dwo") else None


def split_unit_missing():
    build("gone", flags=["-g", "-gsplit-dwarf"])
    for f in os.listdir("."):
        if f.endswith(".dwo"):
            os.remove(f)
    _, a = probe("gone", symbols("gone")["hidden"] + 1)
    check("without its .dwo: symbol and line", a and a[0][0][0] == "hidden"
          and a[0][0][1].startswith(os.getcwd() + "/gone.c:5"), a)


def separate_files():
    build("full")
    at = symbols("full")["hidden"] + 1
    run("objcopy", "--only-keep-debug", "full", "full.debug")
    run("objcopy", "--strip-all", "--add-gnu-debuglink=full.debug", "full", "stripped")
    whole("debuglink beside the file", *probe("stripped", at, dirs=["none"]))
    os.makedirs(".debug", exist_ok=True)
    os.rename("full.debug", ".debug/full.debug")
    whole("debuglink in .debug", *probe("stripped", at, dirs=["none"]))
    os.makedirs("dir" + os.getcwd(), exist_ok=True)
    os.rename(".debug/full.debug", "dir%s/full.debug" % os.getcwd())
    whole("debuglink below a debug directory", *probe(os.path.abspath("stripped"), at,
                                                     dirs=["dir"]))
    s, a = probe("stripped", at, dirs=["none"])
    check("stripped", s == "none" and a == [[]], (s, a))
    ident = build_id("full")
    where = "ids/.build-id/%s/%s.debug" % (ident[:2], ident[2:])
    os.makedirs(os.path.dirname(where), exist_ok=True)
    os.rename("dir%s/full.debug" % os.getcwd(), where)
    whole("build-id path", *probe("stripped", at, dirs=["ids"]))
    offset = at  # the text segment of a PIE lies at its file offset
    whole("build id alone", *probe(ident, offset, flags=["-S", "-i", "-o"], dirs=["ids"]))
    build("other", SOURCE.replace("* 2", "* 5"))
    run("objcopy", "--only-keep-debug", "other", where)
    s, a = probe("stripped", at, dirs=["ids"])
    check("a debug file with another build id is not taken", s == "none" and a == [[]], (s, a))


def crc_without_build_id():
    build("full", flags=["-g", "-Wl,--build-id=none"])
    at = symbols("full")["hidden"] + 1
    run("objcopy", "--only-keep-debug", "full", "full.debug")
    run("objcopy", "--strip-all", "--add-gnu-debuglink=full.debug", "full", "plain")
    whole("debuglink by CRC", *probe("plain", at, dirs=["none"]))
    with open("full.debug", "ab") as f:
        f.write(b"x")
    s, a = probe("plain", at, dirs=["none"])
    check("wrong CRC is not taken", s == "none" and a == [[]], (s, a))
    os.remove("full.debug")


def debuginfod():
    build("full")
    at = symbols("full")["hidden"] + 1
    folder = "server/buildid/" + build_id("full")
    os.makedirs(folder, exist_ok=True)
    run("objcopy", "--only-keep-debug", "full", folder + "/debuginfo")
    run("strip", "full", "-o", "far")
    env = {"DEBUGINFOD_URLS": "file://%s/server/" % os.getcwd(),
           "DEBUGINFOD_CACHE_PATH": os.getcwd() + "/cache", "HOME": os.getcwd()}
    whole("debuginfod", *probe("far", at, flags=["-S", "-d"], dirs=["none"], env=env))


def minidebuginfo():
    build("full")
    at = symbols("full")["hidden"] + 1
    run("objcopy", "--only-keep-debug", "full", "mini")
    run("objcopy", "-S", "--remove-section", ".gdb_index", "--keep-symbol", "hidden", "mini")
    run("xz", "-f", "mini")
    run("strip", "full", "-o", "packed")
    run("objcopy", "--add-section", ".gnu_debugdata=mini.xz", "packed")
    s, a = probe("packed", at, dirs=["none"])
    check(".gnu_debugdata", s == "minidebug" and a and a[0][0][0] == "hidden", (s, a))


def tables_only():
    build("table", flags=["-rdynamic"])
    names = symbols("table")
    s, a = probe("table", names["hidden"] + 1)
    check(".symtab", s == "symtab" and a[0][0][0] == "hidden", (s, a))
    run("strip", "table", "-o", "exported")
    s, a = probe("exported", names["shown"] + 1, names["hidden"] + 1, dirs=["none"])
    check(".dynsym names what is exported and nothing else",
          s == "dynsym" and a[0] and a[0][0][0] == "shown" and a[1] == [], (s, a))
    stubs = [line.split() for line in run("objdump", "-d", "exported", text=True).splitlines()
             if "@plt>:" in line]
    for address, name in stubs:
        _, a = probe("exported", int(address, 16) + 2, dirs=["none"])
        check("PLT", a[0] and "<%s>:" % a[0][0][0] == name, (name, a))
    check("PLT", len(stubs) >= 2, stubs)


def cxx():
    build("cxx", CXX, "g++")
    names = symbols("cxx")
    want = {"_ZNK5space3BoxIiE5twiceEi": "space::Box<int>::twice(int) const",
            "_ZN5space12_GLOBAL__N_16secretEi": "space::(anonymous namespace)::secret(int)",
            "_ZZ4mainEN5Local6memberEi": "main::Local::member(int)",
            "_ZZ4mainENKUliE_clEi": "main::{lambda(int)#1}::operator()(int) const"}
    for mangled, name in want.items():
        at = [v for k, v in names.items() if k.split(".")[0] == mangled]
        _, a = probe("cxx", at[0] if at else 0, flags=["-D", "-S"])
        check(mangled, a and a[0] and a[0][-1][0].split(" [clone")[0] == name
              and "cxx.cc:" in a[0][-1][1], a)


def dwz():
    if not shutil.which("dwz"):
        print("dwz is not installed: that part was not run")
        return
    build("one", flags=["-g", "-gdwarf-4"])
    build("two", SOURCE.replace("* 2", "* 9"), flags=["-g", "-gdwarf-4"])
    run("dwz", "-m", "common.debug", "one", "two")
    check("dwz made a common file", os.path.exists("common.debug"))
    whole("dwz", *probe("one", symbols("one")["hidden"] + 1), at="one.c")


def broken():
    build("full")
    with open("full", "rb") as f:
        data = f.read()
    for cut in list(range(0, 4096, 512)) + list(range(4096, len(data), 2048)):
        with open("cut", "wb") as f:
            f.write(data[:cut])
        p = subprocess.run([PROBE, "cut"], input="1139\n", text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, check=False)
        check("cut off at %d" % cut, p.returncode in (0, 1) and p.stderr.strip(), p)
    os.mkfifo("pipe")
    p = subprocess.run([PROBE, "pipe"], input="", text=True, stderr=subprocess.PIPE, timeout=10,
                       check=False)
    check("a FIFO", p.returncode == 1 and "not a regular file" in p.stderr, p)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for test in (with_debug_info, split_unit_missing, separate_files, crc_without_build_id,
                 debuginfod, minidebuginfo, tables_only, cxx, dwz, broken):
        test()
    os.chdir("/")
print("%d failures" % len(failures))
sys.exit(1 if failures else 0)
