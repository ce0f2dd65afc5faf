package quota

// HoldState is what became of a reservation.
type HoldState uint8

// The states. The numbers are stored: they never change.
const (
	HoldNone      HoldState = iota // not a reservation
	HoldOpen                       // held
	HoldCommitted                  // spent
	HoldReleased                   // given back
	HoldExpired                    // its time was over
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
	Expires  int64    // an open reservation's end
	Settled  int64    // when it was committed, released or expired
	Actual   Credits  // what a commit spent
	Final    []Figure // what the commit or release answered
	Refunded Credits  // of this charge or commit
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
