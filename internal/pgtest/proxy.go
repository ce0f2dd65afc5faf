//go:build unix

package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
)

// Proxy stands between clients and a server, on a unix socket of its own, and
// understands the messages that pass
// (https://www.postgresql.org/docs/current/protocol-message-formats.html): a
// test may cut a connection at any of them, hold all of them back, or lead new
// connections to another server. Safe for concurrent use.
type Proxy struct {
	dir string
	in  net.Listener
	all sync.WaitGroup

	mu     sync.Mutex
	target string
	judge  func(*Message) Verdict
	gate   chan struct{} // closed: bytes may pass
	conns  map[*wire]bool
	count  int
	closed bool
}

// Verdict is what becomes of a message.
type Verdict int

// Verdicts.
const (
	Pass      Verdict = iota
	Cut               // it is lost, and the connection with it
	CutBehind         // it arrives, and nothing after it
)

// NewProxy makes a Proxy in front of the server whose socket is in directory
// host. It ends with Close.
func NewProxy(host string) (*Proxy, error) {
	dir, err := os.MkdirTemp("/tmp", "pgproxy-")
	if err != nil {
		return nil, fmt.Errorf("pgtest: proxy: %w", err)
	}
	in, err := net.Listen("unix", socket(dir))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: proxy: %w", err), os.RemoveAll(dir))
	}
	p := &Proxy{dir: dir, in: in, target: socket(host), gate: make(chan struct{}), conns: map[*wire]bool{}}
	close(p.gate)
	p.all.Go(p.accept)
	return p, nil
}

// DSN is the connection string of the server behind it.
func (p *Proxy) DSN() string { return dsn(p.dir) }

// Target leads new connections to the server whose socket is in directory host;
// those that are open stay.
func (p *Proxy) Target(host string) {
	p.mu.Lock()
	p.target = socket(host)
	p.mu.Unlock()
}

// Judge has every message looked at before it passes, one at a time. Nil: all
// pass.
func (p *Proxy) Judge(judge func(*Message) Verdict) {
	p.mu.Lock()
	p.judge = judge
	p.mu.Unlock()
}

// Hold keeps every byte back until it is called with false.
func (p *Proxy) Hold(hold bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
		if hold {
			p.gate = make(chan struct{})
		}
	default:
		if !hold {
			close(p.gate)
		}
	}
}

// Drop cuts every connection that is open.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.conns {
		w.cut()
	}
}

// Close ends the Proxy and every connection through it. Idempotent.
func (p *Proxy) Close() error {
	p.mu.Lock()
	was := p.closed
	p.closed = true
	p.mu.Unlock()
	if was {
		return nil
	}
	p.Hold(false)
	err := p.in.Close()
	p.Drop()
	p.all.Wait()
	return errors.Join(err, os.RemoveAll(p.dir))
}

func (p *Proxy) accept() {
	for {
		client, err := p.in.Accept()
		if err != nil {
			return // it was closed
		}
		p.all.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	p.wait()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("unix", target)
	if err != nil {
		_ = client.Close() // as a server that is away does
		return
	}
	p.mu.Lock()
	p.count++
	w := &wire{p: p, number: p.count, client: client, server: server, statements: map[string]string{}, portals: map[string]string{}, status: 'I'}
	p.conns[w] = true
	if p.closed {
		w.cut()
	}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { w.pump(bufio.NewReader(client), server, false) })
	both.Go(func() { w.pump(bufio.NewReader(server), client, true) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, w)
	p.mu.Unlock()
}

// wait returns when bytes may pass.
func (p *Proxy) wait() {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	<-gate
}
