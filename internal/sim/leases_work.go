package sim

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// work charges until it is told to stop.
func (p *process) work(rng *rand.Rand) {
	w := p.w
	made := 0
	for {
		think := time.NewTimer(time.Duration(rng.Int64N(int64(100 * time.Millisecond))))
		select {
		case <-think.C:
		case <-p.quit:
			think.Stop()
			return
		}
		if p.dead.Load() || w.failed() != nil {
			continue
		}
		c := w.keys[rng.IntN(len(w.keys))]
		who, err := p.principal(c)
		if err != nil {
			continue // disabled
		}
		for range 1 + rng.IntN(6) {
			made++
			if p.spend(rng, c, who, fmt.Sprintf("%p.%d.%d", p, rng.Uint64(), made)) != nil {
				break
			}
		}
	}
}

// principal is a caller as the process knows it; keys by their record alone,
// as after an authentication.
func (p *process) principal(c payer) (saccount.Principal, error) {
	if c.kind == saccount.KindMember {
		return p.Member(p.w.ctx, leaseOrg, c.id)
	}
	return p.Authenticate(p.w.ctx, p.w.tokens[c.id], netip.Addr{})
}

// spend does one thing that costs.
func (p *process) spend(rng *rand.Rand, c payer, who saccount.Principal, id string) error {
	w := p.w
	amount := quota.Credits(rng.Int64N(400))
	began := time.Now()
	switch rng.IntN(20) {
	case 0: // a reservation, which is settled or forgotten
		r, d, err := p.Reserve(w.ctx, who, saccount.Reserve{Amount: amount, TTL: time.Second})
		if err != nil || !d.Allowed {
			return err
		}
		switch rng.IntN(3) {
		case 0:
			_, err = r.Release(w.ctx)
		case 1:
			amount -= quota.Credits(rng.Int64N(int64(amount) + 1))
			d, err = r.Commit(w.ctx, amount)
			w.ack(&d, amount, err)
		}
		if errors.Is(err, quota.ErrExpired) { // a clock that is ahead ended it
			err = nil
		}
		return err
	case 1:
		d, err := p.Charge(w.ctx, who, saccount.Charge{Amount: amount, ID: id})
		w.ack(&d, amount, err)
		return err
	}
	d, err := p.Charge(w.ctx, who, saccount.Charge{Amount: amount})
	if err == nil && d.Allowed {
		w.revoked.Lock()
		bound := quota.LeaseBound
		if w.revoked.by == p {
			bound = 0
		}
		if w.revoked.key == c.id && began.After(w.revoked.since.Add(bound)) {
			w.fail("key %s is charged %v after it was disabled (by this process: %v)", c.id, began.Sub(w.revoked.since), w.revoked.by == p)
		}
		w.revoked.Unlock()
	}
	w.ack(&d, amount, err)
	return err
}

// ack notes what a caller was told.
func (w *leaseWorld) ack(d *quota.Decision, amount quota.Credits, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case errors.Is(err, errDead):
		w.maybe += amount
	case errors.Is(err, saccount.ErrUnauthenticated), errors.Is(err, quota.ErrExpired): // revoked; ended by a clock that is ahead
	case err != nil:
		if w.bad == nil {
			w.bad = fmt.Errorf("sim: leases: %w", err)
		}
	case !d.Allowed:
		w.report.Refused++
	default:
		w.report.Charged++
		w.total += amount
		for _, l := range d.Limits() {
			start := int64(0)
			if !l.Start.IsZero() {
				start = l.Start.UnixMicro()
			}
			w.acked[window{l.Subject, start}] += amount
		}
	}
}

// spendOut spends all that is left of a key whose limits never reset.
func (w *leaseWorld) spendOut() {
	c := w.keys[4]
	for _, p := range w.procs {
		who, err := p.principal(c)
		if err != nil {
			w.fail("authenticate: %v", err)
			return
		}
		for {
			st, err := p.Status(w.ctx, who)
			if err != nil {
				w.fail("status: %v", err)
				return
			}
			amount := quota.MaxCredits
			for _, l := range st {
				amount = min(amount, l.Remaining)
			}
			amount = max(1, amount/3)
			d, err := p.Charge(w.ctx, who, saccount.Charge{Amount: amount})
			if w.ack(&d, amount, err); err != nil {
				w.fail("spend what is left: %v", err)
				return
			}
			if !d.Allowed && amount == 1 {
				break
			}
		}
		w.pause(3 * time.Second)
	}
	who, err := w.admin.principal(c)
	if err != nil {
		w.fail("authenticate: %v", err)
		return
	}
	st, err := w.admin.Status(w.ctx, who)
	if err != nil {
		w.fail("status: %v", err)
		return
	}
	least := quota.MaxCredits
	for _, l := range st {
		least = min(least, w.max[l.Subject]-l.Used-l.Stranded)
	}
	if least != 0 {
		w.fail("%d are left that are neither used nor stranded: %+v", least, st)
	}
}

