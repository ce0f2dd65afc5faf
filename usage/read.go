package usage

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
)

var (
	errForeign = errors.New("the store gave a bucket of a subject that was not asked for")
	errOutside = errors.New("the store gave a bucket outside the range")
)

// Read gives the series of a query: one for each subject in their order where
// it groups, else one. Each subject is read as of one moment. At most MaxPoints
// in all.
//
// Errors: of Query.Validate; one that wraps quota.ErrOverflow where a sum would
// leave int64; what the store says. With an error there are no series.
func Read(ctx context.Context, store Store, q Query) ([]Series, error) {
	p, err := newPlan(q)
	if err == nil {
		err = p.fits()
	}
	if err != nil {
		return nil, fmt.Errorf("usage: query: %w", err)
	}
	var out []Series
	if p.grouped {
		out = make([]Series, len(p.subjects))
		for i, s := range p.subjects {
			out[i] = p.series(s)
		}
	} else {
		out = []Series{p.series(p.only())}
	}
	if err := p.scan(ctx, store, p.subjects, out); err != nil {
		return nil, fmt.Errorf("usage: read: %w", err)
	}
	return out, nil
}

// Each gives the series of Read one after another, each read when it is asked
// for and bounded by MaxPoints on its own, so that any number of subjects
// (MaxSubjects a query) takes the memory of one. Nothing of the store is held
// while the loop's body runs, however slow it is. An error, the same as those
// of Read, comes once, last, with an empty Series. It can be ranged over again
// and then reads anew.
func Each(ctx context.Context, store Store, q Query) iter.Seq2[Series, error] {
	return func(yield func(Series, error) bool) {
		p, err := newPlan(q)
		if err != nil {
			yield(Series{}, fmt.Errorf("usage: query: %w", err))
			return
		}
		turns := 1
		if p.grouped {
			turns = len(p.subjects)
		}
		for i := range turns {
			subject, asked := p.only(), p.subjects
			if p.grouped {
				subject, asked = p.subjects[i], p.subjects[i:i+1]
			}
			s := []Series{p.series(subject)}
			if err := p.scan(ctx, store, asked, s); err != nil {
				yield(Series{}, fmt.Errorf("usage: read: %w", err))
				return
			}
			if !yield(s[0], nil) {
				return
			}
		}
	}
}

// only is the subject of a series that is not grouped.
func (p *plan) only() quota.Subject {
	if len(p.subjects) == 1 {
		return p.subjects[0]
	}
	return ""
}

// scan adds the buckets of the subjects asked for: to the series of the same
// place, or all to the first where there is one.
func (p *plan) scan(ctx context.Context, store Store, asked []quota.Subject, out []Series) error {
	first, room := p.index[asked[0]], MaxRefusals
	r := Range{Org: p.org, Subjects: slices.Clone(asked), From: p.from(), To: p.to()}
	return store.Usage(ctx, r, func(row Row) error {
		place, ok := p.index[row.Subject]
		if place -= first; !ok || place < 0 || place >= len(asked) {
			return errForeign
		}
		if row.Start < p.from() || row.Start >= p.to() {
			return errOutside
		}
		if len(out) == 1 {
			place = 0
		}
		i, exact := slices.BinarySearch(p.edges, row.Start)
		if !exact {
			i--
		}
		s := &out[place]
		point := &s.Points[i]
		if row.Day && !point.Coarse {
			var err error
			if point.Coarse, err = p.coarse(row.Start, p.edges[i+1]); err != nil {
				return err
			}
		}
		if err := point.add(&row, &room); err != nil {
			return err
		}
		return s.Total.add(&row, &room)
	})
}

// Total is the sum of one subject.
type Total struct {
	Subject quota.Subject `json:"subject"`
	Counts
}

// Totals sums the buckets of each subject over [from, to), in the order of
// subjects (1 to MaxSubjects, each named once). A zero from is the beginning
// and a zero to has no end, so that the two times of a quota.Window, of one
// that never resets too, give what was counted in it. Both are widened to whole
// quarters of an hour; a folded day counts where it starts.
//
// Errors: one that wraps quota.ErrInvalid for what cannot be asked, or
// quota.ErrOverflow where a sum would leave int64; what the store says. With an
// error there are no totals.
func Totals(ctx context.Context, store Store, org string, subjects []quota.Subject, from, to time.Time) ([]Total, error) {
	index, err := checkSubjects(org, subjects)
	if err != nil {
		return nil, fmt.Errorf("usage: totals: %w", err)
	}
	if from.IsZero() {
		from = minTime
	}
	if to.IsZero() {
		to = maxTime
	}
	r := Range{Org: org, Subjects: slices.Clone(subjects)}
	if r.From, r.To, err = checkRange(from, to); err != nil {
		return nil, fmt.Errorf("usage: totals: %w", err)
	}
	out := make([]Total, len(subjects))
	for i, s := range subjects {
		out[i].Subject = s
	}
	room := MaxRefusals
	err = store.Usage(ctx, r, func(row Row) error {
		i, ok := index[row.Subject]
		switch {
		case !ok:
			return errForeign
		case row.Start < r.From || row.Start >= r.To:
			return errOutside
		}
		return out[i].add(&row, &room)
	})
	if err != nil {
		return nil, fmt.Errorf("usage: totals: %w", err)
	}
	return out, nil
}
