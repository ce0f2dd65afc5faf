package usage

import (
	"fmt"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Bounds of one query.
const (
	// MaxPoints bounds the points of an answer: of all its series together in
	// Read, of each in Each.
	MaxPoints = 100_000
	// MaxSubjects bounds the subjects of a query.
	MaxSubjects = 10_000
	// MaxReasons bounds the reasons of one sum: hosts name reasons of their
	// own, and nothing else bounds how many.
	MaxReasons = 1000
	// MaxRefusals bounds the counts by point and reason in an answer.
	MaxRefusals = 1_000_000

	maxName      = 1024 // bytes of an organization's id, or a subject
	bucketMicros = int64(quota.BucketWidth / time.Microsecond)
)

var (
	minTime = time.Unix(0, 0).UTC()
	maxTime = time.Date(9900, 1, 1, 0, 0, 0, 0, time.UTC) // as quota.Period.WindowAt
)

// Query asks for series over [From, To).
type Query struct {
	// Org is the organization's id.
	Org string
	// Subjects are 1 to MaxSubjects, each named once. One that never spent
	// anything, or does not exist, has zeros.
	Subjects []quota.Subject
	// Kind, such as quota.KindAccount, stands for every subject of the kind
	// that has buckets in the range, deleted ones too, instead of Subjects.
	// There may be any number of them: with GroupBySubject it is for Each,
	// which gives them in no order, and Read refuses it.
	Kind string
	// From and To are any instants of the years 1970 to 9899, From before To.
	// They are widened to whole quarters of an hour of UTC, so that nothing in
	// between is left out.
	From, To time.Time
	// Step is the width of a point. The first and the last are cut where From
	// and To do not lie on a step's edge, and are marked Partial.
	Step Step
	// Zone is the IANA name of the zone whose calendar is meant and whose
	// clock times are given in. "" is UTC.
	Zone string
	// WeekStart is the day that weeks begin on, "monday" to "sunday"; "" is
	// Monday. Only with step Week.
	WeekStart string
	// GroupBySubject gives a series for each subject, in their order. Else one
	// series is the sum of all: name siblings only, since what a key spends is
	// counted on its account and organization too.
	GroupBySubject bool
}

// Validate refuses what Read would refuse before it asks the store: see the
// fields. Errors wrap quota.ErrInvalid and say what to do; they do not repeat
// ids.
func (q Query) Validate() error {
	p, err := newPlan(q)
	if err == nil {
		err = p.fits()
	}
	if err != nil {
		return fmt.Errorf("usage: query: %w", err)
	}
	return nil
}

// Series are the points of one subject, or of several together. The points
// tile the range, with no gap and no overlap: where nothing happened they are
// zero.
type Series struct {
	Subject quota.Subject `json:"subject,omitempty"` // empty for the sum of several
	Points  []Point       `json:"points"`
	Total   Counts        `json:"total"` // of all points
}

// Point is what was counted in [Start, End).
type Point struct {
	Start time.Time `json:"start"` // on the clock of the query's zone, as End
	End   time.Time `json:"end"`
	Counts
	// Partial: the query's range cuts the step that this point belongs to.
	Partial bool `json:"partial,omitempty"`
	// Coarse: a folded day that begins in this point may reach beyond it. It
	// is counted here, whole. Days of the organization's zone are never coarse
	// in a query for whole days, weeks or months of that zone; a query in
	// another zone does not notice a day that begins with its own and is an
	// hour longer because the clock was set back in one of the two.
	Coarse bool `json:"coarse,omitempty"`
}

// plan is a query that was checked, with the edges of its points.
type plan struct {
	org      string
	kind     string // instead of subjects
	subjects []quota.Subject
	index    map[quota.Subject]int
	cal      calendar
	day      quota.Period // whole days on the same calendar, to tell what is coarse
	edges    []int64      // microseconds, one more than there are points
	cutFirst bool
	cutLast  bool
	grouped  bool
}

func newPlan(q Query) (*plan, error) {
	index, err := checkAsked(q.Org, q.Kind, q.Subjects)
	if err != nil {
		return nil, err
	}
	from, to, err := checkRange(q.From, q.To)
	if err != nil {
		return nil, err
	}
	cal, err := newCalendar(q.Step, q.Zone, q.WeekStart)
	if err != nil {
		return nil, err
	}
	p := &plan{
		org: q.Org, kind: q.Kind, subjects: slices.Clone(q.Subjects), index: index, cal: cal, grouped: q.GroupBySubject,
		day: quota.Period{Unit: quota.Day, Zone: q.Zone},
	}
	for at := from; at < to; {
		if len(p.edges) == MaxPoints {
			return nil, fmt.Errorf("the range has more than %d points by the %v: take a shorter range or a wider step: %w", MaxPoints, q.Step, quota.ErrInvalid)
		}
		start, end, err := cal.window(at)
		if err != nil {
			return nil, err
		}
		if at == from {
			p.cutFirst = start < from
		}
		p.cutLast = end > to
		p.edges = append(p.edges, at)
		at = min(end, to)
	}
	p.edges = append(p.edges, to)
	return p, nil
}

// fits refuses an answer that is too large to be held at once.
func (p *plan) fits() error {
	if p.grouped && p.kind != "" {
		return fmt.Errorf("a series for every subject of a kind: there may be any number, read them with Each: %w", quota.ErrInvalid)
	}
	if points := p.points(); p.grouped && points*len(p.subjects) > MaxPoints {
		return fmt.Errorf("%d points for each of %d subjects, at most %d in all: take fewer subjects, a shorter range or a wider step, or read them one after another: %w",
			points, len(p.subjects), MaxPoints, quota.ErrInvalid)
	}
	return nil
}

func (p *plan) points() int { return len(p.edges) - 1 }
func (p *plan) from() int64 { return p.edges[0] }
func (p *plan) to() int64   { return p.edges[len(p.edges)-1] }

// series is an empty series of the plan.
func (p *plan) series(subject quota.Subject) Series {
	s := Series{Subject: subject, Points: make([]Point, p.points())}
	for i := range s.Points {
		s.Points[i].Start, s.Points[i].End = p.cal.local(p.edges[i]), p.cal.local(p.edges[i+1])
	}
	s.Points[0].Partial = p.cutFirst
	if p.cutLast {
		s.Points[len(s.Points)-1].Partial = true
	}
	return s
}

// longestDay is more than any day has: 25 hours, and one to spare.
const longestDay = 26 * 60 * 60 * 1_000_000

// coarse tells whether the folded day that begins at start may reach beyond
// end. The row does not say in which zone it is a day.
func (p *plan) coarse(start, end int64) (bool, error) {
	if start+longestDay <= end {
		return false, nil
	}
	from, to, err := windowAt(p.day, start)
	return from != start || to > end, err
}

// checkRange gives the range in microseconds, widened to whole buckets.
func checkRange(from, to time.Time) (lo, hi int64, err error) {
	if from.Before(minTime) || !from.Before(maxTime) {
		return 0, 0, fmt.Errorf("the range's From lies outside the years 1970 to 9899: %w", quota.ErrInvalid)
	}
	if to.Before(minTime) || to.After(maxTime) {
		return 0, 0, fmt.Errorf("the range's To lies outside the years 1970 to 9899: %w", quota.ErrInvalid)
	}
	if !from.Before(to) {
		return 0, 0, fmt.Errorf("the range's From is not before its To: %w", quota.ErrInvalid)
	}
	lo = quota.BucketStart(quota.Micros(from))
	// The last instant before To decides: nanoseconds are finer than buckets.
	hi = quota.BucketStart(quota.Micros(to.Add(-1))) + bucketMicros
	return lo, hi, nil
}

// checkAsked is checkSubjects, or checks the kind that stands for them.
func checkAsked(org, kind string, subjects []quota.Subject) (map[quota.Subject]int, error) {
	switch {
	case kind == "":
		return checkSubjects(org, subjects)
	case len(subjects) > 0:
		return nil, fmt.Errorf("subjects, and every subject of a kind: give one of them: %w", quota.ErrInvalid)
	case !kindOK(kind):
		return nil, fmt.Errorf("no such kind of subject, want org, account, member or key: %w", quota.ErrInvalid)
	}
	return nil, checkOrg(org)
}

func checkOrg(org string) error {
	if org == "" || len(org) > maxName {
		return fmt.Errorf("no organization's id, or one above %d bytes: %w", maxName, quota.ErrInvalid)
	}
	return nil
}

// checkSubjects gives the place of each subject.
func checkSubjects(org string, subjects []quota.Subject) (map[quota.Subject]int, error) {
	if err := checkOrg(org); err != nil {
		return nil, err
	}
	if len(subjects) == 0 || len(subjects) > MaxSubjects {
		return nil, fmt.Errorf("%d subjects, want 1 to %d: %w", len(subjects), MaxSubjects, quota.ErrInvalid)
	}
	index := make(map[quota.Subject]int, len(subjects))
	for i, s := range subjects {
		if !kindOK(s.Kind()) {
			return nil, fmt.Errorf("subject %d is none, want one of quota.NewSubject, such as key:ID: %w", i+1, quota.ErrInvalid)
		}
		if s.ID() == "" || len(s) > maxName {
			return nil, fmt.Errorf("subject %d has no id, or one above %d bytes: %w", i+1, maxName, quota.ErrInvalid)
		}
		if j, ok := index[s]; ok {
			return nil, fmt.Errorf("subject %d is the same as subject %d and would count twice: %w", i+1, j+1, quota.ErrInvalid)
		}
		index[s] = i
	}
	return index, nil
}
