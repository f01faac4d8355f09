// SPDX-License-Identifier: MIT
//
// What Go's own trace reader (internal/trace) says about a trace. trace_go.py compiles this beside
// a copy of that package, made for the time of the test.
//
//	oracle events FILE        every event in the words of trace_events.c
//	oracle count FILE         only how many, and the error
//	oracle counts             the same for each of the files named on standard input, a line each: "N", or "error ..."
//	oracle verdicts           the same, everything about every event asked for: "accepted", or "error ..."
//	oracle binary TEXT OUT    the text form of Go's test data as bytes
//	oracle corpus FILE OUT    an input of Go's fuzzer as bytes

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"oracle/trace"
	"oracle/trace/raw"
)

var out = bufio.NewWriterSize(os.Stdout, 1<<20)
var stacks = map[string]int{}

func text(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			fmt.Fprintf(&b, "\\x%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func stack(s trace.Stack) int {
	if s == trace.NoStack {
		return 0
	}
	var b strings.Builder
	for f := range s.Frames() {
		fmt.Fprintf(&b, " %x:%s:%s:%d", f.PC, text(f.Func), text(f.File), f.Line)
	}
	key := b.String()
	if key == "" {
		return 0 // Go tells an empty stack from none, or not
	}
	if n, ok := stacks[key]; ok {
		return n
	}
	n := len(stacks) + 1
	stacks[key] = n
	fmt.Fprintf(out, "stack %d%s\n", n, key)
	return n
}

func transition(t trace.StateTransition) string {
	from, to := "", ""
	switch t.Resource.Kind {
	case trace.ResourceGoroutine:
		f, s := t.Goroutine()
		from, to = f.String(), s.String()
	case trace.ResourceProc:
		f, s := t.Proc()
		from, to = f.String(), s.String()
	}
	return fmt.Sprintf(" %s %s->%s %s %d", t.Resource, from, to, text(t.Reason), stack(t.Stack))
}

func rangeText(e trace.Event) string {
	r := e.Range()
	name, reason := r.Name, ""
	if rest, ok := strings.CutPrefix(name, "stop-the-world ("); ok {
		name, reason = "stop-the-world", strings.TrimSuffix(rest, ")")
	}
	scope := r.Scope.String()
	if r.Scope.Kind == trace.ResourceNone {
		scope = "None(0)"
	}
	s := fmt.Sprintf(" %s %s %s", name, text(reason), scope)
	if e.Kind() == trace.EventRangeEnd {
		for _, a := range e.RangeAttributes() {
			s += fmt.Sprintf(" %d", a.Value.Uint64())
		}
	}
	return s
}

func syncText(s trace.Sync) string {
	line := fmt.Sprintf(" %d", s.N)
	if c := s.ClockSnapshot; c != nil {
		line += fmt.Sprintf(" clock %d %d %d.%09d", c.Trace, c.Mono, c.Wall.Unix(), c.Wall.Nanosecond())
	}
	count, size := 0, 0
	for _, batches := range s.ExperimentalBatches {
		for _, b := range batches {
			count++
			size += len(b.Data)
		}
	}
	return line + fmt.Sprintf(" experimental %d %d", count, size)
}

func details(e trace.Event) string {
	switch e.Kind() {
	case trace.EventSync:
		return syncText(e.Sync())
	case trace.EventMetric:
		return fmt.Sprintf(" %s %d", e.Metric().Name, e.Metric().Value.Uint64())
	case trace.EventLabel:
		return " " + text(e.Label().Label)
	case trace.EventRangeBegin, trace.EventRangeActive, trace.EventRangeEnd:
		return rangeText(e)
	case trace.EventTaskBegin, trace.EventTaskEnd:
		t := e.Task()
		return fmt.Sprintf(" %d %d %s", t.ID, int64(t.Parent), text(t.Type))
	case trace.EventRegionBegin, trace.EventRegionEnd:
		return fmt.Sprintf(" %d %s", e.Region().Task, text(e.Region().Type))
	case trace.EventLog:
		l := e.Log()
		return fmt.Sprintf(" %d %s %s", l.Task, text(l.Category), text(l.Message))
	case trace.EventStateTransition:
		return transition(e.StateTransition())
	case trace.EventExperimental:
		x := e.Experimental()
		s := " " + x.Name
		for i := range x.Args {
			s += fmt.Sprintf(" %d", x.ArgValue(i).Uint64())
		}
		return s
	}
	return ""
}

func read(path string, print func(e trace.Event)) (n int, err error) {
	f, err := os.Open(path)
	check(err)
	defer f.Close()
	r, err := trace.NewReader(f)
	if err != nil {
		return 0, err
	}
	for {
		e, err := r.ReadEvent()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n++
		print(e)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func binary(in, to string) {
	f, err := os.Open(in)
	check(err)
	r, err := raw.NewTextReader(f)
	check(err)
	var b bytes.Buffer
	w, err := raw.NewWriter(&b, r.Version())
	check(err)
	for {
		e, err := r.ReadEvent()
		if err == io.EOF {
			break
		}
		check(err)
		check(w.WriteEvent(e))
	}
	check(os.WriteFile(to, b.Bytes(), 0o666))
}

func corpus(in, to string) {
	data, err := os.ReadFile(in)
	check(err)
	_, line, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	line = strings.TrimSuffix(strings.TrimPrefix(line, "[]byte("), ")")
	s, err := strconv.Unquote(line)
	check(err)
	check(os.WriteFile(to, []byte(s), 0o666))
}

func counts() {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); out.Flush() {
		n, err := read(in.Text(), func(e trace.Event) {})
		if err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			fmt.Fprintf(out, "error %s\n", first)
		} else {
			fmt.Fprintf(out, "%d\n", n)
		}
	}
}

// Whether all of a trace can be read. Of a v1 trace Go's reader gives events that name strings and stacks
// which are not there, and panics when asked for those: it rejects them no less.
func verdict(path string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	_, err = read(path, func(e trace.Event) {
		stack(e.Stack())
		details(e)
	})
	return err
}

func verdicts() {
	out = bufio.NewWriter(io.Discard)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := verdict(in.Text()); err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			fmt.Printf("error %s\n", first)
		} else {
			fmt.Println("accepted")
		}
	}
}

func main() {
	defer out.Flush()
	var n int
	var err error
	switch os.Args[1] {
	case "events":
		n, err = read(os.Args[2], func(e trace.Event) {
			s := stack(e.Stack())
			d := details(e)
			fmt.Fprintf(out, "%d M=%d P=%d G=%d %s%s stack %d\n", e.Time(), e.Thread(), e.Proc(),
				e.Goroutine(), e.Kind(), d, s)
		})
	case "count":
		n, err = read(os.Args[2], func(e trace.Event) {})
	case "counts":
		counts()
		return
	case "verdicts":
		verdicts()
		return
	case "binary":
		binary(os.Args[2], os.Args[3])
		return
	case "corpus":
		corpus(os.Args[2], os.Args[3])
		return
	}
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Fprintf(out, "error %s\n", first)
		out.Flush()
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, "%d events\n", n)
}
