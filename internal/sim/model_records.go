package sim

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// node is an organization, account, member or key.
type node struct {
	kind     saccount.Kind
	id       string
	name     string
	org      *org
	parent   *node // of a key, its account
	sub      *subject
	zone     string // of an organization
	created  time.Time
	disabled bool
	deleted  bool
	expires  int64 // 0: never
	guarded  bool  // only from 10.0.0.0/8
	limits   []*limit
	sequence uint32
	secrets  []secret // the living, the newest last
	serial   int
	tokens   []token // every one ever made
	moved    bool    // it was enabled again, or an end of it put off
}

type secret struct {
	serial int
	ends   int64 // 0: with the key
}

type token struct {
	serial int
	text   string
}

type limit struct {
	name       string
	max        int64
	period     quota.Period
	soft       bool
	thresholds []quota.Threshold // nil: the defaults
	number     uint32
	raise      *raise
	topUps     []topUp
}

type raise struct{ max, until int64 }

type topUp struct {
	id     string
	amount int64
	window int64
}

// caller is what the model knows of a Principal.
type caller struct {
	node   *node
	serial int
}

func newSubject(n *node) *subject {
	return &subject{name: quota.NewSubject(n.kind.String(), n.id), rows: map[rowKey]*row{}, refused: map[quota.Reason]int64{}}
}

// add makes a record part of the model, and opens the counters of its limits.
func (m *model) add(n *node, edits saccount.Limits) {
	if n.kind == saccount.KindOrg {
		o := &org{node: n, ids: map[string]*op{}, spent: map[quota.Subject]int64{}}
		n.org = o
		m.orgs[n.id] = o
		m.order = append(m.order, o)
	} else {
		n.org.nodes = append(n.org.nodes, n)
	}
	n.sub = newSubject(n)
	n.org.subs = append(n.org.subs, n.sub)
	n.created = time.UnixMicro(m.now)
	n.audit("create")
	m.set(n, edits)
}

// audit notes what the audit log should say.
func (n *node) audit(action string) {
	n.org.audits = append(n.org.audits, action+" "+string(n.sub.name))
}

func (o *org) find(kind saccount.Kind, id string) *node {
	if kind == saccount.KindOrg {
		return o.node
	}
	for _, n := range o.nodes {
		if n.kind == kind && n.id == id {
			return n
		}
	}
	return nil
}

// chain is who is charged for the node.
func (n *node) chain() []*node {
	switch n.kind {
	case saccount.KindKey:
		return []*node{n, n.parent, n.org.node}
	case saccount.KindOrg:
		return []*node{n}
	}
	return []*node{n, n.org.node}
}

// dead tells whether the node or anything above it was deleted.
func (n *node) dead() bool {
	return slices.ContainsFunc(n.chain(), func(x *node) bool { return x.deleted })
}

// why says why the node may not be let in now.
func (m *model) why(n *node) quota.Reason {
	switch {
	case n.dead():
		return "deleted"
	case slices.ContainsFunc(n.chain(), func(x *node) bool { return x.disabled }):
		return "disabled"
	case n.expires != 0 && m.now >= n.expires:
		return "expired"
	}
	return ""
}

// barred says why a Principal may not spend now.
func (m *model) barred(c *caller) quota.Reason {
	if why := m.why(c.node); why != "" || c.node.kind == saccount.KindMember {
		return why
	}
	for _, s := range c.node.secrets {
		if s.serial == c.serial && (s.ends == 0 || m.now < s.ends) {
			return ""
		}
	}
	return "rotated"
}

// authenticate says what a good token of the node's is answered.
func (m *model) authenticate(n *node, serial int, inside bool) string {
	at := slices.IndexFunc(n.secrets, func(s secret) bool { return s.serial == serial })
	if at < 0 {
		return "unauthenticated: wrong secret"
	}
	why := m.why(n)
	if s := n.secrets[at]; why == "" && s.ends != 0 && m.now >= s.ends {
		why = "rotated"
	}
	if why == "disabled" || why == "expired" {
		m.refuse(n, why)
	}
	if why != "" {
		return "unauthenticated: " + string(why)
	}
	if n.guarded && !inside {
		m.refuse(n, quota.ReasonAddress)
		return "forbidden"
	}
	return "ok"
}

func (m *model) refuse(n *node, why quota.Reason) {
	for _, x := range n.chain() {
		x.sub.refused[why]++
	}
}

// bucketSeen is the bucket of an instant, without making one.
func (s *subject) bucketSeen(at int64) *bucket {
	start := at - at%quarter
	i := sort.Search(len(s.recent), func(i int) bool { return s.recent[i].start >= start })
	if i < len(s.recent) && s.recent[i].start == start {
		return s.recent[i]
	}
	return &bucket{}
}

