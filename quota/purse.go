package quota

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// LimitSet is the limits of a subject, or of many that have the same: it is
// immutable, safe for concurrent use, and remembers the windows that it was
// last asked for.
type LimitSet struct {
	limits []Limit
	most   uint32 // the highest Number
	last   atomic.Pointer[windows]
}

// windows are the limits' windows, right in [from, until).
type windows struct {
	from, until int64
	entries     []Entry
}

// NewLimitSet makes a LimitSet. defaults are the thresholds of limits that
// name none. Errors wrap ErrInvalid.
func NewLimitSet(limits []Limit, defaults []Threshold) (*LimitSet, error) {
	if len(limits) > MaxLimits {
		return nil, fmt.Errorf("%w limits: %d, at most %d", ErrInvalid, len(limits), MaxLimits)
	}
	s := &LimitSet{limits: append([]Limit(nil), limits...)}
	for i := range s.limits {
		l := &s.limits[i]
		if l.Number == 0 {
			return nil, fmt.Errorf("%w limit %q: it has no number; numbers begin at 1", ErrInvalid, l.Name)
		}
		s.most = max(s.most, l.Number)
		if l.Thresholds == nil {
			l.Thresholds = defaults
		}
	}
	return s, nil
}

func (s *LimitSet) at(at int64) (*windows, error) {
	if w := s.last.Load(); w != nil && at >= w.from && at < w.until {
		return w, nil
	}
	w := &windows{until: math.MaxInt64}
	if len(s.limits) > 0 {
		w.entries = make([]Entry, len(s.limits))
	}
	for i := range s.limits {
		e, until, err := s.limits[i].Entry(time.UnixMicro(at).UTC())
		if err != nil {
			return nil, err
		}
		w.entries[i] = e
		w.from = max(w.from, e.Start)
		if r := s.limits[i].Raise; r != nil && Micros(r.Until) <= at {
			w.from = max(w.from, Micros(r.Until)) // a clock that runs back meets the raise again
		}
		if !until.IsZero() {
			w.until = min(w.until, Micros(until))
		}
	}
	s.last.Store(w)
	return w, nil
}

// Purse is a subject with its limits, as its record says them. It is immutable
// and safe for concurrent use, with one store.
type Purse struct {
	set      *LimitSet
	subject  Subject
	sequence uint32
	memo     memo
}

// NewPurse makes the Purse of a subject. sequence is the highest Number ever
// given on it. defaults are the thresholds of limits that name none. Errors
// wrap ErrInvalid.
func NewPurse(s Subject, sequence uint32, limits []Limit, defaults []Threshold) (*Purse, error) {
	set, err := NewLimitSet(limits, defaults)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	p := new(Purse)
	if err := p.Fill(s, sequence, set); err != nil {
		return nil, err
	}
	return p, nil
}

// Fill makes a zero Purse, one that lies in a struct of the caller's or shares
// its LimitSet with others, what NewPurse would make. Call it once, before the
// Purse is used.
func (p *Purse) Fill(s Subject, sequence uint32, set *LimitSet) error {
	if set.most > sequence {
		return fmt.Errorf("%w limits of %s: a limit has the number %d, the highest given is %d", ErrInvalid, s, set.most, sequence)
	}
	p.subject, p.sequence, p.set = s, sequence, set
	return nil
}

// Subject is whose Purse this is.
func (p *Purse) Subject() Subject { return p.subject }

// Warm brings what a charge of the Purse will need into the processor's cache
// while the caller does something else; it decides nothing.
func (p *Purse) Warm() {
	for i := range p.memo.few {
		if r := p.memo.few[i].Load(); r != nil && r.in == nil {
			return // never: reading it is the point
		}
	}
}

// Level gives the windows of the limits at instant at, microseconds of Unix
// time. Errors wrap ErrInvalid: an instant outside the calendar.
func (p *Purse) Level(at int64) (*Level, error) {
	l := new(Level)
	return l, p.levelInto(l, at, BucketStart(at))
}

func (p *Purse) levelInto(l *Level, at, bucket int64) error {
	w, err := p.set.at(at)
	if err != nil {
		return fmt.Errorf("%s: %w", p.subject, err)
	}
	l.Subject, l.Sequence, l.Limits, l.Bucket, l.purse, l.win = p.subject, p.sequence, w.entries, bucket, p, w
	l.From, l.Until = max(bucket, w.from), min(bucket+bucketMicros, w.until)
	return nil
}

// Chain is who is charged, as the records say it: the caller's own Purse first
// (the key's, or the member's), the organization's last. All are charged or none.
type Chain struct {
	Org      string
	Settings int64   // the organization's number when the records were read
	Caller   Subject // whose ids these are: the key or the member
	Purses   []*Purse
}

// Source knows the Chain of a caller. Chain is called on every charge and
// should remember; fresh asks it to read the records again, because the store
// said that they moved. It returns an error where the caller may no longer
// spend, and that error is what the charge returns. Safe for concurrent use.
type Source interface {
	Chain(ctx context.Context, fresh bool) (Chain, error)
}

// levels are the Levels of a chain at one instant, with the room for them.
type levels struct {
	all [MaxLevels]Level
	ptr [MaxLevels]*Level
}

// of fills l with the Levels of the chain.
func (l *levels) of(c *Chain, at int64) ([]*Level, error) {
	if err := c.fill(&l.all, at); err != nil {
		return nil, err
	}
	for i := range c.Purses {
		l.ptr[i] = &l.all[i]
	}
	return l.ptr[:len(c.Purses)], nil
}

// fill makes the Levels of the chain. It keeps nothing of into, so that this
// may lie on the stack.
func (c *Chain) fill(into *[MaxLevels]Level, at int64) error {
	if len(c.Purses) == 0 || len(c.Purses) > MaxLevels {
		return fmt.Errorf("%w chain: %d purses, want 1 to %d", ErrInvalid, len(c.Purses), MaxLevels)
	}
	if at < 0 || at > math.MaxInt64/4 {
		return fmt.Errorf("%w time: outside the calendar", ErrInvalid)
	}
	bucket := BucketStart(at)
	for i, p := range c.Purses {
		if err := p.levelInto(&into[i], at, bucket); err != nil {
			return err
		}
	}
	return nil
}

// Chain makes a Chain its own Source, for one that is known as it stands. A
// charge by it fails with ErrBusy when the records have moved.
func (c Chain) Chain(context.Context, bool) (Chain, error) { return c, nil }
