package saccount_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// What the simulation (internal/sim) found, each reduced to the least that
// shows it.

// A Principal that was let in before its secret was rotated, and was charged
// during the overlap, ends with the overlap.
func TestAKeptPrincipalEndsWithTheOverlap(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, _, k := w.key(t, "Worker", nil)
	p := w.auth(t, token)
	_, _, err := w.RotateKey(t.Context(), by, "acme", k.ID, time.Hour)
	require.NoError(t, err)
	require.True(t, w.spend(t, p, 1), "during the overlap both secrets live")
	w.now = w.now.Add(time.Hour)
	_, err = w.Charge(t.Context(), p, saccount.Charge{Amount: 1})
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
	_, _, err = w.Reserve(t.Context(), p, saccount.Reserve{Amount: 1, TTL: time.Minute})
	require.ErrorIs(t, err, saccount.ErrUnauthenticated)
}

// One whose end was put off is charged beyond the end that it was let in with.
func TestAKeptPrincipalHearsThatItsEndWasPutOff(t *testing.T) {
	t.Run("the key's expiry", func(t *testing.T) {
		w := newWorld(t, saccount.Config{})
		a, err := w.CreateAccount(t.Context(), by, "acme", saccount.AccountSpec{Name: "Worker"})
		require.NoError(t, err)
		tok, k, err := w.CreateKey(t.Context(), by, "acme", a.ID, saccount.KeySpec{Name: "k", Expires: w.now.Add(time.Hour)})
		require.NoError(t, err)
		p := w.auth(t, tok.Reveal())
		_, err = w.UpdateKey(t.Context(), by, "acme", k.ID, saccount.Update{Expires: ptr(w.now.Add(48 * time.Hour))})
		require.NoError(t, err)
		w.now = w.now.Add(2 * time.Hour)
		assert.True(t, w.spend(t, p, 1))
	})
	t.Run("a rotation that was cancelled", func(t *testing.T) {
		w := newWorld(t, saccount.Config{})
		token, _, k := w.key(t, "Worker", nil)
		_, _, err := w.RotateKey(t.Context(), by, "acme", k.ID, time.Hour)
		require.NoError(t, err)
		p := w.auth(t, token)
		_, err = w.CancelRotation(t.Context(), by, "acme", k.ID)
		require.NoError(t, err)
		w.now = w.now.Add(2 * time.Hour)
		assert.True(t, w.spend(t, p, 1))
	})
}

// A raise is of the period that it was given to: kept, it would come on top of
// what the old limit had left.
func TestARaiseEndsWithItsPeriod(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, a, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(100*credit, monthly)})
	p := w.auth(t, token)
	require.NoError(t, w.RaiseLimit(t.Context(), by, "acme", saccount.KindAccount, a.ID, "", 150*credit, w.now.AddDate(0, 0, 20)))
	require.True(t, w.spend(t, p, 120))
	w.now = w.now.AddDate(0, 0, 1)
	w.setLimit(t, a.ID, &saccount.LimitSpec{Period: &daily})
	assert.Equal(t, 30*credit, w.left(t, a.ID).Remaining, "what the raised month had left")
	require.False(t, w.spend(t, p, 31))
	w.now = w.now.AddDate(0, 0, 1)
	assert.Equal(t, 100*credit, w.left(t, a.ID).Max)
}

// A clock that runs back over the end of a window does not take the next
// window's top-up away.
func TestATopUpSurvivesAClockThatRunsBack(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	_, a, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(10*credit, daily)})
	up := func(id string, amount quota.Credits) {
		t.Helper()
		require.NoError(t, w.TopUp(t.Context(), by, "acme", saccount.KindAccount, a.ID, saccount.TopUp{ID: id, Amount: amount}))
	}
	midnight := time.Date(2026, 3, 11, 0, 0, 0, 0, time.UTC)
	w.now = midnight
	up("tomorrow", 5*credit)
	w.now = midnight.Add(-time.Millisecond)
	up("today", 3*credit)
	assert.Equal(t, 13*credit, w.left(t, a.ID).Max)
	w.now = midnight
	assert.Equal(t, 15*credit, w.left(t, a.ID).Max)
	up("tomorrow", 5*credit) // the retry of a lost reply
	assert.Equal(t, 15*credit, w.left(t, a.ID).Max)
}

// The retry of a refund is answered like the refund, limits included.
func TestARefundIsAnsweredTheSameTwice(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, _, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(10*credit, daily)})
	_, err := w.Charge(t.Context(), w.auth(t, token), saccount.Charge{ID: "c", Amount: 4 * credit})
	require.NoError(t, err)
	r := saccount.Refund{ID: "r", Of: "c", Amount: credit}
	one, err := w.Refund(t.Context(), "acme", r)
	require.NoError(t, err)
	two, err := w.Refund(t.Context(), "acme", r)
	require.NoError(t, err)
	assert.True(t, two.Replayed)
	require.Len(t, one.Limits(), 1)
	assert.Equal(t, one.Limits(), two.Limits())
}

// alerts are the thresholds in the outbox, in their order.
func (w *world) alerts(t *testing.T) (out []string) {
	t.Helper()
	as, err := w.store.Outbox(t.Context(), 0, 1000)
	require.NoError(t, err)
	for _, a := range as {
		out = append(out, a.Limit+" "+a.Threshold.String())
	}
	return out
}