// verify compares what was acknowledged with what was charged.
func (w *leaseWorld) verify() {
	gone := map[quota.Subject]quota.Credits{} // of each subject, what was ever stranded
	for _, b := range w.ever {
		w.report.Blocks++
		for _, s := range b.Chain {
			gone[s] += b.Held
		}
	}
	w.report.Acknowledged = w.total
	for n, acked := range w.acked {
		e := quota.Entry{Limit: quota.DefaultLimitName, Number: 1, Start: n.start}
		if n.start != 0 {
			e.End = n.start + int64(time.Hour/time.Microsecond)
			if time.UnixMicro(n.start).UTC().Hour() == 0 {
				e.End = n.start + 24*int64(time.Hour/time.Microsecond)
			}
		}
		f, err := w.store.Peek(w.ctx, leaseOrg, []*quota.Level{{Subject: n.subject, Sequence: 1, Bucket: n.start, Limits: []quota.Entry{e}}}, w.clock(0).UnixMicro())
		if err != nil {
			w.fail("peek: %v", err)
			return
		}
		used := f[0].Used + f[0].Overage
		switch most := w.max[n.subject]; {
		case acked > most:
			w.fail("%s: %d were admitted in the window of %v, of %d", n.subject, acked, time.UnixMicro(n.start).UTC(), most)
		case used+f[0].Held > most:
			w.fail("%s: used %d, held %d, of %d", n.subject, used, f[0].Held, most)
		case used > acked+w.maybe:
			w.fail("%s: used %d, acknowledged %d, perhaps %d more", n.subject, used, acked, w.maybe)
		case acked > used+gone[n.subject]:
			w.fail("%s: acknowledged %d, used %d; only %d were ever stranded", n.subject, acked, used, gone[n.subject])
		case f[0].Held != f[0].Stranded:
			w.fail("%s: held %d, stranded %d, and nothing is open", n.subject, f[0].Held, f[0].Stranded)
		}
		if n.subject == "org:acme" {
			w.report.Settled, w.report.Stranded = used, f[0].Stranded
		}
	}
	w.sums()
}

// sums checks that in every bucket an account is the sum of its keys, and the
// organization that of its accounts and members.
func (w *leaseWorld) sums() {
	type key struct {
		level, start int64
	}
	credits, requests := map[key]quota.Credits{}, map[key]int64{}
	subjects := map[quota.Subject]int64{"org:acme": 0}
	for _, c := range w.keys {
		s := quota.NewSubject(quota.KindMember, c.id)
		if c.kind == saccount.KindKey {
			s = quota.NewSubject(quota.KindKey, c.id)
			subjects[quota.NewSubject(quota.KindAccount, w.account[c.id])] = 1
			subjects[s] = 2
			continue
		}
		subjects[s] = 3
	}
	var list []quota.Subject
	for s := range subjects {
		list = append(list, s)
	}
	err := w.store.Usage(w.ctx, usage.Range{Org: leaseOrg, Subjects: list, To: math.MaxInt64}, func(r usage.Row) error {
		if r.Reason == "" {
			k := key{subjects[r.Subject], r.Start}
			credits[k] += r.Credits
			requests[k] += r.Requests
		}
		return nil
	})
	if err != nil {
		w.fail("usage: %v", err)
	}
	for k := range credits {
		at := func(level int64) key { return key{level, k.start} }
		if credits[at(1)] != credits[at(2)] || credits[at(0)] != credits[at(1)]+credits[at(3)] {
			w.fail("bucket of %v: keys %d, accounts %d, members %d, organization %d", time.UnixMicro(k.start).UTC(), credits[at(2)], credits[at(1)], credits[at(3)], credits[at(0)])
		}
		if requests[at(1)] != requests[at(2)] || requests[at(0)] != requests[at(1)]+requests[at(3)] {
			w.fail("bucket of %v: requests of keys %d, accounts %d, members %d, organization %d", time.UnixMicro(k.start).UTC(), requests[at(2)], requests[at(1)], requests[at(3)], requests[at(0)])
		}
	}
}
