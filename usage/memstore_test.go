package usage_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/usage"
)

// What charges leave in a real store is what series and totals say, before it
// was folded and after.
func TestUsageOfRealChargesSurvivesRetention(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	now := instant("2026-11-11T09:17:23Z")
	s := memstore.New()
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	want := map[quota.Subject]usage.Counts{}
	for range 4000 {
		at := quota.Micros(now.Add(-time.Duration(rnd.Int64N(int64(90 * days)))))
		chain := []quota.Subject{[]quota.Subject{web, job}[rnd.IntN(2)], org}
		op := &quota.Op{Verb: quota.VerbCharge, Org: "acme", At: at, Amount: quota.Credits(rnd.Int64N(1e6))}
		refused := rnd.IntN(5) == 0
		if refused {
			op.Verb, op.Amount = quota.VerbCount, 0
		}
		for _, subject := range chain {
			c := want[subject]
			if refused {
				op.Counts = append(op.Counts, quota.Count{Subject: subject, Series: quota.ReasonRate.Series(), Bucket: quota.BucketStart(at), Requests: 2})
				c.Refused += 2
				c.Reasons = usage.Refusals{{Reason: quota.ReasonRate, Requests: c.Refused}}
			} else {
				op.Levels = append(op.Levels, &quota.Level{Subject: subject, Bucket: quota.BucketStart(at), From: at, Until: at + 1})
				c.Credits += op.Amount
				c.Requests++
			}
			want[subject] = c
		}
		require.NoError(t, s.Apply(t.Context(), []*quota.Op{op}))
		require.Equal(t, quota.Applied, op.Result.Outcome, "%v", op.Result.Err)
	}

	const zone = "America/Sao_Paulo"
	q := query("2026-08-01T03:00:00Z", "2026-11-12T03:00:00Z", usage.Day, zone, web, job, org)
	q.GroupBySubject = true
	check := func() []usage.Series {
		totals, err := usage.Totals(t.Context(), s, "acme", q.Subjects, time.Time{}, time.Time{})
		require.NoError(t, err)
		out := read(t, s, q)
		for i, subject := range q.Subjects {
			assert.Equal(t, usage.Total{Subject: subject, Counts: want[subject]}, totals[i])
			assert.Equal(t, want[subject], out[i].Total)
		}
		for i := range out[2].Points {
			assert.Equal(t, out[2].Points[i].Credits, out[0].Points[i].Credits+out[1].Points[i].Credits, "an organization is the sum of its keys")
		}
		return out
	}
	before := check()
	folded, err := usage.Retain(t.Context(), s, usage.Retention{Org: "acme", Zone: zone, Keep: 66 * days, Since: q.From}, now)
	require.NoError(t, err)
	assert.Greater(t, folded, 1000)
	assert.Equal(t, before, check())

	q.Step = usage.Hour
	coarse := 0
	for _, p := range read(t, s, q)[2].Points {
		if p.Coarse {
			coarse++
			assert.Zero(t, p.Start.Hour(), "a folded day counts at its start")
		}
	}
	assert.Positive(t, coarse)

	again, err := usage.Retain(t.Context(), s, usage.Retention{Org: "acme", Zone: zone, Keep: 66 * days, Since: q.From}, now)
	require.NoError(t, err)
	assert.Zero(t, again)
}
