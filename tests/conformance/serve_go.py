#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One table of requests is sent to Go's net/http/pprof and to ours: statuses and headers are equal for each, bodies
where Go defines their bytes, and `go tool pprof` reads all profiles of ours, as text and as protobuf the same."""

import gzip
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "data"))
import make_pprof_samples  # noqa: E402
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pprof_text import raw_samples  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
HERE = os.path.dirname(os.path.abspath(__file__))
FAKE = os.path.join(BUILD, "tests", "conformance", "serve_fake")
GO = make_pprof_samples.find_go()
P = "/debug/pprof/"
HEADERS = ["Content-Type", "X-Content-Type-Options", "Content-Disposition", "X-Go-Pprof", "Allow", "Location"]

# (method, path, body, whether the body's bytes are Go's)
REQUESTS = [("GET", path, None, exact) for path, exact in [
    ("/", True), ("/nothing", True), ("/debug", True), ("/debug/", True), ("/debug/pprof", True),
    ("/debug/pprof?debug=1&x=<\"'>", True), ("//debug/pprof/", True), ("/debug/pprof//heap?debug=1", True),
    ("/debug/./pprof/", True), ("/debug/x/../pprof/heap", True), ("/debug/pprof/.", True), ("/debug/pprof/..", True),
    ("/debug/pprofx", True), ("/debug/pprof/he%61p", False), ("/debug/pprof/heap%2f", True),
    (P, False), (P + "?debug=1", False), (P + "nothing", True), (P + "heap/", True), (P + "cmdline/", True),
    (P + "Heap", True), (P + "%00", True), (P + "nothing?seconds=1", True), (P + "nothing?seconds=x", True),
    (P + "nothing?debug=1", True), (P + "cmdline", False), (P + "cmdline?debug=1", False),
    (P + "symbol", True), (P + "symbol?", True), (P + "symbol?0", True), (P + "symbol?zzz", True),
    (P + "symbol?0x1+0x2", True), (P + "symbol?0x1%2B0x2", True), (P + "symbol?" + "+" * 5000, True),
    (P + "symbol?" + "1" * 4095, True), (P + "symbol?" + "1" * 4096, True), (P + "symbol?1+" + "1" * 5000 + "+1", True),
    (P + "symbol?" + "1" * 4095 + "+" + "0" * 4095 + "+2", True), (P + "symbol?1" + "0" * 30, True),
    (P + "profile?seconds=1", False), (P + "profile?seconds=%2b1", False), (P + "profile?seconds=1&seconds=9", False),
    (P + "trace?seconds=0.1", False), (P + "trace?seconds=1e-1", False), (P + "trace?seconds=0x1p-4", False),
    (P + "trace?seconds=.1", False),
] + [(P + kind + query, exact)
     for kind in ("allocs", "block", "goroutine", "heap", "mutex", "threadcreate", "connections")
     for query, exact in [
         ("", False), ("?debug=0", False), ("?debug=1", False), ("?debug=%31", False), ("?debug=x", False),
         ("?debug=", False), ("?debug", False), ("?debug=-1", False), ("?debug=1;x=2", False),
         ("?debug=99999999999999999999", False), ("?debug=-99999999999999999999", False), ("?debug=+1", False),
         ("?debug=%2B1", False), ("?debug=0&debug=1", False), ("?debug=%zz&debug=1", False), ("?debug=1_0", False),
         ("?gc=1", False), ("?gc=x&debug=0", False),
         ("?seconds=x", True), ("?seconds=0", True), ("?seconds=-1", True), ("?seconds=1.5", True),
         ("?seconds=99999999999999999999", True), ("?seconds=%201", True), ("?seconds=1&debug=1", True),
         ("?seconds=1&debug=x&gc=1", kind == "connections"), ("?seconds=&debug=1", False),
         ("?seconds=0&debug=1", True), ("?seconds=1x", True), ("?seconds=1%00", True)]
     if not (query == "?seconds=1&debug=x&gc=1" and kind not in ("heap", "connections"))]
] + [("GET", P + "goroutine?debug=2", None, False), ("GET", P + "goroutine?debug=3", None, False),
     ("GET", P + "heap?debug=2", None, False), ("GET", P + "heap?seconds=1", None, False),
     ("GET", P + "goroutine?seconds=1", None, False)
] + [(method, path, None, True)
     for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "TRACE", "NONSENSE")
     for path in ("/", "/debug/pprof", P, P + "heap", P + "nothing", P + "cmdline", P + "symbol", "//debug/pprof/",
                  P + "heap?seconds=x", P + "profile?seconds=1", P + "trace?seconds=0.1")
] + [("POST", P + "symbol", body, True)
     for body in (b"", b"0", b"x+y", b"0x1+0x2", b"+", b"1" * 4096, b"+" * 10000, b"1" * 5000)]

BUSY = [("GET", P + "profile?seconds=1", None, True), ("GET", P + "trace?seconds=1", None, True),
        ("HEAD", P + "profile?seconds=1", None, True)]


class Server:
    def __init__(self, *argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.words = self.process.stdout.readline().split()
        self.host, port = self.words[0].rsplit(":", 1)
        self.port = int(port)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def ask(self, method, path, body=None, headers=None):
        c = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            c.putrequest(method, path)
            if body is not None:
                c.putheader("Content-Length", str(len(body)))
            for key, value in (headers or {}).items():
                c.putheader(key, value)
            c.endheaders(body)
            r = c.getresponse()
            return r.status, {h: r.getheader(h) for h in HEADERS if r.getheader(h) is not None}, r.read()
        finally:
            c.close()

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=20)


def compare(go, ours, requests):
    bad = 0
    for method, path, body, exact in requests:
        want, have = go.ask(method, path, body), ours.ask(method, path, body)
        same = want[:2] == have[:2] and (want[2] == have[2] or not exact)
        # Whatever the bytes are, they are of one kind.
        same = same and (want[2][:2] == b"\x1f\x8b") == (have[2][:2] == b"\x1f\x8b")
        if not same:
            bad += 1
            print(f"{method} {path[:80]} {(body or b'')[:20]}\n  Go:   {want[0]} {want[1]} {want[2][:150]}\n"
                  f"  ours: {have[0]} {have[1]} {have[2][:150]}")
    print(f"{len(requests)} requests, {bad} answered otherwise")
    return bad


def skeleton(html):
    """The index without its rows, and the names in them."""
    names = re.findall(rb"<tr><td>\d+</td><td><a href='([^']*)\?debug=1'>\1</a></td></tr>\n", html)
    listed = re.findall(rb"<li><div class=profile-name>([^:]*): </div> [^\n]+</li>\n|"
                        rb"<li><div class=profile-name>(connections): </div> </li>\n", html)
    html = re.sub(rb"<tr>.*</tr>\n", b"", html)
    return re.sub(rb"<li>.*</li>\n", b"", html), names, [a or b for a, b in listed]


def check_index(go, ours):
    frame, names, listed = skeleton(ours.ask("GET", P)[2])
    go_frame, go_names, go_listed = skeleton(go.ask("GET", P)[2])
    assert frame == go_frame, (frame, go_frame)
    assert names == sorted(names) and go_names == sorted(go_names), names
    assert names == listed and go_names == go_listed, (listed, go_listed)
    links = re.findall(rb"</div> .*<a href='([^']*)'>[^<]+</a></li>\n", ours.ask("GET", P)[2])
    assert links == [b"../fibers", b"../../metrics", b"../fibers?of=threads", b"../requests"], links
    assert set(go_names) <= set(names) and set(names) - set(go_names) == {b"wall", b"threads", b"flight"}, names


def check_own_paths(ours):
    assert ours.ask("GET", "/debug/trace?seconds=0.1") == ours.ask("GET", P + "trace?seconds=0.1")
    status, headers, body = ours.ask("GET", P + "wall?seconds=1")
    assert status == 200 and headers["Content-Disposition"] == 'attachment; filename="wall"' and body[:2] == b"\x1f\x8b"
    status, headers, _ = ours.ask("GET", P + "flight")
    assert status == 200 and headers["Content-Disposition"] == 'attachment; filename="flight"', headers
    name = ours.words[1]
    want = f"num_symbols: 1\n{name} a_named_function\n".encode()
    assert ours.ask("GET", P + "symbol?" + name)[2] == want
    assert ours.ask("POST", P + "symbol", f"0x1+{name}".encode())[2] == want
    assert ours.ask("POST", P + "symbol", f"{name}+{name}".encode())[2].count(b"a_named_function") == 2
    status, headers, body = ours.ask("GET", P + "threads?seconds=1")
    assert (status, body) == (400, b'"seconds" parameter is not supported for this profile type\n'), body
    assert ours.ask("GET", P + "heap?seconds=4000")[2] == b"profile duration exceeds server's WriteTimeout\n"
    # A second one on one connection, and the first one's error does not cling to it.
    c = http.client.HTTPConnection(ours.host, ours.port, timeout=20)
    for path, status in ((P + "nothing", 404), (P + "heap", 200), (P + "symbol", 200), ("/", 404)):
        c.request("GET", path)
        r = c.getresponse()
        r.read()
        assert r.status == status and not r.will_close, (path, r.status)
    c.close()


def check_failures(go_busy, ours):
    """What Go says when it cannot, and what we say when there is nothing to be had."""
    ours.tell("sample=16")
    ours.tell("trace=16")
    bad = compare(go_busy, ours, BUSY)
    ours.tell("sample=95")
    ours.tell("trace=95")
    assert ours.ask("GET", P + "profile?seconds=1")[2] == b"Could not enable CPU profiling: no agent\n"
    assert ours.ask("GET", P + "trace?seconds=1")[2] == b"Could not enable tracing: no agent\n"
    ours.tell("sample=0")
    ours.tell("trace=0")
    ours.tell("flight=61")
    status, headers, body = ours.ask("GET", P + "flight")
    assert status == 404 and headers["X-Go-Pprof"] == "1" and body == b"no flight recorder is on\n", body
    ours.tell("profile=95")
    status, headers, body = ours.ask("GET", P + "heap")
    assert status == 501 and headers["X-Go-Pprof"] == "1" and body.startswith(b"heap: set on with"), body
    for rc in (3, 12):
        ours.tell(f"profile={rc}")
        for query in ("", "?debug=1", "?seconds=1"):
            status, headers, body = ours.ask("GET", P + "heap" + query)
            assert (status, headers["X-Go-Pprof"], body) == (500, "1", b"failed to collect profile\n"), body
            assert "Content-Disposition" not in headers
    ours.tell("profile=0")
    return bad


def check_texts(ours, tool, folder):
    """debug=1 and debug=0 have the same samples, if nothing changes in between: our made-up profiles grow by 1."""
    for kind in ("allocs", "block", "goroutine", "heap", "mutex", "threadcreate", "threads", "connections"):
        text, proto = os.path.join(folder, kind + ".txt"), os.path.join(folder, kind + ".pb.gz")
        for path, query in ((text, "?debug=1"), (proto, "")):
            with open(path, "wb") as f:
                f.write(ours.ask("GET", P + kind + query)[2])
        (types, one), (proto_types, two) = raw_samples(tool, text), raw_samples(tool, proto)
        assert types == proto_types, (kind, types, proto_types)
        assert one.keys() == two.keys() and len(one) == 3, (kind, one, two)
        for stack, values in one.items():
            assert [v + 1 for v in values] == two[stack], (kind, stack, values, two[stack])


def check_tool(ours, tool, folder):
    """The tool itself, by URL."""
    home = dict(os.environ, PPROF_TMPDIR=folder, HOME=folder)
    for kind in ("allocs", "block", "goroutine", "heap", "mutex", "threadcreate", "threads", "connections",
                 "profile?seconds=1", "wall?seconds=1", "heap?seconds=1"):
        out = os.path.join(folder, "out.pb.gz")
        done = subprocess.run([tool, "-proto", f"-output={out}", f"http://{ours.host}:{ours.port}{P}{kind}"],
                              capture_output=True, text=True, env=home, check=False, timeout=60)
        assert done.returncode == 0, (kind, done.stderr)
        with gzip.open(out) as f:
            assert b"a_longer_name" in f.read(), kind
    done = subprocess.run([tool, "-proto", f"http://{ours.host}:{ours.port}{P}nothing"], capture_output=True,
                          text=True, env=home, check=False, timeout=60)
    assert done.returncode and "Unknown profile" in done.stderr, done.stderr


def build_oracle(folder):
    # In a module: without one, Go keeps to the paths and methods of its version 1.21.
    shutil.copy(os.path.join(HERE, "serve_go.go"), folder)
    with open(os.path.join(folder, "go.mod"), "w", encoding="ascii") as f:
        f.write("module serve\n\ngo 1.26\n")
    program = os.path.join(folder, "serve")
    subprocess.run([GO, "build", "-o", program, "."], check=True, timeout=150, cwd=folder,
                   env=dict(os.environ, GOFLAGS="-mod=mod", GOTOOLCHAIN="local"))
    return program


def main():
    version = subprocess.run([GO, "env", "GOVERSION"], capture_output=True, text=True,
                             check=False).stdout.strip() if GO else ""
    if not re.match(r"go1\.(2[6-9]|[3-9]\d)", version):
        print(f"SKIP: the oracle is Go 1.26's net/http/pprof; here is {version or 'no Go'}")
        return 77
    bad = 0
    with tempfile.TemporaryDirectory(prefix="fiberscope-test-") as folder:
        program = build_oracle(folder)
        tool = subprocess.run([GO, "tool", "-n", "pprof"], check=True, capture_output=True, text=True).stdout.strip()
        go, busy, ours = Server(program), Server(program, "busy"), Server(FAKE, "127.0.0.1:0")
        try:
            bad += compare(go, ours, REQUESTS)
            check_index(go, ours)
            check_own_paths(ours)
            bad += check_failures(busy, ours)
            check_texts(ours, tool, folder)
            check_tool(ours, tool, folder)
        finally:
            for s in (go, busy, ours):
                s.close()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
