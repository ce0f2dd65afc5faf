package sim

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"sort"
	"time"

	"github.com/keypurse/keypurse/quota"
)

const (
	maxAmount = int64(1<<63 - 1)
	quarter   = int64(15 * time.Minute / time.Microsecond)
	dayMicros = int64(24 * time.Hour / time.Microsecond)
)

// model is what the Service should be: records, counters and ids in maps, each
// rule written out once more, as plainly as possible.
type model struct {
	orgs     map[string]*org
	order    []*org
	defaults []quota.Threshold
	keep     int64
	now      int64
	alerts   []quota.Alert // all that should be in the outbox since it was last compared
	marks    map[mark]int64
}

// mark is a threshold that alerted: I10 says that it does so once.
type mark struct {
	org       string
	sub       quota.Subject
	limit     string
	start     int64
	number    uint32 // of a limit that never resets: its counter began anew
	threshold quota.Threshold
}

type org struct {
	*node
	nodes   []*node // accounts, members and keys, deleted ones too
	subs    []*subject
	ids     map[string]*op
	list    []*op // every op with an id, for picking one again
	holds   []*op // open reservations
	spent   map[quota.Subject]int64
	audits  []string // what the audit log should say
	checked bool     // after it was deleted
	folded  int64    // what is older may be in days
}

// subject is what the model counts for one org, account, member or key.
type subject struct {
	name    quota.Subject
	recent  []*bucket // quarters of an hour, by start
	days    []*bucket // folded
	rows    map[rowKey]*row
	refused map[quota.Reason]int64
}

type bucket struct {
	start    int64
	credits  int64
	requests int64
	ops      []*op // those with an id
}

type rowKey struct {
	limit  string
	number uint32
	start  int64
}

// row is a counter of a limit in a window.
type row struct {
	sub     *subject
	key     rowKey
	end     int64
	used    int64
	overage int64
	max     int64
	ceiling int64 // -1: none
	ops     []*op // while it is not kept: whose spending or hold is in it
	gone    bool  // purged
}

// entry is a limit in the window of an instant.
type entry struct {
	sub        *subject
	limit      string
	number     uint32
	max, extra int64
	soft       bool
	thresholds []quota.Threshold
	start, end int64
}

func (e *entry) key() rowKey { return rowKey{e.limit, e.number, e.start} }

type state uint8

const (
	none state = iota
	open
	committed
	released
	expired
)

// op is what an id did.
type op struct {
	id      string
	verb    quota.Verb
	caller  quota.Subject
	of      string
	amount  int64
	ttl     int64
	at      int64
	keep    int64
	state   state
	folded  bool // its bucket became part of a day: it is settled for good
	expires int64
	actual  int64
	back    int64 // refunded
	entries []entry
	rows    []*row
	buckets []*bucket
	chain   []quota.Subject // who is charged
	first   reply           // what it answered
	final   reply           // what its settlement answered
}

func (o *op) spent() int64 {
	switch {
	case o.verb == quota.VerbCharge:
		return o.amount
	case o.state == committed:
		return o.actual
	}
	return 0
}

func newModel(defaults []quota.Threshold, keep time.Duration) *model {
	return &model{orgs: map[string]*org{}, defaults: defaults, keep: int64(keep / time.Microsecond), marks: map[mark]int64{}}
}

// sat adds what is never negative, stopping at the greatest int64.
func sat(xs ...int64) (s int64) {
	for _, x := range xs {
		if s > maxAmount-x {
			return maxAmount
		}
		s += x
	}
	return s
}

func room(bound int64, taken ...int64) int64 { return max(0, bound-sat(taken...)) }

func inside(start, end, at int64) bool { return at >= start && (end == 0 || at < end) }

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func (r *row) bound(e *entry) int64 {
	m := e.max
	if r.ceiling >= 0 {
		m = min(m, r.ceiling)
	}
	return sat(m, e.extra)
}

