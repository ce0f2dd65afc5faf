package storetest_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/usage"
)

// wrapper hides that the store is a quota.Direct, so that Ledgers on it gather.
type wrapper struct{ store.Store }

// broken is a sound store with one call replaced.
type broken struct {
	wrapper
	apply  func(ctx context.Context, ops []*quota.Op) error
	write  func(ctx context.Context, b saccount.Batch) error
	lookup func(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error)
	list   func(ctx context.Context, q saccount.ListQuery) ([]saccount.Record, bool, error)
	peek   func(ctx context.Context, org string, ls []*quota.Level, at int64) ([]quota.Figure, error)
	outbox func(ctx context.Context, after int64, n int) ([]quota.Alert, error)
	purge  func(ctx context.Context, p saccount.Purge) (int, error)
	usage  func(ctx context.Context, r usage.Range, fn func(usage.Row) error) error
	fold   func(ctx context.Context, org string, days []int64, most int) (int, error)
	touch  func(ctx context.Context, ts []saccount.Touch) error
	close  func() error
}

func (b *broken) Apply(ctx context.Context, ops []*quota.Op) error { return b.apply(ctx, ops) }
func (b *broken) Write(ctx context.Context, x saccount.Batch) error {
	return b.write(ctx, x)
}
func (b *broken) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
	return b.lookup(ctx, org, kind, id)
}
func (b *broken) List(ctx context.Context, q saccount.ListQuery) ([]saccount.Record, bool, error) {
	return b.list(ctx, q)
}
func (b *broken) Peek(ctx context.Context, org string, ls []*quota.Level, at int64) ([]quota.Figure, error) {
	return b.peek(ctx, org, ls, at)
}
func (b *broken) Outbox(ctx context.Context, after int64, n int) ([]quota.Alert, error) {
	return b.outbox(ctx, after, n)
}
func (b *broken) Usage(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
	return b.usage(ctx, r, fn)
}
func (b *broken) Purge(ctx context.Context, p saccount.Purge) (int, error) { return b.purge(ctx, p) }
func (b *broken) Fold(ctx context.Context, org string, days []int64, most int) (int, error) {
	return b.fold(ctx, org, days, most)
}
func (b *broken) Touch(ctx context.Context, ts []saccount.Touch) error { return b.touch(ctx, ts) }
func (b *broken) Close() error                                         { return b.close() }

// breaking makes stores that are sound but for what by does.
func breaking(by func(b *broken, sound store.Store)) func() store.Store {
	return func() store.Store {
		s := memstore.New()
		b := &broken{wrapper{s}, s.Apply, s.Write, s.Lookup, s.List, s.Peek, s.Outbox, s.Purge, s.Usage, s.Fold, s.Touch, s.Close}
		by(b, s)
		return b
	}
}

// each makes an Apply that does something to every Op first.
func each(sound store.Store, do func(*quota.Op)) func(context.Context, []*quota.Op) error {
	return func(ctx context.Context, ops []*quota.Op) error {
		for _, o := range ops {
			do(o)
		}
		return sound.Apply(ctx, ops)
	}
}

// changed is a copy of the levels with other limits and buckets.
func changed(ls []*quota.Level, entry func(*quota.Entry), bucket int64) (out []*quota.Level) {
	for _, l := range ls {
		c := &quota.Level{Subject: l.Subject, Sequence: l.Sequence, Bucket: l.Bucket + bucket, From: l.From, Until: l.Until}
		c.Limits = append(c.Limits, l.Limits...)
		for i := range c.Limits {
			entry(&c.Limits[i])
		}
		out = append(out, c)
	}
	return out
}

type brokenStore struct {
	name, group, rule string
	open              func() store.Store
}

