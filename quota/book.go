package quota

import (
	"slices"
	"sort"
)

// Loader reads what a Book does not have in memory. Its methods are called
// with the Book's own lock held and must not call the Book back. An error of a
// damaged record wraps ErrCorrupt and fails only the Op that needed it.
type Loader interface {
	// Counter reads one counter; ok is false where none is stored.
	Counter(id CounterID) (c Counter, ok bool, err error)
	// Buckets calls fn for every stored bucket of the series whose start lies
	// in [from, to), in ascending order.
	Buckets(s Subject, series string, from, to int64, fn func(start int64, c Counter)) error
	// Openings reads what was noted by SaveOpenings; none is not an error.
	Openings(s Subject) ([]Opening, error)
	// Receipt reads what an id did; nil where nothing is stored.
	Receipt(id string) (*Receipt, error)
}

// Book holds the counters, reservations and receipts of one organization in
// memory and decides Ops on them: it is the one place where it is decided,
// shared by every backend. A backend brings the rows (by a Loader, or all of
// them in memory), calls Apply under a lock of its own, and saves what changed.
//
// A Book is not safe for concurrent use.
type Book struct {
	// Settings is the organization's settings number, kept by the backend:
	// raised in the same step as every change of a limit, status, expiry or
	// secret.
	Settings int64

	org      string
	load     Loader
	subjects map[Subject]*subject
	receipts map[string]*Receipt
	holds    holdQueue
	open     int // reservations in state HoldOpen
	rows     int
	moved    uint64 // raised when rows left memory: what Levels remember is void
	alerts   []Alert
	journal  *journal // nil: nothing is saved and nothing undone
}

// NewBook is an empty Book. A nil Loader means that what is not in memory does
// not exist.
func NewBook(org string, load Loader) *Book {
	return &Book{org: org, load: load, subjects: map[Subject]*subject{}, receipts: map[string]*Receipt{}}
}

// Org is the organization whose Book this is.
func (b *Book) Org() string { return b.org }

// Rows is how many counters are in memory.
func (b *Book) Rows() int { return b.rows }

type subject struct {
	id       Subject
	series   []*series
	openings []Opening
	noted    bool // openings were read
	used     bool // since the last sweep of Evict
}

type series struct {
	owner  *subject
	name   string
	number uint32
	rows   []*Row // by start
}

// Row is a counter in memory.
type Row struct {
	// What every charge looks at stands first.
	used    Credits
	held    Credits
	overage Credits
	max     Credits
	ceiling Credits // negative: none
	// requests of a bucket; of a limit, the amount spent at which the next
	// threshold is passed, computed for the bound max.
	requests int64
	touched  uint32
	// Dirty belongs to the backend: a row so marked is never evicted.
	Dirty bool
	fresh bool // not yet part of its series
	noted bool // fresh: opened with earlier spending
	marks *[]Mark
	in    *series
	start int64
	end   int64 // limits only; 0 where it never resets
}

// ID is the counter's name.
func (r *Row) ID() CounterID {
	return CounterID{Subject: r.in.owner.id, Series: r.in.name, Number: r.in.number, Start: r.start}
}

// Counter is a copy of the counter's state.
func (r *Row) Counter() Counter {
	c := Counter{Used: r.used, Held: r.held, Overage: r.overage, Max: r.max, End: r.end}
	if r.in.number == 0 {
		c.Requests = r.requests
	} else if r.ceiling >= 0 {
		c.Capped, c.Ceiling = true, r.ceiling
	}
	if r.marks != nil {
		c.Marks = slices.Clone(*r.marks)
	}
	return c
}

func (r *Row) set(c Counter) {
	r.used, r.held, r.overage, r.max, r.end = c.Used, c.Held, c.Overage, c.Max, c.End
	r.requests, r.ceiling, r.marks = 0, -1, nil
	if r.in.number == 0 {
		r.requests = c.Requests
	}
	if c.Capped {
		r.ceiling = c.Ceiling
	}
	if len(c.Marks) > 0 {
		m := slices.Clone(c.Marks)
		r.marks = &m
	}
}

