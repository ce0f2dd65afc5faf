package storetest

import (
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// never is a limit that never resets.
func never(most quota.Credits) quota.Entry {
	return quota.Entry{Limit: quota.DefaultLimitName, Number: 1, Max: most}
}

// daily is a limit in its day of UTC.
func daily(most quota.Credits, number uint32, now int64) quota.Entry {
	start := now - now%day
	return quota.Entry{Limit: quota.DefaultLimitName, Number: number, Max: most, Start: start, End: start + day}
}

// monthly is a limit in its month of UTC.
func monthly(most quota.Credits, number uint32, now int64) quota.Entry {
	t := quota.Time(now)
	start := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	return quota.Entry{
		Limit: quota.DefaultLimitName, Number: number, Max: most,
		Start: start.UnixMicro(), End: start.AddDate(0, 1, 0).UnixMicro(),
	}
}

// named gives an entry another name.
func named(name string, e quota.Entry) quota.Entry {
	e.Limit = name
	return e
}

// level is a subject with its limits at instant now.
func level(s quota.Subject, now int64, limits ...quota.Entry) *quota.Level {
	l := &quota.Level{Subject: s, Bucket: quota.BucketStart(now), Limits: limits}
	l.From, l.Until = l.Bucket, l.Bucket+quarter
	for _, e := range limits {
		l.Sequence = max(l.Sequence, e.Number)
	}
	return l
}

// chain is key k1, account a1 and acme at instant now, with a limit on each
// that none of the cases reaches.
func chain(now int64) []*quota.Level {
	return []*quota.Level{level(key1, now, never(1e6)), level(acc1, now, never(1e6)), level(org, now, never(1e6))}
}

// op is an operation of acme, asked for by k1.
func (k *kit) op(verb quota.Verb, now int64) *quota.Op {
	return &quota.Op{Verb: verb, Org: acme, Settings: k.settings, At: now, Caller: key1, Keep: now + keep}
}

func (k *kit) charge(now int64, id string, amount quota.Credits, ls ...*quota.Level) *quota.Op {
	o := k.op(quota.VerbCharge, now)
	o.ID, o.Amount, o.Levels = id, amount, ls
	return o
}

func (k *kit) reserve(now int64, id string, amount quota.Credits, ttl int64, ls ...*quota.Level) *quota.Op {
	o := k.op(quota.VerbReserve, now)
	o.ID, o.Amount, o.TTL, o.Levels = id, amount, ttl, ls
	return o
}

func (k *kit) commit(now int64, of string, amount quota.Credits) *quota.Op {
	o := k.op(quota.VerbCommit, now)
	o.Of, o.Amount = of, amount
	return o
}

func (k *kit) release(now int64, of string) *quota.Op {
	o := k.op(quota.VerbRelease, now)
	o.Of = of
	return o
}

func (k *kit) renew(now int64, of string, ttl int64) *quota.Op {
	o := k.op(quota.VerbRenew, now)
	o.Of, o.TTL = of, ttl
	return o
}

// lease takes a block that holds at most amount, and at least one.
func (k *kit) lease(now int64, id string, amount quota.Credits, ttl int64, ls ...*quota.Level) *quota.Op {
	o := k.op(quota.VerbLease, now)
	o.ID, o.Of, o.Amount, o.Size, o.TTL, o.Levels = id, "owner of "+id, amount, 1, ttl, ls
	return o
}

// settle says what was spent of a block in all, and ends it.
func (k *kit) settle(now int64, of string, seq int64, spent quota.Credits, requests int64) *quota.Op {
	o := k.op(quota.VerbSettle, now)
	o.Of, o.Seq, o.Amount, o.Requests = of, seq, spent, requests
	return o
}

// keeps makes a settlement keep its block, to hold so much for so long.
func keeps(o *quota.Op, size quota.Credits, ttl int64) *quota.Op {
	o.Size, o.TTL = size, ttl
	return o
}

func (k *kit) refund(now int64, id, of string, amount quota.Credits) *quota.Op {
	o := k.op(quota.VerbRefund, now)
	o.ID, o.Of, o.Amount = id, of, amount
	return o
}

// apply applies Ops as one batch.
func (k *kit) apply(ops ...*quota.Op) {
	k.t.Helper()
	k.must(k.Apply(background(), ops), "apply")
}

// run applies one Op and ends the case where it did not come out as wanted.
func (k *kit) run(want quota.Outcome, o *quota.Op) *quota.Op {
	k.t.Helper()
	k.apply(o)
	if o.Result.Outcome != want {
		k.fatalf("%s of %s (id %q, of %q): %s (error %v, refused %b, figures %+v), want %s",
			o.Verb, o.Amount, o.ID, o.Of, o.Result.Outcome, o.Result.Err, o.Result.Refused, o.Result.Figures, want)
	}
	return o
}

// peek is the state of every limit of the levels.
func (k *kit) peek(now int64, ls ...*quota.Level) []quota.Figure {
	k.t.Helper()
	f, err := k.Peek(background(), acme, ls, now)
	k.must(err, "peek")
	return f
}

// stands checks the state of one level's only limit.
func (k *kit) stands(now int64, l *quota.Level, used, held, overage quota.Credits) {
	k.t.Helper()
	f := k.peek(now, l)
	if len(f) != 1 {
		k.fatalf("peek at %s: %d figures, want 1", l.Subject, len(f))
	}
	got, want := f[0], quota.Figure{Max: f[0].Max, Used: used, Held: held, Overage: overage}
	if got != want {
		k.failf("%s at %s: used %d, held %d, overage %d; want used %d, held %d, overage %d",
			l.Subject, quota.Time(now).Format(time.DateTime), got.Used, got.Held, got.Overage, used, held, overage)
	}
}

// strands checks how much of what one level's only limit holds is stranded.
func (k *kit) strands(now int64, l *quota.Level, used, held, stranded quota.Credits) {
	k.t.Helper()
	f := k.peek(now, l)[0]
	if f.Used != used || f.Held != held || f.Stranded != stranded || f.Overage != 0 {
		k.failf("%s at %s: %+v; want used %d, held %d, of it stranded %d", l.Subject, quota.Time(now).Format(time.DateTime), f, used, held, stranded)
	}
}

// left checks how much can still be spent on one level: so much and no more.
func (k *kit) left(now int64, l *quota.Level, want quota.Credits) {
	k.t.Helper()
	var least quota.Credits = quota.MaxCredits
	for _, f := range k.peek(now, l) {
		least = min(least, f.Remaining())
	}
	if least != want {
		k.failf("%s: %d left, want %d", l.Subject, least, want)
	}
	if o := k.charge(now, "", want+1, l); true {
		k.apply(o)
		if o.Result.Outcome != quota.Refused {
			k.failf("%s with %d left: a charge of %d is %s, want refused", l.Subject, want, want+1, o.Result.Outcome)
		}
	}
}

// buckets checks what the usage of a subject sums up to, over all time.
func (k *kit) buckets(s quota.Subject, credits quota.Credits, requests int64) {
	k.t.Helper()
	from, to := ever()
	c, n := k.spent(s, from, to)
	if c != credits || n != requests {
		k.failf("usage of %s: %d micro-credits in %d requests, want %d in %d", s, c, n, credits, requests)
	}
}

// snapshot is all that an operation can change, for comparing before and after.
type snapshot struct {
	Figures  []quota.Figure
	Credits  quota.Credits
	Requests int64
	Rows     int
	Alerts   int
	Audit    int
	Settings int64
}

func (k *kit) snapshot(now int64, ls ...*quota.Level) (s snapshot) {
	k.t.Helper()
	s.Figures = k.peek(now, ls...)
	from, to := ever()
	for _, l := range ls {
		c, n := k.spent(l.Subject, from, to)
		s.Credits, s.Requests, s.Rows = s.Credits+c, s.Requests+n, s.Rows+len(k.rows(l.Subject, from, to))
	}
	s.Alerts, s.Audit, s.Settings = len(k.outbox()), len(k.audits()), k.number()
	return s
}

// opening asks for a limit's counter to be opened.
func opening(s quota.Subject, e quota.Entry, was *quota.Entry) saccount.Opening {
	return saccount.Opening{Subject: s, Entry: e, Was: was}
}
