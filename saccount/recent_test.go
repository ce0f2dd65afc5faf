package saccount_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// pages reads a whole list, page by page.
func pages[T any](t *testing.T, read func(cursor string) (saccount.Page[T], error)) (all []T) {
	t.Helper()
	for cursor, n := "", 0; ; n++ {
		p, err := read(cursor)
		require.NoError(t, err)
		all = append(all, p.Items...)
		if cursor = p.Next; cursor == "" {
			return all
		}
		require.Less(t, n, 100, "it ends")
	}
}

// Alerts are listed the newest first, by whom they are about, of which kind and
// what became of them, in pages of any size; those of others never.
func TestAlertsAreListed(t *testing.T) {
	var o office
	cfg := o.config(t)
	cfg.Alerts.Sinks = []alert.Route{{Name: "the host's own", Sink: alert.Func(func(context.Context, alert.Alert) error { return nil })}}
	h := saccounttest.New(t, cfg)
	svc, ctx := h.Service, t.Context()
	_, err := svc.CreateOrg(ctx, "user:bob", saccount.OrgSpec{ID: "other"})
	require.NoError(t, err)
	hook, err := svc.AddRecipient(ctx, "user:ann", "acme", saccount.RecipientSpec{URL: o.url(t)})
	require.NoError(t, err)
	mail, err := svc.AddRecipient(ctx, "user:ann", "acme", saccount.RecipientSpec{Email: "ops@example.com", Filter: alert.Filter{Kinds: []alert.Kind{alert.KindTest}}})
	require.NoError(t, err)
	one, two := h.Token(saccounttest.Spec{Monthly: 100 * quota.Credit}), h.Token(saccounttest.Spec{Monthly: 100 * quota.Credit})
	for range 5 {
		charge(t, svc, one, 20*quota.Credit)
		charge(t, svc, two, 10*quota.Credit)
	}
	require.NoError(t, svc.TestAlert(ctx, "user:ann", "acme", mail.ID))
	require.NoError(t, svc.TestAlert(ctx, "user:bob", "other", ""))
	o.status, o.mail = http.StatusInternalServerError, errors.New("no such mailbox")
	require.NoError(t, svc.DeliverAlerts(ctx))

	accounts, err := svc.ListAccounts(ctx, "acme", saccount.Filter{ByName: true})
	require.NoError(t, err)
	require.Len(t, accounts.Items, 2)
	whom := func(i int) quota.Subject { return quota.NewSubject("account", accounts.Items[i].ID) }
	list := func(f saccount.AlertFilter) []string {
		t.Helper()
		var out []string
		for _, n := range []int{1, 2, 0, 1000} {
			var got []string
			f.Limit = n
			for _, a := range pages(t, func(cursor string) (saccount.Page[saccount.OrgAlert], error) {
				f.Cursor = cursor
				return svc.Alerts(ctx, "acme", f)
			}) {
				th := ""
				if a.Threshold != nil {
					th = " " + a.Threshold.String()
				}
				got = append(got, a.Name+" "+string(a.Kind)+th)
			}
			if out == nil {
				out = got
			}
			require.Equal(t, out, got, "%d a page", n)
		}
		return out
	}
	a, b := accounts.Items[0].Name, accounts.Items[1].Name
	all := []string{"Acme test", a + " threshold 100%", b + " threshold 50%", a + " threshold 80%", a + " threshold 50%"}
	got := list(saccount.AlertFilter{})
	assert.ElementsMatch(t, all, got)
	assert.Equal(t, all[0], got[0])
	assert.Equal(t, []string{all[1], all[3], all[4]}, list(saccount.AlertFilter{Subjects: []quota.Subject{whom(0)}}))
	assert.Equal(t, all[:1], list(saccount.AlertFilter{Kinds: []alert.Kind{alert.KindTest, alert.KindKeyLeaked}}))
	assert.Empty(t, list(saccount.AlertFilter{State: alert.Delivered}))
	assert.Len(t, list(saccount.AlertFilter{State: alert.Pending}), 5)
	assert.Empty(t, list(saccount.AlertFilter{Subjects: []quota.Subject{whom(1)}, Kinds: []alert.Kind{alert.KindOverage}}))

	p, err := svc.Alerts(ctx, "acme", saccount.AlertFilter{Limit: 2})
	require.NoError(t, err)
	assert.Equal(t, "This is a test alert of organization “Acme”. Nothing happened.", p.Items[0].Text)
	assert.NotContains(t, p.Items[0].Figures, alert.FigureSink)
	require.Len(t, p.Items[0].Deliveries, 1)
	d := p.Items[0].Deliveries[0]
	assert.Equal(t, saccount.RecipientDelivery{Recipient: mail.ID, State: alert.Pending, Tries: 1, Next: d.Next, At: h.Now(), Error: "no such mailbox"}, d)
	assert.True(t, d.Next.After(h.Now()))
	assert.Contains(t, p.Items[1].Text, fmt.Sprintf("Service account “%s” has spent", p.Items[1].Name))

	for want, f := range map[string]saccount.AlertFilter{
		"page": {Limit: 1001}, "kind": {Kinds: []alert.Kind{"none"}}, "cursor": {Cursor: "x"}, "subjects": {Subjects: make([]quota.Subject, alert.MaxSubjects+1)},
	} {
		_, err := svc.Alerts(ctx, "acme", f)
		require.ErrorIs(t, err, saccount.ErrInvalid, want)
		assert.ErrorContains(t, err, want)
	}
	_, err = svc.Alerts(ctx, "nobody", saccount.AlertFilter{})
	require.ErrorIs(t, err, saccount.ErrNotFound)

	// What is dead, and is tried again.
	dead := func() (out []string) {
		for _, x := range pages(t, func(cursor string) (saccount.Page[saccount.OrgAlert], error) {
			return svc.RecipientDeliveries(ctx, "acme", hook.ID, saccount.DeliveryFilter{State: alert.Dead, Limit: 2, Cursor: cursor})
		}) {
			require.Len(t, x.Deliveries, 1)
			assert.Equal(t, hook.ID, x.Deliveries[0].Recipient)
			assert.Contains(t, x.Deliveries[0].Error, "500")
			out = append(out, x.ID)
		}
		return out
	}
	assert.Empty(t, dead())
	for range 40 {
		h.Advance(12 * time.Hour)
		require.NoError(t, svc.DeliverAlerts(ctx))
	}
	ids := dead()
	require.Len(t, ids, 4)
	o.status, o.hooks = http.StatusOK, nil
	_, err = svc.ReplayRecipient(ctx, "user:ann", "acme", hook.ID, ids[1], "alert_none")
	require.ErrorIs(t, err, saccount.ErrNotFound)
	once := saccount.WithGuard(ctx, saccount.Guard{Request: saccount.Request{ID: "r"}})
	n, err := svc.ReplayRecipient(once, "user:ann", "acme", hook.ID, ids[1])
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	require.NoError(t, svc.DeliverAlerts(ctx))
	require.Len(t, o.hooks, 1)
	assert.Equal(t, ids[1], o.hooks[0].Header.Get("Webhook-Id"))
	assert.Equal(t, []string{ids[0], ids[2], ids[3]}, dead())
	_, err = svc.ReplayRecipient(once, "user:ann", "acme", hook.ID)
	require.ErrorIs(t, err, saccount.ErrDone)
	done, err := svc.Done(ctx, "acme", "r")
	require.NoError(t, err)
	assert.Equal(t, quota.NewSubject("recipient", hook.ID), done.Subject)
	_, err = svc.ReplayRecipient(ctx, "user:ann", "acme", hook.ID)
	require.NoError(t, err)
	require.NoError(t, svc.DeliverAlerts(ctx))
	assert.Len(t, o.hooks, 4)
	assert.Empty(t, dead())
	log, err := svc.Audit(ctx, "acme", saccount.AuditFilter{Newest: true, Action: "replay_alerts"})
	require.NoError(t, err)
	assert.Len(t, log.Items, 2, "the retry wrote none")
	for _, org := range []string{"other", "nobody"} {
		_, err = svc.RecipientDeliveries(ctx, org, hook.ID, saccount.DeliveryFilter{})
		require.ErrorIs(t, err, saccount.ErrNotFound)
		_, err = svc.ReplayRecipient(ctx, "user:bob", org, hook.ID)
		require.ErrorIs(t, err, saccount.ErrNotFound)
	}
}

