package storetest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

func models() []guarantee {
	return []guarantee{
		{"a random history comes out as a plain model of it", "what nobody thought of is found by trying everything", func(k *kit) {
			modelRun(k, 1, 900)
		}},
		{"another random history comes out as a plain model of it", "what nobody thought of is found by trying everything", func(k *kit) {
			modelRun(k, rand.Uint64()>>1, 900)
		}},
	}
}

// walk is a random history, applied to the Store and to the model.
type walk struct {
	*kit
	rng    *rand.Rand
	m      *model
	now    int64 // the clock, which jumps both ways
	high   int64 // the latest instant it showed
	purses map[quota.Subject]*plainPurse
	levels map[levelName]*quota.Level
	ids    []string
	blocks []string
	step   int
}

type levelName struct {
	subject quota.Subject
	bucket  int64
}

// plainPurse is a subject's limits; sequence is the highest number ever given.
type plainPurse struct {
	kind     saccount.Kind
	id       string
	sequence uint32
	limits   []plainLimit
}

type plainLimit struct {
	entry  quota.Entry // without its window
	period int
}

// The periods of the walk. Their windows never start together, so that a
// window is told by its start.
const (
	noReset = iota
	sixHours
	oneDay
	thirtyDays
	periods
)

func (l *plainLimit) window(now int64) quota.Entry {
	e := l.entry
	in := func(length, offset int64) {
		e.Start = (now-offset)/length*length + offset
		e.End = e.Start + length
	}
	switch l.period {
	case sixHours:
		in(6*hour, 0)
	case oneDay:
		in(day, quarter)
	case thirtyDays:
		in(30*day, 2*quarter)
	}
	return e
}

// level is a subject's Level at instant now, the same one for a quarter of an
// hour, as the Ledger shares it.
func (w *walk) level(s quota.Subject, now int64) *quota.Level {
	n := levelName{s, quota.BucketStart(now)}
	if l := w.levels[n]; l != nil {
		return l
	}
	p := w.purses[s]
	l := level(s, now)
	l.Sequence = p.sequence
	for i := range p.limits {
		l.Limits = append(l.Limits, p.limits[i].window(now))
	}
	w.levels[n] = l
	return l
}

func (w *walk) chain(now int64) (caller quota.Subject, ls []*quota.Level) {
	chains := [][]quota.Subject{{key1, acc1, org}, {key1, acc1, org}, {key2, acc1, org}, {key3, acc2, org}, {ann, org}}
	for _, s := range chains[w.rng.IntN(len(chains))] {
		ls = append(ls, w.level(s, now))
	}
	return ls[0].Subject, ls
}

// modelRun takes so many random steps; where the Store can be opened again it
// is, every now and then. KEYPURSE_SEED replaces the seed.
func modelRun(k *kit, seed uint64, steps int) {
	if s := os.Getenv("KEYPURSE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		k.must(err, "read KEYPURSE_SEED")
		seed = n
	}
	k.tree()
	w := &walk{
		kit: k, rng: rand.New(rand.NewPCG(seed, 0)), m: newModel(k.settings), now: noon, high: noon,
		purses: map[quota.Subject]*plainPurse{
			key1: {kind: saccount.KindKey, id: "k1"}, key2: {kind: saccount.KindKey, id: "k2"}, key3: {kind: saccount.KindKey, id: "k3"},
			acc1: {kind: saccount.KindAccount, id: "a1"}, acc2: {kind: saccount.KindAccount, id: "a2"},
			ann: {kind: saccount.KindMember, id: "ann"}, org: {kind: saccount.KindOrg, id: acme},
		},
		levels: map[levelName]*quota.Level{},
	}
	defer func() {
		if k.t.Failed() {
			k.t.Logf("KEYPURSE_SEED=%d runs this history again; it got to step %d", seed, w.step)
		}
	}()
	for w.step = 1; w.step <= steps; w.step++ {
		w.tick()
		switch n := w.rng.IntN(100); {
		case n < 7:
			w.edit()
		case n == 7:
			w.clean()
		case n == 8 && k.again != nil:
			k.reopen()
			clear(w.levels)
		default:
			w.batch()
		}
		if w.step%20 == 0 || w.step == steps {
			w.check()
		}
		if k.t.Failed() {
			return
		}
	}
}

func (w *walk) floor() int64 { return w.high - 3*day }

func (w *walk) tick() {
	switch n := w.rng.IntN(100); {
	case n < 70:
		w.now += w.rng.Int64N(2 * minute)
	case n < 85:
		w.now += w.rng.Int64N(3 * hour)
	case n < 94:
		w.now = max(w.floor(), w.now-w.rng.Int64N(26*hour))
	case n < 99:
		w.now += w.rng.Int64N(3 * day)
	default:
		w.now += w.rng.Int64N(40 * day)
	}
	w.high = max(w.high, w.now)
}

// id is a new id, or one of those used lately.
func (w *walk) id() string {
	if len(w.ids) > 0 && w.rng.IntN(10) == 0 {
		return w.known()
	}
	id := fmt.Sprint("i", w.step, ".", w.rng.IntN(1000))
	w.ids = append(w.ids, id)
	return id
}

func (w *walk) known() string {
	if len(w.ids) == 0 {
		return "nothing"
	}
	last := w.ids[max(0, len(w.ids)-25):]
	return last[w.rng.IntN(len(last))]
}

