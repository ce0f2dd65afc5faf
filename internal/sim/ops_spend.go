package sim

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

const maxGuests = 60

// guest picks a Principal that somebody keeps, or makes one.
func (w *world) guest() *guest {
	if len(w.guests) == 0 || w.chance(8) {
		w.enter()
	}
	if len(w.guests) == 0 {
		return nil
	}
	g := w.guests[w.rng.IntN(len(w.guests))]
	for range 3 { // rather one that may spend
		if w.m.barred(&g.caller) == "" || w.chance(4) {
			break
		}
		g = w.guests[w.rng.IntN(len(w.guests))]
	}
	return g
}

func (w *world) keepGuest(list *[]*guest, g *guest) {
	if len(*list) >= maxGuests {
		(*list)[w.rng.IntN(maxGuests)] = g
		return
	}
	*list = append(*list, g)
}

// enter lets a key or member in that may.
func (w *world) enter() {
	n := w.pick(oneOf(w, saccount.KindKey, saccount.KindKey, saccount.KindMember))
	if n == nil || w.m.why(n) != "" {
		return
	}
	if n.kind == saccount.KindMember {
		p, err := w.svc.Member(w.ctx, n.org.id, n.id)
		if w.wants("ok", err) {
			w.keepGuest(&w.guests, &guest{caller{node: n}, p})
		}
		return
	}
	s := n.secrets[w.rng.IntN(len(n.secrets))]
	if s.ends != 0 && w.m.now >= s.ends {
		return
	}
	p, err := w.svc.Authenticate(w.ctx, n.token(s.serial), netip.MustParseAddr("10.0.0.7"))
	if w.wants("ok", err) {
		w.keepGuest(&w.guests, &guest{caller{n, s.serial}, p})
	}
}

// wants compares the condition of a call that a step does beside its own.
func (w *world) wants(want string, err error) bool {
	if got := conditionOf(err); got != want {
		w.violation(want, fmt.Sprintf("%s (%v)", got, err))
		return false
	}
	return true
}

func (n *node) token(serial int) string {
	for _, t := range n.tokens {
		if t.serial == serial {
			return t.text
		}
	}
	panic("sim: a key has a secret without a token")
}

// amount is mostly small, so that limits are met often and exactly.
func (w *world) amount(n *node) int64 {
	switch r := w.rng.IntN(100); {
	case r < 5:
		return 0
	case r < 75:
		return w.rng.Int64N(10)
	case r < 97:
		return w.rng.Int64N(60)
	}
	for _, x := range n.chain() {
		for _, l := range x.limits {
			if !l.soft { // what has no limit would be full for ever
				return oneOf(w, maxAmount, maxAmount-1, maxAmount/2, 1<<53+1)
			}
		}
	}
	return w.rng.Int64N(1000)
}

func (w *world) newID() string {
	w.made++
	return fmt.Sprintf("id-%d", w.made)
}

// pickID picks an id that did something, mostly a late one.
func (w *world) pickID(o *org, ok func(*op) bool) *op {
	for range 8 {
		if len(o.list) == 0 {
			return nil
		}
		at := len(o.list) - 1 - w.rng.IntN(len(o.list))
		if !w.chance(4) {
			at = len(o.list) - 1 - w.rng.IntN(min(len(o.list), 40))
		}
		if x := o.list[at]; ok(x) {
			return x
		}
	}
	return nil
}

func whatever(*op) bool { return true }

// known are ids that are remembered still.
func (w *world) known(x *op) bool { return x.state == open || x.keep > w.m.now }

// operation is what a charge or reservation asks for: new work, the retry of
// old work, or old work with something else about it.
func (w *world) operation(g *guest, verb quota.Verb) (id string, amount, ttl int64) {
	amount = w.amount(g.node)
	if verb == quota.VerbReserve {
		ttl = int64(oneOf(w, time.Second, time.Minute, 10*time.Minute, time.Hour, time.Hour, 24*time.Hour, quota.MaxTTL) / time.Microsecond)
	}
	switch n := w.rng.IntN(100); {
	case n < 20 && verb == quota.VerbCharge:
		return "", amount, ttl
	case n < 85:
		return w.newID(), amount, ttl
	}
	x := w.pickID(g.node.org, whatever)
	if x == nil {
		return w.newID(), amount, ttl
	}
	if w.chance(4) {
		return x.id, amount, ttl
	}
	if x.verb == verb {
		ttl = x.ttl
	}
	return x.id, x.amount, ttl
}

