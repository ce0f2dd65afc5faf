package sim

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

const actor = saccount.Actor("sim")

// How many of each live at once: so few that the same ones are met often.
const (
	maxOrgs     = 3
	maxAccounts = 4
	maxMembers  = 2
	maxKeys     = 3
)

var limitNames = []string{"", "credits", "day", "burst", "a.month", "life"}

var zones = []string{
	"", "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe",
	"Pacific/Apia", "America/Sao_Paulo", "Africa/Cairo", "Asia/Tehran", "America/St_Johns",
}

// period is any period, a wrong one among them.
func (w *world) period() quota.Period {
	p := quota.Period{Unit: oneOf(w, quota.Never, quota.Hour, quota.Day, quota.Day, quota.Week, quota.Month, quota.Month, quota.Quarter, quota.Year)}
	if p.Unit == quota.Never {
		return p
	}
	p.Zone = oneOf(w, zones...)
	switch w.rng.IntN(4) {
	case 0:
		back := time.Duration(w.rng.Int64N(int64(400 * 24 * time.Hour)))
		if w.chance(12) {
			back = -back // in the future: refused
		}
		p.Anchor = time.UnixMicro(w.m.now).Add(-back).UTC().Truncate(15 * time.Minute)
		p.Every = w.rng.IntN(4)
	case 1:
		if p.Unit == quota.Week {
			p.WeekStart = oneOf(w, "monday", "sunday", "saturday")
		}
	}
	return p
}

func (w *world) thresholds() *[]quota.Threshold {
	all := []quota.Threshold{
		quota.Percent(1), quota.Percent(30), quota.Percent(50), quota.Percent(80), quota.Percent(90), quota.Percent(100),
		quota.Percent(150), quota.Left(0), quota.Left(5), quota.Left(40), quota.ThresholdOverage,
	}
	w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = all[:w.rng.IntN(5)]
	return &all
}

func (w *world) most() *quota.Credits {
	n := quota.Credits(oneOf[int64](w, 50, 100, 200, 500, 1000, 2000, 5000, w.rng.Int64N(300), w.rng.Int64N(20_000)))
	switch {
	case w.chance(70):
		n = 0
	case w.chance(70):
		n = 5
	case w.chance(60):
		n = -1
	case w.chance(60):
		n = quota.MaxCredits
	}
	return &n
}

// edits is what an update may say of limits. scale is how much more may be
// spent where many spend and live for long, or all are soon full for ever.
func (w *world) edits(fresh bool, scale quota.Credits) saccount.Limits {
	out := saccount.Limits{}
	for range 1 + w.rng.IntN(2) {
		name := oneOf(w, limitNames...)
		if name == "" && w.chance(2) {
			name = "a.month" // beside "credits" the empty name is refused
		}
		if !fresh && w.chance(8) {
			out[name] = nil
			continue
		}
		s := &saccount.LimitSpec{}
		if fresh || !w.chance(3) {
			if s.Max = w.most(); *s.Max > 5 && *s.Max < quota.MaxCredits && !w.chance(6) {
				*s.Max *= scale
			}
		}
		if fresh && !w.chance(8) || w.chance(3) {
			p := w.period()
			s.Period = &p
			if p.Unit == quota.Never && s.Max != nil && !w.chance(8) {
				*s.Max = scale * quota.Credits(10_000+w.rng.Int64N(100_000))
			}
		}
		if w.chance(8) {
			soft := w.chance(2)
			s.Soft = &soft
		}
		if w.chance(5) {
			s.Thresholds = w.thresholds()
		}
		out[name] = s
	}
	return out
}

func describe(l saccount.Limits) string {
	var out []string
	for name, s := range l {
		if s == nil {
			out = append(out, fmt.Sprintf("%q: removed", name))
			continue
		}
		x := fmt.Sprintf("%q:", name)
		if s.Max != nil {
			x += fmt.Sprintf(" max %d", int64(*s.Max))
		}
		if s.Period != nil {
			x += fmt.Sprintf(" period %v", *s.Period)
		}
		if s.Soft != nil {
			x += fmt.Sprintf(" soft %v", *s.Soft)
		}
		if s.Thresholds != nil {
			x += fmt.Sprintf(" at %v", *s.Thresholds)
		}
		out = append(out, x)
	}
	slices.Sort(out)
	return fmt.Sprint(out)
}

