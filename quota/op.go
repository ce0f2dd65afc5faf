package quota

// Verb is what an Op does.
type Verb uint8

// The verbs. The numbers are stored: they never change.
const (
	VerbCharge  Verb = 1 + iota // admit Amount and spend it
	VerbReserve                 // admit Amount and hold it until Expires
	VerbCommit                  // spend Amount of the reservation Of and free the rest
	VerbRelease                 // free the reservation Of
	VerbRenew                   // move the end of the reservation Of to Expires
	VerbRefund                  // take Amount of the charge or commit Of back
	VerbCount                   // count refused requests; decides nothing
	VerbLease                   // take a block: hold up to Amount, to be spent from in memory
	VerbSettle                  // spend of the block Of, and keep or end it
)

// String is the verb's name.
func (v Verb) String() string {
	switch v {
	case VerbCharge:
		return "charge"
	case VerbReserve:
		return "reserve"
	case VerbCommit:
		return "commit"
	case VerbRelease:
		return "release"
	case VerbRenew:
		return "renew"
	case VerbRefund:
		return "refund"
	case VerbCount:
		return "count"
	case VerbLease:
		return "lease"
	case VerbSettle:
		return "settle"
	}
	return "unknown verb"
}

// Bounds on one Op.
const (
	MaxLevels = 4        // subjects on a chain
	MaxLimits = 16       // limits of one subject
	MaxIDLen  = 255      // bytes of an operation's id
	MaxHolds  = 1 << 17  // open reservations of one organization
	maxTTL    = 31 * day // of a reservation
	day       = 24 * 60 * 60 * 1_000_000
)

// Entry is one limit in one window, with the bounds that the Ledger computed
// from the records: whoever stores counters knows no periods, zones or tree.
type Entry struct {
	Max        Credits // the limit's own Max
	Extra      Credits // on top of it: a raise, a top-up
	Number     uint32
	Soft       bool  // counts and reports, never refuses
	Start, End int64 // microseconds of Unix time; both 0 where it never resets
	Limit      string
	Thresholds []Threshold
}

// Level is one subject of a chain with the windows of its limits: right for
// instants in [From, Until), immutable. It is used with one store only.
type Level struct {
	Subject     Subject
	Sequence    uint32 // the highest Number ever given on this subject
	From, Until int64  // microseconds of Unix time
	Bucket      int64  // start of the usage bucket
	Limits      []Entry

	// Whose Level this is; nil in one that was made without a Purse.
	purse *Purse
	win   *windows
}

// memo is the Purse's, which outlives the Level.
func (l *Level) memo() *memo {
	if l.purse == nil {
		return nil
	}
	return &l.purse.memo
}

// Op is one operation on bounded counters: it applies wholly or not at all.
// The store sets Result.
type Op struct {
	Verb     Verb
	Org      string
	Settings int64   // Charge, Reserve, Lease, a Settle that keeps: the number that the Levels were computed from
	At       int64   // now, microseconds of Unix time
	Caller   Subject // who asks: a key or a member; "" for the host itself where a verb settles
	ID       string  // of this operation; "" is none; a Reserve must have one
	Of       string  // Commit, Release, Renew: the reservation. Refund: the charge. Lease: the owner. Settle: the block
	Amount   Credits // Lease: the most that is of use. Settle: all that was spent of the block since it was taken
	TTL      int64   // Reserve, Renew, Lease: microseconds from At. Settle: the same, 0 ends the block
	Keep     int64   // until when an id is remembered, microseconds of Unix time
	Strict   bool    // Commit: refuse more than was reserved instead of recording overage
	// Size: of a Lease, the least that is of use; of a Settle that keeps, what
	// the block should hold from then on.
	Size     Credits
	Requests int64 // Settle: all the requests that were charged to the block since it was taken
	Seq      int64 // Settle: above that of the owner's one before; 0: by hand, of a stranded block
	Levels   []*Level
	Counts   []Count // Count
	Result   Result
}

// Count adds refused requests to a usage bucket.
type Count struct {
	Subject  Subject
	Series   string // SeriesRefused and a reason
	Bucket   int64
	Requests int64
}

// Outcome is what became of an Op.
type Outcome uint8

// The outcomes. Everything but Applied changed nothing.
const (
	Failed   Outcome = iota // not decided: see Result.Err
	Applied                 // done, now
	Replayed                // done before under the same id; the first result is given again
	Refused                 // a limit stands in the way
	Stale                   // the records moved: read them again
	Conflict                // the id did something else
	Expired                 // the reservation's time was over
	Unknown                 // no such reservation or charge
	Excess                  // more than what it settles
	Overflow                // a sum would leave int64
	Full                    // too many open reservations
)

// String is the outcome's name.
func (o Outcome) String() string {
	names := [...]string{"failed", "applied", "replayed", "refused", "stale", "conflict", "expired", "unknown", "excess", "overflow", "full"}
	if int(o) < len(names) {
		return names[o]
	}
	return "unknown outcome"
}

// Result is what the store says of an Op. It never fails the Op's neighbours.
type Result struct {
	Outcome Outcome
	Err     error  // Failed: why, ErrCorrupt for one
	Refused uint64 // bit i: the i-th limit of the chain stands in the way
	// Figures of every limit, in the order of the chain: after the operation
	// where it applied, as found where it was refused. The store appends to
	// what it finds here, from length 0.
	Figures []Figure
	Receipt *Receipt // of a replay, a settlement or a refund: read only
}

// Figure is the state of one limit as an Op left or found it.
type Figure struct {
	Max, Used, Held, Overage Credits
	// Stranded is the part of Held that nobody holds any more: see
	// HoldStranded. A Peek says it; in a Result it is 0.
	Stranded Credits
}

// Remaining is max(0, Max - Used - Overage - Held).
func (f Figure) Remaining() Credits { return room(f.Max, f.Used, f.Overage, f.Held) }

// room is what is left below bound, never negative, without overflow.
func room(bound, used, overage, held Credits) Credits {
	r := bound
	for _, x := range [...]Credits{used, overage, held} {
		if r <= x {
			return 0
		}
		r -= x
	}
	return r
}

// satAdd adds two amounts that are not negative, stopping at MaxCredits.
func satAdd(a, b Credits) Credits {
	if s := a + b; s >= a && s >= 0 {
		return s
	}
	return MaxCredits
}
