// SPDX-License-Identifier: MIT

// Serves net/http/pprof as a program does that imports it, with one profile of its own, and prints the address. With
// an argument it holds the CPU profiler and the tracer, so that requests for them fail. Ends with its input.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	rpprof "runtime/pprof"
	"runtime/trace"
)

func main() {
	rpprof.NewProfile("connections").Add(new(int), 0)
	if len(os.Args) > 1 {
		rpprof.StartCPUProfile(io.Discard)
		trace.Start(io.Discard)
	}
	// As the package registers them, but for symbol, which pprof asks by POST.
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(l, mux)
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
}