// Who has passed which threshold of the window that is now: each limit once.
func TestPassedThresholds(t *testing.T) {
	h := saccounttest.New(t)
	svc, ctx := h.Service, t.Context()
	passed := func() (out []string) {
		t.Helper()
		all, err := svc.SummarizeAlerts(ctx, "acme", saccount.KindAccount, 0)
		require.NoError(t, err)
		for _, a := range all.Passed {
			out = append(out, a.Limit+" "+a.Threshold.String())
		}
		return out
	}
	token, key := h.Issue(saccounttest.Spec{Limits: saccount.Limits{
		"": saccount.NewLimit(100*quota.Credit, quota.Period{Unit: quota.Month}), "daily": saccount.NewLimit(50*quota.Credit, quota.Period{Unit: quota.Day}),
		"ever": saccount.NewLimit(300*quota.Credit, quota.Period{}),
	}})
	assert.Empty(t, passed())
	charge(t, svc, token.Reveal(), 45*quota.Credit)
	assert.Equal(t, []string{"daily 80%"}, passed())
	h.Advance(24 * time.Hour)
	assert.Empty(t, passed(), "the day is over")
	charge(t, svc, token.Reveal(), 50*quota.Credit)
	h.Advance(24 * time.Hour)
	charge(t, svc, token.Reveal(), 5*quota.Credit)
	assert.Equal(t, []string{"credits 100%"}, passed())
	h.Advance(30 * 24 * time.Hour)
	charge(t, svc, token.Reveal(), 50*quota.Credit)
	assert.ElementsMatch(t, []string{"credits 50%", "daily 100%", "ever 50%"}, passed())
	_, err := svc.UpdateAccount(ctx, "x", "acme", key.Account, saccount.Update{Limits: saccount.Limits{"daily": nil}})
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"credits 50%", "ever 50%"}, passed())
	all, err := svc.SummarizeAlerts(ctx, "acme", saccount.KindAccount, 1)
	require.NoError(t, err)
	assert.Len(t, all.Passed, 1)
	require.Len(t, all.Recent, 1)
	newest, err := svc.Alerts(ctx, "acme", saccount.AlertFilter{Limit: 1})
	require.NoError(t, err)
	assert.Equal(t, newest.Items, all.Recent)
	all, err = svc.SummarizeAlerts(ctx, "acme", saccount.KindKey, 0)
	require.NoError(t, err)
	assert.Empty(t, all.Passed)
	require.NoError(t, svc.DeleteAccount(ctx, "x", "acme", key.Account))
	assert.Empty(t, passed())
}