func (w *world) charge() {
	g := w.guest()
	if g == nil {
		return
	}
	id, amount, _ := w.operation(g, quota.VerbCharge)
	w.op("charge %s secret %d id %q amount %d", g.node.sub.name, g.serial, id, amount)
	want := w.m.admit(&g.caller, quota.VerbCharge, id, amount, 0)
	d, err := w.svc.Charge(w.ctx, g.p, saccount.Charge{ID: id, Amount: quota.Credits(amount)})
	w.decided(&d, err)
	w.same(want.String(), replyOf(&d, err).String())
}

// enterAndCharge is a request whose cost is known.
func (w *world) enterAndCharge() {
	n := w.pick(saccount.KindKey)
	if n == nil {
		return
	}
	t := n.tokens[len(n.tokens)-1-w.rng.IntN(min(2, len(n.tokens)))]
	from, inside := netip.MustParseAddr("10.0.0.7"), true
	if w.chance(10) {
		from, inside = netip.Addr{}, false
	}
	g := &guest{caller: caller{n, t.serial}}
	id, amount, _ := w.operation(g, quota.VerbCharge)
	w.op("authenticate_and_charge %s token %d id %q amount %d", n.sub.name, t.serial, id, amount)
	p, d, err := w.svc.AuthenticateAndCharge(w.ctx, t.text, func() netip.Addr { return from }, saccount.Charge{ID: id, Amount: quota.Credits(amount)})
	want := w.m.authenticate(n, t.serial, inside)
	if want != "ok" {
		w.same(want, authOf(err))
		return
	}
	g.p = p
	w.keepGuest(&w.guests, g)
	w.decided(&d, err)
	w.same(w.m.admit(&g.caller, quota.VerbCharge, id, amount, 0).String(), replyOf(&d, err).String())
}

// decided holds a Decision to I1 by itself.
func (w *world) decided(d *quota.Decision, err error) {
	if err != nil || !d.Allowed || d.Replayed {
		return
	}
	for _, l := range d.Limits() {
		if !l.Soft && (l.Used > l.Max-l.Overage || l.Used+l.Overage > l.Max-l.Held) {
			w.violation("I1: used + overage + held within Max", fmt.Sprintf("%+v", l))
		}
	}
}

// chargeAbroad charges in another process, which hears of no change but by the
// store's settings number.
func (w *world) chargeAbroad() {
	if len(w.abroad) == 0 || w.chance(4) {
		n := w.pick(saccount.KindKey)
		if n == nil || w.m.why(n) != "" {
			return
		}
		serial := n.secrets[len(n.secrets)-1].serial
		p, err := w.other.Authenticate(w.ctx, n.token(serial), netip.MustParseAddr("10.0.0.7"))
		if err != nil { // it may not know yet that the key was enabled, or rotated
			var e *saccount.AuthError
			if errors.As(err, &e) && (e.Reason == "disabled" || e.Reason == "expired") {
				w.m.refuse(n, quota.Reason(e.Reason))
			}
			return
		}
		w.keepGuest(&w.abroad, &guest{caller{n, serial}, p})
	}
	g := w.abroad[w.rng.IntN(len(w.abroad))]
	id, amount, _ := w.operation(g, quota.VerbCharge)
	if w.m.barred(&g.caller) != "" && id != "" {
		id = w.newID() // what was done before is told again, to whom it was told: that charges nothing
	}
	w.op("abroad %s secret %d id %q amount %d", g.node.sub.name, g.serial, id, amount)
	d, err := w.other.Charge(w.ctx, g.p, saccount.Charge{ID: id, Amount: quota.Credits(amount)})
	// Whether it came as far as the store is its own business: a settlement of
	// nothing makes sure that what is over is over.
	_, _ = w.svc.Release(w.ctx, g.node.org.id, "nothing")
	w.m.release(g.node.org, "nothing", "")
	why := w.m.barred(&g.caller)
	if why == "" && conditionOf(err) == "unauthenticated" && slices.ContainsFunc(g.node.chain(), func(n *node) bool { return n.moved }) {
		w.same("unauthenticated", "unauthenticated") // it has not heard yet that the caller was let in again
		return
	}
	want := w.m.admit(&g.caller, quota.VerbCharge, id, amount, 0)
	w.decided(&d, err)
	w.same(want.String(), replyOf(&d, err).String())
}

