package quota

import (
	"slices"
	"sync/atomic"
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
	// Elsewhere counts the receipts that are Held and that the backend has not brought
	// into memory; it brings each by RestoreReceipt before its end or its
	// settlement is asked for. 0 where all are in memory.
	Elsewhere int

	org      string
	load     Loader
	subjects map[Subject]*subject
	series   map[series]*series
	receipts map[string]*Receipt
	holds    holdQueue
	open     int // receipts that are Held
	rows     int
	mark     *mark // what Purses remember is good while it stands; nil: nobody remembers anything
	alerts   []Alert
	journal  *journal // nil: nothing is saved and nothing undone
}

// NewBook is an empty Book. A nil Loader means that what is not in memory does
// not exist.
func NewBook(org string, load Loader) *Book {
	return &Book{org: org, load: load, subjects: map[Subject]*subject{}, series: map[series]*series{}, receipts: map[string]*Receipt{}}
}

// Org is the organization whose Book this is.
func (b *Book) Org() string { return b.org }

// OpenHolds is how many reservations and blocks hold credits, in memory and
// elsewhere.
func (b *Book) OpenHolds() int { return b.open + b.Elsewhere }

// Rows is how many counters are in memory.
func (b *Book) Rows() int { return b.rows }

// subject is what the Book has in memory of one subject. Its counters lie in
// one slice, by series, number and start: there are few that matter.
type subject struct {
	id   Subject
	rows []*Row
	more *opened // nil until asked for
	used bool    // since the last sweep of Evict
}

// opened are a subject's openings, once they were read.
type opened struct{ list []Opening }

// series is what counters of many subjects have in common.
type series struct {
	name   string
	number uint32
}

// Row is a counter in memory.
type Row struct {
	// What every charge looks at stands first. in never changes: see Warm.
	in      *series
	used    Credits
	held    Credits
	overage Credits
	max     Credits
	// requests of a bucket; of a limit, the amount spent at which the next
	// threshold is passed, computed for the bound max.
	requests int64
	touched  uint32
	// Dirty belongs to the backend: a row so marked is never evicted.
	Dirty bool
	fresh bool // not yet part of its subject
	noted bool // fresh: opened with earlier spending
	rare  *rare
	of    *subject
	start int64
	end   int64 // limits only; 0 where it never resets
	// Home belongs to the backend: where it keeps the row; nil where it does not, or
	// does not say. With it, two rows, as nearly every subject has, begin a line and
	// fill three.
	Home *Home
}

// rare is what few counters have. It is replaced whole, never changed: what is
// noted for a rollback shares it.
type rare struct {
	capped   bool
	ceiling  Credits // where capped; below 0 where what is on top of the Max was spent already
	marks    []Mark
	stranded Credits // of what is held
}

// ID is the counter's name.
func (r *Row) ID() CounterID {
	return CounterID{Subject: r.of.id, Series: r.in.name, Number: r.in.number, Start: r.start}
}

// Counter is a copy of the counter's state.
func (r *Row) Counter() Counter {
	c := Counter{Used: r.used, Held: r.held, Overage: r.overage, Max: r.max, End: r.end}
	if r.in.number == 0 {
		c.Requests = r.requests
	}
	if x := r.rare; x != nil {
		c.Capped, c.Ceiling, c.Stranded = x.capped, x.ceiling, x.stranded
		c.Marks = slices.Clone(x.marks)
	}
	return c
}

func (r *Row) set(c Counter) {
	r.used, r.held, r.overage, r.max, r.end = c.Used, c.Held, c.Overage, c.Max, c.End
	r.requests, r.rare = 0, nil
	if r.in.number == 0 {
		r.requests = c.Requests
	}
	if c.Capped || len(c.Marks) > 0 || c.Stranded != 0 {
		r.rare = &rare{capped: c.Capped, ceiling: c.Ceiling, marks: slices.Clone(c.Marks), stranded: c.Stranded}
	}
}

// cap bounds what may be spent in the row's window.
func (r *Row) cap(ceiling Credits) {
	x := r.seldom()
	x.capped, x.ceiling = true, ceiling
	r.rare = &x
}

// seldom is a copy of what few counters have.
func (r *Row) seldom() (x rare) {
	if r.rare != nil {
		x = *r.rare
	}
	return x
}

// strand notes that n of what is held is a block's whose time was over.
func (r *Row) strand(n Credits) {
	if n == 0 {
		return
	}
	x := r.seldom()
	x.stranded += n
	r.rare = &x
	if !x.capped && len(x.marks) == 0 && x.stranded == 0 {
		r.rare = nil
	}
}

func (r *Row) marks() []Mark {
	if r.rare == nil {
		return nil
	}
	return r.rare.marks
}

// mark notes thresholds that were passed.
func (r *Row) mark(marks []Mark) {
	x := r.seldom()
	x.marks = marks
	r.rare = &x
}

// bound is the most that the counter may reach by what Entry e admits.
func (r *Row) bound(e *Entry) Credits {
	m := e.Max
	if x := r.rare; x != nil && x.capped && x.ceiling < m {
		if m = x.ceiling; m < 0 {
			return max(0, m+e.Extra)
		}
	}
	return satAdd(m, e.Extra)
}

