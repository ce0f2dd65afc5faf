package sim

import (
	"slices"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// reply is what a call answered, as far as it is compared.
type reply struct {
	what    string // "allowed", "refused", "ok", or a condition
	replay  bool
	amount  int64
	overrun int64
	lines   []line
}

type line struct {
	sub                             quota.Subject
	limit                           string
	max, extra, used, held, overage int64
	start, end                      int64
	soft, refused                   bool
}

func (r reply) String() string {
	b := append(make([]byte, 0, 256), r.what...)
	num := func(name string, n int64) {
		if n != 0 {
			b = append(append(append(b, ' '), name...), '=')
			b = strconv.AppendInt(b, n, 10)
		}
	}
	if r.replay {
		b = append(b, " again"...)
	}
	num("amount", r.amount)
	num("overrun", r.overrun)
	for _, l := range r.lines {
		b = append(append(append(append(b, " ["...), l.sub...), ' '), l.limit...)
		num("max", l.max)
		num("extra", l.extra)
		num("used", l.used)
		num("held", l.held)
		num("overage", l.overage)
		num("start", l.start)
		num("end", l.end)
		if l.soft {
			b = append(b, " soft"...)
		}
		if l.refused {
			b = append(b, " refused"...)
		}
		b = append(b, ']')
	}
	return string(b)
}

func condition(what string) reply { return reply{what: what} }

// admit is Charge and Reserve.
func (m *model) admit(c *caller, verb quota.Verb, id string, amount, ttl int64) reply {
	if m.barred(c) != "" {
		return condition("unauthenticated")
	}
	o := c.node.org
	o.sweep(m.now)
	if id != "" {
		if x := o.remembered(id, m.now); x != nil {
			if x.verb != verb || x.caller != c.node.sub.name || x.amount != amount || x.ttl != ttl {
				return condition("conflict")
			}
			r := x.first
			r.replay = true
			return r
		}
	}
	chain := c.node.chain()
	var entries []entry
	var rows []*row
	out := reply{what: "allowed", amount: amount}
	overflow := false
	for _, n := range chain {
		for _, e := range m.entries(n) {
			r, _ := n.sub.row(&e)
			held := o.held(r, m.now)
			bound := r.bound(&e)
			taken := sat(r.used, r.overage, held)
			l := o.line(&e, r, bound, m.now)
			if amount > room(bound, taken) || taken > bound {
				if !e.soft {
					l.refused = true
					out.what = "refused"
				} else if amount > maxAmount-taken {
					overflow = true
				}
			}
			entries, rows, out.lines = append(entries, e), append(rows, r), append(out.lines, l)
		}
		b := n.sub.bucketSeen(m.now)
		if amount > maxAmount-sat(b.credits, b.held()) {
			overflow = true
		}
	}
	if out.what == "refused" {
		for _, n := range chain {
			n.sub.refused[quota.ReasonLimit]++
		}
		return out
	}
	if overflow {
		return condition("overflow")
	}
	x := &op{id: id, verb: verb, at: m.now, caller: c.node.sub.name, amount: amount, ttl: ttl, entries: entries, keep: m.now + m.keep + ttl}
	if verb == quota.VerbReserve {
		x.state, x.expires = open, m.now+ttl
		x.keep = max(x.keep, x.expires+dayMicros)
		o.holds = append(o.holds, x)
	}
	for i, r := range rows {
		entries[i].sub.put(r)
		if id != "" {
			x.rows = append(x.rows, r)
		}
	}
	for _, n := range chain {
		x.chain = append(x.chain, n.sub.name)
		b := o.bucketAt(n.sub, m.now)
		b.requests++
		if verb == quota.VerbCharge {
			b.credits += amount
			o.spent[n.sub.name] += amount
		}
		if id != "" {
			b.ops = append(b.ops, x)
			x.buckets = append(x.buckets, b)
		}
	}
	for i, r := range rows {
		e := &entries[i]
		if verb == quota.VerbCharge {
			r.used += amount
		}
		r.max = r.bound(e)
		m.watch(o, r, e)
		out.lines[i] = o.line(e, r, r.max, m.now)
	}
	if id != "" {
		x.first = out
		o.remember(x)
	}
	return out
}

// hold finds the open reservation that is settled, or says why there is none.
func (m *model) hold(o *org, of string, caller quota.Subject) (*op, string) {
	o.sweep(m.now)
	x := o.remembered(of, m.now)
	switch {
	case x == nil:
		return nil, "unknown id"
	case x.verb != quota.VerbReserve || caller != "" && caller != x.caller:
		return nil, "conflict"
	case x.state == expired:
		return nil, "expired"
	}
	return x, ""
}

// counters are all rows that an op is in, each once.
func (x *op) counters() []*row {
	x.rows = slices.DeleteFunc(x.rows, func(r *row) bool { return r.gone })
	return x.rows
}

// settled is the state of an op's own limits.
func (m *model) settled(o *org, x *op, amount int64) reply {
	out := reply{what: "allowed", amount: amount}
	for i := range x.entries {
		e := &x.entries[i]
		r := e.sub.rows[e.key()]
		var bound int64
		if r != nil {
			bound = r.max
		}
		out.lines = append(out.lines, o.line(e, r, bound, m.now))
	}
	return out
}

func (m *model) commit(o *org, of string, caller quota.Subject, amount int64, strict bool) reply {
	x, why := m.hold(o, of, caller)
	switch {
	case x == nil:
		return condition(why)
	case x.state == committed && x.actual == amount:
		r := x.final
		r.replay = true
		return r
	case x.state != open:
		return condition("conflict")
	}
	if x.folded {
		return condition("unknown id")
	}
	excess := max(0, amount-x.amount)
	rows := x.counters()
	own := map[*row]*entry{}
	for i := range x.entries {
		e := &x.entries[i]
		if r := e.sub.rows[e.key()]; r != nil {
			own[r] = e
		}
	}
	for _, r := range rows {
		if excess > maxAmount-sat(r.used, r.overage, o.held(r, m.now)) {
			return condition("overflow")
		}
	}
	for _, b := range x.buckets {
		if excess > maxAmount-sat(b.credits, b.held()) {
			return condition("overflow")
		}
	}
	over := map[*row]int64{}
	for _, r := range rows {
		e := own[r]
		if e != nil && e.soft {
			continue
		}
		over[r] = max(0, excess-room(r.max, r.used, r.overage, o.held(r, m.now)))
		if strict && over[r] > 0 {
			return condition("excess")
		}
	}
	o.close(x, committed)
	x.actual, x.keep = amount, max(x.keep, m.now+m.keep)
	for _, r := range rows {
		r.used += amount - over[r]
		r.overage += over[r]
	}
	for _, b := range x.buckets {
		b.credits += amount
	}
	for _, s := range x.chain {
		o.spent[s] += amount
	}
	for i := range x.entries {
		e := &x.entries[i]
		r := e.sub.rows[e.key()]
		anew := slices.ContainsFunc(rows, func(y *row) bool { // the limit's counter is another by now
			return y != r && own[y] == nil && y.sub == e.sub && y.key.limit == e.limit
		})
		if r != nil && !anew {
			m.watch(o, r, e)
		}
	}
	x.final = m.settled(o, x, amount)
	x.final.overrun = excess
	return x.final
}

func (m *model) release(o *org, of string, caller quota.Subject) reply {
	x, why := m.hold(o, of, caller)
	switch {
	case x == nil:
		return condition(why)
	case x.state == released:
		r := x.final
		r.replay = true
		return r
	case x.state != open:
		return condition("conflict")
	}
	o.close(x, released)
	x.keep = max(x.keep, m.now+m.keep)
	x.final = m.settled(o, x, 0)
	return x.final
}

func (m *model) renew(o *org, of string, caller quota.Subject, ttl int64) reply {
	x, why := m.hold(o, of, caller)
	switch {
	case x == nil:
		return condition(why)
	case x.state != open:
		return condition("conflict")
	}
	if end := min(m.now+ttl, x.at+int64(quota.MaxTTL/time.Microsecond)); end > x.expires {
		x.expires = end
		x.keep = max(x.keep, m.now+m.keep, end+dayMicros)
	}
	return condition("ok")
}

func (m *model) refund(o *org, id, of string, amount int64) reply {
	o.sweep(m.now)
	if id != "" {
		if x := o.remembered(id, m.now); x != nil {
			if x.verb != quota.VerbRefund || x.of != of || x.amount != amount {
				return condition("conflict")
			}
			r := x.first
			r.replay = true
			return r
		}
	}
	x := o.remembered(of, m.now)
	switch {
	case x == nil:
		return condition("unknown id")
	case x.verb != quota.VerbCharge && (x.verb != quota.VerbReserve || x.state != committed):
		return condition("conflict")
	case amount > x.spent()-x.back:
		return condition("excess")
	case x.folded:
		return condition("unknown id")
	}
	for _, r := range x.counters() {
		over := min(r.overage, amount)
		r.overage -= over
		r.used -= amount - over
	}
	for _, b := range x.buckets {
		b.credits -= amount
	}
	for _, s := range x.chain {
		o.spent[s] -= amount
	}
	x.back += amount
	out := m.settled(o, x, amount)
	if id != "" {
		o.remember(&op{id: id, verb: quota.VerbRefund, of: of, amount: amount, keep: m.now + m.keep, first: out})
	}
	return out
}
