package quota

import "math"

// HoldState is what became of a reservation.
type HoldState uint8

// The states. The numbers are stored: they never change.
const (
	HoldNone      HoldState = iota // not a reservation
	HoldOpen                       // held
	HoldCommitted                  // spent
	HoldReleased                   // given back
	HoldExpired                    // its time was over
	// HoldStranded: a block whose time was over before its owner ended it. What
	// it holds may have been spent, so that it stays held to the end of its
	// windows; of a limit that never resets, until it is settled by hand.
	HoldStranded
)

// Receipt is what an id did: enough to give the first result again, to settle
// a reservation and to refund a charge. Ids belong to the organization, one
// namespace for all verbs.
type Receipt struct {
	ID     string
	Verb   Verb
	Caller Subject
	Of     string
	Amount Credits
	TTL    int64
	At     int64 // when it was applied
	Keep   int64 // until when it is remembered
	// Levels are the counters that it touched, Figures what they said.
	Levels  []ReceiptLevel
	Figures []Figure

	Hold     HoldState
	Expires  int64    // the end of what is held; of a block that is stranded for good, math.MaxInt64
	Settled  int64    // when it was committed, released or expired
	Actual   Credits  // what a commit spent
	Final    []Figure // what the commit or release answered
	Refunded Credits  // of this charge or commit

	// Of a block. Its owner is Of, Amount what was asked for, Actual what was
	// settled of it so far.
	Left     Credits // what it holds
	Requests int64   // settled so far
	Seq      int64   // of the last settlement; settledByHand
}

// settledByHand is the Seq of a block that its owner does not settle any more.
const settledByHand = math.MaxInt64

// Held reports whether the receipt holds credits: a reservation or block that
// is open, or a block that is stranded.
func (r *Receipt) Held() bool { return r.Hold == HoldOpen || r.Hold == HoldStranded }

// Holding is how much the receipt holds; 0 where it is not Held.
func (r *Receipt) Holding() Credits {
	switch {
	case !r.Held():
		return 0
	case r.Verb == VerbLease:
		return r.Left
	}
	return r.Amount
}

// ReceiptLevel is one subject of a Receipt's chain.
type ReceiptLevel struct {
	Subject  Subject
	Sequence uint32
	Bucket   int64
	Limits   []Entry // as they were admitted
}

// spent is what the receipt's operation charged in the end.
func (r *Receipt) spent() Credits {
	if r.Verb == VerbReserve {
		if r.Hold == HoldCommitted {
			return r.Actual
		}
		return 0
	}
	return r.Amount
}

// copy is a copy that shares nothing that changes: levels and figures are
// written once and only ever replaced whole.
func (r *Receipt) copy() *Receipt {
	c := *r
	return &c
}
