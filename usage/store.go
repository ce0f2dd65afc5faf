package usage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keypurse/keypurse/quota"
)

// Row is one stored bucket: what one subject spent and asked for in a quarter
// of an hour, or in a day that was folded.
type Row struct {
	Subject  quota.Subject
	Reason   quota.Reason  // empty: admitted requests and their credits; else refused ones
	Day      bool          // a folded day of the organization's zone
	Start    int64         // microseconds of Unix time
	Credits  quota.Credits // spent; 0 where refused
	Requests int64
}

// Range asks for the buckets of subjects whose start lies in [From, To). A
// backend checks it with Check.
type Range struct {
	Org string
	// Subjects are those that are asked for. Empty, with no Kind: none.
	Subjects []quota.Subject
	// Kind, such as quota.KindKey, asks for every subject of the kind that has
	// a bucket in the range, deleted ones too, instead of naming them.
	Kind     string
	From, To int64 // microseconds of Unix time
	// Edges fold: ascending instants, From the first and To the last, at most
	// MaxPoints + 1. What starts between the same two of them comes as one Row
	// a subject, reason and Day, with the sums, and the greatest Start that is
	// in it. Nil: every bucket comes by itself.
	Edges []int64
}

// Check refuses a range that says two things at once; the error wraps
// quota.ErrInvalid. Subjects that cannot be are not refused: they have no
// buckets.
func (r *Range) Check() error {
	switch {
	case r.Kind != "" && len(r.Subjects) > 0:
		return fmt.Errorf("usage: %w range: subjects, and every subject of a kind: give one of them", quota.ErrInvalid)
	case r.Kind != "" && !kindOK(r.Kind):
		return fmt.Errorf("usage: %w range: no such kind of subject: give org, account, member or key", quota.ErrInvalid)
	case r.Edges == nil:
		return nil
	case len(r.Edges) < 2 || len(r.Edges) > MaxPoints+1 || r.Edges[0] != r.From || r.Edges[len(r.Edges)-1] != r.To:
		return fmt.Errorf("usage: %w range: %d edges: give From, To and at most %d between them", quota.ErrInvalid, len(r.Edges), MaxPoints-1)
	}
	for i := 1; i < len(r.Edges); i++ {
		if r.Edges[i-1] >= r.Edges[i] {
			return fmt.Errorf("usage: %w range: edge %d is not behind the one before it", quota.ErrInvalid, i+1)
		}
	}
	return nil
}

func kindOK(kind string) bool {
	switch kind {
	case quota.KindOrg, quota.KindAccount, quota.KindMember, quota.KindKey:
		return true
	}
	return false
}

// Merge folds the rows of one subject, which lie in the range, as Edges ask:
// for backends that have them in memory. rows is taken over and may be
// reordered. A sum that would leave int64 is an error that wraps
// quota.ErrOverflow.
func (r *Range) Merge(rows []Row) ([]Row, error) {
	if r.Edges == nil || len(rows) < 2 {
		return rows, nil
	}
	slices.SortFunc(rows, func(a, b Row) int {
		if c := cmp.Compare(a.Reason, b.Reason); c != 0 {
			return c
		}
		if a.Day != b.Day {
			if a.Day {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.Start, b.Start)
	})
	out := rows[:1]
	for _, row := range rows[1:] {
		var err error
		if out, err = r.Add(out, row); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Add appends a row of the same subject to rows, or adds it to the last of them
// where the range folds and both lie between the same two edges, in ascending
// order of Start: so a backend need not keep what Merge would fold. Errors:
// quota.ErrOverflow.
func (r *Range) Add(rows []Row, row Row) ([]Row, error) {
	if r.Edges == nil || len(rows) == 0 {
		return append(rows, row), nil
	}
	last := &rows[len(rows)-1]
	if row.Reason != last.Reason || row.Day != last.Day || row.Start < last.Start || row.Start >= r.behind(last.Start) {
		return append(rows, row), nil
	}
	var err error
	if last.Credits, err = last.Credits.Add(row.Credits); err != nil {
		return nil, fmt.Errorf("usage: %s: %w", row.Subject, err)
	}
	if err := addTo(&last.Requests, row.Requests); err != nil {
		return nil, fmt.Errorf("usage: %s: %w", row.Subject, err)
	}
	last.Start = row.Start
	return rows, nil
}

// behind is the first edge behind an instant of the range.
func (r *Range) behind(at int64) int64 {
	i, exact := slices.BinarySearch(r.Edges, at)
	if exact {
		i++
	}
	if i == len(r.Edges) {
		return r.To
	}
	return r.Edges[i]
}

// Store is what this package needs of a backend. The buckets themselves are
// counters that every charge writes: see quota.Store.
type Store interface {
	// Usage calls fn for every bucket in the range, refusals and folded days
	// included, subject by subject as they are named, in no order within one,
	// as one consistent reading of each subject. With Range.Kind each subject
	// comes once, in no order; one that begins to spend meanwhile may be
	// missing. Nothing is held while fn runs: it may take its time and call
	// the Store. What is in memory is bounded, whatever the number of
	// subjects. An error of fn ends it and is returned; a range that
	// Range.Check refuses wraps quota.ErrInvalid, and a sum (Range.Edges) that
	// would leave int64 quota.ErrOverflow.
	Usage(ctx context.Context, r Range, fn func(Row) error) error
	// Fold merges the buckets of every subject of the organization into days:
	// days are two or more ascending instants (microseconds), and what starts
	// in [days[i], days[i+1]) becomes one bucket at days[i], refused ones by
	// their reason, added to what was folded there before. Days that were
	// folded before stay as they are, also where they begin elsewhere. It folds
	// at most about most buckets, each subject's day wholly, and says how many
	// it folded: 0 when none is left. No credit and no request is lost or
	// counted twice, whatever fails.
	Fold(ctx context.Context, org string, days []int64, most int) (folded int, err error)
}

// ParseSeries is what the name of a series of buckets (quota.SeriesUsage and the
// other Series constants) says of its Row: whether it is a folded day, and the
// reason of refusal. It is for backends.
func ParseSeries(series string) (day bool, reason quota.Reason) {
	series, day = strings.CutPrefix(series, quota.SeriesFolded)
	return day, quota.Reason(strings.TrimPrefix(series, quota.SeriesRefused))
}