func brokenStores() []brokenStore {
	same := func(*quota.Entry) {}
	return []brokenStore{
		{"oversells by one", "Charge", "a limit holds exactly", breaking(func(b *broken, s store.Store) {
			b.apply = each(s, func(o *quota.Op) { o.Levels = changed(o.Levels, func(e *quota.Entry) { e.Max++ }, 0) })
		})},
		{"charges what it refuses", "Charge", "a refusal leaves nothing behind", breaking(func(b *broken, s store.Store) {
			b.apply = func(ctx context.Context, ops []*quota.Op) error {
				if err := s.Apply(ctx, ops); err != nil {
					return err
				}
				for _, o := range ops {
					if o.Result.Outcome == quota.Refused && len(o.Levels) > 1 {
						again := *o
						again.ID, again.Levels, again.Verb, again.TTL, again.Result = "", o.Levels[:1], quota.VerbCharge, 0, quota.Result{}
						_ = s.Apply(ctx, []*quota.Op{&again})
					}
				}
				return nil
			}
		})},
		{"stops at a bad operation", "Charge", "one bad operation never fails its neighbours", breaking(func(b *broken, s store.Store) {
			b.apply = func(ctx context.Context, ops []*quota.Op) error {
				for i := range ops {
					if err := s.Apply(ctx, ops[i:i+1]); err != nil || ops[i].Result.Outcome == quota.Failed {
						return err
					}
				}
				return nil
			}
		})},
		{"does not fold", "Usage", "between two edges everything is one row", breaking(func(b *broken, s store.Store) {
			b.usage = func(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
				if r.Check() == nil {
					r.Edges = nil
				}
				return s.Usage(ctx, r, fn)
			}
		})},
		{"finds 1000 subjects", "Usage", "every subject of a kind comes once, the deleted too", breaking(func(b *broken, s store.Store) {
			b.usage = func(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
				seen := map[quota.Subject]bool{}
				return s.Usage(ctx, r, func(row usage.Row) error {
					if seen[row.Subject] = true; len(seen) > 1000 && r.Kind != "" {
						return nil
					}
					return fn(row)
				})
			}
		})},
		{"forgets ids", "Idempotency", "the same id with the same fields gives the first result again", breaking(func(b *broken, s store.Store) {
			b.apply = each(s, func(o *quota.Op) {
				if o.Verb == quota.VerbCharge {
					o.ID = ""
				}
			})
		})},
		{"keeps ids for an hour", "Idempotency", "an id is remembered until Keep and no longer", breaking(func(b *broken, s store.Store) {
			b.apply = each(s, func(o *quota.Op) { o.Keep = o.At + int64(time.Hour/time.Microsecond) })
		})},
		{"aliases data", "Records", "what is read and what was written are copies", breaking(func(b *broken, s store.Store) {
			given := map[string][]byte{}
			b.lookup = func(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
				l, err := s.Lookup(ctx, org, kind, id)
				if err == nil && id == "k9" {
					if given[id] == nil {
						given[id] = l.Record.Data
					}
					l.Record.Data = given[id]
				}
				return l, err
			}
		})},
		{"folds case", "Records", "ids, names and data are kept byte for byte", breaking(func(b *broken, s store.Store) {
			b.lookup = func(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
				l, err := s.Lookup(ctx, org, kind, id)
				if err != nil {
					return s.Lookup(ctx, org, kind, strings.ToLower(id))
				}
				return l, err
			}
		})},
		{"keeps seconds", "Records", "times are UTC and cut to microseconds", breaking(func(b *broken, s store.Store) {
			b.write = func(ctx context.Context, x saccount.Batch) error {
				for i := range x.Changes {
					x.Changes[i].Record.Created = x.Changes[i].Record.Created.Truncate(time.Second)
				}
				return s.Write(ctx, x)
			}
		})},
		{"raises no settings", "Batch", "a batch that is not quiet raises the settings number by one", breaking(func(b *broken, s store.Store) {
			b.write = func(ctx context.Context, x saccount.Batch) error {
				for i := range x.Changes {
					x.Changes[i].Quiet = true
				}
				return s.Write(ctx, x)
			}
		})},
		{"writes a batch change by change", "Batch", "a batch is written wholly or not at all", breaking(func(b *broken, s store.Store) {
			b.write = func(ctx context.Context, x saccount.Batch) error {
				for _, c := range x.Changes {
					if err := s.Write(ctx, saccount.Batch{Org: x.Org, At: x.At, Changes: []saccount.Change{c}}); err != nil {
						return err
					}
				}
				return s.Write(ctx, saccount.Batch{Org: x.Org, At: x.At, Open: x.Open, Audit: x.Audit})
			}
		})},
		{"seals before it locks", "Race", "audit entries written at once make one chain", breaking(sealsBeforeItLocks)},
		{"cuts and forgets", "Audit", "a cut drops the front of the log, and its mark stays", breaking(func(b *broken, s store.Store) {
			b.write = func(ctx context.Context, x saccount.Batch) error {
				if x.Cut != nil {
					c := *x.Cut
					c.Seal = ""
					x.Cut = &c
				}
				return s.Write(ctx, x)
			}
		})},
		{"ignores the settings", "Settings", "a charge computed from records that moved is Stale and changes nothing", breaking(func(b *broken, s store.Store) {
			b.apply = func(ctx context.Context, ops []*quota.Op) error {
				for _, o := range ops {
					if l, err := s.Lookup(ctx, o.Org, saccount.KindOrg, o.Org); err == nil {
						o.Settings = l.Settings
					}
				}
				return s.Apply(ctx, ops)
			}
		})},
		{"finds keys of other organizations", "Lookup", "a key is found without its organization, and not in another", breaking(func(b *broken, s store.Store) {
			b.lookup = func(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
				if kind == saccount.KindKey {
					org = ""
				}
				return s.Lookup(ctx, org, kind, id)
			}
		})},
		{"gives a page's last record again", "List", "pages meet without gap or overlap, and more is told truly", breaking(func(b *broken, s store.Store) {
			b.list = func(ctx context.Context, q saccount.ListQuery) ([]saccount.Record, bool, error) {
				if n := len(q.After); n > 0 {
					q.After = q.After[:n-1]
				}
				return s.List(ctx, q)
			}
		})},
		{"never tells of more", "List", "pages meet without gap or overlap, and more is told truly", breaking(func(b *broken, s store.Store) {
			b.list = func(ctx context.Context, q saccount.ListQuery) ([]saccount.Record, bool, error) {
				page, _, err := s.List(ctx, q)
				return page, false, err
			}
		})},
		{"shows holds that are over", "Holds", "a reservation's time ends by itself", breaking(func(b *broken, s store.Store) {
			b.peek = func(ctx context.Context, org string, ls []*quota.Level, _ int64) ([]quota.Figure, error) {
				return s.Peek(ctx, org, ls, 0)
			}
		})},
		{"renews nothing", "Holds", "a renewal moves the end, never to an earlier instant", breaking(func(b *broken, s store.Store) {
			b.apply = each(s, func(o *quota.Op) {
				if o.Verb == quota.VerbRenew {
					o.TTL = 1
				}
			})
		})},
		{"shows blocks that are over as living", "Blocks", "a block whose time is over is stranded, not free, to the end of its last window", breaking(func(b *broken, s store.Store) {
			b.peek = func(ctx context.Context, org string, ls []*quota.Level, _ int64) ([]quota.Figure, error) {
				return s.Peek(ctx, org, ls, 0)
			}
		})},
		{"keeps blocks whatever was edited", "Blocks", "a settlement that keeps the block names the settings number, one that ends it none", breaking(func(b *broken, s store.Store) {
			b.apply = each(s, func(o *quota.Op) {
				if l, err := s.Lookup(context.Background(), o.Org, saccount.KindOrg, o.Org); err == nil && o.Verb == quota.VerbSettle {
					o.Settings = l.Settings
				}
			})
		})},
		{"settles by hand what lives", "Blocks", "where a limit never resets a stranded block stays until it is settled by hand", breaking(func(b *broken, s store.Store) {
			b.apply = each(s, func(o *quota.Op) {
				if o.Verb == quota.VerbSettle && o.Seq == 0 {
					o.Seq = 1 << 40
				}
			})
		})},
		{"refunds where it stands", "Refunds", "a refund gives back at every level, in parts, never more than was charged", breaking(func(b *broken, s store.Store) {
			b.apply = each(s, func(o *quota.Op) {
				if o.Verb == quota.VerbRefund && o.Amount > 0 {
					o.Amount--
				}
			})
		})},
		{"opens nothing", "Openings", "a shorter period grants no more than the old limit had left", breaking(func(b *broken, s store.Store) {
			b.write = func(ctx context.Context, x saccount.Batch) error { x.Open = nil; return s.Write(ctx, x) }
		})},
		{"books a quarter of an hour late", "Usage", "everything is booked in its quarter of an hour", breaking(func(b *broken, s store.Store) {
			b.apply = each(s, func(o *quota.Op) { o.Levels = changed(o.Levels, same, int64(quota.BucketWidth/time.Microsecond)) })
		})},
		{"folds only half", "Fold", "folding loses no credit and no request", breaking(func(b *broken, s store.Store) {
			b.fold = func(ctx context.Context, org string, days []int64, most int) (int, error) {
				if len(days) > 2 {
					days = days[:len(days)-1]
				}
				return s.Fold(ctx, org, days, most)
			}
		})},
		{"loses an alert", "Alerts", "a threshold that is passed alerts, once, with what was passed", breaking(func(b *broken, s store.Store) {
			b.outbox = func(ctx context.Context, after int64, n int) ([]quota.Alert, error) {
				return s.Outbox(ctx, max(1, after), n)
			}
		})},
		{"posts again", "Deliveries", "an alert is posted once under its id", breaking(func(b *broken, s store.Store) {
			b.write = func(ctx context.Context, x saccount.Batch) error {
				x.Alerts = slices.Clone(x.Alerts)
				for i := range x.Alerts {
					x.Alerts[i].Alert.ID = ""
				}
				return s.Write(ctx, x)
			}
		})},
		{"posts what was quiet", "Deliveries", "an id that is posted quietly alerts nobody, then or later", breaking(func(b *broken, s store.Store) {
			b.write = func(ctx context.Context, x saccount.Batch) error {
				x.Alerts = slices.Clone(x.Alerts)
				for i := range x.Alerts {
					x.Alerts[i].Quiet = false
				}
				return s.Write(ctx, x)
			}
		})},
		{"dispatches twice", "Deliveries", "alerts are dispatched by one of many, all or none", opening(func(s store.Store) store.Store { return dispatchesTwice{s} })},
		{"claims what others have", "Deliveries", "a delivery is claimed by one of many until its time is over", opening(func(s store.Store) store.Store { return claimsAgain{s} })},
		{"lets the dead settle", "Deliveries", "whoever claimed last settles", opening(func(s store.Store) store.Store { return settlesAnyhow{s} })},
		{"gives everybody the turn", "Deliveries", "a turn is had by one of many, until it is over", opening(func(s store.Store) store.Store { return givesTurns{s} })},
		{"names no sink behind the first page", "Deliveries", "sinks with something due are named page by page", opening(func(s store.Store) store.Store { return namesOnePage{s} })},
		{"lists alerts of everybody", "Deliveries", "alerts of an organization, and of whom they are about, are listed the newest first", opening(func(s store.Store) store.Store { return listsEverybody{s} })},
		{"forgets deliveries that were replayed", "Deliveries", "deliveries of one sink are listed the newest first, in each state", opening(func(s store.Store) store.Store { return forgetsReplays{s} })},
		{"lists deliveries of the first alert alone", "Deliveries", "deliveries of alerts that are named are listed", opening(func(s store.Store) store.Store { return listsOne{s} })},
		{"decides before it locks", "Race", "of 1 credits, 1000 calls of 1 by 1000 workers are admitted exactly", breaking(decidesBeforeItLocks)},
		{"turns the last use back", "Upkeep", "uses noted at once leave the newest", breaking(func(b *broken, s store.Store) {
			b.touch = func(ctx context.Context, ts []saccount.Touch) error {
				for i := range ts {
					ts[i].Use.At = ts[i].Use.At.Truncate(time.Minute)
				}
				return s.Touch(ctx, ts)
			}
		})},
		{"purges what is remembered", "Purge", "an id that is over is dropped, one that is remembered stays", breaking(func(b *broken, s store.Store) {
			b.purge = func(ctx context.Context, p saccount.Purge) (int, error) {
				if !p.Receipts.IsZero() {
					p.Receipts = p.Receipts.Add(time.Hour)
				}
				return s.Purge(ctx, p)
			}
		})},
		{"ignores contexts", "Context", "a context that is over before the call does nothing", breaking(func(b *broken, s store.Store) {
			b.apply = func(ctx context.Context, ops []*quota.Op) error { return s.Apply(context.WithoutCancel(ctx), ops) }
		})},
		{"serves after Close", "Close", "after Close every call is ErrClosed", breaking(func(b *broken, _ store.Store) {
			b.close = func() error { return nil }
		})},
		{"forgets the excess of a commit", "Model", "a random history comes out as a plain model of it", breaking(func(b *broken, s store.Store) {
			b.apply = each(s, func(o *quota.Op) {
				if o.Verb == quota.VerbCommit && o.Amount > 30 {
					o.Amount--
				}
			})
		})},
		{"forgets all when it is closed", "Persistent", "counters, usage and settings are there after reopening", func() store.Store { return memstore.New() }},
	}
}

