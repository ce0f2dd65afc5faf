package usage_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/usage"
)

// charge is what a Ledger does for a request: it spends credits and counts the
// request in the bucket of the moment.
func charge(s *memstore.Store, at time.Time, amount string, subjects ...quota.Subject) {
	credits, err := quota.ParseCredits(amount)
	if err != nil {
		panic(err)
	}
	op := &quota.Op{Verb: quota.VerbCharge, Org: "acme", At: quota.Micros(at), Amount: credits}
	for _, subject := range subjects {
		op.Levels = append(op.Levels, &quota.Level{Subject: subject, Bucket: quota.BucketStart(op.At)})
	}
	if err := s.Apply(context.Background(), []*quota.Op{op}); err != nil || op.Result.Outcome != quota.Applied {
		panic(fmt.Sprint(err, op.Result))
	}
}

func ExampleRead() {
	ctx, s := context.Background(), memstore.New()
	defer s.Close()
	key, account := quota.NewSubject(quota.KindKey, "web"), quota.NewSubject(quota.KindAccount, "worker")
	charge(s, time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC), "2.05", key, account)
	charge(s, time.Date(2026, 3, 29, 21, 59, 0, 0, time.UTC), "0.5", key, account)

	series, err := usage.Read(ctx, s, usage.Query{
		Org:      "acme",
		Subjects: []quota.Subject{account},
		From:     time.Date(2026, 3, 27, 23, 0, 0, 0, time.UTC),
		To:       time.Date(2026, 3, 30, 22, 0, 0, 0, time.UTC),
		Step:     usage.Day,
		Zone:     "Europe/Berlin",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range series[0].Points {
		fmt.Println(p.Start.Format(time.DateOnly), p.End.Sub(p.Start), p.Credits, p.Requests)
	}
	fmt.Println("total", series[0].Total.Credits)
	// Output:
	// 2026-03-28 24h0m0s 2.05 1
	// 2026-03-29 23h0m0s 0.5 1
	// 2026-03-30 24h0m0s 0 0
	// total 2.55
}

func ExampleTotals() {
	ctx, s := context.Background(), memstore.New()
	defer s.Close()
	key := quota.NewSubject(quota.KindKey, "web")
	charge(s, time.Date(2026, 4, 30, 23, 59, 0, 0, time.UTC), "7", key)
	now := time.Date(2026, 5, 20, 12, 0, 0, 0, time.UTC)
	charge(s, now, "0.25", key)

	window, err := quota.Period{Unit: quota.Month}.WindowAt(now)
	if err != nil {
		fmt.Println(err)
		return
	}
	totals, err := usage.Totals(ctx, s, "acme", []quota.Subject{key}, window.Start, window.End)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(totals[0].Credits, "credits in", totals[0].Requests, "request")
	// Output: 0.25 credits in 1 request
}

func ExampleWriteCSV() {
	ctx, s := context.Background(), memstore.New()
	defer s.Close()
	key := quota.NewSubject(quota.KindKey, "web")
	day := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	charge(s, day.Add(9*time.Hour), "12.5", key)

	series := usage.Each(ctx, s, usage.Query{
		Org: "acme", Subjects: []quota.Subject{key}, GroupBySubject: true,
		From: day, To: day.AddDate(0, 0, 1), Step: usage.Day,
	})
	var out strings.Builder // an http.ResponseWriter, a file
	err := usage.WriteCSV(&out, series, usage.Export{
		Label: func(quota.Subject) string { return `=cmd|' /C calc'!A0` },
	})
	fmt.Print(strings.ReplaceAll(out.String(), "\r\n", "\n"), err)
	// Output:
	// subject,name,start,end,credits,requests,refused,refused_limit,refused_rate,refused_scope,refused_address,refused_disabled,refused_expired,refused_other,partial,coarse
	// key:web,'=cmd|' /C calc'!A0,2026-05-01T00:00:00Z,2026-05-02T00:00:00Z,12.5,1,0,0,0,0,0,0,0,0,false,false
	// <nil>
}

func ExampleRetain() {
	ctx, s := context.Background(), memstore.New()
	defer s.Close()
	key := quota.NewSubject(quota.KindKey, "web")
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	charge(s, made.Add(9*time.Hour), "1", key)
	charge(s, made.Add(10*time.Hour), "2", key)

	folded, err := usage.Retain(ctx, s, usage.Retention{
		Org: "acme", Zone: "Europe/Berlin", Since: made,
		Keep: 90 * 24 * time.Hour,
	}, made.AddDate(1, 0, 0))
	fmt.Println(folded, "buckets folded", err)
	totals, err := usage.Totals(ctx, s, "acme", []quota.Subject{key}, time.Time{}, time.Time{})
	fmt.Println(totals[0].Credits, "credits", err)
	// Output:
	// 2 buckets folded <nil>
	// 3 credits <nil>
}

func ExampleProject() {
	limit := quota.LimitStatus{
		Limit: "credits", Max: 1000 * quota.Credit, Used: 400 * quota.Credit, Remaining: 600 * quota.Credit,
		Start:   time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
		ResetAt: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	pace := usage.Pace{ // as Paces reads it
		Now:  time.Date(2026, 12, 11, 0, 0, 0, 0, time.UTC),
		Day:  usage.Span{Credits: 50 * quota.Credit, Over: usage.PaceDay},
		Week: usage.Span{Credits: 210 * quota.Credit, Over: usage.PaceWeek},
	}
	p, err := usage.Project(limit, pace)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("at this pace spent on", p.RunsOut.Format("2 January, 15:04"))
	fmt.Println("till the end of the month", p.AtEnd, "of", limit.Max)
	// Output:
	// at this pace spent on 30 December, 08:00
	// till the end of the month 1050 of 1000
}

func ExampleRanking() {
	ctx, s := context.Background(), memstore.New()
	defer s.Close()
	day := time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC)
	for i, amount := range []string{"3", "12.5", "7"} {
		charge(s, day, amount, quota.NewSubject(quota.KindKey, fmt.Sprint("k", i)))
	}
	charge(s, day.AddDate(0, -1, 0), "10", "key:k1")

	may, err := usage.Compare(day.Truncate(24*time.Hour), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), "")
	if err != nil {
		fmt.Println(err)
		return
	}
	rank, err := usage.NewRanking(2, may)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := rank.Read(ctx, s, "acme", quota.KindKey); err != nil {
		fmt.Println(err)
		return
	}
	for _, x := range rank.Top() {
		fmt.Println(x.Subject, x.Credits, "before", x.Before.Credits)
	}
	fmt.Println("of", rank.Subjects())
	// Output:
	// key:k1 12.5 before 10
	// key:k2 7 before 0
	// of 3
}

func ExampleSuggest() {
	var s usage.Series // as Read gives it by the day
	for day := range 20 {
		s.Points = append(s.Points, usage.Point{Counts: usage.Counts{Credits: quota.Credits(1+day) * quota.Credit}})
	}
	x, err := usage.Suggest(s, usage.Day, usage.DefaultHeadRoom)
	fmt.Println(x.Max, "a day; the greatest day was", x.Peak, err)
	x, err = usage.Suggest(usage.Series{Points: s.Points[:9]}, usage.Day, usage.DefaultHeadRoom)
	fmt.Println(x.Enough, x.Have, "of", x.Need, "days", err)
	// Output:
	// 24 a day; the greatest day was 20 <nil>
	// false 9 of 14 days <nil>
}