func count(o *org, kind saccount.Kind, parent *node) (n int) {
	for _, x := range o.nodes {
		if x.kind == kind && x.parent == parent && !x.dead() {
			n++
		}
	}
	return n
}

// created says whether the limits of a new record are good.
func (w *world) goodLimits(o *org, zone string, l saccount.Limits) bool {
	if o == nil {
		o = &org{}
		o.node = &node{zone: zone, org: o}
	}
	_, _, _, ok := w.m.edited(&node{org: o}, l)
	return ok
}

func (w *world) createOrg() {
	spec := saccount.OrgSpec{ID: fmt.Sprintf("org-%d", len(w.m.order)), Zone: oneOf(w, zones...)}
	if len(w.living()) >= maxOrgs || w.chance(10) {
		if len(w.m.order) == 0 {
			return
		}
		spec.ID = oneOf(w, w.m.order...).id // never used again
	}
	if w.chance(2) {
		spec.Limits = w.edits(true, 20)
	}
	w.op("create_org %s zone %q %s", spec.ID, spec.Zone, describe(spec.Limits))
	_, err := w.svc.CreateOrg(w.ctx, actor, spec)
	switch {
	case !w.goodLimits(nil, spec.Zone, spec.Limits):
		w.same("invalid", conditionOf(err))
	case w.m.orgs[spec.ID] != nil:
		w.same("exists", conditionOf(err))
	default:
		if err == nil {
			w.m.add(&node{kind: saccount.KindOrg, id: spec.ID, name: spec.ID, zone: spec.Zone}, spec.Limits)
		}
		w.same("ok", conditionOf(err))
	}
}

// new says what making a record is answered, but for its name.
func (w *world) newRecord(o *org, above *node, l saccount.Limits) string {
	switch {
	case above.dead():
		return "not found"
	case !w.goodLimits(o, "", l):
		return "invalid"
	}
	return "ok"
}

func (w *world) createAccount() {
	o := w.pickOrg()
	if count(o, saccount.KindAccount, nil) >= maxAccounts && !w.chance(10) {
		return
	}
	spec := saccount.AccountSpec{Name: fmt.Sprintf("account %d", w.rng.IntN(6))}
	if !w.chance(4) {
		spec.Limits = w.edits(true, 1)
	}
	w.op("create_account %s %q %s", o.id, spec.Name, describe(spec.Limits))
	a, err := w.svc.CreateAccount(w.ctx, actor, o.id, spec)
	want := w.newRecord(o, o.node, spec.Limits)
	if want == "ok" && o.taken(saccount.KindAccount, nil, spec.Name, nil) {
		want = "exists"
	}
	if err == nil && want == "ok" {
		w.m.add(&node{kind: saccount.KindAccount, id: a.ID, name: spec.Name, org: o}, spec.Limits)
	}
	w.same(want, conditionOf(err))
}

func (w *world) createMember() {
	o := w.pickOrg()
	if count(o, saccount.KindMember, nil) >= maxMembers && !w.chance(10) {
		return
	}
	spec := saccount.MemberSpec{ID: fmt.Sprintf("m%d", w.rng.IntN(1+len(o.nodes)))}
	if !w.chance(3) {
		spec.Limits = w.edits(true, 1)
	}
	w.op("create_member %s %s %s", o.id, spec.ID, describe(spec.Limits))
	_, err := w.svc.CreateMember(w.ctx, actor, o.id, spec)
	want := w.newRecord(o, o.node, spec.Limits)
	if want == "ok" && o.find(saccount.KindMember, spec.ID) != nil {
		want = "exists"
	}
	if err == nil && want == "ok" {
		w.m.add(&node{kind: saccount.KindMember, id: spec.ID, org: o}, spec.Limits)
	}
	w.same(want, conditionOf(err))
}

