package saccount_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// watched is a Service with a sink that keeps what it gets, and no thresholds.
func watched(t *testing.T, r saccount.Rules) (*saccounttest.Harness, *inbox) {
	t.Helper()
	box := &inbox{}
	return saccounttest.New(t, saccount.Config{
		Thresholds: []quota.Threshold{}, Alerts: saccount.Alerts{Rules: r, Sinks: []alert.Route{{Name: "box", Sink: box}}},
	}), box
}

// look sweeps twice, as two processes may, and gives what came.
func look(t *testing.T, h *saccounttest.Harness, box *inbox) (texts []string) {
	t.Helper()
	require.NoError(t, h.Service.Flush(t.Context()))
	before := len(box.got)
	for range 2 {
		require.NoError(t, h.Service.SweepAlerts(t.Context()))
	}
	require.NoError(t, h.Service.DeliverAlerts(t.Context()))
	for _, a := range box.got[before:] {
		texts = append(texts, string(a.Kind)+" "+a.Figures[alert.FigureDays])
	}
	return texts
}

func TestKeysThatExpire(t *testing.T) {
	h, box := watched(t, saccount.Rules{}) // on without asking
	spec := func(days int) saccounttest.Spec {
		return saccounttest.Spec{Key: saccount.KeySpec{Expires: h.Now().Add(time.Duration(days) * 24 * time.Hour)}}
	}
	_, key := h.Issue(spec(10))
	_, gone := h.Issue(spec(10))
	require.NoError(t, h.Service.DeleteKey(t.Context(), "test", "acme", gone.ID))
	_, off := h.Issue(spec(10))
	require.NoError(t, h.Service.DisableAccount(t.Context(), "test", "acme", off.Account))
	h.Issue(saccounttest.Spec{}) // never expires
	assert.Empty(t, look(t, h, box))
	h.Advance(3 * 24 * time.Hour)
	assert.Equal(t, []string{"key_expiring 7"}, look(t, h, box))
	assert.Equal(t, key.ID, box.got[0].Subject.ID())
	assert.Contains(t, box.got[0].Text, "expires in less than 7 days, on 25 January 2030")
	h.Advance(5 * 24 * time.Hour)
	assert.Empty(t, look(t, h, box))
	h.Advance(24*time.Hour + time.Minute)
	assert.Equal(t, []string{"key_expiring 1"}, look(t, h, box))
	// A new end is a new episode; of a short one only the nearest is told.
	soon := h.Now().Add(12 * time.Hour)
	_, err := h.Service.UpdateKey(t.Context(), "test", "acme", key.ID, saccount.Update{Expires: &soon})
	require.NoError(t, err)
	assert.Equal(t, []string{"key_expiring 1"}, look(t, h, box))
	h.Advance(13 * time.Hour)
	assert.Empty(t, look(t, h, box), "it has expired")
}

func TestKeysUnusedAndOld(t *testing.T) {
	h, box := watched(t, saccount.Rules{Expiring: []int{}, Unused: 30, Rotation: 90})
	token, key := h.Issue(saccounttest.Spec{})
	h.Advance(29 * 24 * time.Hour)
	assert.Empty(t, look(t, h, box))
	h.Advance(24 * time.Hour)
	assert.Equal(t, []string{"key_unused 30"}, look(t, h, box))
	assert.Contains(t, box.got[0].Text, "was never used since it was made")
	charge(t, h.Service, token.Reveal(), 1)
	h.Advance(29 * 24 * time.Hour)
	assert.Empty(t, look(t, h, box))
	h.Advance(2 * 24 * time.Hour)
	assert.Equal(t, []string{"key_unused 31"}, look(t, h, box), "again, since it was used in between")
	assert.Contains(t, box.got[1].Text, "was not used for 31 days, since 14 February 2030")
	h.Advance(29 * 24 * time.Hour)
	assert.Equal(t, []string{"key_rotation_due 90"}, look(t, h, box))
	_, _, err := h.Service.RotateKey(t.Context(), "test", "acme", key.ID, 0)
	require.NoError(t, err)
	h.Advance(89 * 24 * time.Hour)
	assert.Empty(t, look(t, h, box))
	h.Advance(24 * time.Hour)
	assert.Equal(t, []string{"key_rotation_due 90"}, look(t, h, box))
}

