package quota

import (
	"context"
	"fmt"
	"sync"
)

// call is one caller's Op on its way through the store, with the room that it
// needs, so that a charge allocates nothing of its own.
type call struct {
	op      Op
	one     [1]*Op
	levels  levels
	figures [2 * inlineFigures]Figure
	gone    bool // the caller left before the batch was taken
}

var calls = sync.Pool{New: func() any {
	c := new(call)
	c.one[0] = &c.op
	return c
}}

func newCall() *call {
	c := calls.Get().(*call)
	c.op.Result.Figures = c.figures[:0]
	return c
}

func (c *call) free() {
	c.op = Op{}
	c.gone = false
	calls.Put(c)
}

// batch is what gathers while the store commits the one before.
type batch struct {
	calls []*call
	ready chan struct{}
	err   error
}

// group is a group commit without a timer: while one batch is being applied
// the next one gathers, so a lone caller waits for nobody and many callers
// share one durable commit.
type group struct {
	store Store
	most  int // callers that may wait
	extra func() []*Op

	mu     sync.Mutex
	next   *batch
	busy   bool
	closed bool
	idle   *sync.Cond // on mu: not busy any more

	ops []*Op // of run, of which there is one at a time
}

// maxBatch bounds the Ops of one Apply.
const maxBatch = 4096

func newGroup(s Store, most int, extra func() []*Op) *group {
	g := &group{store: s, most: most, extra: extra}
	g.idle = sync.NewCond(&g.mu)
	return g
}

// do applies c and returns when that is durable. kept reports whether the
// store may still write to c: it must then not be used again.
func (g *group) do(ctx context.Context, c *call) (kept bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("quota: %s: not begun: %w", c.op.Verb, err)
	}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return false, fmt.Errorf("quota: %s: %w", c.op.Verb, ErrClosed)
	}
	alone := !g.busy
	g.busy = true
	if alone && ctx.Done() == nil {
		g.mu.Unlock()
		err := g.apply(c.one[:])
		g.handOver()
		return false, err
	}
	b := g.next
	if b == nil {
		b = &batch{ready: make(chan struct{})}
	}
	if len(b.calls) >= g.most {
		g.mu.Unlock()
		return false, fmt.Errorf("quota: %s: %w: %d callers wait for the store", c.op.Verb, ErrBusy, g.most)
	}
	b.calls = append(b.calls, c)
	if alone {
		go g.serve(b) // the store may take longer than the caller has time
	} else {
		g.next = b
	}
	g.mu.Unlock()
	if ctx.Done() == nil {
		<-b.ready
		return false, b.err
	}
	select {
	case <-b.ready:
		return false, b.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	waiting := g.next == b
	if waiting {
		c.gone = true
	}
	g.mu.Unlock()
	if waiting {
		return true, fmt.Errorf("quota: %s: not begun: %w", c.op.Verb, ctx.Err())
	}
	return true, fmt.Errorf("quota: %s: %w: %w", c.op.Verb, ErrUnknownOutcome, ctx.Err())
}

// handOver lets the batch that gathered go on its way.
func (g *group) handOver() {
	g.mu.Lock()
	if g.next == nil {
		g.busy = false
		g.idle.Broadcast()
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	go g.run()
}

// run takes the batch that gathered on its way, if one did.
func (g *group) run() {
	g.mu.Lock()
	b := g.next
	g.next = nil
	if b == nil {
		g.busy = false
		g.idle.Broadcast()
	}
	g.mu.Unlock()
	if b != nil {
		g.serve(b)
	}
}

// serve applies a batch, answers it and lets the next one go.
func (g *group) serve(b *batch) {
	g.mu.Lock()
	ops := g.ops[:0]
	for _, c := range b.calls {
		if !c.gone {
			ops = append(ops, &c.op)
		}
	}
	g.mu.Unlock()
	for at := 0; at < len(ops) && b.err == nil; at += maxBatch {
		b.err = g.apply(ops[at:min(at+maxBatch, len(ops))])
	}
	clear(ops)
	g.ops = ops
	close(b.ready)
	// Those who were answered mostly ask again at once: let them come to the
	// next batch together, instead of half of them to this and half to the
	// next. A goroutine that is started goes to the front of its processor's
	// queue and sends the one before it to the end: so run comes after all who
	// were woken, and at once where nobody was.
	go g.run()
	go func() {}()
}

// apply gives the store one batch, with whatever else is waiting to be written.
func (g *group) apply(ops []*Op) error {
	if x := g.extra(); len(x) > 0 {
		ops = append(ops[:len(ops):len(ops)], x...)
	}
	// A batch belongs to many callers: none of their contexts may end it.
	if err := g.store.Apply(context.Background(), ops); err != nil {
		return fmt.Errorf("quota: %w: %w", ErrUnknownOutcome, err)
	}
	return nil
}

// close refuses new callers and waits for those that are on their way.
func (g *group) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for g.busy {
		g.idle.Wait()
	}
}
