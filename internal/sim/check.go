package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// status compares the limits of a caller's chain, or of one record.
func (w *world) status() {
	if w.chance(2) {
		n := w.pick(0)
		if n == nil {
			return
		}
		w.op("status %s %s", n.org.id, n.sub.name)
		w.compareStatus(n)
		return
	}
	g := w.guest()
	if g == nil || w.m.barred(&g.caller) != "" {
		return
	}
	w.op("status of the chain of %s", g.node.sub.name)
	st, err := w.svc.Status(w.ctx, g.p)
	want := reply{what: "ok"}
	for _, n := range g.node.chain() {
		want.lines = append(want.lines, w.m.status(n)...)
	}
	w.same(want.String(), reply{what: conditionOf(err), lines: linesOf(st)}.String())
}

func (m *model) status(n *node) (out []line) {
	for _, e := range m.entries(n) {
		r, _ := n.sub.row(&e)
		out = append(out, n.org.line(&e, r, r.bound(&e), m.now))
	}
	return out
}

func (w *world) compareStatus(n *node) {
	st, err := w.svc.StatusOf(w.ctx, n.org.id, n.kind, n.id)
	want := reply{what: "not found"}
	if !n.dead() {
		want = reply{what: "ok", lines: w.m.status(n)}
	}
	w.same(want.String(), reply{what: conditionOf(err), lines: linesOf(st)}.String())
}

// retain folds old usage into days.
func (w *world) retain() {
	o := w.pickOrg()
	keep := time.Duration(w.m.keep)*time.Microsecond + quota.MaxTTL
	w.op("retain %s", o.id)
	w.flush()
	_, err := w.svc.Retain(w.ctx, o.id, keep)
	now := time.UnixMicro(w.m.now)
	if cut := now.Add(-keep); err == nil && cut.After(o.created) {
		err = o.fold(o.created, cut)
	}
	w.same("ok", conditionOf(err))
	w.checkUsage(o)
}

func (w *world) sweep() {
	windows := time.Duration(0)
	if w.chance(2) {
		windows = time.Duration(w.m.keep)*time.Microsecond + quota.MaxTTL
	}
	w.op("sweep %v", windows)
	w.compareAlerts() // before they are dropped
	_, err := w.svc.Sweep(w.ctx, windows)
	cut := int64(0)
	if windows > 0 {
		cut = w.m.now - int64(windows/time.Microsecond)
	}
	w.m.purge(cut)
	w.same("ok", conditionOf(err))
}

func (w *world) flush() {
	w.wants("ok", w.svc.Flush(w.ctx))
	w.wants("ok", w.other.Flush(w.ctx))
}

// compareAlerts is I10: the outbox says what the model says, in its order and
// each once.
func (w *world) compareAlerts() {
	if len(w.m.alerts) == 0 && w.step%64 != 0 {
		return
	}
	got, err := w.store.Outbox(w.ctx, w.alerted, 1000)
	if err != nil {
		w.violation("I10: the outbox can be read", err.Error())
		return
	}
	if len(got) > 0 {
		w.alerted = got[len(got)-1].Seq
	}
	for i := range got {
		got[i].Seq = 0
	}
	if !slices.Equal(got, w.m.alerts) {
		w.violation(fmt.Sprintf("I10: alerts %+v", w.m.alerts), fmt.Sprintf("%+v", got))
	}
	w.m.alerts = nil
}

// checkAll compares everything that can be seen with the model.
func (w *world) checkAll() {
	name := w.name
	for _, o := range w.m.order {
		if o.deleted && o.checked {
			continue
		}
		for _, n := range append([]*node{o.node}, o.nodes...) {
			w.name = "check of " + o.id + " " + string(n.sub.name) + " after " + name
			got, _, err := w.read(n)
			if err != nil {
				got = conditionOf(err)
			}
			w.same(n.String(), got)
			w.compareStatus(n)
		}
		w.name = "check of " + o.id + " after " + name
		w.checkWindows(o)
		w.flush()
		w.checkUsage(o)
		o.checked = o.deleted
		if w.bad != nil {
			return
		}
	}
}

