//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// startTime bounds how long a worker takes to come up.
const startTime = time.Minute

// process is a worker, from outside.
type process struct {
	*child
	url    string
	killed bool          // guarded by the workers' mu
	gone   chan struct{} // closed when it has ended
}

// workers are the processes that serve.
type workers struct {
	work work
	out  io.Writer

	mu      sync.Mutex
	alive   []*process
	more    chan struct{} // closed, and made anew, when one comes up
	killedN int
	err     error
}

func startWorkers(ctx context.Context, w work, n int, out io.Writer) (*workers, error) {
	ws := &workers{work: w, out: out, more: make(chan struct{})}
	for range n {
		if err := ws.start(ctx); err != nil {
			return nil, errors.Join(err, ws.stop())
		}
	}
	return ws, nil
}

func (ws *workers) start(ctx context.Context) error {
	c, err := startChild(roleWorker, ws.work)
	if err != nil {
		return err
	}
	// It may be waited for only when its output was read.
	addr := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		in := bufio.NewReader(c.out)
		line, _ := in.ReadString('\n')
		addr <- strings.TrimSpace(line)
		_, _ = io.Copy(io.Discard, in)
	}()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	p := &process{child: c, gone: make(chan struct{})}
	select {
	case a := <-addr:
		if a == "" {
			<-read
			return fmt.Errorf("a worker did not come up: %w", errors.Join(io.ErrUnexpectedEOF, c.end()))
		}
		p.url = "http://" + a
	case <-ctx.Done():
		err := c.cmd.Process.Kill()
		<-read
		_ = c.end() // it was killed
		return fmt.Errorf("a worker did not come up: %w", errors.Join(ctx.Err(), err))
	}
	fmt.Fprintf(ws.out, "worker: process %d on %s\n", c.cmd.Process.Pid, p.url)
	ws.mu.Lock()
	ws.alive = append(ws.alive, p)
	close(ws.more)
	ws.more = make(chan struct{})
	ws.mu.Unlock()
	go ws.watch(p, read)
	return nil
}

// watch waits for the end of a worker, which nobody is sent to any more then.
func (ws *workers) watch(p *process, read <-chan struct{}) {
	<-read
	err := p.cmd.Wait()
	ws.mu.Lock()
	for i, q := range ws.alive {
		if q == p {
			ws.alive = append(ws.alive[:i:i], ws.alive[i+1:]...)
			if !p.killed {
				ws.err = errors.Join(ws.err, fmt.Errorf("process %d ended by itself: %w", p.cmd.Process.Pid, errors.Join(err, io.ErrUnexpectedEOF)))
			}
			break
		}
	}
	ws.mu.Unlock()
	close(p.gone)
}

// pick is the address of worker i of those alive. Where there is none, it waits
// for one.
func (ws *workers) pick(ctx context.Context, i int) (string, error) {
	for {
		ws.mu.Lock()
		n, more, err := len(ws.alive), ws.more, ws.err
		var url string
		if n > 0 {
			url = ws.alive[i%n].url
		}
		ws.mu.Unlock()
		if n > 0 || err != nil {
			return url, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// killEvery kills a worker and starts another, every so often, until during is
// over.
func (ws *workers) killEvery(during, firm context.Context, every time.Duration) error {
	if every == 0 {
		return nil
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-during.Done():
			return nil
		case <-tick.C:
		}
		ws.mu.Lock()
		if len(ws.alive) == 0 {
			ws.mu.Unlock()
			return ws.failed()
		}
		p := ws.alive[rand.IntN(len(ws.alive))]
		p.killed = true
		ws.killedN++
		err := p.cmd.Process.Kill()
		ws.mu.Unlock()
		if err != nil {
			return err
		}
		<-p.gone
		fmt.Fprintf(ws.out, "worker: process %d killed\n", p.cmd.Process.Pid)
		if err := ws.start(firm); err != nil {
			return err
		}
	}
}

func (ws *workers) kills() int {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.killedN
}

// failed is what workers ended of that nobody killed.
func (ws *workers) failed() error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.err
}

// stop ends all of them.
func (ws *workers) stop() error {
	ws.mu.Lock()
	all := ws.alive
	ws.alive = nil
	ws.mu.Unlock()
	var errs []error
	for _, p := range all {
		errs = append(errs, p.life.Close())
	}
	for _, p := range all {
		<-p.gone
		if s := p.cmd.ProcessState; !s.Success() {
			errs = append(errs, fmt.Errorf("process %d: %s", p.cmd.Process.Pid, s))
		}
	}
	return errors.Join(errs...)
}