func (w *world) createKey() {
	a := w.pick(saccount.KindAccount)
	if a == nil || count(a.org, saccount.KindKey, a) >= maxKeys && !w.chance(10) {
		return
	}
	spec := saccount.KeySpec{Name: fmt.Sprintf("key %d", w.rng.IntN(6))}
	if w.chance(3) {
		spec.Limits = w.edits(true, 1)
	}
	if w.chance(4) {
		spec.AllowFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	}
	if w.chance(4) {
		spec.Expires = time.UnixMicro(w.m.now).Add(time.Duration(w.rng.Int64N(int64(30*24*time.Hour))) + time.Microsecond)
	}
	w.op("create_key %s %q expires %v %s", a.sub.name, spec.Name, spec.Expires, describe(spec.Limits))
	t, k, err := w.svc.CreateKey(w.ctx, actor, a.org.id, a.id, spec)
	want := w.newRecord(a.org, a, spec.Limits)
	if want == "ok" && a.org.taken(saccount.KindKey, a, spec.Name, nil) {
		want = "exists"
	}
	if err == nil && want == "ok" {
		n := &node{kind: saccount.KindKey, id: k.ID, name: spec.Name, org: a.org, parent: a, guarded: len(spec.AllowFrom) > 0, serial: 1}
		n.expires = micros(spec.Expires)
		n.secrets, n.tokens = []secret{{serial: 1}}, []token{{1, w.secret(t.Reveal())}}
		w.m.add(n, spec.Limits)
	}
	w.same(want, conditionOf(err))
}

// secret notes a token, to look for what must not be found.
func (w *world) secret(text string) string {
	w.secrets = append(w.secrets, text[len("sim_")+16:len(text)-6])
	return text
}

// update calls the Update of the record's kind and gives the record as it is
// compared.
func (w *world) update(n *node, u saccount.Update) (string, error) {
	switch n.kind {
	case saccount.KindOrg:
		x, err := w.svc.UpdateOrg(w.ctx, actor, n.id, u)
		return recordString(n.kind, x.ID, x.Name, x.Disabled, x.Deleted, time.Time{}, x.Limits), err
	case saccount.KindAccount:
		x, err := w.svc.UpdateAccount(w.ctx, actor, n.org.id, n.id, u)
		return recordString(n.kind, x.ID, x.Name, x.Disabled, x.Deleted, time.Time{}, x.Limits), err
	case saccount.KindMember:
		x, err := w.svc.UpdateMember(w.ctx, actor, n.org.id, n.id, u)
		return recordString(n.kind, x.ID, x.Name, x.Disabled, x.Deleted, time.Time{}, x.Limits), err
	}
	x, err := w.svc.UpdateKey(w.ctx, actor, n.org.id, n.id, u)
	return recordString(n.kind, x.ID, x.Name, x.Disabled, x.Deleted, x.Expires, x.Limits), err
}

// read is the record as the Service has it, deleted or not.
func (w *world) read(n *node) (s string, revision int64, err error) {
	switch n.kind {
	case saccount.KindOrg:
		x, err := w.svc.GetOrg(w.ctx, n.id, saccount.WithDeleted)
		return recordString(n.kind, x.ID, x.Name, x.Disabled, x.Deleted, time.Time{}, x.Limits), x.Revision, err
	case saccount.KindAccount:
		x, err := w.svc.GetAccount(w.ctx, n.org.id, n.id, saccount.WithDeleted)
		return recordString(n.kind, x.ID, x.Name, x.Disabled, x.Deleted, time.Time{}, x.Limits), x.Revision, err
	case saccount.KindMember:
		x, err := w.svc.GetMember(w.ctx, n.org.id, n.id, saccount.WithDeleted)
		return recordString(n.kind, x.ID, x.Name, x.Disabled, x.Deleted, time.Time{}, x.Limits), x.Revision, err
	}
	x, err := w.svc.GetKey(w.ctx, n.org.id, n.id, saccount.WithDeleted)
	return recordString(n.kind, x.ID, x.Name, x.Disabled, x.Deleted, x.Expires, x.Limits), x.Revision, err
}

// updated compares the answer of an update whose condition is known.
func (w *world) updated(n *node, want, got string, err error) {
	if want == "ok" {
		want = n.String()
	}
	if err != nil {
		got = conditionOf(err)
	}
	w.same(want, got)
}

// limits edits the limits of a record.
func (w *world) limits() {
	n := w.pick(0)
	if n == nil {
		return
	}
	scale := quota.Credits(1)
	if n.kind == saccount.KindOrg {
		scale = 20
	}
	edits := w.edits(false, scale)
	u := saccount.Update{Limits: edits}
	want := "ok"
	if w.chance(10) {
		_, u.Revision, _ = w.read(n)
		if u.Revision > 1 && w.chance(2) {
			u.Revision--
			want = "changed meanwhile"
		}
	}
	w.op("limits %s %s %s", n.org.id, n.sub.name, describe(edits))
	got, err := w.update(n, u)
	_, _, _, ok := w.m.edited(n, edits)
	switch {
	case n.dead():
		want = "not found"
	case want == "ok" && !ok:
		want = "invalid"
	case want == "ok":
		n.audit("update")
		w.m.set(n, edits)
	}
	w.updated(n, want, got, err)
}

