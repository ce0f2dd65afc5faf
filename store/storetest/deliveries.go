package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func deliveries() []guarantee {
	return []guarantee{
		{"a posted alert is in the outbox with the change it came with, or neither is", "an alert of a change that failed is a lie, a change without its alert is silent", postWhole},
		{"an alert is posted once under its id", "a sweep that looks every hour must not tell every hour", postOnce},
		{"an id that is posted quietly alerts nobody, then or later", "the first address of a key is news to nobody", postQuiet},
		{"alerts alone raise no settings number and touch no record", "a sweep must not make charges read the records anew", postLight},
		{"an id that is over is forgotten, one that is remembered stays", "the memory of alerts must not grow for ever", postForgotten},
		{"alerts are dispatched by one of many, all or none", "two who dispatch at once must not send twice", dispatchOnce},
		{"a delivery is claimed by one of many until its time is over", "several processes share the outbox", claimOnce},
		{"the oldest that is due is claimed first, no more than asked for", "an alert must not wait behind those that came later", claimOrder},
		{"whoever claimed last settles", "a process that was thought dead must not undo what another did", settleFence},
		{"sinks with something due are named page by page", "a sink that is slow must not hide another", dueSinks},
		{"deliveries are listed by what is asked for, page by page", "dead letters are looked for among many", listDeliveries},
		{"alerts of an organization, and of whom they are about, are listed the newest first", "people look at what came last, and at one account's", listAlerts},
		{"deliveries of one sink are listed the newest first, in each state", "whoever looks after a webhook looks at what failed last", listNewest},
		{"deliveries of alerts that are named are listed", "a list of alerts says what became of each", listOf},
		{"purging alerts drops their deliveries", "what was sent long ago is of no use", purgeDeliveries},
		{"a turn is had by one of many, until it is over", "one process of many does each sweep", turns},
	}
}

func post(id, sub string) alert.Post {
	return alert.Post{Alert: quota.Alert{Kind: "unused", ID: id, Subject: quota.Subject(sub), At: noon, Data: `{"days":"30"}`, Used: 5, Max: 6, Start: 1, End: 2}, Keep: noon + 400*day}
}

func (k *kit) posts(org string, ps ...alert.Post) {
	k.t.Helper()
	k.must(k.Write(background(), saccount.Batch{Org: org, At: at(noon), Alerts: ps}), "post alerts")
}

func postWhole(k *kit) {
	k.tree()
	b := changes(k.get(saccount.KindKey, "k1"))
	b.Alerts = []alert.Post{post("a", "key:k1"), post("", "key:k1"), post("", "key:k1")}
	b.Audit = []saccount.Entry{{At: at(noon), Data: []byte("x")}}
	k.must(k.Write(background(), b), "write")
	got := k.outbox()
	if len(got) != 3 {
		k.fatalf("%d alerts, want 3", len(got))
	}
	want := post("a", "key:k1").Alert
	want.Org, want.Seq = acme, got[0].Seq
	same(k, "the alert", got[0], want)
	k.is(k.Write(background(), b), saccount.ErrConflict, "write at an old revision")
	same(k, "alerts after a write that failed", len(k.outbox()), 3)
	k.refresh()
	k.run(quota.Applied, k.charge(noon, "", 60, level(key1, noon, watched(never(100)))))
	all := k.outbox()
	same(k, "kinds in order", []string{all[0].Kind, all[3].Kind}, []string{"unused", ""})
	if all[3].Seq <= all[2].Seq {
		k.failf("a threshold's alert comes before the posted ones")
	}
}

func postOnce(k *kit) {
	k.tree()
	k.posts(acme, post("a", "key:k1"), post("a", "key:k1"), post("b", "key:k1"))
	k.posts(acme, post("a", "key:k2"))
	k.posts("other", post("a", "key:x1"))
	same(k, "alerts", len(k.outbox()), 3)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := k.Write(background(), saccount.Batch{Org: acme, At: at(noon), Alerts: []alert.Post{post("c", "key:k1"), post("d", "key:k1")}}); err != nil {
				k.failf("post: %v", err)
			}
		})
	}
	wg.Wait()
	same(k, "alerts of eight who posted two at once", len(k.outbox()), 5)
	k.purge(saccount.Purge{Alerts: at(noon + day), Most: 100})
	k.posts(acme, post("a", "key:k1"))
	same(k, "alerts that were delivered, and came again", len(k.outbox()), 0)
}

