// SPDX-License-Identifier: MIT
//
// What Go's own trace reader (internal/trace) says about traces. trace_go.py compiles this beside a copy of
// that package. It answers the requests on its standard input, a line each, with a line "STATUS BYTES" and so many
// bytes; the status is 0, or 1 where Go rejects the trace, with the reason as the last line, "error ...":
//
//	events FILE         every event in the words of trace_events.c
//	count FILE          only how many
//	verdict FILE        nothing, but everything about every event is asked for
//	summary FILE        Go's summary, see trace_summary_oracle.go
//	keep FILE           reads it for good, for `states`
//	states FILE FROM TO what everything was when, see trace_states.go
//	binary TEXT OUT     the text form of Go's test data as bytes
//	corpus FILE OUT     an input of Go's fuzzer as bytes

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

var out bytes.Buffer // the answer
var stacks map[string]int

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
	fmt.Fprintf(&out, "stack %d%s\n", n, key)
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

func read(path string, print func(e trace.Event)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := trace.NewReader(f)
	if err != nil {
		return err
	}
	for {
		e, err := r.ReadEvent()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		print(e)
	}
}

func events(path string) error {
	stacks = map[string]int{}
	return read(path, func(e trace.Event) {
		s := stack(e.Stack())
		d := details(e)
		fmt.Fprintf(&out, "%d M=%d P=%d G=%d %s%s stack %d\n", e.Time(), e.Thread(), e.Proc(),
			e.Goroutine(), e.Kind(), d, s)
	})
}

func count(path string) error {
	n := 0
	err := read(path, func(e trace.Event) { n++ })
	fmt.Fprintln(&out, n)
	return err
}

// Whether all of a trace can be read. Of a v1 trace Go's reader gives events that name strings and stacks
// which are not there, and panics when asked for those: it rejects them no less.
func verdict(path string) error {
	stacks = map[string]int{}
	err := read(path, func(e trace.Event) {
		stack(e.Stack())
		details(e)
	})
	out.Reset() // stacks
	return err
}

func binary(in, to string) error {
	f, err := os.Open(in)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := raw.NewTextReader(f)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w, err := raw.NewWriter(&b, r.Version())
	for err == nil {
		var e raw.Event
		if e, err = r.ReadEvent(); err == nil {
			err = w.WriteEvent(e)
		}
	}
	if err != io.EOF {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o666)
}

func corpus(in, to string) error {
	data, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	_, line, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	line = strings.TrimSuffix(strings.TrimPrefix(line, "[]byte("), ")")
	s, err := strconv.Unquote(line)
	if err != nil {
		return err
	}
	return os.WriteFile(to, []byte(s), 0o666)
}

func answer(words []string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	switch words[0] {
	case "events":
		return events(words[1])
	case "count":
		return count(words[1])
	case "verdict":
		return verdict(words[1])
	case "summary":
		return summary(words[1])
	case "keep":
		return keep(words[1])
	case "states":
		return states(words[1], words[2], words[3])
	case "binary":
		return binary(words[1], words[2])
	case "corpus":
		return corpus(words[1], words[2])
	}
	return fmt.Errorf("no request %q", words[0])
}

func main() {
	to := bufio.NewWriterSize(os.Stdout, 1<<20)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); to.Flush() {
		out.Reset()
		status := 0
		if err := answer(strings.Fields(in.Text())); err != nil {
			status = 1
			first, _, _ := strings.Cut(err.Error(), "\n")
			fmt.Fprintf(&out, "error %s\n", first)
		}
		fmt.Fprintf(to, "%d %d\n", status, out.Len())
		to.Write(out.Bytes())
	}
}
