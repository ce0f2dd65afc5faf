package storetest

import (
	"github.com/keypurse/keypurse/quota"
)

// settle decides a Commit, Release or Renew.
func (m *model) settle(o *quota.Op) quota.Result {
	r := m.remembered(o.Of, o.At)
	switch {
	case r == nil:
		return quota.Result{Outcome: quota.Unknown}
	case r.verb != quota.VerbReserve || o.Caller != "" && o.Caller != r.caller:
		return quota.Result{Outcome: quota.Conflict}
	}
	p := r.spending
	done := map[quota.Verb]quota.HoldState{quota.VerbCommit: quota.HoldCommitted, quota.VerbRelease: quota.HoldReleased}[o.Verb]
	switch {
	case p.state == quota.HoldExpired:
		return quota.Result{Outcome: quota.Expired}
	case p.state == quota.HoldOpen:
	case p.state == done && (o.Verb == quota.VerbRelease || p.amount == o.Amount):
		return quota.Result{Outcome: quota.Replayed, Figures: p.final}
	default:
		return quota.Result{Outcome: quota.Conflict}
	}
	if o.Verb == quota.VerbRenew {
		if o.At+o.TTL > p.expires {
			p.expires = o.At + o.TTL
			r.keep = max(r.keep, o.Keep, p.expires+day)
		}
		return quota.Result{Outcome: quota.Applied}
	}
	if o.Verb == quota.VerbRelease {
		p.state = quota.HoldReleased
	} else if !m.commit(p, o) {
		return quota.Result{Outcome: quota.Excess}
	}
	r.keep = max(r.keep, o.Keep)
	for _, l := range p.levels {
		for _, e := range l.Limits {
			f := m.settled(l.Subject, e, o.At)
			p.final = append(p.final, f)
			if o.Verb == quota.VerbCommit && !m.replaced(p, nameOf(l.Subject, e)) {
				m.watch(l.Subject, e, f, o.At)
			}
		}
	}
	return quota.Result{Outcome: quota.Applied, Figures: p.final}
}

// replaced says whether a limit's period was set anew, with a window that the
// spending counts in: that one alerts from then on.
func (m *model) replaced(p *spending, old name) bool {
	for n, c := range m.counters {
		if _, yes := p.counts(n, c); yes && n.subject == old.subject && n.limit == old.limit && n.number > old.number {
			return true
		}
	}
	return false
}

// settled is a limit as a settlement left it; nothing where it was purged.
func (m *model) settled(s quota.Subject, e quota.Entry, now int64) quota.Figure {
	if c := m.counters[nameOf(s, e)]; c != nil {
		return m.figure(nameOf(s, e), c, c.max, now)
	}
	return quota.Figure{}
}

// commit spends a reservation; false where a strict one finds no room.
func (m *model) commit(p *spending, o *quota.Op) bool {
	excess := max(0, o.Amount-p.reserved)
	over := map[*counter]quota.Credits{}
	for n, c := range m.counters {
		own, yes := p.counts(n, c)
		if !yes || own != nil && own.Soft {
			continue
		}
		if over[c] = max(0, excess-spare(m.figure(n, c, c.max, o.At))); over[c] > 0 && o.Strict {
			return false
		}
	}
	for c, more := range over {
		c.overage += more
	}
	p.state, p.amount = quota.HoldCommitted, o.Amount
	return true
}

func (m *model) refund(o *quota.Op) (res quota.Result) {
	if r := m.remembered(o.ID, o.At); r != nil {
		return r.replay(o)
	}
	r := m.remembered(o.Of, o.At)
	switch {
	case r == nil:
		return quota.Result{Outcome: quota.Unknown}
	case r.spending == nil, r.spending.block != nil, r.verb == quota.VerbReserve && r.spending.state != quota.HoldCommitted, o.Caller != "" && o.Caller != r.caller:
		return quota.Result{Outcome: quota.Conflict}
	case o.Amount > r.spending.amount-r.spending.refunded:
		return quota.Result{Outcome: quota.Excess}
	}
	p := r.spending
	for n, c := range m.counters {
		if _, yes := p.counts(n, c); yes {
			c.overage -= min(c.overage, o.Amount)
		}
	}
	p.refunded += o.Amount
	for _, l := range p.levels {
		for _, e := range l.Limits {
			res.Figures = append(res.Figures, m.settled(l.Subject, e, o.At))
		}
	}
	if res.Outcome = quota.Applied; o.ID != "" {
		m.ids[o.ID] = &memory{verb: o.Verb, caller: o.Caller, of: o.Of, amount: o.Amount, keep: o.Keep, figures: res.Figures}
	}
	return res
}
