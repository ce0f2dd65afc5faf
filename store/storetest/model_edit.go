package storetest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// edit changes the limits of a subject as a service does: a Max, a period, a
// raise; a limit more, a limit less.
func (w *walk) edit() {
	subjects := []quota.Subject{key1, key2, acc1, acc2, ann, org, org}
	s := subjects[w.rng.IntN(len(subjects))]
	p := w.purses[s]
	next := plainPurse{kind: p.kind, id: p.id, sequence: p.sequence, limits: slices.Clone(p.limits)}
	var open []saccount.Opening
	most := func() quota.Credits { return quota.Credits(w.rng.IntN(3000)) }
	i := 0
	if len(next.limits) > 0 {
		i = w.rng.IntN(len(next.limits))
	}
	switch n := w.rng.IntN(10); {
	case len(next.limits) == 0 || n < 2 && len(next.limits) < 3:
		next.sequence++
		l := plainLimit{quota.Entry{Limit: fmt.Sprint("l", next.sequence), Number: next.sequence, Max: most()}, w.rng.IntN(periods)}
		l.entry.Soft = w.rng.IntN(5) == 0
		if l.period != noReset {
			l.entry.Thresholds = append(quota.DefaultThresholds(), quota.Left(100))
		}
		next.limits = append(next.limits, l)
		open = append(open, opening(s, l.window(w.now), nil))
	case n < 3:
		next.limits = slices.Delete(next.limits, i, i+1)
	case n < 6:
		l := &next.limits[i]
		was := l.window(w.now)
		next.sequence++
		l.entry.Number, l.period = next.sequence, 1+w.rng.IntN(periods-1)
		if len(l.entry.Thresholds) == 0 && w.rng.IntN(2) == 0 {
			l.period = noReset
		}
		if w.rng.IntN(2) == 0 {
			l.entry.Max = most()
		}
		open = append(open, opening(s, l.window(w.now), &was))
	case n < 8:
		next.limits[i].entry.Extra = quota.Credits(w.rng.IntN(3) * 200)
	default:
		next.limits[i].entry.Max = most()
	}
	b := changes(w.get(p.kind, p.id))
	b.At, b.Open = at(w.now), open
	b.Changes[0].Record.Data = fmt.Append(nil, w.step)
	if w.rng.IntN(8) == 0 {
		b.Changes[0].Record.Revision += 1 + w.rng.Int64N(3)
		if err := w.Write(background(), b); !errors.Is(err, saccount.ErrConflict) {
			w.failf("step %d: a change at a revision to come: %v", w.step, err)
		}
		return
	}
	w.must(w.Write(background(), b), "edit")
	for _, o := range open {
		w.m.open(o.Subject, o.Entry, o.Was, w.now)
	}
	w.m.settings++
	*p = next
	clear(w.levels)
}

// clean purges and folds what is over at every instant that the clock may
// still show.
func (w *walk) clean() {
	floor := w.floor()
	w.purge(saccount.Purge{Receipts: at(floor), Windows: at(floor - 31*day), Alerts: at(floor), Most: 1 + w.rng.IntN(50)})
	for n, c := range w.m.counters {
		if c.end != 0 && c.end <= floor-31*day && !w.m.inBlock(n, c) {
			delete(w.m.counters, n)
		}
	}
	w.dropped(floor)
	// Nothing may be folded that can still be settled or refunded.
	until := floor - day
	for _, r := range w.m.ids {
		if p := r.spending; p != nil && (r.keep > floor || p.state == quota.HoldOpen || p.state == quota.HoldStranded) {
			until = min(until, p.levels[0].Bucket)
		}
	}
	var days []int64
	for start := int64(midnight - 4*day + 2*quarter); start+day <= until; start += day {
		days = append(days, start)
	}
	if len(days) < 2 {
		return
	}
	w.foldAll(days, 1+w.rng.IntN(200))
	w.m.folded = days[:len(days)-1]
}

// unnumbered is the outbox as the model knows it.
func (w *walk) unnumbered() []quota.Alert {
	all := w.outbox()
	for i := range all {
		all[i].Seq = 0
	}
	return all
}

// dropped takes out of the model what a purge took out of the outbox: nothing
// but what is over. That one which is over waits behind one which is not is
// the store's choice.
func (w *walk) dropped(before int64) {
	left := w.unnumbered()
	w.m.alerts = slices.DeleteFunc(w.m.alerts, func(a quota.Alert) bool {
		if len(left) > 0 && left[0] == a {
			left = left[1:]
			return false
		}
		return a.At < before
	})
}