// A summary says where it stopped looking, and that there are more than it names.
func TestPassedThresholdsAreCutInTheOpen(t *testing.T) {
	h := saccounttest.New(t)
	svc, ctx := h.Service, t.Context()
	for range 3 {
		charge(t, svc, h.Token(saccounttest.Spec{Monthly: 100 * quota.Credit}), 60*quota.Credit)
	}
	begun := h.Now()
	look := func(n int) saccount.AlertSummary {
		t.Helper()
		all, err := svc.SummarizeAlerts(ctx, "acme", saccount.KindAccount, n)
		require.NoError(t, err)
		return all
	}
	all := look(2)
	assert.Len(t, all.Passed, 2)
	assert.True(t, all.More)
	assert.Zero(t, all.Since)
	all = look(3)
	assert.Len(t, all.Passed, 3)
	assert.False(t, all.More)
	h.Advance(time.Hour)
	for range saccount.MaxPage - 3 {
		require.NoError(t, svc.TestAlert(ctx, "x", "acme", ""))
	}
	all = look(3)
	assert.Len(t, all.Passed, 3)
	assert.True(t, begun.Equal(all.Since), "the oldest that was looked at")
	require.NoError(t, svc.TestAlert(ctx, "x", "acme", ""))
	all = look(3)
	assert.Len(t, all.Passed, 2, "the third passed before what was looked at")
	for range 2 {
		require.NoError(t, svc.TestAlert(ctx, "x", "acme", ""))
	}
	all = look(3)
	assert.Empty(t, all.Passed)
	assert.False(t, all.More)
	assert.True(t, h.Now().Equal(all.Since))
}

