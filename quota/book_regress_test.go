package quota_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
)

// slow is a Store that decides on a Book and writes counts of refused requests
// as slowly as a busy disk.
type slow struct{ book *quota.Book }

func (s *slow) Apply(_ context.Context, ops []*quota.Op) error {
	for _, op := range ops {
		if op.Verb == quota.VerbCount {
			<-time.After(time.Minute)
		}
		s.book.Apply(op)
	}
	return nil
}

func (s *slow) Peek(_ context.Context, _ string, levels []*quota.Level, at int64) ([]quota.Figure, error) {
	return s.book.Peek(levels, at)
}

func (s *slow) Stranded(_ context.Context, _ string, at int64) ([]*quota.Receipt, error) {
	return s.book.Stranded(at)
}

func (s *slow) Outbox(context.Context, int64, int) ([]quota.Alert, error) { return nil, nil }

// Whoever flushes the counts of refused requests finds those in the store that
// the timer took and that were still on their way. The simulation found this
// (internal/sim).
func TestFlushWaitsForCountsOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{book: quota.NewBook("acme", nil)}
		l, err := quota.NewLedger(s, quota.LedgerConfig{})
		require.NoError(t, err)
		defer func() { require.NoError(t, l.Close()) }()
		sub := quota.NewSubject(quota.KindMember, "ada")
		p, err := quota.NewPurse(sub, 1, []quota.Limit{{Name: "credits", Number: 1}}, nil)
		require.NoError(t, err)
		now := time.Date(2030, 1, 15, 12, 0, 0, 0, time.UTC)
		d, err := l.Charge(t.Context(), quota.Chain{Org: "acme", Caller: sub, Purses: []*quota.Purse{p}}, quota.Charge{Amount: 1, At: now})
		require.NoError(t, err)
		require.True(t, d.Refused(), "0 is nothing")
		<-time.After(2 * time.Second) // the timer has taken the count
		require.NoError(t, l.Flush(t.Context()))
		n := int64(0)
		at := quota.BucketStart(quota.Micros(now))
		err = s.book.Usage(sub, quota.ReasonLimit.Series(), at, at+1, func(_ int64, c *quota.Counter) { n += c.Requests })
		require.NoError(t, err)
		assert.Equal(t, int64(1), n)
	})
}