func postQuiet(k *kit) {
	k.tree()
	q := post("a", "key:k1")
	q.Quiet = true
	k.posts(acme, q)
	same(k, "alerts", len(k.outbox()), 0)
	k.posts(acme, post("a", "key:k1"), post("b", "key:k1"))
	same(k, "alerts", len(k.outbox()), 1)
}

func postLight(k *kit) {
	k.tree()
	n, r := k.number(), k.get(saccount.KindKey, "k1")
	audits := len(k.audits())
	k.posts(acme, post("a", "key:k1"))
	same(k, "settings number", k.number(), n)
	same(k, "record", k.get(saccount.KindKey, "k1"), r)
	same(k, "audit entries", len(k.audits()), audits)
	k.run(quota.Applied, k.charge(noon, "", 1, chain(noon)...))
	k.is(k.Write(background(), saccount.Batch{At: at(noon), Alerts: []alert.Post{post("b", "key:k1")}}), saccount.ErrInvalid, "post without an organization")
}

func postForgotten(k *kit) {
	k.tree()
	early, late := post("early", "key:k1"), post("late", "key:k1")
	early.Keep, late.Keep = noon+day, noon+day+1
	k.posts(acme, early, late)
	same(k, "forgotten", k.purge(saccount.Purge{Posts: at(noon + day), Most: 10}), 1)
	k.posts(acme, early, late)
	same(k, "alerts", len(k.outbox()), 3)
}

// put puts up n alerts and a delivery of each to each of the sinks.
func (k *kit) up(n int, sinks ...string) {
	k.t.Helper()
	from, err := k.Dispatched(background())
	k.must(err, "dispatched")
	for range n {
		k.posts(acme, post("", "key:k1"))
	}
	var ds []alert.Delivery
	to := from
	for _, a := range k.outbox() {
		if a.Seq <= from {
			continue
		}
		to = a.Seq
		for _, s := range sinks {
			ds = append(ds, delivery(a.Seq, s, noon))
		}
	}
	k.must(k.Dispatch(background(), from, to, ds), "dispatch")
}

func delivery(seq int64, sink string, next int64) alert.Delivery {
	return alert.Delivery{Alert: quota.Alert{Seq: seq}, Sink: sink, State: alert.Pending, Next: next, At: noon}
}

func (k *kit) claim(sink string, now, until int64, n int) []alert.Delivery {
	k.t.Helper()
	ds, err := k.ClaimDeliveries(background(), sink, now, until, n)
	k.must(err, "claim")
	return ds
}

func (k *kit) sent(q alert.Query) (out []alert.Delivery) {
	k.t.Helper()
	for {
		page, err := k.Deliveries(background(), q)
		k.must(err, "list deliveries")
		if len(page) == 0 {
			return out
		}
		if len(page) > q.N {
			k.fatalf("a page of %d where %d were asked for", len(page), q.N)
		}
		out = append(out, page...)
		last := page[len(page)-1]
		if last.Alert.Seq < q.AfterSeq || last.Alert.Seq == q.AfterSeq && last.Sink <= q.AfterSink {
			k.fatalf("a page does not go on behind its cursor")
		}
		q.AfterSeq, q.AfterSink = last.Alert.Seq, last.Sink
	}
}