// memo is where a Book last found the counters of a Purse: one line of memory.
// But for its atomic parts it is guarded by whatever guards the Book.
type memo struct {
	mark   *mark // of the Book
	bucket int64
	first  *Entry // of the limits: which windows these are
	// few are the counters, the limits' in order and then the bucket, where
	// they are few, as they nearly always are; else all are in more.
	few  [2]atomic.Pointer[Row]
	more *[]*Row
	desk atomic.Pointer[Desk]
	lane atomic.Pointer[lane] // of the Ledger that leases
}

// mark stands for a Book and the rows that it has in memory: another one takes
// its place when rows left.
type mark struct{ _ byte }

// counters are the counters of a Level: its limits' in order, then its bucket.
type counters struct {
	few [2]*Row
	all []*Row
}

func (c *counters) at(i int) *Row {
	if c.all != nil {
		return c.all[i]
	}
	return c.few[i]
}

func (c *counters) set(i int, r *Row) {
	if c.all != nil {
		c.all[i] = r
		return
	}
	c.few[i] = r
}

func first(l *Level) *Entry {
	if len(l.Limits) == 0 {
		return nil
	}
	return &l.Limits[0]
}

// finds gives what the memo knows of a Level's counters in this Book.
func (m *memo) finds(b *Book, l *Level, into *counters) bool {
	if m == nil || m.mark != b.mark || m.mark == nil || m.bucket != l.Bucket || m.first != first(l) {
		return false
	}
	if len(l.Limits) >= len(m.few) {
		into.all = *m.more
		return true
	}
	into.few[0], into.few[1] = m.few[0].Load(), m.few[1].Load()
	return true
}