// sealsBeforeItLocks reads where the log ends and appends later. The first two
// that append are held until both have read.
func sealsBeforeItLocks(b *broken, s store.Store) {
	var read atomic.Int32
	second := make(chan struct{})
	b.write = func(ctx context.Context, x saccount.Batch) error {
		if x.Seal == nil {
			return s.Write(ctx, x)
		}
		_, head, err := s.AuditEnds(ctx, x.Org)
		if err != nil {
			return err
		}
		switch read.Add(1) {
		case 1:
			<-second
		case 2:
			close(second)
		}
		seal, first := x.Seal, true
		x.Seal = func(prev string, e *saccount.Entry) string {
			if first {
				prev, first = head.Mark, false
			}
			return seal(prev, e)
		}
		return s.Write(ctx, x)
	}
}

// decidesBeforeItLocks looks whether there is room and then spends without
// looking again, as a read and a write in two transactions do. The first two
// charges that look are held until both have looked.
func decidesBeforeItLocks(b *broken, s store.Store) {
	var looked atomic.Int32
	second := make(chan struct{})
	b.apply = func(ctx context.Context, ops []*quota.Op) error {
		for _, o := range ops {
			if o.Verb != quota.VerbCharge || o.ID != "" {
				continue
			}
			figures, err := s.Peek(ctx, o.Org, changed(o.Levels, func(*quota.Entry) {}, 0), o.At)
			if err != nil {
				return err
			}
			switch looked.Add(1) {
			case 1:
				<-second
			case 2:
				close(second)
			}
			room := true
			for _, f := range figures {
				room = room && o.Amount <= f.Remaining()
			}
			if room {
				o.Levels = changed(o.Levels, func(e *quota.Entry) { e.Soft = true }, 0)
			}
		}
		return s.Apply(ctx, ops)
	}
}

