#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Go compiles its tools at their first use, for a minute: once, before the tests that use them would do it side by side.
# Whether there is a Go each of them asks for itself.
PATH=$PATH:/usr/local/go/bin
for tool in trace pprof; do
    go tool "$tool" -h >/dev/null 2>&1
done
exit 0