// One alert for each subject, limit, window and threshold, whatever becomes of
// the limit meanwhile, and none is missed.
func TestAlertsOfLimitsThatAreEdited(t *testing.T) {
	half := &[]quota.Threshold{quota.Percent(50)}
	for name, edit := range map[string]func(*testing.T, *world, string){
		"removed and set again": func(t *testing.T, w *world, a string) {
			w.setLimit(t, a, nil)
			l := saccount.NewLimit(10*credit, monthly)
			l.Thresholds = half
			w.setLimit(t, a, l)
		},
		"another period and back": func(t *testing.T, w *world, a string) {
			w.setLimit(t, a, &saccount.LimitSpec{Period: &daily})
			w.setLimit(t, a, &saccount.LimitSpec{Period: &quota.Period{}})
			w.setLimit(t, a, &saccount.LimitSpec{Period: &monthly})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, saccount.Config{})
			l := saccount.NewLimit(10*credit, monthly)
			l.Thresholds = half
			token, a, _ := w.key(t, "Worker", saccount.Limits{"": l})
			p := w.auth(t, token)
			require.True(t, w.spend(t, p, 6))
			require.Equal(t, []string{"credits 50%"}, w.alerts(t))
			edit(t, w, a.ID)
			require.True(t, w.spend(t, p, 1))
			assert.Equal(t, []string{"credits 50%"}, w.alerts(t), "the month alerts once")
		})
	}
	t.Run("a threshold that is set below what was spent", func(t *testing.T) {
		w := newWorld(t, saccount.Config{})
		l := saccount.NewLimit(100*credit, monthly)
		l.Thresholds = &[]quota.Threshold{quota.Percent(80)}
		token, a, _ := w.key(t, "Worker", saccount.Limits{"": l})
		p := w.auth(t, token)
		require.True(t, w.spend(t, p, 40))
		w.setLimit(t, a.ID, &saccount.LimitSpec{Thresholds: &[]quota.Threshold{quota.Percent(80), quota.Percent(30)}})
		require.True(t, w.spend(t, p, 1))
		assert.Equal(t, []string{"credits 30%"}, w.alerts(t), "with the next charge, not only when 80% is passed")
	})
	t.Run("a commit that was admitted under other thresholds", func(t *testing.T) {
		w := newWorld(t, saccount.Config{})
		l := saccount.NewLimit(100*credit, monthly)
		l.Thresholds = &[]quota.Threshold{quota.Percent(80)}
		token, a, _ := w.key(t, "Worker", saccount.Limits{"": l})
		p := w.auth(t, token)
		r, _, err := w.Reserve(t.Context(), p, saccount.Reserve{Amount: 60 * credit, TTL: time.Hour})
		require.NoError(t, err)
		w.setLimit(t, a.ID, &saccount.LimitSpec{Thresholds: half})
		require.True(t, w.spend(t, p, 1))
		_, err = r.Commit(t.Context(), 55*credit)
		require.NoError(t, err)
		require.True(t, w.spend(t, p, 1))
		assert.Equal(t, []string{"credits 50%"}, w.alerts(t))
	})
}

// Folding takes no bucket away from what can still be settled: a reservation
// whose time is over but that nobody swept frees its credits everywhere.
func TestFoldingAndReservations(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, a, _ := w.key(t, "Worker", nil)
	_, _, err := w.Reserve(t.Context(), w.auth(t, token), saccount.Reserve{Amount: 5 * credit, TTL: time.Hour})
	require.NoError(t, err)
	w.now = w.now.AddDate(0, 3, 0)
	_, err = w.Retain(t.Context(), "acme", quota.DefaultKeep+quota.MaxTTL)
	require.NoError(t, err)
	w.setLimit(t, a.ID, saccount.NewLimit(100*credit, quota.Period{Unit: quota.Year}))
	st := w.left(t, a.ID)
	assert.Equal(t, quota.Credits(0), st.Held, "nothing is open")
	assert.Equal(t, 100*credit, st.Remaining)
}

// A charge whose bucket was folded can be asked for again only by a clock that
// ran back: it is no longer remembered, so that windows and usage agree.
func TestFoldingAndRefunds(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	token, a, _ := w.key(t, "Worker", saccount.Limits{"": saccount.NewLimit(10*credit, monthly)})
	begin := w.now
	_, err := w.Charge(t.Context(), w.auth(t, token), saccount.Charge{ID: "c", Amount: 4 * credit})
	require.NoError(t, err)
	w.now = begin.AddDate(0, 3, 0)
	_, err = w.Retain(t.Context(), "acme", quota.DefaultKeep+quota.MaxTTL)
	require.NoError(t, err)
	w.now = begin
	_, err = w.Refund(t.Context(), "acme", saccount.Refund{Of: "c", Amount: credit})
	require.ErrorIs(t, err, quota.ErrUnknownID)
	st := w.left(t, a.ID)
	tot, err := w.UsageTotals(t.Context(), "acme", []quota.Subject{st.Subject}, st.Start, st.ResetAt)
	require.NoError(t, err)
	assert.Equal(t, st.Used, tot[0].Credits)
}

// What a settlement alerts does not depend on what the store has in memory.
func TestACommitLooksAtItsOwnThresholds(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	l := saccount.NewLimit(100*credit, monthly)
	l.Thresholds = &[]quota.Threshold{quota.Percent(50)}
	token, a, _ := w.key(t, "Worker", saccount.Limits{"": l})
	p := w.auth(t, token)
	r, _, err := w.Reserve(t.Context(), p, saccount.Reserve{Amount: 10 * credit, TTL: time.Hour})
	require.NoError(t, err)
	w.setLimit(t, a.ID, &saccount.LimitSpec{Thresholds: &[]quota.Threshold{quota.Percent(90)}})
	require.True(t, w.spend(t, p, 60))
	require.Empty(t, w.alerts(t))
	_, err = r.Commit(t.Context(), 0)
	require.NoError(t, err)
	assert.Equal(t, []string{"credits 50%"}, w.alerts(t), "it was admitted under 50%")
}
