package sim

import (
	"time"

	"github.com/keypurse/keypurse/saccount"
)

// do does one step: an operation that chance picks.
func (w *world) do() {
	if len(w.living()) == 0 {
		w.createOrg()
		return
	}
	n := 0
	for _, o := range ops {
		n += o.weight
	}
	at := w.rng.IntN(n)
	for _, o := range ops {
		if at -= o.weight; at < 0 {
			o.do(w)
			return
		}
	}
}

var ops = []struct {
	weight int
	do     func(*world)
}{
	{3000, (*world).charge},
	{700, (*world).enterAndCharge},
	{300, (*world).chargeAbroad},
	{1200, (*world).reserve},
	{900, (*world).commit},
	{350, (*world).release},
	{300, (*world).renew},
	{600, (*world).refund},
	{700, (*world).authenticate},
	{200, (*world).member},
	{1400, (*world).clock},
	{500, (*world).limits},
	{120, (*world).topUp},
	{120, (*world).raise},
	{400, (*world).status},
	{100, (*world).createAccount},
	{160, (*world).createKey},
	{60, (*world).createMember},
	{25, (*world).createOrg},
	{130, (*world).disable},
	{220, (*world).enable},
	{60, (*world).delete},
	{120, (*world).rotate},
	{50, (*world).cancel},
	{50, (*world).expire},
	{50, (*world).rename},
	{20, (*world).zone},
	{10, (*world).retain},
	{10, (*world).sweep},
	{4, (*world).reopen},
}

// living are the organizations that were not deleted.
func (w *world) living() (out []*org) {
	for _, o := range w.m.order {
		if !o.deleted {
			out = append(out, o)
		}
	}
	return out
}

// pickOrg picks a living organization, and rarely a deleted one.
func (w *world) pickOrg() *org {
	if l := w.living(); len(l) > 0 && w.rng.IntN(50) > 0 {
		return l[w.rng.IntN(len(l))]
	}
	return w.m.order[w.rng.IntN(len(w.m.order))]
}

// pick picks a record of a kind (of any for 0), mostly one that lives; nil
// where there is none.
func (w *world) pick(kind saccount.Kind) *node {
	o := w.pickOrg()
	var alive, all []*node
	add := func(n *node) {
		if kind != 0 && n.kind != kind {
			return
		}
		if all = append(all, n); !n.dead() {
			alive = append(alive, n)
		}
	}
	add(o.node)
	for _, n := range o.nodes {
		add(n)
	}
	if len(alive) > 0 && w.rng.IntN(40) > 0 {
		return alive[w.rng.IntN(len(alive))]
	}
	if len(all) > 0 {
		return all[w.rng.IntN(len(all))]
	}
	return nil
}

// oneOf picks one, each as likely as its neighbours.
func oneOf[T any](w *world, xs ...T) T { return xs[w.rng.IntN(len(xs))] }

// chance is true once in n.
func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }

// clock moves the clock: on mostly, now and then back, by up to 40 days.
func (w *world) clock() {
	var most time.Duration
	switch n := w.rng.IntN(100); {
	case n < 40:
		most = 20 * time.Second
	case n < 75:
		most = 30 * time.Minute
	case n < 90:
		most = 6 * time.Hour
	case n < 98:
		most = 3 * 24 * time.Hour
	default:
		most = 40 * 24 * time.Hour
	}
	d := time.Duration(w.rng.Int64N(int64(most))).Truncate(time.Microsecond)
	// The clock runs back less often than on, and never before the world began
	// by much, nor beyond what the calendar knows.
	if w.chance(3) {
		d = -d
	}
	if at := time.UnixMicro(w.m.now).Add(d); at.Before(w.from.AddDate(0, -2, 0)) || at.After(w.from.AddDate(60, 0, 0)) {
		d = -d
	}
	if w.chance(12) { // exactly where a window ends
		if n := w.pick(0); n != nil && len(n.limits) > 0 {
			if x := w.m.window(n.limits[w.rng.IntN(len(n.limits))]); x.Resets() {
				d = oneOf(w, x.End, x.Start, x.End.Add(-time.Microsecond)).Sub(time.UnixMicro(w.m.now))
			}
		}
	}
	w.op("clock %v", d)
	w.m.now += int64(d / time.Microsecond)
	w.same("ok", "ok")
}

// reopen ends the process and begins a new one, which has a new pepper.
func (w *world) reopen() {
	w.op("reopen")
	err := w.close()
	if err == nil {
		if n := len(w.conf.Peppers); n < 4 {
			w.conf.Peppers = append(w.conf.Peppers[:n:n], pepper(n))
		}
		err = w.open()
	}
	w.same("ok", conditionOf(err))
}