func (w *world) reserve() {
	g := w.guest()
	if g == nil {
		return
	}
	id, amount, ttl := w.operation(g, quota.VerbReserve)
	w.op("reserve %s secret %d id %q amount %d ttl %v", g.node.sub.name, g.serial, id, amount, time.Duration(ttl)*time.Microsecond)
	want := w.m.admit(&g.caller, quota.VerbReserve, id, amount, ttl)
	r, d, err := w.svc.Reserve(w.ctx, g.p, saccount.Reserve{ID: id, Amount: quota.Credits(amount), TTL: time.Duration(ttl) * time.Microsecond})
	w.decided(&d, err)
	if r != nil {
		w.handles[g.node.org.ids[id]] = r
	}
	w.same(want.String(), replyOf(&d, err).String())
}

// settled picks what is settled: an open reservation mostly, else any id, one
// of another organization, or none at all.
func (w *world) settled() (o *org, of string, x *op) {
	o = w.pickOrg()
	switch n := w.rng.IntN(100); {
	case n < 3:
		return o, "no such id", nil
	case n < 75 && len(o.holds) > 0:
		x = o.holds[w.rng.IntN(len(o.holds))]
		return o, x.id, x
	}
	if x = w.pickID(o, func(x *op) bool { return x.verb == quota.VerbReserve && w.known(x) }); x == nil || w.chance(5) {
		x = w.pickID(o, whatever)
	}
	if x == nil {
		return o, "no such id", nil
	}
	return o, x.id, x
}

func (w *world) commit() {
	o, of, x := w.settled()
	amount := w.rng.Int64N(40)
	if x != nil {
		amount = oneOf(w, x.amount, x.amount, w.rng.Int64N(min(x.amount, 1<<40)+1), sat(x.amount, w.rng.Int64N(30)), sat(x.amount, w.rng.Int64N(120)), x.actual)
	}
	if w.chance(200) {
		amount = maxAmount
	}
	if x == nil || x.state != open {
		// nothing will be spent
	} else if amount > 1<<20 && x.amount < 1<<20 {
		amount = 1 << 8 // more overage would leave its organization full for ever
	}
	strict := w.chance(3)
	w.op("commit %s %q amount %d strict %v", o.id, of, amount, strict)
	caller := quota.Subject("")
	var d quota.Decision
	var err error
	if r := w.handles[x]; r != nil && x != nil && !strict {
		caller = x.caller
		d, err = r.Commit(w.ctx, quota.Credits(amount))
	} else {
		if w.chance(5) {
			if g := w.guest(); g != nil {
				caller = g.node.sub.name
			}
		}
		d, err = w.svc.Commit(w.ctx, o.id, saccount.Commit{Of: of, Caller: caller, Amount: quota.Credits(amount), Strict: strict})
	}
	w.same(w.m.commit(o, of, caller, amount, strict).String(), replyOf(&d, err).String())
}

func (w *world) release() {
	o, of, x := w.settled()
	w.op("release %s %q", o.id, of)
	caller := quota.Subject("")
	var d quota.Decision
	var err error
	if r := w.handles[x]; r != nil && x != nil {
		d, err = r.Release(w.ctx)
	} else {
		d, err = w.svc.Release(w.ctx, o.id, of)
	}
	w.same(w.m.release(o, of, caller).String(), replyOf(&d, err).String())
}

func (w *world) renew() {
	_, _, x := w.settled()
	r := w.handles[x]
	if x == nil || r == nil {
		return
	}
	o := w.m.orgOf(x)
	if o == nil {
		return
	}
	ttl := oneOf(w, time.Second, time.Minute, time.Hour, 40*time.Hour, quota.MaxTTL)
	w.op("renew %s %q ttl %v", o.id, x.id, ttl)
	err := r.Renew(w.ctx, ttl)
	w.same(w.m.renew(o, x.id, x.caller, int64(ttl/time.Microsecond)).String(), conditionOf(err))
}