func (m *memo) keeps(b *Book, l *Level, c *counters) {
	for i := range l.Limits {
		c.at(i).requests = 0 // the thresholds may be others than those it was computed from
	}
	if m == nil {
		return
	}
	if b.mark == nil {
		b.mark = new(mark)
	}
	m.mark, m.bucket, m.first = b.mark, l.Bucket, first(l)
	if c.all != nil {
		all := c.all // a copy: c itself stays on its caller's stack
		m.more = &all
		m.few[0].Store(c.all[0])
		m.few[1].Store(c.all[len(l.Limits)])
		return
	}
	m.few[0].Store(c.few[0])
	m.few[1].Store(c.few[1])
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

// kind gives the one series of this name and number.
func (b *Book) kind(name string, number uint32) *series {
	k := series{name, number}
	x := b.series[k]
	if x == nil {
		x = &k
		b.series[k] = x
	}
	return x
}

// at finds the place of a counter, and whether it is there.
func (s *subject) at(name string, number uint32, start int64) (int, bool) {
	lo, hi := 0, len(s.rows)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if s.rows[m].before(name, number, start) {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo, lo < len(s.rows) && s.rows[lo].is(name, number, start)
}

func (r *Row) before(name string, number uint32, start int64) bool {
	if r.in.name != name {
		return r.in.name < name
	}
	if r.in.number != number {
		return r.in.number < number
	}
	return r.start < start
}

func (r *Row) is(name string, number uint32, start int64) bool {
	return r.start == start && r.in.number == number && r.in.name == name
}

func (b *Book) insert(r *Row) {
	i, _ := r.of.at(r.in.name, r.in.number, r.start)
	r.of.rows = slices.Insert(r.of.rows, i, r)
	r.fresh = false
	b.rows++
}

// row finds a stored counter in memory or by the Loader; nil where there is none.
func (b *Book) row(sub *subject, name string, number uint32, start int64) (*Row, error) {
	if i, ok := sub.at(name, number, start); ok {
		return sub.rows[i], nil
	}
	if b.load == nil {
		return nil, nil
	}
	c, ok, err := b.load.Counter(CounterID{Subject: sub.id, Series: name, Number: number, Start: start})
	if err != nil || !ok {
		return nil, err
	}
	r := &Row{start: start, of: sub, in: b.kind(name, number)}
	r.set(c)
	b.insert(r)
	return r, nil
}

// block is memory for the fresh rows of a Level: those that are charged
// together lie together.
type block struct {
	rows []Row
	most int
}

func (k *block) row() *Row {
	if k.rows == nil {
		k.rows = make([]Row, 0, k.most)
	}
	if len(k.rows) == cap(k.rows) {
		return new(Row)
	}
	k.rows = k.rows[:len(k.rows)+1]
	return &k.rows[len(k.rows)-1]
}

// bucket finds a usage bucket, or makes a fresh one.
func (b *Book) bucket(sub *subject, name string, start int64, k *block) (*Row, error) {
	r, err := b.row(sub, name, 0, start)
	if r != nil || err != nil {
		return r, err
	}
	r = k.row()
	*r = Row{start: start, of: sub, in: b.kind(name, 0), fresh: true}
	return r, nil
}

// limit finds the counter of a limit in its window, or opens a fresh one as if
// it had always run: with what the buckets say was spent since its start.
func (b *Book) limit(sub *subject, e *Entry, k *block) (*Row, error) {
	r, err := b.row(sub, e.Limit, e.Number, e.Start)
	if r != nil || err != nil {
		return r, err
	}
	r = k.row()
	*r = Row{start: e.Start, end: e.End, of: sub, in: b.kind(e.Limit, e.Number), fresh: true}
	if e.End == 0 {
		return r, nil // a limit that never resets counts from when it was set
	}
	err = b.eachUsage(sub, e.Start, e.End, func(_ int64, c *Counter) {
		r.noted = true
		r.used, r.held = satAdd(r.used, c.Used), satAdd(r.held, c.Held)
		r.strand(c.Stranded)
	})
	if err != nil {
		return nil, err
	}
	r.max = r.bound(e)
	return r, b.inherit(r)
}

// MaxFormer bounds the earlier periods of a limit whose alerts are looked for
// when its counter is opened.
const MaxFormer = 32

// inherit notes with a fresh counter what alerted in the window that began at
// the same instant, under the numbers that the limit had before: a threshold
// alerts once in it, however often its period is set anew.
func (b *Book) inherit(r *Row) error {
	for n := r.in.number - 1; n > 0 && r.in.number-n <= MaxFormer; n-- {
		old, err := b.row(r.of, r.in.name, n, r.start)
		if err != nil {
			return err
		}
		if old == nil || old.end == 0 {
			continue
		}
		marks := r.marks()
		for _, m := range old.marks() {
			if m.Start == r.start && !slices.Contains(marks, m) {
				marks = append(slices.Clone(marks), m)
			}
		}
		if len(marks) > 0 {
			r.mark(marks)
		}
	}
	return nil
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

// each visits the buckets of a series. What fn is given is good until it returns.
func (b *Book) each(sub *subject, name string, from, to int64, fn func(start int64, c *Counter)) error {
	var c Counter // one for all: it is on the heap
	if b.load != nil {
		err := b.load.Buckets(sub.id, name, from, to, func(start int64, stored Counter) {
			if _, ok := sub.at(name, 0, start); !ok {
				c = stored
				fn(start, &c)
			}
		})
		if err != nil {
			return err
		}
	}
	i, _ := sub.at(name, 0, from)
	for ; i < len(sub.rows); i++ {
		r := sub.rows[i]
		if r.in.name != name || r.in.number != 0 || r.start >= to {
			break
		}
		c = r.Counter()
		fn(r.start, &c)
	}
	return nil
}

// find finds the counters of a Level. Fresh ones are not yet in the Book and
// not remembered.
func (b *Book) find(l *Level, into *counters) error {
	if l.memo().finds(b, l, into) {
		return nil
	}
	sub := b.subject(l.Subject)
	k := block{most: len(l.Limits) + 1}
	into.all = nil
	if k.most > len(into.few) {
		into.all = make([]*Row, k.most)
	}
	fresh := false
	for i := range l.Limits {
		r, err := b.limit(sub, &l.Limits[i], &k)
		if err != nil {
			return err
		}
		fresh = fresh || r.fresh
		into.set(i, r)
	}
	r, err := b.bucket(sub, SeriesUsage, l.Bucket, &k)
	if err != nil {
		return err
	}
	into.set(k.most-1, r)
	if !fresh && !r.fresh {
		l.memo().keeps(b, l, into)
	}
	return nil
}

// keep makes a Level's fresh counters part of the Book.
func (b *Book) keep(l *Level, c *counters) error {
	fresh := false
	for i := range len(l.Limits) + 1 {
		r := c.at(i)
		if !r.fresh {
			continue
		}
		fresh = true
		if r.noted {
			if err := b.note(r.of, Opening{Series: r.in.name, Number: r.in.number, Start: r.start, End: r.end}); err != nil {
				return err
			}
		}
		b.insert(r)
		b.created(r)
	}
	if fresh {
		l.memo().keeps(b, l, c)
	}
	return nil
}

// maxOpenings bounds what is noted per subject: far more windows than can be
// opened anew while a charge can still be refunded.
const maxOpenings = 256

func (b *Book) openings(sub *subject) ([]Opening, error) {
	if sub.more == nil {
		if b.load == nil {
			return nil, nil
		}
		o, err := b.load.Openings(sub.id)
		if err != nil {
			return nil, err
		}
		sub.more = &opened{o}
	}
	return sub.more.list, nil
}

func (b *Book) note(sub *subject, o Opening) error {
	old, err := b.openings(sub)
	if err != nil {
		return err
	}
	if slices.Contains(old, o) {
		return nil // a counter that was purged, and is there again
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
// [from, to). What is in memory wins over what is stored. Order is not given; a
// Counter is good until fn returns.
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
		for _, r := range sub.rows {
			fn(r.ID(), r.Counter())
		}
	}
}

// Series visits the names of the bucket series of a subject in memory.
func (b *Book) Series(s Subject, fn func(series string)) {
	sub := b.subjects[s]
	if sub == nil {
		return
	}
	var last *series
	for _, r := range sub.rows {
		if r.in.number == 0 && r.in != last {
			last = r.in
			fn(r.in.name)
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
