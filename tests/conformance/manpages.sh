#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The man pages are clean under mandoc's lint and name every verb that the command has.
set -euo pipefail
command -v mandoc >/dev/null || { echo "SKIP: no mandoc here"; exit 77; }
man=$FSCOPE_BUILD/man
fail=0
for page in "$man"/*.[13]; do
    # A reference to a page of another package cannot be checked here.
    out=$(mandoc -Tlint -W warning "$page" | grep -v 'referenced manual not found' || true)
    [ -z "$out" ] || { echo "$out"; fail=1; }
    grep -q '@OPTIONS' "$page" && { echo "$page: an option list was not filled in"; fail=1; }
done
mandoc -Tascii "$man/fiberscope.1" | col -b >page.txt
while read -r verb; do
    grep -qw -- "$verb" page.txt || { echo "fiberscope(1) does not name $verb"; fail=1; }
done < <("$FSCOPE_BUILD/cli/fiberscope" --help | sed -n 's/^  \([a-z][a-z]*\)  .*/\1/p')
# Through a file: `grep -q` leaves early, and what writes to it would count as failed.
for wanted in record:--duration leaks:--by trace:--slow; do
    page=fiberscope-${wanted%%:*}.1
    mandoc -Tascii "$man/$page" | col -b >page.txt
    grep -q -- "${wanted#*:}" page.txt || { echo "$page lacks ${wanted#*:}"; fail=1; }
done
# A page of section 3 names every function and macro that its header has, and none that it has not. (Of fib_fiber and
# fib_io the functions: their constants are told of elsewhere.)
names='\b((fscope|fib)_[a-z_]*[a-z]\(|(FSCOPE|FIB)_[A-Z_]+\b)'
for pair in libfiberscope:profile fscope_trace:trace fib_chan:chan fib_sync:sync fib_fiber:fiber fib_io:io; do
    kinds='^(fscope|FSCOPE|fib|FIB)_'
    case $pair in fib_fiber:* | fib_io:*) kinds='^fib_' ;; esac
    page=${pair%%:*}.3 header=$FSCOPE_SOURCE/include/fiberscope/${pair#*:}.h
    diff <(grep -vE '^ *//' "$header" | grep -oE "$names" | grep -vE 'FSCOPE_JOIN|_fn\(|errno_loc' | tr -d '(' |
        grep -E "$kinds" | sort -u) \
        <(sed -n 's/^\.\(It \)\{0,1\}\(Fn\|Dv\) "\{0,1\}\([A-Za-z_]*[A-Za-z]\).*/\3/p; s/^\.Fo \([A-Za-z_]*\).*/\1/p' \
            "$man/$page" | grep -E "$kinds" | sort -u) ||
        { echo "$page and its header (<) differ"; fail=1; }
done
exit $fail