func dispatchOnce(k *kit) {
	k.tree()
	k.posts(acme, post("", "key:k1"))
	seq := k.outbox()[0].Seq
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range 8 {
		wg.Go(func() {
			err := k.Dispatch(background(), 0, seq, []alert.Delivery{delivery(seq, "log", noon), delivery(seq, "mail", noon)})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				done++
			} else if !isAny(err, alert.ErrMoved) {
				k.failf("dispatch: %v", err)
			}
		})
	}
	wg.Wait()
	same(k, "who dispatched", done, 1)
	same(k, "deliveries", len(k.sent(alert.Query{N: 10})), 2)
	to, err := k.Dispatched(background())
	k.must(err, "dispatched")
	same(k, "dispatched", to, seq)
	// What is there stays as it is; what is new is put up beside it.
	got := k.claim("log", noon, noon+minute, 10)
	got[0].State, got[0].At = alert.Delivered, noon+1
	_, err = k.SettleDeliveries(background(), got)
	k.must(err, "settle")
	k.must(k.Dispatch(background(), seq, seq, []alert.Delivery{delivery(seq, "log", noon), delivery(seq, "new", noon)}), "dispatch again")
	same(k, "delivered", len(k.sent(alert.Query{State: alert.Delivered, N: 10})), 1)
	same(k, "deliveries", len(k.sent(alert.Query{N: 10})), 3)
	for _, bad := range []alert.Delivery{{}, delivery(0, "log", 0), delivery(seq+1, "log", 0), delivery(seq, "", 0), delivery(seq, strings.Repeat("x", 256), 0)} {
		k.is(k.Dispatch(background(), seq, seq, []alert.Delivery{bad}), quota.ErrInvalid, "dispatch what no store takes")
	}
	k.is(k.Dispatch(background(), seq, seq-1, nil), quota.ErrInvalid, "dispatch backwards")
	// What was purged meanwhile is passed over.
	k.purge(saccount.Purge{Alerts: at(noon + day), Most: 10})
	k.must(k.Dispatch(background(), seq, seq, []alert.Delivery{delivery(seq, "log", noon)}), "dispatch what was purged")
	same(k, "deliveries", len(k.sent(alert.Query{N: 10})), 0)
}