// Where the organization's policy disables unused keys, its warning speaks and
// the rule does not; before that the rule does.
func TestOneSpeaksOfAnUnusedKey(t *testing.T) {
	for unused, want := range map[int][]string{
		30: {"30 key_unused 30", "83 key_unused 83 disables", "90 key_disabled 90"}, // earlier than the policy: both have news
		83: {"83 key_unused 83 disables", "90 key_disabled 90"},
		85: {"83 key_unused 83 disables", "90 key_disabled 90"},
		90: {"83 key_unused 83 disables", "90 key_disabled 90"},
	} {
		h, box := watched(t, saccount.Rules{Expiring: []int{}, Unused: unused})
		_, err := h.Service.UpdateOrg(t.Context(), "test", "acme", saccount.Update{Keys: &saccount.KeyPolicy{DisableDays: 90}})
		require.NoError(t, err)
		h.Issue(saccounttest.Spec{})
		var got []string
		for day := 1; day <= 100; day++ {
			h.Advance(24 * time.Hour)
			from := len(box.got)
			for i, text := range look(t, h, box) {
				if box.got[from+i].Figures[alert.FigureDisables] != "" {
					text += " disables"
				}
				got = append(got, fmt.Sprint(day, " ", text))
			}
		}
		assert.Equal(t, want, got, "rule of %d days", unused)
		// A key that nobody looked at for long is warned of once too, by the policy.
		h, box = watched(t, saccount.Rules{Expiring: []int{}, Unused: unused})
		_, err = h.Service.UpdateOrg(t.Context(), "test", "acme", saccount.Update{Keys: &saccount.KeyPolicy{DisableDays: 90}})
		require.NoError(t, err)
		h.Issue(saccounttest.Spec{})
		h.Advance(200 * 24 * time.Hour)
		assert.Equal(t, []string{"key_unused 200"}, look(t, h, box))
		assert.Contains(t, box.got[0].Text, "will be disabled")
		// Without a policy the rule speaks.
		_, err = h.Service.UpdateOrg(t.Context(), "test", "acme", saccount.Update{Keys: &saccount.KeyPolicy{}})
		require.NoError(t, err)
		assert.Equal(t, []string{"key_unused 200"}, look(t, h, box))
		assert.NotContains(t, box.got[1].Text, "will be disabled")
	}
}

func TestNewAddresses(t *testing.T) {
	h, box := watched(t, saccount.Rules{NewAddress: true})
	token := h.Token(saccounttest.Spec{})
	use := func(addr string) []string {
		t.Helper()
		_, err := h.Service.Authenticate(t.Context(), token, netip.MustParseAddr(addr))
		require.NoError(t, err)
		out := look(t, h, box)
		h.Advance(2 * time.Minute)
		return out
	}
	assert.Empty(t, use("192.0.2.1"), "the first is no news")
	assert.Empty(t, use("::ffff:192.0.2.1"))
	assert.Equal(t, []string{"key_new_address "}, use("198.51.100.7"))
	assert.Contains(t, box.got[0].Text, "was used from 198.51.100.7 for the first time")
	assert.Empty(t, use("192.0.2.1"))
	assert.Empty(t, use("203.0.113.9"), "once a day")
	h.Advance(24 * time.Hour)
	assert.Empty(t, use("203.0.113.9"), "seen, though nobody was told")
	assert.Equal(t, []string{"key_new_address "}, use("2001:db8::1"))
	h.Advance(24 * time.Hour)
	assert.Empty(t, use("2001:db8::2"), "the same network")
}

func TestLimitsThatRunOut(t *testing.T) {
	h, box := watched(t, saccount.Rules{RunOut: true})
	monthly := saccount.Limits{"": saccount.NewLimit(1000*quota.Credit, quota.Period{Unit: quota.Month}), "day": saccount.NewLimit(60*quota.Credit, quota.Period{Unit: quota.Day})}
	fast := h.Token(saccounttest.Spec{Limits: monthly})
	slow := h.Token(saccounttest.Spec{Limits: monthly})
	h.Set(time.Date(2030, time.March, 1, 0, 0, 0, 0, time.UTC))
	for range 7 * 24 {
		h.Advance(time.Hour)
		charge(t, h.Service, fast, 2*quota.Credit)
		charge(t, h.Service, slow, quota.Credit)
	}
	assert.Equal(t, []string{"run_out "}, look(t, h, box), "48 a day are spent on the 21st; 24 a day never")
	a := box.got[0]
	assert.Contains(t, a.Text, "on 21 March 2030")
	assert.Equal(t, "credits", a.Limit)
	assert.Equal(t, 1000*quota.Credit, *a.Max)
	h.Advance(time.Hour)
	charge(t, h.Service, fast, 2*quota.Credit)
	assert.Empty(t, look(t, h, box), "once a window")
}

func TestSpendingOutOfPattern(t *testing.T) {
	h, box := watched(t, saccount.Rules{Unusual: true})
	token := h.Token(saccounttest.Spec{})
	h.Set(time.Date(2030, time.March, 4, 0, 30, 0, 0, time.UTC))
	hour := func(c quota.Credits) []string {
		t.Helper()
		charge(t, h.Service, token, c*quota.Credit)
		h.Advance(time.Hour)
		return look(t, h, box)
	}
	for i := range 10 * 24 {
		c := quota.Credits(10)
		if i%24 < 8 {
			c = 0
		}
		require.Empty(t, hour(c), "hour %d", i)
	}
	assert.Equal(t, []string{"unusual_spend "}, hour(100), "at night, ten times a day's hour")
	assert.Contains(t, box.got[0].Text, fmt.Sprintf("spent 100 credits in the hour before %s; up to 10 is usual", "14 March 2030, 01:00 UTC"))
	for range 23 {
		require.Empty(t, hour(100), "it is quiet for a day")
	}
	assert.Equal(t, []string{"unusual_spend "}, hour(400))
}

func TestRulesAreChecked(t *testing.T) {
	h := saccounttest.New(t)
	for _, r := range []saccount.Rules{{Expiring: []int{0}}, {Expiring: []int{366}}, {Unused: -1}, {Rotation: 4000}, {Every: time.Second}, {Expiring: make([]int, 9)}} {
		_, err := saccount.New(h.Store, saccount.Config{Alerts: saccount.Alerts{Rules: r}})
		assert.ErrorIs(t, err, saccount.ErrInvalid, "%+v", r)
	}
}