// Of two who change a recipient at once one is told, a retry does nothing, and
// no address or path of a recipient is in the audit log.
func TestRecipientsAreGuarded(t *testing.T) {
	var o office
	h := saccounttest.New(t, o.config(t))
	svc, ctx := h.Service, t.Context()
	once := saccount.WithGuard(ctx, saccount.Guard{Request: saccount.Request{ID: "add"}})
	r, err := svc.AddRecipient(once, "user:ann", "acme", saccount.RecipientSpec{Name: "Ops", Email: "opera.tions@example.com"})
	require.NoError(t, err)
	assert.EqualValues(t, 1, r.Revision)
	_, err = svc.AddRecipient(once, "user:ann", "acme", saccount.RecipientSpec{Name: "Ops", Email: "opera.tions@example.com"})
	require.ErrorIs(t, err, saccount.ErrDone)
	done, err := svc.Done(ctx, "acme", "add")
	require.NoError(t, err)
	assert.Equal(t, "recipient:"+r.ID, string(done.Subject))
	hook, err := svc.AddRecipient(ctx, "user:ann", "acme", saccount.RecipientSpec{URL: o.url(t)})
	require.NoError(t, err)

	name := "Night"
	r2, err := svc.UpdateRecipient(ctx, "user:ann", "acme", r.ID, saccount.RecipientUpdate{Revision: 1, Name: &name})
	require.NoError(t, err)
	assert.EqualValues(t, 2, r2.Revision)
	_, err = svc.UpdateRecipient(ctx, "user:bob", "acme", r.ID, saccount.RecipientUpdate{Revision: 1, Name: &name})
	require.ErrorIs(t, err, saccount.ErrConflict)
	stale := saccount.WithGuard(ctx, saccount.Guard{Revision: 1})
	require.ErrorIs(t, svc.RemoveRecipient(stale, "user:bob", "acme", r.ID), saccount.ErrConflict)
	require.NoError(t, svc.RotateWebhookSecret(stale, "user:ann", "acme", hook.ID, time.Hour), "it is the webhook's revision that counts")
	got, err := svc.GetRecipient(ctx, "acme", hook.ID)
	require.NoError(t, err)
	assert.EqualValues(t, 2, got.Revision)
	assert.Equal(t, o.url(t), got.URL)
	off := true
	_, err = svc.UpdateRecipient(ctx, "user:ann", "acme", r.ID, saccount.RecipientUpdate{Disabled: &off})
	require.NoError(t, err)
	require.ErrorIs(t, svc.TestAlert(ctx, "user:ann", "acme", r.ID), saccount.ErrInvalid)
	_, err = svc.ReplayRecipient(ctx, "user:ann", "acme", r.ID)
	require.ErrorIs(t, err, saccount.ErrInvalid)
	require.NoError(t, svc.RemoveRecipient(ctx, "user:ann", "acme", r.ID))
	all, err := svc.Recipients(ctx, "acme")
	require.NoError(t, err)
	require.Len(t, all, 1)
	_, err = svc.GetRecipient(ctx, "acme", r.ID)
	require.ErrorIs(t, err, saccount.ErrNotFound)

	log, err := svc.Audit(ctx, "acme", saccount.AuditFilter{Limit: 1000})
	require.NoError(t, err)
	text, err := json.Marshal(log.Items)
	require.NoError(t, err)
	assert.Contains(t, string(text), "o…@example.com")
	assert.NotContains(t, string(text), "tions@")
	assert.NotContains(t, string(text), "T0KEN")
}

// Thresholds may be set as something is made.
func TestThresholdsOfWhatIsMade(t *testing.T) {
	h := saccounttest.New(t)
	svc, ctx := h.Service, t.Context()
	ts := []quota.Threshold{quota.Percent(90), quota.Left(5 * quota.Credit)}
	_, err := svc.CreateAccount(ctx, "x", "acme", saccount.AccountSpec{Name: "Bad", Thresholds: make([]quota.Threshold, quota.MaxThresholds+1)})
	var f *saccount.FieldError
	require.ErrorAs(t, err, &f)
	assert.Equal(t, "/thresholds", f.Field)
	o, err := svc.CreateOrg(ctx, "x", saccount.OrgSpec{ID: "new", Thresholds: ts})
	require.NoError(t, err)
	a, err := svc.CreateAccount(ctx, "x", "new", saccount.AccountSpec{Name: "Good", Thresholds: []quota.Threshold{}})
	require.NoError(t, err)
	_, k, err := svc.CreateKey(ctx, "x", "new", a.ID, saccount.KeySpec{Name: "Key", Thresholds: ts})
	require.NoError(t, err)
	m, err := svc.CreateMember(ctx, "x", "new", saccount.MemberSpec{ID: "m"})
	require.NoError(t, err)
	o, err = svc.GetOrg(ctx, o.ID)
	require.NoError(t, err)
	a, err = svc.GetAccount(ctx, "new", a.ID)
	require.NoError(t, err)
	assert.Equal(t, ts, o.Thresholds)
	assert.NotNil(t, a.Thresholds)
	assert.Empty(t, a.Thresholds)
	assert.Equal(t, ts, k.Thresholds)
	assert.Nil(t, m.Thresholds)
}
