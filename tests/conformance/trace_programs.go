// SPDX-License-Identifier: MIT
//
// Programs to be traced, each using another part of Go's runtime.
//
//	programs NAME FILE SCALE
//
// NAME: sched (goroutines, channels, select, mutex), net (sockets, pipes, system calls), tasks
// (tasks, regions, logs), gc (a heap under pressure), timers (timers, preemption, CPU profile, GOMAXPROCS),
// iter (coroutines), pingpong (many events; SCALE thousands of them).

package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"sync"
	"time"
)

var sink [][]byte
var count int

func sched(scale int) {
	var wg sync.WaitGroup
	var mu sync.RWMutex
	c, d := make(chan int), make(chan int, 3)
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range scale {
				select {
				case v := <-c:
					mu.Lock()
					count += v
					mu.Unlock()
				case d <- i:
				case <-d:
				}
				runtime.Gosched()
			}
		}()
	}
	stop := make(chan bool)
	go func() {
		for {
			select {
			case c <- 1:
			case <-stop:
				return
			}
		}
	}()
	wg.Wait()
	close(stop)
	cond := sync.NewCond(&sync.Mutex{})
	ready := false
	for range 4 {
		wg.Add(1)
		go func() {
			cond.L.Lock()
			for !ready {
				cond.Wait()
			}
			cond.L.Unlock()
			wg.Done()
		}()
	}
	time.Sleep(time.Millisecond)
	cond.L.Lock()
	ready = true
	cond.Broadcast()
	cond.L.Unlock()
	wg.Wait()
}

func netIO(scale int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				panic(err)
			}
			b := make([]byte, 100)
			for range scale {
				c.Write(b)
				io.ReadFull(c, b)
			}
			c.Close()
		}()
	}
	r, w, _ := os.Pipe()
	go func() {
		for range scale {
			w.Write([]byte("x"))
		}
		w.Close()
	}()
	io.ReadAll(r)
	for range scale {
		f, _ := os.Open("/proc/self/stat")
		io.ReadAll(f)
		f.Close()
	}
	wg.Wait()
	l.Close()
}

func tasks(scale int) {
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := range scale {
				ctx, outer := trace.NewTask(context.Background(), "outer "+strconv.Itoa(i))
				trace.WithRegion(ctx, "region", func() {
					inner, end := trace.NewTask(ctx, "inner")
					trace.Logf(inner, "key", "message %d of %d, \"quoted\"\n\t\x00\xff", k, i)
					trace.StartRegion(inner, "nested").End()
					time.Sleep(10 * time.Microsecond)
					end.End()
				})
				trace.Log(context.Background(), "", "")
				outer.End()
			}
		}()
	}
	_, open := trace.NewTask(context.Background(), "over generations")
	r := trace.StartRegion(context.Background(), "over generations")
	wg.Wait()
	time.Sleep(1100 * time.Millisecond)
	r.End()
	open.End()
	trace.NewTask(context.Background(), "never ended")
}

func gc(scale int) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var keep [][]byte
			for i := range scale * 100 {
				keep = append(keep, make([]byte, 1000+i%5000))
				if len(keep) > 500 {
					keep = nil
				}
			}
			sink = keep
		}()
	}
	for range 3 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
	}
	wg.Wait()
}

func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for i := range 10000 {
			count += i
		}
	}
}

func timers(scale int) {
	f, _ := os.CreateTemp("", "cpu")
	defer os.Remove(f.Name())
	pprof.StartCPUProfile(f)
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Add(2)
		time.AfterFunc(time.Duration(i)*time.Millisecond, wg.Done)
		go func() {
			spin(time.Duration(scale) * time.Millisecond)
			wg.Done()
		}()
	}
	runtime.GOMAXPROCS(2)
	t := time.NewTicker(200 * time.Microsecond)
	for range 20 {
		<-t.C
	}
	t.Stop()
	runtime.GOMAXPROCS(5)
	wg.Wait()
	pprof.Do(context.Background(), pprof.Labels("a", "b"), func(context.Context) { spin(2e6) })
	pprof.StopCPUProfile()
}

func iterate(scale int) {
	next, stop := iter.Pull(func(yield func(int) bool) {
		for i := range scale {
			if !yield(i) {
				return
			}
		}
	})
	for {
		v, ok := next()
		if !ok {
			break
		}
		count += v
	}
	stop()
}

// Eight pairs, four Ps, and a crowd that yields, locks and spawns.
func pingpong(scale int) {
	var wg sync.WaitGroup
	for range 100 {
		a, b := make(chan int), make(chan int)
		wg.Add(2)
		go func() {
			for range scale {
				b <- <-a
			}
			wg.Done()
		}()
		go func() {
			for i := range scale {
				a <- i
				<-b
			}
			wg.Done()
		}()
	}
	var mu sync.Mutex
	for range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range scale {
				mu.Lock()
				runtime.Gosched()
				mu.Unlock()
				done := make(chan bool)
				go close(done)
				<-done
			}
		}()
	}
	wg.Wait()
}

func main() {
	scale, _ := strconv.Atoi(os.Args[3])
	f, err := os.Create(os.Args[2])
	if err != nil {
		panic(err)
	}
	runtime.GOMAXPROCS(4)
	waiting := make(chan bool)
	for range 3 {
		go func() { <-waiting }()
	}
	if err := trace.Start(f); err != nil {
		panic(err)
	}
	programs := map[string]func(int){"sched": sched, "net": netIO, "tasks": tasks, "gc": gc,
		"timers": timers, "iter": iterate, "pingpong": pingpong}
	programs[os.Args[1]](scale)
	close(waiting)
	trace.Stop()
	if err := f.Close(); err != nil {
		panic(err)
	}
	fmt.Println(count, len(sink))
}