// checkWindows is I2 and I5 within the model, which has been found to agree
// with the Service: what a window shows is the sum of its buckets, and nothing
// is held where nothing is open.
func (w *world) checkWindows(o *org) {
	for _, n := range append([]*node{o.node}, o.nodes...) {
		for _, r := range n.sub.rows {
			// Of a limit as it stands: nothing looks at another any more.
			if l := n.limit(r.key.limit); r.end == 0 || l == nil || l.number != r.key.number {
				continue
			}
			sum, coarse := int64(0), false
			for _, d := range n.sub.days { // a folded day does not tell the hour
				coarse = coarse || d.start > r.key.start-2*dayMicros && d.start < r.end
			}
			n.sub.within(r.key.start, r.end, func(b *bucket) { sum = sat(sum, b.credits) })
			if !coarse && sum != r.used+r.overage {
				w.violation(fmt.Sprintf("I2: %s %+v holds the sum of its buckets, %d", n.sub.name, r.key, sum), fmt.Sprint(r.used+r.overage))
			}
			if len(o.holds) == 0 && o.held(r, w.m.now) != 0 {
				w.violation("I5: nothing is held", fmt.Sprint(o.held(r, w.m.now)))
			}
		}
	}
}

type tally struct{ credits, requests int64 }

// checkUsage compares every bucket of an organization, and is I2, I3 and I6.
func (w *world) checkUsage(o *org) {
	type at struct {
		sub   quota.Subject
		day   bool
		start int64
	}
	parent := map[quota.Subject]quota.Subject{}
	subjects := make([]quota.Subject, len(o.subs))
	want, refused := map[at]tally{}, map[string]int64{}
	for i, s := range o.subs {
		subjects[i] = s.name
		for _, b := range s.days {
			want[at{s.name, true, b.start}] = tally{b.credits, b.requests}
		}
		for _, b := range s.recent {
			want[at{s.name, false, b.start}] = tally{b.credits, b.requests}
		}
		for reason, n := range s.refused {
			refused[string(s.name)+" "+string(reason)] = n
		}
	}
	for _, n := range o.nodes {
		parent[n.sub.name] = o.sub.name
		if n.parent != nil {
			parent[n.sub.name] = n.parent.sub.name
		}
	}
	got, levels, sums, spent := map[at]tally{}, map[at]tally{}, map[at]tally{}, map[quota.Subject]int64{}
	add := func(m map[at]tally, k at, c tally) {
		m[k] = tally{m[k].credits + c.credits, m[k].requests + c.requests}
	}
	var gotRefused = map[string]int64{}
	err := w.store.Usage(w.ctx, usage.Range{Org: o.id, Subjects: subjects, From: 0, To: maxAmount / 4}, func(r usage.Row) error {
		if r.Reason != "" {
			gotRefused[string(r.Subject)+" "+string(r.Reason)] += r.Requests
			return nil
		}
		k, c := at{r.Subject, r.Day, r.Start}, tally{int64(r.Credits), r.Requests}
		if _, ok := got[k]; ok {
			w.violation("each bucket once", fmt.Sprint(k))
		}
		got[k] = c
		spent[r.Subject] += c.credits
		if r.Start < o.folded { // the day of one may be folded and that of another, which holds something, not
			k.day, k.start = true, 0
		}
		add(levels, k, c)
		if p, ok := parent[r.Subject]; ok {
			k.sub = p
			add(sums, k, c)
		}
		return nil
	})
	if err != nil {
		w.violation("usage of "+o.id, err.Error())
		return
	}
	differ(w, "I2: bucket", want, got)
	differ(w, "refused requests", refused, gotRefused)
	for k, c := range levels { // I3
		kind := k.sub.Kind()
		if kind == quota.KindAccount || kind == quota.KindOrg {
			if sums[k] != c {
				w.violation(fmt.Sprintf("I3: %v is the sum of what is below it, %v", k, sums[k]), fmt.Sprint(c))
			}
		}
	}
	for _, s := range subjects {
		if spent[s] != o.spent[s] {
			w.violation(fmt.Sprintf("I6: %s spent %d in all", s, o.spent[s]), fmt.Sprint(spent[s]))
		}
	}
}

