package usage_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
	_ "time/tzdata" // the zones below, on a machine that has none

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// sliceStore is a usage.Store on a slice, for one organization.
type sliceStore struct {
	mu    sync.Mutex
	rows  []usage.Row
	calls [][]quota.Subject // of Usage
	folds int               // calls of Fold
	// failAfter makes Fold fail with errFull once it was called so often.
	failAfter int
}

var errFull = errors.New("disk full")

func (s *sliceStore) Usage(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	rows := slices.Clone(s.rows)
	s.calls = append(s.calls, r.Subjects)
	s.mu.Unlock()
	if r.Kind != "" {
		for i := len(rows) - 1; i >= 0; i-- { // in no order
			if x := rows[i].Subject; x.Kind() == r.Kind && !slices.Contains(r.Subjects, x) {
				r.Subjects = append(r.Subjects, x)
			}
		}
	}
	for _, subject := range r.Subjects {
		var own []usage.Row
		for _, row := range rows {
			if row.Subject == subject && row.Start >= r.From && row.Start < r.To {
				own = append(own, row)
			}
		}
		own, err := r.Merge(own)
		if err != nil {
			return err
		}
		for _, row := range own {
			if err := fn(row); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *sliceStore) Fold(_ context.Context, _ string, days []int64, most int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folds++; s.failAfter > 0 && s.folds > s.failAfter {
		return 0, errFull
	}
	type day struct {
		subject quota.Subject
		start   int64
	}
	taken, folded := map[day]bool{}, 0
	for i := 0; i < len(s.rows); i++ {
		row := s.rows[i]
		d, exact := slices.BinarySearch(days, row.Start)
		if !exact {
			d--
		}
		if row.Day || d < 0 || d >= len(days)-1 {
			continue
		}
		to := day{row.Subject, days[d]}
		if !taken[to] && folded >= most {
			continue
		}
		taken[to] = true
		folded++
		s.rows = slices.Delete(s.rows, i, i+1)
		i--
		row.Start, row.Day = days[d], true
		s.add(row)
	}
	return folded, nil
}

// add puts a row into the bucket that it belongs to.
func (s *sliceStore) add(row usage.Row) {
	for i := range s.rows {
		b := &s.rows[i]
		if b.Subject == row.Subject && b.Reason == row.Reason && b.Day == row.Day && b.Start == row.Start {
			b.Credits += row.Credits
			b.Requests += row.Requests
			return
		}
	}
	s.rows = append(s.rows, row)
}

// spend puts requests into the bucket of an instant, which is RFC 3339.
func (s *sliceStore) spend(subject quota.Subject, at string, credits quota.Credits, requests int64) {
	s.add(usage.Row{Subject: subject, Start: quota.BucketStart(micros(at)), Credits: credits, Requests: requests})
}

// refuse is spend for refused requests.
func (s *sliceStore) refuse(subject quota.Subject, at string, reason quota.Reason, requests int64) {
	s.add(usage.Row{Subject: subject, Reason: reason, Start: quota.BucketStart(micros(at)), Requests: requests})
}

func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}

func micros(s string) int64 { return quota.Micros(instant(s)) }

const (
	org = quota.Subject("org:acme")
	web = quota.Subject("key:web")
	job = quota.Subject("key:job")
)
