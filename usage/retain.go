package usage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// MaxDays bounds the days of one fold: more than a century.
const MaxDays = 40_000

// foldMost bounds what one call of Store.Fold folds, and with it how long
// charges of the organization wait for it.
const foldMost = 1000

// Retention says which buckets of an organization are old. Retain checks it.
type Retention struct {
	// Org is the organization's id.
	Org string
	// Zone is the IANA name of the organization's zone, whose days buckets are
	// folded into. "" is UTC. Where it changed, what was folded before stays.
	Zone string
	// Keep is how long quarters of an hour are kept. At least MinKeep.
	Keep time.Duration
	// MinKeep is the longest that a charge can still be settled or refunded,
	// which needs its bucket: how long ids live (quota.LedgerConfig.Keep) plus
	// the longest life that a reservation of the host has. Zero is
	// quota.DefaultKeep plus quota.MaxTTL; under quota.MinKeep is refused.
	MinKeep time.Duration
	// Since is an instant at or before the oldest bucket, such as when the
	// organization was made. Zero is 1970.
	Since time.Time
}

// Retain folds the buckets that are older than r.Keep at the instant now into
// days, in steps of bounded size until none is left, and says how many it
// folded. Only whole days are folded: one that reaches into what is kept is left
// alone. Credits, requests and refusals keep their sums; what is lost is the
// time of day. Run it once a day or so; where nothing is old it costs one call.
//
// Errors: one that wraps quota.ErrInvalid where r or now is wrong (nothing was
// done); what the store or the context says: what was folded until then stays,
// nothing is counted twice, and the next Retain goes on.
func Retain(ctx context.Context, store Store, r Retention, now time.Time) (folded int, err error) {
	days, err := r.days(now)
	if err != nil {
		return 0, fmt.Errorf("usage: retain: %w", err)
	}
	if days == nil {
		return 0, nil
	}
	for {
		if err := ctx.Err(); err != nil {
			return folded, fmt.Errorf("usage: retain: %w", err)
		}
		n, err := store.Fold(ctx, r.Org, days, foldMost)
		if err != nil {
			return folded, fmt.Errorf("usage: retain: %w", err)
		}
		if n < 0 {
			return folded, fmt.Errorf("usage: retain: %w", errors.New("the store folded less than nothing"))
		}
		if n == 0 {
			return folded, nil
		}
		folded += n
	}
}

func (r Retention) days(now time.Time) ([]int64, error) {
	if r.Org == "" || len(r.Org) > maxName {
		return nil, fmt.Errorf("no organization's id, or one above %d bytes: %w", maxName, quota.ErrInvalid)
	}
	if r.MinKeep == 0 {
		r.MinKeep = quota.DefaultKeep + quota.MaxTTL
	}
	if r.MinKeep < quota.MinKeep {
		return nil, fmt.Errorf("MinKeep is %v, ids live %v at least: %w", r.MinKeep, quota.MinKeep, quota.ErrInvalid)
	}
	if r.Keep < r.MinKeep {
		return nil, fmt.Errorf("buckets kept for %v; keep them for %v at least, while what they count can be refunded: %w", r.Keep, r.MinKeep, quota.ErrInvalid)
	}
	if now.Before(minTime) || !now.Before(maxTime) {
		return nil, fmt.Errorf("now lies outside the years 1970 to 9899: %w", quota.ErrInvalid)
	}
	since, cut := r.Since, now.Add(-r.Keep)
	if since.IsZero() {
		since = minTime
	}
	if !cut.After(since) {
		cut = since // nothing is old, but the zone and Since are still checked
	}
	return foldDays(since, cut, r.Zone)
}

// FoldDays gives the edges of days that Store.Fold asks for: the first instants
// (microseconds of Unix time) of local dates in the zone ("" is UTC), ascending,
// from the day that from lies in to the last that begins at or before to. So all
// days but the one that to lies in are whole. nil where there is no whole day.
//
// The error wraps quota.ErrInvalid: the zone, from or to outside the years 1970
// to 9899, from after to, or more than MaxDays.
func FoldDays(from, to time.Time, zone string) ([]int64, error) {
	days, err := foldDays(from, to, zone)
	if err != nil {
		return nil, fmt.Errorf("usage: days: %w", err)
	}
	return days, nil
}

func foldDays(from, to time.Time, zone string) ([]int64, error) {
	cal, err := newCalendar(Day, zone, "")
	if err != nil {
		return nil, err
	}
	for _, t := range [...]time.Time{from, to} {
		if t.Before(minTime) || !t.Before(maxTime) {
			return nil, fmt.Errorf("a range of days outside the years 1970 to 9899: %w", quota.ErrInvalid)
		}
	}
	if from.After(to) {
		return nil, fmt.Errorf("a range of days that begins after its end: %w", quota.ErrInvalid)
	}
	if to.Sub(from) >= MaxDays*24*time.Hour {
		return nil, fmt.Errorf("a range of more than %d days: begin it later: %w", MaxDays, quota.ErrInvalid)
	}
	last := quota.Micros(to)
	start, end, err := cal.window(quota.Micros(from))
	if err != nil {
		return nil, err
	}
	days := []int64{start}
	for end <= last {
		days = append(days, end)
		if _, end, err = cal.window(end); err != nil {
			return nil, err
		}
	}
	if len(days) == 1 {
		return nil, nil
	}
	return days, nil
}
