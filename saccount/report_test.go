package saccount_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/usage"
)

// february is a month in the life of two accounts, every figure of which was
// added up on paper.
func february(t *testing.T) (h *saccounttest.Harness, a, b saccount.Key) {
	h = saccounttest.New(t)
	ta, a := h.Issue(saccounttest.Spec{Monthly: 1000 * quota.Credit})
	tb, b := h.Issue(saccounttest.Spec{})
	spend := func(at string, token string, credits quota.Credits) {
		now, err := time.Parse("2006-01-02T15:04", at)
		require.NoError(t, err)
		h.Set(now)
		_, _, err = h.Service.AuthenticateAndCharge(t.Context(), token, nil, saccount.Charge{Amount: credits * quota.Credit})
		require.NoError(t, err)
	}
	spend("2030-01-25T12:00", tb.Reveal(), 10)
	spend("2030-02-01T00:00", ta.Reveal(), 100)
	spend("2030-02-03T23:50", ta.Reveal(), 50)
	spend("2030-02-03T23:50", tb.Reveal(), 20)
	spend("2030-02-10T12:00", ta.Reveal(), 60)
	spend("2030-02-10T12:00", ta.Reveal(), 5000) // refused: 790 are left
	h.Set(time.Date(2030, 2, 11, 0, 0, 0, 0, time.UTC))
	return h, a, b
}

func credits(t *testing.T, text string) quota.Credits {
	t.Helper()
	c, err := quota.ParseCredits(text)
	require.NoError(t, err)
	return c
}

func TestReportOfAnOrganization(t *testing.T) {
	h, a, b := february(t)
	require.NoError(t, h.Service.DeleteAccount(t.Context(), by, "acme", b.Account))
	r, err := h.Service.Report(t.Context(), saccount.ReportQuery{Org: "acme"})
	require.NoError(t, err)
	assert.Equal(t, "Acme", r.Name)
	assert.Equal(t, "UTC", r.Zone)
	date := func(m time.Month, d int) time.Time { return time.Date(2030, m, d, 0, 0, 0, 0, time.UTC) }
	assert.Equal(t, usage.Comparison{Before: date(1, 22), From: date(2, 1), To: date(2, 11)}, r.Period, "ten days, and the ten before them")
	refused := usage.Refusals{{Reason: quota.ReasonLimit, Requests: 1}}
	assert.Equal(t, usage.Counts{Credits: 230 * quota.Credit, Requests: 4, Refused: 1, Reasons: refused}, r.Total)
	assert.Equal(t, usage.Counts{Credits: 10 * quota.Credit, Requests: 1}, r.Before)
	var days []int64
	for _, d := range r.Days {
		days = append(days, d.Credits.Whole())
	}
	assert.Equal(t, []int64{100, 0, 70, 0, 0, 0, 0, 0, 0, 60}, days)
	assert.Equal(t, &saccount.Ranking{Subjects: 2, Top: []saccount.RankedRecord{
		{Ranked: usage.Ranked{
			Subject: quota.NewSubject(quota.KindAccount, a.Account),
			Counts:  usage.Counts{Credits: 210 * quota.Credit, Requests: 3, Refused: 1, Reasons: refused},
		}, Name: "Account 1"},
		{Ranked: usage.Ranked{
			Subject: quota.NewSubject(quota.KindAccount, b.Account), Counts: usage.Counts{Credits: 20 * quota.Credit, Requests: 1},
			Before: usage.Counts{Credits: 10 * quota.Credit, Requests: 1},
		}, Name: "Account 2", Deleted: true},
	}}, r.Accounts)
	require.Len(t, r.Keys.Top, 2)
	assert.Equal(t, "Account 2's key", r.Keys.Top[1].Name)
	assert.Equal(t, b.Account, r.Keys.Top[1].Account)
	assert.True(t, r.Keys.Top[1].Deleted, "with its account")
	assert.Equal(t, &saccount.Ranking{}, r.Members)

	one, err := h.Service.Report(t.Context(), saccount.ReportQuery{Org: "acme", Top: 1, From: date(1, 1), To: date(2, 1)})
	require.NoError(t, err)
	assert.Equal(t, time.Date(2029, 12, 1, 0, 0, 0, 0, time.UTC), one.Period.Before, "January is compared with December")
	require.Len(t, one.Accounts.Top, 1)
	assert.Equal(t, "Account 2", one.Accounts.Top[0].Name)

	_, err = json.Marshal(r)
	require.NoError(t, err)
}

