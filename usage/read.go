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
	errEnough  = errors.New("enough")
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
	room := MaxRefusals
	err = store.Usage(ctx, p.asks(), func(row Row) error {
		place := 0
		if p.grouped {
			place = p.index[row.Subject]
		}
		return p.add(&out[place], &row, &room)
	})
	if err != nil {
		return nil, fmt.Errorf("usage: read: %w", err)
	}
	return out, nil
}

// Each gives the series of Read one after another, each bounded by MaxPoints on
// its own, so that any number of subjects (MaxSubjects a query, any number with
// Query.Kind) takes the memory of a few. The store is called once, whatever
// their number, and reads on as they are asked for. Nothing of it is held while
// the loop's body runs, however slow it is. An error, the same as those of Read,
// comes once, last, with an empty Series. It can be ranged over again and then
// reads anew.
func Each(ctx context.Context, store Store, q Query) iter.Seq2[Series, error] {
	return func(yield func(Series, error) bool) {
		p, err := newPlan(q)
		if err != nil {
			yield(Series{}, fmt.Errorf("usage: query: %w", err))
			return
		}
		if err := p.each(ctx, store, yield); err != nil && err != errEnough {
			yield(Series{}, fmt.Errorf("usage: read: %w", err))
		}
	}
}

func (p *plan) each(ctx context.Context, store Store, yield func(Series, error) bool) error {
	var s Series
	var began bool // s is being added to
	room, next := MaxRefusals, 0
	give := func() error {
		began = false
		if !yield(s, nil) {
			return errEnough
		}
		return nil
	}
	// upTo gives what is done, and zeros to the subjects before place.
	upTo := func(place int) error {
		if began {
			if err := give(); err != nil {
				return err
			}
			next++
		}
		for ; next < place; next++ {
			s = p.series(p.subjects[next])
			if err := give(); err != nil {
				return err
			}
		}
		return nil
	}
	if !p.grouped {
		s, began = p.series(p.only()), true
	}
	err := store.Usage(ctx, p.asks(), func(row Row) error {
		if p.grouped && (!began || row.Subject != s.Subject) {
			place, ok := p.index[row.Subject]
			if p.kind == "" && (!ok || place < next || began && place == next) {
				return errForeign
			}
			if err := upTo(place); err != nil {
				return err
			}
			s, began, room = p.series(row.Subject), true, MaxRefusals
		}
		return p.add(&s, &row, &room)
	})
	if err != nil {
		return err
	}
	if !p.grouped {
		return give()
	}
	return upTo(len(p.subjects))
}

// only is the subject of a series that is not grouped.
func (p *plan) only() quota.Subject {
	if len(p.subjects) == 1 {
		return p.subjects[0]
	}
	return ""
}

// asks is what the store is asked for.
func (p *plan) asks() Range {
	r := Range{Org: p.org, Kind: p.kind, Subjects: slices.Clone(p.subjects), From: p.from(), To: p.to()}
	if p.cal.step != QuarterHour {
		r.Edges = slices.Clone(p.edges)
	}
	return r
}

// add counts a row in.
func (p *plan) add(s *Series, row *Row, room *int) error {
	if _, ok := p.index[row.Subject]; !ok && (p.kind == "" || row.Subject.Kind() != p.kind) {
		return errForeign
	}
	if row.Start < p.from() || row.Start >= p.to() {
		return errOutside
	}
	i, exact := slices.BinarySearch(p.edges, row.Start)
	if !exact {
		i--
	}
	point := &s.Points[i]
	if row.Day && !point.Coarse {
		var err error
		if point.Coarse, err = p.coarse(row.Start, p.edges[i+1]); err != nil {
			return err
		}
	}
	if err := point.add(row, room); err != nil {
		return err
	}
	return s.Total.add(row, room)
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
	r.Edges = []int64{r.From, r.To}
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