// bound is the most that the counter may reach by what Entry e admits.
func (r *Row) bound(e *Entry) Credits {
	m := e.Max
	if r.ceiling >= 0 && r.ceiling < m {
		m = r.ceiling
	}
	return satAdd(m, e.Extra)
}

// found are the rows of a Level: its limits' in order, then its bucket.
type found struct {
	book  *Book
	moved uint64
	rows  []*Row
	few   [2]*Row // where rows lie, mostly
}

func (b *Book) subject(s Subject) *subject {
	sub := b.subjects[s]
	if sub == nil {
		sub = &subject{id: s}
		b.subjects[s] = sub
	}
	sub.used = true
	return sub
}

func (s *subject) find(name string, number uint32) *series {
	for _, x := range s.series {
		if x.number == number && x.name == name {
			return x
		}
	}
	return nil
}

func (s *subject) get(name string, number uint32) *series {
	x := s.find(name, number)
	if x == nil {
		x = &series{owner: s, name: name, number: number}
		s.series = append(s.series, x)
	}
	return x
}

func (x *series) at(start int64) (int, bool) {
	n := len(x.rows)
	if n > 0 && x.rows[n-1].start == start { // nearly always the newest
		return n - 1, true
	}
	i := sort.Search(n, func(i int) bool { return x.rows[i].start >= start })
	return i, i < n && x.rows[i].start == start
}

func (b *Book) insert(r *Row) {
	i, _ := r.in.at(r.start)
	r.in.rows = slices.Insert(r.in.rows, i, r)
	r.fresh = false
	b.rows++
}

// row finds a stored counter in memory or by the Loader; nil where there is none.
func (b *Book) row(sub *subject, name string, number uint32, start int64) (*Row, error) {
	x := sub.find(name, number)
	if x != nil {
		if i, ok := x.at(start); ok {
			return x.rows[i], nil
		}
	}
	if b.load == nil {
		return nil, nil
	}
	c, ok, err := b.load.Counter(CounterID{Subject: sub.id, Series: name, Number: number, Start: start})
	if err != nil || !ok {
		return nil, err
	}
	r := &Row{start: start, in: sub.get(name, number)}
	r.set(c)
	b.insert(r)
	return r, nil
}

// bucket finds a usage bucket, or makes a fresh one.
func (b *Book) bucket(sub *subject, name string, start int64) (*Row, error) {
	r, err := b.row(sub, name, 0, start)
	if r != nil || err != nil {
		return r, err
	}
	return &Row{start: start, in: sub.get(name, 0), fresh: true, ceiling: -1}, nil
}

// limit finds the counter of a limit in its window, or opens a fresh one as if
// it had always run: with what the buckets say was spent since its start.
func (b *Book) limit(sub *subject, e *Entry) (*Row, error) {
	r, err := b.row(sub, e.Limit, e.Number, e.Start)
	if r != nil || err != nil {
		return r, err
	}
	r = &Row{start: e.Start, end: e.End, in: sub.get(e.Limit, e.Number), fresh: true, ceiling: -1}
	if e.End == 0 {
		return r, nil // a limit that never resets counts from when it was set
	}
	err = b.eachUsage(sub, e.Start, e.End, func(_ int64, c *Counter) {
		r.noted = true
		r.used, r.held = satAdd(r.used, c.Used), satAdd(r.held, c.Held)
	})
	if err == nil {
		r.max = r.bound(e)
	}
	return r, err
}

// eachUsage visits the usage of a subject in [from, to), folded days included;
// what is in memory wins over what is stored.
func (b *Book) eachUsage(sub *subject, from, to int64, fn func(start int64, c *Counter)) error {
	for _, name := range [...]string{SeriesFolded, SeriesUsage} {
		if err := b.each(sub, name, from, to, fn); err != nil {
			return err
		}
	}
	return nil
}

func (b *Book) each(sub *subject, name string, from, to int64, fn func(start int64, c *Counter)) error {
	x := sub.find(name, 0)
	if b.load != nil {
		err := b.load.Buckets(sub.id, name, from, to, func(start int64, c Counter) {
			if x != nil {
				if _, ok := x.at(start); ok {
					return
				}
			}
			fn(start, &c)
		})
		if err != nil {
			return err
		}
	}
	if x == nil {
		return nil
	}
	i, _ := x.at(from)
	for ; i < len(x.rows) && x.rows[i].start < to; i++ {
		c := x.rows[i].Counter()
		fn(x.rows[i].start, &c)
	}
	return nil
}

