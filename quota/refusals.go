package quota

import (
	"context"
	"sync"
	"time"
)

// Reason says why a request of a known caller was refused; it is counted in
// the caller's usage. A host may count reasons of its own: 1 to 32 of a-z and "_".
type Reason string

// The reasons that the library counts itself.
const (
	ReasonLimit    Reason = "limit"    // a limit stood in the way
	ReasonRate     Reason = "rate"     // the rate limit
	ReasonScope    Reason = "scope"    // a scope is missing
	ReasonAddress  Reason = "address"  // not on the allowlist
	ReasonDisabled Reason = "disabled" // the key or the account is disabled
	ReasonExpired  Reason = "expired"  // the key expired
)

// Series is the bucket series that counts the reason.
func (r Reason) Series() string { return SeriesRefused + string(r) }

const (
	refusalDelay = time.Second
	maxRefusals  = 1 << 14 // distinct counts in memory
)

// refusals counts refused requests in memory. They are written with the next
// commit or within a second; a crash may lose them, never a credit.
type refusals struct {
	mu     sync.Mutex
	counts map[refusal]int64
	timer  *time.Timer
	closed bool
	write  func([]*Op)
	wg     sync.WaitGroup
	// writing holds a token while counts are on their way to the store, so
	// that who flushes them waits for those that a timer took.
	writing chan struct{}
}

type refusal struct {
	org     string
	subject Subject
	reason  Reason
	bucket  int64
}

func newRefusals(write func([]*Op)) *refusals {
	return &refusals{counts: map[refusal]int64{}, write: write, writing: make(chan struct{}, 1)}
}

func (f *refusals) add(org string, reason Reason, levels []*Level, at int64) {
	f.mu.Lock()
	for _, l := range levels {
		k := refusal{org, l.Subject, reason, BucketStart(at)}
		if _, ok := f.counts[k]; !ok && len(f.counts) >= maxRefusals {
			continue // a flood of callers within a second: the counts are a courtesy, the memory is not
		}
		f.counts[k]++
	}
	if f.timer == nil && !f.closed {
		f.wg.Add(1)
		f.timer = time.AfterFunc(refusalDelay, f.fire)
	}
	f.mu.Unlock()
}

func (f *refusals) fire() {
	defer f.wg.Done()
	f.mu.Lock()
	f.timer = nil
	f.mu.Unlock()
	f.writing <- struct{}{}
	defer func() { <-f.writing }()
	if ops := f.take(); len(ops) > 0 {
		f.write(ops)
	}
}

// take hands over what was counted, an Op an organization.
func (f *refusals) take() []*Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.counts) == 0 {
		return nil
	}
	byOrg := map[string]*Op{}
	var ops []*Op
	for k, n := range f.counts {
		op := byOrg[k.org]
		if op == nil {
			op = &Op{Verb: VerbCount, Org: k.org}
			byOrg[k.org] = op
			ops = append(ops, op)
		}
		op.Counts = append(op.Counts, Count{Subject: k.subject, Series: k.reason.Series(), Bucket: k.bucket, Requests: n})
	}
	clear(f.counts)
	return ops
}

// close stops the timer. What is counted stays for take.
func (f *refusals) close() {
	f.mu.Lock()
	f.closed = true
	if f.timer != nil && f.timer.Stop() {
		f.wg.Done()
	}
	f.timer = nil
	f.mu.Unlock()
	f.wg.Wait()
}

// Refuse counts a request that was refused for another reason than a limit, on
// every subject of the chain. It waits for nothing.
func (l *Ledger) Refuse(ctx context.Context, src Source, reason Reason, at time.Time) {
	chain, err := src.Chain(ctx, false)
	if err != nil {
		return
	}
	var room levels
	lvs, err := room.of(&chain, Micros(at))
	if err != nil {
		return
	}
	l.counts.add(chain.Org, reason, lvs, Micros(at))
}