func (w *walk) op() *quota.Op {
	o := &quota.Op{Org: acme, Settings: w.m.settings, At: w.now, Keep: w.now + 7*day, Amount: quota.Credits(w.rng.IntN(60))}
	var ls []*quota.Level
	o.Caller, ls = w.chain(w.now)
	switch n := w.rng.IntN(122); {
	case n >= 100:
		w.block(o, ls)
		return o
	case n < 40:
		o.Verb, o.Levels = quota.VerbCharge, ls
		if w.rng.IntN(3) > 0 {
			o.ID = w.id()
		}
	case n < 60:
		o.Verb, o.Levels, o.ID, o.TTL = quota.VerbReserve, ls, w.id(), 1+w.rng.Int64N(12*hour)
	case n < 76:
		o.Verb, o.Of, o.Strict = quota.VerbCommit, w.known(), w.rng.IntN(5) == 0
	case n < 82:
		o.Verb, o.Of = quota.VerbRelease, w.known()
	case n < 86:
		o.Verb, o.Of, o.TTL = quota.VerbRenew, w.known(), 1+w.rng.Int64N(12*hour)
	case n < 97:
		o.Verb, o.Of = quota.VerbRefund, w.known()
		if w.rng.IntN(2) == 0 {
			o.ID = w.id()
		}
		o.Amount /= 3
	default:
		o = w.refused(w.now, ls[0].Subject, quota.ReasonLimit, 1+w.rng.Int64N(5))
		o.At = w.now
		return o
	}
	if o.Verb != quota.VerbCharge && o.Verb != quota.VerbReserve {
		o.Caller = "" // the host settles, mostly
		if w.rng.IntN(10) == 0 {
			o.Caller = key2
		}
	} else if w.rng.IntN(30) == 0 {
		o.Settings += int64(w.rng.IntN(3)) - 1
	}
	if m := w.m.ids[o.ID]; m != nil && w.rng.IntN(2) == 0 { // a true retry
		o.Verb, o.Caller, o.Amount, o.TTL, o.Of = m.verb, m.caller, m.amount, m.ttl, m.of
		if o.Verb == quota.VerbRefund {
			o.Levels = nil
		} else {
			o.Levels = ls
		}
	}
	return o
}

func (w *walk) batch() {
	ops := make([]*quota.Op, 1+w.rng.IntN(5))
	wants := make([]quota.Result, len(ops))
	left := make([]quota.Credits, len(ops)) // of the blocks that are settled
	for i := range ops {
		ops[i] = w.op()
		wants[i] = w.m.apply(ops[i])
		if m := w.m.ids[ops[i].Of]; ops[i].Verb == quota.VerbSettle && m != nil && m.spending != nil && m.spending.block != nil {
			left[i] = m.spending.block.left
		}
	}
	w.apply(ops...)
	for i, o := range ops {
		want, got := wants[i], o.Result
		if got.Outcome == quota.Excess { // what it was found above is not told apart
			got.Figures = nil
		}
		if got.Outcome != want.Outcome || got.Refused != want.Refused || !slices.Equal(got.Figures, want.Figures) {
			w.failf("step %d at %s: %s %q of %q, amount %d, by %q\n\tgot  %s, error %v, refused %b, figures %+v\n\twant %s, refused %b, figures %+v", w.step,
				at(o.At), o.Verb, o.ID, o.Of, o.Amount, o.Caller, got.Outcome, got.Err, got.Refused, got.Figures, want.Outcome, want.Refused, want.Figures)
			return
		}
		if o.Verb == quota.VerbSettle && got.Outcome == quota.Applied && got.Receipt.Left != left[i] {
			w.failf("step %d at %s: %s of %q to hold %d: it holds %d, want %d", w.step, at(o.At), o.Verb, o.Of, o.Size, got.Receipt.Left, left[i])
			return
		}
	}
}

func (w *walk) check() {
	for s := range w.purses {
		for _, now := range []int64{w.now, max(w.floor(), w.now-w.rng.Int64N(2*day)), w.now + w.rng.Int64N(2*day)} {
			l := w.level(s, now)
			if got, want := w.peek(now, l), w.m.peek([]*quota.Level{l}, now); !slices.Equal(got, want) {
				w.failf("step %d: %s at %s\n\tgot  %+v\n\twant %+v\n\tof   %+v", w.step, s, at(now), got, want, l.Limits)
			}
		}
		got := map[usage.Row]usage.Row{}
		from, to := ever()
		for _, r := range w.rows(s, from, to) {
			got[usage.Row{Subject: r.Subject, Reason: r.Reason, Day: r.Day, Start: r.Start}] = r
		}
		if want := w.m.usage(s); !reflect.DeepEqual(got, want) {
			w.failf("step %d: usage of %s\n\tgot  %+v\n\twant %+v", w.step, s, got, want)
		}
	}
	got, want := w.unnumbered(), w.m.alerts
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			w.failf("step %d: %d alerts, want %d; from number %d on\n\tgot  %+v\n\twant %+v", w.step, len(got), len(want), i, got[min(i, len(got)):], want[min(i, len(want)):])
			break
		}
	}
	same(w.kit, "settings number", w.number(), w.m.settings)
}