func claimOnce(k *kit) {
	k.tree()
	k.up(40, "log")
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[int64]int{}
	for range 8 {
		wg.Go(func() {
			for {
				ds, err := k.ClaimDeliveries(background(), "log", noon, noon+minute, 3)
				if err != nil {
					k.failf("claim: %v", err)
				}
				if len(ds) == 0 {
					return
				}
				mu.Lock()
				for _, d := range ds {
					got[d.Alert.Seq]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	same(k, "alerts that were claimed", len(got), 40)
	for seq, n := range got {
		if n != 1 {
			k.failf("alert %d was claimed %d times", seq, n)
		}
	}
	same(k, "claims before their end", len(k.claim("log", noon+minute-1, noon+hour, 100)), 0)
	again := k.claim("log", noon+minute, noon+hour, 100)
	same(k, "claims of what was given up", len(again), 40)
	d := again[0]
	want := delivery(d.Alert.Seq, "log", noon+hour)
	want.Alert, want.Attempt, want.Tries = d.Alert, 2, 2
	same(k, "the claim", d, want)
	same(k, "its alert", d.Alert.Kind+d.Alert.Org+d.Alert.Data, "unused"+acme+`{"days":"30"}`)
}

func claimOrder(k *kit) {
	k.tree()
	k.up(5, "log")
	ds := k.claim("log", noon, noon+minute, 10)
	for i := range ds {
		ds[i].Next = noon + int64(10-i)
	}
	_, err := k.SettleDeliveries(background(), ds)
	k.must(err, "settle")
	same(k, "before the first is due", len(k.claim("log", noon+5, noon+minute, 10)), 0)
	var order []int64
	for range 3 {
		for _, d := range k.claim("log", noon+10, noon+minute, 2) {
			order = append(order, d.Alert.Seq)
		}
	}
	want := []int64{ds[4].Alert.Seq, ds[3].Alert.Seq, ds[2].Alert.Seq, ds[1].Alert.Seq, ds[0].Alert.Seq}
	// Within a claim of two, either order will do.
	for i := 0; i+1 < len(order); i += 2 {
		if order[i] < order[i+1] {
			order[i], order[i+1] = order[i+1], order[i]
		}
	}
	same(k, "claims in order of their time", order, want)
	same(k, "of a sink that is not there", len(k.claim("nobody", noon+10, noon+minute, 2)), 0)
	same(k, "of none", len(k.claim("log", noon+hour, noon+2*hour, 0)), 0)
}

func settleFence(k *kit) {
	k.tree()
	k.up(1, "log")
	first := k.claim("log", noon, noon+1, 1)
	second := k.claim("log", noon+1, noon+2, 1)
	first[0].State, first[0].Error = alert.Dead, "late"
	n, err := k.SettleDeliveries(background(), first)
	k.must(err, "settle")
	same(k, "settled by who had it before", n, 0)
	second[0].State, second[0].At, second[0].Tries, second[0].Next, second[0].Error = alert.Dead, noon+5, 0, noon+7, "refused"
	n, err = k.SettleDeliveries(background(), append(second, delivery(999, "log", 0)))
	k.must(err, "settle")
	same(k, "settled", n, 1)
	same(k, "the delivery", k.sent(alert.Query{N: 5}), second)
	same(k, "claims of a dead letter", len(k.claim("log", noon+hour, noon+day, 5)), 0)
	due, err := k.DueSinks(background(), noon+hour, "", 5)
	k.must(err, "due sinks")
	same(k, "due sinks", len(due), 0)
	second[0].State = alert.Pending // replayed
	_, err = k.SettleDeliveries(background(), second)
	k.must(err, "settle")
	third := k.claim("log", noon+hour, noon+day, 5)
	if len(third) != 1 || third[0].Attempt != 3 || third[0].Tries != 1 {
		k.failf("a dead letter that was replayed is claimed as %+v", third)
	}
}

func dueSinks(k *kit) {
	k.tree()
	var sinks []string
	for i := range 9 {
		sinks = append(sinks, fmt.Sprint("s", i, strings.Repeat("x", 9-i))) // of many lengths
	}
	k.up(3, sinks...)
	k.claim(sinks[4], noon, noon+minute, 9) // has nothing due
	var got []string
	for after := ""; ; {
		page, err := k.DueSinks(background(), noon, after, 2)
		k.must(err, "due sinks")
		if len(page) == 0 {
			break
		}
		if len(page) > 2 || slices.Contains(got, page[0]) {
			k.fatalf("pages of due sinks: %v after %v", page, got)
		}
		got = append(got, page...)
		after = page[len(page)-1]
	}
	slices.Sort(got)
	same(k, "due sinks", got, slices.Delete(slices.Clone(sinks), 4, 5))
	early, err := k.DueSinks(background(), noon-1, "", 99)
	k.must(err, "due sinks")
	same(k, "before they are due", len(early), 0)
	late, err := k.DueSinks(background(), noon+minute, "", 99)
	k.must(err, "due sinks")
	same(k, "after they are due", len(late), 9)
}

func listDeliveries(k *kit) {
	k.tree()
	k.up(6, "log", "mail", "org/hook")
	k.posts("other", post("", "key:x1"))
	all := k.outbox()
	seq := all[len(all)-1].Seq
	from, err := k.Dispatched(background())
	k.must(err, "dispatched")
	k.must(k.Dispatch(background(), from, seq, []alert.Delivery{delivery(seq, "log", noon)}), "dispatch")
	dead := k.claim("mail", noon, noon+minute, 4)
	for i := range dead {
		dead[i].State = alert.Dead
	}
	_, err = k.SettleDeliveries(background(), dead)
	k.must(err, "settle")
	for _, c := range []struct {
		q    alert.Query
		want int
	}{
		{alert.Query{}, 19}, {alert.Query{Org: acme}, 18}, {alert.Query{Org: "other"}, 1}, {alert.Query{Sink: "mail"}, 6}, {alert.Query{State: alert.Dead}, 4},
		{alert.Query{State: alert.Dead, Sink: "log"}, 0}, {alert.Query{State: alert.Pending, Org: acme, Sink: "mail"}, 2}, {alert.Query{Org: "nobody"}, 0},
	} {
		for _, n := range []int{1, 4, 100} {
			c.q.N = n
			got := k.sent(c.q)
			same(k, fmt.Sprintf("deliveries of %+v", c.q), len(got), c.want)
			for i := range got {
				q := c.q
				if !q.Match(&got[i]) || got[i].Alert.Kind != "unused" {
					k.failf("%+v is not what %+v asks for", got[i], c.q)
				}
			}
		}
	}
	for _, n := range []int{0, -1, alert.MaxPage + 1} {
		_, err := k.Deliveries(background(), alert.Query{N: n})
		k.is(err, quota.ErrInvalid, "a page of no size")
	}
}

func purgeDeliveries(k *kit) {
	k.tree()
	k.up(3, "log", "mail")
	k.claim("log", noon, noon+minute, 2)
	k.posts("other", post("", "key:x1"))
	if n := k.purge(saccount.Purge{Alerts: at(noon + 1), Most: 2}); n != 4 {
		k.failf("dropped %d alerts, want 4", n)
	}
	same(k, "deliveries", len(k.sent(alert.Query{N: 10})), 0)
	same(k, "claims", len(k.claim("mail", noon+hour, noon+day, 10)), 0)
	due, err := k.DueSinks(background(), noon+hour, "", 10)
	k.must(err, "due sinks")
	same(k, "due sinks", len(due), 0)
	to, err := k.Dispatched(background())
	k.must(err, "dispatched")
	if to < 3 {
		k.failf("the number that was dispatched turned back to %d", to)
	}
}

func turns(k *kit) {
	turn := func(name string, now, until int64) bool {
		k.t.Helper()
		ok, err := k.Turn(background(), name, now, until)
		k.must(err, "turn")
		return ok
	}
	same(k, "the first", turn("keys", noon, noon+hour), true)
	same(k, "another", turn("keys", noon+hour-1, noon+2*hour-1), false)
	same(k, "of another name", turn("hours", noon+1, noon+hour+1), true)
	same(k, "when it is over", turn("keys", noon+hour, noon+2*hour), true)
	same(k, "where the clock was turned back", turn("keys", noon-day, noon-day+hour), true)
	var wg sync.WaitGroup
	var mu sync.Mutex
	had := 0
	for i := range int64(8) {
		wg.Go(func() {
			ok, err := k.Turn(background(), "race", noon+i, noon+i+hour)
			if err != nil {
				k.failf("turn: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if ok {
				had++
			}
		})
	}
	wg.Wait()
	same(k, "who had the turn by clocks that differ", had, 1)
	had = 0
	for range 8 {
		wg.Go(func() {
			ok, err := k.Turn(background(), "same", noon, noon+hour)
			if err != nil {
				k.failf("turn: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if ok {
				had++
			}
		})
	}
	wg.Wait()
	same(k, "who had the turn at the same moment", had, 1)
}

func keepDeliveries(k *kit) {
	k.tree()
	k.up(3, "log", "mail")
	k.posts(acme, post("a", "key:k1"))
	got := k.claim("log", noon, noon+minute, 2)
	got[0].State, got[0].At = alert.Delivered, noon+1
	got[1].State, got[1].Error = alert.Dead, "no"
	_, err := k.SettleDeliveries(background(), got)
	k.must(err, "settle")
	_, err = k.Turn(background(), "keys", noon, noon+hour)
	k.must(err, "turn")
	before, outbox := k.sent(alert.Query{N: 10}), k.outbox()
	to, err := k.Dispatched(background())
	k.must(err, "dispatched")
	k.reopen()
	same(k, "deliveries", k.sent(alert.Query{N: 10}), before)
	same(k, "alerts", k.outbox(), outbox)
	again, err := k.Dispatched(background())
	k.must(err, "dispatched")
	same(k, "dispatched", again, to)
	k.posts(acme, post("a", "key:k1"))
	same(k, "alerts after the same id", len(k.outbox()), len(outbox))
	ok, err := k.Turn(background(), "keys", noon+1, noon+hour+1)
	k.must(err, "turn")
	same(k, "the turn", ok, false)
	same(k, "claims of log", len(k.claim("log", noon+hour, noon+day, 9)), 1)
	same(k, "claims of mail", len(k.claim("mail", noon+hour, noon+day, 9)), 3)
}