func (w *world) refund() {
	o := w.pickOrg()
	x := w.pickID(o, func(x *op) bool { return x.spent() > x.back && w.known(x) })
	if x == nil || w.chance(5) {
		x = w.pickID(o, whatever)
	}
	of, amount := "no such id", w.rng.Int64N(10)
	if x != nil {
		left := max(0, x.spent()-x.back)
		of, amount = x.id, oneOf(w, left, left, w.rng.Int64N(left+1), left+1)
	}
	id := ""
	if !w.chance(4) {
		id = w.newID()
	}
	if w.chance(6) {
		if y := w.pickID(o, func(y *op) bool { return y.verb == quota.VerbRefund }); y != nil {
			id = y.id
			if !w.chance(4) {
				of, amount = y.of, y.amount
			}
		}
	}
	w.op("refund %s %q of %q amount %d", o.id, id, of, amount)
	d, err := w.svc.Refund(w.ctx, o.id, saccount.Refund{ID: id, Of: of, Amount: quota.Credits(amount)})
	w.same(w.m.refund(o, id, of, amount).String(), replyOf(&d, err).String())
}

// authenticate tries tokens, good and bad.
func (w *world) authenticate() {
	n := w.pick(saccount.KindKey)
	if n == nil {
		return
	}
	t := n.tokens[len(n.tokens)-1-w.rng.IntN(min(3, len(n.tokens)))]
	text, inside := t.text, !w.chance(3)
	from := netip.Addr{}
	if inside {
		from = oneOf(w, netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("::ffff:10.9.9.9"))
	} else if w.chance(2) {
		from = oneOf(w, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"))
	}
	want := ""
	switch w.rng.IntN(12) {
	case 0: // one character is another
		b := []byte(text)
		i := w.rng.IntN(len(b))
		b[i] ^= oneOf[byte](w, 0x20, 1)
		text, want = string(b), "unauthenticated: malformed"
	case 1:
		text, want = oneOf(w, text[:len(text)-1], text+"0", text[1:], "", "x"+text, text+" "), "unauthenticated: malformed"
	case 2: // another key's id, with a good checksum
		body := text[:len(text)-6]
		if m := w.pick(saccount.KindKey); m != nil && m != n {
			text, want = signed("sim_"+m.id+body[len("sim_")+16:]), "unauthenticated: wrong secret"
		}
	case 3: // an id that is nobody's
		body := []byte(text[:len(text)-6])
		copy(body[len("sim_"):], bytes.Repeat([]byte{'z'}, 16))
		text, want = signed(string(body)), "unauthenticated: unknown"
	}
	w.op("authenticate %s token %d (want %s) from %v", n.sub.name, t.serial, want, from)
	p, err := w.svc.Authenticate(w.ctx, text, from)
	if want == "" {
		want = w.m.authenticate(n, t.serial, inside)
	}
	if err == nil {
		w.keepGuest(&w.guests, &guest{caller{n, t.serial}, p})
	}
	w.same(want, authOf(err))
}

func (w *world) member() {
	n := w.pick(saccount.KindMember)
	if n == nil {
		return
	}
	w.op("member %s", n.sub.name)
	p, err := w.svc.Member(w.ctx, n.org.id, n.id)
	want := "ok"
	switch why := w.m.why(n); why {
	case "":
	case "deleted":
		want = "not found"
	default:
		w.m.refuse(n, why)
		want = "unauthenticated: " + string(why)
	}
	if err == nil {
		w.keepGuest(&w.guests, &guest{caller{node: n}, p})
	}
	w.same(want, authOf(err))
}

// signed puts the checksum behind what goes before it in a token.
func signed(body string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	n := crc32.ChecksumIEEE([]byte(body))
	b := [6]byte{}
	for i := 5; i >= 0; i-- {
		b[i] = digits[n%62]
		n /= 62
	}
	return body + string(b[:])
}