func TestReportOfAnAccountAndOfAKey(t *testing.T) {
	h, a, b := february(t)
	r, err := h.Service.Report(t.Context(), saccount.ReportQuery{Org: "acme", Kind: saccount.KindAccount, ID: a.Account})
	require.NoError(t, err)
	assert.Equal(t, 210*quota.Credit, r.Total.Credits)
	assert.Nil(t, r.Accounts)
	require.Len(t, r.Keys.Top, 1)
	assert.Equal(t, quota.NewSubject(quota.KindKey, a.ID), r.Keys.Top[0].Subject)
	require.Len(t, r.Limits, 1)
	l := r.Limits[0]
	assert.Equal(t, 790*quota.Credit, l.Status.Remaining)
	// 60 in the last day, 60 in the last week, 18 days to go: 60 tomorrow,
	// then 60/7 a day for 17 days.
	assert.True(t, l.Projection.Known)
	assert.Equal(t, credits(t, "415.714285"), l.Projection.AtEnd)
	assert.True(t, l.Projection.RunsOut.IsZero())
	var reached []int64
	for _, p := range l.Line {
		reached = append(reached, p.Reached.Whole())
		assert.Equal(t, 1000*quota.Credit, p.Max)
	}
	assert.Equal(t, []int64{100, 100, 150, 150, 150, 150, 150, 150, 150, 210}, reached)

	// Of the key: the same credits, no limits of its own, nobody below it.
	r, err = h.Service.Report(t.Context(), saccount.ReportQuery{Org: "acme", Kind: saccount.KindKey, ID: a.ID})
	require.NoError(t, err)
	assert.Equal(t, 210*quota.Credit, r.Total.Credits)
	assert.Empty(t, r.Limits)
	assert.Nil(t, r.Keys)

	require.NoError(t, h.Service.DeleteKey(t.Context(), by, "acme", b.ID))
	r, err = h.Service.Report(t.Context(), saccount.ReportQuery{Org: "acme", Kind: saccount.KindKey, ID: b.ID})
	require.NoError(t, err)
	assert.True(t, r.Deleted)
	assert.Equal(t, "Account 2's key", r.Name)
	assert.Equal(t, 20*quota.Credit, r.Total.Credits)

	for name, q := range map[string]saccount.ReportQuery{
		"top": {Org: "acme", Top: 101}, "zone": {Org: "acme", Zone: "Mars/Olympus"},
		"order": {Org: "acme", From: h.Now(), To: h.Now().Add(-time.Hour)},
	} {
		_, err = h.Service.Report(t.Context(), q)
		assert.ErrorIs(t, err, saccount.ErrInvalid, name)
	}
	_, err = h.Service.Report(t.Context(), saccount.ReportQuery{Org: "acme", Kind: saccount.KindKey, ID: "nobody"})
	assert.ErrorIs(t, err, saccount.ErrNotFound)
}

func TestSuggestLimitSaysWhatIsMissing(t *testing.T) {
	h := saccounttest.New(t)
	token, key := h.Issue(saccounttest.Spec{})
	q := saccount.SuggestQuery{Org: "acme", Kind: saccount.KindAccount, ID: key.Account, Step: usage.Day}
	for day := range 15 { // the first is the day that it was made on, which is cut
		_, _, err := h.Service.AuthenticateAndCharge(t.Context(), token.Reveal(), nil, saccount.Charge{Amount: quota.Credits(day) * quota.Credit})
		require.NoError(t, err)
		got, err := h.Service.SuggestLimit(t.Context(), q)
		require.NoError(t, err)
		assert.False(t, got.Enough, "day %d, which has not ended", day)
		assert.Equal(t, max(0, day-1), got.Have)
		assert.Equal(t, 14, got.Need)
		assert.Zero(t, got.Max)
		h.Advance(24 * time.Hour)
	}
	got, err := h.Service.SuggestLimit(t.Context(), q)
	require.NoError(t, err)
	// 1 to 14 credits: the 14th of 14 is the 95th percentile; 14 and a quarter
	// are 17.5, and two digits of it 18.
	assert.Equal(t, usage.Suggestion{
		Step: usage.Day, Enough: true, Have: 14, Need: 14, Max: 18 * quota.Credit, P95: 14 * quota.Credit, Peak: 14 * quota.Credit, HeadRoom: 25,
	}, got)
	require.NoError(t, h.Service.DeleteAccount(t.Context(), by, "acme", key.Account))
	_, err = h.Service.SuggestLimit(t.Context(), q)
	assert.ErrorIs(t, err, saccount.ErrNotFound)
	q.Step = usage.Hour
	_, err = h.Service.SuggestLimit(t.Context(), q)
	assert.ErrorIs(t, err, saccount.ErrInvalid)
}

func TestExportsAreStreamedWithNamesOfTheDeleted(t *testing.T) {
	h, _, b := february(t)
	require.NoError(t, h.Service.DeleteAccount(t.Context(), by, "acme", b.Account))
	q := usage.Query{Org: "acme", Kind: quota.KindAccount, GroupBySubject: true, From: h.Now().AddDate(0, 0, -10), To: h.Now(), Step: usage.Week}
	var csv, lines bytes.Buffer
	require.NoError(t, h.Service.ExportUsage(t.Context(), &csv, saccount.FormatCSV, q, usage.Export{}))
	assert.Equal(t, 1+2*2, strings.Count(csv.String(), "\r\n"))
	assert.Contains(t, csv.String(), "account:"+b.Account+",Account 2,2030-02-01T00:00:00Z,2030-02-04T00:00:00Z,20,1,0,")
	require.NoError(t, h.Service.ExportUsage(t.Context(), &lines, saccount.FormatJSONL, q, usage.Export{}))
	assert.Contains(t, lines.String(), `"name":"Account 1","start":"2030-02-04T00:00:00Z","end":"2030-02-11T00:00:00Z","credits":"60","requests":1,"refused":1,"reasons":{"limit":1}`)
	q.Kind, q.Subjects = "", []quota.Subject{"org:acme"}
	csv.Reset()
	require.NoError(t, h.Service.ExportUsage(t.Context(), &csv, saccount.FormatCSV, q, usage.Export{}))
	assert.Contains(t, csv.String(), "org:acme,Acme,")
	assert.ErrorIs(t, h.Service.ExportUsage(t.Context(), &csv, "xlsx", q, usage.Export{}), saccount.ErrInvalid)
}

