package alert

import (
	"fmt"

	"github.com/keypurse/keypurse/quota"
)

// CheckDispatch refuses what no store takes. Errors wrap quota.ErrInvalid. It
// is for backends.
func CheckDispatch(from, to int64, ds []Delivery) error {
	if from < 0 || to < from {
		return fmt.Errorf("%w range: from %d to %d", quota.ErrInvalid, from, to)
	}
	for i := range ds {
		d := &ds[i]
		if d.Sink == "" || len(d.Sink) > MaxSinkName || d.Alert.Seq < 1 || d.Alert.Seq > to || d.State < Pending || d.State > Dead {
			return fmt.Errorf("%w delivery %d of alert %d: it needs a sink's name of 1 to %d bytes, an alert up to %d, and a state", quota.ErrInvalid, i, d.Alert.Seq, MaxSinkName, to)
		}
	}
	return nil
}

// Check refuses a query that no store answers. Errors wrap quota.ErrInvalid.
func (q *Query) Check() error {
	if q.N < 1 || q.N > MaxPage {
		return fmt.Errorf("%w query: a page of %d; give 1 to %d", quota.ErrInvalid, q.N, MaxPage)
	}
	if len(q.Seqs) > MaxPage {
		return fmt.Errorf("%w query: %d alerts; give up to %d", quota.ErrInvalid, len(q.Seqs), MaxPage)
	}
	if q.Newest && q.Sink == "" {
		return fmt.Errorf("%w query: the newest first are those of a sink; name it", quota.ErrInvalid)
	}
	return nil
}

// Check refuses a query that no store answers. Errors wrap quota.ErrInvalid.
func (q *Recent) Check() error {
	switch {
	case q.N < 1 || q.N > MaxPage:
		return fmt.Errorf("%w query: a page of %d; give 1 to %d", quota.ErrInvalid, q.N, MaxPage)
	case q.Org == "":
		return fmt.Errorf("%w query: it names no organization", quota.ErrInvalid)
	case len(q.Subjects) > MaxSubjects:
		return fmt.Errorf("%w query: %d subjects; give up to %d", quota.ErrInvalid, len(q.Subjects), MaxSubjects)
	}
	return nil
}

// TurnOver reports whether a turn that was given until end is over at instant
// now, for who would have it until until, or was given by a clock that ran far
// ahead: for more than twice as long. It is the one rule of Store.Turn.
func TurnOver(end, now, until int64) bool { return end <= now || end-now > 2*(until-now) }
