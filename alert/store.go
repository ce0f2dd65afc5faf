package alert

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/keypurse/keypurse/quota"
)

// ErrMoved is what Store.Dispatch says where another process dispatched the
// same alerts first. Nothing was changed.
var ErrMoved = errors.New("the outbox was dispatched by another")

// Bounds on what is stored.
const (
	MaxSinkName = 255 // bytes
	MaxPage     = 1000
	MaxSubjects = 256 // of a Recent
	maxError    = 500 // bytes of a failure's text
)

// Store is what this package needs of a backend: the outbox, and for each of
// its alerts how far the delivery to each sink has come. Safe for concurrent
// use; each call is atomic and durable as far as the backend is, across
// processes where it is shared. Times are microseconds of Unix time. What no
// store takes is refused with an error that wraps quota.ErrInvalid.
type Store interface {
	// Outbox lists up to n alerts with Seq above after, in their order.
	Outbox(ctx context.Context, after int64, n int) ([]quota.Alert, error)
	// Alerts lists up to q.N alerts that match, the newest first. It costs what
	// it answers, however many alerts of others there are.
	Alerts(ctx context.Context, q Recent) ([]quota.Alert, error)
	// Dispatched is the Seq up to which alerts were dispatched; 0 before the first.
	Dispatched(ctx context.Context) (seq int64, err error)
	// Dispatch puts up deliveries (of each, Alert.Seq, Sink, State, Next and At
	// count) and notes that alerts up to the Seq to are dispatched, where from
	// is what Dispatched gives; else it changes nothing and returns ErrMoved.
	// A delivery that is there already stays as it is. from may equal to.
	Dispatch(ctx context.Context, from, to int64, ds []Delivery) error
	// DueSinks names up to n sinks that have a delivery to be sent at instant
	// now, behind the sink after, in an order of the store's own that stays the
	// same; an empty after begins.
	DueSinks(ctx context.Context, now int64, after string, n int) ([]string, error)
	// ClaimDeliveries takes up to n deliveries of a sink that are Pending with
	// Next at or before now, those of the oldest Next first: of each, Attempt
	// and Tries rise by one and Next becomes until, before which nobody else
	// claims it. Of callers at the same moment, each gets others.
	ClaimDeliveries(ctx context.Context, sink string, now, until int64, n int) ([]Delivery, error)
	// SettleDeliveries sets State, Tries, Next, At and Error of deliveries whose
	// stored Attempt is the one given, passes over the others, and says how many
	// it set.
	SettleDeliveries(ctx context.Context, ds []Delivery) (settled int, err error)
	// Deliveries lists up to q.N deliveries that match, by Seq and sink; the
	// newest first where q says so. With Newest, or with Seqs, it costs what it
	// answers.
	Deliveries(ctx context.Context, q Query) ([]Delivery, error)
	// Turn gives one of many callers the turn named name until an instant:
	// true where nobody has it at instant now (see TurnOver).
	Turn(ctx context.Context, name string, now, until int64) (bool, error)
}

// State is how far a delivery has come. The numbers are stored: they never
// change.
type State uint8

// The states.
const (
	Pending   State = 1 + iota // to be sent, at Next or later
	Delivered                  // the sink took it
	Dead                       // given up: see Deliverer.Replay
)

// String is "pending", "delivered" or "dead".
func (s State) String() string {
	switch s {
	case Pending:
		return "pending"
	case Delivered:
		return "delivered"
	case Dead:
		return "dead"
	}
	return "unknown state"
}

// MarshalText writes what String says.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes. Errors wrap quota.ErrInvalid.
func (s *State) UnmarshalText(b []byte) error {
	for _, x := range []State{Pending, Delivered, Dead} {
		if x.String() == string(b) {
			*s = x
			return nil
		}
	}
	return fmt.Errorf("%w state %.20q: give pending, delivered or dead", quota.ErrInvalid, b)
}

// Delivery is one alert on its way to one sink.
type Delivery struct {
	Alert   quota.Alert // stores give the whole; Dispatch and SettleDeliveries look at its Seq
	Sink    string      // 1 to MaxSinkName bytes
	State   State
	Attempt int64  // how often it was claimed, ever
	Tries   int64  // how often since it was put up, or replayed
	Next    int64  // Pending: not before; microseconds of Unix time, like At
	At      int64  // when State was set
	Error   string // why the last try failed
}

// Query asks for deliveries. Zero values let everything through.
type Query struct {
	Org       string
	Sink      string
	State     State
	Seqs      []int64 // of these alerts alone, up to MaxPage of them
	Newest    bool    // the newest alert first; of one Sink alone, which it needs
	AfterSeq  int64   // the cursor: the Seq and the sink that the page before ended with
	AfterSink string
	N         int // 1 to MaxPage
}

// Match reports whether a delivery passes the query, cursor included: the one
// rule, for every store.
func (q *Query) Match(d *Delivery) bool {
	behind := d.Alert.Seq > q.AfterSeq || d.Alert.Seq == q.AfterSeq && d.Sink > q.AfterSink
	if q.Newest {
		behind = q.AfterSeq == 0 || d.Alert.Seq < q.AfterSeq
	}
	return behind && (q.Org == "" || d.Alert.Org == q.Org) && (q.Sink == "" || d.Sink == q.Sink) && (q.State == 0 || d.State == q.State) &&
		(len(q.Seqs) == 0 || slices.Contains(q.Seqs, d.Alert.Seq))
}

// Recent asks for an organization's alerts, the newest first.
type Recent struct {
	Org      string          // never empty
	Subjects []quota.Subject // whom they are about, up to MaxSubjects; empty: whoever it is
	Before   int64           // the cursor: the Seq that the page before ended with; 0 begins with the newest
	N        int             // 1 to MaxPage
}

// Match reports whether an alert passes, cursor included: the one rule, for
// every store.
func (q *Recent) Match(a *quota.Alert) bool {
	return a.Org == q.Org && (q.Before == 0 || a.Seq < q.Before) && (len(q.Subjects) == 0 || slices.Contains(q.Subjects, a.Subject))
}

// Post puts an alert of a kind into the outbox, in the same step as a Write of
// records. Where its ID is not empty and was posted before in the organization,
// it is passed over.
type Post struct {
	Alert quota.Alert // the store sets Seq and Org
	Keep  int64       // until when its ID is remembered, microseconds of Unix time
	Quiet bool        // remember the ID and alert nobody
}
