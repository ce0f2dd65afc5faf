package storetest

import (
	"math"
	"slices"

	"github.com/keypurse/keypurse/quota"
)

// blockAt is what a block is at instant now, and until when it holds what it
// holds: its time, then to the end of the last window that it counts in.
func (m *model) blockAt(p *spending, now int64) (quota.HoldState, int64) {
	if p.state != quota.HoldOpen && p.state != quota.HoldStranded || p.expires > now {
		return p.state, p.expires
	}
	until := int64(0)
	for _, l := range p.levels {
		until = max(until, l.Bucket+quarter)
	}
	for n, c := range m.counters {
		if _, yes := p.counts(n, c); yes {
			if until = max(until, c.end); c.end == 0 {
				return quota.HoldStranded, math.MaxInt64
			}
		}
	}
	if until > now {
		return quota.HoldStranded, until
	}
	return quota.HoldExpired, until
}

// stranded is how much of what a counter holds is stranded.
func (m *model) stranded(n name, c *counter, now int64) (sum quota.Credits) {
	for _, p := range m.log {
		if _, yes := p.counts(n, c); !yes || p.block == nil {
			continue
		}
		if state, _ := m.blockAt(p, now); state == quota.HoldStranded {
			sum += p.block.left
		}
	}
	return sum
}

// forget keeps a block that is over for a day.
func (m *model) forget(p *spending, now int64) {
	for _, r := range m.ids {
		if r.spending == p {
			r.keep = now + day
		}
	}
}

func (m *model) lease(o *quota.Op) (res quota.Result) {
	if r := m.remembered(o.ID, o.At); r != nil {
		return r.replay(o)
	}
	if o.Settings != m.settings {
		return quota.Result{Outcome: quota.Stale}
	}
	n, left := 0, o.Amount
	for _, l := range o.Levels {
		for _, e := range l.Limits {
			c := m.counter(l.Subject, e)
			f := m.figure(nameOf(l.Subject, e), c, c.bound(e), o.At)
			if !e.Soft {
				left = min(left, spare(f)/quota.BlockShare)
				if spare(f)/quota.BlockShare < o.Size || f.Used+f.Overage+f.Held > f.Max {
					res.Refused |= 1 << n
				}
			}
			res.Figures = append(res.Figures, f)
			n++
		}
	}
	if res.Outcome = quota.Refused; res.Refused != 0 {
		return res
	}
	p := &spending{levels: slices.Clone(o.Levels), caller: o.Caller, state: quota.HoldOpen, expires: o.At + o.TTL, block: &block{left: left}}
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
	m.ids[o.ID] = &memory{verb: o.Verb, caller: o.Caller, of: o.Of, amount: o.Amount, ttl: o.TTL, keep: p.expires + day, figures: res.Figures, spending: p}
	return res
}