// held is what open reservations hold of the row at an instant.
func (o *org) held(r *row, at int64) (sum int64) {
	for _, h := range r.ops { // not kept: what it would open with
		if h.state == open && h.expires > at {
			sum = sat(sum, h.amount)
		}
	}
	for _, h := range o.holds {
		if h.expires > at && slices.Contains(h.rows, r) {
			sum = sat(sum, h.amount)
		}
	}
	return sum
}

func (b *bucket) held() (sum int64) {
	for _, h := range b.ops {
		if h.state == open {
			sum = sat(sum, h.amount)
		}
	}
	return sum
}

// within visits the buckets of a subject that start in [from, to).
func (s *subject) within(from, to int64, fn func(*bucket)) {
	for _, list := range [...][]*bucket{s.days, s.recent} {
		i := sort.Search(len(list), func(i int) bool { return list[i].start >= from })
		for ; i < len(list) && list[i].start < to; i++ {
			fn(list[i])
		}
	}
}

func place(list *[]*bucket, start int64) *bucket {
	i := sort.Search(len(*list), func(i int) bool { return (*list)[i].start >= start })
	if i < len(*list) && (*list)[i].start == start {
		return (*list)[i]
	}
	b := &bucket{start: start}
	*list = slices.Insert(*list, i, b)
	return b
}

// row gives the counter of a limit in its window: as it stands, or, where there
// is none, as if it had always run. kept tells the two apart.
func (s *subject) row(e *entry) (r *row, kept bool) {
	if r := s.rows[e.key()]; r != nil {
		return r, true
	}
	r = &row{sub: s, key: e.key(), end: e.end, ceiling: -1}
	if e.end != 0 {
		s.within(e.start, e.end, func(b *bucket) {
			r.used = sat(r.used, b.credits)
			r.ops = append(r.ops, b.ops...)
		})
	}
	r.max = r.bound(e)
	return r, false
}

// put keeps a row that row made.
func (s *subject) put(r *row) {
	if s.rows[r.key] != nil {
		return
	}
	s.rows[r.key] = r
	for _, o := range r.ops {
		o.rows = append(o.rows, r)
	}
	r.ops = nil
}

func (o *org) bucketAt(s *subject, at int64) *bucket {
	start := at - at%quarter
	if at%quarter < 0 {
		start -= quarter
	}
	return place(&s.recent, start)
}

// open makes the counter of a limit that is new or whose period is.
func (o *org) open(e entry, was *entry, at int64) {
	o.sweep(at)
	r, kept := e.sub.row(&e)
	if kept {
		return
	}
	if was != nil && e.end != 0 && !was.soft && inside(was.start, was.end, e.start) {
		old, _ := was.sub.row(was)
		left := room(old.bound(was), old.used, old.overage, o.held(old, at))
		r.ceiling = sat(r.used, o.held(r, at), left)
	}
	r.max = r.bound(&e)
	e.sub.put(r)
}

// sweep ends the reservations whose time is over.
func (o *org) sweep(at int64) {
	left := o.holds[:0]
	for _, h := range o.holds {
		if h.expires <= at {
			h.state = expired
			continue
		}
		left = append(left, h)
	}
	clear(o.holds[len(left):])
	o.holds = left
}

func (o *org) close(h *op, s state) {
	h.state = s
	o.holds = slices.DeleteFunc(o.holds, func(x *op) bool { return x == h })
}

// remembered finds an id.
func (o *org) remembered(id string, at int64) *op {
	x := o.ids[id]
	if x == nil || x.state != open && x.keep <= at {
		return nil
	}
	return x
}

func (o *org) remember(x *op) {
	if old := o.ids[x.id]; old == nil {
		o.list = append(o.list, x)
	} else {
		o.list[slices.Index(o.list, old)] = x
	}
	o.ids[x.id] = x
}