func (w *world) limitName(n *node) string {
	if len(n.limits) > 0 && !w.chance(10) {
		return n.limits[w.rng.IntN(len(n.limits))].name
	}
	return oneOf(w, limitNames[1:]...)
}

func (w *world) topUp() {
	n := w.pick(0)
	if n == nil {
		return
	}
	name, amount, id := w.limitName(n), oneOf[int64](w, 1, 10, 50, w.rng.Int64N(100)), ""
	if w.chance(2) {
		id = fmt.Sprintf("up-%d", w.rng.IntN(4))
	}
	w.op("top_up %s %s %s amount %d id %q", n.org.id, n.sub.name, name, amount, id)
	err := w.svc.TopUp(w.ctx, actor, n.org.id, n.kind, n.id, saccount.TopUp{Limit: name, Amount: quota.Credits(amount), ID: id})
	w.same(w.m.topUp(n, name, id, amount), conditionOf(err))
}

func (w *world) raise() {
	n := w.pick(0)
	if n == nil {
		return
	}
	name := w.limitName(n)
	most, until := w.rng.Int64N(600), w.m.now+w.rng.Int64N(10*dayMicros)-dayMicros/10
	at := time.UnixMicro(until)
	if w.chance(8) {
		at, until = time.Time{}, 0
	}
	w.op("raise %s %s %s to %d until %v", n.org.id, n.sub.name, name, most, at)
	err := w.svc.RaiseLimit(w.ctx, actor, n.org.id, n.kind, n.id, name, quota.Credits(most), at)
	w.same(w.m.raiseLimit(n, name, most, until), conditionOf(err))
}

// switched is the call that disables or enables.
func (w *world) switched(n *node, off bool) error {
	s, ctx, org := w.svc, w.ctx, n.org.id
	switch n.kind {
	case saccount.KindOrg:
		if off {
			return s.DisableOrg(ctx, actor, org)
		}
		return s.EnableOrg(ctx, actor, org)
	case saccount.KindAccount:
		if off {
			return s.DisableAccount(ctx, actor, org, n.id)
		}
		return s.EnableAccount(ctx, actor, org, n.id)
	case saccount.KindMember:
		if off {
			return s.DisableMember(ctx, actor, org, n.id)
		}
		return s.EnableMember(ctx, actor, org, n.id)
	}
	if off {
		return s.DisableKey(ctx, actor, org, n.id)
	}
	return s.EnableKey(ctx, actor, org, n.id)
}

func (w *world) disable() { w.toggle(true) }

func (w *world) enable() { w.toggle(false) }

func (w *world) toggle(off bool) {
	n := w.pick(0)
	if !off { // rather one that is disabled
		for range 5 {
			if n != nil && n.disabled {
				break
			}
			n = w.pick(0)
		}
	}
	if n == nil || off && n.kind == saccount.KindOrg && !w.chance(4) {
		return
	}
	w.op("disable=%v %s %s", off, n.org.id, n.sub.name)
	err := w.switched(n, off)
	want := "ok"
	if n.dead() {
		want = "not found"
	} else {
		n.toggle(off)
	}
	w.same(want, conditionOf(err))
	w.shutOut(n)
}

// shutOut is I8: nobody of the node gets in or spends, where the model says so.
func (w *world) shutOut(n *node) {
	for _, g := range slices.Concat(w.guests, w.abroad) {
		if !slices.Contains(g.node.chain(), n) || w.m.barred(&g.caller) == "" {
			continue
		}
		svc := w.svc
		if !slices.Contains(w.guests, g) {
			svc = w.other
		}
		d, err := svc.Charge(w.ctx, g.p, saccount.Charge{Amount: 1})
		_, _ = w.svc.Release(w.ctx, g.node.org.id, "nothing")
		w.m.release(g.node.org, "nothing", "")
		if !errors.Is(err, saccount.ErrUnauthenticated) {
			w.violation("I8: "+string(g.node.sub.name)+" is not charged", replyOf(&d, err).String())
		}
	}
	for _, k := range n.org.nodes {
		if k.kind != saccount.KindKey || !slices.Contains(k.chain(), n) {
			continue
		}
		for _, t := range k.tokens {
			want := w.m.authenticate(k, t.serial, true)
			p, err := w.svc.Authenticate(w.ctx, t.text, netip.MustParseAddr("10.0.0.1"))
			if got := authOf(err); got != want {
				w.violation(fmt.Sprintf("I8: %s token %d: %s", k.sub.name, t.serial, want), got)
			}
			if err == nil && w.chance(8) {
				w.keepGuest(&w.guests, &guest{caller{k, t.serial}, p})
			}
		}
	}
}

