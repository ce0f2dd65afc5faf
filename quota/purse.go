package quota

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
)

// Purse is a subject with its limits, as its record says them. It is immutable
// and safe for concurrent use; it remembers the windows that it was last asked
// for, so that charges of one window share them.
type Purse struct {
	subject  Subject
	sequence uint32
	limits   []Limit
	level    atomic.Pointer[Level]
}

// NewPurse makes the Purse of a subject. sequence is the highest Number ever
// given on it. defaults are the thresholds of limits that name none. The
// slices are kept and must not change. Errors wrap ErrInvalid.
func NewPurse(s Subject, sequence uint32, limits []Limit, defaults []Threshold) (*Purse, error) {
	if len(limits) > MaxLimits {
		return nil, fmt.Errorf("%w limits of %s: %d, at most %d", ErrInvalid, s, len(limits), MaxLimits)
	}
	p := &Purse{subject: s, sequence: sequence, limits: make([]Limit, len(limits))}
	copy(p.limits, limits)
	for i := range p.limits {
		l := &p.limits[i]
		if l.Number == 0 || l.Number > sequence {
			return nil, fmt.Errorf("%w limit %q of %s: number %d, want 1 to %d", ErrInvalid, l.Name, s, l.Number, sequence)
		}
		if l.Thresholds == nil {
			l.Thresholds = defaults
		}
	}
	return p, nil
}

// Subject is whose Purse this is.
func (p *Purse) Subject() Subject { return p.subject }

// Level gives the windows of the limits at instant at, microseconds of Unix
// time. Errors wrap ErrInvalid: an instant outside the calendar.
func (p *Purse) Level(at int64) (*Level, error) {
	if l := p.level.Load(); l != nil && at >= l.From && at < l.Until {
		return l, nil
	}
	var l *Level
	if len(p.limits) == 1 {
		one := &struct { // a level and its entry side by side
			Level
			entry [1]Entry
		}{}
		l, one.Limits = &one.Level, one.entry[:]
	} else {
		l = &Level{Limits: make([]Entry, len(p.limits))}
	}
	l.Subject, l.Sequence, l.Bucket = p.subject, p.sequence, BucketStart(at)
	l.From, l.Until = l.Bucket, l.Bucket+quarterMicros
	t := Time(at)
	if at == 0 {
		t = t.UTC()
	}
	for i := range p.limits {
		e, until, err := p.limits[i].Entry(t)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.subject, err)
		}
		l.Limits[i] = e
		if e.Start > l.From && e.Start != 0 {
			l.From = e.Start
		}
		if u := until; !u.IsZero() {
			l.Until = min(l.Until, Micros(u))
		}
	}
	p.level.Store(l)
	return l, nil
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

// levels fills into with the Levels of the chain.
func (c *Chain) levels(into []*Level, at int64) ([]*Level, error) {
	if len(c.Purses) == 0 || len(c.Purses) > MaxLevels {
		return nil, fmt.Errorf("%w chain: %d purses, want 1 to %d", ErrInvalid, len(c.Purses), MaxLevels)
	}
	if at < 0 || at > math.MaxInt64/4 {
		return nil, fmt.Errorf("%w time: outside the calendar", ErrInvalid)
	}
	for _, p := range c.Purses {
		l, err := p.Level(at)
		if err != nil {
			return nil, err
		}
		into = append(into, l)
	}
	return into, nil
}

// Chain makes a Chain its own Source, for one that is known as it stands. A
// charge by it fails with ErrBusy when the records have moved.
func (c Chain) Chain(context.Context, bool) (Chain, error) { return c, nil }