// find finds the counters of a Level. Fresh ones are not yet in the Book and
// not remembered.
func (b *Book) find(l *Level) ([]*Row, error) {
	if f := &l.found; f.book == b && f.moved == b.moved {
		return f.rows, nil
	}
	sub := b.subject(l.Subject)
	rows := make([]*Row, 0, len(l.Limits)+1)
	fresh := false
	for i := range l.Limits {
		r, err := b.limit(sub, &l.Limits[i])
		if err != nil {
			return nil, err
		}
		fresh = fresh || r.fresh
		rows = append(rows, r)
	}
	r, err := b.bucket(sub, SeriesUsage, l.Bucket)
	if err != nil {
		return nil, err
	}
	rows = append(rows, r)
	if !fresh && !r.fresh {
		b.remembers(l, rows)
	}
	return rows, nil
}

func (b *Book) remembers(l *Level, rows []*Row) {
	l.found.book, l.found.moved = b, b.moved
	l.found.rows = append(l.found.few[:0], rows...)
}

// keep makes a Level's fresh counters part of the Book.
func (b *Book) keep(l *Level, rows []*Row) error {
	if l.found.book == b && l.found.moved == b.moved {
		return nil
	}
	for _, r := range rows {
		if !r.fresh {
			continue
		}
		if r.noted {
			if err := b.note(r.in.owner, Opening{Series: r.in.name, Number: r.in.number, Start: r.start, End: r.end}); err != nil {
				return err
			}
		}
		b.insert(r)
		b.created(r)
	}
	b.remembers(l, rows)
	return nil
}

// maxOpenings bounds what is noted per subject: far more windows than can be
// opened anew while a charge can still be refunded.
const maxOpenings = 256

func (b *Book) openings(sub *subject) ([]Opening, error) {
	if !sub.noted {
		if b.load != nil {
			o, err := b.load.Openings(sub.id)
			if err != nil {
				return nil, err
			}
			sub.openings = o
		}
		sub.noted = true
	}
	return sub.openings, nil
}

func (b *Book) note(sub *subject, o Opening) error {
	old, err := b.openings(sub)
	if err != nil {
		return err
	}
	next := append(slices.Clone(old), o)
	if len(next) > maxOpenings {
		next = next[len(next)-maxOpenings:]
	}
	b.setOpenings(sub, next)
	return nil
}

// Usage visits the buckets of a series (SeriesUsage, or SeriesRefused and a
// reason; folded days come with SeriesFolded before it) whose start lies in
// [from, to). What is in memory wins over what is stored. Order is not given.
func (b *Book) Usage(s Subject, series string, from, to int64, fn func(start int64, c *Counter)) error {
	sub := b.subjects[s]
	if sub == nil {
		sub = &subject{id: s}
	}
	return b.each(sub, series, from, to, fn)
}

// Subjects visits the subjects in memory, in no order.
func (b *Book) Subjects(fn func(Subject) bool) {
	for s := range b.subjects {
		if !fn(s) {
			return
		}
	}
}

// Counters visits every counter in memory, in no order.
func (b *Book) Counters(fn func(CounterID, Counter)) {
	for _, sub := range b.subjects {
		for _, x := range sub.series {
			for _, r := range x.rows {
				fn(r.ID(), r.Counter())
			}
		}
	}
}

// Series visits the names of the bucket series of a subject in memory.
func (b *Book) Series(s Subject, fn func(series string)) {
	if sub := b.subjects[s]; sub != nil {
		for _, x := range sub.series {
			if x.number == 0 {
				fn(x.name)
			}
		}
	}
}

// TakeAlerts gives the alerts that the Ops since the last call put up, for the
// outbox, and forgets them.
func (b *Book) TakeAlerts() []Alert {
	a := b.alerts
	b.alerts = nil
	return a
}