// opening makes stores that are sound but for what by puts around them.
func opening(by func(store.Store) store.Store) func() store.Store {
	return func() store.Store { return by(wrapper{memstore.New()}) }
}

type dispatchesTwice struct{ store.Store }

func (s dispatchesTwice) Dispatch(ctx context.Context, from, to int64, ds []alert.Delivery) error {
	have, err := s.Dispatched(ctx)
	if err == nil && have > from {
		from = have
	}
	return s.Store.Dispatch(ctx, from, max(from, to), ds)
}

type claimsAgain struct{ store.Store }

func (s claimsAgain) ClaimDeliveries(ctx context.Context, sink string, now, until int64, n int) ([]alert.Delivery, error) {
	return s.Store.ClaimDeliveries(ctx, sink, until-1, until, n)
}

type settlesAnyhow struct{ store.Store }

func (s settlesAnyhow) SettleDeliveries(ctx context.Context, ds []alert.Delivery) (int, error) {
	all, err := s.Deliveries(ctx, alert.Query{N: alert.MaxPage})
	if err != nil {
		return 0, err
	}
	ds = slices.Clone(ds)
	for i := range ds {
		for j := range all {
			if all[j].Alert.Seq == ds[i].Alert.Seq && all[j].Sink == ds[i].Sink {
				ds[i].Attempt = all[j].Attempt
			}
		}
	}
	return s.Store.SettleDeliveries(ctx, ds)
}

