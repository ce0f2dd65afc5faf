package usage

import (
	"context"
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

// Range asks for the buckets of subjects whose start lies in [From, To).
type Range struct {
	Org      string
	Subjects []quota.Subject
	From, To int64 // microseconds of Unix time
}

// Store is what this package needs of a backend. The buckets themselves are
// counters that every charge writes: see quota.Store.
type Store interface {
	// Usage calls fn for every bucket in the range, refusals and folded days
	// included, subject by subject as they are named, in no order within one,
	// as one consistent reading of each subject. An error of fn ends it and is
	// returned.
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
