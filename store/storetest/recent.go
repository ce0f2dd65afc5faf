package storetest

import (
	"fmt"
	"math"
	"slices"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// recent is what a listing gives in all, page by page.
func (k *kit) recent(q alert.Recent) (out []quota.Alert) {
	k.t.Helper()
	for {
		page, err := k.Alerts(background(), q)
		k.must(err, "list alerts")
		if len(page) == 0 {
			return out
		}
		if len(page) > q.N {
			k.fatalf("a page of %d where %d were asked for", len(page), q.N)
		}
		for i := range page {
			if !q.Match(&page[i]) {
				k.fatalf("%+v is not what %+v asks for", page[i], q)
			}
			q.Before = page[i].Seq // so that the next is older, in this page too
		}
		out = append(out, page...)
	}
}

// newestFirst are those of the outbox that pass, turned round.
func newestFirst(all []quota.Alert, pass func(quota.Alert) bool) []quota.Alert {
	out := slices.DeleteFunc(slices.Clone(all), func(a quota.Alert) bool { return !pass(a) })
	slices.Reverse(out)
	return append([]quota.Alert(nil), out...) // nil where there are none
}

func listAlerts(k *kit) {
	k.tree()
	for i := range 9 {
		p := post("", []string{"key:k1", "key:k2", "account:sa1"}[i%3])
		p.Alert.At += int64(i) * minute
		k.posts(acme, p)
		if i%2 == 0 {
			p.Alert.Subject = "key:k1"
			k.posts("other", p)
		}
	}
	k.run(quota.Applied, k.charge(noon+day, "", 60, level(key1, noon+day, watched(never(100))))) // a threshold's, beside those that were posted
	all := k.outbox()
	for _, c := range []struct {
		org      string
		subjects []quota.Subject
	}{
		{acme, nil}, {"other", nil}, {"nobody", nil}, {acme, []quota.Subject{"key:k2"}}, {acme, []quota.Subject{"key:k2", "account:sa1", "key:k2", "key:none"}}, {acme, []quota.Subject{key1}},
		{"other", []quota.Subject{"account:sa1"}}, {acme, []quota.Subject{"key:k"}}, {acme, []quota.Subject{"key:"}},
	} {
		want := newestFirst(all, func(a quota.Alert) bool {
			return a.Org == c.org && (len(c.subjects) == 0 || slices.Contains(c.subjects, a.Subject))
		})
		for _, n := range []int{1, 4, alert.MaxPage} {
			same(k, fmt.Sprintf("alerts of %s about %v, %d a page", c.org, c.subjects, n), k.recent(alert.Recent{Org: c.org, Subjects: c.subjects, N: n}), want)
		}
	}
	same(k, "alerts before the first", len(k.recent(alert.Recent{Org: acme, Before: 1, N: 5})), 0)
	k.purge(saccount.Purge{Alerts: at(noon + 3*minute), Most: 2})
	kept := k.outbox()
	same(k, "alerts that were not purged", len(kept), len(all)-5)
	same(k, "alerts", k.recent(alert.Recent{Org: acme, N: 3}), newestFirst(kept, func(a quota.Alert) bool { return a.Org == acme }))
	same(k, "alerts of a key", k.recent(alert.Recent{Org: acme, Subjects: []quota.Subject{"key:k1"}, N: 3}), newestFirst(kept, func(a quota.Alert) bool { return a.Org == acme && a.Subject == "key:k1" }))
	for _, q := range []alert.Recent{{Org: acme}, {N: 1}, {Org: acme, N: alert.MaxPage + 1}, {Org: acme, N: 1, Subjects: make([]quota.Subject, alert.MaxSubjects+1)}} {
		_, err := k.Alerts(background(), q)
		k.is(err, quota.ErrInvalid, "a listing of no size, no organization or too many subjects")
	}
}

// settled claims so many deliveries of a sink and says what became of them.
func (k *kit) settled(sink string, n int, state alert.State) {
	k.t.Helper()
	ds := k.claim(sink, noon, noon+minute, n)
	for i := range ds {
		ds[i].State, ds[i].Error = state, "because"
	}
	_, err := k.SettleDeliveries(background(), ds)
	k.must(err, "settle")
}

func listNewest(k *kit) {
	k.tree()
	k.up(9, "log", "mail")
	k.settled("mail", 4, alert.Dead)
	k.settled("mail", 3, alert.Delivered)
	k.settled("log", 9, alert.Delivered)
	check := func() {
		k.t.Helper()
		all := k.sent(alert.Query{N: 100})
		for _, q := range []alert.Query{
			{Sink: "mail"}, {Sink: "log"}, {Sink: "none"}, {Sink: "mail", State: alert.Dead}, {Sink: "mail", State: alert.Pending}, {Sink: "mail", State: alert.Delivered, Org: acme},
			{Sink: "log", State: alert.Dead}, {Sink: "mail", Org: "other"}, {Sink: "mai"},
		} {
			want := slices.DeleteFunc(slices.Clone(all), func(d alert.Delivery) bool { return !q.Match(&d) })
			slices.Reverse(want)
			for _, n := range []int{1, 2, 100} {
				q.Newest, q.N, q.AfterSeq = true, n, 0
				var got []alert.Delivery
				for {
					page, err := k.Deliveries(background(), q)
					k.must(err, "list deliveries")
					if len(page) == 0 {
						break
					}
					got = append(got, page...)
					q.AfterSeq = page[len(page)-1].Alert.Seq
					if len(page) > n || len(got) > len(want) {
						k.fatalf("%d deliveries, %d in a page, of %+v", len(got), len(page), q)
					}
				}
				same(k, fmt.Sprintf("deliveries of %+v", q), got, append([]alert.Delivery(nil), want...))
			}
		}
	}
	check()
	// What is replayed is pending, and what is purged is gone.
	dead := k.sent(alert.Query{Sink: "mail", State: alert.Dead, N: 100})
	for i := range dead {
		dead[i].State, dead[i].Next = alert.Pending, noon
	}
	_, err := k.SettleDeliveries(background(), dead[:2])
	k.must(err, "settle")
	check()
	k.purge(saccount.Purge{Alerts: at(noon + 1), Most: 6})
	check()
	_, err = k.Deliveries(background(), alert.Query{Newest: true, N: 1})
	k.is(err, quota.ErrInvalid, "the newest of no sink")
}

func listOf(k *kit) {
	k.tree()
	k.up(5, "log", "mail")
	k.settled("mail", 2, alert.Dead)
	all := k.outbox()
	for _, q := range []alert.Query{
		{Seqs: []int64{all[1].Seq, all[3].Seq}}, {Seqs: []int64{all[3].Seq, all[1].Seq, all[1].Seq}, Org: acme}, {Seqs: []int64{all[0].Seq}, Sink: "mail"}, {Seqs: []int64{all[0].Seq}, State: alert.Dead},
		{Seqs: []int64{all[0].Seq}, Org: "other"}, {Seqs: []int64{math.MaxInt64, -1}}, {Seqs: []int64{all[0].Seq, all[4].Seq}, Sink: "mail", Newest: true},
	} {
		q.N = 100
		if q.Newest {
			got, err := k.Deliveries(background(), q)
			k.must(err, "list deliveries")
			same(k, "deliveries of two alerts, the newest first", []int64{got[0].Alert.Seq, got[1].Alert.Seq}, []int64{all[4].Seq, all[0].Seq})
			continue
		}
		whole := k.sent(alert.Query{N: 100})
		want := slices.DeleteFunc(whole, func(d alert.Delivery) bool { return !q.Match(&d) })
		for _, n := range []int{1, 100} {
			q.N = n
			same(k, fmt.Sprintf("deliveries of %+v", q), k.sent(q), append([]alert.Delivery(nil), want...))
		}
	}
	_, err := k.Deliveries(background(), alert.Query{N: 1, Seqs: make([]int64, alert.MaxPage+1)})
	k.is(err, quota.ErrInvalid, "deliveries of too many alerts")
}