func (m *model) entries(n *node) []entry {
	out := make([]entry, 0, len(n.limits))
	for _, l := range n.limits {
		out = append(out, m.entry(n, l))
	}
	return out
}

// entry is the limit in its window now.
func (m *model) entry(n *node, l *limit) entry {
	w := m.window(l)
	e := entry{sub: n.sub, limit: l.name, number: l.number, max: l.max, soft: l.soft, thresholds: l.thresholds}
	e.start, e.end = micros(w.Start), micros(w.End)
	if l.thresholds == nil {
		e.thresholds = m.defaults
	}
	if l.raise != nil && m.now < l.raise.until {
		e.extra = max(0, l.raise.max-l.max)
	}
	for _, t := range l.topUps {
		if t.window == e.start {
			e.extra = sat(e.extra, t.amount)
		}
	}
	return e
}

func (m *model) window(l *limit) quota.Window {
	w, err := l.period.WindowAt(time.UnixMicro(m.now))
	if err != nil {
		panic(fmt.Sprintf("sim: a limit was kept whose window cannot be told: %v", err))
	}
	return w
}

// same tells whether two periods have the same windows by what they say.
func same(a, b quota.Period) bool {
	every := func(p quota.Period) int { return max(1, p.Every) }
	zone := func(p quota.Period) string {
		if p.Zone == "" {
			return "UTC"
		}
		return p.Zone
	}
	week := func(p quota.Period) string {
		if p.WeekStart == "" {
			return "monday"
		}
		return p.WeekStart
	}
	return a.Unit == b.Unit && every(a) == every(b) && zone(a) == zone(b) && week(a) == week(b) && a.Anchor.Equal(b.Anchor)
}

func (n *node) limit(name string) *limit {
	for _, l := range n.limits {
		if l.name == name {
			return l
		}
	}
	return nil
}

// edited is what edits make of the node's limits, without changing the node:
// the limits, the sequence, and for each limit whose period is new or set anew
// the one that it replaces.
func (m *model) edited(n *node, edits saccount.Limits) (limits []*limit, sequence uint32, anew map[*limit]*limit, ok bool) {
	limits, sequence, anew = slices.Clone(n.limits), n.sequence, map[*limit]*limit{}
	now := time.UnixMicro(m.now)
	zone := n.org.zone
	if zone == "" {
		zone = "UTC"
	}
	for _, name := range slices.Sorted(maps.Keys(edits)) {
		spec := edits[name]
		if name == "" {
			if name = quota.DefaultLimitName; slices.Contains(slices.Collect(maps.Keys(edits)), name) {
				return nil, 0, nil, false // given twice
			}
		}
		at := slices.IndexFunc(limits, func(l *limit) bool { return l.name == name })
		if spec == nil {
			if at >= 0 {
				limits = slices.Delete(limits, at, at+1)
			}
			continue
		}
		l := limit{name: name}
		var old *limit
		if at >= 0 {
			old = limits[at]
			l = *old
		} else if spec.Max == nil {
			return nil, 0, nil, false
		}
		if spec.Max != nil {
			l.max = int64(*spec.Max)
		}
		if spec.Soft != nil {
			l.soft = *spec.Soft
		}
		if spec.Thresholds != nil {
			l.thresholds = append([]quota.Threshold{}, *spec.Thresholds...)
		}
		if spec.Period != nil {
			l.period = *spec.Period
		}
		if l.period.Unit != quota.Never && l.period.Zone == "" {
			l.period.Zone = zone
		}
		if l.max < 0 || l.period.Anchor.After(now) || l.period.Anchor.Unix()%900 != 0 && !l.period.Anchor.IsZero() {
			return nil, 0, nil, false
		}
		if at < 0 {
			limits = append(limits, &l)
			slices.SortFunc(limits, func(a, b *limit) int { return strings.Compare(a.name, b.name) })
		} else {
			limits[at] = &l
		}
		if old == nil || !same(l.period, old.period) {
			sequence++
			l.number, l.topUps, l.raise = sequence, nil, nil
			anew[&l] = old
		}
	}
	return limits, sequence, anew, len(limits) <= quota.MaxLimits
}

// set changes the node's limits. The edits were found to be good.
func (m *model) set(n *node, edits saccount.Limits) {
	limits, sequence, anew, ok := m.edited(n, edits)
	if !ok {
		panic("sim: bad edits were let through")
	}
	n.limits, n.sequence = limits, sequence
	for _, l := range limits { // in the order of names, as they are numbered
		old, ok := anew[l]
		if !ok {
			continue
		}
		if old == nil {
			n.org.open(m.entry(n, l), nil, m.now)
			continue
		}
		was := m.entry(n, old)
		n.org.open(m.entry(n, l), &was, m.now)
	}
}