// passed tells whether a threshold is passed.
func passed(t quota.Threshold, bound, used, overage int64) bool {
	spent := sat(used, overage)
	switch {
	case t == quota.ThresholdOverage:
		return overage > 0
	case spent == 0 || bound == 0:
		return false
	case t > 0: // spent / bound >= t / 100
		if spent < 1<<50 && bound < 1<<50 {
			return spent*100 >= bound*int64(t)
		}
		l := new(big.Int).Mul(big.NewInt(spent), big.NewInt(100))
		return l.Cmp(new(big.Int).Mul(big.NewInt(bound), big.NewInt(int64(t)))) >= 0
	}
	return max(0, bound-spent) <= -int64(t)-1
}

// watch puts up what a row's spending alerts.
func (m *model) watch(o *org, r *row, e *entry) {
	for _, t := range e.thresholds {
		k := mark{org: o.id, sub: e.sub.name, limit: e.limit, start: e.start, threshold: t}
		if e.end == 0 {
			k.number = e.number
		}
		if !passed(t, r.max, r.used, r.overage) {
			continue
		}
		end, done := m.marks[k]
		if m.marks[k] = max(end, e.end); done {
			continue
		}
		m.alerts = append(m.alerts, quota.Alert{
			Org: o.id, Subject: e.sub.name, Limit: e.limit, Start: e.start, End: e.end, Threshold: t,
			Max: quota.Credits(r.max), Used: quota.Credits(r.used), Overage: quota.Credits(r.overage), At: m.now,
		})
	}
}

// line is the state of one limit in a reply.
func (o *org) line(e *entry, r *row, bound, at int64) line {
	l := line{sub: e.sub.name, limit: e.limit, extra: e.extra, start: e.start, end: e.end, soft: e.soft}
	if r != nil {
		l.max, l.used, l.overage, l.held = bound, r.used, r.overage, o.held(r, at)
	}
	return l
}

// fold merges what is older than cut into days of the organization's zone.
func (o *org) fold(since, cut time.Time) error {
	period := quota.Period{Unit: quota.Day, Zone: o.zone}
	first, err := period.WindowAt(since)
	if err != nil {
		return fmt.Errorf("sim: fold: %w", err)
	}
	o.folded = max(o.folded, cut.UnixMicro())
	for _, s := range o.subs {
		var left []*bucket
		days := map[int64][]*bucket{}
		for _, b := range s.recent {
			w, err := period.WindowAt(time.UnixMicro(b.start))
			if err != nil {
				return fmt.Errorf("sim: fold: %w", err)
			}
			if w.Start.Before(first.Start) || w.End.After(cut) {
				left = append(left, b)
				continue
			}
			days[w.Start.UnixMicro()] = append(days[w.Start.UnixMicro()], b)
		}
		for start, list := range days {
			if slices.ContainsFunc(list, func(b *bucket) bool { return b.held() != 0 }) {
				left = append(left, list...) // until it is settled
				continue
			}
			d := place(&s.days, start)
			for _, b := range list {
				d.credits += b.credits
				d.requests += b.requests
				d.ops = append(d.ops, b.ops...)
				for _, x := range b.ops {
					x.folded = true
				}
			}
		}
		slices.SortFunc(left, func(a, b *bucket) int { return cmp.Compare(a.start, b.start) })
		s.recent = left
	}
	return nil
}

// purge drops ids that are no longer remembered and, where cut is not zero,
// the counters of windows that ended before it.
func (m *model) purge(cut int64) {
	for _, o := range m.order {
		o.list = slices.DeleteFunc(o.list, func(x *op) bool {
			if x.state == open || x.keep > m.now {
				return false
			}
			delete(o.ids, x.id)
			return true
		})
		if cut == 0 {
			continue
		}
		for _, s := range o.subs {
			for k, r := range s.rows {
				if r.end != 0 && r.end <= cut {
					r.gone = true
					delete(s.rows, k)
				}
			}
		}
	}
	for k, end := range m.marks {
		if cut != 0 && end != 0 && end <= cut {
			delete(m.marks, k)
		}
	}
}

func (m *model) orgOf(x *op) *org {
	for _, o := range m.order {
		if o.ids[x.id] == x {
			return o
		}
	}
	return nil
}
