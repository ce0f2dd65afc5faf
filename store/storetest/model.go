package storetest

import (
	"slices"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// model is what a Store must amount to, written to be obvious: a log of all
// that was ever charged or reserved, and every figure added up from it anew.
// It shares no code with quota.Book.
type model struct {
	settings int64
	log      []*spending
	ids      map[string]*memory
	counters map[name]*counter
	refused  []quota.Count
	alerts   []quota.Alert // without Seq
	alerted  map[alertName]bool
	folded   []int64 // starts of days that were folded
}

// spending is a charge, or a reservation and what became of it.
type spending struct {
	levels           []*quota.Level
	caller           quota.Subject
	amount, refunded quota.Credits // amount: held while open, then what was spent
	reserved         quota.Credits
	reservation      bool
	state            quota.HoldState
	expires          int64
	final            []quota.Figure
	block            *block // nil of what is none
}

// block is what became of a block.
type block struct {
	left     quota.Credits
	spent    quota.Credits // settled
	requests int64
	seq      int64 // of the last settlement
	byHand   bool
}

// memory is what an id did.
type memory struct {
	verb      quota.Verb
	caller    quota.Subject
	of        string
	amount    quota.Credits
	ttl, keep int64
	figures   []quota.Figure
	spending  *spending // nil of a refund
}

type name struct {
	subject quota.Subject
	limit   string
	number  uint32
	start   int64
}

// counter is what cannot be added up from the log.
type counter struct {
	end     int64
	overage quota.Credits
	max     quota.Credits // the bound that last admitted anything
	// cap bounds a window that was opened inside an older limit's.
	cap    quota.Credits
	capped bool
}

type alertName struct {
	subject   quota.Subject
	limit     string
	start     int64
	threshold quota.Threshold
}

func newModel(settings int64) *model {
	return &model{settings: settings, ids: map[string]*memory{}, counters: map[name]*counter{}, alerted: map[alertName]bool{}}
}

func nameOf(s quota.Subject, e quota.Entry) name { return name{s, e.Limit, e.Number, e.Start} }

// counts says whether a spending counts in a counter: it was admitted on it,
// or the counter came after it and its window holds the spending's bucket.
// own is the entry that it was admitted on.
func (p *spending) counts(n name, c *counter) (own *quota.Entry, yes bool) {
	for _, l := range p.levels {
		if l.Subject != n.subject {
			continue
		}
		for i := range l.Limits {
			if nameOf(n.subject, l.Limits[i]) == n {
				return &l.Limits[i], true
			}
		}
		return nil, n.number > l.Sequence && c.end != 0 && l.Bucket >= n.start && l.Bucket < c.end
	}
	return nil, false
}

// spent is what it cost so far.
func (p *spending) spent() quota.Credits {
	if p.block != nil {
		return p.block.spent
	}
	if p.reservation && p.state != quota.HoldCommitted {
		return 0
	}
	return p.amount - p.refunded
}

// holds is what it holds at instant now.
func (p *spending) holds(m *model, now int64) quota.Credits {
	if p.block != nil {
		if state, _ := m.blockAt(p, now); state == quota.HoldOpen || state == quota.HoldStranded {
			return p.block.left
		}
		return 0
	}
	if p.reservation && p.state == quota.HoldOpen && p.expires > now {
		return p.reserved
	}
	return 0
}

// figure adds a counter up as of instant now.
func (m *model) figure(n name, c *counter, bound quota.Credits, now int64) quota.Figure {
	f := quota.Figure{Max: bound, Overage: c.overage, Used: -c.overage}
	for _, p := range m.log {
		if _, yes := p.counts(n, c); yes {
			f.Used += p.spent()
			f.Held += p.holds(m, now)
		}
	}
	return f
}

func (c *counter) bound(e quota.Entry) quota.Credits {
	if c.capped {
		return max(0, min(e.Max, c.cap)+e.Extra)
	}
	return e.Max + e.Extra
}

// counter finds a counter, or says what a new one would be.
func (m *model) counter(s quota.Subject, e quota.Entry) *counter {
	if c := m.counters[nameOf(s, e)]; c != nil {
		return c
	}
	return &counter{end: e.End, max: e.Max + e.Extra}
}

func spare(f quota.Figure) quota.Credits { return max(0, f.Max-f.Used-f.Overage-f.Held) }

// open opens the counter of a limit that was set anew.
func (m *model) open(s quota.Subject, e quota.Entry, was *quota.Entry, now int64) {
	m.sweep(now)
	if m.counters[nameOf(s, e)] != nil {
		return
	}
	c := m.counter(s, e)
	if was != nil && !was.Soft && e.End != 0 && e.Start >= was.Start && (was.End == 0 || e.Start < was.End) {
		old := m.counter(s, *was)
		left := spare(m.figure(nameOf(s, *was), old, old.bound(*was), now))
		f := m.figure(nameOf(s, e), c, 0, now)
		c.cap, c.capped = f.Used+f.Held+left-e.Extra, true
	}
	c.max = c.bound(e)
	m.counters[nameOf(s, e)] = c
}

// sweep ends the reservations whose time is over.
func (m *model) sweep(now int64) {
	for _, p := range m.log {
		if p.reservation && p.state == quota.HoldOpen && p.expires <= now {
			p.state = quota.HoldExpired
		}
		if p.block != nil && (p.state == quota.HoldOpen || p.state == quota.HoldStranded) {
			if p.state, p.expires = m.blockAt(p, now); p.state == quota.HoldExpired {
				m.forget(p, now)
			}
		}
	}
}

// remembered finds what an id did, if that is remembered at instant now.
func (m *model) remembered(id string, now int64) *memory {
	r := m.ids[id]
	if id == "" || r == nil {
		return nil
	}
	open := r.spending != nil && (r.spending.state == quota.HoldOpen || r.spending.state == quota.HoldStranded)
	if !open && r.keep <= now {
		return nil
	}
	return r
}

// apply decides an Op.
func (m *model) apply(o *quota.Op) quota.Result {
	m.sweep(o.At)
	switch o.Verb {
	case quota.VerbCharge, quota.VerbReserve:
		return m.admit(o)
	case quota.VerbRefund:
		return m.refund(o)
	case quota.VerbLease:
		return m.lease(o)
	case quota.VerbSettle:
		return m.settleBlock(o)
	case quota.VerbCount:
		m.refused = append(m.refused, o.Counts...)
		return quota.Result{Outcome: quota.Applied}
	}
	return m.settle(o)
}

func (r *memory) replay(o *quota.Op) quota.Result {
	if r.verb != o.Verb || r.caller != o.Caller || r.amount != o.Amount || r.ttl != o.TTL || r.of != o.Of {
		return quota.Result{Outcome: quota.Conflict}
	}
	return quota.Result{Outcome: quota.Replayed, Figures: r.figures}
}

func (m *model) admit(o *quota.Op) (res quota.Result) {
	if r := m.remembered(o.ID, o.At); r != nil {
		return r.replay(o)
	}
	if o.Settings != m.settings {
		return quota.Result{Outcome: quota.Stale}
	}
	n := 0
	for _, l := range o.Levels {
		for _, e := range l.Limits {
			c := m.counter(l.Subject, e)
			f := m.figure(nameOf(l.Subject, e), c, c.bound(e), o.At)
			if !e.Soft && f.Used+f.Overage+f.Held+o.Amount > f.Max {
				res.Refused |= 1 << n
			}
			res.Figures = append(res.Figures, f)
			n++
		}
	}
	if res.Outcome = quota.Refused; res.Refused != 0 {
		return res
	}
	p := &spending{levels: slices.Clone(o.Levels), caller: o.Caller, amount: o.Amount}
	kept := o.Keep
	if o.Verb == quota.VerbReserve {
		p.reservation, p.reserved, p.state, p.expires = true, o.Amount, quota.HoldOpen, o.At+o.TTL
		kept = max(kept, p.expires+day)
	}
	m.log = append(m.log, p)
	res = quota.Result{Outcome: quota.Applied}
	for _, l := range o.Levels {
		for _, e := range l.Limits {
			c := m.counter(l.Subject, e)
			c.max = c.bound(e)
			m.counters[nameOf(l.Subject, e)] = c
			f := m.figure(nameOf(l.Subject, e), c, c.max, o.At)
			m.watch(l.Subject, e, f, o.At)
			res.Figures = append(res.Figures, f)
		}
	}
	if o.ID != "" {
		m.ids[o.ID] = &memory{verb: o.Verb, caller: o.Caller, of: o.Of, amount: o.Amount, ttl: o.TTL, keep: kept, figures: res.Figures, spending: p}
	}
	return res
}

func (m *model) watch(s quota.Subject, e quota.Entry, f quota.Figure, now int64) {
	for _, t := range e.Thresholds {
		spent := f.Used + f.Overage
		passed := f.Max > 0 && spent > 0 && spent*100 >= f.Max*quota.Credits(t)
		switch {
		case t == quota.ThresholdOverage:
			passed = f.Overage > 0
		case t < 0:
			passed = f.Max > 0 && spent > 0 && f.Max-spent <= quota.Credits(-t-1)
		}
		key := alertName{s, e.Limit, e.Start, t}
		if passed && !m.alerted[key] {
			m.alerted[key] = true
			m.alerts = append(m.alerts, quota.Alert{
				Org: acme, Subject: s, Limit: e.Limit, Start: e.Start, End: e.End, Threshold: t, Max: f.Max, Used: f.Used, Overage: f.Overage, At: now,
			})
		}
	}
}

// peek adds up every limit of the levels as of instant now.
func (m *model) peek(levels []*quota.Level, now int64) (fs []quota.Figure) {
	for _, l := range levels {
		for _, e := range l.Limits {
			c := m.counter(l.Subject, e)
			f := m.figure(nameOf(l.Subject, e), c, c.bound(e), now)
			f.Stranded = m.stranded(nameOf(l.Subject, e), c, now)
			fs = append(fs, f)
		}
	}
	return fs
}

// usage adds up the buckets and folded days of a subject.
func (m *model) usage(s quota.Subject) map[usage.Row]usage.Row {
	rows := map[usage.Row]usage.Row{}
	add := func(bucket int64, reason quota.Reason, c quota.Credits, requests int64) {
		key := usage.Row{Subject: s, Reason: reason, Start: bucket}
		for _, start := range m.folded {
			if bucket >= start && bucket < start+day {
				key.Day, key.Start = true, start
			}
		}
		r, there := rows[key]
		if !there {
			r = key
		}
		r.Credits, r.Requests = r.Credits+c, r.Requests+requests
		rows[key] = r
	}
	for _, p := range m.log {
		for _, l := range p.levels {
			if l.Subject == s {
				requests := int64(1)
				if p.block != nil {
					requests = p.block.requests
				}
				add(l.Bucket, "", p.spent(), requests)
			}
		}
	}
	for _, c := range m.refused {
		if c.Subject == s {
			add(c.Bucket, quota.Reason(c.Series[len(quota.SeriesRefused):]), 0, c.Requests)
		}
	}
	return rows
}