func (m *model) topUp(n *node, name, id string, amount int64) string {
	l := n.limit(name)
	switch {
	case n.dead() || l == nil:
		return "not found"
	case amount <= 0:
		return "invalid"
	}
	start := micros(m.window(l).Start)
	var kept []topUp
	for _, t := range l.topUps {
		if t.window == start && id != "" && t.id == id {
			if t.amount != amount {
				return "changed meanwhile"
			}
			return "ok"
		}
		if t.window >= start { // of this window, or of one that the clock has run back from
			kept = append(kept, t)
		}
	}
	if len(kept) >= quota.MaxTopUps {
		return "invalid"
	}
	l.topUps = append(kept, topUp{id, amount, start})
	n.audit("top_up")
	return "ok"
}

func (m *model) raiseLimit(n *node, name string, most, until int64) string {
	l := n.limit(name)
	switch {
	case n.dead() || l == nil:
		return "not found"
	case until == 0 || most < l.max:
		if most < 0 {
			return "invalid"
		}
		l.raise = nil
	case until <= m.now:
		return "invalid"
	default:
		l.raise = &raise{most, until}
	}
	n.audit("raise_limit")
	return "ok"
}

// taken tells whether a living sibling has the name.
func (o *org) taken(kind saccount.Kind, parent *node, name string, but *node) bool {
	return slices.ContainsFunc(o.nodes, func(x *node) bool {
		return x != but && x.kind == kind && x.parent == parent && x.name == name && !x.deleted
	})
}

func (n *node) remove() {
	n.deleted, n.secrets = true, nil
	n.audit("delete")
}

func (n *node) toggle(off bool) {
	switch {
	case n.disabled == off: // nothing is done and nothing noted
		return
	case off:
		n.audit("disable")
	default:
		n.audit("enable")
	}
	n.disabled, n.moved = off, n.moved || !off
}

// rotate gives the key a new secret, whose serial it says.
func (m *model) rotate(n *node, overlap int64) (serial int, what string) {
	switch {
	case n.dead():
		return 0, "not found"
	case overlap < 0, !n.disabled && n.expires != 0 && m.now >= n.expires, n.expires != 0 && m.now+overlap > n.expires:
		return 0, "invalid"
	}
	old := n.secrets[len(n.secrets)-1]
	old.ends = m.now + overlap
	n.serial++
	if n.secrets = []secret{{serial: n.serial}}; overlap > 0 {
		n.secrets = []secret{old, {serial: n.serial}}
	}
	n.audit("rotate")
	return n.serial, "ok"
}

func (m *model) cancel(n *node) string {
	switch {
	case n.dead():
		return "not found"
	case len(n.secrets) < 2 || m.now >= n.secrets[0].ends:
		return "invalid"
	}
	n.secrets = []secret{{serial: n.secrets[0].serial}}
	n.audit("cancel_rotation")
	return "ok"
}

// expire sets a key's end.
func (m *model) expire(n *node, at int64) string {
	switch {
	case n.dead():
		return "not found"
	case at != 0 && at <= m.now:
		return "invalid"
	}
	n.expires = at
	for i := range n.secrets {
		if e := &n.secrets[i].ends; at != 0 && *e > at {
			*e = at
		}
	}
	n.audit("update")
	return "ok"
}

// String is the node as records are compared.
func (n *node) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %q disabled=%v deleted=%v expires=%d", n.kind, n.id, n.name, n.disabled, n.deleted, n.expires)
	for _, l := range n.limits {
		fmt.Fprintf(&b, " [%s #%d max=%d %s", l.name, l.number, l.max, l.period)
		if l.soft {
			b.WriteString(" soft")
		}
		if l.thresholds != nil {
			fmt.Fprintf(&b, " at %v", l.thresholds)
		}
		if l.raise != nil {
			fmt.Fprintf(&b, " raised %d until %d", l.raise.max, l.raise.until)
		}
		for _, t := range l.topUps {
			fmt.Fprintf(&b, " up %s %d in %d", t.id, t.amount, t.window)
		}
		b.WriteByte(']')
	}
	return b.String()
}

// recordString is String of what the Service gives.
func recordString(kind saccount.Kind, id, name string, disabled bool, deleted, expires time.Time, limits []quota.Limit) string {
	n := node{kind: kind, id: id, name: name, disabled: disabled, deleted: !deleted.IsZero(), expires: micros(expires)}
	for _, l := range limits {
		x := &limit{name: l.Name, number: l.Number, max: int64(l.Max), period: l.Period, soft: l.Soft, thresholds: l.Thresholds}
		if l.Raise != nil {
			x.raise = &raise{int64(l.Raise.Max), micros(l.Raise.Until)}
		}
		for _, t := range l.TopUps {
			x.topUps = append(x.topUps, topUp{t.ID, int64(t.Amount), micros(t.Window)})
		}
		n.limits = append(n.limits, x)
	}
	return n.String()
}
