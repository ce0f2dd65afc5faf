package quota

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrExceeded is matched by the error that Decision.Err makes of a refusal.
var ErrExceeded = errors.New("limit exceeded")

const inlineFigures = 3

// Decision is what became of a charge, a reservation or a settlement. A
// refusal is a Decision, not an error. The zero Decision admits nothing.
type Decision struct {
	// Allowed: the operation applied, now or before under the same id.
	Allowed bool
	// Replayed: it applied before; this is the first result, given again.
	Replayed bool
	// Requested is the amount asked for.
	Requested Credits
	// Overrun is, of a Commit, how much it was above its reservation.
	Overrun Credits
	// ID is the operation's id, or the reservation's.
	ID string

	refused uint64
	levels  [MaxLevels]shown
	receipt *Receipt
	inline  [inlineFigures]Figure
	more    []Figure
	n       uint8
	depth   uint8
}

// shown is what a Decision tells of a Level.
type shown struct {
	purse *Purse
	win   *windows
}

// LimitStatus is the state of one limit in its window.
type LimitStatus struct {
	Subject   Subject   `json:"subject"`
	Limit     string    `json:"limit"`
	Max       Credits   `json:"max"`   // in force: a raise, top-ups and a shortened first window included
	Extra     Credits   `json:"extra"` // of Max: raises and top-ups
	Used      Credits   `json:"used"`
	Held      Credits   `json:"held"`
	Overage   Credits   `json:"overage"`
	Stranded  Credits   `json:"stranded,omitzero"` // the part of Held of blocks whose owner is dead: see Block; in a Status only
	Remaining Credits   `json:"remaining"`         // max(0, Max - Used - Overage - Held)
	Requested Credits   `json:"requested"`         // of the decision; 0 in a Status
	Start     time.Time `json:"start,omitzero"`    // of the window; zero where it never resets
	ResetAt   time.Time `json:"reset_at,omitzero"` // the window's end; zero where it never resets
	Soft      bool      `json:"soft,omitempty"`    // never refuses
	Refused   bool      `json:"refused,omitempty"` // this limit stands in the way
}

// Refused reports whether limits stood in the way.
func (d *Decision) Refused() bool { return d.refused != 0 }

// Limits are the states of every limit of the chain, the caller's own first,
// the organization's last: after the operation, or as a refusal found them.
func (d *Decision) Limits() []LimitStatus {
	out := make([]LimitStatus, 0, int(d.n))
	d.each(func(s LimitStatus) { out = append(out, s) })
	return out
}

// RefusedBy are the limits that stood in the way: every one of them.
func (d *Decision) RefusedBy() []LimitStatus {
	if d.refused == 0 {
		return nil
	}
	var out []LimitStatus
	d.each(func(s LimitStatus) {
		if s.Refused {
			out = append(out, s)
		}
	})
	return out
}

// Remaining is the least that is left of any limit of the chain that refuses;
// ok is false where there is none.
func (d *Decision) Remaining() (least Credits, ok bool) {
	d.each(func(s LimitStatus) {
		if !s.Soft && (!ok || s.Remaining < least) {
			least, ok = s.Remaining, true
		}
	})
	return least, ok
}

// show notes whose limits these are.
func (d *Decision) show(levels []*Level) {
	d.depth = uint8(len(levels))
	for i, l := range levels {
		d.levels[i] = shown{l.purse, l.win}
	}
}

func (d *Decision) figure(i int) Figure {
	if d.more != nil {
		return d.more[i]
	}
	return d.inline[i]
}

func (d *Decision) each(fn func(LimitStatus)) {
	i := 0
	one := func(s Subject, e *Entry) {
		if i < int(d.n) {
			st := status(s, e, d.figure(i))
			st.Requested, st.Refused = d.Requested, d.refused&(1<<i) != 0
			fn(st)
		}
		i++
	}
	if r := d.receipt; r != nil {
		for j := range r.Levels {
			for k := range r.Levels[j].Limits {
				one(r.Levels[j].Subject, &r.Levels[j].Limits[k])
			}
		}
		return
	}
	for _, l := range d.levels[:d.depth] {
		for k := range l.win.entries {
			one(l.purse.subject, &l.win.entries[k])
		}
	}
}

func status(s Subject, e *Entry, f Figure) LimitStatus {
	st := LimitStatus{
		Subject: s, Limit: e.Limit, Max: f.Max, Extra: e.Extra, Used: f.Used, Held: f.Held, Overage: f.Overage, Stranded: f.Stranded,
		Remaining: f.Remaining(), Soft: e.Soft,
	}
	if e.End != 0 {
		st.Start, st.ResetAt = time.UnixMicro(e.Start).UTC(), time.UnixMicro(e.End).UTC()
	}
	return st
}

// take fills the figures from a Result.
func (d *Decision) take(f []Figure) {
	d.n = uint8(len(f)) // at most MaxLevels x MaxLimits
	if len(f) <= inlineFigures {
		copy(d.inline[:], f)
		return
	}
	d.more = append([]Figure(nil), f...)
}

// Err is nil where the operation applied, and otherwise an *ExceededError,
// for those who want refusals as errors.
func (d *Decision) Err() error {
	if d.Allowed {
		return nil
	}
	return &ExceededError{Requested: d.Requested, Limits: d.RefusedBy()}
}

// ExceededError is a refusal as an error. It matches ErrExceeded.
type ExceededError struct {
	Requested Credits
	Limits    []LimitStatus // those that stood in the way
}

// Error names every limit that stood in the way.
func (e *ExceededError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %s credits requested", ErrExceeded, e.Requested)
	for _, l := range e.Limits {
		fmt.Fprintf(&b, "; %s %s has %s of %s left", l.Subject, l.Limit, l.Remaining, l.Max)
		if !l.ResetAt.IsZero() {
			fmt.Fprintf(&b, " until %s", l.ResetAt.Format(time.RFC3339))
		}
	}
	return b.String()
}

// Is matches ErrExceeded.
func (e *ExceededError) Is(target error) bool { return target == ErrExceeded }