func (w *world) delete() {
	n := w.pick(oneOf(w, saccount.KindKey, saccount.KindKey, saccount.KindKey, saccount.KindMember, saccount.KindAccount, saccount.KindOrg))
	if n == nil || n.kind == saccount.KindOrg && !w.chance(5) {
		return
	}
	w.op("delete %s %s", n.org.id, n.sub.name)
	var err error
	switch n.kind {
	case saccount.KindOrg:
		err = w.svc.DeleteOrg(w.ctx, actor, n.id)
	case saccount.KindAccount:
		err = w.svc.DeleteAccount(w.ctx, actor, n.org.id, n.id)
	case saccount.KindMember:
		err = w.svc.DeleteMember(w.ctx, actor, n.org.id, n.id)
	default:
		err = w.svc.DeleteKey(w.ctx, actor, n.org.id, n.id)
	}
	want := "ok"
	if n.dead() {
		want = "not found"
	} else {
		n.remove()
	}
	w.same(want, conditionOf(err))
	w.shutOut(n)
}

func (w *world) rotate() {
	n := w.pick(saccount.KindKey)
	if n == nil {
		return
	}
	overlap := oneOf(w, 0, 0, time.Minute, time.Hour, 3*24*time.Hour, 400*24*time.Hour, -time.Hour)
	w.op("rotate %s %s overlap %v", n.org.id, n.sub.name, overlap)
	t, _, err := w.svc.RotateKey(w.ctx, actor, n.org.id, n.id, overlap)
	serial, want := w.m.rotate(n, int64(overlap/time.Microsecond))
	if err == nil && want == "ok" {
		n.tokens = append(n.tokens, token{serial, w.secret(t.Reveal())})
	}
	w.same(want, conditionOf(err))
	w.shutOut(n)
}

func (w *world) cancel() {
	n := w.pick(saccount.KindKey)
	for range 5 { // rather one with an overlap
		if n != nil && len(n.secrets) == 2 {
			break
		}
		n = w.pick(saccount.KindKey)
	}
	if n == nil {
		return
	}
	w.op("cancel %s %s", n.org.id, n.sub.name)
	_, err := w.svc.CancelRotation(w.ctx, actor, n.org.id, n.id)
	n.moved = true
	w.same(w.m.cancel(n), conditionOf(err))
	w.shutOut(n)
}

func (w *world) expire() {
	n := w.pick(saccount.KindKey)
	if n == nil {
		return
	}
	at := time.UnixMicro(w.m.now + w.rng.Int64N(20*dayMicros) - dayMicros/2)
	if w.chance(3) {
		at = time.Time{}
	}
	w.op("expire %s %s at %v", n.org.id, n.sub.name, at)
	got, err := w.update(n, saccount.Update{Expires: &at})
	n.moved = true
	w.updated(n, w.m.expire(n, micros(at)), got, err)
	w.shutOut(n)
}

func (w *world) rename() {
	n := w.pick(oneOf(w, saccount.KindKey, saccount.KindAccount))
	if n == nil {
		return
	}
	name := fmt.Sprintf("%s %d", n.kind, w.rng.IntN(6))
	w.op("rename %s %s %q", n.org.id, n.sub.name, name)
	got, err := w.update(n, saccount.Update{Name: &name})
	want := "ok"
	switch {
	case n.dead():
		want = "not found"
	case n.org.taken(n.kind, n.parent, name, n):
		want = "exists"
	default:
		n.name = name
		n.audit("update")
	}
	w.updated(n, want, got, err)
}

func (w *world) zone() {
	n := w.pickOrg().node
	zone := oneOf(w, zones...)
	w.op("zone %s %q", n.id, zone)
	got, err := w.update(n, saccount.Update{Zone: &zone})
	want := "ok"
	if n.dead() {
		want = "not found"
	} else {
		n.zone = zone
		n.audit("update")
	}
	w.updated(n, want, got, err)
}