func (m *model) settleBlock(o *quota.Op) quota.Result {
	r := m.remembered(o.Of, o.At)
	switch {
	case r == nil:
		return quota.Result{Outcome: quota.Unknown}
	case r.verb != quota.VerbLease || o.Caller != "" && o.Caller != r.caller:
		return quota.Result{Outcome: quota.Conflict}
	}
	p, b, byHand := r.spending, r.spending.block, o.Seq == 0
	switch {
	case byHand && b.byHand && o.Amount == b.spent, !byHand && o.Seq <= b.seq && !b.byHand:
		return quota.Result{Outcome: quota.Replayed}
	case byHand && p.state == quota.HoldExpired:
		return quota.Result{Outcome: quota.Expired}
	case byHand && p.state != quota.HoldStranded, p.state == quota.HoldCommitted, o.Amount < b.spent, !byHand && o.Requests < b.requests:
		return quota.Result{Outcome: quota.Conflict}
	case o.TTL > 0 && o.Settings != m.settings:
		return quota.Result{Outcome: quota.Stale}
	case p.state != quota.HoldExpired && o.Amount-b.spent > b.left:
		return quota.Result{Outcome: quota.Excess}
	}
	spent := o.Amount - b.spent
	if p.state == quota.HoldExpired { // nothing is held any more
		b.left = spent
		for n, c := range m.counters {
			if own, yes := p.counts(n, c); yes && (own == nil || !own.Soft) {
				c.overage += max(0, spent-spare(m.figure(n, c, c.max, o.At)))
			}
		}
	}
	grow := m.growth(p, o.At)
	b.left, b.spent = b.left-spent, o.Amount
	if !byHand {
		b.requests = o.Requests
	}
	b.seq, b.byHand = o.Seq, byHand
	switch {
	case o.TTL == 0:
		p.state, b.left = quota.HoldCommitted, 0
		r.keep = o.At + day
	case p.state == quota.HoldOpen:
		b.left += min(o.Size-b.left, grow)
		p.expires = max(p.expires, o.At+o.TTL)
		r.keep = p.expires + day
	}
	res := quota.Result{Outcome: quota.Applied}
	for _, l := range p.levels {
		for _, e := range l.Limits {
			f := m.settled(l.Subject, e, o.At)
			res.Figures = append(res.Figures, f)
			if !m.replaced(p, nameOf(l.Subject, e)) {
				m.watch(l.Subject, e, f, o.At)
			}
		}
	}
	return res
}

// growth is the most that a block may grow by.
func (m *model) growth(p *spending, now int64) quota.Credits {
	most := quota.MaxCredits
	for _, l := range p.levels {
		for _, e := range l.Limits {
			c := m.counters[nameOf(l.Subject, e)]
			if c == nil {
				return 0
			}
			if !e.Soft {
				most = min(most, spare(m.figure(nameOf(l.Subject, e), c, c.bound(e), now))/quota.BlockShare)
			}
		}
	}
	for n, c := range m.counters {
		if own, yes := p.counts(n, c); yes && own == nil {
			most = min(most, spare(m.figure(n, c, c.max, now))/quota.BlockShare)
		}
	}
	return most
}

// inBlock says whether something of a counter is held by a block, as the last
// operation left it.
func (m *model) inBlock(n name, c *counter) bool {
	for _, p := range m.log {
		if _, yes := p.counts(n, c); yes && p.block != nil && p.block.left > 0 && (p.state == quota.HoldOpen || p.state == quota.HoldStranded) {
			return true
		}
	}
	return false
}

// block makes an Op take a block, or settle one that was taken lately.
func (w *walk) block(o *quota.Op, ls []*quota.Level) {
	if len(w.blocks) == 0 || w.rng.IntN(3) == 0 {
		o.Verb, o.Levels, o.ID, o.Of = quota.VerbLease, ls, w.id(), "owner"
		o.Size = quota.Credits(w.rng.IntN(3))
		o.Amount += o.Size
		if o.TTL = 1 + w.rng.Int64N(minute); w.rng.IntN(2) == 0 {
			o.TTL = 1 + w.rng.Int64N(12*hour)
		}
		w.blocks = append(w.blocks, o.ID)
		return
	}
	last := w.blocks[max(0, len(w.blocks)-12):]
	o.Verb, o.Of, o.Seq = quota.VerbSettle, last[w.rng.IntN(len(last))], 1
	r := w.m.ids[o.Of]
	if r == nil || r.spending == nil || r.spending.block == nil {
		return
	}
	b := r.spending.block
	o.Caller, o.Seq, o.Requests = r.caller, max(1, b.seq+w.rng.Int64N(4)-1), b.requests+w.rng.Int64N(3)
	o.Amount = b.spent + quota.Credits(w.rng.Int64N(int64(b.left)+2))
	switch w.rng.IntN(8) {
	case 0, 1, 2:
	case 3:
		o.Caller, o.Seq = "", 0
	case 4:
		o.Amount -= 1
		o.Amount = max(0, o.Amount)
		o.Settings--
		o.TTL = 1 + w.rng.Int64N(hour)
	default:
		o.Size, o.TTL = quota.Credits(w.rng.IntN(90)), 1+w.rng.Int64N(hour)
	}
}