type givesTurns struct{ store.Store }

func (givesTurns) Turn(context.Context, string, int64, int64) (bool, error) { return true, nil }

type listsEverybody struct{ store.Store }

func (s listsEverybody) Alerts(ctx context.Context, q alert.Recent) ([]quota.Alert, error) {
	if len(q.Subjects) > 0 && q.Org == "other" {
		q.Org = "acme"
	}
	return s.Store.Alerts(ctx, q)
}

type forgetsReplays struct{ store.Store }

func (s forgetsReplays) Deliveries(ctx context.Context, q alert.Query) ([]alert.Delivery, error) {
	ds, err := s.Store.Deliveries(ctx, q)
	if q.Newest {
		ds = slices.DeleteFunc(ds, func(d alert.Delivery) bool { return d.State == alert.Pending && d.Error != "" })
	}
	return ds, err
}

type listsOne struct{ store.Store }

func (s listsOne) Deliveries(ctx context.Context, q alert.Query) ([]alert.Delivery, error) {
	if len(q.Seqs) > 1 {
		q.Seqs = q.Seqs[:1]
	}
	return s.Store.Deliveries(ctx, q)
}

type namesOnePage struct{ store.Store }

func (s namesOnePage) DueSinks(ctx context.Context, now int64, after string, n int) ([]string, error) {
	if after != "" {
		return nil, nil
	}
	return s.Store.DueSinks(ctx, now, after, n)
}