// counting counts the reads of a store.
type counting struct {
	*memstore.Store
	reads atomic.Int64
}

func (c *counting) Usage(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
	c.reads.Add(1)
	return c.Store.Usage(ctx, r, fn)
}

func (c *counting) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
	c.reads.Add(1)
	return c.Store.Lookup(ctx, org, kind, id)
}

func (c *counting) Lookups(ctx context.Context, org string, kind saccount.Kind, ids []string) ([]saccount.Lineage, error) {
	c.reads.Add(1)
	return c.Store.Lookups(ctx, org, kind, ids)
}

func (c *counting) CountKeys(ctx context.Context, org string, accounts []string, most int) ([]saccount.KeyCount, error) {
	c.reads.Add(1)
	return c.Store.CountKeys(ctx, org, accounts, most)
}

func (c *counting) List(ctx context.Context, q saccount.ListQuery) ([]saccount.Record, bool, error) {
	c.reads.Add(1)
	return c.Store.List(ctx, q)
}

func (c *counting) Peek(ctx context.Context, org string, levels []*quota.Level, at int64) ([]quota.Figure, error) {
	c.reads.Add(1)
	return c.Store.Peek(ctx, org, levels, at)
}

// A year of hours of one account, a month of days of 10,000, and a report over
// them take the same few reads as those of ten.
func TestReportsTakeABoundedNumberOfReads(t *testing.T) {
	now := time.Date(2030, 3, 1, 0, 0, 0, 0, time.UTC)
	counts := map[int][3]int64{}
	for _, accounts := range []int{10, 10_000} {
		store := &counting{Store: memstore.New()}
		svc, err := saccount.New(store, saccount.Config{Now: func() time.Time { return now }})
		require.NoError(t, err)
		_, err = svc.CreateOrg(t.Context(), by, saccount.OrgSpec{ID: "acme", Name: "Acme", Limits: saccount.Limits{"": saccount.NewLimit(quota.MaxCredits, quota.Period{Unit: quota.Month})}})
		require.NoError(t, err)
		for i := range accounts {
			for day := range 28 {
				at := quota.Micros(now.AddDate(0, 0, -day-1))
				op := &quota.Op{Verb: quota.VerbCharge, Org: "acme", At: at, Amount: quota.Credits(i)}
				for _, s := range []string{"account:a", "key:k"} {
					op.Levels = append(op.Levels, &quota.Level{Subject: quota.Subject(fmt.Sprint(s, i)), Bucket: at, From: at, Until: at + 1})
				}
				require.NoError(t, store.Apply(t.Context(), []*quota.Op{op}))
			}
		}
		var n [3]int64
		store.reads.Store(0)
		points := 0
		q := usage.Query{Org: "acme", Kind: quota.KindAccount, GroupBySubject: true, From: now.AddDate(0, -1, 0), To: now, Step: usage.Day}
		for s, err := range svc.EachUsage(t.Context(), q) {
			require.NoError(t, err)
			points += len(s.Points)
		}
		assert.Equal(t, accounts*28, points)
		n[0] = store.reads.Swap(0)
		year, err := svc.Usage(t.Context(), usage.Query{Org: "acme", Subjects: []quota.Subject{"account:a7"}, From: now.AddDate(-1, 0, 0), To: now, Step: usage.Hour})
		require.NoError(t, err)
		assert.Len(t, year[0].Points, 365*24)
		n[1] = store.reads.Swap(0)
		r, err := svc.Report(t.Context(), saccount.ReportQuery{Org: "acme", To: now})
		require.NoError(t, err)
		assert.Equal(t, accounts, r.Accounts.Subjects)
		assert.Equal(t, quota.Subject(fmt.Sprint("key:k", accounts-1)), r.Keys.Top[0].Subject)
		n[2] = store.reads.Swap(0)
		counts[accounts] = n
		require.NoError(t, svc.Close())
	}
	assert.Equal(t, counts[10], counts[10_000])
	// The organization, days, the period before, limits, pace, lines, three
	// rankings, and the names of two: there are no members.
	assert.Equal(t, [3]int64{1, 1, 9 + 2}, counts[10_000])
}

func weekOf(org string) usage.Query {
	from := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	return usage.Query{Org: org, Subjects: []quota.Subject{quota.NewSubject(quota.KindOrg, org)}, From: from, To: from.AddDate(0, 0, 7), Step: usage.Day}
}