func differ[K comparable, V comparable](w *world, what string, want, got map[K]V) {
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			var zero V
			if !ok && v == zero {
				continue
			}
			w.violation(fmt.Sprintf("%s %v: %v", what, k, v), fmt.Sprint(g, " ", ok))
			return
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			w.violation(fmt.Sprintf("%s %v: none", what, k), fmt.Sprint(v))
			return
		}
	}
}

// checkSecrets is I9 for all that the store gives and the log was told.
func (w *world) checkSecrets() {
	w.name = "check of secrets"
	f := newFinder(w.secrets)
	look := func(where string, b []byte) {
		if s := f.find(b); s != "" {
			w.violation("I9: no secret in "+where, fmt.Sprintf("%q, a piece of a secret", s))
		}
	}
	look("the log", w.logs.Bytes())
	for _, o := range w.m.order {
		w.checkAudit(o, look)
		for _, n := range append([]*node{o.node}, o.nodes...) {
			l, err := w.store.Lookup(w.ctx, o.id, n.kind, n.id)
			if err != nil {
				w.violation("a record can be read", err.Error())
				return
			}
			b, err := json.Marshal(l)
			if err != nil {
				w.violation("a record can be written", err.Error())
				return
			}
			look("a record", b)
			look("a record's data", l.Record.Data)
		}
	}
}

// checkAudit compares the audit log, without gaps, with what was done.
func (w *world) checkAudit(o *org, look func(string, []byte)) {
	var got []string
	seq := int64(0)
	for e, err := range w.svc.AuditEntries(w.ctx, o.id, saccount.AuditFilter{Limit: saccount.MaxPage}) {
		if err != nil {
			w.violation("the audit log can be read", err.Error())
			return
		}
		if seq++; e.Seq != seq {
			w.violation("audit entries without gaps", fmt.Sprint(seq, e.Seq))
		}
		got = append(got, e.Action+" "+string(e.Subject))
		look("the audit log", e.Before)
		look("the audit log", e.After)
	}
	if v, err := w.svc.Verify(w.ctx, o.id, saccount.Verify{}); err != nil || v.Bad != nil || v.Entries != seq {
		w.violation("an audit log that verifies", fmt.Sprint(v, err))
	}
	for i := range max(len(got), len(o.audits)) {
		if i >= len(got) || i >= len(o.audits) || got[i] != o.audits[i] {
			w.violation(fmt.Sprintf("audit of %s from %d on: %q", o.id, i, o.audits[min(i, len(o.audits)):]), fmt.Sprintf("%q", got[min(i, len(got)):]))
			return
		}
	}
}

// checkFiles is I9 for what is on the disk.
func (w *world) checkFiles() {
	w.name = "check of files"
	files, err := w.back.files()
	if err != nil {
		w.violation("files can be read", err.Error())
		return
	}
	f := newFinder(w.secrets)
	for _, b := range files {
		if s := f.find(b); s != "" {
			w.violation("I9: no secret in a file", fmt.Sprintf("%q, a piece of a secret", s))
		}
	}
}

// finder looks for pieces of secrets: any 23 characters of one hold one of the
// pieces that it knows.
type finder map[string]bool

const piece = 12

func newFinder(secrets []string) finder {
	f := finder{}
	for _, s := range secrets {
		for at := 0; at+piece <= len(s); at += piece {
			f[s[at:at+piece]] = true
		}
	}
	return f
}

func (f finder) find(b []byte) string {
	run := 0
	for i, c := range b {
		if !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z') {
			run = 0
			continue
		}
		if run++; run >= piece && f[string(b[i+1-piece:i+1])] {
			return string(b[i+1-piece : i+1])
		}
	}
	return ""
}
